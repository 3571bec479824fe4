"""What every record layer does alike: it keeps what the handshake must hear until somebody asks."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from .events import KeyConfirmed, KeyExpiring, PeerMoved

RecordEvent: TypeAlias = KeyConfirmed | KeyExpiring | PeerMoved


class RecordEvents:
    """The events of one record, oldest first. An idle connection owns no queue."""

    __slots__ = ("_events", "has_events")

    def __init__(self) -> None:
        self._events: deque[RecordEvent] | None = None
        self.has_events = False

    def next_event(self) -> RecordEvent | None:
        """What the handshake must hear: a key's first opening, its limits, a peer that moved."""
        events = self._events
        if events is None:
            return None
        event = events.popleft()
        if not events:
            self._events = None
            self.has_events = False
        return event

    def _report(self, event: RecordEvent) -> None:
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        self.has_events = True
