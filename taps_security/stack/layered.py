"""Routes events between the parts of a stack, once for all stacks.

    handshake --KeyReady, KeyDiscarded--> record           record --KeyConfirmed, KeyExpiring, PeerMoved--> handshake
    every security event --> the application, without its secret

A stack of a shape (`stream`, or a room's own) brings the data path and says what becomes of a handshake message.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

from .asks import Ask, AskId, AskWithdrawn
from .errors import LocalError, Reason
from .events import (
    CloseKind,
    Direction,
    FlowId,
    FlowKind,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    PathId,
    PathNews,
    PathValidated,
    PeerAuthenticated,
    PeerMoved,
    RouteIssued,
    RouteRetired,
    SessionReady,
    StackEvent,
    Terminated,
)
from .layers import Handshake, HandshakeMessage, PathFacts, Record
from .stack import Linger


class LayeredStack:
    """Handshake and record, and the one place where they meet."""

    __slots__ = ("_asks", "_handshake", "_keys", "_record", "complete", "deadline", "ended", "events", "pending")

    def __init__(self, handshake: Handshake, record: Record) -> None:
        self.events: list[StackEvent] = []
        self.pending = 0
        self.deadline: float | None = None
        self.complete = False
        self.ended = False
        self._handshake = handshake
        self._record = record
        self._asks: tuple[AskId, ...] = ()  # tuples: an idle connection owns no table
        self._keys: tuple[KeyReady, ...] = ()  # those that are installed, as they were announced

    # -- what a shape brings --------------------------------------------------------------------------------------
    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        """Get a handshake message across."""
        raise AssertionError("a shape brings its own")

    # -- routing --------------------------------------------------------------------------------------------------
    def _route(self, now: float) -> None:
        """Carry events between handshake and record until both are silent."""
        handshake, record, routes = self._handshake, self._record, self._routes
        while not self.ended:  # nothing comes after Terminated
            silent = True
            while (output := handshake.next_output()) is not None:
                getattr(self, routes[type(output)])(output, now)
                silent = False
            while (event := record.next_event()) is not None:
                getattr(self, routes[type(event)])(event, now)
                silent = False
            if silent:
                return

    def _route_message(self, message: HandshakeMessage, now: float) -> None:
        self._queue_message(message, now)

    def _route_key_ready(self, event: KeyReady, now: float) -> None:
        self._record.import_key(event, now)
        announced = _announcement(event.key, event.direction, event.limits)
        self._keys += (announced,)
        self.events.append(announced)

    def _route_key_discarded(self, event: KeyDiscarded, now: float) -> None:
        self._record.discard_key(event)
        self._keys = tuple([one for one in self._keys if (one.key, one.direction) != (event.key, event.direction)])
        self.events.append(event)

    def _route_key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        self.events.append(event)
        self._handshake.key_confirmed(event, now)

    def _route_key_expiring(self, event: KeyExpiring, now: float) -> None:
        self.events.append(event)
        self._handshake.key_expiring(event, now)

    def _route_peer_moved(self, event: PeerMoved, now: float) -> None:
        self.events.append(event)
        self._handshake.peer_moved(event, now)

    def _route_complete(self, event: HandshakeComplete, now: float) -> None:
        self.complete = True
        self.events.append(event)

    def _route_ask(self, event: Ask, now: float) -> None:
        self._asks += (event.id,)
        self.events.append(event)

    def _route_withdrawn(self, event: AskWithdrawn, now: float) -> None:
        self._asks = _without(event.id, self._asks)
        self.events.append(event)

    def _route_onwards(self, event: Any, now: float) -> None:
        self.events.append(event)

    _routes: ClassVar[dict[type, str]] = {
        HandshakeMessage: "_route_message",
        KeyReady: "_route_key_ready",
        KeyDiscarded: "_route_key_discarded",
        KeyConfirmed: "_route_key_confirmed",
        KeyExpiring: "_route_key_expiring",
        PeerMoved: "_route_peer_moved",
        HandshakeComplete: "_route_complete",
        Ask: "_route_ask",
        AskWithdrawn: "_route_withdrawn",
        PathValidated: "_route_onwards",
        PeerAuthenticated: "_route_onwards",
        SessionReady: "_route_onwards",
        HandshakeConfirmed: "_route_onwards",
        RouteIssued: "_route_onwards",
        RouteRetired: "_route_onwards",
    }

    # -- what most stacks answer alike ----------------------------------------------------------------------------
    def answer(self, ask: AskId, result: object, now: float) -> None:
        """The answer to an Ask, or `Refused`. Ignored when withdrawn, unknown or too late."""
        if ask in self._asks and not self.ended:
            self._asks = _without(ask, self._asks)
            self._handshake.answer(ask, result, now)
            self._route(now)

    def update_keys(self, now: float) -> None:
        """Fresh keys now. Raises LocalError where the protocol has none, or before the handshake is complete."""
        self._require_established("update_keys()")
        self._handshake.update_keys(now)
        self._route(now)

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Octets bound to this connection. Raises LocalError before the handshake is complete."""
        self._require_established("export_secret()")
        return self._handshake.export_secret(label, context, length)

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        """A further path. Stacks without mobility have no use for it."""

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        """News of a path. Stacks on byte streams have no use for it."""

    def sent(self, quoted: memoryview) -> bool:
        """No: a byte stream sends no datagrams. Stacks on datagrams bring their own."""
        return False

    def open_flow(self, kind: FlowKind, remote: object, now: float) -> FlowId | None:
        """Raises LocalError: this stack has one flow."""
        raise LocalError("this stack has a single flow; clone() opens a new connection", reason=Reason.NOT_SUPPORTED)

    def close_flow(self, flow: FlowId, now: float) -> None:
        """This stack has one flow, which ends with it."""
        self.close(now)

    def close(self, now: float) -> None:
        """End cleanly in the protocol's words."""
        raise AssertionError("a shape brings its own")

    def adopt(self, seed: object, path: PathId, now: float) -> None:
        """Nothing is handed over to this stack."""
        raise AssertionError("a screener that says HandOver has stacks that adopt")

    def import_key(self, ready: KeyReady, now: float) -> None:
        """Raises LocalError: this stack agrees its own keys."""
        raise LocalError("this stack agrees its own keys and takes none from outside", reason=Reason.NOT_SUPPORTED)

    def migrate(self, path: PathId, now: float) -> None:
        """Raises LocalError: this stack cannot move."""
        raise LocalError("this stack cannot move to another path", reason=Reason.NOT_SUPPORTED)

    def retire(self, now: float) -> Linger | None:
        """Nothing outlives this stack."""
        return None

    # -- for shapes -----------------------------------------------------------------------------------------------
    def _require_established(self, what: str) -> None:
        if self.ended:
            raise LocalError(f"{what}: the connection has ended")
        if not self.complete:
            raise LocalError(f"{what}: the handshake is not complete yet; wait for Ready")

    def _terminate(self, how: CloseKind, error: Exception | None) -> None:
        """Every end discards its keys; nothing comes after Terminated."""
        if self.ended:
            return
        self.ended = True
        for ask in self._asks:
            self.events.append(AskWithdrawn(ask))
        self._asks = ()
        for announced in self._keys:
            discarded = KeyDiscarded(announced.key, announced.direction)
            self._record.discard_key(discarded)
            self.events.append(discarded)
        self._keys = ()
        self.deadline = None
        self.events.append(Terminated(how, error))


@lru_cache(maxsize=64)
def _announcement(key: KeyId, direction: Direction, limits: tuple[Limit, ...]) -> KeyReady:
    """KeyReady without its secret: what all connections say alike is one object."""
    return KeyReady(key, direction, None, limits)


def _without(ask: AskId, asks: tuple[AskId, ...]) -> tuple[AskId, ...]:
    return tuple([one for one in asks if one != ask])
