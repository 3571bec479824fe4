"""A satchel on the simulated network: keys from outside or from a child, replay, rekey, limits, roaming."""

from __future__ import annotations

import asyncio
import os

import pytest

from taps_security import simulation
from taps_security.connection.door import BATCH
from taps_security.simulation import Network
from taps_security.simulation.nat import Nat
from taps_security.stack.asks import Refused
from taps_security.stack.errors import AuthenticationFailed, HardLimitReached, LocalError, Reason
from taps_security.stack.events import (
    CloseKind,
    FlowKind,
    FlowSent,
    HandshakeComplete,
    KeyConfirmed,
    KeyExpiring,
    KeyId,
    Limit,
    LimitKind,
    PathNews,
    PathValidated,
    PeerAuthenticated,
    PeerMoved,
    Stage,
)
from taps_security.stack.stack import SendOptions

from .parley import ParleyHandshake, hello
from .parley_screening import parley_client
from .parley_stack import ParleyStack
from .program import Peer, open_endpoint
from .record import Ids
from .satchel import SatchelStack, imported

DELAY, PORT = 0.05, 5004
SECRET = b"what both ends know".ljust(32, b".")
CLIENT_ID, SERVER_ID = b"clie", b"serv"


def satchel(*, client: bool, **how) -> SatchelStack:
    mine, peers = (CLIENT_ID, SERVER_ID) if client else (SERVER_ID, CLIENT_ID)
    return SatchelStack(Ids(mine, peer=peers), client=client, random=os.urandom, **how)


def place(network: Network, one: SatchelStack, other: SatchelStack, **how) -> tuple[list, Peer, Peer]:
    """Both ends on their hosts; neither is a listener."""
    client_host, server_host = network.host("client"), network.host("server")
    client_at, server_at = (client_host.addresses[0], PORT), (server_host.addresses[0], PORT)
    peers, endpoints = [], []
    for host, stack, local, remote in (
        (server_host, other, server_at, client_at),
        (client_host, one, client_at, server_at),
    ):
        with host:
            endpoint, peer = open_endpoint(local), Peer(stack, **how)
            endpoint.connect(peer.driver, remote)
        peers.insert(0, peer)
        endpoints.append(endpoint)
    return endpoints, *peers


def pair(network: Network, limits: tuple[Limit, ...] = (), **conditions):
    network.connect("client", "server", delay=DELAY, **conditions)
    return place(
        network,
        satchel(client=True, keys=imported(SECRET, 0, client=True, limits=limits)),
        satchel(client=False, keys=imported(SECRET, 0, client=False)),
    )


def finish(endpoints) -> None:
    for endpoint in endpoints:
        endpoint.close()


def test_messages_go_at_once_and_keep_their_boundaries() -> None:
    async def main(network: Network):
        network.coalesce = True
        endpoints, client, server = pair(network)
        assert client.found(HandshakeComplete)
        messages = [os.urandom(1000) for _ in range(50)] + [os.urandom(20), b"", os.urandom(1300)]
        for message in messages:
            client.send(message)
        await server.until(lambda: len(server.messages) == len(messages))
        assert network.now == pytest.approx(DELAY)
        assert server.messages == messages
        assert server.runs < 10  # a Received per run, not per datagram
        client.close()
        ended = await client.over()
        assert (ended.how, ended.error) == (CloseKind.SILENT, None)
        finish(endpoints)

    simulation.run(main)


def test_replays_are_dropped() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network, duplicate=1.0, reorder=0.3)
        for number in range(40):
            client.send(b"%d" % number)
            client.driver.pump()
        await asyncio.sleep(1)
        assert sorted(map(int, server.messages)) == list(range(40))
        assert server.stack._record.replayed == 40
        finish(endpoints)

    simulation.run(main)


def test_noise_is_counted_never_raised() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network, corrupt=0.5)
        for number in range(100):
            client.send(b"%03d" % number)
            client.driver.pump()
        await asyncio.sleep(1)
        assert 0 < len(server.messages) < 100
        assert all(message.isdigit() for message in server.messages)
        lost = server.stack._record.failed + sum(endpoints[0].noise.values()) + server.stack._record.replayed
        assert lost + len(server.messages) + len(server.stack._early) == 100
        assert server.ended is None
        finish(endpoints)

    simulation.run(main)


