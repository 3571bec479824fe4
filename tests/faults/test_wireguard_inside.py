"""A peer without manners: authentic packets of any kind inside a tunnel, and what may be inside it that changes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import taps_security as taps
from taps_security.connection.group import FLOWS_OF_THE_PEER, WAITING_OF_THE_PEER
from taps_security.connection.messages import WAITING_ALWAYS
from taps_security.inner.limits import ECHOES_AT_ONCE, ECHOES_PER_SECOND, ERRORS_AT_ONCE, FLOWS_OF_A_PEER
from taps_security.simulation import Network
from taps_security.stack.events import Received
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS
from tests.inner.support import icmp, ipv4, udp
from tests.protocols.wireguard.test_stack_simulated import INNER, PUBLIC, Site, ask, play

OURS = 0  # inner packets of no flow
CLIENT, SERVER = INNER["client"], INNER["server"]


class Rude:
    """Seals whatever it likes to."""

    def __init__(self, client: Site, server: Site) -> None:
        self.client, self.server = client, server

    async def say(self, *plaintexts: bytes) -> None:
        stack = self.client.stack
        for number, plaintext in enumerate(plaintexts):
            stack._enqueue(OURS, plaintext, DEFAULT_SEND_OPTIONS)
            if number % 32 == 31:
                await self.flush()
        await self.flush()

    async def flush(self) -> None:
        (group,) = self.client.tunnel._groups.values()
        self.client.stack._settle(asyncio.get_running_loop().time())
        group.driver.pump()
        await asyncio.sleep(0.2)

    def dropped(self) -> Counter[str]:
        (status,) = self.server.tunnel.status()
        return Counter(status["dropped"])


def rudely(scenario: Callable[[Network, Site, Site, Rude, taps.Connection], Awaitable[None]]) -> None:
    """A scenario with a connection on which both have said something."""

    async def whole(network: Network, client: Site, server: Site) -> None:
        connection = await client.connect()
        await ask(connection, b"hello", tries=1)
        await scenario(network, client, server, Rude(client, server), connection)
        await ask(connection, b"still here", tries=1)

    play(whole)


def said(network: Network, name: str = "server") -> int:
    return sum(entry.sender == name for entry in network.trace)


# ------------------------------------------------------------------------------------------------------------- garbage
def test_garbage_of_every_length_inside() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        rng = random.Random(1)
        before, heard = said(network), list(server.heard)
        garbage = []
        for length in range(1, 1421):
            noise = bytearray(rng.randbytes(length))
            if length % 3:
                noise[0] = 0x45 if length % 3 == 1 else 0x60 | noise[0] & 0x0F
            garbage.append(bytes(noise))
        await rude.say(*garbage)
        assert rude.dropped().total() == 1420
        assert said(network) == before
        assert server.heard == heard
        assert len(rude.dropped()) <= 8

    rudely(scenario)


def test_a_real_packet_cut_and_stretched_to_every_length() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        heard = list(server.heard)
        assert connection.local_endpoint is not None
        whole = udp(bytes(range(200)), (connection.local_endpoint[1], 7), source=CLIENT, to=SERVER)
        least = len(whole) // 16 * 16  # from there on padding makes it whole again
        await rude.say(*[whole[:length] for length in range(1, least + 1)])
        assert server.heard == heard
        assert rude.dropped().total() == least
        await rude.say(*[whole + bytes(length) for length in (1, 16, 500)])  # zeros behind it are padding
        await asyncio.sleep(1)
        assert server.heard[len(heard) :] == [bytes(range(200))] * 3
        while connection.take_received() is not None:  # type: ignore[attr-defined]
            pass

    rudely(scenario)


def test_sources_that_the_peer_may_not_have() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        before, heard = said(network), list(server.heard)
        sources = ("10.88.0.2", "10.88.0.3", "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1")
        for source in sources:
            await rude.say(
                udp(b"a question", (7000, 7), source=source, to=SERVER),
                udp(b"nobody's", (7000, 9), source=source, to=SERVER),
                icmp(8, 0, b"\0\1\0\1ping", source=source, to=SERVER),
                ipv4(bytes(20), protocol=6, source=source, to=SERVER),
            )
        assert rude.dropped() == {"source not allowed": 4 * len(sources)}
        assert said(network) == before
        assert server.heard == heard

    rudely(scenario)


def test_a_flow_ends_when_its_peer_loses_the_address() -> None:
    """From the very moment: what is on its way already does not arrive."""

    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await client.connect()
        await ask(connection, b"hello", tries=1)
        heard = list(server.heard)
        (peer,) = server.options.peers
        other = taps.WireGuardPeer(public_key=PUBLIC["client"], endpoint=peer.endpoint, allowed_ips=("10.88.0.77/32",))
        await connection.send(b"on its way")
        await asyncio.sleep(0)
        with server.host:
            await server.tunnel.apply(server.options.with_peer(other))
        (group,) = server.tunnel._groups.values()
        assert len(group) == 0
        await asyncio.sleep(1)
        await connection.send(b"afterwards")
        await asyncio.sleep(1)
        assert server.heard == heard
        (status,) = server.tunnel.status()
        assert status["dropped"] == {"source not allowed": 2}

    play(scenario)


# --------------------------------------------------------------------------------------------------------------- floods
def test_flows_that_a_peer_opens_are_bounded() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        listener: Any = server.listener
        listener.backlog = 100_000
        for begin in (10_000, 20_000):
            await rude.say(*[udp(b"?", (port, 7), source=CLIENT, to=SERVER) for port in range(begin, begin + 2000)])
            (status,) = server.tunnel.status()
            assert status["flows"] == FLOWS_OF_THE_PEER < FLOWS_OF_A_PEER
            assert len(server.stack._inner._flows) == FLOWS_OF_THE_PEER
            assert len(listener._handlers) == FLOWS_OF_THE_PEER
        assert len(server.heard) == 1 + 4000  # each was heard before it was ended for a younger one

    rudely(scenario)


def test_what_waits_on_the_flows_of_a_peer_is_bounded_for_all_of_them() -> None:
    """Nobody receives, and the peer fills one flow after the other."""

    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        with server.host:
            made = server.preconnection(local_endpoints=[taps.LocalEndpoint(ip_address=INNER["server"], port=9)])
            listener = await made.listen(backlog=1000)
        flows = 200
        await rude.say(*[udp(b"?", (port, 9), source=CLIENT, to=SERVER) for port in range(10_000, 10_000 + flows)])
        taken: list[Any] = [await listener.accept() for _ in range(flows)]
        for flow in taken:
            event = Received(flow.flow, [])
            for _ in range(200):
                event.chunks = [bytes(1392)] * 20
                flow._handle(event)
        kept = [flow._size for flow in taken]
        most = WAITING_OF_THE_PEER // (flows + 1) + 21 * 1392
        assert max(kept) <= most
        assert min(kept) >= WAITING_ALWAYS
        assert all(flow.dropped for flow in taken)
        assert sum(map(len, await taken[0].receive_views())) == kept[0]
        listener.stop()
        for flow in taken:
            flow.abort()

    rudely(scenario)


def test_nobody_takes_more_flows_than_a_listener_has_room_for() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        assert server.serving is not None
        assert server.listener is not None
        with server.host:
            made = server.preconnection(local_endpoints=[taps.LocalEndpoint(ip_address=INNER["server"], port=9)])
            listener = await made.listen(backlog=10)
        await rude.say(*[udp(b"?", (port, 9), source=CLIENT, to=SERVER) for port in range(10_000, 11_000)])
        (status,) = server.tunnel.status()
        assert status["flows"] == 11
        listener.stop()
        await asyncio.sleep(1)
        (status,) = server.tunnel.status()
        assert status["flows"] == 1

    rudely(scenario)


def test_answers_to_echoes_and_closed_ports_are_bounded() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        for packet, at_once, why in (
            (icmp(8, 0, b"\0\1\0\1" + bytes(20), source=CLIENT, to=SERVER), ECHOES_AT_ONCE, "echo limit"),
            (udp(b"?", (7000, 99), source=CLIENT, to=SERVER), ERRORS_AT_ONCE, ""),
        ):
            before, dropped = said(network), rude.dropped()
            for _ in range(500):
                client.stack._enqueue(OURS, packet, DEFAULT_SEND_OPTIONS)
            await rude.flush()
            assert said(network) - before <= at_once + ECHOES_PER_SECOND * 0.001
            if why:
                assert (rude.dropped() - dropped)[why] >= 500 - at_once - 1
            await asyncio.sleep(5)

    rudely(scenario)


def test_reports_about_what_we_never_sent_change_nothing() -> None:
    async def scenario(network: Network, client: Site, server: Site, rude: Rude, connection: taps.Connection) -> None:
        limit = connection.send_msg_max_len
        forged = Rude(server, client)
        rng = random.Random(2)
        reports = []
        for _ in range(500):
            quoted = udp(bytes(1300), (rng.randrange(65_536), rng.randrange(65_536)), source=CLIENT, to=SERVER)
            kind, code = rng.choice(((3, 3), (3, 4), (3, 1), (11, 0), (5, 1)))
            reports.append(
                icmp(kind, code, bytes(2) + (576).to_bytes(2, "big") + quoted[:28], source=SERVER, to=CLIENT)
            )
        await forged.say(*reports)
        assert connection.send_msg_max_len == limit
        assert connection.can_send
        (status,) = client.tunnel.status()
        assert sum(status["dropped"].values()) == 500

    rudely(scenario)
