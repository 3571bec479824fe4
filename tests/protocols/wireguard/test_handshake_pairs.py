"""When a handshake begins, and what becomes of the three pairs."""

from __future__ import annotations

import pytest

from taps_security.protocols.wireguard.reasons import Reason
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    KeyExpiring,
    KeyId,
    LimitKind,
    RouteIssued,
    RouteRetired,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage

from .ends import HANDSHAKE, both, kinds, meet, refused


# ------------------------------------------------------------------------------------------- both at once, and again
def test_both_begin_at_the_same_instant() -> None:
    one, other = both()
    ours, theirs = one.initiate(0.0), other.initiate(0.0)
    answers = one.answer(theirs, 0.0), other.answer(ours, 0.0)
    one.take(answers[1], 0.0)
    other.take(answers[0], 0.0)
    assert one.sends_to(other) is not None
    assert other.sends_to(one) is not None
    for end in (one, other):
        previous, current, following = end.pairs
        assert (previous, current, following) == (0, 1, None)
        assert end.handshake.pending is None
        assert end.generations(Direction.SEND) == [1]


def test_both_begin_and_one_answer_is_late() -> None:
    one, other = both()
    ours, theirs = one.initiate(0.0), other.initiate(0.0)
    one.take(other.answer(ours, 0.0), 0.0)  # before the peer's own initiation arrives
    other.take(one.answer(theirs, 0.0), 0.0)
    assert other.pairs == (0, 1, None)  # the pair of the other's initiation was not confirmed yet
    assert one.pairs == (None, 0, 1)
    assert one.sends_to(other) is not None
    assert other.sends_to(one) == KeyId(Stage.APPLICATION, 1)
    assert one.pairs == (0, 1, None)
    assert one.sends_to(other) == KeyId(Stage.APPLICATION, 1)


def test_a_peer_that_gave_up_its_own_initiation_confirms_ours() -> None:
    """Other implementations keep one handshake only: an initiation that they answer ends their own."""
    one, other = both()
    theirs = other.initiate(0.0)
    other.handshake.abandon(0.0)
    other.drain()
    response = other.answer(one.initiate(0.0), 0.0)
    assert one.answer(theirs, 0.0)[0] == 2  # an answer to an initiation that is gone
    one.take(response, 0.0)
    assert one.sends_to(other) is not None
    assert other.sends_to(one) is not None


# ------------------------------------------------------------------------------------------------------------- pairs
def test_pairs_move_as_initiator() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    assert initiator.pairs == (None, 0, None)
    meet(initiator, responder, 10.0)
    assert initiator.pairs == (0, 1, None)
    assert initiator.generations(Direction.RECEIVE) == [0, 1]
    assert initiator.generations(Direction.SEND) == [1]
    meet(initiator, responder, 20.0)
    assert initiator.pairs == (1, 2, None)
    assert initiator.generations(Direction.RECEIVE) == [1, 2]
    assert len(initiator.routes) == 2


def test_pairs_move_as_responder() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    assert responder.pairs == (None, 0, None)
    response = responder.answer(initiator.initiate(10.0), 10.0)
    assert responder.pairs == (None, 0, 1)
    assert responder.handshake.sending_key == KeyId(Stage.APPLICATION, 0)  # until the new pair is confirmed
    initiator.take(response, 10.0)
    assert responder.sends_to(initiator) == KeyId(Stage.APPLICATION, 0)  # which the initiator still opens
    assert initiator.sends_to(responder) == KeyId(Stage.APPLICATION, 1)
    assert responder.pairs == (0, 1, None)
    assert responder.generations(Direction.SEND) == [1]
    assert responder.generations(Direction.RECEIVE) == [0, 1]
    # one more initiation takes the place of what is unconfirmed, and previous goes
    responder.take(initiator.initiate(20.0), 20.0)
    assert responder.pairs == (None, 1, 2)
    responder.take(initiator.initiate(30.0), 30.0)
    assert responder.pairs == (None, 1, 3)
    assert responder.generations(Direction.RECEIVE) == [1, 3]
    assert responder.generations(Direction.SEND) == [1]
    assert len(responder.routes) == 2


def test_an_initiator_keeps_the_unconfirmed_pair_of_the_peer_as_previous() -> None:
    one, other = both()
    meet(one, other, 0.0)
    response = other.answer(one.initiate(10.0), 10.0)
    one.take(other.initiate(10.0), 10.0)  # our next
    assert one.pairs == (None, 0, 1)
    one.take(response, 10.0)
    assert one.pairs == (1, 2, None)  # current went, next became previous
    assert one.generations(Direction.RECEIVE) == [1, 2]
    assert one.generations(Direction.SEND) == [2]


