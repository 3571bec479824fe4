"""A Connection: one flow of one security stack, as the application sees it (RFC 9622 §8 to §10).

    Establishing --Ready--> Established --close()--> Closing --> Closed

Everything that was received and authenticated is delivered before an end is told. Cancelling any await leaves the
connection as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from ..observe.security import SecurityLog, SecurityReport
from ..properties.messages import Message, MessageContext
from ..stack.asks import Ask, AskWithdrawn
from ..stack.errors import LocalError, Reason
from ..stack.events import (
    Buffer,
    CloseKind,
    FlowClosed,
    FlowId,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    PeerMoved,
    Received,
    SecurityEvent,
    SessionReady,
    SoftError,
    StackEvent,
    Terminated,
)
from ..stack.stack import DEFAULT_SEND_OPTIONS, SecurityStack, SendOptions
from .callbacks import Callbacks
from .chunks import freeze, keep, take
from .driver import Driver
from .state import ConnectionState, Owner
from .waiter import Waiter

if TYPE_CHECKING:
    from ..properties.endpoints import LocalEndpoint
    from .asks import Answerer
    from .flows import Flows
    from .preconnection import Preconnection
    from .tunnel import Tunnel

PUMP_AT = 7 * 16 * 1024  # octets that wait for the socket before a send() pumps by itself: they fill a slab
YIELD_AT = 1024 * 1024  # octets that one task sends before it lets the others run


_ESTABLISHED, _CLOSED = ConnectionState.ESTABLISHED, ConnectionState.CLOSED  # for the paths that count


class Connection:
    """Send and receive over a secured flow. Made by Preconnection.initiate(), a Listener, or clone()."""

    __slots__ = (
        "__weakref__",
        "_answerer",
        "_callbacks",
        "_chunks",
        "_closed_waiters",
        "_contexts",
        "_driver",
        "_end_read",
        "_error",
        "_flow",
        "_group",
        "_log",
        "_loop",
        "_next_token",
        "_on_session",
        "_owner",
        "_preconnection",
        "_ready",
        "_receiver",
        "_sender",
        "_since_yield",
        "_size",
        "_spare",
        "_stack",
        "local_endpoint",
        "phases",
        "properties",
        "remote_endpoint",
        "state",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stack: SecurityStack,
        log: SecurityLog,
        answerer: Answerer,
        *,
        flow: FlowId = 0,
        group: Flows[Any] | None = None,
    ) -> None:
        self._loop = loop
        self._stack = stack
        self._log = log
        self._answerer = answerer
        self._flow = flow
        self._group = group  # None: the only flow of its stack
        self._driver = Driver(loop, stack, self._handle) if group is None else group.driver
        self._chunks: list[Buffer] = []
        self._size = 0
        self._end_read = False
        self._error: Exception | None = None
        self._receiver: Waiter | None = None
        self._spare = Waiter(loop)  # for receive(), which waits more often than all others
        self._sender: Waiter | None = None
        self._ready: Waiter | None = None
        self._closed_waiters: list[Waiter] | None = None
        self._callbacks: Callbacks | None = None
        self._contexts: dict[int, MessageContext] | None = None
        self._next_token = 0
        self._since_yield = 0
        self._on_session: Callable[[object], None] | None = None
        self._owner: Owner | None = None
        self._preconnection: Preconnection | None = None
        self.state = ConnectionState.ESTABLISHING
        self.local_endpoint: tuple[str, int] | None = None
        self.remote_endpoint: tuple[str, int] | None = None
        self.properties: Any = None
        self.phases: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._log.report().stack} {self.remote_endpoint} {self.state.value}>"

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            self.abort()

    # -- sending (RFC 9622 §9.2) ----------------------------------------------------------------------------------
    async def send(
        self,
        data: Buffer | Sequence[Buffer],
        context: MessageContext | None = None,
        *,
        final: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Send octets, or several messages in one call; waits only while too much is queued.

        `bytes` are referenced, not copied; they go out at the end of this turn of the loop. `final` ends our sending
        (half close). `timeout`: seconds to wait for room; TimeoutError leaves the connection as it was, and nothing
        of this call sent. Raises LocalError after the end of sending, or what ended the connection.
        """
        if type(data) is bytes and context is None and not final and self.state is _ESTABLISHED:
            driver, stack = self._driver, self._stack
            if stack.send(self._flow, (data,), DEFAULT_SEND_OPTIONS, driver.clock()):
                if stack.pending >= PUMP_AT:
                    await self._pump()
                elif not driver.will_pump:
                    driver.schedule()
                return
        await self._send_slowly(data, context, final=final, timeout=timeout)

    async def _send_slowly(
        self, data: Buffer | Sequence[Buffer], context: MessageContext | None, *, final: bool, timeout: float | None
    ) -> None:
        """All that send() may be asked for, and the waiting for room."""
        chunks = freeze(data)
        options = DEFAULT_SEND_OPTIONS
        if final or context is not None or self.state is not _ESTABLISHED:
            options = self._send_options(context, final=final)
        taken = self._stack.send(self._flow, chunks, options, self._driver.clock())
        if not taken and not options.end and any(map(len, chunks)):
            async with asyncio.timeout(timeout):
                await self._send_blocked(chunks, options)
        if self._stack.pending >= PUMP_AT:
            await self._pump()
        else:
            self._driver.schedule()

    async def _pump(self) -> None:
        """Enough waits to be worth the socket's while; from time to time others have their turn."""
        self._driver.pump()
        self._since_yield += PUMP_AT
        if self._since_yield > YIELD_AT:
            self._since_yield = 0
            await asyncio.sleep(0)

    def try_send(self, data: bytes, *, final: bool = False) -> bool:
        """Send without waiting; False: nothing was taken, and `callbacks.on_writable` says when to go on."""
        options = self._send_options(None, final=final) if final else DEFAULT_SEND_OPTIONS
        taken = self._stack.send(self._flow, (data,), options, self._loop.time())
        if self._stack.pending < PUMP_AT:
            self._driver.schedule()
        else:
            self._driver.pump()
        return bool(taken) or not data

    async def _send_blocked(self, chunks: Sequence[Buffer], options: SendOptions) -> int:
        while True:
            self._driver.pump()
            if self._error is not None or self.state is ConnectionState.CLOSED:
                raise self._error or LocalError("send(): the connection is closed")
            taken = self._stack.send(self._flow, chunks, options, self._loop.time())
            if taken:
                return taken
            if self._sender is not None:
                raise LocalError("send(): another send() is waiting for room; await one at a time")
            self._sender = Waiter(self._loop)
            try:
                await self._sender
            finally:
                self._sender = None

    def _send_options(self, context: MessageContext | None, *, final: bool) -> SendOptions:
        if self.state is not ConnectionState.ESTABLISHED:
            raise self._error or LocalError(f"send(): the connection is {self.state.value}")
        token = 0
        if context is not None:
            final = final or context.final
            token = self._next_token = self._next_token + 1
            if self._contexts is None:
                self._contexts = {}
            self._contexts[token] = context
        return SendOptions(token=token, end=final)

    # -- receiving (RFC 9622 §9.3) --------------------------------------------------------------------------------
    async def receive(
        self, *, min_incomplete_length: int = 1, max_length: int | None = None, timeout: float | None = None
    ) -> Message:
        """The next octets as `bytes`: at least `min_incomplete_length`, at most `max_length`.

        A byte stream is one message of unknown length, received in parts; the last part, which may be empty, says
        `end_of_message`. Raises what ended the connection (ConnectionLost with Reason.TRUNCATED when the peer's end
        is not authentic) after everything that came before it was received; TimeoutError after `timeout` seconds.
        """
        if self._size < min_incomplete_length and not self._end_read:
            if timeout is None and min_incomplete_length == 1 and self._receiver is None and self.state is not _CLOSED:
                self._receiver = waiter = self._spare.again()  # the usual case, without a coroutine of its own
                try:
                    await waiter
                finally:
                    self._receiver = None
            if self._size < min_incomplete_length and not self._end_read:
                async with asyncio.timeout(timeout):
                    await self._wait_for(min_incomplete_length)
        chunks = self._chunks
        if max_length is not None and self._size > max_length:
            data = take(chunks, max_length)
            self._size -= max_length
        else:
            data = bytes(chunks.pop()) if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self._size = 0
        self._stack.consumed(self._flow, len(data), self._driver.clock())
        if self._driver.paused:
            self._driver.resume()
        elif self._stack.pending:
            self._driver.schedule()  # a peer's window that opened is to be told
        return Message(data, self, self._end_read and not self._size)

    def take_received(self) -> Message | None:
        """What is there now, as one Message, or None: for callbacks and adapters that never wait."""
        if not self._size and not self._end_read:
            return None
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        self._consumed(len(data))
        return Message(data, self, self._end_read)

    async def receive_views(self) -> list[Buffer]:
        """All octets that are there, without a copy where that is possible; an empty list at the end.

        Views are lent: the library reads into other memory for as long as they (or slices of them) are kept.
        """
        if not self._size and not self._end_read:
            await self._wait_for(1)
        chunks, self._chunks = self._chunks, []
        size, self._size = self._size, 0
        self._consumed(size)
        return chunks

    async def _wait_for(self, octets: int) -> None:
        if self._receiver is not None:
            raise LocalError("receive(): another receive() is waiting; await one at a time")
        while self._size < octets and not self._end_read:
            if self.state is ConnectionState.CLOSED:
                break
            if octets > 1:
                self._consumed(0)
            self._receiver = receiver = Waiter(self._loop)
            try:
                await receiver
            finally:
                self._receiver = None
        if not self._size and not self._end_read:
            raise self._error or LocalError("receive(): the connection is closed")

    def _consumed(self, octets: int) -> None:
        self._stack.consumed(self._flow, octets, self._driver.clock())
        if self._driver.paused:
            self._driver.resume()
        elif self._stack.pending:
            self._driver.schedule()

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        if not self._size and not self._end_read and self._receiver is None and self.state is not _CLOSED:
            self._receiver = waiter = self._spare.again()  # as in receive(), without a coroutine of its own
            try:
                await waiter
            finally:
                self._receiver = None
        message = self.take_received()
        if message is None:
            message = await self.receive()
        if not message.data:
            raise StopAsyncIteration
        return message

    # -- keys and security ----------------------------------------------------------------------------------------
    @property
    def security(self) -> SecurityReport:
        """What protects this connection: protocol, version, algorithms, peer, properties, keys."""
        return self._log.report()

    @property
    def security_events(self) -> tuple[SecurityEvent, ...]:
        """The security events so far, oldest first (the newest 64)."""
        return tuple(event for _, event in self._log.events)

    async def update_keys(self) -> None:
        """Fresh keys for both directions. Raises LocalError where the protocol has no key update."""
        self._stack.update_keys(self._loop.time())
        self._driver.pump()

    def export_secret(self, label: str | bytes, context: bytes | None = None, length: int = 32) -> bytes:
        """`length` octets that only the two ends of this connection can derive (RFC 8446 §7.5).

        Raises LocalError where the protocol has no exporter.
        """
        octets = label.encode() if isinstance(label, str) else label
        return self._stack.export_secret(octets, context, length)

    # -- state and properties (RFC 9622 §8.1.11) ------------------------------------------------------------------
    @property
    def can_send(self) -> bool:
        """False after a final message, or once the connection ends."""
        return self.state is ConnectionState.ESTABLISHED

    @property
    def can_receive(self) -> bool:
        """False once everything up to the peer's end was received."""
        return bool(self._size) or (self.state is ConnectionState.ESTABLISHED and not self._end_read)

    @property
    def tunnel(self) -> Tunnel | None:
        """The local end that this flow goes through, where its stack carries inner packets."""
        return None

    @property
    def send_msg_max_len(self) -> int:
        """The largest message that send() takes now, in octets; 0: a stream, no limit (RFC 9622 §8.1.11.4)."""
        return self._stack.message_limit(self._flow)

    @property
    def callbacks(self) -> Callbacks:
        """`on_ready`, `on_received` ... for those who prefer events to awaiting."""
        if self._callbacks is None:
            self._callbacks = Callbacks(self, self._loop)
        return self._callbacks

    async def clone(self, *, timeout: float | None = None) -> Connection:
        """A further connection to the same peer with the same properties (RFC 9622 §7.4).

        Opens a new, where possible resumed, transport connection. Raises LocalError on connections of a listener.
        """
        if self._preconnection is None:
            raise LocalError("clone(): this connection was accepted, not initiated", reason=Reason.NOT_CLONEABLE)
        return await self._preconnection.initiate(timeout=timeout)

    async def migrate(self, local: LocalEndpoint | None = None) -> None:
        """Go on from another local address; None: the one that the system would choose now. Nothing is lost by it.

        Raises LocalError where the protocol cannot move, or where the socket is shared with others; OSError if the
        address cannot be bound.
        """
        from .establish import move  # noqa: PLC0415 -- few move

        move(self._loop, self, local)

    # -- ends (RFC 9622 §10) --------------------------------------------------------------------------------------
    async def close(self) -> None:
        """Send what is queued, end in the protocol's words, and wait until both sides have. Never raises."""
        if self.state is ConnectionState.CLOSED:
            return
        if self.state is not ConnectionState.CLOSING:
            self.state = ConnectionState.CLOSING
            self._chunks.clear()
            self._size = 0
            self._stack.close(self._loop.time())
            self._driver.pump()
            self._driver.resume()
        if self.state is ConnectionState.CLOSING:
            await self.wait_closed()

    async def wait_closed(self) -> None:
        """Until the connection has ended, whoever ended it."""
        if self.state is ConnectionState.CLOSED:
            return
        waiter = Waiter(self._loop)
        if self._closed_waiters is None:
            self._closed_waiters = []
        self._closed_waiters.append(waiter)
        try:
            await waiter
        finally:
            if self._closed_waiters and waiter in self._closed_waiters:
                self._closed_waiters.remove(waiter)

    def abort(self, error: Exception | None = None) -> None:
        """End at once; what is queued is dropped, the transport is reset."""
        if self.state is not ConnectionState.CLOSED:
            self.state = ConnectionState.CLOSING  # Closed follows at once, or when the driver is done with this turn
            self._stack.abort(error, self._loop.time())
            self._driver.pump()

    @property
    def error(self) -> Exception | None:
        """What ended the connection, or None."""
        return self._error

    # -- for establish, listener and group -----------------------------------------------------------------------
    @property
    def flow(self) -> FlowId:
        """The number of this flow in its stack."""
        return self._flow

    @property
    def driver(self) -> Driver:
        """The driver of the stack that this flow belongs to."""
        return self._driver

    def belong_to(self, owner: Owner) -> None:
        """`owner` hears when the handshake is complete and when the connection is over."""
        self._owner = owner

    def initiated_by(self, preconnection: Preconnection, on_session: Callable[[object], None] | None) -> None:
        """What clone() repeats, and who keeps the sessions that the peer offers."""
        self._preconnection = preconnection
        self._on_session = on_session

    def keep_sessions(self, on_session: Callable[[object], None]) -> None:
        """Who keeps the sessions of an accepted connection."""
        self._on_session = on_session

    def ready_waiter(self) -> Waiter:
        """Woken when the handshake is complete, or when the connection ended instead."""
        self._ready = Waiter(self._loop)
        if self.state is not ConnectionState.ESTABLISHING:
            self._ready.wake()
        return self._ready

    # -- events of the stack --------------------------------------------------------------------------------------
    def _handle(self, event: StackEvent) -> None:
        if type(event) is not Received:
            getattr(self, self._HANDLERS.get(type(event), "_handle_security"))(event)
            return
        chunks, count = self._chunks, len(event.chunks)
        for chunk in event.chunks:
            chunks.append(chunk)
            self._size += len(chunk)
        event.chunks.clear()
        if event.end:
            self._end_read = True
        if self._receiver is not None:
            if self._driver.in_callback:
                self._receiver.wake_now()
            else:
                self._receiver.wake()
        elif self._callbacks is not None:
            self._callbacks.received()
        if self._chunks:
            keep(self._chunks, count)

    def _handle_security(self, event: SecurityEvent) -> None:
        self._log.add(self._loop.time(), event)
        if self._callbacks is not None:
            self._callbacks.security(event)

    def _handle_complete(self, event: HandshakeComplete) -> None:
        self._handle_security(event)
        self.state = ConnectionState.ESTABLISHED
        if self._ready is not None:
            self._ready.wake()
        if self._owner is not None:
            self._owner.established(self)
        if self._callbacks is not None:
            self._callbacks.ready()

    def _handle_moved(self, event: PeerMoved) -> None:
        self._handle_security(event)
        if self._group is None:
            self.remote_endpoint = self._driver.remote(event.new) or self.remote_endpoint

    def _handle_session(self, event: SessionReady) -> None:
        self._handle_security(event)
        if self._on_session is not None:
            self._on_session(event.session)

    def _handle_writable(self, event: FlowWritable) -> None:
        if self._sender is not None:
            self._sender.wake()
        elif self._callbacks is not None:
            self._callbacks.writable()

    def _handle_sent(self, event: FlowSent) -> None:
        context = self._contexts.pop(event.token, None) if self._contexts else None
        if self._callbacks is not None:
            self._callbacks.sent(context, event.error)

    def _handle_soft_error(self, event: SoftError) -> None:
        if self._callbacks is not None:
            self._callbacks.soft_error(event.error)

    def _handle_flow_closed(self, event: FlowClosed) -> None:
        self._end_read = True
        if self._receiver is not None:
            self._receiver.wake()

    def _handle_ask(self, event: Ask) -> None:
        self._answerer.ask(event, self._driver)

    def _handle_withdrawn(self, event: AskWithdrawn) -> None:
        self._answerer.withdraw(event.id)

    def _handle_terminated(self, event: Terminated) -> None:
        self._handle_security(event)
        error = event.error
        if event.how is CloseKind.CLEAN:
            self._end_read = True
        elif error is None and event.how is not CloseKind.SILENT:
            error = LocalError("the connection was aborted", reason=Reason.CONNECTION_ABORTED)
        self._answerer.close()
        self._over(error)

    def _over(self, error: Exception | None) -> None:
        """Nothing comes any more: wake everybody who waits."""
        self.state = ConnectionState.CLOSED
        self._error = error
        self._contexts = None
        if self._owner is not None:
            self._owner.ended(self)
        waiters: Iterable[Waiter | None] = (self._ready, self._receiver, self._sender, *(self._closed_waiters or ()))
        for waiter in waiters:
            if waiter is not None:
                waiter.wake()
        if self._callbacks is not None:
            self._callbacks.ended(self._error)

    _HANDLERS: ClassVar[dict[type, str]] = {
        HandshakeComplete: "_handle_complete",
        PeerMoved: "_handle_moved",
        SessionReady: "_handle_session",
        FlowWritable: "_handle_writable",
        FlowSent: "_handle_sent",
        FlowClosed: "_handle_flow_closed",
        SoftError: "_handle_soft_error",
        Ask: "_handle_ask",
        AskWithdrawn: "_handle_withdrawn",
        Terminated: "_handle_terminated",
    }
