"""UDP (RFC 768; over IPv6: RFC 8200 §8.1) to and from octets.

We always send a checksum. What comes is checked unless the tunnel has authenticated it, as a kernel trusts a network
card that has looked already. Over IPv4 a peer may leave the checksum out, over IPv6 it may not.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..stack.events import Buffer
from .checksum import pseudo_sum, word_sum
from .ip import Packet, PacketRefused, ip_header
from .limits import IPV6_HEADER, MIN_IPV4_HEADER, UDP, UDP_HEADER

_HEADER: Final = struct.Struct("!HHHH")
_HEADS: Final = {4: struct.Struct("<26sH"), 16: struct.Struct("<46sH")}  # all but the checksum, and the checksum


class Datagram(NamedTuple):
    """One UDP datagram."""

    source: int  # ports
    destination: int
    payload: memoryview


def parse_datagram_untrusted(packet: Packet, *, verify: bool = True) -> Datagram:
    """What a packet of protocol UDP carries. `verify`: compute the checksum. Raises PacketRefused."""
    octets = packet.payload
    if len(octets) < UDP_HEADER:
        raise PacketRefused("short datagram", section="RFC 768")
    source, destination, length, checksum = _HEADER.unpack_from(octets)
    if not UDP_HEADER <= length <= len(octets):
        raise PacketRefused("datagram length", section="RFC 768")
    octets = octets[:length]
    if not checksum and packet.version == 6:
        raise PacketRefused("no checksum", section="RFC 8200 §8.1")
    if verify and checksum:
        addresses = word_sum(packet.source + packet.destination)
        if (word_sum(octets) + addresses + pseudo_sum(UDP, length)) % 0xFFFF:
            raise PacketRefused("checksum", section="RFC 1122 §4.1.3.4")
    return Datagram(source, destination, octets[UDP_HEADER:])


class Writer:
    """Writes the messages of one flow: headers are made once for each length, the checksum for each message.

    `overhead`: octets in front of each payload.
    """

    __slots__ = ("_addresses", "_destination", "_fixed", "_head", "_length", "_pack", "_ports", "_source", "overhead")

    def __init__(self, source: tuple[bytes, int], destination: tuple[bytes, int]) -> None:
        self._source, self._destination = source[0], destination[0]
        self._ports = source[1], destination[1]
        self._addresses = word_sum(self._source + self._destination)
        self._pack = _HEADS[len(self._source)].pack_into
        self.overhead = UDP_HEADER + (IPV6_HEADER if len(self._source) == 16 else MIN_IPV4_HEADER)
        self._fit(0)

    def _fit(self, length: int) -> None:
        """Make the headers for messages of `length` octets."""
        total = UDP_HEADER + length
        ports = _HEADER.pack(*self._ports, total, 0)
        self._head = ip_header(self._source, self._destination, UDP, total) + ports[:6]
        self._fixed = self._addresses + word_sum(ports) + pseudo_sum(UDP, total)
        self._length = length

    def write(self, payload: Buffer, into: memoryview, at: int = 0) -> int:
        """One message as an IP packet into `into[at:]`; its octets. Raises struct.error or ValueError if it is too
        long for an IP packet or for `into`."""
        length = len(payload)
        if length != self._length:
            self._fit(length)
        # 0 would say "no checksum": a sum of 0 is sent as all ones (RFC 768), which the subtraction gives by itself
        self._pack(into, at, self._head, 0xFFFF - (self._fixed + word_sum(payload)) % 0xFFFF)
        start = at + self.overhead
        end = start + length
        into[start:end] = payload
        return end - at
