from __future__ import annotations

import pytest

from taps_security.stack.asks import Ask, AskWithdrawn, Refused
from taps_security.stack.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HardLimitReached,
    LocalError,
    PeerAborted,
    PeerMisbehaved,
    Reason,
)
from taps_security.stack.events import (
    CloseKind,
    Direction,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyDiscarded,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    Received,
    StackEvent,
    Stage,
    Terminated,
    TransportEnd,
)
from taps_security.stack.layers import HandshakeMessage, UnitKind
from taps_security.stack.stack import SendOptions
from taps_security.stack.stream import PLAINTEXT, StreamLimits, StreamStack
from tests.stack.null import (
    BAD,
    CLEAN_END,
    CORRUPT,
    ENQUIRY,
    FACTS,
    PEER_ERROR,
    UPDATE,
    UPDATE_REQUEST,
    WELCOME,
    data,
    drain,
    established,
    exchange,
    feed,
    message,
    null_stack,
    octets_of,
    send,
    transmit,
    unit,
)

SMALL = StreamLimits(send_high=4000, send_low=1000, receive_high=3000, close_timeout=5.0, units_without_data=8)


def last(events: list[StackEvent]) -> Terminated:
    """The end, which must be the last event and the only one of its kind."""
    assert [type(event) for event in events].count(Terminated) == 1
    assert isinstance(events[-1], Terminated)
    return events[-1]


def ended_by(stack: StreamStack) -> Terminated:
    return last(drain(stack))


def with_ask_open() -> StreamStack:
    """A client that was told WELCOME and asks whether it may believe it."""
    client = null_stack(verifies=True)
    client.start(0, FACTS, 0.0)
    transmit(client)
    feed(client, unit(UnitKind.HANDSHAKE, message(WELCOME), key=PLAINTEXT))
    assert isinstance(drain(client)[-1], Ask)
    return client


# -- the handshake, and application octets -----------------------------------------------------------------------
def test_octets_cross_both_ways_whatever_the_slab_holds() -> None:
    client, server = established()
    octets = bytes(range(256)) * 40
    send(client, octets[:5000], octets[5000:])
    wire = b"".join(iter(lambda: transmit(client, 700), b""))
    assert feed(server, wire) == len(wire)
    assert octets_of(drain(server)) == octets
    send(server, b"back")
    exchange(client, server)
    assert octets_of(drain(client)) == b"back"


def test_one_received_per_read() -> None:
    client, server = established()
    send(server, bytes(5000))
    wire = transmit(server)
    feed(client, wire + CLEAN_END)
    (received,) = (event for event in drain(client) if isinstance(event, Received))
    assert (sum(map(len, received.chunks)), received.end) == (5000, True)


def test_octets_sent_early_wait_for_the_handshake() -> None:
    client, server = null_stack(), null_stack(client=False)
    client.start(0, FACTS, 0.0)
    server.start(0, FACTS, 0.0)
    assert send(client, b"early") == 5
    assert b"early" not in transmit(client)
    assert not client.pending
    with pytest.raises(LocalError, match="not complete"):
        client.update_keys(0.0)
    feed(client, unit(UnitKind.HANDSHAKE, message(WELCOME), key=PLAINTEXT))
    assert transmit(client).endswith(b"early")


def test_application_data_before_the_end_of_the_handshake_is_refused() -> None:
    server = null_stack(client=False)
    server.start(0, FACTS, 0.0)
    feed(server, unit(UnitKind.HANDSHAKE, message(1), key=PLAINTEXT) + data(b"too early"))
    events = drain(server)
    assert isinstance(last(events).error, PeerMisbehaved)
    assert not octets_of(events)
    assert not [event for event in events if isinstance(event, HandshakeComplete)]


def test_protected_data_without_a_key_is_refused() -> None:
    server = null_stack(client=False)
    server.start(0, FACTS, 0.0)
    feed(server, data(b"what?"))
    assert last(drain(server)).error.reason is Reason.UNEXPECTED  # type: ignore[union-attr]


def test_an_unfinished_unit_is_left_to_the_caller() -> None:
    client, _ = established()
    wire = data(b"whole") + data(b"unfinished")
    assert feed(client, wire[:-3]) == len(data(b"whole"))
    assert octets_of(drain(client)) == b"whole"


def test_what_authenticated_before_an_error_is_delivered_first() -> None:
    for fault in (unit(CORRUPT, b"?"), PEER_ERROR, unit(UnitKind.HANDSHAKE, message(BAD))):
        client, _ = established()
        wire = data(b"good") + fault + data(b"never")
        assert feed(client, wire) == len(wire)
        events = drain(client)
        assert octets_of(events) == b"good"
        assert last(events).how is CloseKind.ABORTED
        assert isinstance(last(events).error, PeerMisbehaved | PeerAborted)


def test_our_error_is_told_and_the_peers_is_not_answered_twice() -> None:
    client, server = established()
    feed(client, unit(CORRUPT))
    feed(server, transmit(client))
    assert isinstance(ended_by(server).error, PeerAborted)
    assert not server.pending


