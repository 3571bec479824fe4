"""The timers, each at its edge: nothing is due before, and nothing that was taken away comes due."""

from __future__ import annotations

import pytest

from taps_security.protocols.wireguard.delivery import NEVER, Timer, Timers
from taps_security.protocols.wireguard.limits import RETRY_JITTER

NOW = 1000.0


def steady(octets: int) -> bytes:
    return bytes(octets)


def most(octets: int) -> bytes:
    return b"\xff" * octets


def timers(persistent: int = 0, random=steady) -> Timers:
    return Timers(random, persistent)


def due(clock: Timers, now: float) -> list[Timer]:
    return list(clock.due(now))


def test_nothing_runs_by_itself() -> None:
    clock = timers()
    assert clock.earliest == NEVER
    assert due(clock, 1e9) == []
    assert clock.may_initiate(NOW)


def test_a_keepalive_is_owed_ten_seconds_after_the_first_data_without_an_answer() -> None:
    clock = timers()
    clock.received(NOW, data=True)
    clock.received(NOW + 5, data=True)
    assert clock.earliest == NOW + 10
    assert due(clock, NOW + 9.999) == []
    assert due(clock, NOW + 10) == [Timer.SEND_KEEPALIVE]
    assert due(clock, NOW + 1000) == []


@pytest.mark.parametrize("data", [True, False])
def test_whatever_goes_out_is_an_answer(data: bool) -> None:
    clock = timers()
    clock.received(NOW, data=True)
    clock.sent(NOW + 1, data=data)
    assert Timer.SEND_KEEPALIVE not in due(clock, NOW + 12)


def test_a_keepalive_asks_for_no_answer() -> None:
    clock = timers()
    clock.received(NOW, data=False)
    clock.sent(NOW, data=False)
    assert clock.earliest == NEVER


@pytest.mark.parametrize(("random", "late"), [(steady, 0.0), (most, RETRY_JITTER)])
def test_silence_after_data_makes_a_handshake_after_fifteen_seconds(random, late: float) -> None:
    clock = timers(random=random)
    clock.initiated(NOW - 100)  # from here its jitter
    clock.completed()
    clock.sent(NOW, data=True)
    clock.sent(NOW + 5, data=True)  # the first one counts
    assert due(clock, NOW + 14.999) == []
    assert due(clock, NOW + 15 + late) == [Timer.NEW_HANDSHAKE]
    clock.sent(NOW + 20, data=True)
    clock.received(NOW + 21, data=False)
    assert due(clock, NOW + 1000) == []


@pytest.mark.parametrize(("random", "late"), [(steady, 0.0), (most, RETRY_JITTER)])
def test_an_initiation_is_repeated_after_five_seconds_and_a_jitter(random, late: float) -> None:
    clock = timers(random=random)
    clock.initiated(NOW)
    assert not clock.may_initiate(NOW + 4.999)
    assert due(clock, NOW + 4.999) == []
    assert due(clock, NOW + 5 + late) == [Timer.RETRANSMIT_HANDSHAKE]
    assert clock.may_initiate(NOW + 5 + late)
    assert clock.earliest - NOW >= 5.0 or clock.earliest == NOW + 90


def test_it_is_given_up_after_ninety_seconds() -> None:
    clock = timers()
    clock.initiated(NOW)
    sent = 1
    while Timer.GIVE_UP not in (now := due(clock, clock.earliest)):
        assert now == [Timer.RETRANSMIT_HANDSHAKE]
        clock.initiated(clock.initiated_at + 5)
        sent += 1
    assert sent == 18
    clock.gave_up(NOW + 90)
    assert due(clock, NOW + 90 + 539.999) == []
    assert due(clock, NOW + 90 + 540) == [Timer.ZERO_KEYS]


def test_who_wants_a_handshake_has_ninety_seconds_from_then_on() -> None:
    clock = timers()
    clock.initiated(NOW)
    clock.wanted(NOW + 80)
    assert Timer.GIVE_UP not in due(clock, NOW + 169.999)
    assert due(clock, NOW + 170) == [Timer.GIVE_UP]


def test_the_peer_may_be_elsewhere_after_ninety_seconds_however_often_a_handshake_was_wanted() -> None:
    clock = timers()
    clock.initiated(NOW)
    for seconds in range(5, 90, 5):
        clock.initiated(NOW + seconds)
        clock.wanted(NOW + seconds)
    assert not clock.stale(NOW + 89.999)
    assert clock.stale(NOW + 90)
    clock.elsewhere()
    assert not clock.stale(NOW + 90)
    clock.initiated(NOW + 95)
    assert not clock.stale(NOW + 184.999)
    assert clock.stale(NOW + 185)
    clock.completed()
    assert not clock.stale(NOW + 1000)


def test_a_wish_too_soon_after_an_initiation_waits() -> None:
    clock = timers()
    clock.initiated(NOW)
    clock.completed()
    assert not clock.may_initiate(NOW + 1)
    clock.wanted(NOW + 1)
    assert due(clock, NOW + 5) == [Timer.RETRANSMIT_HANDSHAKE]


def test_a_complete_handshake_stops_what_waits_for_it() -> None:
    clock = timers()
    clock.initiated(NOW)
    clock.derived(NOW + 1)
    clock.completed()
    assert due(clock, NOW + 540.999) == []
    assert due(clock, NOW + 541) == [Timer.ZERO_KEYS]


def test_keys_are_wiped_540_seconds_after_the_last_new_ones() -> None:
    clock = timers()
    clock.derived(NOW)
    clock.derived(NOW + 500)
    assert due(clock, NOW + 1039.999) == []
    assert due(clock, NOW + 1040) == [Timer.ZERO_KEYS]


def test_persistent_keepalives_follow_silence() -> None:
    clock = timers(persistent=25)
    clock.sent(NOW, data=False)
    clock.received(NOW + 20, data=False)
    assert due(clock, NOW + 44.999) == []
    assert due(clock, NOW + 45) == [Timer.PERSISTENT_KEEPALIVE]
    clock.keep_alive(0)
    clock.sent(NOW + 46, data=False)
    assert due(clock, NOW + 1000) == []
    clock.keep_alive(1)
    assert due(clock, NOW + 1000) == [Timer.PERSISTENT_KEEPALIVE]
    clock.traversed(NOW + 1000)
    assert due(clock, NOW + 1000.999) == []
    assert due(clock, NOW + 1001) == [Timer.PERSISTENT_KEEPALIVE]


def test_packets_never_move_the_earliest_time_away() -> None:
    """So that whoever armed a timer for it need not look at every packet."""
    clock = timers()
    clock.received(NOW, data=True)
    earliest = clock.earliest
    for step in range(100):
        clock.sent(NOW + step / 100, data=True)
        clock.received(NOW + step / 100, data=True)
        assert clock.earliest == earliest
    assert due(clock, earliest) == []
    assert clock.earliest == NOW + 0.99 + 10


def test_stop() -> None:
    clock = timers(persistent=1)
    clock.initiated(NOW)
    clock.derived(NOW)
    clock.stop()
    assert due(clock, 1e9) == []


def test_each_timer_names_an_attribute() -> None:
    clock = timers()
    assert all(getattr(clock, timer.value) == NEVER for timer in Timer)
