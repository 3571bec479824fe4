"""Linux socket numbers that Python 3.11's `socket` does not name. Each with the kernel header that defines it.

They mean something on Linux only; `udp` looks at them nowhere else.
"""

from __future__ import annotations

# <linux/in.h>: options and control messages at level IPPROTO_IP
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IP_RECVTOS = 13
IP_MTU = 14
IP_PMTUDISC_PROBE = 3  # always set DF, never look at the cached path MTU

# <linux/in6.h>: the same at level IPPROTO_IPV6
IPV6_MTU_DISCOVER = 23
IPV6_MTU = 24
IPV6_RECVERR = 25
IPV6_PMTUDISC_PROBE = 3

# <linux/udp.h>: at level IPPROTO_UDP
UDP_SEGMENT = 103
UDP_GRO = 104

# <linux/errqueue.h>: where an extended error came from
SO_EE_ORIGIN_LOCAL = 1
SO_EE_ORIGIN_ICMP = 2
SO_EE_ORIGIN_ICMP6 = 3
