"""The token bucket (RFC 9002 §7.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.recovery import Pacer

RATE, BURST = 100_000.0, 12_000


def test_the_first_burst_leaves_at_once() -> None:
    pacer = Pacer()
    assert pacer.available(RATE, BURST, 5.0) == BURST
    pacer.sent(BURST)
    assert pacer.available(RATE, BURST, 5.0) == 0


def test_tokens_come_at_the_rate_and_no_more_than_a_burst() -> None:
    pacer = Pacer()
    pacer.available(RATE, BURST, 0.0)
    pacer.sent(BURST)
    assert pacer.available(RATE, BURST, 0.05) == pytest.approx(5000)
    assert pacer.available(RATE, BURST, 100.0) == BURST


def test_what_is_sent_beyond_the_tokens_is_owed() -> None:
    pacer = Pacer()
    pacer.available(RATE, BURST, 0.0)
    pacer.sent(BURST + 3000)
    assert pacer.available(RATE, BURST, 0.01) == pytest.approx(-2000)
    assert pacer.ready_at(1200) == pytest.approx(0.01 + 0.032)


def test_a_tick_of_the_timers_never_limits_the_rate() -> None:
    pacer = Pacer(granularity=0.001)
    assert pacer.available(1e8, BURST, 0.0) == pytest.approx(100_000)


def test_two_kernel_batches_fit() -> None:
    assert Pacer(batch=60_000).available(RATE, BURST, 0.0) == 120_000


def test_the_time_that_it_tells_is_late_enough() -> None:
    """Floats: at the time that `ready_at` gave, the packet may go; otherwise a loop would wait for ever."""
    pacer = Pacer()
    pacer.available(RATE, 1200, 1e6)
    pacer.sent(1200)
    ready = pacer.ready_at(1200)
    pacer.available(RATE, 1200, ready)
    assert pacer.ready_at(1200) <= ready


def test_full_means_now_and_a_new_path_is_full() -> None:
    pacer = Pacer()
    assert pacer.ready_at(1200) == 0.0
    pacer.available(RATE, BURST, 7.0)
    assert pacer.ready_at(1200) == 7.0
    pacer.sent(BURST)
    pacer.reset()
    assert pacer.available(RATE, BURST, 7.0) == BURST


@given(st.lists(st.floats(0.0, 0.2), min_size=1, max_size=50))
def test_no_stretch_of_time_carries_more_than_its_share_and_a_burst(waits: list[float]) -> None:
    pacer = Pacer()
    now = total = 0.0
    for wait in waits:
        now += wait
        tokens = pacer.available(RATE, BURST, now)
        if tokens > 0:
            pacer.sent(int(tokens))
            total += int(tokens)
        assert total <= RATE * now + BURST + 1
