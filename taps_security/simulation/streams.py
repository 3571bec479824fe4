"""Byte streams: sockets as TCP has them, on a simulated network.

Connecting takes one round trip: SYN, SYN-ACK, and then the client may send; its ACK (or its first segment, if that is
lost) completes the connection at the server. A SYN without an answer is sent again after 1, 3, 7, 15, 31 and 63 s;
after 127 s connect() fails with ETIMEDOUT. A port where nobody listens answers RST: ConnectionRefusedError after one
round trip. How octets travel: see `flows`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from typing import Any

from ..transport.network import Address, StreamOptions
from .flows import Inflow, Outflow
from .hosts import Host
from .links import Packet
from .sockets import WILDCARDS, SimulatedSocket, canonical, os_error, socket_name

SYN_TIMEOUT = 1.0  # seconds; twice as much each time
SYN_TRIES = 7
HALF_OPEN_TIMEOUT = 63.0  # seconds that a server waits for the third packet


class SimulatedListener(SimulatedSocket):
    """A listening socket of a simulated host."""

    def __init__(
        self, host: Host, local: Address, backlog: int, options: StreamOptions, *, reuse_port: bool = False
    ) -> None:
        super().__init__(host)
        self._options = options
        self._local = host.bind("listen", local, self, shared=reuse_port)
        self._backlog = max(1, backlog)
        self._half_open: set[SimulatedStream] = set()
        self._complete: deque[SimulatedStream] = deque()
        self.open()

    def __repr__(self) -> str:
        return f"<SimulatedListener {self.host.name} {self._local[0]}:{self._local[1]}>"

    @property
    def readable(self) -> bool:
        """A connection can be accepted."""
        return bool(self._complete)

    @property
    def writable(self) -> bool:
        """Never: it has no octets."""
        return False

    def getsockname(self) -> Any:
        """The local address, with the real port."""
        return socket_name(self._local)

    def accept(self) -> tuple[SimulatedStream, Any]:
        """The next connection and its peer's address; BlockingIOError: none now."""
        self.check_open()
        if not self._complete:
            raise os_error(errno.EAGAIN)
        sock = self._complete.popleft()
        sock.open()
        return sock, socket_name(sock.peer)

    def close(self) -> None:
        """Stop listening; what was not accepted is reset."""
        if self.closed:
            return
        self.host.release("listen", self._local, self)
        for sock in (*self._half_open, *self._complete):
            sock.abandon()
        self._half_open.clear()
        self._complete.clear()
        self.forget()

    # -- what arrives ---------------------------------------------------------------------------------------------
    def half_open(self, client: SimulatedStream, packet: Packet) -> None:
        """A SYN: answer it if there is room."""
        if len(self._half_open) + len(self._complete) >= self._backlog:
            return  # as if it had been lost: the client tries again
        server = SimulatedStream(self.host, self._options)
        server.answer_syn(client, packet, self)
        self._half_open.add(server)

    def completed(self, server: SimulatedStream) -> None:
        """The third packet: the connection can be accepted."""
        self._half_open.discard(server)
        self._complete.append(server)
        self.changed()

    def lost(self, server: SimulatedStream) -> None:
        """The client went away before the connection was complete. A complete one is accepted, and fails then."""
        self._half_open.discard(server)


