from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import pytest

from taps_security.connection import driver as module
from taps_security.connection.driver import Driver
from taps_security.stack.errors import Reason
from taps_security.stack.events import (
    CloseKind,
    CloseTransport,
    FlowWritable,
    PathNews,
    StackEvent,
    Terminated,
    TransportEnd,
)
from taps_security.stack.layers import PathFacts, Slab
from taps_security.stack.stack import Inbound, Transmit
from taps_security.transport.buffers import shared_buffers

FACTS = PathFacts(("127.0.0.1", 1), ("127.0.0.1", 2), reliable=True)
CLEAN, ABORTED = Terminated(CloseKind.CLEAN), Terminated(CloseKind.ABORTED, ValueError("x"))
FIN, RESET = CloseTransport(0, TransportEnd.FIN), CloseTransport(0, TransportEnd.RESET)


class Handle:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: Handle) -> bool:
        return self.when < other.when


class Loop:
    """What a driver needs of a loop, with a clock that a test sets."""

    def __init__(self) -> None:
        self.now, self.timers, self.soon, self.armed = 0.0, [], [], []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], object]) -> Handle:
        self.soon.append(Handle(self.now, callback))
        return self.soon[-1]

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        handle = Handle(when, callback)
        heapq.heappush(self.timers, handle)
        self.armed.append(when)
        return handle

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for handle in soon:
            if not handle.cancelled:
                handle.callback()

    def until(self, when: float) -> None:
        while self.timers and self.timers[0].when <= when:
            handle = heapq.heappop(self.timers)
            self.now = handle.when
            if not handle.cancelled:
                handle.callback()
        self.now = when

    @property
    def waiting(self) -> list[float]:
        """When the timers that are left would fire."""
        return sorted(handle.when for handle in self.timers if not handle.cancelled)


class Script:
    """A stack that does what a test says, and a sink and a carrier that note what they see, in one list."""

    max_datagrams = 1
    path = 0

    def __init__(self) -> None:
        self.loop = Loop()
        self.events: list[StackEvent] = []
        self.output: list[bytes] = []
        self.deadline: float | None = None
        self.wants_input = True
        self.seen: list[Any] = []
        self.blocked = False
        self.fits = True
        self.kept: list[Slab] = []
        self.when: dict[type, Callable[[], object]] = {}
        self.driver = Driver(self.loop, self, self.sink)  # type: ignore[arg-type]

    def begin(self) -> Script:
        self.driver.start(0, FACTS, self)
        self.seen.clear()
        return self

    # -- the stack
    @property
    def pending(self) -> int:
        return len(self.output)

    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        if not self.output:
            return None
        octets = self.output.pop(0)
        slab.view[: len(octets)] = octets
        return Transmit(0, len(octets))

    def receive(self, inbound: Inbound, now: float) -> int:
        self.seen.append(("receive", now))
        return len(inbound.data)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.seen.append((name, *arguments))

    # -- the carrier
    def send(self, slab: Slab, out: Transmit) -> bool:
        self.seen.append(bytes(slab.view[: out.length]))
        if not self.fits:
            self.blocked = True
            self.kept.append(slab)
        return self.fits

    def finish(self) -> None:
        self.seen.append("finish")

    def close(self, *, reset: bool) -> None:
        self.seen.append("reset" if reset else "close")

    def resume(self) -> None:
        self.seen.append("resume")

    # -- the sink
    def sink(self, event: StackEvent) -> None:
        self.seen.append(event)
        if type(event) in self.when:
            self.when[type(event)]()

    def unblock(self) -> None:
        self.fits, self.blocked = True, False
        self.driver.writable()


@pytest.fixture
def script() -> Script:
    return Script().begin()


def read(script: Script) -> int:
    return script.driver.receive(Inbound(memoryview(bytearray(b"abc"))))


# -- order ---------------------------------------------------------------------------------------------------------
def test_input_then_events_then_output_then_the_timer(script: Script) -> None:
    script.loop.now = 4.0
    script.events.extend([FlowWritable(1), FlowWritable(2)])
    script.output.extend([b"one", b"two"])
    script.deadline = 9.0
    script.when[FlowWritable] = lambda: script.seen.append(("timers", script.loop.waiting))
    assert read(script) == 3
    assert script.seen == [
        ("receive", 4.0),
        FlowWritable(1),
        ("timers", []),
        FlowWritable(2),
        ("timers", []),
        b"one",
        b"two",
    ]
    assert script.loop.waiting == [9.0]


def test_what_a_consumer_of_events_adds_is_drained_in_the_same_turn(script: Script) -> None:
    def more() -> None:
        script.when.clear()
        script.events.append(FlowWritable(2))
        script.output.append(b"more")
        script.driver.schedule()  # no turn of its own
        script.driver.pump()  # no pump inside the pump
        script.seen.append("back")

    script.events.append(FlowWritable(1))
    script.when[FlowWritable] = more
    script.driver.pump()
    assert script.seen == [FlowWritable(1), "back", FlowWritable(2), b"more"]
    assert not script.loop.soon
    assert not script.output


