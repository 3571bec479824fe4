"""How a stream ends: cleanly, in halves, by a reset, an abort, a truncation, or the clock."""

from __future__ import annotations

import pytest

from taps_security.stack.errors import (
    ConnectionLost,
    LocalError,
    PeerAborted,
    PeerMisbehaved,
    Reason,
)
from taps_security.stack.events import (
    CloseKind,
    CloseTransport,
    FlowSent,
    PathNews,
    Received,
    Terminated,
    TransportEnd,
)
from taps_security.stack.layers import Slab, UnitKind
from taps_security.stack.stack import SendOptions
from taps_security.stack.stream import PLAINTEXT
from tests.stack.null import (
    CLEAN_END,
    CORRUPT,
    FACTS,
    UPDATE_REQUEST,
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

from .test_stream import SMALL, ended_by, last


def test_close_sends_what_is_queued_and_both_ends_are_clean() -> None:
    client, server = established()
    send(client, b"last words")
    client.close(0.0)
    exchange(client, server)
    events = drain(server)
    assert octets_of(events) == b"last words"
    assert events[-1].end  # type: ignore[union-attr]
    server.close(0.0)
    exchange(client, server)
    for stack in (client, server):
        events = drain(stack)
        assert CloseTransport(0, TransportEnd.FIN) in events
        assert (last(events).how, last(events).error, stack.deadline) == (CloseKind.CLEAN, None, None)


def test_half_close_leaves_the_other_half() -> None:
    client, server = established()
    client.send(0, (b"question",), SendOptions(end=True), 0.0)
    with pytest.raises(LocalError, match="nothing more"):
        send(client, b"more")
    exchange(client, server)
    assert drain(client) == [CloseTransport(0, TransportEnd.FIN)]
    assert client.deadline is None
    server.transport_ended(0, TransportEnd.FIN, 0.0)
    send(server, b"answer")
    exchange(client, server)
    assert octets_of(drain(client)) == b"answer"
    server.close(0.0)
    exchange(client, server)
    assert [ended_by(client).how, ended_by(server).how] == [CloseKind.CLEAN, CloseKind.CLEAN]


def test_nothing_follows_our_end_on_the_wire() -> None:
    client, server = established()
    client.send(0, (), SendOptions(end=True), 0.0)
    assert transmit(client) == CLEAN_END
    with pytest.raises(LocalError, match="nothing more"):
        client.update_keys(0.0)
    feed(client, unit(UnitKind.HANDSHAKE, message(UPDATE_REQUEST)))
    assert not transmit(client)
    feed(client, unit(CORRUPT))
    assert not transmit(client)
    assert isinstance(ended_by(client).error, PeerMisbehaved)
    assert server.complete


def test_octets_behind_the_peers_end_are_ignored() -> None:
    client, _ = established()
    wire = data(b"in time") + CLEAN_END + data(b"too late") + unit(CORRUPT)
    assert feed(client, wire) == len(wire)
    assert feed(client, wire) == len(wire)
    assert octets_of(drain(client)) == b"in time"
    assert not client.ended


def test_truncation_reset_and_clean_end_are_told_apart() -> None:
    def end(how: TransportEnd, wire: bytes = b"") -> Terminated:
        client, _ = established()
        feed(client, wire)
        if wire:
            client.close(0.0)
            transmit(client)
        client.transport_ended(0, how, 0.0)
        return ended_by(client)

    truncated, reset = end(TransportEnd.FIN), end(TransportEnd.RESET)
    assert (truncated.how, truncated.error.reason) == (CloseKind.TRUNCATED, Reason.TRUNCATED)  # type: ignore[union-attr]
    assert (reset.how, reset.error.reason) == (CloseKind.RESET, Reason.RESET)  # type: ignore[union-attr]
    assert isinstance(truncated.error, ConnectionLost)
    assert end(TransportEnd.FIN, CLEAN_END) == Terminated(CloseKind.CLEAN, None)


def test_a_transport_that_ends_after_our_close_is_a_clean_end_and_a_reset_is_not() -> None:
    for how, expected in ((TransportEnd.FIN, CloseKind.CLEAN), (TransportEnd.RESET, CloseKind.RESET)):
        client, _ = established()
        client.close(0.0)
        transmit(client)
        client.transport_ended(0, how, 0.0)
        assert ended_by(client).how is expected


@pytest.mark.parametrize("how", [TransportEnd.FIN, TransportEnd.RESET])
def test_a_transport_that_ends_in_the_handshake(how: TransportEnd) -> None:
    client = null_stack()
    client.start(0, FACTS, 0.0)
    client.transport_ended(0, how, 0.0)
    assert isinstance(ended_by(client).error, ConnectionLost)
    client.transport_ended(0, how, 0.0)
    assert not client.events


def test_a_peer_that_closes_in_the_handshake() -> None:
    client = null_stack()
    client.start(0, FACTS, 0.0)
    feed(client, unit(UnitKind.CONTROL, b"\0", key=PLAINTEXT))
    events = drain(client)
    assert isinstance(last(events).error, ConnectionLost)
    assert not [event for event in events if isinstance(event, Received)]


def test_close_waits_for_the_peers_end_only_so_long() -> None:
    client, _ = established(limits=SMALL)
    client.close(10.0)
    assert client.deadline == 15.0
    transmit(client, now=11.0)
    feed(client, data(b"not listening"), 12.0)
    assert client.deadline == 15.0
    assert not octets_of(drain(client))
    client.deadline_reached(14.0)
    assert not client.ended
    client.deadline_reached(15.0)
    assert ended_by(client).how is CloseKind.CLEAN


def test_close_gives_a_peer_that_takes_nothing_only_so_long() -> None:
    client, _ = established()
    client.send(0, (bytes(3000),), SendOptions(token=1), 0.0)
    client.close(10.0)
    assert client.deadline == 40.0
    feed(client, data(b"talking, not listening"), 20.0)
    client.close(21.0)
    assert client.deadline == 40.0  # what the peer sends does not count
    out = client.transmit(Slab(buffer := bytearray(2000), memoryview(buffer)), 1, 30.0)
    assert out is not None
    assert client.deadline == 60.0  # some of it was taken
    client.path_news(0, PathNews.TAKEN, 0, 50.0)
    assert client.deadline == 80.0
    client.path_news(0, PathNews.UNREACHABLE, 0, 60.0)
    client.deadline_reached(80.0)
    events = drain(client)
    assert CloseTransport(0, TransportEnd.RESET) in events
    (sent,) = (event for event in events if isinstance(event, FlowSent))
    assert (last(events).how, last(events).error) == (CloseKind.ABORTED, sent.error)
    assert isinstance(sent.error, ConnectionLost)
    assert sent.error.reason is Reason.TIMEOUT
    assert "octets were not sent" in str(sent.error)


def test_once_everything_is_taken_only_the_peers_end_is_waited_for() -> None:
    client, _ = established()
    send(client, bytes(3000))
    client.close(10.0)
    transmit(client, now=12.0)
    assert client.deadline == 17.0
    client.deadline_reached(17.0)
    assert ended_by(client) == Terminated(CloseKind.CLEAN, None)


@pytest.mark.parametrize("how", [TransportEnd.RESET, TransportEnd.ERROR])
@pytest.mark.parametrize("taken", [True, False])
def test_a_reset_behind_both_goodbyes_is_clean_only_if_nothing_was_left(how: TransportEnd, taken: bool) -> None:
    client, _ = established()
    client.send(0, (b"last words",), SendOptions(end=True), 0.0)
    client.transmit(Slab(buffer := bytearray(2000), memoryview(buffer)), 1, 0.0)
    feed(client, CLEAN_END)
    assert not client.ended  # our goodbye is pending
    if taken:
        client.transmit(Slab(buffer := bytearray(2000), memoryview(buffer)), 1, 0.0)
        assert ended_by(client).how is CloseKind.CLEAN
    client.transport_ended(0, how, 0.0)
    if not taken:
        assert ended_by(client).how is CloseKind.RESET


def test_a_protocol_without_a_word_for_the_end_closes_too() -> None:
    client, _ = established(quiet=True)
    client.close(0.0)
    assert not client.pending
    assert drain(client) == [CloseTransport(0, TransportEnd.FIN)]


def test_close_in_the_handshake_aborts_and_twice_is_once() -> None:
    client = null_stack()
    client.start(0, FACTS, 0.0)
    client.close(0.0)
    client.close(0.0)
    client.abort(None, 0.0)
    assert ended_by(client) == Terminated(CloseKind.ABORTED, None)


def test_abort_drops_what_is_queued_and_has_the_last_word() -> None:
    client, server = established()
    send(client, b"never mind")
    client.abort(LocalError("enough"), 0.0)
    events = drain(client)
    assert CloseTransport(0, TransportEnd.RESET) in events
    assert last(events).error.message == "enough"  # type: ignore[union-attr]
    wire = transmit(client)
    assert b"never mind" not in wire
    feed(server, wire)
    assert isinstance(ended_by(server).error, PeerAborted)


def test_everything_after_the_end_is_harmless_or_a_local_error() -> None:
    client, _ = established()
    client.abort(None, 0.0)
    transmit(client)
    drain(client)
    with pytest.raises(LocalError):
        send(client, b"x")
    assert feed(client, data(b"x")) == len(data(b"x"))
    client.deadline_reached(9.0)
    client.close(9.0)
    client.reset_flow(0, 0, 9.0)
    client.consumed(0, 1, 9.0)
    assert not client.events
    assert not client.pending
    assert client.deadline is None


def test_reset_flow_is_an_abort_and_messages_have_no_limit() -> None:
    client, _ = established()
    assert client.message_limit(0) == 0
    client.reset_flow(0, 0, 0.0)
    assert ended_by(client).how is CloseKind.ABORTED
