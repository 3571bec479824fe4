"""UDP sockets that move batches.

On Linux one `sendmsg` carries up to 64 equal datagrams (UDP_SEGMENT), one `recvmsg_into` returns a run of them
(UDP_GRO) together with the real local address (IP_PKTINFO) and the ECN bits, and ICMP errors come from the socket's
error queue (IP_RECVERR) with the address that they are about. Elsewhere a plain socket moves one datagram at a time.

DF is always set, by IP_PMTUDISC_PROBE and not IP_PMTUDISC_DO: with DO the kernel refuses what is larger than the path
MTU that it has cached, so one forged ICMP message stops a sender, and larger probes (RFC 8899) can never leave. With
PROBE it reports ICMP's news and leaves the decision to the stack above, which knows what was sent and acknowledged:
each report goes up with the octets that it quotes, and learn_mtu() is called for those that are believed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from typing import Any

from . import numbers
from .addresses import mapped_address, plain_address, share_port, socket_address
from .network import Address, Arrival, DatagramSocket, Report
from .routes import configured_mtu

MAX_PAYLOAD = 65_507  # octets of one datagram, and of one batch: RFC 768's length field without IPv4 and UDP headers
MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux before 6.9
SOCKET_BUFFER = 4 * 1024 * 1024  # octets asked for; the system gives what it allows
SMALLEST_MTU: dict[int, int] = {
    socket.AF_INET: 576,
    socket.AF_INET6: 1280,
}  # RFC 8899 §5.1.2, RFC 8200 §5: what ICMP may not go below
HEADERS: dict[int, int] = {socket.AF_INET: 28, socket.AF_INET6: 48}  # IP and UDP
MTU_LIFETIME = 600.0  # seconds that a smaller path MTU is believed: RFC 8201 §4
QUOTED = 64  # octets of a datagram that a report is asked for: the headers of all protocols say there who sent it
_CACHE = 1024  # entries of each small table

_ECN = 3  # the two low bits of TOS and Traffic Class: RFC 3168 §5
_INT = struct.Struct("@i")
_SEGMENT = struct.Struct("@H")
_SOURCE_ERRORS = {errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL}  # also of a source address that is not ours
_PKTINFO4 = struct.Struct("@i4s4s")  # ipi_ifindex, ipi_spec_dst, ipi_addr
_PKTINFO6 = struct.Struct("@16sI")  # ipi6_addr, ipi6_ifindex
_EXTENDED_ERROR = struct.Struct("@IBBBxII")  # errno, origin, type, code, info, data

Ancillary = list[tuple[int, int, bytes]]


class UdpSocket:
    """One datagram per call: what every platform has."""

    def __init__(self, sock: socket.socket, remote: Address | None = None) -> None:
        self.max_datagrams = 1
        self._socket = sock
        self._dual = sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self._remote = remote
        self.local: Address = plain_address(sock.getsockname())
        self._targets: dict[Address, Any] = {}  # as the socket calls want them
        self._mtus: dict[str, tuple[int, float]] = {}  # host -> payload octets, valid until
        self._last_error: OSError | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local[0]}:{self.local[1]}>"

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def receive_into(self, buffer: memoryview, arrival: Arrival) -> bool:
        """One datagram. Without IP_PKTINFO the local address is the bound one."""
        try:
            arrival.length, source = self._socket.recvfrom_into(buffer)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            arrival.remote = self._remote or ("", 0)
            raise
        arrival.segment = arrival.ecn = 0
        arrival.remote = plain_address(source)
        arrival.local = self.local
        return True

    def send(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        """One datagram, or a run one by one. When the socket is full inside a run, the rest is lost as in a network."""
        total = len(data)
        step = segment or total
        for start in range(0, total, step):
            try:
                self._send_one(data[start : start + step], remote, local, ecn)
            except BlockingIOError:
                if start == 0:
                    raise
                return

    def _send_one(self, data: memoryview, remote: Address, local: Address | None, ecn: int) -> None:
        if self._remote is not None:
            self._socket.send(data)
        else:
            self._socket.sendto(data, self._target(remote))

    def _target(self, remote: Address) -> Any:
        """`remote` as this socket's calls want it."""
        targets = self._targets
        found = targets.get(remote)
        if found is None:
            if len(targets) >= _CACHE:
                targets.clear()
            found = targets[remote] = mapped_address(remote) if self._dual else socket_address(remote)[1]
        return found

    # -- MTU ------------------------------------------------------------------------------------------------------
    def path_mtu(self, remote: Address) -> int:
        """Octets of UDP payload that fit without fragments: what the route says, and what was learnt since."""
        known = self._mtus.get(remote[0])
        if known is not None and known[1] > time.monotonic():
            return known[0]
        mtu = self._route_mtu(remote)
        self._remember_mtu(remote[0], mtu)
        return mtu

    def _route_mtu(self, remote: Address) -> int:
        """Nothing is known here: what every path of that family carries."""
        family = socket_address(remote)[0]
        return 1280 - HEADERS[socket.AF_INET6] if family == socket.AF_INET6 else 1400 - HEADERS[socket.AF_INET]

    def learn_mtu(self, remote: Address, mtu: int) -> None:
        """A router or our own interface said how much fits, and is believed. What is absurdly small is raised."""
        if not remote[0]:
            return
        family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
        payload = max(mtu, SMALLEST_MTU[family]) - HEADERS[family]
        if payload < self.path_mtu(remote):
            self._remember_mtu(remote[0], payload)

    def _remember_mtu(self, host: str, payload: int) -> None:
        if len(self._mtus) >= _CACHE:
            self._mtus.clear()
        self._mtus[host] = payload, time.monotonic() + MTU_LIFETIME