def test_a_key_may_come_later_than_what_it_protects() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network)
        for key in imported(SECRET, 1, client=True):
            client.stack.import_key(key, network.now)
        client.driver.pump()
        client.send(b"under the next key")
        await asyncio.sleep(1)
        assert not server.messages
        for key in imported(SECRET, 1, client=False):
            server.stack.import_key(key, network.now)
        server.driver.pump()
        assert server.messages == [b"under the next key"]
        assert KeyConfirmed(KeyId(Stage.APPLICATION, 1)) in server.events
        finish(endpoints)

    simulation.run(main)


def test_limits_are_told_and_then_kept() -> None:
    async def main(network: Network):
        endpoints, client, _server = pair(network, limits=(Limit(LimitKind.PACKETS, 5, 10),))
        for number in range(7):
            client.send(b"%d" % number)
            client.driver.pump()
        assert [(e.limit, e.hard) for e in client.found(KeyExpiring)] == [(LimitKind.PACKETS, False)]
        for key in imported(SECRET, 1, client=True, limits=(Limit(LimitKind.PACKETS, 5, 10),)):
            client.stack.import_key(key, network.now)
        for number in range(12):
            if client.ended is None:
                client.send(b"%d" % number)
                client.driver.pump()
        assert isinstance(client.ended.error, HardLimitReached)
        finish(endpoints)

    simulation.run(main)


def test_a_time_limit_needs_no_traffic() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network, limits=(Limit(LimitKind.TIME, 60.0, 90.0),))
        await client.until(lambda: client.found(KeyExpiring), 100)
        assert network.now == pytest.approx(60.0)
        client.send(b"still possible")
        await asyncio.sleep(40)
        assert server.messages == [b"still possible"]
        client.send(b"too late")
        assert isinstance((await client.over()).error, HardLimitReached)
        finish(endpoints)

    simulation.run(main)


def test_messages_expire_and_have_a_size() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network)
        await asyncio.sleep(1)
        client.send(b"in time", 0, SendOptions(token=1, expires=network.now + 5))
        client.send(b"too late", 0, SendOptions(token=2, expires=network.now))
        await asyncio.sleep(1)
        assert server.messages == [b"in time"]
        assert [(e.token, e.error is None) for e in client.found(FlowSent)] == [(1, True), (2, False)]
        limit = client.stack.message_limit(0)
        with pytest.raises(LocalError, match=str(limit)) as caught:
            client.send(bytes(limit + 1))
        assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
        client.send(bytes(limit))
        await asyncio.sleep(1)
        assert len(server.messages[-1]) == limit
        finish(endpoints)

    simulation.run(main)


def test_what_a_satchel_does_not_have_is_a_local_error() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network)
        for wrong in (
            client.stack.update_keys,
            lambda now: client.stack.export_secret(b"x", None, 1),
            lambda now: client.stack.open_flow(FlowKind.DATAGRAM, None, now),
            lambda now: client.stack.migrate(9, now),
        ):
            with pytest.raises(LocalError):
                wrong(network.now)
        client.send(b"alive")
        await server.until(lambda: server.messages)
        finish(endpoints)

    simulation.run(main)


def test_a_roaming_peer_is_asked_at_its_new_address() -> None:
    async def main(network: Network):
        network.host("client").nat = Nat("203.0.113.9", timeout=5.0)
        endpoints, client, server = pair(network)
        client.send(b"one")
        await server.until(lambda: server.messages)
        server.send(b"back")
        await client.until(lambda: client.messages)
        moved = len(server.found(PeerMoved))
        await asyncio.sleep(10)
        client.send(b"two")
        await server.until(lambda: len(server.messages) == 2)
        assert len(server.found(PeerMoved)) == moved + 1
        await server.until(lambda: PathValidated(server.stack.path, True) in server.events)
        server.send(b"to the new place")
        await client.until(lambda: len(client.messages) == 2)
        finish(endpoints)

    simulation.run(main)


