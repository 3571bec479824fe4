"""Loss detection of one packet number space: RFC 9002 §6.1, appendix A, and the example of §7.6.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.recovery import PacketSpace
from taps_security.recovery.loss import MAX_PACKET_THRESHOLD, REMEMBERED

BEFORE = -1.0  # earlier than any packet


def sent(count: int, gap: float = 0.0, first: int = 0) -> PacketSpace:
    """A space with `count` packets of 100 octets, `gap` seconds apart."""
    packets = PacketSpace()
    for index in range(count):
        packets.sent(first + index, 100, index * gap)
    return packets


def test_numbers_only_grow() -> None:
    packets = sent(3)
    assert (packets.newest, len(packets), packets.eliciting, packets.oldest()) == (2, 3, 3, 0)
    with pytest.raises(ValueError, match="packet 2 after packet 2"):
        packets.sent(2, 100, 1.0)
    packets.sent(7, 100, 1.0)  # a sender may leave numbers out (RFC 9000 §21.4)
    assert list(packets) == [0, 1, 2, 7]


def test_a_run_is_many_packets() -> None:
    packets = PacketSpace()
    packets.sent(5, 100, 1.0, count=4)
    packets.sent(9, 100, 1.0)
    assert packets.acknowledge(((5, 6), (9, 9)), BEFORE) == [5, 6, 9]
    assert (packets.size, packets.newest, len(packets), packets.eliciting) == (300, 9, 2, 2)


def test_what_is_known_or_was_never_sent_is_passed_over() -> None:
    packets = sent(4)
    assert packets.acknowledge(((2, 3),), BEFORE) == [2, 3]
    assert packets.acknowledge(((2, 2**62),), BEFORE) == []
    assert packets.largest_acked == 3
    assert packets.acknowledge((), BEFORE) == []


def test_octets_sent_since_are_told_apart() -> None:
    packets = sent(4, gap=1.0)
    packets.acknowledge(((0, 3),), 1.0)
    assert (packets.size, packets.fresh, packets.newest_sent_at) == (400, 200, 3.0)


def test_acknowledgements_alone_are_in_no_flight_and_awaited_by_nobody() -> None:
    packets = PacketSpace()
    packets.sent(0, 40, 1.0, ack_eliciting=False, in_flight=False)
    packets.sent(1, 40, 1.0, ack_eliciting=False, in_flight=True)  # padding
    assert (packets.eliciting, packets.last_eliciting_at) == (0, 0.0)
    assert packets.acknowledge(((0, 1),), BEFORE) == [0, 1]
    assert (packets.size, packets.elicited) == (40, False)


def test_the_sample_is_of_the_largest_if_that_is_new() -> None:
    packets = sent(5, gap=1.0)
    packets.acknowledge(((0, 2),), BEFORE)
    assert packets.sample_sent_at == 2.0
    packets.acknowledge(((0, 2),), BEFORE)
    assert packets.sample_sent_at is None
    packets.acknowledge(((3, 4),), BEFORE, sample=3)
    assert packets.sample_sent_at == 3.0


# -- losses -----------------------------------------------------------------------------------------------------------
def test_three_later_packets_make_one_lost() -> None:
    packets = sent(5)
    packets.acknowledge(((2, 2),), BEFORE)
    assert packets.detect_lost(0.0, 1.0) == []
    packets.acknowledge(((3, 3),), BEFORE)
    assert packets.detect_lost(0.0, 1.0) == [0]
    packets.acknowledge(((4, 4),), BEFORE)
    assert packets.detect_lost(0.0, 1.0) == [1]
    assert (packets.lost_size, len(packets), packets.oldest()) == (100, 0, None)


def test_time_makes_a_packet_lost_that_a_later_one_has_overtaken() -> None:
    packets = sent(3, gap=0.1)
    packets.acknowledge(((1, 1),), BEFORE)
    assert packets.detect_lost(0.5, 1.0) == []
    assert packets.loss_time == 1.0  # packet 2 is after the largest: not judged
    assert packets.detect_lost(1.0, 1.0) == [0]
    assert (packets.loss_time, packets.lost_sent_at, list(packets)) == (None, 0.0, [2])


def test_without_a_later_acknowledgement_nothing_is_lost() -> None:
    packets = sent(10)
    packets.acknowledge(((0, 0),), BEFORE)
    assert packets.detect_lost(1000.0, 0.1) == []
    assert packets.loss_time is None


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_detection_agrees_with_the_pseudocode(arrived: set[int], until: int) -> None:
    """Against A.10, over all packets, for any set of acknowledged numbers."""
    gap, delay = 0.01, 0.2
    now = until * gap + 0.1
    packets = sent(61, gap)
    for number in sorted(arrived):
        packets.acknowledge(((number, number),), BEFORE)
    lost = packets.detect_lost(now, delay)
    largest = max(arrived, default=-1)
    outstanding = [number for number in range(61) if number not in arrived and number < largest]
    expected = [number for number in outstanding if number * gap + delay <= now or largest >= number + 3]
    rest = [number * gap + delay for number in outstanding if number not in expected]
    assert lost == expected
    assert packets.loss_time == min(rest, default=None)
    assert sorted(packets) == [number for number in range(61) if number not in arrived and number not in expected]


# -- what was not lost after all --------------------------------------------------------------------------------------
def test_a_late_packet_raises_the_threshold_and_explains_the_loss() -> None:
    packets = sent(30)
    packets.acknowledge(((6, 6),), BEFORE)
    lost = packets.detect_lost(0.0, 1.0)
    assert lost == [0, 1, 2, 3]
    packets.new_episode(lost)
    packets.acknowledge(((1, 3),), BEFORE)
    assert (packets.packet_threshold, packets.undone, packets.late_sent_at) == (6, False, 0.0)
    packets.acknowledge(((0, 0),), BEFORE)
    assert (packets.packet_threshold, packets.undone) == (7, True)
    packets.acknowledge(((0, 0), (11, 11)), BEFORE)  # once only
    assert (packets.undone, packets.late_sent_at) == (False, None)
    assert packets.detect_lost(0.0, 1.0) == [4]


def test_the_time_threshold_waits_for_what_came_late() -> None:
    packets = sent(2)
    packets.wait_longer(1.5, 1.0)
    packets.acknowledge(((1, 1),), BEFORE)
    assert packets.detect_lost(1.2, 1.0) == []
    assert packets.loss_time == 1.5
    packets.wait_longer(50.0, 1.0)
    assert packets.patience == 2.0


def test_a_later_loss_is_not_explained_by_an_older_one() -> None:
    packets = sent(20)
    packets.acknowledge(((3, 3),), BEFORE)
    packets.new_episode(packets.detect_lost(0.0, 1.0))
    packets.acknowledge(((8, 8),), BEFORE)
    packets.new_episode(packets.detect_lost(0.0, 1.0))
    packets.acknowledge(((0, 0),), BEFORE)
    assert not packets.undone


def test_lost_packets_are_remembered_for_a_while_and_not_without_end() -> None:
    count = REMEMBERED * 3
    packets = sent(count + 8)
    packets.acknowledge(((count + 3, count + 3),), BEFORE)
    packets.detect_lost(0.0, 1.0)
    packets.acknowledge(((count + 5, count + 5),), BEFORE)
    packets.detect_lost(0.0, 1.0)
    packets.acknowledge(((0, 0),), BEFORE)
    assert packets.packet_threshold == 3  # forgotten
    packets.acknowledge(((count - 1, count - 1),), BEFORE)
    assert packets.packet_threshold == 7
    packets.acknowledge(((0, count),), BEFORE)
    assert packets.packet_threshold == MAX_PACKET_THRESHOLD
    old = sent(7, gap=100.0)
    old.acknowledge(((4, 4),), BEFORE)
    old.detect_lost(400.0, 1.0)
    old.acknowledge(((6, 6),), BEFORE)
    old.detect_lost(600.0, 1.0)
    old.acknowledge(((0, 3),), BEFORE)
    assert old.late_sent_at is None


# -- persistent congestion --------------------------------------------------------------------------------------------
def test_the_example_of_rfc_9002_section_7_6_3() -> None:
    packets = PacketSpace()
    for number, at in ((1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0), (5, 4.0), (6, 5.0), (7, 6.0), (8, 8.0), (9, 12.0)):
        packets.sent(number, 100, at)
    packets.acknowledge(((1, 1),), BEFORE)
    packets.detect_lost(1.2, 1.4)
    packets.acknowledge(((9, 9),), BEFORE)
    lost = packets.detect_lost(12.2, 1.4)
    assert lost == [2, 3, 4, 5, 6, 7, 8]
    assert packets.blackout(lost, 0.0) == 7.0


def test_what_arrived_between_two_losses_ends_a_blackout() -> None:
    packets = sent(10, gap=1.0)
    packets.acknowledge(((4, 4),), BEFORE)
    packets.acknowledge(((9, 9),), BEFORE)
    lost = packets.detect_lost(20.0, 1.0)
    assert lost == [0, 1, 2, 3, 5, 6, 7, 8]
    assert packets.blackout(lost, BEFORE) == 3.0
    assert packets.blackout(lost, 1.5) == 3.0  # 5 to 8
    assert packets.blackout(lost, 6.5) == 1.0  # only what was sent after the first sample


def test_packets_that_expect_no_acknowledgement_bound_no_blackout() -> None:
    packets = PacketSpace()
    for number in range(6):
        packets.sent(number, 100, float(number), ack_eliciting=number in (1, 2))
    packets.sent(6, 100, 6.0)
    packets.acknowledge(((6, 6),), BEFORE)
    lost = packets.detect_lost(20.0, 1.0)
    assert lost == [0, 1, 2, 3, 4, 5]
    assert packets.blackout(lost, BEFORE) == 1.0


# -- ends -------------------------------------------------------------------------------------------------------------
def test_on_a_new_path_old_packets_count_for_nothing() -> None:
    packets = sent(6)
    packets.leave_path()
    assert packets.acknowledge(((5, 5),), BEFORE) == [5]
    assert packets.size == 0
    assert packets.detect_lost(0.0, 1.0) == [0, 1, 2]
    assert packets.lost_size == 0


def test_discarding_leaves_nothing() -> None:
    packets = sent(6)
    packets.sent(6, 40, 0.0, ack_eliciting=False, in_flight=False)
    assert packets.discard() == 600
    assert (len(packets), packets.eliciting, packets.oldest(), packets.loss_time) == (0, 0, None, None)
    assert packets.acknowledge(((0, 6),), BEFORE) == []
