"""Authentic peers that misbehave, for long: what an end keeps of them stays as small as it was."""

from __future__ import annotations

from taps_security.protocols.curvecp.limits import DRAIN, MAX_PIECES
from taps_security.protocols.curvecp.sending import SendStream
from taps_security.protocols.curvecp.wire import Message, parse_message
from taps_security.stack.errors import ConnectionLost
from tests.protocols.curvecp.pair import Pair, Side
from tests.protocols.curvecp.test_delivery import forged


def ids_of(sender: Side, receiver: Side, now: float) -> list[int]:
    """The ids of the messages that `sender` has sent, opened by whom they are for."""
    opened = receiver.stack._opened
    found = []
    for datagram in sender.take():
        receiver.stack._record.open(memoryview(bytearray(datagram)), 0, 1, opened, now)
        found += [parse_message(each).number for each in opened.plaintexts]
        opened.clear()
    return [number for number in found if number]


def test_a_peer_that_asks_for_ever_and_acknowledges_nothing() -> None:
    pair, client, server = Pair.ready()
    client.send(bytes(3000), pair.now)
    client.take()
    pair.now = client.wait(pair.now)
    delivery = client.stack._delivery
    assert delivery.recovery.pto_count
    for number in range(1000, 3000):
        client.receive(forged(server, Message(number)), pair.now)
        client.take()
    assert len(delivery._copies) < 100
    assert len(delivery.recovery.space()) < 200
    pair.carry()
    client.send(b"the end", pair.now)
    while len(server.data) < 3007:
        pair.now = client.wait(pair.now)
        pair.carry()
    assert server.data == bytes(3000) + b"the end"


def test_a_peer_that_answers_ids_for_ever_and_takes_nothing() -> None:
    pair, client, server = Pair.ready()
    client.send(bytes(100_000), pair.now)
    outgoing = client.stack._delivery.outgoing
    most = 0
    for _ in range(3000):
        for number in ids_of(client, server, pair.now):
            client.receive(forged(server, Message(0, number)), pair.now)
        pair.now += 0.001
        if client.stack.deadline <= pair.now or not client.sent:
            pair.now = client.wait(pair.now)
        most = max(most, len(outgoing._runs))
    assert outgoing.base == 0
    assert most < 1000
    assert len(outgoing._pieces) < 1000


def test_a_peer_that_acknowledges_every_second_octet() -> None:
    stream = SendStream()
    size = 8 * MAX_PIECES
    stream.append(bytes(size))
    stream.finish()
    for number, start in enumerate(range(0, size, 1024), 1):
        stream.sent((start, start + 1024), number, 1024)
    for place in range(1, size, 2):
        stream.acknowledge(((place, place + 1),))
    assert stream._ahead is not None
    assert len(stream._ahead) <= MAX_PIECES
    stream.acknowledge(((0, size),))
    assert stream._ahead is None
    assert stream.base == size


def test_a_peer_that_answers_ids_alone_does_not_keep_close_from_ending() -> None:
    pair, client, server = Pair.ready()
    client.send(bytes(50_000), pair.now)
    begin = pair.now
    client.stack.close(pair.now)
    client.pump(pair.now)
    while client.ended is None and pair.now < begin + 10 * DRAIN:
        for number in ids_of(client, server, pair.now):
            client.receive(forged(server, Message(0, number)), pair.now)
        pair.now = client.wait(pair.now)
    assert client.ended is not None
    assert isinstance(client.ended.error, ConnectionLost)
    assert pair.now < begin + 2 * DRAIN