def test_a_handshake_message_in_many_pieces_is_no_flood_and_not_interleaved() -> None:
    client, _ = established(limits=SMALL)
    whole = message(ENQUIRY, bytes(100))
    feed(client, b"".join(unit(UnitKind.HANDSHAKE, whole[at : at + 2]) for at in range(0, len(whole), 2)))
    assert isinstance(drain(client)[-1], Ask)
    client, _ = established()
    feed(client, unit(UnitKind.HANDSHAKE, whole[:2]) + data(b"between"))
    events = drain(client)
    assert last(events).error.reason is Reason.UNEXPECTED  # type: ignore[union-attr]
    assert not octets_of(events)


@pytest.mark.parametrize(
    "wire",
    [data(b""), unit(UnitKind.NOTHING), unit(UnitKind.CONTROL, b"\1"), unit(UnitKind.HANDSHAKE, message(UPDATE))],
    ids=["empty", "nothing", "warning", "update"],
)
def test_a_flood_of_units_without_data_ends(wire: bytes) -> None:
    client, _ = established(limits=SMALL)
    for generation in range(20):
        sent = bytearray(wire)
        sent[2] = generation if wire[0] == UnitKind.HANDSHAKE else 0
        feed(client, bytes(sent))
        if client.ended:
            break
    assert generation == SMALL.units_without_data
    assert isinstance(ended_by(client).error, PeerMisbehaved)


def test_units_without_data_between_data_are_no_flood() -> None:
    client, _ = established(limits=SMALL)
    for _ in range(5):
        feed(client, unit(UnitKind.NOTHING) * 6 + data(b"."))
    assert not client.ended


def test_a_peer_that_takes_no_answers_is_not_read_on() -> None:
    """Each key update asks for an answer; data in between made it no flood, and the answers grew without a bound."""
    client, _ = established(limits=StreamLimits(send_high=400))
    generation = 0
    while client.wants_input:
        wire = bytearray(unit(UnitKind.HANDSHAKE, message(UPDATE_REQUEST)))
        wire[2] = generation
        following = bytearray(data(b"."))
        following[2] = generation = generation + 1
        feed(client, bytes(wire + following))
        octets_of(drain(client))
        client.consumed(0, 1, 0.0)
        assert not client.ended
        assert generation < 200
    assert 400 <= client.pending < 420
    transmit(client)
    assert client.wants_input


def test_an_end_right_behind_a_message_of_ours_drops_it() -> None:
    """It was not sealed yet, and its key is gone."""
    client, server = established()
    server._queue_message(HandshakeMessage(KeyId(Stage.APPLICATION), message(UPDATE)), 0.0)
    feed(server, PEER_ERROR)
    assert isinstance(ended_by(server).error, PeerAborted)
    assert transmit(server) == b""
    assert not server.pending
    client.abort(None, 0.0)


# -- asks ---------------------------------------------------------------------------------------------------------
def test_input_is_held_while_an_ask_is_open_and_fed_again_after_the_answer() -> None:
    client = with_ask_open()
    assert not client.wants_input
    held = data(b"held")
    assert feed(client, held) == 0
    assert not drain(client)
    client.answer(1, "identity", 0.0)
    assert client.wants_input
    assert client.complete
    assert feed(client, held) == len(held)
    events = drain(client)
    kinds = [type(event) for event in events]
    assert kinds.index(HandshakeComplete) < kinds.index(Received)
    assert octets_of(events) == b"held"


def test_no_octet_is_sent_and_none_delivered_while_the_peer_is_not_verified() -> None:
    client = with_ask_open()
    send(client, b"secret")
    assert not transmit(client)
    client.answer(1, Refused(AuthenticationFailed("not this one")), 0.0)
    events = drain(client)
    assert isinstance(last(events).error, AuthenticationFailed)
    assert b"secret" not in transmit(client)


def test_an_open_ask_is_withdrawn_at_the_end_and_late_answers_are_ignored() -> None:
    client = with_ask_open()
    client.transport_ended(0, TransportEnd.FIN, 0.0)
    events = drain(client)
    assert AskWithdrawn(1) in events
    assert last(events).how is CloseKind.TRUNCATED
    client.answer(1, "identity", 0.0)
    client.answer(77, "identity", 0.0)
    assert not client.complete
    assert not client.events


def test_an_ask_after_the_handshake_holds_what_follows_in_the_same_read() -> None:
    client, _ = established()
    wire = data(b"before") + unit(UnitKind.HANDSHAKE, message(ENQUIRY, b"who")) + data(b"after")
    consumed = feed(client, wire)
    assert octets_of(drain(client)) == b"before"
    client.answer(2, None, 0.0)
    assert isinstance(drain(client)[-1], HandshakeConfirmed)
    assert feed(client, wire[consumed:]) == len(wire) - consumed
    assert octets_of(drain(client)) == b"after"


