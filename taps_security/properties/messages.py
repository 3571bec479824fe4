"""Messages and their contexts (RFC 9622 §9)."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from ..stack.events import Buffer
from ..stack.frozen import frozen
from .words import boolean, closest, listed, refuse, seconds, whole

Endpoints = tuple[str, int]


@frozen(kw_only=True)
class MessageContext:
    """What goes with a message, or came with it. ConfigurationError names property, value and expectation.

    Set by the sender (RFC 9622 §9.1.3): `final`: nothing is sent behind this message. `safely_replayable`: it may be
    delivered more than once, so it may go as early data. `msg_lifetime`: seconds after which it need not be sent any
    more; None: for ever. A byte stream sends what it took, so there it bounds the waiting for room. `msg_priority`:
    0 is the most urgent; a byte stream keeps its order.

    Told of received messages (§9.3.3): `early`, `final`, `local_endpoint`, `remote_endpoint`.
    """

    final: bool = False
    safely_replayable: bool = False
    msg_lifetime: float | None = None
    msg_priority: int = 100
    early: bool = False
    local_endpoint: Endpoints | None = None
    remote_endpoint: Endpoints | None = None

    def __post_init__(self) -> None:
        boolean("final", self.final)
        boolean("safely_replayable", self.safely_replayable)
        seconds("msg_lifetime", self.msg_lifetime)
        whole("msg_priority", self.msg_priority, 0, (1 << 31) - 1)

    def replace(self, **changes: Any) -> MessageContext:
        """A copy with other values; the same checks."""
        for name in changes:
            if name not in _NAMES:
                refuse("MessageContext", name, f"one of {listed(_NAMES)}{closest(name, _NAMES)}")
        return dataclasses.replace(self, **changes)


_NAMES = tuple(entry.name for entry in dataclasses.fields(MessageContext))


class _Source(Protocol):
    """The connection that a message came by."""

    local_endpoint: Endpoints | None
    remote_endpoint: Endpoints | None


class Message:
    """A received message, or a part of one: `data`, and whether it is the end. Its context is made when asked for."""

    __slots__ = ("_source", "data", "early", "end_of_message")

    def __init__(self, data: Buffer, source: _Source, end_of_message: bool = True, early: bool = False) -> None:
        self.data = data
        self.end_of_message = end_of_message
        self.early = early
        self._source = source

    @property
    def context(self) -> MessageContext:
        """Where it came from, and how (RFC 9622 §9.3.3)."""
        return MessageContext(
            final=self.end_of_message,
            early=self.early,
            local_endpoint=self._source.local_endpoint,
            remote_endpoint=self._source.remote_endpoint,
        )

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __repr__(self) -> str:
        return f"<Message of {len(self.data)} octets{', end' if self.end_of_message else ''}>"
