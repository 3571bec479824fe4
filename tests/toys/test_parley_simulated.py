"""A parley on the simulated network: exact round trips, loss, key phases, limits, asks, floods, moving, ends."""

from __future__ import annotations

import asyncio
import os
import random as randomness

import pytest

from taps_security import simulation
from taps_security.simulation import Network
from taps_security.simulation.nat import Nat
from taps_security.stack.asks import Refused
from taps_security.stack.errors import AuthenticationFailed, ConnectionLost, HardLimitReached, PeerAborted, Reason
from taps_security.stack.events import (
    CloseKind,
    Direction,
    FlowClosed,
    FlowKind,
    FlowOpened,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    PathValidated,
    PeerAuthenticated,
    PeerMoved,
    Stage,
)
from taps_security.stack.stack import SendOptions
from taps_security.transport.paths import PathTable

from .parley import KIND, hello
from .parley_screening import parley_client
from .program import FlowSent, Peer, Server, connect, open_endpoint

DELAY = 0.05
PORT = 4433


def hosts(network: Network, **conditions):
    network.connect("client", "server", delay=DELAY, **conditions)
    server = network.host("server")
    with server:
        serving = Server((server.addresses[0], PORT))
    return network.host("client"), serving


def generation(peer: Peer, direction: Direction) -> int:
    return max(e.key.generation for e in peer.found(KeyReady) if e.direction is direction)


async def ready_pair(network: Network, serving: Server, **how):
    with network.host("client"):
        endpoint, client = connect(serving.address, parley_client(os.urandom, **how))
    await client.ready()
    await serving.peers[-1].ready()
    return endpoint, client, serving.peers[-1]


def finish(*endpoints):
    for endpoint in endpoints:
        endpoint.close()


def test_one_round_trip_and_two_with_a_cookie() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        with host:
            endpoint, client = connect(serving.address, parley_client(os.urandom))
        await client.ready()
        assert network.now == pytest.approx(2 * DELAY)
        client.send(b"hello")  # together with Finished
        await serving.peers[0].until(lambda: serving.peers[0].data[0] == b"hello")
        assert network.now == pytest.approx(3 * DELAY)
        await client.until(lambda: client.data[0] == b"hello")
        assert client.found(HandshakeConfirmed)
        assert client.found(PeerAuthenticated)[0].identity == "whoever has chain"
        finish(endpoint, serving.endpoint)

        with network.host("server"):
            careful = Server((network.host("server").addresses[0], PORT), always=True)
        begin = network.now
        with host:
            endpoint, client = connect(careful.address, parley_client(os.urandom))
        await client.ready()
        assert network.now - begin == pytest.approx(4 * DELAY)
        assert careful.screener.cookies == 1
        await careful.peers[0].ready()
        finish(endpoint, careful.endpoint)
        assert not network.open_sockets()

    simulation.run(main)


@pytest.mark.parametrize("seed", range(4))
def test_streams_arrive_whole_whatever_the_network_does(seed: int) -> None:
    async def main(network: Network):
        _host, serving = hosts(network, loss=0.08, duplicate=0.05, corrupt=0.03, reorder=0.05, rate=20e6)
        network.coalesce = bool(seed & 1)
        endpoint, client, server = await ready_pair(network, serving)
        data = randomness.Random(seed).randbytes(300_000)
        second = client.stack.open_flow(FlowKind.STREAM, None, network.now)
        client.send(data, 0, SendOptions(end=True, token=7))
        client.send(data[::-1], second, SendOptions(end=True))
        await client.until(lambda: {0, second} <= client.ends, 300)
        assert client.data[0] == data
        assert client.data[second] == data[::-1]
        assert [event.flow for event in server.found(FlowOpened)] == [second]
        assert [(e.token, e.error) for e in client.found(FlowSent)] == [(7, None)]
        client.close()
        assert (await client.over(60)).how is CloseKind.CLEAN
        assert server.stack._record.replayed or server.stack._record.failed
        await asyncio.sleep(60)
        assert endpoint.closed
        finish(serving.endpoint)

    simulation.run(main, seed=seed)


