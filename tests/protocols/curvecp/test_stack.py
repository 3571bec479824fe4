"""CurveCP on the simulated network: exact round trips, loss, reordering, duplication, ends, moving, TIME-WAIT."""

from __future__ import annotations

import asyncio
import random as randomness

import pytest

from taps_security import simulation
from taps_security.protocols.curvecp.handshake import KIND
from taps_security.protocols.curvecp.limits import HELLO_WAITS
from taps_security.protocols.curvecp.wire import COOKIE, HELLO, INITIATE
from taps_security.simulation import Network
from taps_security.stack.asks import Refused
from taps_security.stack.errors import AuthenticationFailed, ConnectionLost, LocalError, PeerAborted, Reason
from taps_security.stack.events import (
    CloseKind,
    Direction,
    FlowKind,
    FlowSent,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyReady,
    PathValidated,
    PeerAuthenticated,
    PeerMoved,
)
from taps_security.stack.stack import SendOptions
from taps_security.transport.network import network_of
from taps_security.transport.paths import PathTable
from tests.toys.program import open_endpoint

from .world import CLIENT, DELAY, SERVER, Server, client_stack, connect, hosts, run


async def ready_pair(network: Network, server: Server, **options):
    with network.host("client"):
        endpoint, client = connect(server.address, client_stack(**options))
    await client.ready()
    await asyncio.sleep(2 * DELAY + 0.01)
    return endpoint, client, await server.peers[-1].ready()


def finish(*endpoints) -> None:
    for endpoint in endpoints:
        endpoint.close()


def test_one_round_trip_to_the_first_data() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello")  # before there is a key
        await asyncio.sleep(3 * DELAY - 0.001)
        assert not server.peers
        await asyncio.sleep(0.0011)
        assert server.peers[0].data[0] == b"hello"  # Hello, Cookie, and the data in the first Initiate
        await client.until(lambda: client.data[0] == b"hello")
        assert network.now == pytest.approx(4 * DELAY)
        endpoint.close()
        server.endpoint.close()

    run(main)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 9])  # 9: an extension is changed on the way, and then all is quiet
def test_streams_arrive_once_and_in_order_whatever_the_network_does(seed: int) -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, loss=0.3, duplicate=0.1, corrupt=0.03, reorder=0.2, rate=50e6)
        network.coalesce = bool(seed & 1)
        with host:
            endpoint, client = connect(server.address)
        data = randomness.Random(seed).randbytes(300_000)
        client.send(data, 0, SendOptions(end=True, token=7))
        await client.until(lambda: 0 in client.ends, 600)
        assert client.data[0] == data
        assert server.peers[0].data[0] == data
        assert (await client.over(300)).how is CloseKind.CLEAN
        assert (await server.peers[0].over(300)).how is CloseKind.CLEAN
        assert [(event.token, event.error) for event in client.found(FlowSent)] == [(7, None)]
        assert len(server.peers) == 1
        endpoint.close()
        server.endpoint.close()

    run(main, seed)


# ------------------------------------------------------------------------------------------------------- handshake
def test_both_ends_hear_the_same_story() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network)
        endpoint, client, other = await ready_pair(network, server)
        kinds = [KeyReady, KeyReady, PeerAuthenticated, HandshakeComplete]
        assert [type(event) for event in client.events[:4]] == kinds
        assert [type(event) for event in client.events[4:]] == [KeyConfirmed, HandshakeConfirmed]
        heard = [type(event) for event in other.events]
        assert [kind for kind in heard if kind in {*kinds, HandshakeConfirmed}] == [*kinds, HandshakeConfirmed]
        assert {event.direction for event in client.found(KeyReady)} == {*Direction}
        assert all(event.secret is None for event in client.found(KeyReady))
        from base64 import b64encode

        assert client.found(PeerAuthenticated)[0].identity == b64encode(SERVER.public).decode()
        assert other.found(PeerAuthenticated)[0].identity == b64encode(CLIENT.public).decode()
        assert client.found(HandshakeComplete)[0].summary["server_name"] == "server.example.org"
        for call in (
            lambda: client.stack.update_keys(network.now),
            lambda: client.stack.export_secret(b"label", None, 32),
            lambda: client.stack.open_flow(FlowKind.STREAM, None, network.now),
            lambda: client.stack.import_key(None, network.now),
        ):
            with pytest.raises(LocalError) as refused:
                call()
            assert refused.value.reason is Reason.NOT_SUPPORTED
        assert not client.ended
        finish(endpoint, server.endpoint)

    run(main)


