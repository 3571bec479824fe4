"""Strangers, and those who have listened, against CurveCP ends: nothing that they send reaches the application, or
changes what an end knows of its peer, and what it makes an end keep is bounded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from taps_security.connection.endpoint import PATHS_PER_STACK
from taps_security.protocols.curvecp.wire import CLIENT_MESSAGE, COOKIE, HELLO, INITIATE, SERVER_MESSAGE
from taps_security.simulation import Network
from taps_security.simulation.links import Packet
from taps_security.stack.events import HandshakeComplete
from taps_security.stack.stack import SendOptions
from tests.protocols.curvecp.pair import Pair
from tests.protocols.curvecp.world import DELAY, Server, connect, hosts, run
from tests.toys.program import Peer

STRANGER = ("203.0.113.77", 4444)


async def give(endpoint: Any, local: tuple[str, int], datagram: bytes, source: tuple[str, int] = STRANGER) -> None:
    """A datagram whose source address may be a lie."""
    endpoint._socket.arrived(Packet("UDP", source, local, datagram))
    while endpoint._socket.readable:
        await asyncio.sleep(0)


def known(peer: Peer) -> dict[str, object]:
    """What a stack believes of its peer and its path."""
    stack = peer.stack
    record, delivery = stack._record, stack._delivery
    recovery = delivery.recovery
    return {
        "data": bytes(peer.data[0]),
        "events": [*peer.events],
        "path": (stack.path, record.path),
        "window": (record._window.highest, record._window._seen),
        "extensions": record.extensions,
        "heard": stack._heard,
        "deadlines": {**stack._deadlines._due},
        "credit": stack._credit,
        "pending": stack.pending,
        "congestion": (recovery.controller.window, recovery.controller.in_flight, recovery.controller.pacing_rate),
        "rtt": (recovery.rtt.smoothed, recovery.rtt.variation, recovery.pto_count),
        "sent": (delivery.outgoing.base, delivery.outgoing.next, len(recovery.space()), record.number),
        "received": (delivery.incoming.next, delivery.incoming.gaps, delivery.incoming.total),
        "said": (delivery.ack_due, delivery.ping_due, delivery.malformed),
    }


class Scene:
    """A client and a server that have talked, and all that went between them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        network.record_data = True
        self.host, self.server = hosts(network)
        with self.host:
            self.endpoint, self.client = connect(self.server.address)

    async def talk(self) -> Peer:
        await self.client.ready()
        for turn in range(3):
            self.client.send(b"%d" % turn)
            await asyncio.sleep(1)
        (self.other,) = self.server.peers
        assert self.client.data[0] == self.other.data[0] == b"012"
        self.at_client = self.host.addresses[0], self.endpoint._socket.local[1]
        return self.other

    def packets(self, magic: bytes) -> list[bytes]:
        return [entry.data for entry in self.network.trace if entry.data and entry.data.startswith(magic)]

    def size(self) -> list[int]:
        at = self.server.endpoint
        return [len(each) for each in (at._members, at._by_route, at._lingering, at._by_path, self.server.peers)]

    def dropped(self, victim: Peer, endpoint: Any) -> int:
        record = victim.stack._record
        return endpoint.noise.total() + record.failed + record.replayed

    def answers(self) -> int:
        return sum(entry.sender in {"server", "client"} for entry in self.network.trace)

    async def still_works(self) -> None:
        self.client.send(b"!")
        await self.client.until(lambda: self.client.data[0].endswith(b"!"))
        self.endpoint.close()
        self.server.endpoint.close()


def forgeries(packet: bytes) -> Iterator[bytes]:
    """Each octet changed, and some lengths."""
    for place in range(len(packet)):
        yield packet[:place] + bytes((packet[place] ^ (1 + place % 255),)) + packet[place + 1 :]
    for size in (*range(0, len(packet), 16), len(packet) - 1):
        yield packet[:size]
    yield packet + bytes(16)


