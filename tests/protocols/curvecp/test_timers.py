"""What a stack waits for, with time by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from taps_security.protocols.curvecp.limits import HELLO_WAITS, PERSIST, SILENCE
from taps_security.protocols.curvecp.timers import Due
from taps_security.stack.errors import ConnectionLost, Reason

from .pair import Pair


def test_hellos_wait_longer_each_time_and_as_much_again_at_random() -> None:
    pair = Pair()
    waits, before = [], 0.0
    for _ in HELLO_WAITS:
        assert len(pair.client.take()) == 1
        due = pair.client.stack.deadline
        waits.append(due - before)
        before = pair.client.wait(due)
    assert all(least <= wait <= 2 * least for least, wait in zip(HELLO_WAITS, waits, strict=True))
    assert pair.client.ended is not None
    assert isinstance(pair.client.ended.error, ConnectionLost)
    assert pair.client.ended.error.reason is Reason.TIMEOUT


def test_an_idle_stack_waits_for_its_idle_timeout_alone() -> None:
    pair, client, server = Pair.ready(idle_timeout=50.0)
    for side in (client, server):
        assert Due.SILENCE not in side.stack._deadlines
        assert side.stack.pending == 0
    assert client.stack.deadline == pytest.approx(pair.now + 25)
    pair.now = client.wait(pair.now)
    assert len(client.sent) == 1
    pair.carry()
    assert Due.SILENCE not in client.stack._deadlines
    assert client.stack.deadline == pytest.approx(pair.now + 25)


def test_silence_is_asked_and_then_believed() -> None:
    pair, client, _ = Pair.ready()
    client.send(b"anybody?", pair.now)
    begin, asked = pair.now, []
    while client.ended is None:
        pair.now = client.wait(pair.now)
        if client.take():
            asked.append(pair.now)
    assert pair.now - begin == pytest.approx(SILENCE, abs=PERSIST)
    assert isinstance(client.ended.error, ConnectionLost)
    gaps = [behind - before for before, behind in pairwise(asked)]
    assert max(gaps) <= PERSIST + 0.001


def test_a_deadline_that_moved_does_nothing() -> None:
    pair, client, _ = Pair.ready()
    client.stack.deadline_reached(pair.now)
    client.pump(pair.now)
    assert not client.take()
    assert client.ended is None
