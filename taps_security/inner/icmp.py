"""ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443): the few messages that a host needs, to and from octets.

Both families become the same two types: `Echo`, and `Problem` with the beginning of the packet that it is about.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, NamedTuple

from .checksum import internet_checksum, pseudo_sum, word_sum
from .ip import Packet, PacketRefused, ip_header, is_multicast, is_unicast
from .limits import (
    ICMP,
    ICMP_HEADER,
    ICMPV6,
    IPV4_ERROR_SIZE,
    IPV6_HEADER,
    MAX_MTU,
    MIN_IPV4_HEADER,
    MIN_IPV6_MTU,
    PLATEAUS,
    QUOTED,
    UDP,
)

_HEADER: Final = struct.Struct("!BB2sI")  # type, code, checksum, what the type makes of it
_ECHO: Final = {4: (8, 0), 6: (128, 129)}  # request and reply, by IP version
_INFORMATIONAL_V6: Final = 128  # types from here on are no errors; RFC 4443 §2.1
_ERRORS_V4: Final = frozenset({3, 4, 5, 11, 12})  # RFC 1122 §3.2.2


class Kind(Enum):
    """What is wrong with a packet."""

    PORT = "port unreachable"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"
    TOO_BIG = "too big"
    OTHER = "other"  # time exceeded, parameter problem, redirect: of no use to a flow


_PROBLEMS: Final = {  # (version, type, code); RFC 792, RFC 1122 §3.2.2.1, RFC 4443 §3
    (4, 3, 0): Kind.UNREACHABLE,
    (4, 3, 1): Kind.UNREACHABLE,
    (4, 3, 2): Kind.PORT,
    (4, 3, 3): Kind.PORT,
    (4, 3, 4): Kind.TOO_BIG,
    (4, 3, 6): Kind.UNREACHABLE,
    (4, 3, 7): Kind.UNREACHABLE,
    (4, 3, 9): Kind.PROHIBITED,
    (4, 3, 10): Kind.PROHIBITED,
    (4, 3, 13): Kind.PROHIBITED,
    (6, 1, 0): Kind.UNREACHABLE,
    (6, 1, 1): Kind.PROHIBITED,
    (6, 1, 3): Kind.UNREACHABLE,
    (6, 1, 4): Kind.PORT,
    (6, 1, 5): Kind.PROHIBITED,
    (6, 1, 6): Kind.PROHIBITED,
    (6, 2, 0): Kind.TOO_BIG,
}
_CODES: Final = {
    (4, Kind.UNREACHABLE): (3, 1),
    (4, Kind.PORT): (3, 3),
    (4, Kind.TOO_BIG): (3, 4),
    (4, Kind.PROHIBITED): (3, 13),
    (6, Kind.UNREACHABLE): (1, 3),
    (6, Kind.PORT): (1, 4),
    (6, Kind.TOO_BIG): (2, 0),
    (6, Kind.PROHIBITED): (1, 1),
}


class Echo(NamedTuple):
    """An echo request, or its reply. `rest`: identifier, sequence number and data, which a reply repeats."""

    request: bool
    rest: memoryview


class Problem(NamedTuple):
    """An error about a packet of ours. Ports are those of a quoted UDP datagram, else 0."""

    kind: Kind
    mtu: int  # too big: the largest packet that would fit; else 0
    protocol: int
    source: bytes  # the quoted packet's, as are the others
    destination: bytes
    source_port: int
    destination_port: int
    length: int  # of the whole packet that is quoted


def parse_icmp_untrusted(packet: Packet) -> Echo | Problem:
    """What a packet of protocol ICMP or ICMPv6 says. Raises PacketRefused."""
    octets = packet.payload
    if len(octets) < ICMP_HEADER:
        raise PacketRefused("short icmp", section="RFC 792")
    if (word_sum(octets) + _pseudo(packet.source, packet.destination, len(octets))) % 0xFFFF:
        raise PacketRefused("icmp checksum", section="RFC 1122 §3.2.2")
    kind, code, _, value = _HEADER.unpack_from(octets)
    if kind in _ECHO[packet.version] and not code:
        return Echo(kind == _ECHO[packet.version][0], octets[4:])
    if not _is_error(packet.version, kind):
        raise PacketRefused("icmp type")
    problem = _PROBLEMS.get((packet.version, kind, code), Kind.OTHER)
    return _parse_quoted(packet.version, octets[ICMP_HEADER:], problem, value)


def _is_error(version: int, kind: int) -> bool:
    return kind in _ERRORS_V4 if version == 4 else kind < _INFORMATIONAL_V6


def _pseudo(source: bytes, destination: bytes, length: int) -> int:
    """ICMPv6 covers a pseudo-header, ICMP does not (RFC 4443 §2.3)."""
    return word_sum(source + destination) + pseudo_sum(ICMPV6, length) if len(source) == 16 else 0


def _parse_quoted(version: int, octets: memoryview, kind: Kind, value: int) -> Problem:
    """The beginning of a packet: more than the IP header and eight octets need not be there."""
    if not len(octets) or octets[0] >> 4 != version:
        raise PacketRefused("icmp quote")
    if version == 4:
        header = (octets[0] & 0x0F) * 4
        enough = len(octets) >= header + QUOTED and header >= MIN_IPV4_HEADER
        offset = 12
    else:
        header, offset = IPV6_HEADER, 8
        enough = len(octets) >= header + QUOTED
    if not enough:
        raise PacketRefused("icmp quote")
    size = 4 if version == 4 else 16
    length = int.from_bytes(octets[2:4], "big") if version == 4 else header + int.from_bytes(octets[4:6], "big")
    protocol = octets[9] if version == 4 else octets[6]
    ports = octets[header : header + 4]
    mtu = 0
    if kind is Kind.TOO_BIG:
        mtu = _next_mtu(value & 0xFFFF, length) if version == 4 else value
    return Problem(
        kind,
        mtu,
        protocol,
        bytes(octets[offset : offset + size]),
        bytes(octets[offset + size : offset + 2 * size]),
        int.from_bytes(ports[:2], "big") if protocol == UDP else 0,
        int.from_bytes(ports[2:], "big") if protocol == UDP else 0,
        length,
    )


def _next_mtu(reported: int, length: int) -> int:
    """Old routers report 0: then the next common size below that of the packet (RFC 1191 §5)."""
    return reported or next((size for size in PLATEAUS if size < length), PLATEAUS[-1])


# -- what we send ------------------------------------------------------------------------------------------------------
def build_icmp(source: bytes, destination: bytes, kind: int, code: int, rest: bytes | memoryview) -> bytes:
    """A whole inner packet. `rest`: what stands behind type, code and checksum, at least four octets."""
    head = bytes((kind, code))
    length = 4 + len(rest)
    checksum = internet_checksum(rest, word_sum(head) + _pseudo(source, destination, length))
    protocol = ICMPV6 if len(source) == 16 else ICMP
    return b"".join((ip_header(source, destination, protocol, length), head, checksum, rest))


def build_echo(source: bytes, destination: bytes, identifier: int, sequence: int, data: bytes) -> bytes:
    """An echo request: a whole inner packet."""
    rest = struct.pack("!HH", identifier, sequence) + data
    return build_icmp(source, destination, _ECHO[6 if len(source) == 16 else 4][0], 0, rest)


def build_echo_reply(packet: Packet, echo: Echo) -> bytes:
    """The reply to the request that `packet` was: a whole inner packet (RFC 1122 §3.2.2.6, RFC 4443 §4.2)."""
    return build_icmp(packet.destination, packet.source, _ECHO[packet.version][1], 0, echo.rest)


def may_report(packet: Packet) -> bool:
    """Whether an ICMP error about that packet is allowed: not about errors, about later fragments, about what went to
    many or came from nobody (RFC 1122 §3.2.2, RFC 4443 §2.4 (e))."""
    if is_multicast(packet.destination) or not is_unicast(packet.source) or packet.fragment:
        return False
    if packet.protocol != (ICMP if packet.version == 4 else ICMPV6):
        return True
    octets = packet.payload
    return bool(len(octets)) and not _is_error(packet.version, octets[0])


def build_problem(packet: Packet, kind: Kind, *, mtu: int = 0, source: bytes = b"") -> bytes:
    """An error about `packet`, which quotes it: a whole inner packet. `source`: whom it comes from, if not from the
    packet's destination. `mtu`: of "too big". Raises ValueError where may_report() is false, or for Kind.OTHER."""
    if not may_report(packet) or kind is Kind.OTHER:
        raise ValueError(f"no ICMP error ({kind.value}) may be sent about this packet")
    number, code = _CODES[packet.version, kind]
    if packet.version == 4:
        room, value = IPV4_ERROR_SIZE - MIN_IPV4_HEADER - ICMP_HEADER, min(mtu, MAX_MTU)
    else:
        room, value = MIN_IPV6_MTU - IPV6_HEADER - ICMP_HEADER, mtu
    rest = b"".join((value.to_bytes(4, "big"), packet.octets[:room]))
    return build_icmp(source or packet.destination, packet.source, number, code, rest)