@pytest.mark.parametrize("side", ["server", "client"])
def test_noise_of_every_length_also_from_who_knows_the_addresses_and_the_key(side: str) -> None:
    async def main(network: Network) -> None:
        scene = Scene(network)
        other = await scene.talk()
        victim, endpoint = (other, scene.server.endpoint) if side == "server" else (scene.client, scene.endpoint)
        local = scene.server.address if side == "server" else scene.at_client
        peer = scene.at_client if side == "server" else scene.server.address
        heads = [scene.packets(magic)[-1][:72] for magic in (CLIENT_MESSAGE, INITIATE, SERVER_MESSAGE, COOKIE, HELLO)]
        before, said, chance = known(victim), scene.answers(), random.Random(1)
        size, dropped = scene.size(), scene.dropped(victim, endpoint)
        for length in range(1401):
            noise = chance.randbytes(length)
            head = heads[length % len(heads)]
            for datagram in (noise, (head[:8] + noise)[:length], (head + noise)[:length]):
                for source in (STRANGER, peer):
                    await give(endpoint, local, datagram, source)
        assert known(victim) == before
        assert scene.answers() == said
        assert scene.dropped(victim, endpoint) == dropped + 1401 * 6
        assert all(now <= was + 1 for now, was in zip(scene.size(), size, strict=True))  # the stranger's path
        await scene.still_works()

    run(main)


@pytest.mark.parametrize("magic", [HELLO, INITIATE, CLIENT_MESSAGE, SERVER_MESSAGE, COOKIE])
def test_forged_and_repeated_packets_of_every_kind(magic: bytes) -> None:
    async def main(network: Network) -> None:
        scene = Scene(network)
        other = await scene.talk()
        to_server = magic in {HELLO, INITIATE, CLIENT_MESSAGE}
        endpoint = scene.server.endpoint if to_server else scene.endpoint
        local = scene.server.address if to_server else scene.at_client
        peer = scene.at_client if to_server else scene.server.address
        packet = scene.packets(magic)[-1]
        before, said = [known(scene.client), known(other)], scene.answers()
        for datagram in forgeries(packet):
            if magic == HELLO and (datagram[24:40] != packet[24:40] or datagram[72:136] != bytes(64)):
                continue  # of a Hello these are not protected, nor looked at
            await give(endpoint, local, datagram, STRANGER)
            await give(endpoint, local, datagram, peer)
        assert [known(scene.client), known(other)] == before
        assert scene.answers() == said
        for repeated in scene.packets(magic):
            for source in (STRANGER, peer):
                await give(endpoint, local, repeated, source)
        await asyncio.sleep(1)
        assert [known(scene.client), known(other)] == before
        assert scene.answers() == said + (2 * len(scene.packets(HELLO)) if magic == HELLO else 0)
        assert len(scene.server.peers) == 1
        await scene.still_works()

    run(main)


def test_who_sends_a_clients_packets_from_many_addresses_fills_no_table() -> None:
    async def main(network: Network) -> None:
        scene = Scene(network)
        other = await scene.talk()
        packet = scene.packets(CLIENT_MESSAGE)[-1]
        before = known(other)
        for number in range(500):
            source = (f"203.0.{number // 250}.{number % 250 + 1}", 1000 + number)
            await give(scene.server.endpoint, scene.server.address, packet, source)
            assert len(other.stack._facts) <= PATHS_PER_STACK + 1
            assert len(scene.server.endpoint.paths) <= PATHS_PER_STACK + 1
        assert known(other) == before
        await scene.still_works()

    run(main)