def test_events_that_output_makes_are_drained_too(script: Script) -> None:
    script.output.append(b"x")
    inner = script.transmit
    script.transmit = lambda *a: (script.events.append(FlowWritable(0)), inner(*a))[1]  # type: ignore[method-assign]
    script.driver.pump()
    assert script.seen == [b"x", FlowWritable(0)]


def test_start_and_further_paths(script: Script) -> None:
    fresh = Script()
    fresh.output.append(b"hello")
    fresh.driver.start(0, FACTS, fresh)
    assert fresh.seen == [("start", 0, FACTS, 0.0), b"hello"]
    other = Script()
    other.path = 1
    for _ in range(2):
        script.driver.add_path(1, FACTS, other)
    assert script.seen == [("path_added", 1, FACTS, 0.0)]


def test_sends_of_one_turn_share_a_pump(script: Script) -> None:
    for _ in range(3):
        script.driver.schedule()
    assert len(script.loop.soon) == 1
    script.output.append(b"x")
    assert not script.seen
    script.loop.turn()
    assert script.seen == [b"x"]
    script.driver.schedule()
    script.driver.pump()  # came first
    assert script.loop.soon[0].cancelled


def test_an_answer_is_followed_by_what_was_held(script: Script) -> None:
    script.driver.answer(7, "yes")
    assert script.seen == [("answer", 7, "yes", 0.0), "resume"]


def test_resume_only_while_input_is_wanted_and_never_lost_in_a_pump(script: Script) -> None:
    script.wants_input = False
    script.driver.resume()
    assert not script.seen
    script.events.append(FlowWritable(0))

    def consume() -> None:
        script.wants_input = True
        script.driver.resume()
        script.seen.append("in the pump")

    script.when[FlowWritable] = consume
    script.driver.pump()
    assert script.seen == [FlowWritable(0), "in the pump", "resume"]
    script.driver.pump()
    assert len(script.seen) == 3


# -- a full socket -------------------------------------------------------------------------------------------------
def test_a_full_socket_keeps_the_slab_and_nothing_is_transmitted_until_it_is_writable(script: Script) -> None:
    script.output.extend([b"one", b"two", b"three"])
    script.fits = False
    script.driver.pump()
    read(script)
    assert script.seen == [b"one", ("receive", 0.0)]
    slab = script.kept[0]
    assert bytes(slab.view[:3]) == b"one"
    assert shared_buffers(script.loop).slabs.lend() is not slab  # type: ignore[arg-type]
    script.unblock()
    assert script.seen[2:] == [b"two", b"three"]


def test_a_stack_that_waited_for_room_reads_on_once_there_is_some(script: Script) -> None:
    script.output.append(b"an answer")
    script.fits = script.wants_input = False
    script.driver.pump()
    script.unblock()
    assert "resume" not in script.seen  # the stack has other reasons
    script.output.append(b"another answer")
    script.fits = False
    script.driver.pump()
    script.when[FlowWritable] = lambda: setattr(script, "wants_input", True)
    script.events.append(FlowWritable(0))
    script.unblock()
    assert script.seen[-1] == "resume"


def test_slabs_go_round(script: Script) -> None:
    slabs = shared_buffers(script.loop).slabs  # type: ignore[arg-type]
    for _ in range(3):
        script.output.append(b"x")
        script.driver.pump()
    slab = slabs.lend()
    slabs.give_back(slab)
    script.output.append(b"y")
    script.driver.pump()
    assert bytes(slab.view[:1]) == b"y"


def test_without_a_path_output_waits() -> None:
    script = Script()
    script.output.append(b"x")
    script.driver.pump()
    assert script.output == [b"x"]


# -- ends ----------------------------------------------------------------------------------------------------------
def test_fin_stands_behind_what_is_queued_and_is_said_once(script: Script) -> None:
    script.output.extend([b"one", b"two"])
    script.fits = False
    script.events.append(FIN)
    script.driver.pump()
    assert script.seen == [b"one"]
    script.unblock()
    script.driver.pump()
    assert script.seen == [b"one", b"two", "finish"]


def test_a_deadline_counts_while_a_fin_waits(script: Script) -> None:
    script.output.append(b"one")
    script.fits = False
    script.events.append(FIN)
    script.deadline = 5.0
    script.driver.pump()
    assert script.loop.waiting == [5.0]


def test_the_end_is_told_last_when_the_transport_is_closed(script: Script) -> None:
    for events, closed in (([FIN, CLEAN], "close"), ([RESET, ABORTED], "reset"), ([ABORTED], "close")):
        script = Script().begin()
        script.events.extend([*events, FlowWritable(0)])
        script.output.append(b"alert")
        script.driver.pump()
        assert script.seen == [FlowWritable(0), b"alert", closed, events[-1]]
        script.driver.pump()
        script.driver.transport_ended(0, TransportEnd.FIN)
        assert len(script.seen) == 4


