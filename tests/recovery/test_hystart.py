"""HyStart++: rounds, thresholds and phases (RFC 9406 §4)."""

from __future__ import annotations

import pytest

from taps_security.recovery.hystart import CSS_GROWTH_DIVISOR, CSS_ROUNDS, N_RTT_SAMPLE, HyStart


def one_round(hystart: HyStart, number: int, rtt: float, samples: int = N_RTT_SAMPLE) -> int:
    """A round of acknowledgements, the last of which is of a packet sent in it: the divisor then."""
    for _ in range(samples):
        hystart.on_rtt(rtt)
        hystart.on_acked(number - 1.0, float(number))
    return hystart.on_acked(number + 0.5, number + 1.0)


@pytest.mark.parametrize(
    ("base", "grown", "leaves"),
    [
        (0.008, 0.0119, False),  # at least 4 ms
        (0.008, 0.0121, True),
        (0.080, 0.0899, False),  # an eighth
        (0.080, 0.0901, True),
        (0.800, 0.8159, False),  # at most 16 ms
        (0.800, 0.8161, True),
    ],
)
def test_the_threshold_is_an_eighth_of_the_round_trip_between_4_and_16_ms(
    base: float, grown: float, leaves: bool
) -> None:
    hystart = HyStart()
    for number in range(3):
        assert one_round(hystart, number, base) == 1
    one_round(hystart, 3, grown)
    assert hystart.conservative is leaves


def test_less_than_eight_samples_decide_nothing() -> None:
    hystart = HyStart()
    one_round(hystart, 0, 0.040)
    one_round(hystart, 1, 0.040)
    one_round(hystart, 2, 0.200, samples=N_RTT_SAMPLE - 1)
    assert not hystart.conservative


def test_one_short_round_trip_keeps_a_round_in_slow_start() -> None:
    hystart = HyStart()
    one_round(hystart, 0, 0.040)
    one_round(hystart, 1, 0.040)
    hystart.on_rtt(0.041)
    one_round(hystart, 2, 0.200)
    assert not hystart.conservative


def test_five_conservative_rounds_end_slow_start() -> None:
    hystart = HyStart()
    one_round(hystart, 0, 0.040)
    one_round(hystart, 1, 0.040)
    assert one_round(hystart, 2, 0.060) == CSS_GROWTH_DIVISOR
    for number in range(3, 2 + CSS_ROUNDS):  # the round in which it began counts
        assert not hystart.done
        one_round(hystart, number, 0.060)
    assert hystart.done
    assert hystart.on_acked(100.0, 101.0) == 1


def test_round_trips_that_shrink_again_resume_slow_start() -> None:
    hystart = HyStart()
    one_round(hystart, 0, 0.040)
    one_round(hystart, 1, 0.040)
    one_round(hystart, 2, 0.060)
    assert one_round(hystart, 3, 0.045) == 1
    assert not hystart.conservative


def test_a_flow_that_begins_again_forgets() -> None:
    hystart = HyStart()
    for number, rtt in enumerate((0.040, 0.040, *[0.060] * 6)):
        one_round(hystart, number, rtt)
    assert hystart.done
    hystart.reset()
    assert not hystart.done
    assert not hystart.conservative