def test_an_initiate_from_a_forged_address_makes_no_connection() -> None:
    """Whoever has a cookie could else have the server send to somebody."""

    async def main(network: Network) -> None:
        host, server = hosts(network)
        network.record_data = True
        network.link("client", "server").filter = lambda packet: not packet.data.startswith(INITIATE)
        with host:
            endpoint, client = connect(server.address)
        await client.ready()
        client.send(b"hello")
        await asyncio.sleep(1)
        initiate = next(entry.data for entry in network.trace if entry.data and entry.data.startswith(INITIATE))
        await give(server.endpoint, server.address, initiate)
        assert not server.peers
        assert server.endpoint.noise["curvecp: a box that does not open"] == 1
        network.link("client", "server").filter = None
        await client.until(lambda: client.data[0] == b"hello")
        endpoint.close()
        server.endpoint.close()

    run(main)


def test_initiates_of_many_clients_are_bounded_while_they_are_unfinished() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, {"patient": True})
        (served,) = server.endpoint._screeners
        served.most = 8
        with host:
            ends = [connect(server.address) for _ in range(30)]
        for _, client in ends:
            await client.ready()
        await asyncio.sleep(4 * DELAY)
        assert len(server.peers) >= 30
        assert server.endpoint.half_open == 8 == server.endpoint.stacks
        assert server.endpoint.dropped >= 22
        assert not server.endpoint._lingering
        last = next(peer for peer in reversed(server.peers) if not peer.ended)
        last.driver.answer(last.asks[0].id, True)
        assert last.found(HandshakeComplete)
        for endpoint, _ in ends:
            endpoint.close()
        server.endpoint.close()

    run(main)


def test_a_flood_of_hellos_from_everywhere_leaves_nothing_and_no_answer_is_larger() -> None:
    async def main(network: Network) -> None:
        scene = Scene(network)
        other = await scene.talk()
        before, size = known(other), scene.size()
        paths = len(scene.server.endpoint.paths)
        (hello,) = Pair().client.take()
        said = scene.answers()
        for number in range(2000):
            source = (f"203.0.{number // 250}.{number % 250 + 1}", 1000 + number)
            await give(scene.server.endpoint, scene.server.address, hello, source)
        assert scene.answers() == said + 2000
        assert {entry.length for entry in list(network.trace)[-2000:]} == {200}
        assert len(hello) == 224
        assert scene.size() == size
        assert len(scene.server.endpoint.paths) == paths
        assert known(other) == before
        await scene.still_works()

    run(main)


def test_a_server_that_starts_again_knows_no_cookie_and_repeats_no_nonce() -> None:
    """With the same long-term key, at the same time: what was recorded before means nothing to it."""

    async def main(network: Network) -> None:
        scene = Scene(network)
        await scene.talk()
        recorded = [*scene.packets(INITIATE), *scene.packets(CLIENT_MESSAGE)]
        hello = scene.packets(HELLO)[0]
        scene.server.endpoint.close()
        with network.host("server"):
            again = Server(scene.server.address)
        for datagram in recorded:
            for source in (STRANGER, scene.at_client):
                await give(again.endpoint, again.address, datagram, source)
        assert not again.peers
        await give(again.endpoint, again.address, hello, scene.at_client)
        await asyncio.sleep(1)
        cookies = scene.packets(COOKIE)
        assert len({cookie[40:56] for cookie in cookies}) == len(cookies) == 2
        scene.endpoint.close()
        again.endpoint.close()

    run(main)


def test_an_initiate_that_comes_again_takes_nothing_from_an_end_that_lingers() -> None:
    async def main(network: Network) -> None:
        scene = Scene(network)
        other = await scene.talk()
        scene.client.send(b"", 0, SendOptions(end=True))
        await scene.client.over()
        await other.over()
        at = scene.server.endpoint
        (linger,) = [linger for linger, _ in at._lingering.values()]
        for initiate in scene.packets(INITIATE):
            await give(at, scene.server.address, initiate, (scene.at_client[0], 4444))
        await asyncio.sleep(0.1)
        assert [at._by_route[route] for route in linger.routes] == [linger]
        assert len(scene.server.peers) == 1
        scene.endpoint.close()
        at.close()

    run(main)
