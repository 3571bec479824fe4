from __future__ import annotations

from collections import deque

import pytest

from taps_security.stack.asks import Ask, AskWithdrawn, FindPsk
from taps_security.stack.errors import LocalError, Reason
from taps_security.stack.events import (
    CloseKind,
    Direction,
    FlowKind,
    HandshakeComplete,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    LimitKind,
    PathNews,
    PathValidated,
    PeerMoved,
    RouteIssued,
    RouteRetired,
    Stage,
    Terminated,
)
from taps_security.stack.layered import LayeredStack
from taps_security.stack.layers import HandshakeMessage
from tests.stack.null import FACTS, NullSecret

KEY = KeyId(Stage.APPLICATION)
READY = KeyReady(KEY, Direction.SEND, NullSecret())


class Part:
    """A handshake or a record that only says what it was told to say, and notes what it heard."""

    def __init__(self) -> None:
        self.door: deque[object] = deque()
        self.heard: list[tuple[object, ...]] = []
        self.deadline = None

    def next_output(self) -> object:
        return self.door.popleft() if self.door else None

    next_event = next_output

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: self.heard.append((name, *arguments))


class Shape(LayeredStack):
    def __init__(self) -> None:
        self.handshake, self.record, self.queued = Part(), Part(), []
        super().__init__(self.handshake, self.record)  # type: ignore[arg-type]

    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        self.queued.append(message)

    def say(self, *events: object, record: bool = False) -> list[object]:
        (self.record if record else self.handshake).door.extend(events)
        self._route(1.0)
        told = list(self.events)
        self.events.clear()
        return told


def test_keys_go_to_the_record_with_their_secret_and_to_the_application_without() -> None:
    stack = Shape()
    told = stack.say(READY, KeyDiscarded(KEY, Direction.SEND))
    assert stack.record.heard == [("import_key", READY, 1.0), ("discard_key", KeyDiscarded(KEY, Direction.SEND))]
    assert told == [KeyReady(KEY, Direction.SEND, None), KeyDiscarded(KEY, Direction.SEND)]


@pytest.mark.parametrize(
    ("event", "method"),
    [
        (KeyConfirmed(KEY), "key_confirmed"),
        (KeyExpiring(KEY, Direction.SEND, LimitKind.PACKETS), "key_expiring"),
        (PeerMoved(0, 1), "peer_moved"),
    ],
)
def test_what_the_record_sees_goes_to_the_handshake(event: object, method: str) -> None:
    stack = Shape()
    assert stack.say(event, record=True) == [event]
    assert stack.handshake.heard == [(method, event, 1.0)]


def test_messages_keep_their_place_among_keys() -> None:
    stack = Shape()
    stack._record.import_key = lambda ready, now: stack.queued.append(ready.key)  # type: ignore[method-assign]
    message = HandshakeMessage(KEY, b"x")
    stack.say(READY, message)
    assert stack.queued == [KEY, message]


def test_the_rest_goes_to_the_application() -> None:
    stack = Shape()
    events = [PathValidated(1, True), RouteIssued(b"id"), RouteRetired(b"id"), HandshakeComplete({})]
    assert stack.say(*events) == events
    assert stack.complete


def test_an_answer_counts_once_and_only_while_it_is_wanted() -> None:
    stack = Shape()
    stack.say(Ask(1, FindPsk(b"a")), Ask(2, FindPsk(b"b")), AskWithdrawn(2))
    for ask in (1, 1, 2, 3):
        stack.answer(ask, "key", 2.0)
    assert stack.handshake.heard == [("answer", 1, "key", 2.0)]


def test_the_end_withdraws_asks_discards_keys_and_is_the_last_word() -> None:
    stack = Shape()
    stack.say(Ask(1, FindPsk(b"a")), READY)
    stack._terminate(CloseKind.SILENT, None)
    stack._terminate(CloseKind.RESET, None)
    discarded = KeyDiscarded(KEY, Direction.SEND)
    assert list(stack.events) == [AskWithdrawn(1), discarded, Terminated(CloseKind.SILENT, None)]
    assert stack.record.heard[-1] == ("discard_key", discarded)
    stack.events.clear()
    assert not stack.say(KeyConfirmed(KEY), record=True)
    stack.answer(1, "key", 2.0)
    assert not stack.handshake.heard


def test_before_and_after_its_time_nothing_is_exported_or_updated() -> None:
    stack = Shape()
    for _ in range(2):
        with pytest.raises(LocalError, match="export_secret"):
            stack.export_secret(b"l", None, 8)
        with pytest.raises(LocalError, match="update_keys"):
            stack.update_keys(0.0)
        stack._terminate(CloseKind.CLEAN, None)
    stack = Shape()
    stack.say(HandshakeComplete({}))
    stack.update_keys(3.0)
    stack.export_secret(b"l", None, 8)
    assert stack.handshake.heard == [("update_keys", 3.0), ("export_secret", b"l", None, 8)]


def test_what_the_shape_has_not_is_a_typed_local_error() -> None:
    stack = Shape()
    for call in (
        lambda: stack.open_flow(FlowKind.STREAM, None, 0.0),
        lambda: stack.import_key(READY, 0.0),
        lambda: stack.migrate(1, 0.0),
    ):
        with pytest.raises(LocalError) as caught:
            call()
        assert caught.value.reason is Reason.NOT_SUPPORTED
    stack.path_added(1, FACTS, 0.0)
    stack.path_news(1, PathNews.MTU, 1200, 0.0)
    assert stack.retire(0.0) is None
    assert not stack.events
