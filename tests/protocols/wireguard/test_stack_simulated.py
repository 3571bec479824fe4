"""Two tunnels on the simulated network, through drivers, endpoints and the public API: round trips, loss, roaming."""

from __future__ import annotations

import asyncio
import random as randomness
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

import taps_security as taps
from taps_security import simulation
from taps_security.crypto.sodium import scalarmult_base
from taps_security.simulation import Network
from taps_security.simulation.nat import Nat
from taps_security.stack.events import Direction, KeyReady, PathValidated, PeerMoved
from taps_security.transport.network import network_of

DELAY = 0.05
PORT = 51820
PRIVATE = {"client": bytes([1]) * 32, "server": bytes([2]) * 32}
PUBLIC = {name: scalarmult_base(key) for name, key in PRIVATE.items()}
INNER = {"client": "10.88.0.1", "server": "10.88.0.2"}
OTHER = {"client": "server", "server": "client"}


class Site:
    """One end: a host with a tunnel, an echo at inner port 7."""

    def __init__(self, network: Network, name: str, *, endpoint: bool = True, keepalive: int = 0) -> None:
        other = OTHER[name]
        address = network.host(other).addresses[0]
        peer = taps.WireGuardPeer(
            public_key=PUBLIC[other],
            endpoint=(address, PORT) if endpoint else None,
            allowed_ips=(f"{INNER[other]}/32",),
            persistent_keepalive=keepalive,
        )
        self.options = taps.WireGuardOptions(
            private_key=PRIVATE[name], addresses=(f"{INNER[name]}/24",), listen_port=PORT, peers=(peer,)
        )
        self.host, self.other = network.host(name), other
        self.heard: list[bytes] = []
        self.heard_at: list[float] = []
        self.listener: taps.Listener | None = None
        self.serving: asyncio.Task[None] | None = None
        self.tunnel: Any = None
        self.connections: list[taps.Connection] = []

    def preconnection(self, **endpoints: Any) -> taps.Preconnection:
        return taps.Preconnection(
            transport_properties=taps.TransportProperties.unreliable_datagram(),
            security_parameters=taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": self.options}),
            **endpoints,
        )

    async def __aenter__(self) -> Site:
        with self.host:
            self.tunnel = await self.preconnection().tunnel()
            await self.tunnel.__aenter__()
            made = self.preconnection(
                local_endpoints=[taps.LocalEndpoint(ip_address=self.options.addresses[0][:-3], port=7)]
            )
            self.listener = await made.listen()
            self.serving = asyncio.create_task(self.listener.serve(self._echo))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.listener is not None
        assert self.serving is not None
        for connection in self.connections:
            await connection.close()
        self.listener.stop()
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        await self.tunnel.__aexit__(None, None, None)

    async def _echo(self, connection: taps.Connection) -> None:
        while True:
            for message in await connection.receive_views():
                self.heard.append(bytes(message))
                self.heard_at.append(asyncio.get_running_loop().time())
                await connection.send(bytes(message))

    async def connect(self) -> taps.Connection:
        with self.host:
            remote = taps.RemoteEndpoint(ip_address=INNER[self.other], port=7)
            self.connections.append(await self.preconnection(remote_endpoints=[remote]).initiate())
            return self.connections[-1]

    @property
    def stack(self) -> Any:
        (group,) = self.tunnel._groups.values()
        return group.stack


def play(scenario: Callable[[Network, Site, Site], Coroutine[Any, Any, None]], seed: int = 0, **how: Any) -> None:
    """A scenario with a client and a server, which may have no way to begin by itself."""

    async def main(network: Network) -> None:
        conditions = {name: how.pop(name) for name in ("loss", "reorder", "duplicate", "corrupt") if name in how}
        network.connect("client", "server", delay=DELAY, **conditions)
        async with Site(network, "client", **how) as client, Site(network, "server", **how) as server:
            await scenario(network, client, server)
        await asyncio.sleep(1)
        assert not network.open_sockets()

    simulation.run(main, seed=seed)


async def ask(connection: taps.Connection, question: bytes, patience: float = 0.5, tries: int = 60) -> None:
    """Send until it is echoed: messages may be lost."""
    for _ in range(tries):
        await connection.send(question)
        try:
            while (await connection.receive(timeout=patience)).data != question:
                pass
        except TimeoutError:
            continue
        return
    raise AssertionError(f"{question!r} is never echoed")


def generations(connection: taps.Connection, direction: Direction = Direction.SEND) -> int:
    return max(
        event.key.generation
        for event in connection.security_events
        if isinstance(event, KeyReady) and event.direction is direction
    )