def test_a_server_may_speak_first() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False})
        endpoint, client, other = await ready_pair(network, server)
        other.send(b"welcome")
        await client.until(lambda: client.data[0] == b"welcome")
        finish(endpoint, server.endpoint)

    run(main)


@pytest.mark.parametrize("magic", [HELLO, COOKIE, INITIATE])
def test_a_lost_first_packet_only_costs_time(magic: bytes) -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        lost = []

        def once(packet) -> bool:
            if packet.data[:8] != magic or lost:
                return True
            lost.append(packet)
            return False

        network.link("client", "server").filter = network.link("server", "client").filter = once
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello")
        await client.until(lambda: client.data[0] == b"hello")
        assert len(lost) == 1
        assert network.now < 2 * HELLO_WAITS[0] + 1
        assert len(server.peers) == 1
        finish(endpoint, server.endpoint)

    run(main)


@pytest.mark.parametrize("coalesce", [True, False])
def test_packets_that_come_twice_change_nothing(coalesce: bool) -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, duplicate=1.0)
        network.coalesce = coalesce
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello")
        await client.until(lambda: client.data[0] == b"hello")
        client.send(b" again", 0, SendOptions(end=True))
        assert (await client.over()).how is CloseKind.CLEAN
        assert client.data[0] == b"hello again"
        assert server.peers[0].data[0] == b"hello again"
        assert len(server.peers) == 1
        finish(endpoint, server.endpoint)

    run(main)


@pytest.mark.parametrize("when", ["live", "lingering", "forgotten"])
def test_whoever_sends_a_clients_packets_again_gets_nothing(when: str) -> None:
    """From another address: while the connection lives, while its end lingers, and when only the claim is left."""

    async def main(network: Network) -> None:
        _, server = hosts(network)
        seen: list[bytes] = []
        network.link("client", "server").filter = lambda packet: seen.append(packet.data) or True
        endpoint, client, other = await ready_pair(network, server)
        client.send(b"the one and only")
        await client.until(lambda: client.data[0])
        if when != "live":
            client.send(b"", 0, SendOptions(end=True))
            await client.over()
            await other.over()
            await asyncio.sleep(0.5 if when == "lingering" else 20)
            assert bool(server.endpoint._lingering) is (when == "lingering")
        replayed = list(seen)
        assert {datagram[:8] for datagram in replayed} == {HELLO, INITIATE, b"QvnQ5XlM"}
        attacker = network.host("attacker")
        network.connect("attacker", "server", delay=DELAY)
        with attacker:
            sock = network_of(asyncio.get_running_loop()).open_datagram(("0.0.0.0", 0), None)
        for datagram in replayed:
            sock.send(memoryview(datagram), 0, server.address, None, 0)
        await asyncio.sleep(1)
        answers = [entry for entry in network.trace if entry.receiver == "attacker"]
        assert [entry.length for entry in answers] == [200]  # a cookie for the Hello: it is of no use to him
        assert len([peer for peer in server.peers if peer.found(HandshakeComplete)]) == 1
        assert not [peer for peer in server.peers[1:] if peer.data]
        assert not other.found(PeerMoved)
        if when == "live":
            client.send(b"!")
            await client.until(lambda: client.data[0].endswith(b"!"))
        sock.close()
        finish(endpoint, server.endpoint)

    run(main)


def test_no_server_is_known_after_eight_hellos_and_no_listener_at_once() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        network.host("server").silent = True
        with host:
            _, client = connect(server.address)
        ended = await client.over(200)
        assert ended.error.reason is Reason.TIMEOUT
        assert sum(HELLO_WAITS) <= network.now <= 2 * sum(HELLO_WAITS)
        hellos = [entry for entry in network.trace if entry.sender == "client"]
        assert len(hellos) == 8
        network.host("server").silent = False
        begin = network.now
        with host:
            _, client = connect((server.address[0], 9))
        ended = await client.over()
        assert ended.error.reason is Reason.REFUSED
        assert network.now - begin == pytest.approx(2 * DELAY)
        finish(server.endpoint)

    run(main)