def test_a_rekey_is_a_bit_in_the_record() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving)
        for turn in range(1, 6):
            (client if turn % 2 else server).stack.update_keys(network.now)
            (client if turn % 2 else server).driver.pump()
            client.send(b"%d" % turn)
            await asyncio.sleep(1)
            assert generation(client, Direction.SEND) == generation(server, Direction.SEND) == turn
            assert generation(client, Direction.RECEIVE) == turn + 1  # always one ahead
        assert client.data[0] == b"12345"
        key = KeyId(Stage.APPLICATION, 0)
        assert KeyDiscarded(key, Direction.RECEIVE) in client.events
        assert KeyDiscarded(key, Direction.SEND) in server.events
        assert KeyConfirmed(KeyId(Stage.APPLICATION, 5)) in server.events
        client.stack.update_keys(network.now)
        server.stack.update_keys(network.now)  # both at once
        client.driver.pump()
        server.driver.pump()
        client.send(b"6")
        await asyncio.sleep(1)
        assert client.data[0] == b"123456"
        assert generation(client, Direction.SEND) == generation(server, Direction.SEND) == 6
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_both_ends_export_the_same() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving)
        secrets = [peer.stack.export_secret(b"label", b"context", 40) for peer in (client, server)]
        assert secrets[0] == secrets[1]
        assert client.stack.export_secret(b"label", None, 40) != secrets[0]
        finish(endpoint, serving.endpoint)

    simulation.run(main)


@pytest.mark.parametrize(
    ("limit", "expiring"),
    [
        (Limit(LimitKind.PACKETS, 20, 10_000), 2),
        (Limit(LimitKind.BYTES, 40_000, 10_000_000), 2),
        (Limit(LimitKind.TIME, 10.0, 100.0), 2),
    ],
)
def test_a_soft_limit_makes_the_next_key(limit: Limit, expiring: int) -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving, limits=(limit,))
        client.send(bytes(100_000))
        await client.until(lambda: len(client.data[0]) == 100_000, 60)
        await asyncio.sleep(30)
        told = [e for e in client.found(KeyExpiring) if e.limit is limit.kind]
        assert len(told) >= expiring
        assert not any(e.hard for e in told)
        assert generation(client, Direction.SEND) >= 2
        assert (
            abs(generation(server, Direction.SEND) - generation(client, Direction.SEND)) <= 1
        )  # one may be on its way
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_a_limit_on_use_never_wakes_an_idle_connection() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        limits = (Limit(LimitKind.TIME, 10.0, 1e9, on_use=True),)
        endpoint, client, _server = await ready_pair(network, serving, limits=limits)
        await asyncio.sleep(1000)
        assert not client.found(KeyExpiring)
        client.send(b"x")
        await client.until(lambda: client.data[0])
        assert client.found(KeyExpiring)
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_a_hard_limit_ends_what_cannot_rekey() -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY)
        limits = (Limit(LimitKind.PACKETS, 20, 40),)
        with network.host("server") as host:
            serving = Server((host.addresses[0], PORT), limits=limits, rekeys=False)
        endpoint, client, server = await ready_pair(network, serving)
        client.send(bytes(200_000))
        ended = await server.over()
        assert isinstance(ended.error, HardLimitReached)
        assert ended.how is CloseKind.ABORTED
        assert {e.hard for e in server.found(KeyExpiring)} == {False, True}
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_failed_openings_wear_a_key_out_too() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        limits = (Limit(LimitKind.FAILED_OPENINGS, 3, 1000),)
        endpoint, client, _server = await ready_pair(network, serving, limits=limits)
        link = network.link("server", "client")
        link.corrupt = 1.0
        client.send(bytes(20_000))
        await client.until(lambda: client.found(KeyExpiring), 60)
        link.corrupt = 0.0
        await client.until(lambda: len(client.data[0]) == 20_000, 60)
        assert generation(client, Direction.SEND) >= 1
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_nothing_is_delivered_while_the_peer_is_verified() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        with host:
            endpoint, client = connect(serving.address, parley_client(os.urandom), patient=True)
        await client.until(lambda: client.asks)
        await asyncio.sleep(3)
        assert not client.found(HandshakeComplete)
        assert not client.found(KeyReady)
        client.driver.answer(client.asks[0].id, "an identity that took its time")
        await client.ready()
        assert client.found(PeerAuthenticated)[0].identity == "an identity that took its time"
        client.driver.answer(client.asks[0].id, "twice")  # ignored
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_a_refused_peer_ends_the_client() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        with host:
            endpoint, client = connect(serving.address, parley_client(os.urandom), patient=True)
        await client.until(lambda: client.asks)
        client.driver.answer(client.asks[0].id, Refused(AuthenticationFailed("not this one")))
        ended = await client.over()
        assert isinstance(ended.error, AuthenticationFailed)
        await asyncio.sleep(15)
        assert isinstance(serving.peers[0].ended.error, ConnectionLost)  # nobody finished in time
        assert not serving.endpoint.half_open
        assert not serving.endpoint.stacks
        finish(serving.endpoint)
        assert endpoint.closed

    simulation.run(main)


