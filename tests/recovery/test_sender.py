"""`Recovery`: timers, probes, persistent congestion, undo and budgets (RFC 9002 §6.2, §7.6, A.7 to A.11)."""

from __future__ import annotations

import pytest

from taps_security.recovery import Cubic, NewReno, Pacer, Recovery, RttEstimator

SIZE = 1200


def make(spaces: int = 1, max_ack_delay: float = 0.0, pacer: Pacer | None = None) -> Recovery:
    rtt = RttEstimator()
    return Recovery(rtt, NewReno(rtt, SIZE), pacer, max_ack_delay=max_ack_delay, spaces=spaces)


def sampled(rtt: float = 0.1, max_ack_delay: float = 0.0) -> Recovery:
    """After one packet (number 0, sent at 0) whose acknowledgement took `rtt` seconds."""
    recovery = make(max_ack_delay=max_ack_delay)
    recovery.on_sent(0, SIZE, 0.0)
    recovery.on_acked(((0, 0),), rtt)
    return recovery


# -- acknowledgements -------------------------------------------------------------------------------------------------
def test_an_acknowledgement_measures_and_opens_the_window() -> None:
    recovery = make()
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    assert recovery.budget(1.0) == 0
    assert recovery.on_acked(((0, 4),), 1.1) == ([0, 1, 2, 3, 4], [])
    assert recovery.rtt.latest == pytest.approx(0.1)
    assert recovery.controller.in_flight == 5 * SIZE
    assert recovery.budget(1.1) == 10 * SIZE  # five arrived, and slow start adds five
    assert recovery.on_acked(((0, 4),), 1.2) == ([], [])


def test_the_named_packet_is_measured() -> None:
    recovery = make()
    recovery.on_sent(0, SIZE, 0.0)
    recovery.on_sent(1, SIZE, 0.5)
    recovery.on_acked(((0, 1),), 1.0, sample=0)
    assert recovery.rtt.latest == 1.0


def test_no_sample_of_packets_whose_acknowledgement_nobody_hurries() -> None:
    recovery = make()
    recovery.on_sent(0, 40, 0.0, ack_eliciting=False, in_flight=False)
    recovery.on_acked(((0, 0),), 1.0)
    assert not recovery.rtt.sampled
    assert recovery.controller.in_flight == 0


def test_the_peers_delay_counts_up_to_its_maximum_once_confirmed() -> None:
    recovery = sampled(0.1, max_ack_delay=0.025)
    recovery.on_sent(1, SIZE, 1.0)
    recovery.on_acked(((1, 1),), 1.2, ack_delay=0.09)
    assert recovery.rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.175)


def test_a_loss_shrinks_the_window_and_lets_one_packet_go() -> None:
    recovery = make()
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    acked, lost = recovery.on_acked(((5, 5),), 1.1)
    assert (acked, lost) == ([5], [0, 1, 2])
    assert recovery.controller.window == 5 * SIZE
    assert recovery.controller.in_flight == 6 * SIZE
    assert recovery.budget(1.1) == SIZE  # §7.3.2
    recovery.on_sent(10, SIZE, 1.1)
    assert recovery.budget(1.1) == 0


def test_what_the_same_acknowledgement_brings_does_not_grow_the_window_it_shrinks() -> None:
    recovery = make()
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    recovery.on_acked(((4, 9),), 1.1)
    assert recovery.controller.window == 5 * SIZE


def test_marks_are_congestion_without_a_loss() -> None:
    recovery = make()
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    acked, lost = recovery.on_acked(((0, 1),), 1.1, congested=True)
    assert (acked, lost) == ([0, 1], [])
    assert recovery.controller.window == 5 * SIZE
    recovery.on_acked(((2, 3),), 1.15, congested=True)  # the same round trip
    assert recovery.controller.window == 5 * SIZE


@pytest.mark.parametrize("controller", [NewReno, Cubic])
def test_packets_that_arrive_after_all_restore_the_window(controller: type[NewReno] | type[Cubic]) -> None:
    rtt = RttEstimator()
    recovery = Recovery(rtt, controller(rtt, SIZE))
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    recovery.on_acked(((5, 5),), 1.1)
    assert recovery.controller.window < 10 * SIZE
    recovery.on_acked(((0, 1),), 1.11)
    assert recovery.controller.window < 10 * SIZE  # packet 2 is still missing
    recovery.on_acked(((2, 2),), 1.12)
    assert recovery.controller.window == 10 * SIZE
    assert recovery.space().packet_threshold > 3


def test_marks_are_never_taken_back() -> None:
    recovery = make()
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    recovery.on_acked(((5, 5),), 1.1, congested=True)
    window = recovery.controller.window
    recovery.on_acked(((0, 4),), 1.2)
    assert recovery.controller.window == window


