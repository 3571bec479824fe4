"""The events of a record layer."""

from __future__ import annotations

from taps_security.stack.events import KeyConfirmed, KeyId, PeerMoved, Stage
from taps_security.stack.records import RecordEvents

CONFIRMED, MOVED = KeyConfirmed(KeyId(Stage.APPLICATION)), PeerMoved(1, 2)


def test_events_come_once_and_in_their_order() -> None:
    record = RecordEvents()
    assert not record.has_events
    assert record.next_event() is None
    record._report(CONFIRMED)
    record._report(MOVED)
    assert record.has_events
    assert record.next_event() is CONFIRMED
    assert record.has_events
    assert record.next_event() is MOVED
    assert not record.has_events
    assert record.next_event() is None


def test_an_idle_record_owns_no_queue() -> None:
    record = RecordEvents()
    record._report(CONFIRMED)
    record.next_event()
    assert record._events is None
