"""Datagrams: sockets as UDP has them, on a simulated network.

A run of equal-sized datagrams that one send() takes travels as single datagrams; with `network.coalesce` those that
wait together are received together. A flipped bit is delivered (UDP's checksum is not computed here). A datagram to a
port where nobody listens comes back as an ICMP message that quotes it, which a socket that was opened with a remote
address reports. `reported()` is what such a message does at the socket: a test forges one by calling it.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from zlib import crc32

from ..transport.network import Address, Arrival, Report
from .hosts import Host
from .links import Packet
from .sockets import WILDCARDS, SimulatedSocket, canonical, os_error

MAX_DATAGRAM = 65_507  # octets of payload
MAX_RUN = 65_535  # octets of one receive
QUOTED = 64  # octets of a datagram that an ICMP message quotes


class SimulatedDatagramSocket(SimulatedSocket):
    """A bound datagram socket of a simulated host."""

    def __init__(self, host: Host, local: Address, remote: Address | None = None, *, reuse_port: bool = False) -> None:
        super().__init__(host)
        self.remote = None if remote is None else (canonical(remote[0]), remote[1])
        if not local[0] and remote is None:  # every address of both families
            first = host.bind("udp", (WILDCARDS[socket.AF_INET6], local[1]), self, shared=reuse_port)
            try:
                second = host.bind("udp", (WILDCARDS[socket.AF_INET], first[1]), self, shared=reuse_port)
            except OSError:
                host.release("udp", first, self)
                raise
            self._bound = [first, second]
        else:
            if self.remote is not None and (not local[0] or canonical(local[0]) in WILDCARDS.values()):
                local = (host.source_for(self.remote[0]), local[1])
            self._bound = [host.bind("udp", local, self, shared=reuse_port)]
        self.local = self._bound[0]
        self.max_datagrams = host.network.max_datagrams
        self.dropped = 0  # datagrams that found the receive buffer full
        self._waiting: deque[Packet] = deque()
        self._held = 0  # octets in `_waiting`
        self._unsent = 0  # octets that wait for the link, if the host's send buffer is bounded
        self._errors: deque[tuple[OSError, Address, Report]] = deque()
        self._learnt: dict[str, int] = {}  # host -> octets of a packet
        self.open()

    def __repr__(self) -> str:
        return f"<SimulatedDatagramSocket {self.host.name} {self.local[0]}:{self.local[1]}>"

    @property
    def readable(self) -> bool:
        """There is a datagram or an error."""
        return bool(self._waiting or self._errors)

    @property
    def writable(self) -> bool:
        """The send buffer has room."""
        return self.host.send_buffer is None or self._unsent < self.host.send_buffer

    # -- receiving ------------------------------------------------------------------------------------------------
    def receive_into(self, buffer: memoryview, arrival: Arrival) -> bool:
        """Fill buffer and arrival. False: nothing there. Raises what ICMP reported; the socket stays usable."""
        self.check_open()
        if self._errors:
            error, arrival.remote, arrival.report = self._errors.popleft()
            raise error
        if not self._waiting:
            return False
        first = self._waiting[0]
        run = self._run(min(len(buffer), MAX_RUN)) if self.host.network.coalesce else 1
        end = 0
        for _ in range(run):
            data = self._waiting.popleft().data
            self._held -= len(data)
            length = min(len(data), len(buffer) - end)
            buffer[end : end + length] = data[:length]
            end += length
        arrival.length, arrival.segment = end, len(first.data) if run > 1 else 0
        arrival.remote, arrival.local, arrival.ecn = first.source, first.destination, first.ecn
        return True

    def _run(self, room: int) -> int:
        """How many of the waiting datagrams belong together: equal but for the last, which may be shorter."""
        first = self._waiting[0]
        size = len(first.data)
        count = total = 0
        for packet in self._waiting:
            alike = packet[1:3] == first[1:3] and packet.ecn == first.ecn
            total += len(packet.data)
            if count and (not alike or not 0 < len(packet.data) <= size or total > room):
                break
            count += 1
            if len(packet.data) < size:
                break
        return count

    # -- sending --------------------------------------------------------------------------------------------------
    def send(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        """Send one datagram, or a run of equal ones of `segment` octets (the last may be shorter).

        BlockingIOError: not now, nothing was sent. OSError: EMSGSIZE, above the path's MTU; EINVAL, too many at once.
        """
        self.check_open()
        octets = bytes(data)
        size = segment if 0 < segment < len(octets) else len(octets)
        count = -(-len(octets) // size) if size else 1
        destination = (canonical(remote[0]), remote[1])
        if count > self.max_datagrams:
            raise os_error(errno.EINVAL)
        source = self._source(destination, local)
        if size > self._link_mtu(destination):
            raise os_error(errno.EMSGSIZE)
        if not self.writable:  # as in a kernel a socket that is writable takes a whole run, however long
            raise os_error(errno.EAGAIN)
        for start in range(0, count * size or 1, size or 1):
            self._send_one(Packet("UDP", source, destination, octets[start : start + size], ecn))

    def _send_one(self, packet: Packet) -> None:
        network = self.host.network
        passage = network.carry(self.host, packet, _arrived, "udp")
        if self.host.send_buffer is not None and passage.departure > network.now:
            self._unsent += len(packet.data)
            network.loop.call_at(passage.departure, self._left, len(packet.data))

    def _left(self, octets: int) -> None:
        self._unsent -= octets
        self.changed()

    def _source(self, destination: Address, local: Address | None) -> Address:
        host = local[0] if local is not None and local[0] else self.local[0]
        if host in WILDCARDS.values():
            host = self.host.source_for(destination[0])
        host = canonical(host)
        if not self.host.owns(host) and host != self.local[0]:
            raise os_error(errno.EINVAL)
        return host, self.local[1]

    def path_mtu(self, remote: Address) -> int:
        """Octets of payload that one datagram to `remote` may have: by the link's MTU, or by what was learnt."""
        return min(self._link_mtu(remote), self._learnt.get(canonical(remote[0]), MAX_DATAGRAM))

    def _link_mtu(self, remote: Address) -> int:
        network = self.host.network
        link = network.route(self.host, canonical(remote[0]))[1]
        return min(MAX_DATAGRAM, link.mtu - network.headers("udp", remote[0]))

    def learn_mtu(self, remote: Address, mtu: int) -> None:
        """A report that is believed: packets of `mtu` octets reach `remote`."""
        payload = mtu - self.host.network.headers("udp", remote[0])
        if payload < self.path_mtu(remote):
            self._learnt[canonical(remote[0])] = payload

    def close(self) -> None:
        """Close at once."""
        if not self.closed:
            for local in self._bound:
                self.host.release("udp", local, self)
            self._waiting.clear()
            self.forget()

    # -- what arrives ---------------------------------------------------------------------------------------------
    def arrived(self, packet: Packet) -> None:
        """A datagram for this socket."""
        if self._held + len(packet.data) > self.host.receive_buffer:
            self.dropped += 1
            return
        self._waiting.append(packet)
        self._held += len(packet.data)
        self.changed()

    def reported(self, number: int, remote: Address, report: Report) -> None:
        """An ICMP message with that error came for a datagram to `remote`."""
        self._errors.append((os_error(number), remote, report))
        self.changed()


def _heard(host: Host, local: Address, remote: Address) -> SimulatedDatagramSocket | None:
    """The socket that hears `remote` at `local`: one connected to it before one that hears everybody.

    Of several that share the address it is always the same one for the same remote.
    """
    everybody: list[SimulatedDatagramSocket] = []
    for sock in host.bound("udp", local):
        if isinstance(sock, SimulatedDatagramSocket):
            if sock.remote == remote:
                return sock
            if sock.remote is None:
                everybody.append(sock)
    sharing = [sock for sock in everybody if sock.local == everybody[0].local]
    return sharing[crc32(repr(remote).encode()) % len(sharing)] if sharing else None


def _arrived(host: Host, packet: Packet) -> None:
    sock = _heard(host, packet.destination, packet.source)
    if sock is not None:
        sock.arrived(packet)
    else:
        quoted = packet.data[:QUOTED]
        host.network.carry(host, Packet("ICMP", packet.destination, packet.source, quoted), _icmp_arrived, "udp")


def _icmp_arrived(host: Host, packet: Packet) -> None:
    sock = _heard(host, packet.destination, packet.source)
    if sock is not None and sock.remote is not None:
        sock.reported(errno.ECONNREFUSED, sock.remote, Report(packet.data))