# -- the timer --------------------------------------------------------------------------------------------------------
def test_nothing_in_flight_needs_no_timer() -> None:
    recovery = make()
    assert recovery.deadline is None
    recovery.on_sent(0, 40, 0.0, ack_eliciting=False, in_flight=False)
    assert recovery.deadline is None
    recovery.on_sent(1, SIZE, 0.0)
    assert recovery.deadline is not None
    recovery.on_acked(((0, 1),), 0.1)
    assert recovery.deadline is None


def test_the_probe_timeout_runs_from_the_newest_packet_and_doubles() -> None:
    recovery = sampled(0.1, max_ack_delay=0.025)
    recovery.on_sent(1, SIZE, 1.0)
    recovery.on_sent(2, SIZE, 2.0)
    pto = 0.1 + 4 * 0.05 + 0.025
    assert recovery.deadline == pytest.approx(2.0 + pto)
    assert recovery.on_timeout(2.0 + pto / 2) == ([], False, 0)  # too early
    assert recovery.on_timeout(2.0 + 1.01 * pto) == ([], True, 0)
    assert recovery.deadline == pytest.approx(2.0 + 2 * pto)
    recovery.on_sent(3, SIZE, 3.0)
    assert recovery.deadline == pytest.approx(3.0 + 2 * pto)
    recovery.on_acked(((3, 3),), 3.1)
    assert recovery.pto_count == 0


def test_probes_pass_a_full_window_and_mark_nothing_lost() -> None:
    recovery = make()
    recovery.on_sent_run(0, 10, SIZE, 0.0)
    deadline = recovery.deadline
    assert deadline is not None
    assert recovery.on_timeout(deadline).probe
    assert recovery.budget(deadline) == 2 * SIZE
    assert recovery.space().oldest() == 0
    recovery.on_sent(10, SIZE, deadline)
    recovery.on_sent(11, SIZE, deadline)
    assert recovery.budget(deadline) == 0
    assert recovery.controller.in_flight == 12 * SIZE  # §7.5
    assert len(recovery.space()) == 12


def test_time_makes_the_last_packets_of_a_flight_lost() -> None:
    recovery = sampled(0.1)
    recovery.on_sent_run(1, 3, SIZE, 1.0)
    recovery.on_acked(((3, 3),), 1.1)
    assert recovery.deadline == pytest.approx(1.0 + 1.125 * 0.1)
    assert recovery.on_timeout(1.11) == ([], False, 0)
    lost, probe, space = recovery.on_timeout(1.1126)
    assert (lost, probe, space) == ([1, 2], False, 0)
    assert recovery.controller.in_flight == 0


def test_the_back_off_has_an_end() -> None:
    recovery = make()
    recovery.on_sent(0, SIZE, 0.0)
    for _ in range(100):
        deadline = recovery.deadline
        assert deadline is not None
        recovery.on_timeout(deadline)
    assert recovery.deadline == pytest.approx(0.999 * 2**16)


def test_a_blackout_takes_the_window_to_the_minimum() -> None:
    recovery = sampled(0.1)
    for number, at in enumerate((1.0, 1.1, 2.1, 2.2), 1):
        recovery.on_sent(number, SIZE, at)
    recovery.on_sent(5, SIZE, 3.0)
    _, lost = recovery.on_acked(((5, 5),), 3.1)
    assert lost == [1, 2, 3, 4]  # 1.2 s, and three PTOs are 0.75 s
    assert recovery.controller.window == 3 * SIZE  # the minimum, and slow start by what arrived (B.8, A.7)


def test_a_shorter_one_only_halves_it() -> None:
    recovery = sampled(0.1)
    for number, at in enumerate((1.0, 1.1, 1.2, 1.7), 1):
        recovery.on_sent(number, SIZE, at)
    recovery.on_sent(5, SIZE, 3.0)
    recovery.on_acked(((5, 5),), 3.1)
    assert recovery.controller.window == pytest.approx(5.5 * SIZE, abs=1)


def test_losses_before_the_first_sample_are_no_blackout() -> None:
    recovery = make()
    for number, at in enumerate((0.0, 5.0, 10.0, 20.0)):
        recovery.on_sent(number, SIZE, at)
    recovery.on_sent(4, SIZE, 30.0)
    _, lost = recovery.on_acked(((4, 4),), 30.1)
    assert lost == [0, 1, 2, 3]
    assert recovery.controller.window == 5 * SIZE


# -- three spaces (QUIC) ----------------------------------------------------------------------------------------------
def test_each_space_has_numbers_of_its_own_and_all_share_a_window() -> None:
    recovery = make(spaces=3)
    for space in range(3):
        recovery.on_sent(0, SIZE, 0.0, space=space)
    assert recovery.controller.in_flight == 3 * SIZE
    assert recovery.on_acked(((0, 0),), 0.1, space=1) == ([0], [])
    assert [len(recovery.space(index)) for index in range(3)] == [1, 0, 1]