def test_confirming_a_pair_that_is_not_next_changes_nothing() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    before = initiator.pairs, responder.pairs
    initiator.sends_to(responder)
    responder.sends_to(initiator)
    assert (initiator.pairs, responder.pairs) == before
    assert [type(event) for event in responder.events].count(HandshakeComplete) == 1


def test_what_we_began_is_dropped_when_the_peers_pair_is_confirmed() -> None:
    one, other = both()
    one.initiate(0.0)
    one.events.clear()
    other.take(one.answer(other.initiate(0.0), 0.0), 0.0)
    assert one.handshake.pending == 1
    other.sends_to(one)
    assert one.handshake.pending is None
    assert len(one.routes) == 1


# -------------------------------------------------------------------------------------------------- when to begin again
def test_initiations_are_five_seconds_apart() -> None:
    initiator, responder = both()
    assert initiator.handshake.create_initiation(100.0)
    for early in (100.0, 104.99):
        assert not initiator.handshake.create_initiation(early)
    assert initiator.handshake.may_initiate_at == 105.0
    assert initiator.handshake.create_initiation(105.0)
    initiator.drain()
    responder.take(initiator.sent[-1], 105.0)
    assert not responder.handshake.create_initiation(109.0)  # a response counts, too
    assert responder.handshake.create_initiation(110.0)


def test_a_fresh_initiation_replaces_the_one_without_answer() -> None:
    initiator, responder = both()
    first = initiator.initiate(0.0)
    assert initiator.handshake.unanswered(1, 5.2)
    assert kinds(initiator.drain()) == [RouteRetired, RouteIssued, HandshakeMessage]
    second = initiator.sent.pop()
    assert initiator.exchanges == [1, 2]
    assert initiator.handshake.pending == 2
    fields = [(data[4:8], data[8:40], data[88:116]) for data in (first, second)]
    assert all(one != other for one, other in zip(*fields, strict=True))
    assert len(initiator.routes) == 1
    assert initiator.handshake.unanswered(1, 6.0)  # not pending any more
    assert initiator.drain() == []
    initiator.take(responder.answer(second, 5.3), 5.3)
    assert initiator.handshake.unanswered(2, 10.0)
    assert initiator.drain() == []


def test_giving_up_leaves_nothing() -> None:
    initiator, responder = both()
    response = responder.answer(initiator.initiate(0.0), 0.0)
    initiator.handshake.abandon(90.0)
    initiator.drain()
    assert initiator.routes == set()
    assert initiator.handshake.pending is None
    with refused(Reason.NOT_AWAITED):
        initiator.handshake.receive(HANDSHAKE, memoryview(response), 0, 90.0)


@pytest.mark.parametrize(
    ("age", "initiates", "answers"), [(0.0, False, False), (119.9, False, False), (120.0, True, False),
                                      (179.9, True, False), (180.0, True, True)],
)  # fmt: skip
def test_when_a_message_needs_a_handshake(age: float, initiates: bool, answers: bool) -> None:
    initiator, responder = both()
    assert initiator.handshake.wants_handshake(0.0)
    meet(initiator, responder, 0.0)
    assert initiator.handshake.wants_handshake(age) is initiates
    assert responder.handshake.wants_handshake(age) is answers
    assert initiator.handshake.can_send(age) is responder.handshake.can_send(age) is (age < 180)
    initiator.handshake.update_keys(age)
    assert not initiator.handshake.wants_handshake(age)


@pytest.mark.parametrize("role", ["initiator", "responder"])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("hard", [False, True])
def test_a_worn_out_key_begins_a_handshake(role: str, direction: Direction, hard: bool) -> None:
    """§6.2: by sending both do (a responder only when the key refuses or is used up), by receiving the initiator."""
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    end = initiator if role == "initiator" else responder
    event = KeyExpiring(KeyId(Stage.APPLICATION, 0), direction, LimitKind.TIME, hard=hard)
    end.handshake.key_expiring(event, 170.0)
    begins = direction is Direction.SEND or (role == "initiator" and not hard)
    assert kinds(end.drain()) == ([RouteIssued, HandshakeMessage] if begins else [])
    end.handshake.key_expiring(event, 171.0)
    assert end.drain() == []  # it is under way


def test_an_old_key_begins_nothing() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    meet(initiator, responder, 120.0)
    for generation in (0, 7):
        event = KeyExpiring(KeyId(Stage.APPLICATION, generation), Direction.SEND, LimitKind.TIME)
        initiator.handshake.key_expiring(event, 130.0)
    assert initiator.drain() == []


def test_keys_are_updated_on_request_once_at_a_time() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    initiator.handshake.update_keys(1.0)
    initiator.handshake.update_keys(1.1)
    initiator.drain()
    assert len(initiator.sent) == 1
    responder.handshake.update_keys(1.0)
    responder.drain()
    assert responder.sent[-1][0] == 1
