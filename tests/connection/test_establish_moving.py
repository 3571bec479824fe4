"""migrate(): a connection over datagrams goes on from another local address. On the simulated network, with a toy."""

from __future__ import annotations

import asyncio

import pytest

import taps_security as taps
from tests.conformance.subject import SUBJECTS, Pair, Subject
from tests.conformance.talk import ask
from tests.conformance.worlds import World, play

LISTENING = [one for one in SUBJECTS if not one.provides("key_import")]  # the others have no listener
MOVING = [one for one in LISTENING if one.provides("connection_mobility") and one.descriptor.tunnel is None]
ELSEWHERE = "192.0.2.77"


def on_its_host(world: World, pair: Pair, local: taps.LocalEndpoint | None = None) -> asyncio.Task[None]:
    """migrate(), called by a program on the client's host."""
    with world.client:
        return asyncio.get_running_loop().create_task(pair.client.migrate(local))


@pytest.mark.parametrize("subject", MOVING, ids=str)
def test_a_client_goes_on_from_another_address(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            host, before = world.simulated.host("client"), world.client_address
            host.add_address(ELSEWHERE)
            await on_its_host(world, pair, taps.LocalEndpoint(ip_address=ELSEWHERE))
            host.remove_address(before)
            await ask(pair)
            assert pair.client.local_endpoint is not None
            assert pair.client.local_endpoint[0] == ELSEWHERE
            assert pair.server.remote_endpoint == pair.client.local_endpoint

    play(scenario)


@pytest.mark.parametrize("subject", MOVING, ids=str)
def test_who_moves_often_keeps_two_sockets_at_most(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            for _ in range(5):
                await on_its_host(world, pair)
                await ask(pair)
            with world.client:
                assert len([sock for sock in world.simulated.open_sockets() if sock.host.name == "client"]) == 2

    play(scenario)


@pytest.mark.parametrize("subject", LISTENING, ids=str)
def test_who_cannot_move_says_so_and_lives(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            with pytest.raises(taps.LocalError) as caught:
                await pair.server.migrate()  # a listener's socket is everybody's
            assert caught.value.reason is taps.Reason.NOT_SUPPORTED
            await ask(pair)

    play(scenario)
