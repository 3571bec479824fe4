"""The message layer between two stacks in memory: batches, acknowledgements, padding, and peers that misbehave."""

from __future__ import annotations

import os
import random

import pytest

from taps_security.protocols.curvecp.limits import RECEIVE_WINDOW
from taps_security.protocols.curvecp.sending import IDS
from taps_security.protocols.curvecp.wire import FAILURE, SUCCESS, Message, parse_message
from taps_security.stack.errors import PeerAborted
from taps_security.stack.events import FlowSent, FlowWritable
from taps_security.stack.stack import SendOptions

from .pair import Pair, Side


def forged(sender: Side, message: bytes | Message, now: float = 0.0) -> bytes:
    """A datagram that holds whatever the test wants the peer to say."""
    octets = message if isinstance(message, bytes) else message.encode()
    return sender.stack._record.seal_one(octets, now)


def answers(receiver: Side, sender: Side, *messages: Message, now: float = 0.0) -> list[Message]:
    """What is said to these messages, as their sender reads it."""
    for message in messages:
        receiver.receive(forged(sender, message, now), now)
    if receiver.stack.deadline is not None and receiver.stack.deadline <= now:
        receiver.wait(now)
    found = []
    for datagram in receiver.take():
        opened = sender.stack._opened
        sender.stack._record.open(memoryview(bytearray(datagram)), 0, 1, opened, now)
        found += [parse_message(each) for each in opened.plaintexts]
        opened.clear()
    return found


# ------------------------------------------------------------------------------------------------------------- data
def test_bulk_goes_in_runs_of_full_blocks() -> None:
    pair, client, server = Pair.ready()
    data = random.Random(5).randbytes(400_000)
    client.runs.clear()
    client.send(data, pair.now)
    for _ in range(200):
        pair.carry()
        if len(server.data) == len(data):
            break
        pair.now = client.wait(pair.now)
    assert server.data == data
    assert {step for count, step in client.runs if count > 1} == {1184}
    assert max(count for count, _ in client.runs) > 8
    assert client.stack._delivery.recovery.controller.in_flight == 0


def test_small_sends_of_one_turn_share_a_message() -> None:
    pair, client, server = Pair.ready()
    for _ in range(50):
        client.stack.send(0, [b"ten octets"], SendOptions(), pair.now)
    client.pump(pair.now)
    assert len(client.sent) == 1
    pair.carry()
    assert server.data == b"ten octets" * 50


def test_an_answer_of_the_same_turn_carries_the_acknowledgement() -> None:
    pair, client, server = Pair.ready()
    client.send(b"ping", pair.now)
    (datagram,) = client.take()
    server.receive(datagram, pair.now)
    assert server.sent == []  # it waits for the turn's end
    server.send(b"pong", pair.now)
    assert len(server.sent) == 1
    client.receive(server.take()[0], pair.now)
    assert client.data == b"pong"
    assert not client.stack._delivery.outgoing.outstanding
    client.wait(pair.now)
    assert len(client.take()) == 1  # nothing was said meanwhile: a mere acknowledgement


@pytest.mark.parametrize(
    ("hides", "sizes"), [(True, {256, 384, 640, 1152}), (False, {112 + 16 * n for n in range(70)})]
)
def test_padding_hides_lengths_unless_that_is_not_wanted(hides: bool, sizes: set[int]) -> None:
    from .world import screener

    unwanted = {} if hides else {"security": {"prohibit": {"length_hiding"}}}
    pair, client, server = Pair.ready(screening=screener(**unwanted))
    found = set()
    for size in (1, 16, 17, 100, 128, 129, 300, 512, 600, 1000, 1024, 3000):
        server.send(os.urandom(size), pair.now)
        found |= {len(datagram) for datagram in server.sent}
        pair.carry()
    assert found <= sizes
    assert len(found) == (4 if hides else len(found))
    assert len(found) > 3
    assert len(client.data) == 1 + 16 + 17 + 100 + 128 + 129 + 300 + 512 + 600 + 1000 + 1024 + 3000


