"""The link of the congestion control benchmarks: rate, delay, queue and loss are what they say."""

from __future__ import annotations

import pytest

from benchmarks.bottleneck import PACKET, Bottleneck, jain


def test_an_empty_link_takes_transmission_and_half_a_round_trip() -> None:
    link = Bottleneck(rate=8e6, round_trip=0.1)
    assert link.carry(1000, 5.0) == pytest.approx(5.0 + 0.001 + 0.05)
    assert link.carry(1000, 5.0) == pytest.approx(5.0 + 0.002 + 0.05)
    assert link.backlog(5.0) == pytest.approx(2000)
    assert link.backlog(6.0) == 0


def test_what_finds_the_queue_full_is_dropped() -> None:
    link = Bottleneck(rate=8e6, round_trip=0.1, queue=0.1)
    assert link.product == pytest.approx(100_000)
    arrivals = [link.carry(1000, 0.0) for _ in range(20)]
    assert sum(arrival is not None for arrival in arrivals) == 10
    assert link.dropped == 10


def test_losses_are_as_many_as_asked_for() -> None:
    link = Bottleneck(loss=0.1, queue=1000.0)
    for _ in range(10_000):
        link.carry(PACKET, 0.0)
    assert link.dropped == pytest.approx(1000, rel=0.15)


def test_jains_index() -> None:
    assert jain([3.0, 3.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
