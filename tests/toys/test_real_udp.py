"""Both toys over real UDP sockets on loopback, on both loops: batches, addresses, rebinding, ICMP."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import pytest

from taps_security.stack.errors import Reason
from taps_security.stack.events import CloseKind, Direction, FlowKind, KeyReady, PathNews, PathValidated
from taps_security.stack.stack import SendOptions
from taps_security.transport.paths import PathTable

from .parley_screening import parley_client
from .program import Peer, Server, connect, open_endpoint
from .record import Ids
from .satchel import SatchelStack, imported

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]
linux = pytest.mark.skipif(sys.platform != "linux", reason="GSO, GRO and IP_PKTINFO are Linux's")
HERE = ("127.0.0.1", 0)
SECRET = bytes(range(32))


@pytest.fixture
def opened():
    """Endpoints to close."""
    endpoints: list = []
    yield endpoints
    for endpoint in endpoints:
        endpoint.close()


async def parley(opened: list, **how):
    serving = Server(HERE, **how)
    endpoint, client = connect(serving.address, parley_client(os.urandom))
    opened += [serving.endpoint, endpoint]
    await client.ready()
    await serving.peers[-1].ready()
    return serving, endpoint, client


@linux
async def test_streams_use_batches_on_both_sides(opened) -> None:
    serving, endpoint, client = await parley(opened)
    data = os.urandom(2_000_000)
    second = client.stack.open_flow(FlowKind.STREAM, None, 0.0)
    for start in range(0, len(data), 50_000):
        client.send(data[start : start + 50_000])
    client.send(b"beside it", second, SendOptions(end=True))
    await client.until(lambda: len(client.data[0]) == len(data) and second in client.ends)
    assert client.data[0] == data
    assert client.data[second] == b"beside it"
    for end in (endpoint, serving.endpoint):
        sock = end._socket
        assert sock.runs_sent > 20  # GSO
        assert sock.runs_received > 20  # GRO
        assert sock.datagrams_received > 4 * sock.runs_received


async def test_asks_keys_and_the_end(opened) -> None:
    serving = Server(HERE, always=True)
    endpoint, client = connect(serving.address, parley_client(os.urandom), patient=True)
    opened += [serving.endpoint, endpoint]
    await client.until(lambda: client.asks)
    await asyncio.sleep(0.05)
    client.driver.answer(client.asks[0].id, "identity")
    await client.ready()
    server = serving.peers[0]
    for turn in (1, 2, 3):
        client.stack.update_keys(asyncio.get_running_loop().time())
        client.send(b"%d" % turn)
        await client.until(lambda turn=turn: len(client.data[0]) == turn)
    generations = [event.key.generation for event in server.found(KeyReady) if event.direction is Direction.SEND]
    assert generations == [0, 1, 2, 3]
    client.close()
    assert (await client.over()).how is CloseKind.CLEAN
    await asyncio.sleep(0)
    assert endpoint.closed
    assert server.ended.how is CloseKind.CLEAN


@linux
async def test_a_wildcard_server_answers_from_the_address_that_was_asked(opened) -> None:
    serving = Server(("0.0.0.0", 0))
    opened.append(serving.endpoint)
    for host in ("127.0.0.1", "127.0.0.77"):
        endpoint, client = connect((host, serving.address[1]), parley_client(os.urandom))
        opened.append(endpoint)
        await client.ready()  # its socket is connected: it hears that address only
        client.send(b"hello")
        await client.until(lambda client=client: client.data[0] == b"hello")
    assert {local[0] for local in serving.endpoint._socket.locals} == {"127.0.0.1", "127.0.0.77"}


async def test_a_client_moves_to_another_socket(opened) -> None:
    serving = Server(HERE)
    paths = PathTable()
    endpoint, client = connect(serving.address, parley_client(os.urandom), paths=paths)
    other = open_endpoint(("0.0.0.0", 0), serving.address, paths)
    opened += [serving.endpoint, endpoint, other]
    await client.ready()
    server = serving.peers[0]
    before = server.stack.path
    client.stack.migrate(other.join(client.driver, serving.address), 0.0)
    client.driver.pump()
    await server.until(lambda: server.found(PathValidated))
    assert server.found(PathValidated) == [PathValidated(server.stack.path, True)]
    assert server.stack.path != before
    assert serving.endpoint._paths.facts(server.stack.path).remote == other.local
    client.send(b"from there")
    await client.until(lambda: client.data[0] == b"from there")


class Relay(asyncio.DatagramProtocol):
    """Between a client and a server; `rebind()` makes the client look like another."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server, self.client = server, None
        self.outer = None

    async def start(self):
        loop = asyncio.get_running_loop()
        self.inner, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=HERE)
        await self.rebind()
        return self.inner.get_extra_info("sockname")

    async def rebind(self) -> None:
        relay, old = self, self.outer

        class Outer(asyncio.DatagramProtocol):
            def datagram_received(self, data, address) -> None:
                relay.inner.sendto(data, relay.client)

        loop = asyncio.get_running_loop()
        self.outer, _ = await loop.create_datagram_endpoint(Outer, local_addr=HERE)
        if old is not None:
            old.close()

    def datagram_received(self, data, address) -> None:
        self.client = address
        self.outer.sendto(data, self.server)

    def close(self) -> None:
        self.inner.close()
        self.outer.close()


