"""UDP (RFC 768; over IPv6: RFC 8200 §8.1) to and from octets.

What comes is checked unless the tunnel has authenticated it, as a kernel trusts a network card that has looked already.
Over IPv4 either end may leave the checksum out, over IPv6 neither may.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from ..stack.events import Buffer
from .checksum import pseudo_sum, word_sum, word_sums
from .ip import Packet, PacketRefused, ip_header, packable
from .limits import IPV6_HEADER, MIN_IPV4_HEADER, UDP, UDP_HEADER

_HEADER: Final = struct.Struct("!HHHH")


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
    """Writes the messages of one flow as packets: headers are made once for each length.

    `overhead`: octets in front of each payload. `checksums`: compute UDP's for each message; without it the field is
    zero over IPv4, which says that there is none (RFC 768). Over IPv6 they are computed anyway (RFC 8200 §8.1).
    """

    __slots__ = (
        "_addresses",
        "_checksums",
        "_destination",
        "_fixed",
        "_head",
        "_length",
        "_pack",
        "_ports",
        "_size",
        "_source",
        "overhead",
    )

    def __init__(self, source: tuple[bytes, int], destination: tuple[bytes, int], *, checksums: bool = True) -> None:
        self._source, self._destination = source[0], destination[0]
        self._ports = source[1], destination[1]
        self._addresses = word_sum(self._source + self._destination)
        self._checksums = checksums or len(self._source) == 16
        self.overhead = UDP_HEADER + (IPV6_HEADER if len(self._source) == 16 else MIN_IPV4_HEADER)
        self._fit(0, self.overhead)

    def _fit(self, length: int, size: int) -> None:
        """Make the headers for messages of `length` octets, in packets that zeros fill up to `size`."""
        total = UDP_HEADER + length
        ports = _HEADER.pack(*self._ports, total, 0)
        head = ip_header(self._source, self._destination, UDP, total) + ports
        room = size - self.overhead  # what stands there is cut or filled up with zeros
        if self._checksums:
            self._head = head[:-2]
            self._pack = struct.Struct(f"<{len(head) - 2}sH{room}s").pack_into
        else:
            self._head = head
            self._pack = struct.Struct(f"{len(head)}s{room}s").pack_into
        self._fixed = self._addresses + word_sum(ports) + pseudo_sum(UDP, total)
        self._length, self._size = length, size

    def write(self, payload: Buffer, into: memoryview, at: int = 0) -> int:
        """One message as an IP packet into `into[at:]`; its octets. Raises struct.error as write_all()."""
        size = self.overhead + len(payload)
        self.write_all((payload,), into, at, size, size)
        return size

    def write_all(self, payloads: Sequence[Buffer], into: memoryview, at: int, stride: int, size: int) -> None:
        """Messages of one length, at least one, as IP packets into `into`: `stride` octets from each to the next, the
        first at `at`, zeros behind each up to `size` octets. Raises struct.error if it does not fit."""
        length = len(payloads[0])
        if length != self._length or size != self._size:
            self._fit(length, size)
        pack, head, place = self._pack, self._head, at
        try:
            if self._checksums:
                fixed = self._fixed
                for payload, summed in zip(payloads, word_sums(payloads), strict=True):
                    # 0 would say "no checksum": a sum of 0 is sent as all ones (RFC 768), which this gives by itself
                    pack(into, place, head, 0xFFFF - (fixed + summed) % 0xFFFF, payload)
                    place += stride
            else:
                for payload in payloads:
                    pack(into, place, head, payload)
                    place += stride
        except struct.error:
            if packable(payloads):
                raise
            self.write_all(list(map(bytes, payloads)), into, at, stride, size)