def test_one_round_trip_to_the_first_data() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        begin = network.now
        connection = await client.connect()
        assert network.now - begin == pytest.approx(2 * DELAY)
        await connection.send(b"first")
        answer = await connection.receive()
        assert answer.data == b"first"
        assert server.heard_at[0] - begin == pytest.approx(3 * DELAY)
        assert network.now - begin == pytest.approx(4 * DELAY)
        assert next(entry.length for entry in network.trace if entry.sender == "server") == 92  # a response

    play(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_rekeys_under_thirty_percent_loss(seed: int) -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await client.connect()
        for turn in range(40):
            await ask(connection, b"%d" % turn)
            await asyncio.sleep(20)
        assert generations(connection) >= 4  # every 120 s of 800
        assert sum(entry.lost == "loss" for entry in network.trace) > 20
        begun = {
            name: [entry.time for entry in network.trace if entry.sender == name and entry.length == 148]
            for name in ("client", "server")
        }
        assert sum(map(len, begun.values())) > 5  # either end may become the initiator
        assert all(later - earlier >= 5.0 for times in begun.values() for earlier, later in pairwise(times))

    play(scenario, seed, loss=0.3)


@pytest.mark.parametrize("seed", range(3))
def test_every_fault_at_once(seed: int) -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        network.coalesce = bool(seed & 1)
        connection = await client.connect()
        rng = randomness.Random(seed)
        sent = {rng.randbytes(rng.randrange(1, 1300)) for _ in range(200)}
        for message in sent:
            await connection.send(message)
        await asyncio.sleep(2)
        assert set(server.heard) <= sent
        assert len(server.heard) == len(set(server.heard))  # a datagram that came twice was dropped
        assert len(server.heard) > 120

    play(scenario, seed, loss=0.1, reorder=0.2, duplicate=0.1, corrupt=0.05)


def test_both_begin_at_the_same_instant() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        ours, theirs = await asyncio.gather(client.connect(), server.connect())
        assert network.now == pytest.approx(2 * DELAY)
        await asyncio.gather(ask(ours, b"a", tries=1), ask(theirs, b"b", tries=1))
        assert (client.heard, server.heard) == ([b"b"], [b"a"])
        for _ in range(30):
            await asyncio.sleep(20)
            # when both begin again at the same instant, each drops the other's previous pair while it may still be used
            await asyncio.gather(ask(ours, b"a", tries=2), ask(theirs, b"b", tries=2))
        assert generations(ours) >= 4

    play(scenario)


def test_roaming_in_the_middle_of_a_rekey() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        nat = client.host.nat = Nat("203.0.113.9")
        connection = await client.connect()
        await ask(connection, b"1", tries=1)
        nat.move("203.0.113.10")
        await ask(connection, b"2", tries=1)
        assert server.stack.remote[0] == "203.0.113.10"
        await asyncio.sleep(125)
        await connection.send(b"3")  # with it goes an initiation
        await asyncio.sleep(DELAY / 2)
        nat.rebind()
        nat.move("203.0.113.11")  # the response goes to where nobody is
        await asyncio.sleep(6)
        await ask(connection, b"4", tries=2)
        assert server.stack.remote[0] == "203.0.113.11"
        assert generations(connection) == 1

    play(scenario)


def test_a_move_is_seen_by_the_application() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        nat = client.host.nat = Nat("203.0.113.9")
        connection = await client.connect()
        await ask(connection, b"1", tries=1)
        nat.rebind()
        await ask(connection, b"2", tries=1)
        (group,) = server.tunnel._groups.values()
        seen = [event for _, event in group.log.events if isinstance(event, PeerMoved | PathValidated)]
        moved = group.stack.path
        assert seen == [PeerMoved(seen[0].old, moved), PathValidated(moved, True)]

    play(scenario)


def test_replayed_and_mutated_datagrams_get_no_answer() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        network.record_data = True
        connection = await client.connect()
        for turn in range(10):
            await ask(connection, b"%d" % turn, tries=1)
        heard, trace = list(server.heard), list(network.trace)
        rng = randomness.Random(3)
        seam = network_of(asyncio.get_running_loop())
        with network.host("attacker"):
            attacker = seam.open_datagram(("0.0.0.0", 0))
        target = (network.host("server").addresses[0], PORT)
        for entry in trace:
            if entry.sender != "client" or not entry.data:
                continue
            attacker.send(memoryview(entry.data), 0, target, None, 0)
            for _ in range(20):
                data = bytearray(entry.data)
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
                attacker.send(memoryview(data), 0, target, None, 0)
        await asyncio.sleep(5)
        assert not [entry for entry in network.trace if entry.receiver == "attacker"]
        assert server.heard == heard
        dropped = sum(server.tunnel._engine.dropped.values()) + sum(server.tunnel._endpoint.noise.values())
        assert dropped >= 21 * 11
        assert server.stack.remote == client_address(network)
        await ask(connection, b"still here", tries=1)
        attacker.close()

    play(scenario)


def client_address(network: Network) -> tuple[str, int]:
    return network.host("client").addresses[0], PORT


def test_hours_of_idling_send_nothing() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await client.connect()
        await ask(connection, b"x", tries=1)
        await asyncio.sleep(15)
        before = len(network.trace)
        await asyncio.sleep(6 * 3600)
        assert len(network.trace) == before
        await ask(connection, b"awake", tries=1)

    play(scenario)


def test_persistent_keepalives_keep_a_mapping() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        client.host.nat = Nat("203.0.113.9", timeout=30.0)
        connection = await client.connect()
        await ask(connection, b"x", tries=1)
        place = server.stack.remote
        await asyncio.sleep(1800)
        assert server.stack.remote == place
        assert len([entry for entry in network.trace if entry.sender == "client"]) >= 1800 // 25

    play(scenario, keepalive=25)


def test_after_a_partition_it_goes_on() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await client.connect()
        await ask(connection, b"before", tries=1)
        network.partition("client", "server")
        await connection.send(b"lost")
        await asyncio.sleep(400)
        assert client.stack.endpoint_stale
        assert not client.stack.ended
        network.heal()
        await ask(connection, b"after")
        assert not client.stack.endpoint_stale

    play(scenario)