# -- keys ---------------------------------------------------------------------------------------------------------
def test_key_update_reaches_both_directions_with_data_around_it() -> None:
    client, server = established()
    send(client, b"old ")
    client.update_keys(0.0)
    send(client, b"new")
    exchange(client, server)
    events = drain(server)
    assert octets_of(events) == b"old new"
    generations = [(event.direction, event.key.generation) for event in drain(client) if isinstance(event, KeyReady)]
    assert generations == [(Direction.SEND, 1), (Direction.RECEIVE, 1)]
    assert all(event.secret is None for event in events if isinstance(event, KeyReady))
    send(server, b"reply")
    exchange(client, server)
    assert octets_of(drain(client)) == b"reply"


def test_handshake_octets_behind_a_key_change_are_refused() -> None:
    for rest in (message(UPDATE)[:2], message(UPDATE)):
        client, _ = established()
        feed(client, unit(UnitKind.HANDSHAKE, message(UPDATE) + rest))
        assert ended_by(client).error.reason is Reason.UNEXPECTED  # type: ignore[union-attr]


def test_a_soft_limit_changes_keys_and_a_hard_limit_ends() -> None:
    soft = (Limit(LimitKind.PACKETS, 2, 100),)
    client, server = established(key_limits=soft)
    send(client, bytes(2500))
    exchange(client, server)
    assert len(octets_of(drain(server))) == 2500
    assert KeyId(Stage.APPLICATION, 1) in [event.key for event in drain(client) if isinstance(event, KeyReady)]
    client, server = established(key_limits=(Limit(LimitKind.PACKETS, 50, 3),))
    send(client, bytes(5000))
    feed(server, transmit(client))
    assert isinstance(ended_by(client).error, HardLimitReached)
    assert len(octets_of(drain(server))) == 2000  # FINISHED and two full units


def test_every_key_is_discarded_at_the_end() -> None:
    client, server = established()
    client.update_keys(0.0)
    exchange(client, server)
    drain(client)
    client.abort(None, 0.0)
    discarded = {(event.key.generation, event.direction) for event in drain(client) if isinstance(event, KeyDiscarded)}
    assert discarded == {(1, Direction.SEND), (1, Direction.RECEIVE)}
    with pytest.raises(LocalError, match="ended"):
        client.export_secret(b"label", None, 8)
    with pytest.raises(LocalError, match="ended"):
        client.update_keys(0.0)


def test_a_deadline_of_the_record_is_the_stacks() -> None:
    client, server = established()
    client._record.deadline = 7.0
    send(client, b"x")
    transmit(client)
    assert client.deadline == 7.0
    client.deadline_reached(7.0)
    exchange(client, server)
    assert client.deadline is None
    assert [event.key.generation for event in drain(server) if isinstance(event, KeyReady)] == [1]


# -- flow control ---------------------------------------------------------------------------------------------------
def test_high_and_low_water() -> None:
    client, _ = established(limits=SMALL)
    assert send(client, bytes(4000)) == 4000
    assert send(client, b"more") == 0
    transmit(client, 1100)
    assert drain(client) == [FlowWritable(0)]
    assert send(client, b"more") == 4
    transmit(client)
    assert not drain(client)


def test_the_last_send_is_taken_above_high_water() -> None:
    client, server = established(limits=SMALL)
    send(client, bytes(4000))
    assert client.send(0, (b"end",), SendOptions(end=True), 0.0) == 3
    exchange(client, server)
    events = drain(server)
    assert octets_of(events) == bytes(4000) + b"end"
    assert [event.end for event in events if isinstance(event, Received)] == [True]


def test_tokens_are_told_when_their_octets_are_gone() -> None:
    client, _ = established()
    client.send(0, (bytes(3000),), SendOptions(token=1), 0.0)
    client.send(0, (bytes(10),), SendOptions(token=2), 0.0)
    client.send(0, (b"",), SendOptions(token=3), 0.0)
    assert not drain(client)
    transmit(client, 2005)
    assert drain(client) == [FlowSent(0, 1), FlowSent(0, 2), FlowSent(0, 3)]
    client.send(0, (), SendOptions(token=4), 0.0)
    assert drain(client) == [FlowSent(0, 4)]


def test_sends_that_are_not_over_at_the_end_fail() -> None:
    client, _ = established()
    client.send(0, (bytes(3000),), SendOptions(token=1), 0.0)
    client.transport_ended(0, TransportEnd.RESET, 0.0)
    events = drain(client)
    (sent,) = (event for event in events if isinstance(event, FlowSent))
    assert isinstance(sent.error, ConnectionLost)
    assert last(events).how is CloseKind.RESET
    assert not client.pending


def test_reading_pauses_until_the_application_took_enough() -> None:
    client, _ = established(limits=SMALL)
    feed(client, data(bytes(999)) * 3)
    assert client.wants_input
    feed(client, data(bytes(3)))
    assert not client.wants_input
    client.consumed(0, 1000, 0.0)
    assert client.wants_input