@pytest.mark.parametrize("allows", [True, Refused(AuthenticationFailed("not you"))])
def test_the_application_is_asked_about_a_clients_key(allows: object) -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, {"security": {"trust_callback": lambda _: None}, "allows": allows})
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello")
        await client.ready()
        await asyncio.sleep(1)
        (other,) = server.peers[:1]
        assert other.asks[-1].request.key == CLIENT.public
        if allows is True:
            assert client.data[0] == b"hello"
            assert other.found(HandshakeComplete)[0].summary["provides"]["mutual_authentication"]
        else:
            assert isinstance(other.ended.error, AuthenticationFailed)
            assert not other.data
            assert not other.found(HandshakeComplete)
            await asyncio.sleep(20)  # the client asks again, and each time the claim refuses it without a word
            assert not client.found(KeyConfirmed)
            assert not [entry for entry in network.trace if entry.sender == "server" and entry.length > 256]
        finish(endpoint, server.endpoint)

    run(main)


def test_data_waits_until_a_patient_application_has_answered() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, {"patient": True, "security": {"trust_callback": lambda _: None}})
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello")
        await asyncio.sleep(1)
        (other,) = server.peers
        assert not other.data
        other.driver.answer(other.asks[0].id, True)
        await asyncio.sleep(1)
        assert not other.data
        assert not other.found(HandshakeComplete)
        other.driver.answer(other.asks[1].id, True)
        assert other.data[0] == b"hello"  # it was in the Initiate
        await client.until(lambda: client.data[0] == b"hello")
        finish(endpoint, server.endpoint)

    run(main)


# ------------------------------------------------------------------------------------------------------------ ends
@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close_in_both_orders(first: str) -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False})
        endpoint, client, other = await ready_pair(network, server)
        one, two = (client, other) if first == "client" else (other, client)
        one.send(b"I am done", 0, SendOptions(end=True))
        await two.until(lambda: 0 in two.ends)
        assert two.data[0] == b"I am done"
        await asyncio.sleep(100)
        assert not one.ended
        assert not two.ended
        two.send(b"x" * 100_000)
        two.send(b"so am I", 0, SendOptions(end=True))
        await one.until(lambda: 0 in one.ends)
        assert one.data[0] == b"x" * 100_000 + b"so am I"
        for peer in (one, two):
            assert (await peer.over()).how is CloseKind.CLEAN
            assert {event.direction for event in peer.found(KeyDiscarded)} == {*Direction}
            with pytest.raises(LocalError):
                peer.stack.send(0, [b"x"], SendOptions(), network.now)
        await asyncio.sleep(60)
        assert endpoint.closed
        assert not server.endpoint._lingering
        assert not server.endpoint._by_route
        assert not server.endpoint._by_path
        finish(server.endpoint)

    run(main)


def test_an_empty_stream_ends_as_well() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        with host:
            endpoint, client = connect(server.address)
        client.send(b"", 0, SendOptions(end=True, token=3))
        assert (await client.over()).how is CloseKind.CLEAN
        assert client.ends == {0}
        assert not client.data[0]
        assert [(event.token, event.error) for event in client.found(FlowSent)] == [(3, None)]
        assert (await server.peers[0].over()).how is CloseKind.CLEAN
        finish(endpoint, server.endpoint)

    run(main)


def test_time_wait_answers_who_did_not_hear_the_last_word() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network)
        endpoint, client, other = await ready_pair(network, server)
        lost = []
        network.link("client", "server").filter = lambda packet: (
            not client.stack.ended or len(lost) > 1 or bool(lost.append(packet))
        )
        client.send(b"bye", 0, SendOptions(end=True))
        assert (await client.over()).how is CloseKind.CLEAN
        assert not other.ended
        assert (await other.over()).how is CloseKind.CLEAN
        assert len(lost) == 2
        assert len(server.peers) == 1
        await asyncio.sleep(60)
        assert endpoint.closed
        finish(server.endpoint)

    run(main)


