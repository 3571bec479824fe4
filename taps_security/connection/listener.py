"""A Listener: bounds the connections that are not established yet, and hands over the ready ones.

Where they come from, its sources know: TCP sockets, an endpoint's screener, an inner port of a tunnel.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ..properties.words import whole
from ..stack.errors import ConnectionLost, LocalError, Reason
from ..transport.network import Address
from .connection import Connection
from .waiter import Waiter

if TYPE_CHECKING:
    from .sources import Source
    from .tunnel import Tunnel

_TASK = "taps_security handler"  # the name of each: a name of its own takes time and memory

Handler = Callable[[Connection], Awaitable[None]]


class Listener:
    """Made by Preconnection.listen(). Iterate over it, or serve() it; leaving the `async with` stops it.

    At most `max_establishing` connections are unfinished at a time: a further one drops the oldest of them, while
    established ones go on. An unfinished one has `handshake_timeout` seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, max_establishing: int, handshake_timeout: float, backlog: int
    ) -> None:
        self._loop = loop
        self._sources: list[Source] = []
        self.max_establishing = max_establishing
        self._handshake_timeout = handshake_timeout
        self.backlog = backlog
        self._establishing: OrderedDict[Connection, float] = OrderedDict()
        self._ready: deque[Connection] = deque()
        self._waiter: Waiter | None = None
        self._limit: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self.accepting = True
        self.stopped = False
        self.dropped = 0  # unfinished connections dropped for younger ones
        self.addresses: tuple[Address, ...] = ()
        self.stacks: tuple[tuple[str, Address], ...] = ()  # each protocol by name, with each of its addresses
        self.tunnel: Tunnel | None = None  # inside which the port is, if it is inside one

    def attach(self, source: Source, stack: str) -> None:
        """A further source of connections of the protocol `stack`; the listener owns it from now on."""
        self._sources.append(source)
        self.addresses = tuple(dict.fromkeys((*self.addresses, *source.addresses)))
        self.stacks = (*self.stacks, *((stack, address) for address in source.addresses))
        source.resume()

    def __repr__(self) -> str:
        return f"<Listener {', '.join(f'{host}:{port}' for host, port in self.addresses)}>"

    @property
    def port(self) -> int:
        """The local port: the real one if 0 was asked for."""
        return self.addresses[0][1]

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # -- for the application --------------------------------------------------------------------------------------
    def __aiter__(self) -> AsyncIterator[Connection]:
        return self

    async def __anext__(self) -> Connection:
        try:
            return await self.accept()
        except LocalError:
            if self.stopped:
                raise StopAsyncIteration from None
            raise

    async def accept(self) -> Connection:
        """The next ready Connection. Raises LocalError once the listener is stopped."""
        while not self._ready:
            if self.stopped:
                raise LocalError("accept(): the listener is stopped")
            if self._waiter is not None:
                raise LocalError("accept(): another accept() is waiting; await one at a time")
            self._waiter = Waiter(self._loop)
            try:
                await self._waiter
            finally:
                self._waiter = None
        connection = self._ready.popleft()
        self._resume()
        return connection

    async def serve(self, handler: Handler, *, grace: float = 0.0) -> None:
        """Run `handler(connection)` in a task for each connection until the listener is stopped.

        A handler's connection is closed when it returns and aborted when it raises; its errors go to the loop's
        exception handler. After stop(), or when serve() is cancelled, handlers have `grace` seconds to finish.
        """
        try:
            async for connection in self:
                self._handlers.add(self._loop.create_task(self._handle(handler, connection), name=_TASK))
        finally:
            self.stop()
            if self._handlers and grace:
                await asyncio.wait(self._handlers, timeout=grace)
            for task in self._handlers:
                task.cancel()
            if self._handlers:
                await asyncio.wait(self._handlers)

    async def _handle(self, handler: Handler, connection: Connection) -> None:
        try:
            await handler(connection)
            await connection.close()
        except ConnectionLost:
            pass  # the peer went away: nothing that this side could mend
        except Exception as error:  # one connection's failure must not end the others
            self._report(error, connection)
        finally:
            connection.abort()  # of no effect once it is closed
            task = asyncio.current_task()
            assert task is not None
            self._handlers.discard(task)

    def _report(self, error: Exception, connection: Connection) -> None:
        self._loop.call_exception_handler(
            {"message": "a handler of a Listener failed", "exception": error, "connection": connection}
        )

    def set_new_connection_limit(self, limit: int | None) -> None:
        """Accept at most that many further connections (RFC 9622 §7.2); None: no limit. ConfigurationError below 0."""
        self._limit = limit if limit is None else whole("limit", limit, 0, 1 << 62)
        if limit is None or limit > 0:
            self._resume()
        else:
            self._pause()

    def stop(self) -> None:
        """Accept nothing more. Unfinished and unclaimed connections are aborted, the others live on."""
        if self.stopped:
            return
        self.stopped = True
        self._pause()
        if self._timer is not None:
            self._timer.cancel()
        for source in self._sources:
            source.close()
        for connection in (*self._establishing, *self._ready):
            connection.abort()
        self._establishing.clear()
        self._ready.clear()
        if self._waiter is not None:
            self._waiter.wake()

    # -- for its sources ------------------------------------------------------------------------------------------
    def _resume(self) -> None:
        if self.accepting or self.stopped or self._limit == 0 or len(self._ready) >= self.backlog:
            return
        self.accepting = True
        for source in self._sources:
            source.resume()

    def _pause(self) -> None:
        if self.accepting:
            self.accepting = False
            for source in self._sources:
                source.pause()

    def begin(self, connection: Connection) -> None:
        """A connection whose handshake is to come: it has so many seconds."""
        connection.belong_to(self)
        self._establishing[connection] = self._loop.time() + self._handshake_timeout
        if len(self._establishing) > self.max_establishing:
            self._drop_oldest()
        if self._timer is None:
            self._timer = self._loop.call_later(self._handshake_timeout, self._drop_late)

    def take(self, connection: Connection) -> bool:
        """A connection that is ready. False: there is no room for it."""
        if not self.accepting:
            return False
        connection.belong_to(self)
        self._take(connection)
        return True

    def _drop_oldest(self) -> None:
        oldest, _ = self._establishing.popitem(last=False)
        self.dropped += 1
        oldest.abort(
            ConnectionLost("dropped for younger connections: too many are unfinished", reason=Reason.OVERLOADED)
        )

    def _drop_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._establishing:
            connection, due = next(iter(self._establishing.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._drop_late)
                return
            self._establishing.popitem(last=False)
            connection.abort(ConnectionLost("the handshake took too long", reason=Reason.TIMEOUT))

    # -- what the connections tell --------------------------------------------------------------------------------
    def established(self, connection: Connection) -> None:
        """The handshake is complete: the application gets it."""
        if self._establishing.pop(connection, None) is not None and not self.stopped:
            self._take(connection)

    def _take(self, connection: Connection) -> None:
        if self._limit is not None:
            self._limit -= 1
            if self._limit <= 0:
                self._pause()
        self._ready.append(connection)
        if len(self._ready) >= self.backlog:
            self._pause()
        if self._waiter is not None:
            self._waiter.wake()

    def ended(self, connection: Connection) -> None:
        """Over before it was established."""
        self._establishing.pop(connection, None)
