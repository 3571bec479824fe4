"""Inner packets made by hand, with a checksum as RFC 1071 §4.1 writes it, which shares no code with ours."""

from __future__ import annotations

import ipaddress
import struct

from taps_security.inner.network import InnerFlows, InnerHost
from taps_security.stack.events import FlowId, FlowKind
from taps_security.stack.tunnel import FlowAddress

OURS, THEIRS = "10.0.0.1", "10.0.0.2"
OURS6, THEIRS6 = "fd00::1", "fd00::2"
ALL_HOSTS = "224.0.0.1"


def pack(host: str) -> bytes:
    return ipaddress.ip_address(host).packed


def slow_checksum(octets: bytes) -> int:
    """One word at a time, the carry brought round, then inverted."""
    if len(octets) % 2:
        octets += b"\0"
    total = 0
    for high, low in zip(octets[::2], octets[1::2], strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    payload: bytes,
    source: str = THEIRS,
    to: str = OURS,
    protocol: int = 17,
    *,
    options: bytes = b"",
    flags: int = 0,
    total: int | None = None,
    checksum: int | None = None,
) -> bytes:
    header = 20 + len(options)
    if total is None:
        total = header + len(payload)
    fixed = (0x40 | header // 4, 0, total, 7, flags, 64, protocol)
    head = struct.pack("!BBHHHBBH", *fixed, 0) + pack(source) + pack(to) + options
    value = slow_checksum(head) if checksum is None else checksum
    return head[:10] + value.to_bytes(2, "big") + head[12:] + payload


def ipv6(
    payload: bytes, source: str = THEIRS6, to: str = OURS6, protocol: int = 17, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack("!IHBB", 6 << 28, size, protocol, 64) + pack(source) + pack(to) + payload


def pseudo(source: str, to: str, protocol: int, length: int) -> bytes:
    """RFC 768 and RFC 8200 §8.1."""
    tail = struct.pack("!BBH", 0, protocol, length) if ":" not in source else struct.pack("!II", length, protocol)
    return pack(source) + pack(to) + tail


def datagram(
    payload: bytes,
    source: str,
    to: str,
    ports: tuple[int, int],
    *,
    checksum: int | None = None,
    length: int | None = None,
) -> bytes:
    """A UDP header with its payload."""
    size = 8 + len(payload) if length is None else length
    head = struct.pack("!HHH", *ports, size)
    value = slow_checksum(pseudo(source, to, 17, size) + head + b"\0\0" + payload) or 0xFFFF
    return head + (value if checksum is None else checksum).to_bytes(2, "big") + payload


def udp(
    payload: bytes,
    ports: tuple[int, int] = (7000, 53),
    *,
    family: int = 4,
    checksum: int | None = None,
    length: int | None = None,
    source: str = "",
    to: str = "",
) -> bytes:
    """A whole inner packet from the peer."""
    if family == 4:
        source, to = source or THEIRS, to or OURS
        return ipv4(datagram(payload, source, to, ports, checksum=checksum, length=length), source, to)
    source, to = source or THEIRS6, to or OURS6
    return ipv6(datagram(payload, source, to, ports, checksum=checksum, length=length), source, to)


def icmp(
    kind: int, code: int, rest: bytes, *, family: int = 4, source: str = "", to: str = "", wrong: int = 0
) -> bytes:
    """An ICMP or ICMPv6 message as a whole inner packet. `wrong`: what its checksum is off by."""
    head = bytes((kind, code))
    if family == 4:
        value = slow_checksum(head + b"\0\0" + rest) ^ wrong
        return ipv4(head + value.to_bytes(2, "big") + rest, source or THEIRS, to or OURS, 1)
    source, to = source or THEIRS6, to or OURS6
    value = slow_checksum(pseudo(source, to, 58, 4 + len(rest)) + head + b"\0\0" + rest) ^ wrong
    return ipv6(head + value.to_bytes(2, "big") + rest, source, to, 58)


class Fixed:
    """Octets that look random, and are the same each time."""

    def __init__(self) -> None:
        self.state = 1

    def __call__(self, count: int) -> bytes:
        self.state = self.state * 1103515245 + 12345 & 0xFFFFFFFF
        return (self.state >> 8).to_bytes(3, "big")[:count].rjust(count, b"\0")


def host(mtu: int = 1420, *addresses: str) -> InnerHost:
    return InnerHost(addresses or ("10.0.0.1/24", "fd00::1/64"), mtu, Fixed())


class Peer:
    """Our flows of one peer, which may have `allowed`, and what they said since the last look."""

    def __init__(self, ours: InnerHost | None = None, *, verify: bool = True) -> None:
        self.host = ours or host()
        self.allowed = [ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/64")]
        self.flows = InnerFlows(self.host, self.allows, verify=verify)

    def allows(self, source: bytes) -> bool:
        address = ipaddress.ip_address(source)
        return any(address in network for network in self.allowed)

    def open(self, remote: tuple[str, int] = (THEIRS, 53), local: tuple[str, int] = ("", 0)) -> FlowId:
        return self.flows.open(FlowKind.DATAGRAM, FlowAddress(remote, local))

    def hear(self, *packets: bytes, now: float = 0.0) -> dict[FlowId, list[bytes]]:
        """Padded as a tunnel pads, in memory that is written to again as a driver's buffer is."""
        self.flows.receive([memoryview(bytearray(each + bytes(-len(each) % 16))) for each in packets], now)
        found = {flow: [bytes(each) for each in chunks] for flow, chunks in self.flows.received.items()}
        self.flows.received.clear()
        return found

    def why(self, packet: bytes, now: float = 0.0) -> str:
        """The one reason for which that packet is dropped."""
        before = self.flows.dropped.copy()
        assert not self.hear(packet, now=now)
        new = self.flows.dropped - before
        assert new.total() == 1, new
        return next(iter(new))

    def say(self, flow: FlowId, payload: bytes) -> bytes:
        """The inner packet that carries a message of ours."""
        writer = self.flows.writer(flow)
        size = writer.overhead + len(payload)
        slab = memoryview(bytearray(size))
        writer.write_all((payload,), slab, 0, size, size)
        return bytes(slab)