def test_an_end_that_nobody_acknowledges_is_one_when_all_else_arrived() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False})
        endpoint, client, other = await ready_pair(network, server)
        client.send(b"bye", 0, SendOptions(end=True))
        other.send(b"bye")
        await client.until(lambda: client.data[0])
        await asyncio.sleep(1)
        network.partition("client", "server")
        other.send(b"", 0, SendOptions(end=True))
        assert (await other.over(60)).how is CloseKind.CLEAN
        finish(endpoint, server.endpoint)

    run(main)


@pytest.mark.parametrize("who", ["client", "server"])
def test_an_abort_is_said_to_the_peer_however_often_it_takes(who: str) -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False})
        endpoint, client, other = await ready_pair(network, server)
        one, two = (client, other) if who == "client" else (other, client)
        lost = []
        names = ("client", "server") if who == "client" else ("server", "client")
        network.link(*names).filter = lambda packet: len(lost) > 0 or bool(lost.append(packet))
        one.stack.abort(None, network.now)
        one.driver.pump()
        await asyncio.sleep(0.2)
        assert one.ended.how is CloseKind.ABORTED
        assert not two.ended
        two.send(b"are you there?")
        ended = await two.over()
        assert isinstance(ended.error, PeerAborted)
        finish(endpoint, server.endpoint)

    run(main)


def test_close_brings_what_was_queued_and_forgets_what_comes() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False})
        endpoint, client, other = await ready_pair(network, server)
        client.send(b"x" * 300_000)
        client.close()
        await other.until(lambda: 0 in other.ends)
        assert other.data[0] == b"x" * 300_000
        other.send(b"too late", 0, SendOptions(token=1, end=True))
        assert (await client.over()).how is CloseKind.CLEAN
        assert (await other.over()).how is CloseKind.CLEAN
        assert not client.data[0]
        finish(endpoint, server.endpoint)

    run(main)


def test_close_waits_for_a_peers_end_five_seconds() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False})
        endpoint, client, other = await ready_pair(network, server)
        begin = network.now
        client.close()
        assert (await client.over()).how is CloseKind.CLEAN
        assert 5 <= network.now - begin <= 5.5
        assert not other.ended
        other.send(b"I have more")
        assert isinstance((await other.over()).error, PeerAborted)
        finish(endpoint, server.endpoint)

    run(main)


def test_silence_ends_what_waits_and_idle_connections_ask() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False, "idle_timeout": 100.0})
        endpoint, client, other = await ready_pair(network, server, idle_timeout=100.0)
        await asyncio.sleep(1000)
        assert not client.ended  # both asked meanwhile
        assert not other.ended
        network.host("server").silent = True
        begin = network.now
        client.send(b"anybody there?", 0, SendOptions(token=4))
        ended = await client.over(200)
        assert isinstance(ended.error, ConnectionLost)
        assert ended.error.reason is Reason.TIMEOUT
        assert 50 <= network.now - begin <= 100  # heard last when one of them asked
        assert client.found(FlowSent)[0].error is ended.error
        ended = await other.over(200)
        assert ended.error.reason is Reason.TIMEOUT
        finish(endpoint, server.endpoint)

    run(main)


def test_a_keep_alive_is_sent_when_it_is_due() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network)
        endpoint, client, _ = await ready_pair(network, server, keep_alive=10.0)
        before = len([entry for entry in network.trace if entry.sender == "client"])
        await asyncio.sleep(95)
        sent = len([entry for entry in network.trace if entry.sender == "client"]) - before
        assert sent == 9
        assert not client.ended
        finish(endpoint, server.endpoint)

    run(main)


