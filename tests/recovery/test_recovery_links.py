"""Controllers on simulated links, in virtual time: the rows of the speed table, and links that misbehave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from math import sqrt

import pytest

from benchmarks.bottleneck import (
    CONTROLLERS,
    PACKET,
    Bottleneck,
    Flow,
    flow,
    jain,
    rate_between,
    run,
    window_between,
)

WINDOWS = ("new_reno", "cubic")
RATE = 100e6  # bit/s
ROUND_TRIP = 0.040


def reno_window(loss: float) -> float:
    """AVG_AIMD(1, 0.5) in packets (RFC 9438 §4.3)."""
    return sqrt(1.5 / loss)


def cubic_window(loss: float, round_trip: float) -> float:
    """AVG_W_cubic with C = 0.4 in packets (RFC 9438 §5.1)."""
    return 1.054 * (round_trip / loss) ** 0.75


# -- 100 Mbit/s, 40 ms, a queue of one bandwidth-delay product --------------------------------------------------------
@pytest.mark.parametrize(("name", "share"), [("new_reno", 0.90), ("cubic", 0.90), ("chicago", 0.60)])
def test_one_flow_fills_the_link(name: str, share: float) -> None:
    """Seconds 10 to 60. Chicago's rate is what its additive increase reaches between two panics."""
    only = flow(name, Bottleneck())
    run([only], 60)
    assert share * RATE <= rate_between(only, 10, 60) <= RATE * 1.001


def test_with_a_hundredth_lost_the_window_is_that_of_the_formulas() -> None:
    """CUBIC: at least the larger of Reno's and CUBIC's (RFC 9438 §5). The mean of four seeds, by octets delivered."""
    expected = max(reno_window(0.01), cubic_window(0.01, ROUND_TRIP))
    assert expected == pytest.approx(12.2, abs=0.1)
    delivered = []
    for seed in range(1, 5):
        only = flow("cubic", Bottleneck(loss=0.01, seed=seed))
        run([only], 60)
        delivered.append(rate_between(only, 10, 60) / 8 / PACKET * only.recovery.rtt.smoothed)
        assert window_between(only, 10, 60) >= expected
    assert sum(delivered) / len(delivered) >= expected


@pytest.mark.parametrize("name", CONTROLLERS)
def test_two_flows_share_the_link(name: str) -> None:
    """Jain's index over seconds 10 to 60 of two flows that begin together."""
    link = Bottleneck()
    flows = [flow(name, link, ack_every=2), flow(name, link, 0.004, ack_every=2, seed=2)]
    run(flows, 60)
    assert jain([rate_between(each, 10, 60) for each in flows]) >= 0.9


def test_a_flow_that_comes_later_gets_its_share() -> None:
    """CUBIC converges slowly (RFC 9438 §3.4): the first flow has everything, and gives up half in two minutes."""
    link = Bottleneck(rate=20e6)
    flows = [flow("cubic", link, ack_every=2), flow("cubic", link, 5.0, ack_every=2)]
    run(flows, 120)
    assert jain([rate_between(each, 60, 120) for each in flows]) >= 0.9


# -- links that misbehave ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", WINDOWS)
def test_reordering_costs_little(name: str) -> None:
    """A fifth of the packets come ten milliseconds late: no loss at all, and it is not taken for one for long."""
    only = flow(name, Bottleneck(reorder=0.2))
    run([only], 20)
    assert rate_between(only, 5, 20) >= 0.75 * RATE


def dead(first: float, last: float) -> Callable[[float], bool]:
    return lambda now: first <= now < last


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_dead_path_is_probed_and_used_again(name: str) -> None:
    only = flow(name, Bottleneck(rate=20e6), ack_every=1)
    only.silent = dead(5.0, 8.0)
    run([only], 30)
    quiet = [sample for sample in only.samples if 5.5 < sample.at < 8]
    assert sum(sample.rate for sample in quiet) == 0
    assert only.recovery.pto_count == 0
    back = rate_between(only, 12, 30)
    assert back >= (0.8 if name in WINDOWS else 0.02) * 20e6


@pytest.mark.parametrize("name", WINDOWS)
def test_probes_double_their_distance_while_nothing_answers(name: str) -> None:
    sent: Counter[float] = Counter()

    def silent(now: float) -> bool:
        if now > 1.2:
            sent[now] += 1
        return now > 1.0

    only = flow(name, Bottleneck())
    only.silent = silent
    run([only], 60)
    times = sorted(sent)
    gaps = [second - first for first, second in pairwise(times)]
    assert 5 <= len(times) <= 12
    assert max(sent.values()) <= 2
    assert all(later == pytest.approx(2 * earlier) for earlier, later in pairwise(gaps))


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("loss", [0.3, 0.5])
def test_heavy_loss_slows_and_never_stops(name: str, loss: float) -> None:
    only = flow(name, Bottleneck(loss=loss))
    run([only], 60)
    assert only.delivered > 100 * PACKET
    assert only.samples[-1].window <= 20 * PACKET


@pytest.mark.parametrize("name", CONTROLLERS)
def test_the_flight_is_bounded_by_the_window_and_ends_empty(name: str) -> None:
    """Every packet is accounted for once: acknowledged, lost or still out."""
    link = Bottleneck(rate=10e6, loss=0.02, reorder=0.05)
    only = flow(name, link)
    run([only], 20)
    recovery = only.recovery
    assert recovery.controller.in_flight == len(recovery.space()) * PACKET
    assert recovery.controller.in_flight <= recovery.controller.window + 3 * PACKET
    assert only.delivered // PACKET + only.lost + len(recovery.space()) == recovery.space().newest + 1


def test_the_same_seed_gives_the_same_run() -> None:
    def once() -> list[tuple[float, ...]]:
        only: Flow = flow("cubic", Bottleneck(loss=0.01, seed=7))
        run([only], 5)
        return [tuple(sample) for sample in only.samples]

    assert once() == once()
