"""Two handshakes against each other: keys, pairs, cookies, and what happens to bad messages."""

from __future__ import annotations

import base64

import pytest

from taps_security.crypto.sodium import scalarmult_base
from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.wireguard.handshake import OpenedInitiation
from taps_security.protocols.wireguard.keys import TransportSecret
from taps_security.protocols.wireguard.options import WireGuardPeer, key_text
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.stack.errors import LocalError, PeerMisbehaved
from taps_security.stack.errors import Reason as CommonReason
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyDiscarded,
    KeyId,
    KeyReady,
    LimitKind,
    PeerAuthenticated,
    RouteIssued,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage
from taps_security.stack.screening import Create, Drop, HandOver

from .ends import FACTS, HANDSHAKE, WALL, End, both, kinds, meet, public_key, refused

PSK = bytes([7]) * 32


# ------------------------------------------------------------------------------------------------------- the handshake
@pytest.mark.parametrize("psk", [None, PSK], ids=["without psk", "with psk"])
def test_both_ends_agree_on_keys_and_indices(psk: bytes | None) -> None:
    initiator, responder = both(psk=psk)
    initiator.handshake.start(FACTS, 0.0)
    assert kinds(initiator.drain()) == [RouteIssued, HandshakeMessage]
    first = initiator.sent.pop()
    assert initiator.handshake.pending == initiator.exchanges[-1] == 1

    responder.take(first, 0.0)
    assert kinds(responder.events) == [RouteIssued, KeyReady, HandshakeMessage]
    assert responder.exchanges == [0]  # a response is not repeated

    initiator.events.clear()
    initiator.take(responder.sent.pop(), 0.0)
    assert kinds(initiator.events) == [KeyReady, KeyReady, PeerAuthenticated, HandshakeComplete]
    assert [event.direction for event in initiator.events[:2]] == [Direction.RECEIVE, Direction.SEND]
    assert initiator.handshake.pending is None

    ours, theirs = initiator.keys, responder.keys
    key = KeyId(Stage.APPLICATION, 0)
    assert ours[key, Direction.SEND].key == theirs[key, Direction.RECEIVE].key
    assert ours[key, Direction.SEND].index == theirs[key, Direction.RECEIVE].index
    assert initiator.sends_to(responder) == key
    assert ours[key, Direction.RECEIVE].key == theirs[key, Direction.SEND].key
    assert ours[key, Direction.RECEIVE].index == theirs[key, Direction.SEND].index
    assert ours[key, Direction.SEND].key != ours[key, Direction.RECEIVE].key
    for end in (initiator, responder):
        assert end.routes == {("wireguard", end.keys[key, Direction.RECEIVE].index)}
        assert end.peer.latest_handshake == WALL


def test_the_responder_withholds_its_sending_key() -> None:
    initiator, responder = both()
    initiator.take(responder.answer(initiator.initiate(0.0), 0.0), 0.0)
    assert responder.generations(Direction.SEND) == []
    assert responder.handshake.sending_key is None
    assert not responder.handshake.can_send(0.0)
    assert HandshakeComplete not in kinds(responder.events)
    responder.events.clear()
    initiator.sends_to(responder)
    assert kinds(responder.events) == [KeyReady, PeerAuthenticated, HandshakeComplete, HandshakeConfirmed]
    assert responder.handshake.sending_key == KeyId(Stage.APPLICATION, 0)
    assert responder.handshake.can_send(0.0)
    initiator.events.clear()
    responder.sends_to(initiator)
    assert kinds(initiator.events) == [HandshakeConfirmed]


def test_what_is_told_of_the_peer() -> None:
    for psk in (None, PSK):
        initiator, responder = both(psk=psk)
        meet(initiator, responder)
        for end, name in ((initiator, "responder"), (responder, "initiator")):
            told = {type(event): event for event in end.events}
            assert told[PeerAuthenticated].identity == key_text(public_key(name))
            summary = told[HandshakeComplete].summary
            assert summary["psk"] == ("external" if psk else None)
            assert summary["provides"] == {"pre_shared_key": psk is not None}


def test_who_was_begun_with_does_not_begin_itself() -> None:
    initiator, responder = both()
    responder.take(initiator.initiate(0.0), 0.0)
    responder.handshake.start(FACTS, 0.0)
    assert responder.handshake.pending is None
    assert len(responder.sent) == 1


def test_limits_depend_on_who_began() -> None:
    initiator, responder = both()
    meet(initiator, responder)

    def found(end: End) -> dict[Direction, list[tuple[LimitKind, float, float]]]:
        ready = [event for event in end.events if isinstance(event, KeyReady)]
        assert all(limit.on_use for event in ready for limit in event.limits)
        return {one.direction: [(limit.kind, limit.soft, limit.hard) for limit in one.limits] for one in ready}

    packets = (LimitKind.PACKETS, 2**60, 2**64 - 2**13 - 1)
    everything = (LimitKind.PACKETS, 2**64 - 2**13 - 1, 2**64 - 2**13 - 1)
    assert found(initiator) == {
        Direction.SEND: [(LimitKind.TIME, 120, 180), packets],
        Direction.RECEIVE: [(LimitKind.TIME, 165, 180), everything],
    }
    assert found(responder) == {
        Direction.SEND: [(LimitKind.TIME, 180, 180), packets],
        Direction.RECEIVE: [(LimitKind.TIME, 180, 180), everything],
    }