def test_a_hello_counts_once() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        network.record_data = True
        endpoint, _client, server = await ready_pair(network, serving)
        replayed = next(entry.data for entry in network.trace if entry.data and entry.data[0] == 0xC1)
        with host:
            attacker = network.loop.taps_network.open_datagram((host.addresses[0], 0))
        attacker.send(memoryview(replayed), 0, serving.address, None, 0)
        await asyncio.sleep(1)
        assert len(serving.peers) == 2
        assert serving.peers[1].ended.how is CloseKind.ABORTED
        assert server.ended is None
        attacker.close()
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_a_flood_is_bounded_and_who_is_established_goes_on() -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY)
        with network.host("server") as host:
            serving = Server((host.addresses[0], PORT), max_establishing=10)
        endpoint, client, _server = await ready_pair(network, serving)
        with network.host("client") as host:
            attacker = network.loop.taps_network.open_datagram((host.addresses[0], 0))
        for number in range(200):
            share = os.urandom(32)
            attacker.send(
                memoryview(hello(number.to_bytes(4, "big"), share, bytes(16), 0)), 0, serving.address, None, 0
            )
            attacker.send(memoryview(os.urandom(60)), 0, serving.address, None, 0)
            if number % 20 == 0:
                client.send(b"x")
        await asyncio.sleep(2)
        assert serving.endpoint.half_open <= 10
        assert serving.screener.cookies > 100  # above half of the limit addresses must prove themselves
        noise = sum(serving.endpoint.noise.values()) + sum(peer.stack._record.failed for peer in serving.peers)
        assert noise >= 200
        assert client.data[0] == b"x" * 10
        endpoint_2, _client_2, _ = await ready_pair(network, serving)  # with a cookie one gets in
        attacker.close()
        finish(endpoint, endpoint_2, serving.endpoint)

    simulation.run(main)


def test_the_oldest_unfinished_stack_is_dropped() -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY)
        with network.host("server") as host:
            serving = Server((host.addresses[0], PORT), max_establishing=1)
        with network.host("client") as host:
            for number in range(3):
                attacker = network.loop.taps_network.open_datagram((host.addresses[0], 0))
                cookie = serving.screener._cookie(  # as if it had asked for one
                    type("", (), {"remote": attacker.local}), number.to_bytes(4, "big"), 0
                )
                data = hello(number.to_bytes(4, "big"), os.urandom(32), cookie, 0)
                attacker.send(memoryview(data), 0, serving.address, None, 0)
                attacker.close()
        await asyncio.sleep(1)
        assert [peer.ended and peer.ended.error.reason for peer in serving.peers] == [Reason.OVERLOADED] * 2 + [None]
        assert serving.endpoint.dropped == 2
        finish(serving.endpoint)

    simulation.run(main)


def test_a_wrong_cookie_and_an_unknown_id_are_noise() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        with host:
            attacker = network.loop.taps_network.open_datagram((host.addresses[0], 0))
        for data in (hello(b"abcd", bytes(32), b"x" * 16, 0), b"\xf0" + bytes(60), b"\x17nonsense", b""):
            attacker.send(memoryview(data), 0, serving.address, None, 0)
        await asyncio.sleep(1)
        assert serving.endpoint.noise == {
            "a wrong cookie": 1,
            "a parley that nobody knows": 1,
            "nobody's": 1,
            "empty": 1,
        }
        attacker.close()
        finish(serving.endpoint)

    simulation.run(main)


def test_a_rebound_client_is_followed_once_it_has_proved_itself() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        host.nat = Nat("203.0.113.9", timeout=5.0)
        endpoint, client, server = await ready_pair(network, serving)
        before = set(serving.endpoint._by_route)
        client.send(b"before")
        await client.until(lambda: client.data[0] == b"before")
        await asyncio.sleep(10)  # the translator forgets, and the next packet has another source
        client.send(b" after")
        await client.until(lambda: client.data[0] == b"before after")
        (moved,) = server.found(PeerMoved)
        await server.until(lambda: server.found(PathValidated))
        assert server.found(PathValidated) == [PathValidated(moved.new, True)]
        assert server.stack.path == moved.new
        await asyncio.sleep(1)
        after = set(serving.endpoint._by_route)
        assert len(before) == len(after) == 1
        assert before != after  # the client was given another id there
        assert next(iter(after))[0] == KIND
        client.send(b" and on")
        await client.until(lambda: client.data[0].endswith(b"on"))
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_an_address_that_does_not_answer_gets_little_and_is_left_again() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        host.nat = Nat("203.0.113.9", timeout=5.0)
        endpoint, client, server = await ready_pair(network, serving)
        old = server.stack.path
        await asyncio.sleep(10)
        network.link("server", "client").filter = lambda packet: False  # nothing reaches the new address
        sent = len(network.trace)
        client.send(b"x" * 2000)
        await server.until(lambda: server.found(PathValidated), 60)
        assert not server.found(PathValidated)[0].ok
        assert server.stack.path == old
        came = sum(e.length for e in network.trace[sent:] if e.sender == "client" and e.kind == "UDP")
        went = sum(e.length for e in network.trace[sent:] if e.sender == "server" and e.kind == "UDP")
        assert went <= 3 * came
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_a_client_moves_to_another_socket() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        paths = PathTable()
        with host:
            endpoint, client = connect(serving.address, parley_client(os.urandom), paths=paths)
            other = open_endpoint((host.addresses[0], 0), serving.address, paths)
        await client.ready()
        server = serving.peers[0]
        path = other.join(client.driver, serving.address)
        client.stack.migrate(path, network.now)
        client.driver.pump()
        client.send(b"from elsewhere")
        await client.until(lambda: client.data[0] == b"from elsewhere")
        await server.until(lambda: server.found(PathValidated))
        assert server.found(PathValidated)[0].ok
        client.close()
        assert (await client.over()).how is CloseKind.CLEAN
        await asyncio.sleep(10)
        assert endpoint.closed
        assert other.closed
        finish(serving.endpoint)

    simulation.run(main)