class BatchingUdpSocket(UdpSocket):
    """Linux: GSO, GRO, real local addresses, ECN, and ICMP errors with their addresses."""

    def __init__(self, sock: socket.socket, remote: Address | None = None) -> None:
        super().__init__(sock, remote)
        self._any = remote is None and self.local[0] in {"0.0.0.0", "::"}  # noqa: S104 -- asked, not bound
        self._locals: dict[bytes, Address] = {}  # IP_PKTINFO's octets -> local address
        self._gone: set[Address] = set()  # local addresses that were ours when something came to them
        self._ways: dict[tuple[int, Address | None, int, Address], tuple[Ancillary, Any]] = {}
        self._last_source: Any = None  # of the last datagram that came, as the socket call has it, and what that means
        self._last_remote: Address = ("", 0)
        self._last_ancillary: Ancillary = []
        self._last_read: tuple[int, Address, int] = (0, self.local, 0)  # segment, local address, ECN
        self._errors_wait = False  # the error queue may hold something that recvmsg() no longer mentions
        self._ancillary_size = 4 * socket.CMSG_SPACE(_PKTINFO6.size)
        self._configure()

    def _configure(self) -> None:
        sock, v6 = self._socket, self._socket.family == socket.AF_INET6
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        if not v6 or self._dual:
            sock.setsockopt(socket.IPPROTO_IP, numbers.IP_MTU_DISCOVER, numbers.IP_PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IP, numbers.IP_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IP, numbers.IP_RECVTOS, 1)
            if self._any:
                sock.setsockopt(socket.IPPROTO_IP, numbers.IP_PKTINFO, 1)
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, numbers.IPV6_MTU_DISCOVER, numbers.IPV6_PMTUDISC_PROBE)
            sock.setsockopt(socket.IPPROTO_IPV6, numbers.IPV6_RECVERR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            if self._any:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        try:
            sock.setsockopt(socket.IPPROTO_UDP, numbers.UDP_GRO, 1)
            sock.getsockopt(socket.IPPROTO_UDP, numbers.UDP_SEGMENT)
        except OSError:
            return  # before Linux 5.0 and 4.18: one datagram per call
        self.max_datagrams = MAX_SEGMENTS

    # -- receiving ------------------------------------------------------------------------------------------------
    def receive_into(self, buffer: memoryview, arrival: Arrival) -> bool:
        """One datagram or one GRO run. Raises the ICMP errors that wait, one per call."""
        if self._errors_wait:
            self._raise_queued(arrival, None)
        try:
            length, ancillary, _, source = self._socket.recvmsg_into((buffer,), self._ancillary_size)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._raise_queued(arrival, error)
            return False
        if source != self._last_source:  # mostly everything is as it was
            self._last_remote = source if len(source) == 2 else plain_address(source)
            self._last_source = source
        if ancillary != self._last_ancillary:
            self._last_read = self._read_ancillary(ancillary)
            self._last_ancillary = ancillary
        segment, arrival.local, arrival.ecn = self._last_read
        arrival.length = length
        arrival.segment = segment if segment < length else 0
        arrival.remote = self._last_remote
        return True

    def _read_ancillary(self, ancillary: Ancillary) -> tuple[int, Address, int]:
        """Octets of each datagram (0: there is one), the local address, the ECN bits."""
        segment = ecn = 0
        local = self.local
        for level, kind, data in ancillary:
            if level == 17:  # IPPROTO_UDP
                segment = data[0] | data[1] << 8 if sys.byteorder == "little" else _INT.unpack(data)[0]
            elif kind == 8 or kind == 50:  # noqa: PLR1714 -- IP_PKTINFO, IPV6_PKTINFO; two compares are faster
                local = self._locals.get(data) or self._learn_local(kind, data)
            elif kind == 1 or kind == 67:  # noqa: PLR1714 -- IP_TOS (1 octet), IPV6_TCLASS (an int)
                ecn = (data[0] if len(data) == 1 else _INT.unpack(data)[0]) & _ECN
        return segment, local, ecn

    def _learn_local(self, kind: int, data: bytes) -> Address:
        """The local address of an IP_PKTINFO or IPV6_PKTINFO."""
        if kind == numbers.IP_PKTINFO:
            host = socket.inet_ntop(socket.AF_INET, _PKTINFO4.unpack(data)[1])
            found: Address = (host, self.local[1])
        else:
            address, interface = _PKTINFO6.unpack(data)
            host = socket.inet_ntop(socket.AF_INET6, address)
            scope = interface if host.startswith("fe80:") else 0
            found = plain_address((host, self.local[1], 0, scope))
        if len(self._locals) >= _CACHE:
            self._locals.clear()
        self._locals[data] = found
        return found

    def _raise_queued(self, arrival: Arrival, error: OSError | None) -> None:
        """Raise the oldest report of the error queue, or `error` if it holds none."""
        try:
            quoted, ancillary, _, target = self._socket.recvmsg(QUOTED, 1024, socket.MSG_ERRQUEUE)
        except OSError:
            self._errors_wait = False
            arrival.remote = self._remote or ("", 0)
            if error is not None:
                raise error from None
            return
        self._errors_wait = True  # perhaps there are more
        arrival.remote = plain_address(target) if target else self._remote or ("", 0)
        for level, kind, data in ancillary:
            if (level, kind) in _ERROR_KINDS and len(data) >= _EXTENDED_ERROR.size:
                number, origin, _, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
                mtu = info if number == errno.EMSGSIZE else 0
                arrival.report = Report(quoted, origin == numbers.SO_EE_ORIGIN_LOCAL, mtu)
                raise OSError(number, os.strerror(number))

    # -- sending --------------------------------------------------------------------------------------------------
    def send(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        """One sendmsg() for a run of at most 64 datagrams and 64 KiB. A longer one goes in pieces.

        Where the kernel refuses a batch it is sent one by one, and so is everything after it.
        """
        total = len(data)
        if not segment or total <= segment:
            self._send_message(data, 0, remote, local, ecn)
        elif self.max_datagrams == 1:
            super().send(data, segment, remote, local, ecn)
        else:
            step = min(MAX_PAYLOAD // segment, MAX_SEGMENTS) * segment
            for start in range(0, total, step):
                try:
                    self._send_batch(data[start : start + step], segment, remote, local, ecn)
                except BlockingIOError:
                    if start == 0:
                        raise
                    return

    def _send_batch(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        try:
            self._send_message(data, segment, remote, local, ecn)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.EIO}:
                raise
            self.max_datagrams = 1  # no segmentation on this route, or no checksum offload
            super().send(data, segment, remote, local, ecn)

    def _send_one(self, data: memoryview, remote: Address, local: Address | None, ecn: int) -> None:
        self._send_message(data, 0, remote, local, ecn)

    def _send_message(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        if not self._any or (self._gone and local in self._gone):
            local = None
        way = self._ways.get((segment, local, ecn, remote))
        if way is None:
            way = self._make_way(segment, local, ecn, remote)
        ancillary, target = way
        try:
            self._socket.sendmsg((data,), ancillary, 0, target)
        except (BlockingIOError, InterruptedError):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
        except OSError as error:
            if local is not None and error.errno in _SOURCE_ERRORS:
                self._send_message(data, segment, remote, None, ecn)
                if len(self._gone) >= _CACHE:
                    self._gone.clear()
                self._gone.add(local)  # not ours any more: we have moved, and the kernel knows from where to send
                return
            if segment and error.errno in {errno.EINVAL, errno.EIO}:
                raise
            # An ICMP error that waited on the socket is told to whoever calls next, and this call has consumed it:
            # its report is still in the error queue. Only a second error is about this datagram.
            self._errors_wait = True
            try:
                self._socket.sendmsg((data,), ancillary, 0, target)
            except InterruptedError:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None

    def _make_way(self, segment: int, local: Address | None, ecn: int, remote: Address) -> tuple[Ancillary, Any]:
        """The ancillary data and the address of a sendmsg(), kept for the next one."""
        v6 = ":" in remote[0]
        made: Ancillary = []
        if segment:
            made.append((socket.IPPROTO_UDP, numbers.UDP_SEGMENT, _SEGMENT.pack(segment)))
        if ecn:
            level, kind = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if v6 else (socket.IPPROTO_IP, socket.IP_TOS)
            made.append((level, kind, _INT.pack(ecn)))
        if local is not None and v6:
            address = socket_address(local)[1]
            host = socket.inet_pton(socket.AF_INET6, address[0])
            made.append((socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(host, address[3])))
        elif local is not None:
            source = socket.inet_pton(socket.AF_INET, local[0])
            made.append((socket.IPPROTO_IP, numbers.IP_PKTINFO, _PKTINFO4.pack(0, source, bytes(4))))
        if len(self._ways) >= _CACHE:
            self._ways.clear()
        way = self._ways[segment, local, ecn, remote] = made, None if self._remote is not None else self._target(remote)
        return way

    def _route_mtu(self, remote: Address) -> int:
        """What the kernel's route says, without what ICMP has made of it: it would be the first whom a liar tells."""
        family, address = socket_address(remote)
        try:
            mtu = configured_mtu(family, address)
        except OSError:
            mtu = 0
        if not mtu:
            return super()._route_mtu(remote)
        return max(min(mtu - HEADERS[family], MAX_PAYLOAD), SMALLEST_MTU[family] - HEADERS[family])


_ERROR_KINDS = {(socket.IPPROTO_IP, numbers.IP_RECVERR), (socket.IPPROTO_IPV6, numbers.IPV6_RECVERR)}


def open_udp(local: Address, remote: Address | None = None, *, reuse_port: bool = False) -> DatagramSocket:
    """A bound, non-blocking UDP socket, with batches where the platform has them. Raises OSError.

    `local` with the host "" is every address of both families where there is IPv6; "::" is every IPv6 address. With
    `remote` the socket is connected: it hears of no other peer, and the kernel picks the local address. `reuse_port`:
    see Network.open_datagram().
    """
    host, port = local
    dual = not host and remote is None and socket.has_dualstack_ipv6()
    if not host:
        host = "::" if dual or (remote is not None and ":" in remote[0]) else "0.0.0.0"  # noqa: S104 -- asked for
    family, address = socket_address((host, port))
    sock = socket.socket(family, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        if reuse_port:
            share_port(sock)
        sock.bind(address)
        if remote is not None:
            sock.connect(socket_address(remote)[1])
        return BatchingUdpSocket(sock, remote) if sys.platform == "linux" else UdpSocket(sock, remote)
    except OSError as error:
        sock.close()
        raise type(error)(error.errno, f"{error.strerror}: {local[0] or '*'}:{local[1]}") from None
    except BaseException:
        sock.close()
        raise