# --------------------------------------------------------------------------------------------------------- bad messages
def test_a_wrong_preshared_key_gives_no_keys() -> None:
    initiator, responder = End("initiator", "responder", psk=PSK), End("responder", "initiator")
    response = responder.answer(initiator.initiate(0.0), 0.0)
    with refused(Reason.UNAUTHENTIC):
        initiator.take(response, 0.0)
    assert initiator.keys == {}
    assert initiator.handshake.pending == 1


def test_a_response_for_another_index_is_dropped() -> None:
    initiator, responder = both()
    old = initiator.initiate(0.0)
    late = responder.answer(old, 0.0)
    newer = initiator.initiate(1.0)
    with refused(Reason.NOT_AWAITED):
        initiator.handshake.receive(HANDSHAKE, memoryview(late), 0, 1.0)
    initiator.take(responder.answer(newer, 1.0), 1.0)
    assert initiator.generations(Direction.SEND) == [0]


def test_a_response_counts_once() -> None:
    initiator, responder = both()
    response = responder.answer(initiator.initiate(0.0), 0.0)
    initiator.take(response, 0.0)
    before = dict(initiator.keys)
    with refused(Reason.NOT_AWAITED):
        initiator.take(response, 0.0)
    assert initiator.drain() == []
    assert initiator.keys == before


def test_every_flipped_bit_of_a_response_is_dropped_and_the_good_one_then_taken() -> None:
    initiator, responder = both(psk=PSK)
    response = responder.answer(initiator.initiate(0.0), 0.0)
    for bit in range(8 * 76):  # mac2 is not looked at
        wrong = bytearray(response)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PeerMisbehaved):
            initiator.handshake.receive(HANDSHAKE, memoryview(wrong), 0, 0.0)
        assert initiator.drain() == []
    initiator.take(response, 0.0)
    assert initiator.sends_to(responder) is not None


@pytest.mark.parametrize("size", [*range(92), 93, 148])
def test_responses_that_are_cut_or_longer_are_dropped(size: int) -> None:
    initiator, responder = both()
    response = responder.answer(initiator.initiate(0.0), 0.0)
    with pytest.raises(MalformedMessage):
        initiator.handshake.receive(HANDSHAKE, memoryview((response + bytes(60))[:size]), 0, 0.0)
    initiator.take(response, 0.0)


def test_an_initiation_is_not_for_a_stack_to_open() -> None:
    initiator, responder = both()
    with pytest.raises(MalformedMessage):
        responder.handshake.receive(HANDSHAKE, memoryview(initiator.initiate(0.0)), 0, 0.0)


def test_a_seed_that_became_old_is_refused_and_changes_nothing() -> None:
    initiator, responder = both()
    first, second = initiator.initiate(0.0), initiator.initiate(1.0)
    verdicts = [responder.screen(first, 1.0), responder.screen(second, 1.0)]
    assert all(isinstance(verdict, Create) for verdict in verdicts)
    responder.handshake.consume_initiation(verdicts[1].seed, 1.0)  # type: ignore[union-attr, arg-type]
    responder.drain()
    with refused(Reason.REPLAYED):
        responder.handshake.consume_initiation(verdicts[0].seed, 2.0)  # type: ignore[union-attr, arg-type]
    assert responder.drain() == []
    assert responder.generations(Direction.RECEIVE) == [0]


# -------------------------------------------------------------------------------------------------------------- ends
def test_erasure_leaves_no_key_no_index_and_no_route() -> None:
    initiator, responder = both()
    for now in (0.0, 10.0):
        meet(initiator, responder, now)
    responder.take(initiator.initiate(20.0), 20.0)
    for end in (initiator, responder):
        end.handshake.erase(560.0)
        end.drain()
        assert end.keys == {}
        assert end.routes == set()
        assert end.pairs == (None, None, None)
        assert end.handshake.sending_key is None
        assert not end.tunnel._indices
        end.handshake.erase(561.0)
        assert end.drain() == []
    meet(initiator, responder, 600.0)  # and life goes on
    assert initiator.generations(Direction.SEND) == [2]