def test_a_satchel_takes_its_keys_from_a_parley_inside() -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY, loss=0.0)
        ids = Ids()
        handshake = ParleyHandshake(ids, client=False, random=os.urandom)
        child = ParleyStack(handshake, ids, client=False)
        endpoints, client, server = place(
            network,
            satchel(client=True, child=parley_client(os.urandom)),
            _listening(child, ids),
        )
        await client.ready()
        await server.ready()
        assert client.found(PeerAuthenticated)[0].identity == "whoever has chain"
        client.send(b"over the child's keys")
        await server.until(lambda: server.messages)
        server.send(b"and back")
        await client.until(lambda: client.messages)
        assert (client.messages, server.messages) == ([b"and back"], [b"over the child's keys"])
        finish(endpoints)

    simulation.run(main)


def _listening(child: ParleyStack, ids: Ids) -> SatchelStack:
    """A responder whose child takes the first Hello that comes."""
    ids.concern = lambda message: message[0] == 0xC1  # type: ignore[method-assign]
    return satchel(client=False, child=child)


@pytest.mark.parametrize("loss", [0.3])
def test_the_childs_retransmission_is_its_own(loss: float) -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY, loss=loss)
        ids = Ids()
        child = ParleyStack(ParleyHandshake(ids, client=False, random=os.urandom), ids, client=False)
        endpoints, client, server = place(
            network, satchel(client=True, child=parley_client(os.urandom)), _listening(child, ids)
        )
        await client.ready()
        await server.ready()
        finish(endpoints)

    simulation.run(main, seed=5)


def test_the_childs_asks_are_answered_through_the_parent() -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY)
        ids = Ids()
        child = ParleyStack(ParleyHandshake(ids, client=False, random=os.urandom), ids, client=False)
        endpoints, client, server = place(
            network, satchel(client=True, child=parley_client(os.urandom)), _listening(child, ids), patient=True
        )
        await server.until(lambda: server.asks)
        assert server.asks[0].id == 100  # the parent's number
        server.driver.answer(server.asks[0].id, True)
        await client.until(lambda: client.asks)
        assert not client.found(HandshakeComplete)
        client.driver.answer(client.asks[0].id, Refused(AuthenticationFailed("not this one")))
        ended = await client.over()
        assert isinstance(ended.error, AuthenticationFailed)
        finish(endpoints)

    simulation.run(main)


def test_mtu_news_make_smaller_datagrams() -> None:
    async def main(network: Network):
        endpoints, client, server = pair(network, mtu=1000)
        assert client.stack.message_limit(0) == 1000 - 28 - 30
        network.link("client", "server").mtu = 600
        client.send(bytes(900))
        await asyncio.sleep(1)
        assert not server.messages
        assert (client.stack.path, PathNews.MTU, 572) in client.stack.news
        assert client.stack.message_limit(0) == 572 - 30
        client.send(bytes(500))
        await server.until(lambda: server.messages)
        finish(endpoints)

    simulation.run(main)


def test_a_full_socket_holds_everything_back() -> None:
    async def main(network: Network):
        network.host("client", "10.9.9.1").send_buffer = 5000
        endpoints, client, server = pair(network, rate=1e6)
        for number in range(100):
            client.send(b"%03d" % number + bytes(997))
        client.driver.pump()
        # one run is with the link, one with the endpoint, and transmit() is not called for the rest
        assert client.stack.pending == 100 - 2 * BATCH
        await server.until(lambda: len(server.messages) == 100, 60)
        assert [int(message[:3]) for message in server.messages] == list(range(100))
        finish(endpoints)

    simulation.run(main)


def test_a_hello_is_not_for_a_satchel() -> None:
    async def main(network: Network):
        endpoints, _client, _server = pair(network)
        with network.host("client") as host:
            sock = network.loop.taps_network.open_datagram((host.addresses[0], 0))
        sock.send(memoryview(hello(b"abcd", bytes(32), bytes(16), 0)), 0, (endpoints[0].local), None, 0)
        await asyncio.sleep(1)
        assert sum(endpoints[0].noise.values()) == 1
        sock.close()
        finish(endpoints)

    simulation.run(main)