# ----------------------------------------------------------------------------------------------------- flow control
def test_a_slow_reader_stops_the_sender_and_lets_it_go_on() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network, {"echo": False}, rate=100e6)
        endpoint, client, other = await ready_pair(network, server)
        consumed = other.stack.consumed
        other.stack.__class__.consumed, real = (lambda *_: None), other.stack.__class__.consumed
        try:
            data = randomness.Random(1).randbytes(3_000_000)
            for start in range(0, len(data), 100_000):
                client.send(data[start : start + 100_000])
            await asyncio.sleep(60)
            taken = len(other.data[0])
            assert 900_000 <= taken <= 1_200_000
            await asyncio.sleep(200)
            assert len(other.data[0]) == taken
            assert not client.ended  # its peer lives
        finally:
            other.stack.__class__.consumed = real
        begin = network.now
        consumed(0, taken, network.now)
        other.driver.pump()
        await other.until(lambda: len(other.data[0]) == len(data), 60)
        assert other.data[0] == data
        assert network.now - begin < 10  # the sender was told, and did not wait for its timer
        finish(endpoint, server.endpoint)

    run(main)


# -------------------------------------------------------------------------------------------------------- mobility
def test_a_client_that_moves_in_mid_transfer_loses_nothing() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, rate=5e6)
        nat = host.nat = simulation.Nat("203.0.113.7")
        endpoint, client, other = await ready_pair(network, server)
        data = randomness.Random(2).randbytes(1_500_000)
        client.send(data, 0, SendOptions(end=True))
        for _ in range(3):
            await asyncio.sleep(1)
            nat.rebind()
        await client.until(lambda: 0 in client.ends, 100)
        assert client.data[0] == other.data[0] == data
        assert len(other.found(PeerMoved)) == 3
        assert other.found(PathValidated)[-1].path == other.found(PeerMoved)[-1].new
        assert len(server.peers) == 1
        finish(endpoint, server.endpoint)

    run(main)


def test_little_goes_to_an_address_that_has_not_answered() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, {"echo": False})
        nat = host.nat = simulation.Nat("203.0.113.7")
        endpoint, client, other = await ready_pair(network, server)
        client.send(b"here")
        await asyncio.sleep(1)
        nat.rebind()
        client.send(b"and now here")
        await asyncio.sleep(DELAY + 0.001)
        network.partition("client", "server", one_way=True)  # nothing comes from the new address any more
        begin = len(network.trace)
        other.send(bytes(100_000))
        await asyncio.sleep(10)
        received = next(entry.length for entry in reversed(network.trace[:begin]) if entry.sender == "client")
        sent = [entry.length for entry in network.trace if entry.sender == "server" and entry.time > 1.2]
        assert sum(sent) <= 3 * received
        network.heal()
        await client.until(lambda: len(client.data[0]) == 100_000, 100)
        finish(endpoint, server.endpoint)

    run(main)


def test_a_client_migrates_to_another_socket() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        paths = PathTable()
        with host:
            endpoint = open_endpoint((host.addresses[0], 0), server.address, paths)
            other_endpoint = open_endpoint((host.addresses[0], 0), server.address, paths)
        from .world import Peer

        with host:
            client = Peer(client_stack())
            endpoint.connect(client.driver, server.address)
        await client.ready()
        with pytest.raises(LocalError):
            client.stack.migrate(99, network.now)
        path = other_endpoint.join(client.driver, server.address)
        client.stack.migrate(path, network.now)
        client.driver.pump()
        client.send(b"from elsewhere", 0, SendOptions(end=True))
        await client.until(lambda: client.data[0] == b"from elsewhere")
        assert (await client.over()).how is CloseKind.CLEAN
        await server.peers[0].over()
        assert server.peers[0].found(PathValidated)[0].ok
        await asyncio.sleep(60)
        assert endpoint.closed
        assert other_endpoint.closed
        finish(server.endpoint)

    run(main)


def test_many_connections_by_one_socket_pair_of_addresses_are_told_apart_by_their_key() -> None:
    async def main(network: Network) -> None:
        _, server = hosts(network)
        pairs = [await ready_pair(network, server) for _ in range(5)]
        for number, (_, client, _) in enumerate(pairs):
            client.send(b"%d" % number)
        for number, (_, client, other) in enumerate(pairs):
            await client.until(lambda client=client: client.data[0])
            assert client.data[0] == other.data[0] == b"%d" % number
            assert (KIND, other.stack._record.public) in server.endpoint._by_route
        finish(*(endpoint for endpoint, _, _ in pairs), server.endpoint)

    run(main)
