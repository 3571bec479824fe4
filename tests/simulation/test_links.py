"""One direction of a path: exact times, drops, marks, copies."""

from __future__ import annotations

import random

import pytest

from taps_security.simulation import Link, Packet
from taps_security.simulation.links import nanoseconds


def packet(octets: int = 1000, ecn: int = 0) -> Packet:
    return Packet("UDP", ("192.0.2.1", 1), ("192.0.2.2", 2), bytes(octets), ecn)


def carry(link: Link, now: float = 0.0, octets: int = 1000, ecn: int = 0, seed: int = 1) -> tuple[list[float], str]:
    passage = link.carry(packet(octets, ecn), 28, now, random.Random(seed))
    return [copy.arrival for copy in passage.copies], passage.lost


def test_a_link_without_conditions_is_instantaneous() -> None:
    assert carry(Link(), now=0.125) == ([0.125], "")


def test_delay_and_rate_add_up_and_packets_leave_one_after_the_other() -> None:
    link = Link(delay=0.01, rate=8e6)
    assert [carry(link)[0] for _ in range(3)] == [[0.011], [0.012], [0.013]]
    assert carry(link, now=1.0) == ([1.011], "")


def test_no_rounding_adds_up_over_many_packets() -> None:
    link = Link(rate=3e6)
    for _ in range(10_000):
        last = carry(link, octets=1)
    assert last == ([nanoseconds(80_000 / 3e6)], "")


def test_headers_use_the_rate_only_if_asked_for() -> None:
    assert carry(Link(rate=8e6, overhead=250)) == ([0.00125], "")


def test_the_rate_may_change_on_the_way() -> None:
    link = Link(rate=8e6)
    assert carry(link) == ([0.001], "")
    link.rate = 8e5
    assert carry(link) == ([0.011], "")


def test_a_queue_of_octets_drops_what_does_not_fit() -> None:
    link = Link(rate=8e6, queue=2000)
    assert [carry(link)[1] for _ in range(3)] == ["", "", "queue"]
    assert link.backlog(0.0) == 2000
    assert carry(link, now=0.001) == ([0.003], "")
    assert link.dropped == 1


def test_a_queue_of_packets_drops_what_does_not_fit() -> None:
    link = Link(rate=8e6, queue_packets=2)
    assert [carry(link, octets=10)[1] for _ in range(3)] == ["", "", "queue"]


def test_an_empty_queue_takes_any_packet() -> None:
    assert carry(Link(rate=8e6, queue=10)) == ([0.001], "")


def test_it_tells_when_there_will_be_room() -> None:
    link = Link(rate=8e6, queue=2000)
    assert link.room_at(1000, 0.0) == 0.0
    carry(link)
    carry(link)
    assert link.room_at(1000, 0.0) == 0.001
    assert link.room_at(1001, 0.0) == 0.002
    assert link.room_at(5000, 0.0) == 0.002
    assert link.room_at(1000, 0.0015) == 0.0015


def test_loss_is_a_share_of_all_packets_and_the_seed_decides() -> None:
    def lost(seed: int) -> list[bool]:
        link, chance = Link(loss=0.25), random.Random(seed)
        return [link.carry(packet(), 28, 0.0, chance).lost == "loss" for _ in range(4000)]

    assert 900 < sum(lost(1)) < 1100
    assert lost(1) == lost(1) != lost(2)


def test_a_lost_packet_has_used_the_rate() -> None:
    link = Link(rate=8e6, loss=1.0)
    assert carry(link) == ([], "loss")
    link.loss = 0.0
    assert carry(link) == ([0.002], "")


def test_duplicates_arrive_twice() -> None:
    assert carry(Link(delay=0.5, duplicate=1.0)) == ([0.5, 0.5], "")


def test_what_is_reordered_is_held_back() -> None:
    assert carry(Link(delay=0.5, reorder=1.0, reorder_delay=0.25)) == ([0.75], "")


def test_corruption_names_a_bit_of_the_payload() -> None:
    link, chance = Link(corrupt=1.0), random.Random(1)
    bits = {link.carry(packet(2), 28, 0.0, chance).copies[0].flipped for _ in range(200)}
    assert bits == set(range(16))
    assert link.carry(packet(0), 28, 0.0, chance).copies[0].flipped == -1


def test_capable_packets_are_marked_when_the_queue_is_long() -> None:
    link, chance = Link(rate=8e6, ecn_threshold=1500), random.Random(1)
    seen = [link.carry(packet(ecn=2), 28, 0.0, chance).ecn for _ in range(4)]
    assert seen == [2, 2, 3, 3]
    assert link.carry(packet(ecn=0), 28, 0.0, chance).ecn == 0
    assert link.marked == 2


def test_a_narrow_place_swallows_large_packets() -> None:
    link = Link(hidden_mtu=1028)
    assert carry(link, octets=1000) == ([0.0], "")
    assert carry(link, octets=1001) == ([], "too big")


def test_a_filter_decides_packet_by_packet() -> None:
    seen = []
    link = Link(filter=lambda each: bool(seen.append(each) or len(seen) != 2))
    assert [carry(link)[1] for _ in range(3)] == ["", "filter", ""]
    assert seen[0] == packet()


def test_a_copy_has_the_conditions_but_not_the_queue() -> None:
    link = Link(delay=0.1, rate=8e6, loss=0.0)
    carry(link)
    copy = link.copy()
    assert (copy.delay, copy.rate) == (0.1, 8e6)
    assert copy.backlog(0.0) == 0


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"duplicate": -1}, {"delay": -0.1}, {"rate": 0}])
def test_wrong_conditions_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Link(**wrong)  # type: ignore[arg-type]
