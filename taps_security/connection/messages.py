"""A Connection whose flow keeps message boundaries and nothing else: what comes may come twice, late, or never.

Each send() is a message, each receive() gives one. What waits for the application is bounded; more is dropped and
counted, as a full socket buffer would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..properties.messages import Message, MessageContext
from ..stack.errors import LocalError, Reason
from ..stack.events import Buffer, Received, StackEvent
from ..stack.stack import DEFAULT_SEND_OPTIONS, SendOptions
from .chunks import COPY_BELOW, freeze
from .connection import PUMP_AT, Connection
from .state import ConnectionState

WAITING = 4 * 1024 * 1024  # octets that wait for receive()
WAITING_ALWAYS = 64 * 1024  # octets that any connection may keep, however many there are
COUNTED_AT_LEAST = 64  # octets that any message counts for there

_ESTABLISHED, _CLOSED = ConnectionState.ESTABLISHED, ConnectionState.CLOSED


class MessageConnection(Connection):
    """A flow of messages (RFC 9622 §9). `dropped`: messages that came while too much waited already.

    send() takes one message, or several in one call: all of them or none. They go out at the end of this turn of the
    loop, many in one system call. `msg_lifetime` in its context: a message that was not sent by then is dropped. What
    is larger than `send_msg_max_len` raises LocalError with Reason.MESSAGE_TOO_LARGE, and the connection goes on.
    """

    __slots__ = ("dropped",)

    def __init__(self, *arguments: Any, **how: Any) -> None:
        super().__init__(*arguments, **how)
        self.dropped = 0

    # -- sending --------------------------------------------------------------------------------------------------
    async def _send_slowly(
        self, data: Buffer | Sequence[Buffer], context: MessageContext | None, *, final: bool, timeout: float | None
    ) -> None:
        chunks = freeze(data)
        if not chunks:
            return
        options = DEFAULT_SEND_OPTIONS
        if final or context is not None or self.state is not _ESTABLISHED:
            options = self._send_options(context, final=final)
        try:
            if not self._stack.send(self._flow, chunks, options, self._driver.clock()):
                async with asyncio.timeout(timeout):
                    await self._send_blocked(chunks, options)
        except BaseException:
            if self._contexts:
                self._contexts.pop(options.token, None)
            raise
        if self._stack.pending >= PUMP_AT:
            await self._pump()
        else:
            self._driver.schedule()

    def try_send(self, data: bytes, *, final: bool = False) -> bool:
        """Send one message without waiting; False: it was not taken, and `callbacks.on_writable` says when to go on."""
        options = self._send_options(None, final=final) if final else DEFAULT_SEND_OPTIONS
        taken = self._stack.send(self._flow, (data,), options, self._driver.clock())
        if self._stack.pending < PUMP_AT:
            self._driver.schedule()
        else:
            self._driver.pump()
        return bool(taken)

    def _send_options(self, context: MessageContext | None, *, final: bool) -> SendOptions:
        if final or (context is not None and context.final):
            raise LocalError("send(): messages without reliability have no final one", reason=Reason.NOT_SUPPORTED)
        options = super()._send_options(context, final=False)
        if context is not None and context.msg_lifetime is not None:
            options = options._replace(expires=self._driver.clock() + context.msg_lifetime)
        return options

    # -- receiving ------------------------------------------------------------------------------------------------
    async def receive(
        self, *, min_incomplete_length: int = 1, max_length: int | None = None, timeout: float | None = None
    ) -> Message:
        """The next message. Of one longer than `max_length` the rest comes with the next call.

        `min_incomplete_length` has no meaning here: a message is whole. Raises what ended the connection, and
        TimeoutError after `timeout` seconds.
        """
        if not self._chunks:
            await self._until_received(timeout)
        chunk = self._chunks[0]
        if max_length is not None and len(chunk) > max_length:
            view = memoryview(chunk)
            self._chunks[0] = view[max_length:]
            return Message(self._took(view[:max_length]), self, False)
        del self._chunks[0]
        self._size -= len(chunk)
        return Message(bytes(chunk), self)

    def _took(self, chunk: Buffer) -> bytes:
        self._size -= len(chunk)
        return bytes(chunk)

    async def _until_received(self, timeout: float | None = None) -> None:
        if self._receiver is not None:
            raise LocalError("receive(): another receive() is waiting; await one at a time")
        if timeout is not None:
            async with asyncio.timeout(timeout):
                await self._until_received()
            return
        while not self._chunks:
            if self.state is _CLOSED or self._end_read:
                raise self._error or LocalError("receive(): the connection is closed")
            self._receiver = receiver = self._spare.again()
            try:
                await receiver
            finally:
                self._receiver = None

    def take_received(self) -> Message | None:
        """The next message that is there now, or None."""
        if not self._chunks:
            return None
        return Message(self._took(self._chunks.pop(0)), self, True)

    async def receive_views(self) -> list[Buffer]:
        """All messages that are there, one view each, without a copy where that is possible.

        Views are lent: the library reads into other memory for as long as they are kept.
        """
        if not self._chunks:
            if self._receiver is None and self.state is not _CLOSED and not self._end_read:
                self._receiver = waiter = self._spare.again()  # the usual case, without a coroutine of its own
                try:
                    await waiter
                finally:
                    self._receiver = None
            if not self._chunks:
                await self._until_received()
        chunks, self._chunks = self._chunks, []
        self._size = 0
        return chunks

    async def __anext__(self) -> Message:
        if not self._chunks:
            try:
                await self._until_received()
            except LocalError:
                if self._receiver is None and self._error is None:
                    raise StopAsyncIteration from None  # closed, and not somebody else's wait
                raise
        chunk = self._chunks.pop(0)
        self._size -= len(chunk)
        return Message(bytes(chunk), self)

    @property
    def can_receive(self) -> bool:
        """False once the connection has ended and everything was received."""
        return bool(self._chunks) or self.state is _ESTABLISHED

    # -- events of the stack --------------------------------------------------------------------------------------
    def _handle(self, event: StackEvent) -> None:
        if type(event) is not Received:
            super()._handle(event)
            return
        chunks = event.chunks
        waiting = self._chunks
        kept = self._size + COUNTED_AT_LEAST * len(waiting)
        if kept > WAITING_ALWAYS and kept > self._may_wait():
            self.dropped += len(chunks)
            chunks.clear()
            return
        count = len(chunks)
        waiting += chunks
        self._size += len(chunks[0]) if count == 1 else sum(map(len, chunks))
        chunks.clear()
        if self._receiver is not None:
            if self._driver.in_callback:
                self._receiver.wake_now()
            else:
                self._receiver.wake()
        elif self._callbacks is not None:
            self._callbacks.received()
        if self._chunks:
            self._keep_newest(count)

    def _may_wait(self) -> int:
        """Octets that may wait for receive()."""
        return WAITING

    def _keep_newest(self, count: int) -> None:
        """Of what came last, nobody took this at once: see chunks.keep()."""
        chunks = self._chunks
        for index in range(max(0, len(chunks) - count), len(chunks)):
            chunk = chunks[index]
            if type(chunk) is memoryview and len(chunk) < COPY_BELOW:
                chunks[index] = bytes(chunk)