def test_tokens_and_the_high_water_mark() -> None:
    pair, client, server = Pair.ready()
    stack = client.stack
    assert stack.send(0, [bytes(1_000_000)], SendOptions(token=1), pair.now) == 1_000_000
    assert stack.send(0, [b"x"], SendOptions(), pair.now) == 0
    client.pump(pair.now)
    for _ in range(400):
        pair.carry()
        if FlowSent(0, 1, None) in client.events:
            break
        pair.now = client.wait(pair.now)
    assert FlowSent(0, 1, None) in client.events
    assert client.events.count(FlowWritable(0)) == 1
    assert len(server.data) == 1_000_000
    assert stack.send(0, [b"x"], SendOptions(), pair.now) == 1


def test_ids_wrap_without_becoming_zero() -> None:
    pair, client, server = Pair.ready()
    delivery = client.stack._delivery
    delivery._number = delivery.recovery.space()._first = IDS - 3
    data = os.urandom(20_000)
    client.send(data, pair.now, SendOptions(end=True))
    for _ in range(20):
        pair.carry()
        if server.over:
            break
        pair.now = client.wait(pair.now)
    assert server.data == data
    assert client.stack._delivery.outgoing.over


# ---------------------------------------------------------------------------------------------------- misbehaviour
def test_each_message_with_an_id_is_acknowledged_and_no_other() -> None:
    _, client, server = Pair.ready()
    (answer,) = answers(server, client, Message(9))
    assert (answer.number, answer.acknowledged, answer.ranges) == (0, 9, ())
    assert answers(server, client, Message(0, data=b"not taken")) == []
    assert server.data == b""
    (answer,) = answers(server, client, Message(10, position=0, data=b"taken"))
    assert (answer.acknowledged, answer.ranges) == (10, ((0, 5),))
    (answer,) = answers(server, client, Message(11, position=0, data=b"taken"))
    assert (answer.acknowledged, answer.ranges) == (11, ((0, 5),))
    assert server.data == b"taken"


def test_gaps_are_told_at_once() -> None:
    _, client, server = Pair.ready()
    for place in (10, 30, 50, 70, 90, 110, 130):
        server.receive(forged(client, Message(place, position=place, data=b"x" * 10)), 0.0)
    found = answers(server, client)
    assert {span for each in found for span in each.ranges} == {(place, place + 10) for place in range(10, 140, 20)}
    (answer,) = answers(server, client, Message(200, position=0, data=b"y" * 10))
    assert answer.ranges[0] == (0, 20)


@pytest.mark.parametrize(
    "ranges",
    [
        ((0, 1 << 63),),
        ((0, 5000),),
        ((0, 1024), (2048, 60_000)),
        ((10_000, 10_001),),
    ],
)
def test_acknowledgements_of_what_was_never_sent_change_nothing(ranges: tuple[tuple[int, int], ...]) -> None:
    pair, client, server = Pair.ready()
    client.send(bytes(4096), pair.now)
    before = client.stack._delivery.outgoing.base, client.stack._delivery.recovery.controller.in_flight
    client.receive(forged(server, Message(0, 1, ranges)), pair.now)
    delivery = client.stack._delivery
    assert (delivery.outgoing.base, delivery.recovery.controller.in_flight) == before
    assert delivery.malformed == 1
    client.receive(forged(server, Message(0, 77_777, ((0, 1024),))), pair.now)
    assert delivery.outgoing.base == 1024


def test_ranges_that_wrap_or_touch_are_taken_as_they_are() -> None:
    pair, client, server = Pair.ready()
    client.send(bytes(4096), pair.now)
    wrapping = (1 << 64) - 1
    head = Message(0).encode()
    for first, gap in ((wrapping, 1), (wrapping, 0xFFFF_FFFF), (0, 0xFFFF_FFFF)):
        octets = bytearray(head)
        octets[8:16] = first.to_bytes(8, "little")
        octets[16:20] = gap.to_bytes(4, "little")
        octets[20:22] = (9).to_bytes(2, "little")
        client.receive(forged(server, bytes(octets)), pair.now)
    assert client.stack._delivery.malformed == 3
    client.receive(forged(server, Message(0, 0, ((0, 1024), (1024, 2048), (2048, 4096)))), pair.now)
    assert client.stack._delivery.outgoing.base == 4096


