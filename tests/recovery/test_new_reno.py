"""NewReno: the two functions that are its own (RFC 9002 B.5, B.6), and undo."""

from __future__ import annotations

import pytest

from taps_security.recovery import NewReno, RttEstimator

SIZE = 1200


def avoiding(window: float) -> NewReno:
    controller = NewReno(RttEstimator(), SIZE)
    controller.window = controller.ssthresh = window
    return controller


def test_a_window_of_acknowledgements_adds_one_datagram() -> None:
    controller = avoiding(48_000)
    controller.on_acked(1200, 1200, 1.0, 2.0)
    assert controller.window == 48_000 + SIZE * 1200 / 48_000
    controller = avoiding(48_000)
    for _ in range(40):
        controller.on_acked(1200, 1200, 1.0, 2.0)
    assert 48_000 + 0.98 * SIZE < controller.window <= 48_000 + SIZE  # "at most one" (§7.3.3)


def test_half_the_window_stays() -> None:
    controller = avoiding(48_000)
    controller.on_lost(1200, 1.0, 2.0)
    assert (controller.window, controller.ssthresh) == (24_000, 24_000)


def test_a_loss_that_was_none_is_taken_back() -> None:
    controller = avoiding(48_000)
    controller.on_lost(1200, 1.0, 2.0)
    controller.on_spurious_loss(2.1)
    assert (controller.window, controller.ssthresh) == (48_000, 48_000)
    controller.window = 60_000
    controller.on_spurious_loss(2.2)
    assert controller.window == 60_000


def test_slow_start_can_end_without_a_loss() -> None:
    rtt = RttEstimator()
    controller = NewReno(rtt, SIZE, hystart=True)
    now = 0.0
    for round_trip in (0.040, 0.040, *[0.060] * 8):
        for _ in range(10):
            controller.on_rtt(round_trip, now)
            controller.on_acked(1200, 1200, now - round_trip, now)
            now += round_trip / 9.5
    assert controller.ssthresh < 100_000
    assert controller.window == pytest.approx(controller.ssthresh, rel=0.2)
