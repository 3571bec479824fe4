"""A TUN device of Linux, for examples/wireguard_tun.py: packets of one network interface, in batches both ways.

What is read are packets that the kernel has segmented already, one read() each. What is written would cost the kernel
a trip through its whole IP stack for each packet; so TCP segments that follow each other go in one writev(), under a
header that says how large they were (struct virtio_net_hdr of the virtio specification, §5.1.6; tuntap.rst of the
kernel's documentation). That is what makes it twice as fast.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence

from taps_security.inner.checksum import internet_checksum, pseudo_sum, word_sum

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0  # linux/if_tun.h
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
BATCH = 128  # packets of one read(): others have their turn then
QUEUE = 1000  # packets that the kernel keeps for us
LARGEST = 65_000  # octets of TCP in one write; an IP packet has at most 65,535
MOST = 1_000  # pieces of one write; the kernel takes 1,024

Packet = bytes | bytearray | memoryview


class Tun:
    """A network interface that exists as long as this object is open. Needs root, or CAP_NET_ADMIN."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.size = 65_536 + len(PLAIN)  # of one read()
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, 0)  # we want whole packets with their checksums

    def close(self) -> None:
        """The interface disappears, and its addresses and routes with it."""
        os.close(self.fd)

    def configure(self, addresses: Sequence[str], mtu: int, routes: Sequence[str]) -> None:
        """Addresses with prefix lengths, MTU, and the networks that lie behind it."""
        self.size = mtu + len(PLAIN)
        for address in addresses:
            run("address", "add", address, "dev", self.name, *(["nodad"] if ":" in address else []))
        run("link", "set", self.name, "mtu", str(mtu), "txqueuelen", str(QUEUE), "up")
        for network in routes:
            run("route", "replace", network, "dev", self.name)

    # -- packets --------------------------------------------------------------------------------------------------
    async def readable(self) -> None:
        """Wait until there is a packet."""
        loop = asyncio.get_running_loop()
        there = asyncio.Event()
        loop.add_reader(self.fd, there.set)
        try:
            await there.wait()
        finally:
            loop.remove_reader(self.fd)

    def read(self) -> list[bytes]:
        """The packets that are there, up to BATCH of them; an empty list if there is none."""
        packets: list[bytes] = []
        fd, size, head = self.fd, self.size, len(PLAIN)
        try:
            while len(packets) < BATCH:
                packets.append(os.read(fd, size)[head:])
        except BlockingIOError:
            pass
        return packets

    def write(self, packets: Sequence[Packet]) -> int:
        """Hand packets to the kernel. What its queue has no room for is lost; the number of such writes."""
        lost = 0
        for pieces in coalesced(packets):
            try:
                os.writev(self.fd, pieces)
            except OSError:  # also what the kernel thinks is no IP packet
                lost += 1
        return lost


def run(*words: str) -> None:
    """`ip` with these words."""
    subprocess.run(["ip", *words], check=True)


# ---------------------------------------------------------------------------------------- segments that follow others
PLAIN = bytes(10)  # the header in front of a packet of its own
_HEADER = struct.Struct("=BBHHHH").pack  # flags, kind, length of headers, size of segments, checksum: start and offset
NEEDS_CHECKSUM, TCPV4, TCPV6 = 1, 1, 4
TCP, ACK, PSH = 6, 0x10, 0x08
# All of the IPv4 or IPv6 header but lengths, identification and checksum; ports; sequence number; acknowledgment,
# offset; flags; window.
_V4 = struct.Struct("!2sH2xH2s2x12sI5sB2s").unpack_from
_V6 = struct.Struct("!4sH38sI5sB2s").unpack_from


class Run:
    """TCP segments of one connection, each of which continues the one before; all but the last are of one size."""

    def __init__(self, packet: Packet, same: tuple[bytes, ...], ip: int, headers: int, total: int, number: int) -> None:
        self.same = same  # what all their headers have in common
        self.ip, self.headers = ip, headers
        self.size = self.octets = total - headers
        self.next = number + self.size
        self.open = True  # a further one may follow
        self.pieces: list[Packet] = [PLAIN, packet[:headers], packet[headers:total]]

    def takes(self, number: int, octets: int, same: tuple[bytes, ...]) -> bool:
        """Whether so many octets, under a header like that, are the next."""
        return self.open and number == self.next & 0xFFFFFFFF and octets <= self.size and same == self.same

    def add(self, segment: Packet) -> None:
        """The next one."""
        self.pieces.append(segment)
        self.octets += len(segment)
        self.next += len(segment)
        self.open = len(segment) == self.size and self.octets + self.size <= LARGEST and len(self.pieces) < MOST

    def finished(self, flags: int) -> list[Packet]:
        """Header and packet, as one writev() takes them. `flags`: of the last."""
        if len(self.pieces) == 3:
            return self.pieces
        ip, head, length = self.ip, bytearray(self.pieces[1]), self.headers - self.ip + self.octets
        head[ip + 13] = flags
        if ip == 20:
            head[2:4], head[10:12] = (ip + length).to_bytes(2, "big"), bytes(2)
            head[10:12] = internet_checksum(head[:20])
        else:
            head[4:6] = length.to_bytes(2, "big")
        # The kernel adds the rest if the packet leaves the host. Here it asks no more: the tunnel has authenticated it.
        pseudo = (word_sum(head[12 if ip == 20 else 8 : ip]) + pseudo_sum(TCP, length)) % 0xFFFF
        head[ip + 16 : ip + 18] = pseudo.to_bytes(2, "little")
        kind = TCPV4 if ip == 20 else TCPV6
        self.pieces[:2] = _HEADER(NEEDS_CHECKSUM, kind, self.headers, self.size, ip, 16), head
        return self.pieces


def coalesced(packets: Sequence[Packet]) -> Iterator[list[Packet]]:
    """Packets as writev() takes them, in their order."""
    run: Run | None = None
    flags = 0
    same: tuple[bytes, ...]
    for packet in packets:
        ip = 0 if len(packet) < 40 else 20 if packet[0] == 0x45 else 40
        if ip and packet[9 if ip == 20 else 6] == TCP and (ip == 20 or (packet[0] >> 4 == 6 and len(packet) >= 60)):
            if ip == 20:
                first, total, fragment, hops, ports, number, rest, now, window = _V4(packet)
                same = first, hops, ports, rest, window
            else:
                first, total, ports, number, rest, now, window = _V6(packet)
                total, fragment, same = total + 40, 0, (first, ports, rest, window)
            headers = ip + (rest[4] >> 4) * 4
            if now & ~PSH == ACK and not fragment & 0x3FFF and ip + 20 <= headers < total <= len(packet):
                same += (bytes(packet[ip + 20 : headers]),)  # options
                if run is not None and not flags & PSH and run.takes(number, total - headers, same):
                    run.add(packet[headers:total])
                    flags = now
                    continue
                if run is not None:
                    yield run.finished(flags)
                run, flags = Run(packet, same, ip, headers, total, number), now
                continue
        if run is not None:
            yield run.finished(flags)
            run = None
        yield [PLAIN, packet]
    if run is not None:
        yield run.finished(flags)