@pytest.mark.parametrize("flags", [1025, 2047, 8192, 0xFFFF, SUCCESS + 1025])
def test_blocks_longer_than_1024_are_ignored_but_their_acknowledgements_count(flags: int) -> None:
    pair, client, server = Pair.ready()
    client.send(b"hello", pair.now)
    client.take()
    octets = bytearray(Message(5, 0, ((0, 5),)).encode(1088))
    octets[38:40] = flags.to_bytes(2, "little")
    client.receive(forged(server, bytes(octets)), pair.now)
    assert client.stack._delivery.malformed == 1
    assert client.data == b""
    assert not client.ended
    assert client.stack._delivery.outgoing.base == 5
    assert client.sent == []  # and they are not acknowledged


@pytest.mark.parametrize("size", [16, 32])
def test_messages_without_a_header_are_ignored(size: int) -> None:
    pair, client, server = Pair.ready()
    client.receive(forged(server, os.urandom(size)), pair.now)
    assert client.stack._delivery.malformed == 1
    assert client.sent == []


def test_positions_far_ahead_are_neither_kept_nor_acknowledged() -> None:
    _, client, server = Pair.ready()
    for position in (RECEIVE_WINDOW + 1, 1 << 59, (1 << 64) - 5):
        (answer,) = answers(server, client, Message(7, position=position, data=b"x"))
        assert (answer.acknowledged, answer.ranges) == (0, ())
    assert not server.stack._delivery.incoming.gaps
    (answer,) = answers(server, client, Message(8, position=(1 << 64) - 1, end=SUCCESS))
    assert (answer.acknowledged, answer.ranges) == (0, ())


def test_an_end_in_the_middle_and_octets_behind_an_end_are_ignored() -> None:
    _, client, server = Pair.ready()
    answers(server, client, Message(1, position=0, data=b"x" * 100))
    (answer,) = answers(server, client, Message(2, position=50, data=b"x" * 10, end=SUCCESS))
    assert (answer.acknowledged, answer.ranges) == (0, ((0, 100),))
    assert not server.over
    (answer,) = answers(server, client, Message(3, position=100, end=SUCCESS))
    assert answer.ranges == ((0, 101),)
    assert server.over
    (answer,) = answers(server, client, Message(4, position=100, data=b"more"))
    assert (answer.acknowledged, answer.ranges) == (0, ((0, 101),))
    assert len(server.data) == 100
    assert not server.ended


def test_a_failure_ends_the_connection() -> None:
    _, client, server = Pair.ready()
    answers(server, client, Message(1, position=0, data=b"so far"))
    server.receive(forged(client, Message(2, position=6, end=FAILURE)), 0.0)
    assert server.ended is not None
    assert isinstance(server.ended.error, PeerAborted)
    assert server.data == b"so far"
    assert not server.over


def test_a_peer_that_acknowledges_one_octet_at_a_time() -> None:
    pair, client, server = Pair.ready()
    data = os.urandom(3000)
    client.send(data, pair.now, SendOptions(token=6))
    for place in range(1, 3001):
        client.receive(forged(server, Message(0, 0, ((0, place),))), pair.now)
    assert FlowSent(0, 6, None) in client.events
    assert not client.stack._delivery.outgoing.outstanding
    assert client.stack._delivery.recovery.controller.in_flight == 0


def test_a_peer_that_answers_ids_and_keeps_nothing_gets_it_again() -> None:
    pair, client, server = Pair.ready()
    client.send(b"hello", pair.now)
    (datagram,) = client.take()
    opened = server.stack._opened
    server.stack._record.open(memoryview(bytearray(datagram)), 0, 1, opened, pair.now)
    number = parse_message(opened.plaintexts[0]).number
    opened.clear()
    client.receive(forged(server, Message(0, number)), pair.now)
    assert client.stack._delivery.recovery.deadline is None
    pair.now = client.wait(pair.now)
    pair.carry()
    assert server.data == b"hello"


