"""What a connection's security did, kept as it happens and told as data.

A report has the words that the command and other programs rely on: `stack`, `version`, `algorithms`, `peer`,
`provides`, `keys`, `resumed`, `early_data`, `alpn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from ..stack.events import (
    Direction,
    HandshakeComplete,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    PeerAuthenticated,
    SecurityEvent,
    Terminated,
)
from ..stack.frozen import frozen

_NO_UPDATES = (0, 0)
_NO_SUMMARY: Mapping[str, Any] = MappingProxyType({})
HISTORY = 64  # events kept per connection; the newest stay

_NAMES: dict[type, str] = {
    KeyReady: "ready",
    KeyConfirmed: "confirmed",
    KeyDiscarded: "discarded",
    KeyExpiring: "expiring",
}


@frozen
class KeyRecord:
    """One thing that happened to one key. `time`: seconds of the loop's clock."""

    time: float
    event: str  # ready, confirmed, expiring, discarded
    key: KeyId
    direction: Direction | None
    limits: tuple[Limit, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The record with the words of the command's JSON."""
        return {
            "time": self.time,
            "event": self.event,
            "stage": self.key.stage.name.lower(),
            "generation": self.key.generation,
            "direction": self.direction.value if self.direction else None,
            "limits": [{"kind": limit.kind.value, "soft": limit.soft, "hard": limit.hard} for limit in self.limits],
        }


@frozen
class EventRecord:
    """A security event and when it came. `time`: seconds of the loop's clock."""

    time: float
    event: SecurityEvent

    def as_json(self) -> dict[str, Any]:
        """The record with the words of the command's JSON: `time`, `event` (its type's name), `detail`."""
        return {"time": self.time, "event": type(self.event).__name__, "detail": _detail(self.event)}


def peer_text(peer: object) -> str:
    """An authenticated identity as text: what a certificate says, or the name of a pre-shared key."""
    return peer.decode("utf-8", "backslashreplace") if isinstance(peer, bytes) else str(peer)


def _detail(event: SecurityEvent) -> str:
    if isinstance(event, KeyReady | KeyConfirmed | KeyDiscarded | KeyExpiring):
        direction = getattr(event, "direction", None)
        words = [event.key.stage.name.lower(), str(event.key.generation), direction.value if direction else ""]
        return " ".join(filter(None, words)) + (f": {event.limit.value}" if isinstance(event, KeyExpiring) else "")
    if isinstance(event, PeerAuthenticated):
        return peer_text(event.identity)
    if isinstance(event, Terminated):
        return event.how.value if event.error is None else f"{event.how.value}: {event.error}"
    return ""


@frozen
class SecurityReport:
    """What protects a connection now."""

    stack: str
    version: str
    algorithms: Mapping[str, str]
    peer: object  # the authenticated identity, or None
    provides: Mapping[str, bool]  # security property -> whether it holds
    keys: tuple[KeyRecord, ...]
    resumed: bool
    early_data: bool
    alpn: str | None
    epoch: tuple[int, int] = (0, 0)  # the newest (send, receive) key generations
    details: Mapping[str, object] = field(default_factory=dict)  # whatever else the handshake agreed
    events: tuple[EventRecord, ...] = ()  # the newest 64, oldest first

    def as_json(self) -> dict[str, Any]:
        """The report with the words of the command's JSON."""
        return {
            "stack": self.stack,
            "version": self.version,
            "algorithms": dict(self.algorithms),
            "peer": None if self.peer is None else peer_text(self.peer),
            "provides": dict(self.provides),
            "keys": [record.as_json() for record in self.keys],
            "resumed": self.resumed,
            "early_data": self.early_data,
            "alpn": self.alpn,
        }


class SecurityLog:
    """Collects the security events of one stack."""

    __slots__ = ("_entries", "_provides", "_stack", "_version", "epoch", "peer", "summary")

    def __init__(self, stack: str, version: str, provides: Mapping[str, bool]) -> None:
        self._stack = stack
        self._version = version
        self._provides = provides
        self.epoch = _NO_UPDATES  # kept apart: the events behind it may be forgotten
        self._entries: tuple[Any, ...] = ()  # time, event, time, event ...: every idle connection has one
        self.peer: object = None
        self.summary: Mapping[str, Any] = _NO_SUMMARY

    def add(self, time: float, event: SecurityEvent) -> None:
        """Remember an event."""
        if type(event) is PeerAuthenticated:
            self.peer = event.identity
        elif type(event) is HandshakeComplete and isinstance(event.summary, Mapping):
            self.summary = event.summary
        elif type(event) is KeyReady and event.key.generation:
            send, receive = self.epoch
            if event.direction is Direction.SEND:
                self.epoch = (event.key.generation, receive)
            else:
                self.epoch = (send, event.key.generation)
        entries = self._entries
        if entries and entries[-2] == time:
            time = entries[-2]  # the same object: events come in flocks
        self._entries = (*entries[-2 * (HISTORY - 1) :], time, event)

    @property
    def events(self) -> tuple[tuple[float, SecurityEvent], ...]:
        """The newest events, oldest first, each behind its time."""
        return tuple(zip(self._entries[::2], self._entries[1::2], strict=True))

    def key_records(self) -> tuple[KeyRecord, ...]:
        """What happened to the keys, oldest first."""
        records = []
        for time, event in self.events:
            if isinstance(event, KeyReady | KeyConfirmed | KeyDiscarded | KeyExpiring):
                limits = event.limits if isinstance(event, KeyReady) else ()
                direction = getattr(event, "direction", None)
                records.append(KeyRecord(time, _NAMES[type(event)], event.key, direction, limits))
        return tuple(records)

    def report(self) -> SecurityReport:
        """The state now."""
        summary = dict(self.summary)
        outcome = summary.pop("provides", {})  # what only the handshake decided
        return SecurityReport(
            stack=self._stack,
            version=str(summary.pop("version", self._version)),
            algorithms=summary.pop("algorithms", {}),
            peer=self.peer,
            provides={**self._provides, **outcome},
            keys=self.key_records(),
            resumed=bool(summary.pop("resumed", False)),
            early_data=bool(summary.pop("early_data", False)),
            alpn=summary.pop("alpn", None),
            epoch=self.epoch,
            details=summary,
            events=tuple(EventRecord(time, event) for time, event in self.events),
        )
