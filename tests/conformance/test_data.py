"""Application data: every stack brings what was sent, once and as it was."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import taps_security as taps
from tests.conformance.subject import SUBJECTS, TIMEOUT, Subject
from tests.conformance.talk import ask, ends_with, piece, take, transfer
from tests.conformance.worlds import WORLDS, World, play

BIG = 3_000_000  # octets
STEP = 50_000
STREAMS = [subject for subject in SUBJECTS if subject.takes_streams]
RELIABLE = [subject for subject in SUBJECTS if subject.provides("reliability")]
everywhere = pytest.mark.parametrize("where", WORLDS)
every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=str)


@everywhere
@every_subject
def test_echo(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            for size in (1, 2, 100, piece(pair.client)):
                await ask(pair, bytes(range(256))[:size] if size < 256 else bytes(size))
            assert pair.client.security.stack == pair.server.security.stack == subject.descriptor.name
            assert pair.client.security.version == pair.server.security.version == subject.version

    play(scenario, where)


@everywhere
@every_subject
def test_a_big_transfer_each_way(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            await transfer(subject, client, server, BIG)
            await transfer(subject, server, client, BIG)

    play(scenario, where)


@everywhere
@pytest.mark.parametrize("subject", RELIABLE, ids=str)
def test_both_directions_at_once(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            await asyncio.gather(transfer(subject, client, server, BIG), transfer(subject, server, client, BIG))

    play(scenario, where)


@pytest.mark.parametrize("subject", RELIABLE, ids=str)
def test_a_bad_network_only_makes_it_slow(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        world.simulated.connect("client", "server", delay=0.02, rate=5e7, loss=0.02, duplicate=0.02, reorder=0.05)
        async with asyncio.timeout(600), subject.connected(world) as (client, server):
            await asyncio.gather(transfer(subject, client, server, 200_000), transfer(subject, server, client, 200_000))

    play(scenario, seed=7)


@pytest.mark.parametrize("subject", [one for one in SUBJECTS if not one.takes_streams], ids=str)
def test_messages_keep_their_bounds(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            sent = [bytes((number,)) * (number + 1) for number in range(100)]
            received: list[bytes] = []
            for message in sent:
                await client.send(message)
            async with asyncio.timeout(TIMEOUT):
                while len(received) < len(sent):
                    received += map(bytes, await server.receive_views())
            assert received == sent
            with pytest.raises(taps.LocalError):
                await client.send(bytes(piece(client) + 1))
            await client.send(b"still here")
            assert await take(server, 10) == b"still here"

    play(scenario)


@everywhere
@pytest.mark.parametrize("subject", STREAMS, ids=str)
def test_half_close(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            await client.send(b"a question", final=True)
            with pytest.raises(taps.LocalError):
                await client.send(b"a second thought")
            parts = [bytes(part) async for part in server]
            assert b"".join(parts) == b"a question"
            assert not server.can_receive
            assert server.can_send
            await transfer(subject, server, client, 500_000)  # the other direction goes on
            await server.send(b"the end", final=True)
            assert b"".join([bytes(part) async for part in client]) == b"the end"
            await client.close()
            await server.close()
            assert client.error is None
            assert server.error is None

    play(scenario, where)


@everywhere
@every_subject
def test_close_brings_what_was_sent_and_ends_cleanly(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            await client.send(b"the last words")
            closing = asyncio.create_task(client.close())
            assert await take(server, 14) == b"the last words"
            if subject.takes_streams:
                assert await ends_with(server) is None
            await server.close()
            await closing
            assert client.state is server.state is taps.ConnectionState.CLOSED
            assert client.error is None
            with pytest.raises(taps.LocalError):
                await client.send(b"from the grave")

    play(scenario, where)


@pytest.mark.parametrize("subject", RELIABLE, ids=str)
def test_a_slow_reader_makes_the_sender_wait(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            sent = 0
            with suppress(TimeoutError):
                while sent < 4_000_000:
                    await client.send(bytes(STEP), timeout=5)
                    sent += STEP
            assert sent < 4_000_000  # memory is bounded
            assert len(await take(server, sent)) == sent

    play(scenario)


@everywhere
@every_subject
def test_many_connections_at_a_time(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.serving(world) as service:
            clients = await asyncio.gather(*(service.initiate() for _ in range(8)))
            servers = [await service.accept() for _ in clients]
            for number, client in enumerate(clients):
                await client.send(b"%d" % number)
            heard = sorted([await take(server, 1) for server in servers])
            assert heard == [b"%d" % number for number in range(8)]
            for connection in (*clients, *servers):
                connection.abort()

    play(scenario, where)
