"""Linux socket numbers that Python 3.11's `socket` does not name. Each with the kernel header that defines it.

They mean something on Linux only; `udp` looks at them nowhere else.
"""

from __future__ import annotations

# <linux/in.h>: options and control messages at level IPPROTO_IP
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IP_RECVTOS = 13
IP_PMTUDISC_PROBE = 3  # always set DF, never look at the cached path MTU

# <linux/in6.h>: the same at level IPPROTO_IPV6
IPV6_MTU_DISCOVER = 23
IPV6_RECVERR = 25
IPV6_PMTUDISC_PROBE = 3

# <linux/udp.h>: at level IPPROTO_UDP
UDP_SEGMENT = 103
UDP_GRO = 104

# <linux/errqueue.h>: where an extended error came from
SO_EE_ORIGIN_LOCAL = 1
SO_EE_ORIGIN_ICMP = 2
SO_EE_ORIGIN_ICMP6 = 3

# <linux/netlink.h> and <linux/rtnetlink.h>: questions to the routing table
NETLINK_ROUTE = 0
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
RTM_GETLINK = 18
RTM_GETROUTE = 26
RTM_F_LOOKUP_TABLE = 0x1000
RTM_F_FIB_MATCH = 0x2000  # since Linux 4.13: the route as it is configured
RTN_LOCAL = 2  # an address of this host
RTA_DST = 1
RTA_OIF = 4
RTA_METRICS = 8
RTA_MULTIPATH = 9
RTAX_MTU = 2

# <linux/if_link.h>
IFLA_MTU = 4