class SimulatedStream(SimulatedSocket):
    """One end of a byte stream between simulated hosts; as non-blocking as a socket of the system."""

    def __init__(self, host: Host, options: StreamOptions) -> None:
        super().__init__(host)
        self.options = options
        self.local: Address = ("", 0)
        self.peer: Address = ("", 0)
        self.over = False  # nothing goes out or comes in any more: reset, timed out, or closed at both ends
        self._other: SimulatedStream | None = None  # the other end, once it exists
        self._bound = False
        self._connecting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._listener: SimulatedListener | None = None  # until the third packet is here
        self._established = False
        self._error: OSError | None = None
        self._reset_on_close = False
        self._read_shut = False
        self._released = False  # the application closed it, or never had it
        self._finished = False  # over, and both ends said so: late copies are no news
        self.is_cut = False
        self._out = Outflow(self)
        self._in: Inflow | None = None

    def __repr__(self) -> str:
        (here, port), (there, remote_port) = self.local, self.peer
        return f"<SimulatedStream {self.host.name} {here}:{port} -> {there}:{remote_port}>"

    # -- connecting -----------------------------------------------------------------------------------------------
    async def connect(self, remote: Address, local: Address | None = None) -> None:
        """Connect. Raises OSError; after that, or if it is cancelled, close() the socket."""
        if self.options.interface:
            raise os_error(errno.ENODEV)  # simulated hosts have addresses, no named interfaces
        try:
            self.peer = (canonical(remote[0]), remote[1])
        except ValueError:
            raise os_error(errno.EINVAL) from None
        host, port = local or ("", 0)
        if not host or host in WILDCARDS.values():
            host = self.host.source_for(self.peer[0])
        self.local = self.host.bind("stream", (host, port), self)
        self._bound = True
        self.open()
        self._connecting = self.host.network.loop.create_future()
        self._send_syn(0)
        await self._connecting

    def _send_syn(self, attempt: int) -> None:
        loop = self.host.network.loop
        if attempt == SYN_TRIES:
            self._fail(os_error(errno.ETIMEDOUT))
            return
        self._timer = loop.call_later(SYN_TIMEOUT * 2**attempt, self._send_syn, attempt + 1)
        self.host.network.carry(self.host, Packet("SYN", self.local, self.peer), self._syn_arrived)

    def _syn_arrived(self, host: Host, packet: Packet) -> None:
        """At the server's host."""
        if self._other is not None:
            self._other.send_syn_ack()
            return
        listeners = [each for each in host.bound("listen", packet.destination) if isinstance(each, SimulatedListener)]
        if listeners:
            listeners[packet.source[1] % len(listeners)].half_open(self, packet)
        else:
            _answer_reset(host, packet, self)

    def answer_syn(self, client: SimulatedStream, packet: Packet, listener: SimulatedListener) -> None:
        """Become the server's end of `client`."""
        self.local, self.peer = packet.destination, packet.source
        self._listener = listener
        self._join(client)
        client._other = self
        self._timer = self.host.network.loop.call_later(HALF_OPEN_TIMEOUT, self._fail, os_error(errno.ETIMEDOUT))
        self.send_syn_ack()

    def send_syn_ack(self) -> None:
        """The server's half of the handshake, again if the client asks again."""
        other = self._other
        if other is not None and not self.over:
            self.host.network.carry(self.host, Packet("SYN-ACK", self.local, self.peer), other._syn_ack_arrived)

    def _join(self, other: SimulatedStream) -> None:
        self._other = other
        self._in = Inflow(self, other._out.acknowledged, other._out.widen)

    def _syn_ack_arrived(self, host: Host, packet: Packet) -> None:
        other = self._other
        if other is None:
            return
        if self.over:
            _answer_reset(host, packet, other)
            return
        if not self._established:
            self._established = True
            self._join(other)
            if self._timer is not None:
                self._timer.cancel()
            self._send_ack()
            if self._connecting is not None and not self._connecting.done():
                self._connecting.set_result(None)

    def _send_ack(self) -> None:
        other = self._other
        if other is None or other._established or self.over:
            return
        passage = self.host.network.carry(self.host, Packet("ACK", self.local, self.peer), other._ack_arrived)
        if not passage.copies:  # the server repeats its SYN-ACK, and this is the answer
            self.host.network.loop.call_later(SYN_TIMEOUT, self._send_ack)

    def _ack_arrived(self, host: Host, packet: Packet) -> None:
        self._complete()

    def _complete(self) -> None:
        listener = self._listener
        if listener is not None and not self.over:
            self._listener = None
            self._established = True
            if self._timer is not None:
                self._timer.cancel()
            listener.completed(self)

    # -- readiness ------------------------------------------------------------------------------------------------
    @property
    def readable(self) -> bool:
        """There are octets, an end, or an error."""
        inflow = self._in
        held = inflow is not None and (bool(inflow.buffer) or inflow.ended)
        return held or self.over or self._read_shut or self._error is not None

    @property
    def writable(self) -> bool:
        """A third of the send buffer is free, or a send would fail at once."""
        return self.over or self._out.ended or (self._established and self._out.writable)

    # -- octets ---------------------------------------------------------------------------------------------------
    def recv_into(self, buffer: memoryview, nbytes: int = 0) -> int:
        """Octets read; 0: the peer sent FIN. BlockingIOError: nothing now. After a reset what arrived before it can
        still be read; then ConnectionResetError, once, and then 0."""
        self.check_open()
        with memoryview(buffer) as view:
            wanted = view[:nbytes] if nbytes else view
            if self._in is not None and self._in.buffer and not self._read_shut:
                return self._in.read_into(wanted)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self.over or self._read_shut or (self._in is not None and self._in.ended):
            return 0
        raise os_error(errno.EAGAIN)

    def send(self, data: memoryview) -> int:
        """Octets taken. BlockingIOError: the send buffer is full. BrokenPipeError: this direction is over."""
        self.check_open()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self.over or self._out.ended:
            raise os_error(errno.EPIPE)
        with memoryview(data) as view, view.cast("B") as octets:
            if not octets.nbytes:
                return 0
            if not self._out.free:
                raise os_error(errno.EAGAIN)
            return self._out.take(octets)

    def shutdown(self, how: int) -> None:
        """SHUT_WR: FIN behind what was taken. SHUT_RD: reads give 0. Raises OSError (ENOTCONN) if it is over."""
        self.check_open()
        if self.over or not self._established:
            raise os_error(errno.ENOTCONN)
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._read_shut = True
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            self._out.finish()
        self.changed()

    def transmit_segment(self, number: int, data: bytes) -> bool:
        """For the outflow: send a segment; an empty one is FIN. False: it was lost."""
        other = self._other
        if other is None:
            return False

        def arrive(host: Host, packet: Packet) -> None:
            other._segment_arrived(host, packet, number)

        packet = Packet("DATA" if data else "FIN", self.local, self.peer, data)
        cut = "cut" if self.is_cut else ""
        return bool(self.host.network.carry(self.host, packet, arrive, lost=cut).copies)

    def _segment_arrived(self, host: Host, packet: Packet, number: int) -> None:
        inflow, other = self._in, self._other
        if inflow is None or other is None or self._finished:
            return
        if self.over or packet.source != self.peer:
            _answer_reset(host, packet, other)  # closed, or from an address that a translator has changed
            return
        self._complete()
        if self._released and packet.data and inflow.is_new(number):
            self.abort()  # nobody will ever read it
        else:
            inflow.segment(number, packet.data)
            self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._released and self._in is not None and self._in.ended and self._out.delivered:
            self.over = self._finished = True

    def delivered(self) -> None:
        """For the outflow: everything up to and with FIN has been acknowledged."""
        self._finish_if_done()

    # -- ends -----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Close at once. What was taken still goes out, and FIN behind it; but RST goes out at once if octets wait
        unread, or if SO_LINGER is on with 0 seconds."""
        if self.closed:
            return
        self._released = True
        if self._bound:
            self.host.release("stream", self.local, self)
        if not self._established:
            self._end_connecting()
        elif not self.over:
            if self._reset_on_close or (self._in is not None and self._in.buffer):
                self.abort()
            else:
                self._out.finish()
                self._finish_if_done()
        self.forget()

    def _end_connecting(self) -> None:
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._connecting is not None:
            self._connecting.cancel()

    def abandon(self) -> None:
        """For the listener: nobody will accept it."""
        self._released = True
        self.abort()

    def abort(self) -> None:
        """Send RST, and end."""
        if not self.over:
            self._end(None)
            self._send_reset()

    def _send_reset(self) -> None:
        other = self._other
        if other is not None and not self.is_cut:
            self.host.network.carry(self.host, Packet("RST", self.local, self.peer), other.reset_arrived)

    def reset_arrived(self, host: Host, packet: Packet) -> None:
        """RST: the connection is refused, or over."""
        refused = self._connecting is not None and not self._established
        self._fail(os_error(errno.ECONNREFUSED if refused else errno.ECONNRESET))

    def timed_out(self) -> None:
        """For the outflow: the peer has not answered for too long."""
        self._fail(os_error(errno.ETIMEDOUT))

    def _fail(self, error: OSError) -> None:
        if not self.over:
            self._end(error)

    def _end(self, error: OSError | None) -> None:
        self.over = True
        self._error = error
        self._out.discard()
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.lost(self)
            self._listener = None
        if self._connecting is not None and not self._connecting.done() and error is not None:
            self._error = None
            self._connecting.set_exception(error)
        self.changed()

    # -- what sockets have besides --------------------------------------------------------------------------------
    def setblocking(self, flag: bool, /) -> None:
        """Simulated sockets never block. Raises ValueError for True."""
        if flag:
            raise ValueError("a simulated socket cannot block")

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """SO_LINGER with struct linger, on and 0 seconds: close() sends RST. Other options change nothing here."""
        self.check_open()
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            on, seconds = struct.unpack("ii" if len(value) == 8 else "hh", value)  # Windows has two shorts
            self._reset_on_close = bool(on) and not seconds

    def getsockname(self) -> Any:
        """The local address."""
        self.check_open()
        return socket_name(self.local)

    def getpeername(self) -> Any:
        """The remote address, as this end sees it. Raises OSError (ENOTCONN) if it is over."""
        self.check_open()
        if self.over or not self._established:
            raise os_error(errno.ENOTCONN)
        return socket_name(self.peer)

    # -- faults ---------------------------------------------------------------------------------------------------
    @property
    def other_end(self) -> SimulatedStream | None:
        """The peer's end of the same stream; None before it exists."""
        return self._other

    def reset(self) -> None:
        """A fault: something on the way resets the connection. Both ends see it at this instant."""
        for end in (self, self._other):
            if end is not None:
                end._fail(os_error(errno.ECONNRESET))

    def cut(self) -> None:
        """A fault: from now on every packet of this stream disappears, in both directions."""
        for end in (self, self._other):
            if end is not None:
                end.is_cut = True

    def corrupt_at(self, offset: int) -> None:
        """A fault: the octet at this offset of what this end sends arrives with its lowest bit flipped, as when TCP's
        checksum misses an error. Say so before the octet is sent."""
        self._out.corrupt.add(offset)


def _answer_reset(host: Host, packet: Packet, sender: SimulatedStream) -> None:
    """To a packet that meets no connection: RST, back to where it came from."""
    if not sender.over and not sender.is_cut:
        host.network.carry(host, Packet("RST", packet.destination, packet.source), sender.reset_arrived)
