"""The constants of inner packets: first the specifications', then our own choices."""

from __future__ import annotations

from typing import Final

# ------------------------------------------------------------------------------------------ the specifications'
ICMP: Final = 1  # protocol numbers, RFC 790 and RFC 8200 §3
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
MIN_IPV4_HEADER: Final = 20  # octets; RFC 791 §3.1
IPV6_HEADER: Final = 40  # octets; RFC 8200 §3
UDP_HEADER: Final = 8  # octets; RFC 768
ICMP_HEADER: Final = 8  # octets, up to an echo's data or an error's quoted packet; RFC 792, RFC 4443 §2.1
QUOTED: Final = 8  # octets behind the quoted IP header that an ICMP error has at least; RFC 792
MIN_IPV6_MTU: Final = 1280  # octets; RFC 8200 §5
EXTENSION_HEADERS: Final = frozenset({0, 43, 44, 50, 51, 60, 135, 139, 140})  # IANA, RFC 8200 §4
IPV6_FRAGMENT: Final = 44  # RFC 8200 §4.5
PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006)  # RFC 1191 §7.1, for reports that name no MTU

# ------------------------------------------------------------------------------------------------ our own choices
HOPS: Final = 64  # time to live and hop limit of what we send, as most systems do
MIN_IPV4_MTU: Final = 576  # octets: no report makes a flow's packets smaller (RFC 791 wants hosts to take as many)
MAX_MTU: Final = 65_535  # octets: an IPv4 packet cannot be larger
IPV4_ERROR_SIZE: Final = 576  # octets of an ICMPv4 error with what it quotes; RFC 1812 §4.3.2.3
EPHEMERAL_PORTS: Final = range(49_152, 65_536)  # RFC 6335 §6
FLOWS_OF_A_PEER: Final = 1024  # which it opened to our listeners
ERRORS_PER_SECOND: Final = 100.0  # port unreachables to one peer; RFC 4443 §2.4 (f) wants a token bucket
ERRORS_AT_ONCE: Final = 16
ECHOES_PER_SECOND: Final = 1000.0  # echo replies to one peer
ECHOES_AT_ONCE: Final = 64
