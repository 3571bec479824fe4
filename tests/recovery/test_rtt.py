"""The estimators against the arithmetic of RFC 9002 §5 and RFC 6298 §2."""

from __future__ import annotations

import pytest

from taps_security.recovery import RetransmissionTimeout, RttEstimator


# -- RFC 9002 ---------------------------------------------------------------------------------------------------------
def test_before_a_sample_the_values_are_the_initial_ones() -> None:
    rtt = RttEstimator()
    assert (rtt.smoothed, rtt.variation, rtt.sampled) == (0.333, 0.1665, False)
    assert rtt.probe_timeout() == pytest.approx(0.999)  # §6.2.2: "starting with a PTO of 1 second"
    with pytest.raises(ValueError, match="more than 0"):
        RttEstimator(0.0)


def test_the_first_sample_replaces_the_guess() -> None:
    rtt = RttEstimator()
    rtt.update(0.08, now=5.0, ack_delay=0.05)  # §5.3: no delay is taken off the first
    assert (rtt.latest, rtt.minimum, rtt.smoothed, rtt.variation) == (0.08, 0.08, 0.08, 0.04)
    assert (rtt.first_sample_at, rtt.sampled) == (5.0, True)


def test_later_samples_are_weighed_an_eighth_and_the_variation_a_quarter() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 1.0)
    rtt.update(0.2, 2.0)
    assert rtt.variation == pytest.approx(0.75 * 0.05 + 0.25 * 0.1)
    assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)
    assert (rtt.latest, rtt.minimum, rtt.first_sample_at) == (0.2, 0.1, 1.0)


def test_a_delay_of_the_peer_is_taken_off_only_if_it_is_plausible() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 1.0)
    rtt.update(0.15, 2.0, ack_delay=0.03)
    assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.12)
    other = RttEstimator()
    other.update(0.1, 1.0)
    other.update(0.12, 2.0, ack_delay=0.03)  # 90 ms would be less than the least seen
    assert other.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.12)
    assert other.minimum == 0.1


def test_the_least_round_trip_ignores_the_delay() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 1.0)
    rtt.update(0.06, 2.0, ack_delay=0.05)
    assert rtt.minimum == 0.06


def test_timeouts_are_never_shorter_than_a_tick() -> None:
    rtt = RttEstimator()
    for at in range(100):
        rtt.update(0.0001, float(at))
    assert rtt.probe_timeout() == pytest.approx(0.0011)  # kGranularity stands for 4 * rttvar
    assert rtt.probe_timeout(0.025) == pytest.approx(0.0261)
    assert rtt.loss_delay() == 0.001


def test_a_packet_is_lost_after_nine_eighths_of_the_longer_round_trip() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 1.0)
    rtt.update(0.2, 2.0)
    assert rtt.loss_delay() == pytest.approx(0.225)
    rtt.update(0.01, 3.0)
    assert rtt.loss_delay() == pytest.approx(1.125 * rtt.smoothed)


def test_a_clock_that_went_back_says_nothing_and_a_new_path_starts_again() -> None:
    rtt = RttEstimator(initial=0.5)
    rtt.update(-0.1, 1.0)
    assert not rtt.sampled
    rtt.update(0.1, 2.0)
    rtt.reset()
    assert (rtt.smoothed, rtt.variation, rtt.minimum, rtt.sampled) == (0.5, 0.25, 0.0, False)


# -- RFC 6298 ---------------------------------------------------------------------------------------------------------
def test_the_first_measurement_gives_three_times_itself() -> None:
    timer = RetransmissionTimeout(minimum=0.0)
    assert timer.rto == 1.0  # §2.1
    timer.sample(0.4)
    assert (timer.smoothed, timer.variation) == (0.4, 0.2)
    assert timer.rto == pytest.approx(0.4 + 4 * 0.2)  # §2.2


def test_the_variation_is_computed_before_the_smoothed_time() -> None:
    timer = RetransmissionTimeout(minimum=0.0)
    timer.sample(0.4)
    timer.sample(0.8)
    assert timer.variation == pytest.approx(0.75 * 0.2 + 0.25 * 0.4)
    assert timer.smoothed == pytest.approx(0.875 * 0.4 + 0.125 * 0.8)
    assert timer.rto == pytest.approx(0.45 + 4 * 0.25)


def test_less_than_a_second_is_a_second() -> None:
    timer = RetransmissionTimeout()
    timer.sample(0.05)
    assert timer.rto == 1.0  # §2.4


def test_without_variation_the_clocks_granularity_counts() -> None:
    timer = RetransmissionTimeout(minimum=0.0, granularity=0.1)
    for _ in range(200):
        timer.sample(2.0)
    assert timer.rto == pytest.approx(2.1)  # §4


def test_back_off_doubles_up_to_a_minute_and_a_sample_brings_it_down() -> None:
    timer = RetransmissionTimeout()
    seen = []
    for _ in range(8):
        timer.back_off()
        seen.append(timer.rto)
    assert seen == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    timer.sample(0.5)
    assert timer.rto == 1.5


def test_karn_takes_no_sample_of_what_was_sent_twice() -> None:
    timer = RetransmissionTimeout()
    timer.back_off()
    timer.sample(0.001, retransmitted=True)
    timer.sample(-1.0)
    assert (timer.rto, timer.smoothed) == (2.0, None)


def test_after_a_repeated_first_message_data_starts_with_three_seconds() -> None:
    timer = RetransmissionTimeout()
    timer.handshake_timed_out()
    assert timer.rto == 3.0  # §5.7