def test_a_clean_end_waits_for_a_full_socket(script: Script) -> None:
    script.output.append(b"last words")
    script.fits = False
    script.events.extend([FIN, CLEAN])
    script.driver.pump()
    assert script.seen == [b"last words"]
    script.unblock()
    assert script.seen == [b"last words", "close", CLEAN]
    assert not script.loop.waiting


def test_a_clean_end_waits_only_so_long_and_its_time_is_its_own(script: Script) -> None:
    script.deadline = 5.0
    script.driver.pump()
    script.loop.until(4.0)
    script.output.append(b"last words")
    script.fits = False
    script.events.extend([FIN, CLEAN])
    script.driver.pump()
    script.driver.pump()
    assert script.loop.waiting == [4.0 + module.LINGER]
    script.loop.until(4.0 + module.LINGER - 0.1)
    assert CLEAN not in script.seen
    script.loop.until(4.0 + module.LINGER)
    assert CLEAN not in script.seen
    *_, how, end = script.seen
    assert (how, end.how, end.error.reason) == ("reset", CloseKind.ABORTED, Reason.TIMEOUT)
    assert not script.loop.waiting


def test_a_clean_end_waits_on_while_the_socket_takes_something(script: Script) -> None:
    script.output.append(b"last words")
    script.fits = False
    script.events.extend([FIN, CLEAN])
    script.driver.pump()
    script.loop.until(20.0)
    script.driver.taken(0)
    assert script.loop.waiting == [20.0 + module.LINGER]
    assert script.seen == [b"last words"]


def test_a_deadline_hears_that_the_socket_takes_something(script: Script) -> None:
    script.driver.taken(0)
    assert not script.seen  # nobody waits
    script.deadline = 5.0
    script.driver.taken(0)
    assert script.seen == [("path_news", 0, PathNews.TAKEN, 0, 0.0)]


def test_a_clean_end_whose_last_octets_are_lost_is_none(script: Script) -> None:
    script.output.append(b"last words")
    script.fits = False
    script.events.extend([FIN, CLEAN])
    script.driver.pump()
    script.driver.transport_ended(0, TransportEnd.FIN)  # the peer's end is no news
    assert script.seen == [b"last words"]
    for how in (TransportEnd.ERROR, TransportEnd.RESET):
        script.driver.transport_ended(0, how)
    assert script.seen[1] == "reset"
    assert (script.seen[2].how, script.seen[2].error.reason) == (CloseKind.RESET, Reason.RESET)
    assert len(script.seen) == 3
    assert not script.loop.waiting


def test_an_abort_does_not_wait_for_a_full_socket(script: Script) -> None:
    script.output.append(b"x")
    script.fits = False
    script.driver.pump()
    script.events.extend([RESET, ABORTED])
    script.driver.pump()
    assert script.seen == [b"x", "reset", ABORTED]


def test_the_transports_end_reaches_the_stack(script: Script) -> None:
    script.driver.transport_ended(0, TransportEnd.RESET)
    assert script.seen == [("transport_ended", 0, TransportEnd.RESET, 0.0)]


# -- the timer -----------------------------------------------------------------------------------------------------
def test_the_timer_is_armed_again_only_when_the_deadline_comes_earlier(script: Script) -> None:
    for deadline in (10.0, 12.0, 11.0, 10.0, 8.0, 9.0, None):
        script.deadline = deadline
        script.driver.pump()
    assert script.loop.armed == [10.0, 8.0]
    assert script.loop.waiting == [8.0]


def test_a_deadline_that_moved_later_or_went_away_is_not_reached_early(script: Script) -> None:
    script.deadline = 5.0
    script.driver.pump()
    script.deadline = 7.0
    script.loop.until(6.0)
    assert not script.seen
    assert script.loop.waiting == [7.0]
    script.deadline = None
    script.loop.until(8.0)
    assert not script.seen
    assert not script.loop.waiting


def test_a_deadline_is_reached_at_its_time_and_never_before(script: Script) -> None:
    script.deadline = 5.0
    script.driver.pump()
    script.loop.until(4.9)
    handle = script.loop.timers[0]
    script.loop.now = 4.999  # loops fire a little early: clocks have a resolution
    script.deadline_reached = lambda now: (script.seen.append(now), setattr(script, "deadline", None))
    handle.callback()
    assert script.seen == [5.0]


def test_no_timer_is_left_after_the_end(script: Script) -> None:
    script.deadline = 5.0
    script.driver.pump()
    script.events.append(ABORTED)
    script.driver.pump()
    assert not script.loop.waiting
    assert script.seen == ["close", ABORTED]
