"""Cookies as who is asked for one sees them."""

from __future__ import annotations

import pytest

from taps_security.protocols.wireguard.reasons import Reason
from taps_security.stack.errors import PeerMisbehaved
from taps_security.stack.screening import Create

from .ends import FACTS, HANDSHAKE, End, refused


# ------------------------------------------------------------------------------------------------------------ cookies
def loaded() -> tuple[End, End]:
    return End("initiator", "responder"), End("responder", "initiator", loaded_above=0)


def test_a_cookie_is_taken_and_shown_in_the_next_initiation() -> None:
    initiator, responder = loaded()
    reply = responder.screen(initiator.initiate(0.0), 0.0).datagram  # type: ignore[union-attr]
    initiator.handshake.receive(HANDSHAKE, memoryview(reply), 0, 0.1)
    assert initiator.drain() == []  # nothing is sent at once
    assert initiator.handshake.unanswered(1, 5.0)
    initiator.drain()
    verdict = responder.screen(initiator.sent[-1], 5.0)
    assert isinstance(verdict, Create)
    assert verdict.validated
    assert initiator.sent[-1][-16:] != bytes(16)


def test_a_cookie_wears_out_after_two_minutes() -> None:
    initiator, responder = loaded()
    reply = responder.screen(initiator.initiate(0.0), 0.0).datagram  # type: ignore[union-attr]
    initiator.take(reply, 0.0)
    for now, shown in ((5.0, True), (119.9, True), (120.0, False), (121.0, False)):
        assert (initiator.initiate(now)[-16:] != bytes(16)) is shown


def test_a_cookie_needs_a_message_that_waits_for_it() -> None:
    initiator, responder = loaded()
    reply = responder.screen(initiator.initiate(0.0), 0.0).datagram  # type: ignore[union-attr]
    initiator.take(reply, 0.0)
    with refused(Reason.NO_COOKIE_AWAITED):
        initiator.take(reply, 0.0)  # it was answered
    stranger = End("initiator", "responder")
    with refused(Reason.NO_COOKIE_AWAITED):
        stranger.handshake.receive(HANDSHAKE, memoryview(reply), 0, 0.0)  # nothing was sent
    stranger.initiate(0.0)
    stranger.initiate(1.0)
    with refused(Reason.NO_COOKIE_AWAITED):
        stranger.handshake.receive(HANDSHAKE, memoryview(reply), 0, 0.0)  # for an index of before


def test_a_cookie_is_bound_to_the_message_that_it_answers() -> None:
    initiator, responder = loaded()
    reply = responder.screen(initiator.initiate(0.0), 0.0).datagram  # type: ignore[union-attr]
    initiator.peer.last_mac1 = bytes(16)
    with refused(Reason.UNAUTHENTIC):
        initiator.take(reply, 0.0)
    assert initiator.peer.cookie is None


def test_every_flipped_bit_of_a_cookie_reply_is_dropped() -> None:
    initiator, responder = loaded()
    reply = responder.screen(initiator.initiate(0.0), 0.0).datagram  # type: ignore[union-attr]
    for bit in range(8 * len(reply)):
        wrong = bytearray(reply)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerMisbehaved):
            initiator.handshake.receive(HANDSHAKE, memoryview(wrong), 0, 0.0)
        assert initiator.peer.cookie is None
    initiator.take(reply, 0.0)
    assert initiator.peer.cookie is not None


def test_a_responder_takes_a_cookie_for_its_response() -> None:
    """Who is under load may ask so for a response, too."""
    initiator, responder = End("initiator", "responder"), End("responder", "initiator")
    response = responder.answer(initiator.initiate(0.0), 0.0)
    reply = initiator.screener._cookies.give(response[4:8], response[60:76], FACTS.remote, 0.0)
    responder.take(reply, 0.0)
    assert responder.answer(initiator.initiate(1.0), 1.0)[-16:] != bytes(16)
