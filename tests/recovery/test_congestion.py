"""What the windows have in common: RFC 9002 §7 and appendix B, RFC 5681 §4.1. NewReno stands for them."""

from __future__ import annotations

from math import inf

import pytest

from taps_security.recovery import Chicago, CongestionController, Cubic, NewReno, RttEstimator
from taps_security.recovery.congestion import initial_window

SIZE = 1200


def make(hystart: bool = False) -> NewReno:
    return NewReno(RttEstimator(), SIZE, hystart=hystart)


def all_three() -> list[CongestionController]:
    rtt = RttEstimator()
    return [NewReno(rtt), Cubic(rtt), Chicago(rtt, lambda limit: 0)]


@pytest.mark.parametrize(("size", "window"), [(1200, 12_000), (1472, 14_720), (1500, 14_720), (9000, 18_000)])
def test_the_initial_window(size: int, window: int) -> None:
    assert initial_window(size) == window  # RFC 9002 §7.2
    assert NewReno(RttEstimator(), size).window == window


@pytest.mark.parametrize("index", range(3))
def test_flight_is_what_was_sent_and_not_yet_accounted_for(index: int) -> None:
    controller = all_three()[index]
    for _ in range(5):
        controller.on_sent(1000, 1.0)
    controller.on_acked(2000, 2000, 1.0, 2.0)
    controller.on_lost(1000, 1.0, 2.0)
    controller.on_discarded(500)
    assert controller.in_flight == 1500
    controller.reset()
    assert controller.in_flight == 0


@pytest.mark.parametrize("index", range(3))
def test_every_signal_is_understood_by_every_controller(index: int) -> None:
    controller = all_three()[index]
    for signal in (controller.on_timeout, controller.on_idle, controller.on_spurious_loss):
        signal(1.0)
    controller.on_rtt(0.1, 1.0)
    controller.on_congestion_event(0.5, 1.0)
    controller.on_persistent_congestion(1.0)
    assert controller.window >= 2 * controller.datagram_size
    assert 0 < controller.pacing_rate < inf
    assert controller.burst >= controller.datagram_size


def test_datagrams_have_a_size() -> None:
    with pytest.raises(ValueError, match="0 octets"):
        NewReno(RttEstimator(), 0)
    with pytest.raises(ValueError, match="0 octets"):
        Chicago(RttEstimator(), lambda limit: 0, 0)


def test_slow_start_grows_by_what_arrived() -> None:
    controller = make()
    controller.on_sent(12_000, 1.0)
    controller.on_acked(12_000, 12_000, 1.0, 2.0)
    assert controller.window == 24_000  # §7.3.1


def test_what_was_sent_before_the_recovery_period_brings_no_growth() -> None:
    controller = make()
    controller.on_sent(12_000, 1.0)
    controller.on_acked(6000, 0, 1.0, 2.0)
    assert controller.window == 12_000


def test_one_reduction_in_a_round_trip() -> None:
    controller = make()
    controller.window = 100_000
    controller.on_sent(50_000, 1.0)
    controller.on_lost(1200, 1.0, 2.0)
    assert (controller.window, controller.ssthresh, controller.recovery_start) == (50_000, 50_000, 2.0)
    controller.on_lost(1200, 1.5, 2.1)  # under way when the window shrank
    controller.on_congestion_event(2.0, 2.2)
    assert controller.window == 50_000
    controller.on_congestion_event(2.05, 2.3)
    assert (controller.window, controller.recovery_start) == (25_000, 2.3)


def test_the_window_never_falls_below_two_datagrams() -> None:
    controller = make()
    for at in range(20):
        controller.on_congestion_event(at + 0.5, at + 1.0)
    assert controller.window == 2 * SIZE
    assert controller.ssthresh < 2 * SIZE


def test_persistent_congestion_takes_the_window_to_the_minimum_and_ends_recovery() -> None:
    controller = make()
    controller.window = 100_000
    controller.on_lost(1200, 1.0, 2.0)
    controller.on_persistent_congestion(2.0)
    assert (controller.window, controller.ssthresh, controller.recovery_start) == (2 * SIZE, 50_000, -inf)
    controller.on_acked(1200, 1200, 1.5, 2.1)
    assert controller.window == 3 * SIZE  # slow start again (Figure 1)


def test_a_flow_that_the_application_limits_does_not_grow() -> None:
    controller = make()
    controller.app_limited = True
    controller.on_acked(1200, 1200, 1.0, 2.0)
    assert controller.window == 12_000  # §7.8
    controller.app_limited = False
    controller.on_acked(1200, 1200, 2.0, 3.0)
    assert controller.window == 13_200


def test_after_idle_time_the_window_is_the_initial_one_at_most() -> None:
    controller = make()
    controller.window, controller.ssthresh = 100_000, 80_000
    controller.on_idle(10.0)
    assert (controller.window, controller.ssthresh) == (12_000, 80_000)  # RFC 5681 §4.1
    controller.window = 5000
    controller.on_idle(20.0)
    assert controller.window == 5000


def test_pacing_is_faster_than_a_window_in_a_round_trip() -> None:
    controller = make()
    controller.rtt.update(0.1, 1.0)
    assert controller.pacing_rate == pytest.approx(2 * 12_000 / 0.1)
    controller.ssthresh = 12_000
    assert controller.pacing_rate == pytest.approx(1.25 * 12_000 / 0.1)


def test_a_new_path_knows_nothing() -> None:
    controller = make(hystart=True)
    controller.on_sent(5000, 1.0)
    controller.on_lost(1000, 1.0, 2.0)
    controller.app_limited = True
    controller.reset()
    assert (controller.window, controller.ssthresh, controller.in_flight) == (12_000, inf, 0)
    assert (controller.recovery_start, controller.app_limited) == (-inf, False)
