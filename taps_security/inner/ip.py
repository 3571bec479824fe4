"""IPv4 (RFC 791) and IPv6 (RFC 8200) packets: their headers to and from octets.

What parses here is sound in itself: lengths, header checksum, options. Whether it is for us is another question.
Packets that we make have no options, are never fragmented on the way (DF, and so an identification of 0: RFC 6864
§4.1), and carry no DSCP and no ECN.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from ..stack.errors import PeerMisbehaved, Reason
from ..stack.events import Buffer
from .checksum import internet_checksum, word_sum
from .limits import HOPS, IPV6_FRAGMENT, IPV6_HEADER, MIN_IPV4_HEADER

_V4: Final = struct.Struct("!BBHHHBB2s4s4s")
_V6: Final = struct.Struct("!IHBB16s16s")
_DO_NOT_FRAGMENT: Final = 0x4000
_FRAGMENT: Final = 0x3FFF  # "more fragments" and the offset
_SOURCE_ROUTES: Final = (131, 137)  # RFC 791 §3.1: they would send our answers wherever a peer likes
_MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 §2.5.5.2: never on the wire


class PacketRefused(PeerMisbehaved):
    """An inner packet is dropped. `why`: in a few fixed words, to be counted."""

    default_reason = Reason.MALFORMED

    def __init__(self, why: str, *, section: str = "") -> None:
        super().__init__(why, section=section)
        self.why = why


class Packet(NamedTuple):
    """One packet. `octets` are all of it, without what a tunnel padded behind it."""

    version: int
    protocol: int  # IPv6: the next header behind the fixed one
    source: bytes  # 4 or 16 octets, as is `destination`
    destination: bytes
    hops: int  # left to go: time to live, or hop limit
    header: int  # octets of the IP header with its options
    fragment: bool  # only a piece of a packet
    octets: memoryview

    @property
    def payload(self) -> memoryview:
        """What stands behind the IP header."""
        return self.octets[self.header :]


def parse_packet_untrusted(octets: bytes | memoryview) -> Packet:
    """One IP packet, zero padded or not. Raises PacketRefused."""
    view = memoryview(octets)
    version = view[0] >> 4 if view else 0
    if version == 4:
        return _parse_v4(view)
    if version == 6:
        return _parse_v6(view)
    raise PacketRefused("no IP version" if view else "empty packet")


def _parse_v4(view: memoryview) -> Packet:
    if len(view) < MIN_IPV4_HEADER:
        raise PacketRefused("short packet", section="RFC 791 §3.1")
    first, _, total, _, flags, hops, protocol, _, source, destination = _V4.unpack_from(view)
    header = (first & 0x0F) * 4
    if not MIN_IPV4_HEADER <= header <= total <= len(view):
        raise PacketRefused("packet length", section="RFC 791 §3.1")
    if word_sum(view[:header]):
        raise PacketRefused("header checksum", section="RFC 1122 §3.2.1.2")
    if header > MIN_IPV4_HEADER:
        _check_options(view[MIN_IPV4_HEADER:header])
    return Packet(4, protocol, source, destination, hops, header, bool(flags & _FRAGMENT), view[:total])


def _check_options(options: memoryview) -> None:
    """Walk over them: at most 40 octets. None means anything to us, and source routes are refused (RFC 7126 §4.3)."""
    at, end = 0, len(options)
    while at < end:
        kind = options[at]
        if kind == 0:  # the end of the list
            return
        if kind == 1:  # no operation
            at += 1
            continue
        length = options[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end or kind in _SOURCE_ROUTES:
            raise PacketRefused("packet options", section="RFC 791 §3.1")
        at += length


def _parse_v6(view: memoryview) -> Packet:
    if len(view) < IPV6_HEADER:
        raise PacketRefused("short packet", section="RFC 8200 §3")
    _, length, protocol, hops, source, destination = _V6.unpack_from(view)
    total = IPV6_HEADER + length
    if total > len(view):
        raise PacketRefused("packet length", section="RFC 8200 §3")
    return Packet(6, protocol, source, destination, hops, IPV6_HEADER, protocol == IPV6_FRAGMENT, view[:total])


def ip_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """The header of a packet with `length` octets behind it: IPv4 or IPv6, as the addresses are. Raises struct.error
    for a length that does not fit."""
    if len(source) == 16:
        return _V6.pack(6 << 28, length, protocol, HOPS, source, destination)
    total = MIN_IPV4_HEADER + length
    head = _V4.pack(0x45, 0, total, 0, _DO_NOT_FRAGMENT, HOPS, protocol, bytes(2), source, destination)
    return head[:10] + internet_checksum(head) + head[12:]


# -- addresses, packed -------------------------------------------------------------------------------------------------
def is_multicast(address: bytes) -> bool:
    """Whether it names many hosts (RFC 1112, RFC 919, RFC 4291 §2.7). A subnet's broadcast address looks like any."""
    if len(address) == 4:
        return 224 <= address[0] < 240 or address == b"\xff\xff\xff\xff"
    return address[0] == 0xFF


def is_unicast(address: bytes) -> bool:
    """Whether a packet on a network may come from it: not loopback, unspecified, mapped, multicast or reserved."""
    if len(address) == 4:
        return address[0] not in {0, 127} and address[0] < 224  # RFC 1122 §3.2.1.3
    return address[0] != 0xFF and address[:15] != bytes(15) and address[:12] != _MAPPED  # RFC 4291 §2.5


# -- whole packets -----------------------------------------------------------------------------------------------------
class WholeWriter:
    """Writes what is an IP packet already, by the verbs of a flow's Writer."""

    __slots__ = ()

    overhead = 0

    def write_all(self, packets: Sequence[Buffer], into: memoryview, at: int, stride: int, size: int) -> None:
        """Packets of one length, at least one, into `into`: `stride` octets from each to the next, zeros behind each up
        to `size` octets. Raises struct.error if they do not fit."""
        pack, place = _filled(size), at
        try:
            for packet in packets:
                pack(into, place, packet)
                place += stride
        except struct.error:
            if packable(packets):
                raise
            self.write_all(list(map(bytes, packets)), into, at, stride, size)


WHOLE: Final = WholeWriter()


@lru_cache(maxsize=16)
def _filled(size: int) -> Callable[..., None]:
    return struct.Struct(f"{size}s").pack_into


def packable(octets: Sequence[Buffer]) -> bool:
    """Whether `struct` takes them as they are: it packs no views."""
    return all(isinstance(each, bytes | bytearray) for each in octets)
