"""TIME-WAIT: what an end says for a connection that is over."""

from __future__ import annotations

import os

from taps_security.protocols.curvecp.handshake import KIND
from taps_security.protocols.curvecp.limits import LAST_WORDS
from taps_security.protocols.curvecp.wire import FAILURE, SUCCESS, Message, parse_message
from taps_security.stack.events import CloseKind
from taps_security.stack.stack import SendOptions

from .pair import Pair, Side
from .test_delivery import forged


def read(side: Side, datagram: bytes) -> Message:
    opened = side.stack._opened
    side.stack._record.open(memoryview(bytearray(datagram)), 0, 1, opened, 0.0)
    (message,) = [parse_message(each) for each in opened.plaintexts]
    opened.clear()
    return message


def ended_client() -> tuple[Pair, Side, Side]:
    """A client whose last word was lost; the server waits for it."""
    pair, client, server = Pair.ready()
    client.send(b"bye", pair.now, SendOptions(end=True))
    pair.carry()
    server.send(b"bye", pair.now, SendOptions(end=True))
    for datagram in server.take():
        client.receive(datagram, pair.now)
    assert client.ended is not None
    assert client.ended.how is CloseKind.CLEAN
    client.take()
    return pair, client, server


def test_who_asks_again_is_told_again_under_fresh_numbers() -> None:
    pair, client, server = ended_client()
    linger = client.stack.retire(pair.now)
    assert linger.until >= pair.now + 1
    replies = []
    for _ in range(3):
        pair.now = server.wait(pair.now)
        replies += [linger.reply(memoryview(datagram), 1, pair.now) for datagram in server.take()]
    assert all(replies)
    assert len({*replies}) == len(replies)
    assert read(server, replies[0]).ranges == ((0, 4),)
    server.receive(replies[1], pair.now)
    assert server.ended is not None
    assert server.ended.how is CloseKind.CLEAN


def test_noise_repetitions_and_mere_acknowledgements_get_no_answer() -> None:
    pair, client, server = ended_client()
    linger = client.stack.retire(pair.now)
    asks = forged(server, Message(7))
    assert linger.reply(memoryview(asks), 1, pair.now) is not None
    assert linger.reply(memoryview(asks), 1, pair.now) is None
    assert linger.reply(memoryview(forged(server, Message(0, 1, ((0, 4),)))), 1, pair.now) is None
    for size in (0, 1, 200, 256, 1152, 1400):
        assert linger.reply(memoryview(os.urandom(size)), 1, pair.now) is None
    asks = forged(server, Message(8))
    assert linger.reply(memoryview(asks[:-1] + bytes((asks[-1] ^ 1,))), 1, pair.now) is None


def test_it_answers_so_often_and_never_with_more_than_three_times_what_came() -> None:
    pair, client, server = ended_client()
    linger = client.stack.retire(pair.now)
    answered = 0
    for number in range(LAST_WORDS + 20):
        asks = forged(server, Message(number + 1).encode(48))
        reply = linger.reply(memoryview(asks), 1, pair.now)
        answered += reply is not None
        assert reply is None or len(reply) <= 3 * len(asks)
    assert answered == LAST_WORDS


def test_a_servers_linger_is_found_by_the_clients_key() -> None:
    pair, client, server = Pair.ready()
    server.stack.abort(None, pair.now)
    server.pump(pair.now)
    linger = server.stack.retire(pair.now)
    assert linger.routes == {(KIND, client.stack._record.public)}
    server.take()
    reply = linger.reply(memoryview(forged(client, Message(1, data=b"are you there?"))), 1, pair.now)
    assert read(client, reply).end == FAILURE


def test_what_never_was_a_connection_leaves_nothing() -> None:
    pair = Pair()
    pair.client.stack.abort(None, 0.0)
    pair.client.pump(0.0)
    assert pair.client.ended is not None
    assert pair.client.stack.retire(0.0) is None
    assert pair.client.stack.deadline is None


def test_an_end_that_is_told_again_is_the_same() -> None:
    pair, client, server = ended_client()
    linger = client.stack.retire(pair.now)
    again = forged(server, Message(9, position=3, end=SUCCESS))
    assert read(server, linger.reply(memoryview(again), 1, pair.now)).end == 0
