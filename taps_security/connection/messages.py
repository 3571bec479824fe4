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
from .connection import PUMP_AT, Connection
from .state import ConnectionState

WAITING = 4 * 1024 * 1024  # octets that wait for receive()
COUNTED_AT_LEAST = 64  # octets that any message counts for there

_ESTABLISHED, _CLOSED = ConnectionState.ESTABLISHED, ConnectionState.CLOSED


class MessageConnection(Connection):
    """A flow of messages (RFC 9622 §9). `dropped`: messages that came while too much waited already."""

    __slots__ = ("dropped",)

    def __init__(self, *arguments: Any, **how: Any) -> None:
        super().__init__(*arguments, **how)
        self.dropped = 0

    # -- sending --------------------------------------------------------------------------------------------------
    async def send(
        self,
        data: Buffer | Sequence[Buffer],
        context: MessageContext | None = None,
        *,
        final: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Send one message, or several in one call; waits only while too much is queued.

        They go out at the end of this turn of the loop, many in one system call. `msg_lifetime` in `context`: a
        message that was not sent by then is dropped. Raises LocalError with Reason.MESSAGE_TOO_LARGE above
        `send_msg_max_len`, in which case none of this call was taken.
        """
        if type(data) is bytes and data and context is None and not final and self.state is _ESTABLISHED:
            driver, stack = self._driver, self._stack
            if stack.send(self._flow, (data,), DEFAULT_SEND_OPTIONS, driver.clock()):
                if stack.pending >= PUMP_AT:
                    await self._pump()
                elif not driver.will_pump:
                    driver.schedule()
                return
        elif final:
            raise LocalError("send(): messages without reliability have no final one", reason=Reason.NOT_SUPPORTED)
        await self._send_slowly(data, context, final=False, timeout=timeout)

    def _send_options(self, context: MessageContext | None, *, final: bool) -> SendOptions:
        options = super()._send_options(context, final=final)
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
        return Message(self._took(chunk), self, True)

    def _took(self, chunk: Buffer) -> bytes:
        self._size -= len(chunk)
        return bytes(chunk)

    async def _until_received(self, timeout: float | None) -> None:
        if self._receiver is not None:
            raise LocalError("receive(): another receive() is waiting; await one at a time")
        async with asyncio.timeout(timeout):
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
                await self._until_received(None)
        chunks, self._chunks = self._chunks, []
        self._size = 0
        return chunks

    async def __anext__(self) -> Message:
        if not self._chunks:
            try:
                await self._until_received(None)
            except LocalError:
                if self._error is None:
                    raise StopAsyncIteration from None
                raise
        return Message(self._took(self._chunks.pop(0)), self, True)

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
        if self._size + COUNTED_AT_LEAST * len(waiting) > WAITING:
            self.dropped += len(chunks)
            chunks.clear()
            return
        waiting += chunks
        for chunk in chunks:
            self._size += len(chunk)
        chunks.clear()
        if self._receiver is not None:
            if self._driver.in_callback:
                self._receiver.wake_now()
            else:
                self._receiver.wake()
        elif self._callbacks is not None:
            while self._chunks and self._callbacks.on_received is not None:
                self._callbacks.received()
        if self._chunks:
            self._keep()