def test_ephemeral_secrets_go_with_their_handshake() -> None:
    initiator, responder = both()
    first = initiator.initiate(0.0)
    waiting = initiator.handshake._waiting
    assert waiting is not None
    verdict = responder.screen(first, 0.0)
    assert isinstance(verdict, Create)
    seed = verdict.seed
    assert isinstance(seed, OpenedInitiation)
    responder.handshake.consume_initiation(seed, 0.0)
    responder.drain()
    assert seed.state.chaining_key == seed.state.hash == b""
    initiator.take(responder.sent.pop(), 0.0)
    assert waiting.ephemeral == waiting.state.chaining_key == waiting.state.hash == b""
    initiator.initiate(10.0)
    second = initiator.handshake._waiting
    assert second is not None
    initiator.handshake.abandon(100.0)
    assert second.ephemeral == second.state.chaining_key == b""


def test_no_text_shows_a_secret() -> None:
    initiator, responder = both(psk=PSK)
    verdict = responder.screen(initiator.initiate(0.0), 0.0)
    assert isinstance(verdict, Create)
    seen = [repr(verdict.seed), repr(verdict), repr(initiator.peer), repr(initiator.tunnel), repr(initiator.handshake)]
    seen += [repr(initiator.handshake._waiting), repr(initiator.tunnel.environment)]
    meet(initiator, responder, 10.0)
    seen += [repr(event) for event in initiator.events if not isinstance(event, HandshakeMessage)]
    secrets = [initiator.tunnel.private_key, PSK, initiator.peer.static_static]
    secrets += [secret.key for secret in initiator.keys.values() if isinstance(secret, TransportSecret)]
    for text in seen:
        for secret in secrets:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
            assert base64.b64encode(secret).decode() not in text


def test_there_is_no_exporter_and_nothing_to_answer() -> None:
    initiator, responder = both()
    meet(initiator, responder)
    with pytest.raises(LocalError) as caught:
        initiator.handshake.export_secret(b"label", None, 32)
    assert caught.value.reason is CommonReason.NOT_SUPPORTED
    initiator.handshake.answer(1, None, 0.0)
    assert initiator.drain() == []


# ------------------------------------------------------------------------------------------------- changes and the log
def test_a_changed_preshared_key_counts_from_the_next_message_on() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    for end in (initiator, responder):
        end.peer.configure(WireGuardPeer(public_key=end.peer.public_key, preshared_key=PSK))
    meet(initiator, responder, 10.0)
    responder.peer.configure(WireGuardPeer(public_key=responder.peer.public_key))
    response = responder.answer(initiator.initiate(20.0), 20.0)
    with refused(Reason.UNAUTHENTIC):
        initiator.take(response, 20.0)


@pytest.mark.parametrize("psk", [None, PSK])
def test_the_key_log_is_the_one_that_wireshark_reads(psk: bytes | None) -> None:
    lines: list[str] = []
    initiator, responder = End("initiator", "responder", psk=psk, key_log=lines.append), End("responder", "initiator")
    sent = initiator.initiate(0.0)
    found = dict(line.split(" = ") for line in lines)
    names = ["LOCAL_STATIC_PRIVATE_KEY", "REMOTE_STATIC_PUBLIC_KEY", "LOCAL_EPHEMERAL_PRIVATE_KEY"]
    assert list(found) == names + (["PRESHARED_KEY"] if psk else [])
    assert scalarmult_base(base64.b64decode(found["LOCAL_STATIC_PRIVATE_KEY"])) == initiator.tunnel.public_key
    assert base64.b64decode(found["REMOTE_STATIC_PUBLIC_KEY"]) == responder.tunnel.public_key
    assert scalarmult_base(base64.b64decode(found["LOCAL_EPHEMERAL_PRIVATE_KEY"])) == sent[8:40]
    if psk:
        assert base64.b64decode(found["PRESHARED_KEY"]) == psk


# ------------------------------------------------------------------------------------------------- screener and stack
def test_an_initiation_to_a_living_stack_is_handed_over() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    responder.tunnel.live[responder.peer.public_key] = responder.handshake
    verdict = responder.screen(initiator.initiate(10.0), 10.0)
    assert isinstance(verdict, HandOver)
    assert verdict.route == ("wireguard", responder.peer.public_key)
    responder.handshake.consume_initiation(verdict.seed, 10.0)  # type: ignore[arg-type]
    responder.drain()
    initiator.take(responder.sent.pop(), 10.0)
    assert initiator.sends_to(responder) == KeyId(Stage.APPLICATION, 1)


def test_a_replay_is_dropped_before_and_after_the_handshake() -> None:
    initiator, responder = both()
    first = initiator.initiate(0.0)
    responder.take(first, 0.0)
    for now in (0.0, 1.0, 1000.0):
        assert responder.screen(first, now) == Drop(Reason.REPLAYED.value)


def test_discarded_pairs_open_nothing_any_more() -> None:
    initiator, responder = both()
    meet(initiator, responder, 0.0)
    meet(initiator, responder, 10.0)
    initiator.events.clear()
    meet(initiator, responder, 20.0)
    gone = [(event.key.generation, event.direction) for event in initiator.events if isinstance(event, KeyDiscarded)]
    assert gone == [(0, Direction.RECEIVE), (1, Direction.SEND)]
