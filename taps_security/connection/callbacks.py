"""RFC 9622's events as callbacks, beside the awaiting forms. Exceptions go to the loop's exception handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..stack.events import SecurityEvent

if TYPE_CHECKING:
    from ..properties.messages import Message, MessageContext
    from .connection import Connection


class Callbacks:
    """Set any of the attributes; each is called in the loop, in the order of the events.

    on_ready(connection); on_received(connection, message); on_sent(connection, context);
    on_send_error(connection, context, error); on_writable(connection); on_security_event(connection, event);
    on_soft_error(connection, error), after which the connection goes on; on_closed(connection);
    on_connection_error(connection, error). With `on_received` set, nobody awaits receive().
    """

    __slots__ = (
        "_connection",
        "_loop",
        "_on_received",
        "on_closed",
        "on_connection_error",
        "on_ready",
        "on_security_event",
        "on_send_error",
        "on_sent",
        "on_soft_error",
        "on_writable",
    )

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self._on_received: Callable[[Connection, Message], None] | None = None
        self.on_ready: Callable[[Connection], None] | None = None
        self.on_sent: Callable[[Connection, MessageContext | None], None] | None = None
        self.on_send_error: Callable[[Connection, MessageContext | None, Exception], None] | None = None
        self.on_security_event: Callable[[Connection, SecurityEvent], None] | None = None
        self.on_soft_error: Callable[[Connection, Exception], None] | None = None
        self.on_writable: Callable[[Connection], None] | None = None
        self.on_closed: Callable[[Connection], None] | None = None
        self.on_connection_error: Callable[[Connection, Exception], None] | None = None

    @property
    def on_received(self) -> Callable[[Connection, Message], None] | None:
        """Called with each part as it comes; what is there already comes at the next turn of the loop."""
        return self._on_received

    @on_received.setter
    def on_received(self, callback: Callable[[Connection, Message], None] | None) -> None:
        self._on_received = callback
        if callback is not None:
            self._loop.call_soon(self.received)

    def received(self) -> None:
        """There are octets, messages, or the end of the stream."""
        connection = self._connection
        while self._on_received is not None and (message := connection.take_received()) is not None:
            self._call(self._on_received, message)
            if not connection.can_receive:
                return  # a stream would tell its end again and again

    def ready(self) -> None:
        """The handshake is complete."""
        self._call(self.on_ready)

    def sent(self, context: MessageContext | None, error: Exception | None) -> None:
        """A send is over."""
        if error is None:
            self._call(self.on_sent, context)
        else:
            self._call(self.on_send_error, context, error)

    def writable(self) -> None:
        """A try_send() that took nothing may go on."""
        self._call(self.on_writable)

    def soft_error(self, error: Exception) -> None:
        """The network said something of this flow."""
        self._call(self.on_soft_error, error)

    def security(self, event: SecurityEvent) -> None:
        """Something happened to keys, peers or paths."""
        self._call(self.on_security_event, event)

    def ended(self, error: Exception | None) -> None:
        """Nothing comes after this."""
        if error is None:
            self._call(self.on_closed)
        else:
            self._call(self.on_connection_error, error)

    def _call(self, callback: Callable[..., Any] | None, *arguments: object) -> None:
        if callback is None:
            return
        try:
            callback(self._connection, *arguments)
        except Exception as error:  # the loop's handler is where callbacks' errors go
            self._loop.call_exception_handler(
                {"message": "a callback of a Connection failed", "exception": error, "connection": self._connection}
            )