def test_who_did_not_hear_the_end_hears_it_from_a_lingering_one() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving)
        link = network.link("server", "client")
        lost = []
        link.filter = lambda packet: bool(lost.append(packet)) if len(lost) < 2 else True  # Closed, twice
        client.close()
        ended = await client.over()
        assert ended.how is CloseKind.CLEAN
        assert len(lost) == 2
        assert server.ended.how is CloseKind.CLEAN
        assert not serving.endpoint.stacks
        assert len(serving.endpoint._lingering) == 1
        await asyncio.sleep(5)
        assert not serving.endpoint._lingering
        assert not serving.endpoint._by_route
        assert not serving.endpoint._by_path
        assert not len(serving.endpoint._paths)
        assert not serving.endpoint.closed  # it serves still
        assert endpoint.closed
        finish(serving.endpoint)

    simulation.run(main)


def test_flows_end_one_by_one_or_abruptly() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving)
        client.send(b"to the end", 0, SendOptions(end=True))
        await client.until(lambda: client.found(FlowClosed))
        assert client.data[0] == b"to the end"
        assert client.found(FlowClosed) == [FlowClosed(0, CloseKind.CLEAN)]
        flow = client.stack.open_flow(FlowKind.STREAM, None, network.now)
        client.send(b"x", flow)
        await client.until(lambda: client.data[flow])
        client.stack.reset_flow(flow, 9, network.now)
        client.driver.pump()
        await server.until(lambda: FlowClosed(flow, CloseKind.RESET) in server.events)
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_a_slow_reader_stops_the_sender() -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving)
        server.stack.consumed = lambda *_: None  # it takes nothing
        server._echo = False
        client.send(bytes(200_000))
        client.send(bytes(200_000))
        client.send(b"not taken")
        await asyncio.sleep(20)
        assert len(server.data[0]) == 128 * 1024
        del server.stack.consumed
        server.stack.consumed(0, 128 * 1024, network.now)
        server.driver.pump()
        await server.until(lambda: server.data[0].endswith(b"not taken"), 60)
        finish(endpoint, serving.endpoint)

    simulation.run(main)


@pytest.mark.parametrize("who", ["client", "server"])
def test_an_abort_is_said_to_the_peer(who: str) -> None:
    async def main(network: Network):
        _host, serving = hosts(network)
        endpoint, client, server = await ready_pair(network, serving)
        one, other = (client, server) if who == "client" else (server, client)
        one.stack.abort(None, network.now)
        one.driver.pump()
        ended = await other.over()
        assert isinstance(ended.error, PeerAborted)
        assert one.ended.how is CloseKind.ABORTED
        finish(endpoint, serving.endpoint)

    simulation.run(main)


def test_silence_ends_a_handshake_and_a_connection() -> None:
    async def main(network: Network):
        host, serving = hosts(network)
        network.host("server").silent = True
        with host:
            _endpoint, client = connect(serving.address, parley_client(os.urandom))
        ended = await client.over()
        assert ended.error.reason is Reason.TIMEOUT
        network.host("server").silent = False
        _endpoint, client, _server = await ready_pair(network, serving)
        network.host("server").silent = True
        client.send(b"anybody there?")
        assert (await client.over(200)).error.reason is Reason.TIMEOUT
        finish(serving.endpoint)

    simulation.run(main)


def test_nobody_listening_is_known_at_once() -> None:
    async def main(network: Network):
        network.connect("client", "server", delay=DELAY)
        address = network.host("server").addresses[0], 9
        with network.host("client"):
            endpoint, client = connect(address, parley_client(os.urandom))
        ended = await client.over()
        assert ended.error.reason is Reason.REFUSED
        assert network.now == pytest.approx(2 * DELAY)
        await asyncio.sleep(0)
        assert endpoint.closed

    simulation.run(main)
