"""Where a Listener's connections come from: a TCP socket, or what an endpoint's screener lets in."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import Protocol

from ..stack.layers import PathFacts
from ..stack.screening import DatagramScreener
from ..stack.stack import SecurityStack
from ..transport.network import Address, ListeningSocket
from ..transport.poller import poller_of
from .connection import Connection
from .driver import Driver
from .endpoint import Endpoint
from .establish import attach_stream
from .listener import Listener

ACCEPT_AT_ONCE = 64  # connections taken from the kernel in one turn of the loop
OUT_OF_DESCRIPTORS_PAUSE = 1.0  # seconds without accepting after EMFILE
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Source(Protocol):
    """Gives a Listener its connections, by begin() or take()."""

    addresses: tuple[Address, ...]

    def resume(self) -> None:
        """There is room for connections."""

    def pause(self) -> None:
        """There is none."""

    def close(self) -> None:
        """The listener is stopped."""


class StreamSource:
    """A listening byte-stream socket. `accept` makes a Connection, whose stack is not started yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
        sock: ListeningSocket,
        accept: Callable[[], Connection],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._socket = sock
        self._accept = accept
        self._poller = poller_of(loop)
        self._accepting = False
        self._pause: asyncio.TimerHandle | None = None
        self.addresses: tuple[Address, ...] = (sock.getsockname()[:2],)

    def resume(self) -> None:
        """Accept again."""
        if not self._accepting and self._listener.accepting:
            self._accepting = True
            self._poller.add_reader(self._socket, self._acceptable)

    def pause(self) -> None:
        """Leave further connections to the kernel's queue."""
        if self._accepting:
            self._accepting = False
            self._poller.remove_reader(self._socket)

    def close(self) -> None:
        """Close the socket."""
        self.pause()
        if self._pause is not None:
            self._pause.cancel()
        self._socket.close()

    def _acceptable(self) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if not self._accepting:
                return
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self.pause()
                    self._pause = self._loop.call_later(OUT_OF_DESCRIPTORS_PAUSE, self.resume)
                    return
                raise
            sock.setblocking(False)
            connection = self._accept()
            self._listener.begin(connection)
            try:
                attach_stream(self._loop, connection, sock)
            except OSError:
                self._listener.ended(connection)
                sock.close()  # the peer was gone before we looked


class DatagramSource:
    """A screener on an endpoint. `accept` puts a Connection around each stack that it lets in."""

    def __init__(
        self,
        listener: Listener,
        endpoint: Endpoint,
        screener: DatagramScreener,
        accept: Callable[[SecurityStack], Connection],
        *,
        claims: Sequence[bytes],
        max_establishing: int,
    ) -> None:
        self._listener = listener
        self._endpoint = endpoint
        self._screener = screener
        self._accept = accept
        self.addresses: tuple[Address, ...] = (endpoint.local,)
        endpoint.serve(screener, self._make, claims=claims, max_establishing=max_establishing)

    def _make(self, stack: SecurityStack, facts: PathFacts) -> Driver | None:
        if not self._listener.accepting:
            return None
        connection = self._accept(stack)
        connection.local_endpoint, connection.remote_endpoint = facts.local, facts.remote
        self._listener.begin(connection)
        return connection.driver

    def resume(self) -> None:
        """New stacks are let in again."""

    def pause(self) -> None:
        """Nothing to do: who is let in is asked each time."""

    def close(self) -> None:
        """The endpoint closes itself once the last connection has left it."""
        self._endpoint.stop_serving(self._screener)
