"""CUBIC's window against the formulas of RFC 9438 §4, and its events."""

from __future__ import annotations

import pytest

from taps_security.recovery import Cubic, RttEstimator
from taps_security.recovery.cubic import ALPHA, BETA, C

SIZE = 1000
RTT = 0.1


def avoiding(window: float, rtt: float = RTT) -> Cubic:
    """In congestion avoidance at `window` datagrams, before any loss."""
    estimator = RttEstimator()
    estimator.update(rtt, 0.0)
    controller = Cubic(estimator, SIZE)
    controller.window = controller.ssthresh = window * SIZE
    return controller


def run(controller: Cubic, seconds: float, start: float, rtt: float = RTT) -> list[tuple[float, float]]:
    """Acknowledge a window in each round trip, datagram by datagram: (time, window in datagrams) after each."""
    seen = []
    now = start
    while now < start + seconds:
        now += rtt * SIZE / controller.window
        controller.on_acked(SIZE, SIZE, now - rtt, now)
        seen.append((now, controller.window / SIZE))
    return seen


def test_constants() -> None:
    assert (C, BETA) == (0.4, 0.7)
    assert pytest.approx(0.529, abs=0.001) == ALPHA  # 3 * 0.3 / 1.7 (§4.3)


def test_after_a_loss_the_window_is_seven_tenths() -> None:
    controller = avoiding(1000)
    controller.on_lost(SIZE, 1.0, 2.0)
    assert controller.window == controller.ssthresh == pytest.approx(700 * SIZE)


def test_the_window_follows_w_cubic() -> None:
    """W_cubic(t) = C (t - K)^3 + W_max, K = cbrt((W_max - cwnd_epoch) / C); the window is a round trip ahead (§4.2)."""
    controller = avoiding(1000)
    controller.on_lost(SIZE, 1.0, 2.0)
    k = (300 / 0.4) ** (1 / 3)
    assert k == pytest.approx(9.086, abs=0.001)
    seen = run(controller, 14.0, 2.0)
    epoch = seen[0][0]
    for now, window in seen:
        elapsed = now - epoch
        ahead = 0.4 * (elapsed + RTT - k) ** 3 + 1000
        behind = 0.4 * (elapsed - RTT - k) ** 3 + 1000
        assert min(behind, 700) - 1 <= window <= ahead + 1, elapsed
    at_k = min(seen, key=lambda pair: abs(pair[0] - epoch - k))
    assert at_k[1] == pytest.approx(1000, abs=1)  # the plateau
    assert controller.w_cubic(k) == pytest.approx(1000 * SIZE)
    assert controller.w_cubic(0) == pytest.approx(700 * SIZE)
    assert seen[-1][1] == pytest.approx(1000 + 0.4 * (14 - k) ** 3, rel=0.01)  # convex


def test_growth_stays_under_half_a_window_in_a_round_trip() -> None:
    controller = avoiding(10, rtt=5.0)
    controller.on_acked(SIZE, SIZE, 0.0, 5.0)
    window = controller.window
    controller.on_acked(SIZE, SIZE, 2.0, 8.0)  # W_cubic a round trip ahead is more than 200 datagrams
    assert controller.window == pytest.approx(window + 0.5 * SIZE)


def test_where_reno_is_faster_the_window_is_renos() -> None:
    """Short round trips: W_est grows by alpha datagrams in each, and by 1 once it has passed the old window (§4.3)."""
    rtt = 0.01
    controller = avoiding(50, rtt)
    controller.on_lost(SIZE, 1.0, 2.0)
    seen = run(controller, 0.2, 2.0, rtt)  # 20 round trips
    assert seen[-1][1] == pytest.approx(35 + 20 * ALPHA, abs=0.6)
    while controller.window < 50 * SIZE:
        run(controller, rtt, seen[-1][0], rtt)
    before = controller.window / SIZE
    run(controller, 10 * rtt, 3.0, rtt)
    assert controller.window / SIZE == pytest.approx(before + 10, abs=1.0)


def test_fast_convergence_gives_up_more_when_the_window_was_already_falling() -> None:
    for enabled, w_max in ((True, 700 * 0.85), (False, 700)):
        controller = avoiding(1000)
        controller.fast_convergence = enabled
        controller.on_lost(SIZE, 1.0, 2.0)
        controller.on_lost(SIZE, 2.5, 3.0)
        assert controller.window == pytest.approx(490 * SIZE)
        controller.on_acked(SIZE, SIZE, 3.1, 3.2)
        k = ((w_max - 490) / 0.4) ** (1 / 3)
        assert controller.w_cubic(k) == pytest.approx(w_max * SIZE)


def test_without_a_loss_before_the_stage_starts_at_its_plateau() -> None:
    controller = avoiding(100)
    run(controller, 0.01, 1.0)
    assert controller.w_cubic(0) == 100 * SIZE  # K = 0, W_max = cwnd (§4.10)


def test_time_that_the_application_limits_is_no_time_of_cubics() -> None:
    controller = avoiding(1000)
    controller.on_lost(SIZE, 1.0, 2.0)
    run(controller, 1.0, 2.0)
    other = avoiding(1000)
    other.on_lost(SIZE, 1.0, 2.0)
    run(other, 1.0, 2.0)
    other.app_limited = True
    for at in range(100):
        other.on_acked(SIZE, SIZE, 3.0 + at, 3.05 + at)
    other.app_limited = False
    run(controller, 1.0, 3.0)
    run(other, 1.0, 102.05)
    assert other.window == pytest.approx(controller.window, rel=0.002)


def test_after_persistent_congestion_the_stage_starts_where_slow_start_ends() -> None:
    controller = avoiding(1000)
    controller.on_lost(SIZE, 1.0, 2.0)
    controller.on_persistent_congestion(2.0)
    assert controller.window == 2 * SIZE
    while controller.window < controller.ssthresh:
        controller.on_acked(10 * SIZE, 10 * SIZE, 2.5, 3.0)
    reached = controller.window
    controller.on_acked(SIZE, SIZE, 3.0, 3.1)
    assert controller.w_cubic(0) == reached  # K = 0 (§4.8)


def test_idle_time_starts_a_new_stage() -> None:
    controller = avoiding(1000)
    run(controller, 1.0, 1.0)
    controller.on_idle(100.0)
    assert controller.window == 10 * SIZE
    controller.ssthresh = 10 * SIZE
    controller.on_acked(SIZE, SIZE, 100.0, 100.1)
    assert controller.window < 12 * SIZE


def test_a_loss_that_was_none_is_taken_back() -> None:
    controller = avoiding(1000)
    controller.on_lost(SIZE, 1.0, 2.0)
    run(controller, 3.0, 2.0)
    window, w_start = controller.window, controller.w_cubic(0)
    controller.on_lost(SIZE, 5.5, 6.0)
    controller.on_spurious_loss(6.1)
    assert (controller.window, controller.w_cubic(0)) == (window, w_start)
    controller.window *= 2
    controller.on_spurious_loss(6.2)  # once
    assert controller.window == 2 * window