async def test_a_rebound_client_is_followed(opened) -> None:
    serving = Server(HERE)
    opened.append(serving.endpoint)
    relay = Relay(serving.address)
    endpoint, client = connect(await relay.start(), parley_client(os.urandom))
    opened.append(endpoint)
    await client.ready()
    client.send(b"before")
    await client.until(lambda: client.data[0] == b"before")
    server = serving.peers[0]
    routes = set(serving.endpoint._by_route)
    await relay.rebind()
    client.send(b" after")
    await client.until(lambda: client.data[0] == b"before after")
    await server.until(lambda: server.found(PathValidated))
    assert server.found(PathValidated)[0].ok
    await asyncio.sleep(0.05)
    assert routes.isdisjoint(serving.endpoint._by_route)  # another id at the new address
    relay.close()


@linux
async def test_nobody_listening_is_known_at_once(opened) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(HERE)
        dead = free.getsockname()
    endpoint, client = connect(dead, parley_client(os.urandom))
    opened.append(endpoint)
    ended = await client.over(2)
    assert ended.error.reason is Reason.REFUSED


@linux
async def test_a_socket_goes_on_after_icmp_errors(opened) -> None:
    """One socket, two peers, one of them dead: on uvloop too the other is heard."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(HERE)
        dead = free.getsockname()
    serving = Server(HERE)
    endpoint = open_endpoint(HERE)
    lost, client = Peer(parley_client(os.urandom)), Peer(parley_client(os.urandom))
    opened += [serving.endpoint, endpoint]
    endpoint.connect(lost.driver, dead)
    assert (await lost.over(2)).error.reason is Reason.REFUSED
    endpoint = open_endpoint(HERE)
    opened.append(endpoint)
    endpoint.connect(client.driver, serving.address)
    await client.ready()
    for turn in range(3):
        endpoint._socket.send(memoryview(b"x"), 0, dead, None, 0)
        await asyncio.sleep(0.02)
        client.send(b"%d" % turn)
        await client.until(lambda turn=turn: len(client.data[0]) == turn + 1, 5)
    assert client.data[0] == b"012"


def satchels() -> list[Peer]:
    """Two ends that share keys."""
    return [
        Peer(
            SatchelStack(
                Ids(mine, peer=peers),
                client=client,
                random=os.urandom,
                keys=imported(SECRET, 0, client=client),
            )
        )
        for mine, peers, client in ((b"aaaa", b"bbbb", True), (b"bbbb", b"aaaa", False))
    ]


@linux
async def test_messages_in_batches_between_two_wildcards(opened) -> None:
    ends = [open_endpoint(("0.0.0.0", 0)) for _ in range(2)]
    opened += ends
    peers = satchels()
    at = [("127.0.0.1", end.local[1]) for end in ends]
    for end, peer, remote in zip(ends, peers, reversed(at), strict=True):
        end.connect(peer.driver, remote)
    messages = [b"%04d" % number + os.urandom(1000) for number in range(200)]
    for start in range(0, 200, 40):
        for message in messages[start : start + 40]:
            peers[0].send(message)
        await asyncio.sleep(0.01)
    await peers[1].until(lambda: len(peers[1].messages) == 200)
    assert peers[1].messages == messages
    assert peers[1].runs < 100
    assert ends[0]._socket.runs_sent >= 5
    assert ends[1]._socket.runs_received >= 5
    peers[1].send(b"back")
    await peers[0].until(lambda: peers[0].messages)
    assert ends[0]._socket.locals == {at[0]}


@linux
async def test_an_mtu_report_reaches_the_stack(opened) -> None:
    ends = [open_endpoint(HERE) for _ in range(2)]
    opened += ends
    peers = satchels()
    for end, peer, other in zip(ends, peers, reversed(ends), strict=True):
        end.connect(peer.driver, other.local)
    peers[0].stack._datagram_size = lambda: 65_530  # larger than IPv4 takes
    peers[0].send(bytes(65_500))
    await asyncio.sleep(0.05)
    assert [news[1] for news in peers[0].stack.news] == [PathNews.MTU]
    del peers[0].stack._datagram_size
    peers[0].send(b"small")
    await peers[1].until(lambda: peers[1].messages)
    assert peers[1].messages == [b"small"]


async def test_one_endpoint_serves_many(opened) -> None:
    serving = Server(HERE, always=True)
    opened.append(serving.endpoint)
    clients = []
    for _ in range(30):
        endpoint, client = connect(serving.address, parley_client(os.urandom))
        opened.append(endpoint)
        clients.append(client)
    for number, client in enumerate(clients):
        await client.ready()
        client.send(b"%d" % number)
    for number, client in enumerate(clients):
        await client.until(lambda client=client, number=number: client.data[0] == b"%d" % number)
    assert serving.endpoint.stacks == 30
    assert serving.endpoint.half_open == 0
