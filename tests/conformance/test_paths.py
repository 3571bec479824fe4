"""Mobility: a peer whose address changes keeps its connection, where the descriptor says so."""

from __future__ import annotations

import asyncio

import pytest

from taps_security import simulation
from taps_security.stack.events import PathValidated, PeerMoved
from tests.conformance.subject import SUBJECTS, Subject
from tests.conformance.talk import ask, transfer
from tests.conformance.worlds import World, play

MOBILE = [subject for subject in SUBJECTS if subject.provides("connection_mobility")]
mobile = pytest.mark.parametrize("subject", MOBILE, ids=str)


@mobile
def test_a_translator_that_forgets_is_survived(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        nat = world.simulated.host("client").nat = simulation.Nat("203.0.113.7")
        async with subject.connected(world) as pair:
            await ask(pair)
            nat.rebind()
            await pair.client.send(b"from elsewhere")
            await pair.server.receive(timeout=5)
            await asyncio.sleep(1)  # the new path is validated
            await ask(pair)
            moved = [event for event in pair.server.security_events if isinstance(event, PeerMoved)]
            validated = [event for event in pair.server.security_events if isinstance(event, PathValidated)]
            assert moved
            assert validated
            assert validated[-1].ok
            assert validated[-1].path == moved[-1].new
            await transfer(subject, pair.server, pair.client, 100_000)

    play(scenario)


@mobile
def test_a_copy_from_elsewhere_moves_nobody(subject: Subject) -> None:
    """Old octets from a new address are no proof that the peer is there."""

    async def scenario(world: World) -> None:
        world.simulated.record_data = True
        async with subject.connected(world) as pair:
            await ask(pair)
            sent = [entry for entry in world.simulated.trace if entry.sender == "client" and entry.kind == "UDP"]
            with world.simulated.host("attacker"):
                sock = world.simulated.loop.taps_network.open_datagram(("0.0.0.0", 0))
                sock.send(memoryview(sent[-1].data), 0, sent[-1].destination, None, 0)
            await asyncio.sleep(1)
            sock.close()
            assert not [event for event in pair.server.security_events if isinstance(event, PeerMoved)]
            await ask(pair)

    play(scenario)
