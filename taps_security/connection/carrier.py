"""A TCP socket under a driver: reads into the loop's standing buffer, writes from the driver's slabs."""

from __future__ import annotations

import asyncio
import errno
import socket

from ..stack.events import PathId, TransportEnd
from ..stack.layers import Slab
from ..stack.stack import Transmit
from ..transport.buffers import NOTHING, shared_buffers
from ..transport.network import StreamSocket
from ..transport.poller import poller_of
from ..transport.tcp import reset
from .driver import Driver


class StreamCarrier:
    """One connected byte-stream socket of one driver.

    Idle connections own no buffer: a read borrows the loop's, and only an unfinished record is kept (`_rest`).
    """

    __slots__ = (
        "_buffers",
        "_driver",
        "_failed",
        "_loop",
        "_poller",
        "_reading",
        "_rest",
        "_sent",
        "_slab",
        "_socket",
        "_unsent",
        "blocked",
        "path",
    )

    max_datagrams = 1

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: StreamSocket, driver: Driver, path: PathId) -> None:
        self.blocked = False
        self._loop = loop
        self._socket: StreamSocket | None = sock
        self._driver = driver
        self.path = path
        self._buffers = shared_buffers(loop)
        self._poller = poller_of(loop)
        self._reading = False
        self._failed: OSError | None = None  # why a send failed: the end that is read now is this
        self._rest = b""
        self._slab: Slab | None = None  # kept while the socket is full
        self._sent = 0
        self._unsent = 0

    # -- reading --------------------------------------------------------------------------------------------------
    def resume(self) -> None:
        """Feed what is held, and read on while the stack wants input."""
        if self._socket is None:
            return
        stack = self._driver.stack
        if self._rest and not self._reading:
            buffer = self._buffers.receive.borrow()
            self._feed(buffer, 0)
            if self._socket is None or not stack.wants_input:
                return
        if not self._reading:
            self._reading = True
            self._poller.add_reader(self._socket, self._readable)

    def _pause(self) -> None:
        if self._reading and self._socket is not None:
            self._reading = False
            self._poller.remove_reader(self._socket)

    def _readable(self) -> None:
        sock = self._socket
        if sock is None:
            return
        buffer = self._buffers.receive.borrow()
        rest = len(self._rest)
        try:
            length = sock.recv_into(buffer[rest:] if rest else buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._pause()
            self._lost(error)
            return
        if not length:
            self._pause()
            if self._failed is not None:
                self._lost(self._failed)
            else:
                self._driver.transport_ended(self.path, TransportEnd.FIN)
            return
        driver = self._driver
        driver.in_callback = True
        try:
            self._feed(buffer, length)
        finally:
            driver.in_callback = False

    def _feed(self, buffer: memoryview, length: int) -> None:
        """Give the driver what is held and `length` new octets behind it, and hold what it leaves."""
        rest = self._rest
        if rest:
            buffer[: len(rest)] = rest
            length += len(rest)
            self._rest = b""
        inbound, driver = self._buffers.inbound, self._driver
        inbound.path = self.path
        inbound.data = data = buffer[:length]
        driver.answered = False
        consumed = driver.receive(inbound)
        while driver.answered and consumed < length:  # what waited for the answer is looked at again
            driver.answered = False
            inbound.data = data[consumed:]
            consumed += driver.receive(inbound)
        inbound.data = NOTHING
        if consumed < length:
            self._rest = bytes(data[consumed:])
        if not driver.stack.wants_input:
            driver.paused = True
            self._pause()

    # -- writing --------------------------------------------------------------------------------------------------
    def send(self, slab: Slab, out: Transmit) -> bool:
        """True: all is with the socket. False: the slab is kept until the socket takes the rest."""
        sock = self._socket
        if sock is None:
            return True
        try:
            sent = sock.send(slab.view[: out.length])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.blocked = True  # these octets are lost: no end is a clean one before _broken() was heard
            self._loop.call_soon(self._broken, error)
            return True
        if sent == out.length:
            return True
        self._slab, self._sent, self._unsent = slab, sent, out.length
        self.blocked = True
        self._poller.add_writer(sock, self._writable)
        return False

    def _writable(self) -> None:
        slab, sock = self._slab, self._socket
        if slab is None or sock is None:
            return
        try:
            self._sent += sock.send(slab.view[self._sent : self._unsent])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._poller.remove_writer(sock)
            self._loop.call_soon(self._broken, error)
            return
        if self._sent == self._unsent:
            self._unblock()
            self._driver.writable()
        else:
            self._driver.taken(self.path)

    def _unblock(self) -> None:
        self.blocked = False
        if self._slab is not None and self._socket is not None:
            self._poller.remove_writer(self._socket)
            self._buffers.slabs.give_back(self._slab)
            self._slab = None

    def _broken(self, error: OSError) -> None:
        """A send failed: what the peer said before it went away is still read first."""
        self._failed = error
        if self._reading:
            self._readable()
        if self._socket is not None:
            self._pause()
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        """The connection is gone."""
        end = TransportEnd.ERROR if self.blocked else TransportEnd.RESET
        if error.errno == errno.ETIMEDOUT:
            end = TransportEnd.TIMEOUT
        self._driver.transport_ended(self.path, end)

    # -- ends -----------------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """FIN behind what was sent."""
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._loop.call_soon(self._broken, error)

    def close(self, *, reset: bool) -> None:
        """Let go of the socket at once."""
        sock = self._socket
        if sock is None:
            return
        self._pause()
        self._unblock()
        self._socket = None
        self._rest = b""
        if reset:
            _reset(sock)
        else:
            sock.close()


_reset = reset