def test_random_messages_of_an_authentic_peer_never_break_anything() -> None:
    chance = random.Random(6)
    pair, client, server = Pair.ready()
    client.send(bytes(50_000), pair.now)
    for turn in range(3000):
        octets = bytearray(chance.randbytes(chance.choice([48, 64, 192, 1088])))
        if chance.random() < 0.7:
            octets[8:38] = bytes(30)
        if chance.random() < 0.5:
            octets[46:48] = bytes(2)
            octets[42:46] = bytes(4)
        octets[39] &= 0x0F  # no failure, which would end it
        side, other = (client, server) if turn % 2 else (server, client)
        side.receive(forged(other, bytes(octets), pair.now), pair.now)
        if side.ended:
            break
        pair.now += 0.001
        for each in (client, server):
            each.take()
            if each.stack.deadline is not None and each.stack.deadline <= pair.now:
                each.wait(pair.now)
    incoming = server.stack._delivery.incoming
    assert incoming._pieces is None or sum(map(len, incoming._pieces.values())) <= RECEIVE_WINDOW


# ----------------------------------------------------------------------------------------------------------- probes
def late(client: Side, server: Side, now: float, *, copy_first: bool) -> float:
    """Eight blocks are late; a probe repeats the first, and then all arrive, the copy before or after the blocks."""
    client.send(bytes(8 * 1024), now)
    blocks = client.take()
    assert len(blocks) > 4
    now = client.wait(now)
    (copy,) = client.take()
    assert client.stack._delivery.recovery.pto_count == 1
    for datagram in [copy, *blocks] if copy_first else [*blocks, copy]:
        server.receive(datagram, now)
        if server.stack.deadline is not None and server.stack.deadline <= now:
            server.wait(now)
        for answer in server.take():
            client.receive(answer, now)
    return now


@pytest.mark.parametrize("copy_first", [True, False], ids=["copy first", "copy last"])
def test_a_block_that_a_probe_repeats_is_not_lost_if_it_was_only_late(copy_first: bool) -> None:
    pair, client, server = Pair.ready()
    delivery = client.stack._delivery
    window = delivery.recovery.controller.window
    pair.now = late(client, server, pair.now, copy_first=copy_first)
    pair.carry()
    for _ in range(50):
        if not delivery.recovery.space().eliciting:
            break
        pair.now = client.wait(pair.now)
        pair.carry()
    assert server.data == bytes(8 * 1024)
    assert delivery.recovery.controller.in_flight == 0
    assert delivery._copies is None
    if not copy_first:  # nothing came out of order
        assert delivery.recovery.controller.ssthresh == float("inf")
        assert delivery.recovery.controller.window >= window


def test_a_probe_of_a_block_that_was_lost_brings_it() -> None:
    pair, client, server = Pair.ready()
    client.send(bytes(1000), pair.now)
    client.take()  # lost
    pair.now = client.wait(pair.now)
    pair.carry()
    assert server.data == bytes(1000)
    assert not client.stack._delivery.awaiting
    assert client.stack._delivery.recovery.controller.in_flight == 0


def test_a_probe_says_again_what_arrived() -> None:
    """The acknowledgement may be lost, and nobody asks for it: its peer goes away for want of an answer."""
    pair, client, server = Pair.ready()
    client.send(b"hello", pair.now)
    pair.carry()
    server.send(b"world", pair.now)
    server.take()
    pair.now = server.wait(pair.now)
    (probe,) = server.take()
    client.stack._record.open(memoryview(bytearray(probe)), 0, 1, client.stack._opened, pair.now)
    (message,) = [parse_message(each) for each in client.stack._opened.plaintexts]
    client.stack._opened.clear()
    assert (message.data, message.ranges) == (b"world", ((0, 5),))


def test_a_message_without_octets_that_is_not_named_is_no_congestion() -> None:
    pair, client, server = Pair.ready()
    recovery = client.stack._delivery.recovery
    client.stack._delivery.ping_due = True
    client.stack._settle(pair.now)
    client.pump(pair.now)
    client.take()  # only the octets behind it arrive, and what is acknowledged is theirs
    for _ in range(8):
        client.send(bytes(1024), pair.now)
    pair.carry()
    assert len(server.data) == 8 * 1024
    assert recovery.controller.ssthresh == float("inf")
