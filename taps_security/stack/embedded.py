"""A stack inside a stack: DTLS in SRTP, TLS in EAP-TLS.

The parent pumps the child's octets, asks and deadline, and takes an exported secret from it once it is complete:

    parent's receive   --what is the child's-->  child.receive      child's events --asks, routes, identity--> parent
    parent's transmit  <--child's datagrams----  child.transmit     child's keys, paths and data stay inside

The child's asks get numbers of the parent's, so that both may ask at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .asks import Ask, AskId, AskWithdrawn
from .errors import ConnectionLost, Reason
from .events import (
    HandshakeComplete,
    PathId,
    PathNews,
    PeerAuthenticated,
    Received,
    RouteIssued,
    RouteRetired,
    SessionReady,
    Terminated,
)
from .layers import PathFacts, Slab
from .stack import Inbound, SecurityStack, Transmit

ChildEvent: TypeAlias = Ask | AskWithdrawn | PeerAuthenticated | SessionReady | RouteIssued | RouteRetired | Received


class Embedded:
    """Runs a child for its parent. After each call: take `events`, then look at `complete` and `ended`."""

    def __init__(self, child: SecurityStack, next_ask: Callable[[], AskId]) -> None:
        self.events: list[ChildEvent] = []  # what concerns the parent; data too, where a child carries any
        self.complete: HandshakeComplete | None = None
        self.ended: Terminated | None = None
        self._child = child
        self._next_ask = next_ask
        self._asks: dict[AskId, AskId] = {}  # the parent's numbers -> the child's

    @property
    def pending(self) -> int:
        """What the child waits to transmit."""
        return self._child.pending

    @property
    def deadline(self) -> float | None:
        """When deadline_reached() is due."""
        return self._child.deadline

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        """There is a path, or the parent's first message has come."""
        self._child.start(path, facts, now)
        self._drain()

    def receive(self, inbound: Inbound, now: float) -> int:
        """Octets consumed of what is the child's."""
        consumed = self._child.receive(inbound, now)
        self._drain()
        return consumed

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        """A further path to the peer."""
        self._child.path_added(path, facts, now)
        self._drain()

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        """What the network says of a path."""
        self._child.path_news(path, news, value, now)
        self._drain()

    def sent(self, quoted: memoryview) -> bool:
        """Whether the child may have sent a datagram that begins so."""
        return self._child.sent(quoted)

    def answer(self, ask: AskId, result: object, now: float) -> bool:
        """The answer to an ask. False: it was not the child's."""
        number = self._asks.pop(ask, None)
        if number is None:
            return False
        self._child.answer(number, result, now)
        self._drain()
        return True

    def deadline_reached(self, now: float) -> None:
        """Time has come to the parent's deadline: the child looks whether it was its own."""
        due = self._child.deadline
        if due is not None and due <= now:
            self._child.deadline_reached(now)
            self._drain()

    def abort(self, error: Exception | None, now: float) -> None:
        """The parent ends: the child says so in its own words, if it has any."""
        self._child.abort(error, now)
        self._drain()

    # -- output ---------------------------------------------------------------------------------------------------
    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        """The child's next output."""
        out = self._child.transmit(slab, datagrams, now)
        self._drain()
        return out

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """What the parent makes its keys of. Raises LocalError before the child is complete."""
        return self._child.export_secret(label, context, length)

    def check(self) -> None:
        """Raise what ended the child before it was complete."""
        if self.ended is not None and self.complete is None:
            raise self.ended.error or ConnectionLost("the inner handshake ended early", reason=Reason.TRUNCATED)

    def _drain(self) -> None:
        events = self._child.events
        while events:
            event = events.pop(0)
            if isinstance(event, Ask):
                number = self._next_ask()
                self._asks[number] = event.id
                self.events.append(Ask(number, event.request))
            elif isinstance(event, AskWithdrawn):
                for number in [number for number, inner in self._asks.items() if inner == event.id]:
                    del self._asks[number]
                    self.events.append(AskWithdrawn(number))
            elif isinstance(event, HandshakeComplete):
                self.complete = event
            elif isinstance(event, Terminated):
                self.ended = event
            elif isinstance(event, PeerAuthenticated | SessionReady | RouteIssued | RouteRetired | Received):
                self.events.append(event)
