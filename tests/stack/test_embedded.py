"""A stack inside a stack, with a child that does as it is told. A real one: tests/toys/test_satchel_simulated.py."""

from __future__ import annotations

from itertools import count

import pytest

from taps_security.stack.asks import Ask, AskWithdrawn, FindPsk, Refused
from taps_security.stack.embedded import Embedded
from taps_security.stack.errors import ConnectionLost, LocalError
from taps_security.stack.events import (
    CloseKind,
    Direction,
    HandshakeComplete,
    KeyId,
    KeyReady,
    PathNews,
    PeerAuthenticated,
    PeerMoved,
    Received,
    RouteIssued,
    SessionReady,
    Stage,
    Terminated,
)
from taps_security.stack.layers import PathFacts, Slab
from taps_security.stack.stack import Inbound, Transmit

FACTS = PathFacts(("127.0.0.1", 1), ("127.0.0.1", 2))


class Child:
    """Notes what it hears, and says what it is told to."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.pending = 0
        self.deadline: float | None = None
        self.heard: list[str] = []
        self.answers: list[tuple[int, object]] = []
        self.next: list[object] = []

    def __getattr__(self, name: str) -> object:
        def called(*arguments: object) -> object:
            self.heard.append(name)
            self.events.extend(self.next)
            self.next = []
            if name == "answer":
                self.answers.append((arguments[0], arguments[1]))  # type: ignore[arg-type]
            return {"receive": 5, "transmit": Transmit(1, 7), "export_secret": b"secret"}.get(name)

        return called


@pytest.fixture
def child() -> Child:
    return Child()


@pytest.fixture
def embedded(child: Child) -> Embedded:
    numbers = count(100)
    return Embedded(child, lambda: next(numbers))  # type: ignore[arg-type]


def test_octets_go_through(child: Child, embedded: Embedded) -> None:
    embedded.start(1, FACTS, 0.0)
    assert embedded.receive(Inbound(memoryview(b"12345"), 1), 0.0) == 5
    buffer = bytearray(10)
    assert embedded.transmit(Slab(buffer, memoryview(buffer)), 1, 0.0) == Transmit(1, 7)
    embedded.path_added(2, FACTS, 0.0)
    embedded.path_news(2, PathNews.MTU, 1200, 0.0)
    embedded.abort(None, 0.0)
    assert child.heard == ["start", "receive", "transmit", "path_added", "path_news", "abort"]
    assert embedded.export_secret(b"label", None, 6) == b"secret"
    child.pending = 3
    assert embedded.pending == 3


def test_what_concerns_the_parent_comes_out_and_the_rest_stays_inside(child: Child, embedded: Embedded) -> None:
    outside = [RouteIssued("r"), PeerAuthenticated("who"), SessionReady("s"), Received(0, [b"data"])]
    inside = [KeyReady(KeyId(Stage.APPLICATION), Direction.SEND), PeerMoved(1, 2), HandshakeComplete("summary")]
    child.next = [*inside, *outside]
    embedded.start(1, FACTS, 0.0)
    assert list(embedded.events) == outside
    assert embedded.complete == HandshakeComplete("summary")
    embedded.check()


def test_asks_get_numbers_of_the_parent(child: Child, embedded: Embedded) -> None:
    child.next = [Ask(1, FindPsk(b"a")), Ask(2, FindPsk(b"b"))]
    embedded.start(1, FACTS, 0.0)
    assert list(embedded.events) == [Ask(100, FindPsk(b"a")), Ask(101, FindPsk(b"b"))]
    embedded.events.clear()
    refused = Refused(LocalError("no"))
    assert embedded.answer(101, refused, 0.0)
    assert not embedded.answer(101, "twice", 0.0)
    assert not embedded.answer(7, "the parent's own", 0.0)
    assert child.answers == [(2, refused)]
    child.next = [AskWithdrawn(1), AskWithdrawn(2)]
    embedded.receive(Inbound(memoryview(b"x"), 1), 0.0)
    assert list(embedded.events) == [AskWithdrawn(100)]
    assert not embedded.answer(100, "too late", 0.0)


def test_the_deadline_is_the_childs_own(child: Child, embedded: Embedded) -> None:
    embedded.deadline_reached(5.0)
    child.deadline = 9.0
    embedded.deadline_reached(5.0)
    assert embedded.deadline == 9.0
    assert not child.heard
    embedded.deadline_reached(9.0)
    assert child.heard == ["deadline_reached"]


def test_a_child_that_ends_early_says_why(child: Child, embedded: Embedded) -> None:
    error = ConnectionLost("the peer is gone")
    child.next = [Terminated(CloseKind.ABORTED, error)]
    embedded.start(1, FACTS, 0.0)
    with pytest.raises(ConnectionLost, match="is gone"):
        embedded.check()
    embedded.ended = Terminated(CloseKind.CLEAN)
    with pytest.raises(ConnectionLost, match="ended early"):
        embedded.check()
    embedded.complete = HandshakeComplete(None)
    embedded.check()
