"""One epoll set for all sockets of a loop: readiness, errors, and nothing left."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
import weakref
from collections.abc import Iterator

import pytest

from taps_security.transport.buffers import shared_buffers
from taps_security.transport.poller import poller_of

pytestmark = [pytest.mark.both_loops, pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")]

Pair = tuple[socket.socket, socket.socket]


def connected() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    client.setblocking(False)
    accepted.setblocking(False)
    return client, accepted


@pytest.fixture
def pair() -> Iterator[Pair]:
    client, accepted = connected()
    yield client, accepted
    client.close()
    accepted.close()


async def told(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 5)


async def test_a_reader_is_called_while_there_is_something(pair: Pair) -> None:
    client, accepted = pair
    poller, seen, event = poller_of(asyncio.get_running_loop()), [], asyncio.Event()

    def readable(mark: str) -> None:
        seen.append((mark, client.recv(1)))
        if len(seen) == 3:
            event.set()

    poller.add_reader(client, readable, "m")
    accepted.send(b"abc")
    await told(event)
    poller.remove_reader(client)
    assert seen == [("m", b"a"), ("m", b"b"), ("m", b"c")]


async def test_many_sockets_each_have_their_own_callback() -> None:
    loop = asyncio.get_running_loop()
    poller, pairs, seen, event = poller_of(loop), [connected() for _ in range(5)], set(), asyncio.Event()

    def readable(number: int) -> None:
        seen.add((number, pairs[number][0].recv(10)))
        if len(seen) == 5:
            event.set()

    for number, (client, accepted) in enumerate(pairs):
        poller.add_reader(client, readable, number)
        accepted.send(bytes([number]))
    await told(event)
    assert seen == {(number, bytes([number])) for number in range(5)}
    for client, accepted in pairs:
        poller.remove_reader(client)
        client.close()
        accepted.close()


async def test_a_writer_is_called_when_there_is_room_and_reading_goes_on(pair: Pair) -> None:
    client, accepted = pair
    poller, room, octets = poller_of(asyncio.get_running_loop()), asyncio.Event(), asyncio.Event()
    poller.add_reader(client, octets.set)
    poller.add_writer(client, room.set)
    await told(room)
    assert poller.remove_writer(client)
    accepted.send(b"x")
    await told(octets)
    assert poller.remove_reader(client)
    assert not poller.remove_reader(client)


@pytest.mark.parametrize("octets", [b"", b"last words"])
async def test_a_reset_reaches_the_reader_behind_what_came_before_it(pair: Pair, octets: bytes) -> None:
    client, accepted = pair
    poller, seen, event = poller_of(asyncio.get_running_loop()), [], asyncio.Event()

    def readable() -> None:
        try:
            seen.append(client.recv(100))
        except ConnectionResetError as error:
            seen.append(error)
            poller.remove_reader(client)
            event.set()

    poller.add_reader(client, readable)
    if octets:
        accepted.send(octets)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
    await told(event)
    assert seen[:-1] in ([octets], [])
    assert isinstance(seen[-1], ConnectionResetError)


async def test_a_failing_callback_does_not_keep_the_others_from_being_served() -> None:
    loop = asyncio.get_running_loop()
    contexts: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    poller, event, (one, its_peer), (two, other_peer) = poller_of(loop), asyncio.Event(), connected(), connected()

    def fails() -> None:
        poller.remove_reader(one)
        raise RuntimeError("on purpose")

    poller.add_reader(one, fails)
    poller.add_reader(two, event.set)
    its_peer.send(b"x")
    other_peer.send(b"x")
    await told(event)
    poller.remove_reader(two)
    assert isinstance(contexts[0]["exception"], RuntimeError)
    for sock in (one, its_peer, two, other_peer):
        sock.close()


async def test_the_set_is_gone_while_nothing_is_watched(pair: Pair) -> None:
    poller = poller_of(asyncio.get_running_loop())
    assert poller_of(asyncio.get_running_loop()) is poller
    poller.add_reader(pair[0], lambda: None)
    assert poller._set is not None
    poller.remove_reader(pair[0])
    assert poller._set is None


def test_a_loop_that_is_over_is_not_kept(pair: Pair) -> None:
    async def watch() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.get_running_loop()
        assert poller_of(loop) is poller_of(loop)
        poller_of(loop).add_reader(pair[0], lambda: loop)
        shared_buffers(loop).receive.borrow()
        return weakref.ref(loop)

    loop = asyncio.new_event_loop()
    over = loop.run_until_complete(watch())
    loop.close()
    del loop
    gc.collect()
    assert over() is None