def test_application_data_is_not_probed_before_the_handshake_is_confirmed() -> None:
    recovery = make(spaces=3, max_ack_delay=0.025)
    recovery.on_sent(0, SIZE, 0.0, space=2)
    assert recovery.deadline is None
    recovery.on_sent(0, SIZE, 1.0, space=1)
    assert recovery.deadline == pytest.approx(1.999)  # no max_ack_delay in a handshake
    assert recovery.on_timeout(2.0) == ([], True, 1)
    recovery.confirmed = True
    assert recovery.deadline == pytest.approx(2 * (0.999 + 0.025))
    assert recovery.on_timeout(2.1) == ([], True, 2)


def test_a_limit_on_sending_stops_the_timer() -> None:
    recovery = make(spaces=3)
    recovery.on_sent(0, SIZE, 0.0, space=0)
    recovery.blocked = True
    assert recovery.deadline is None
    assert recovery.on_timeout(100.0) == ([], False, 0)
    recovery.blocked = False
    assert recovery.on_timeout(100.0) == ([], True, 0)


def test_a_client_probes_with_nothing_in_flight_until_the_server_knows_its_address() -> None:
    recovery = make(spaces=3)
    recovery.validated = False
    recovery.on_sent(0, SIZE, 0.0)
    recovery.on_acked(((0, 0),), 0.1)
    assert recovery.pto_count == 0
    assert recovery.deadline == pytest.approx(0.1 + 0.3)
    assert recovery.on_timeout(0.41) == ([], True, 0)
    recovery.on_sent(1, SIZE, 0.41)
    recovery.on_sent(0, SIZE, 0.41, space=1)
    recovery.on_acked(((1, 1),), 0.5)
    assert recovery.pto_count == 1  # §6.2.1: not reset
    recovery.on_acked(((0, 0),), 0.5, space=1)
    assert recovery.on_timeout(10.0).space == 1


def test_a_space_that_is_discarded_leaves_the_flight_and_the_back_off() -> None:
    recovery = make(spaces=3)
    recovery.on_sent(0, SIZE, 0.0)
    recovery.on_timeout(1.0)
    recovery.discard(0)
    assert (recovery.controller.in_flight, recovery.pto_count, recovery.deadline) == (0, 0, None)
    with pytest.raises(ValueError, match="0 packet number spaces"):
        make(spaces=0)


# -- budgets ----------------------------------------------------------------------------------------------------------
def test_the_pacer_spreads_the_window() -> None:
    recovery = make(pacer=Pacer(granularity=0.0))
    recovery.rtt.update(0.1, 0.0)
    recovery.controller.window = 100 * SIZE
    assert recovery.budget(0.0) == 10 * SIZE
    recovery.on_sent_run(0, 10, SIZE, 0.0)
    assert recovery.budget(0.0) == 0
    at = recovery.send_at(0.0)
    assert at == pytest.approx(0.1 / 200)  # in slow start two windows go out in a round trip
    assert at is not None
    assert recovery.budget(at) == SIZE
    assert recovery.send_at(at) is None


def test_a_full_window_waits_for_no_pacer() -> None:
    recovery = make(pacer=Pacer())
    recovery.budget(0.0)
    recovery.on_sent_run(0, 10, SIZE, 0.0)
    assert recovery.send_at(0.0) is None
    assert make().send_at(0.0) is None


def test_the_window_restarts_after_a_pause_of_a_timeout() -> None:
    recovery = sampled(0.1)
    recovery.controller.window = 100 * SIZE
    recovery.on_sent(1, SIZE, 1.0)
    assert recovery.budget(9.0) == 99 * SIZE  # something is in flight: not idle
    recovery.on_acked(((1, 1),), 9.1)
    recovery.on_sent(2, SIZE, 10.0)
    recovery.on_acked(((2, 2),), 10.1)
    assert recovery.budget(10.2) > 99 * SIZE
    assert recovery.budget(60.0) == 10 * SIZE
    recovery.controller.window = 50 * SIZE
    assert recovery.budget(70.0) == 50 * SIZE  # once for each pause


def test_a_new_path_starts_again_and_hears_nothing_from_the_old_one() -> None:
    recovery = make(pacer=Pacer())
    recovery.on_sent_run(0, 10, SIZE, 1.0)
    recovery.on_acked(((0, 0),), 1.1)
    recovery.path_changed(2.0)
    assert (recovery.controller.in_flight, recovery.rtt.sampled) == (0, False)
    assert recovery.budget(2.0) == 10 * SIZE
    recovery.on_sent(10, SIZE, 2.0)
    acked, lost = recovery.on_acked(((5, 5),), 3.0)
    assert (acked, lost) == ([5], [1, 2, 3, 4])
    assert not recovery.rtt.sampled
    assert (recovery.controller.in_flight, recovery.controller.window) == (SIZE, 10 * SIZE)
    recovery.on_acked(((9, 10),), 3.0)
    assert recovery.rtt.latest == 1.0
