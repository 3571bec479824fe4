"""Datagrams: what arrives, with which addresses and marks, and what does not."""

from __future__ import annotations

import asyncio
import errno

import pytest

from taps_security.simulation import Network, SimulatedDatagramSocket, run
from taps_security.transport.network import Arrival, Report, network_of
from tests.simulation.support import readable, receive_datagram, writable


def now() -> float:
    return asyncio.get_running_loop().time()


def open_pair(network: Network, **conditions: float) -> tuple[SimulatedDatagramSocket, SimulatedDatagramSocket]:
    """Sockets of host "client" and of host "server", the second on port 53; both at the wildcard address."""
    network.connect("client", "server", **conditions)
    seam = network_of(asyncio.get_running_loop())
    with network.host("client"):
        client = seam.open_datagram(("0.0.0.0", 4000))
    with network.host("server"):
        server = seam.open_datagram(("0.0.0.0", 53))
    return client, server  # type: ignore[return-value]


def send(
    network: Network, client: SimulatedDatagramSocket, data: bytes, segment: int = 0, ecn: int = 0, port: int = 53
) -> None:
    client.send(memoryview(data), segment, (network.host("server").addresses[0], port), None, ecn)


def drain(sock: SimulatedDatagramSocket) -> list[bytes]:
    buffer, arrival, seen = bytearray(65_536), Arrival(), []
    while sock.receive_into(memoryview(buffer), arrival):
        seen.append(bytes(buffer[: arrival.length]))
    return seen


def test_a_datagram_arrives_after_the_delay_with_the_real_addresses() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network, delay=0.025)
        send(network, client, b"ping", ecn=1)
        data, arrival = await receive_datagram(server)
        assert now() == 0.025
        assert (data, arrival.segment, arrival.ecn) == (b"ping", 0, 1)
        assert arrival.remote == (network.host("client").addresses[0], 4000)
        assert arrival.local == (network.host("server").addresses[0], 53)
        assert server.local == ("0.0.0.0", 53)
        server.send(memoryview(b"pong"), 0, arrival.remote, arrival.local, 0)
        assert (await receive_datagram(client))[0] == b"pong"
        assert now() == 0.05
        client.close()
        server.close()
        client.close()
        assert network.open_sockets() == []

    run(main)


def test_a_run_travels_as_single_datagrams() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network, rate=8e6)
        send(network, client, bytes(1000) + bytes(1000) + bytes(500), segment=1000)
        assert [entry.length for entry in network.trace] == [1000, 1000, 500]
        assert [entry.arrivals for entry in network.trace] == [(0.001,), (0.002,), (0.0025,)]
        await asyncio.sleep(1)
        assert [len(data) for data in drain(server)] == [1000, 1000, 500]
        with pytest.raises(OSError, match="Invalid"):
            send(network, client, bytes(65), segment=1)

    run(main)


def test_equal_datagrams_that_wait_together_may_be_received_together() -> None:
    async def main(network: Network) -> None:
        network.coalesce = True
        client, server = open_pair(network)
        send(network, client, b"aabbc", segment=2)
        send(network, client, b"dd")
        send(network, client, b"eeee")
        send(network, client, b"")
        await asyncio.sleep(1)
        arrival, buffer, seen = Arrival(), bytearray(100), []
        while server.receive_into(memoryview(buffer), arrival):
            seen.append((bytes(buffer[: arrival.length]), arrival.segment))
        assert seen == [(b"aabbc", 2), (b"dd", 0), (b"eeee", 0), (b"", 0)]
        send(network, client, b"aabb", segment=2)
        send(network, client, b"cc", ecn=2)
        await asyncio.sleep(1)
        assert drain(server) == [b"aabb", b"cc"]

    run(main)


def test_too_large_for_the_link_is_refused() -> None:
    async def main(network: Network) -> None:
        client, _ = open_pair(network, mtu=1400)
        host = network.host("server")
        assert client.path_mtu((host.addresses[0], 53)) == 1372
        assert client.path_mtu((host.addresses[1], 53)) == 1352
        send(network, client, bytes(1372))
        with pytest.raises(OSError, match="too long") as caught:
            send(network, client, bytes(1373))
        assert caught.value.errno == errno.EMSGSIZE
        assert len(network.trace) == 1

    run(main)


def test_a_narrow_place_on_the_way_says_nothing() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network, hidden_mtu=1280)
        send(network, client, bytes(1253))
        send(network, client, bytes(1252))
        await asyncio.sleep(1)
        assert [len(data) for data in drain(server)] == [1252]
        assert [entry.lost for entry in network.trace] == ["too big", ""]

    run(main)


def test_loss_duplication_reordering_and_corruption() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network, delay=0.01)
        link = network.link("client", "server")
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            setattr(link, name, 1.0)
            send(network, client, name.encode())
            setattr(link, name, 0.0)
        send(network, client, b"last")
        await asyncio.sleep(1)
        seen = drain(server)
        assert seen[:2] == [b"duplicate"] * 2
        assert seen[3:] == [b"last", b"reorder"]
        wrong = int.from_bytes(seen[2], "big") ^ int.from_bytes(b"corrupt", "big")
        assert wrong.bit_count() == 1

    run(main)


def test_a_full_queue_drops_the_rest_and_marks_before_that() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network, rate=8e6, queue=5000, ecn_threshold=2500)
        for _ in range(10):
            send(network, client, bytes(1000), ecn=2)
        buffer, arrival, marks = bytearray(2000), Arrival(), []
        await asyncio.sleep(1)
        while server.receive_into(memoryview(buffer), arrival):
            marks.append(arrival.ecn)
        assert marks == [2, 2, 2, 3, 3]
        assert [entry.lost for entry in network.trace].count("queue") == 5

    run(main)


def test_a_full_receive_buffer_drops() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network)
        network.host("server").receive_buffer = 2500
        for _ in range(4):
            send(network, client, bytes(1000))
        await asyncio.sleep(1)
        assert len(drain(server)) == 2
        assert server.dropped == 2

    run(main)


def test_a_bounded_send_buffer_makes_the_sender_wait() -> None:
    async def main(network: Network) -> None:
        client, _ = open_pair(network, rate=8e6)
        network.host("client").send_buffer = 2000
        send(network, client, bytes(2000), segment=1000)
        with pytest.raises(BlockingIOError):
            send(network, client, b"x")
        assert not client.writable
        await writable(client)
        assert now() == 0.001
        send(network, client, bytes(1000))
        assert len(network.trace) == 3

    run(main)


def test_only_connected_sockets_hear_that_nobody_listens() -> None:
    async def main(network: Network) -> None:
        unconnected, server = open_pair(network, delay=0.01)
        address = server.host.addresses[0]
        seam = network_of(asyncio.get_running_loop())
        with network.host("client"):
            connected = seam.open_datagram(("0.0.0.0", 0), (address, 99))
        assert connected.local[0] == network.host("client").addresses[0]
        connected.send(memoryview(b"x" * 100), 0, (address, 99), None, 0)
        send(network, unconnected, b"x", port=99)
        await readable(connected)
        assert now() == 0.02
        arrival = Arrival()
        with pytest.raises(ConnectionRefusedError):
            connected.receive_into(memoryview(bytearray(10)), arrival)
        assert (arrival.remote, arrival.report) == ((address, 99), Report(b"x" * 64))
        assert connected.receive_into(memoryview(bytearray(10)), Arrival()) is False
        await asyncio.sleep(1)
        assert unconnected.receive_into(memoryview(bytearray(10)), Arrival()) is False
        connected.send(memoryview(b"still usable"), 0, (address, 99), None, 0)

    run(main)


def test_a_report_may_be_forged_and_what_is_believed_narrows_the_path() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server")
        remote = (network.host("server").addresses[0], 53)
        with network.host("client"):
            sock = network_of(asyncio.get_running_loop()).open_datagram(("0.0.0.0", 0), remote)
        assert isinstance(sock, SimulatedDatagramSocket)
        sock.reported(errno.EMSGSIZE, remote, Report(b"forged", mtu=1300))
        arrival = Arrival()
        with pytest.raises(OSError, match="too long"):
            sock.receive_into(memoryview(bytearray(10)), arrival)
        assert (arrival.remote, arrival.report.quoted) == (remote, b"forged")
        assert sock.path_mtu(remote) == 1472
        for told in (1300, 1400):
            sock.learn_mtu(remote, told)
        assert sock.path_mtu(remote) == 1272
        sock.send(memoryview(bytes(1472)), 0, remote, None, 0)  # the link takes it still
        sock.close()

    run(main)


def test_a_connected_socket_hears_its_peer_alone() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network)
        seam = network_of(asyncio.get_running_loop())
        client.close()
        with network.host("client"):
            connected: SimulatedDatagramSocket = seam.open_datagram(  # type: ignore[assignment]
                ("0.0.0.0", 4000), (server.host.addresses[0], 53)
            )
        with network.host("stranger"):
            stranger = seam.open_datagram(("0.0.0.0", 53))
        target = (connected.local[0], 4000)
        stranger.send(memoryview(b"strange"), 0, target, None, 0)
        server.send(memoryview(b"known"), 0, target, None, 0)
        await asyncio.sleep(1)
        assert drain(connected) == [b"known"]

    run(main)


def test_a_buffer_that_is_too_small_cuts_the_datagram() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network)
        send(network, client, b"0123456789")
        await asyncio.sleep(1)
        buffer, arrival = bytearray(4), Arrival()
        assert server.receive_into(memoryview(buffer), arrival)
        assert (bytes(buffer), arrival.length) == (b"0123", 4)
        assert not server.receive_into(memoryview(buffer), arrival)

    run(main)


def test_the_source_address_can_be_chosen_among_the_hosts_own() -> None:
    async def main(network: Network) -> None:
        client, server = open_pair(network)
        client.host.add_address("192.0.2.77")
        target = (server.host.addresses[0], 53)
        client.send(memoryview(b"x"), 0, target, ("192.0.2.77", 0), 0)
        assert (await receive_datagram(server))[1].remote == ("192.0.2.77", 4000)
        with pytest.raises(OSError, match="Invalid"):
            client.send(memoryview(b"x"), 0, target, ("192.0.2.78", 0), 0)

    run(main)


# ----------------------------------------------------------------------------------------------------- both families
def test_an_empty_host_hears_both_families_and_answers_from_what_was_asked() -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        host = network.host("server")
        with host:
            server = seam.open_datagram(("", 0))
        assert server.local == ("::", server.local[1])
        for address in host.addresses:
            with network.host("client"):
                client = seam.open_datagram(("", 0), (address, server.local[1]))
            client.send(memoryview(b"ping"), 0, (address, server.local[1]), None, 0)
            _, arrival = await receive_datagram(server)
            assert arrival.local == (address, server.local[1])
            assert arrival.remote == client.local
            server.send(memoryview(b"pong"), 0, arrival.remote, None, 0)
            data, answer = await receive_datagram(client)
            assert (data, answer.remote) == (b"pong", (address, server.local[1]))
            client.close()
        server.close()
        assert network.open_sockets() == []

    run(main)


@pytest.mark.parametrize("taken", ["0.0.0.0", "::", ""])
def test_an_empty_host_takes_both_families_or_nothing(taken: str) -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        first = seam.open_datagram((taken, 53))
        with pytest.raises(OSError, match="in use") as caught:
            seam.open_datagram(("", 53))
        assert caught.value.errno == errno.EADDRINUSE
        first.close()
        second = seam.open_datagram(("", 53))  # nothing of the failed one is left
        second.close()
        for host in ("0.0.0.0", "::"):
            seam.open_datagram((host, 53)).close()

    run(main)


def test_ports_belong_to_a_host() -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        places, sockets = [], []
        for name in ("client", "server", "client"):
            with network.host(name):
                places.append(seam.place())
        for name in ("client", "server"):
            with network.host(name):
                sockets.append(seam.open_datagram(("", 53)))
        assert places[0] == places[2] != places[1]
        assert seam.place() not in places  # of nobody's code
        for sock in sockets:
            sock.close()

    run(main)


@pytest.mark.parametrize("address", ["", "0.0.0.0"])
def test_sockets_that_share_a_port_share_the_peers(address: str) -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        with network.host("server") as host:
            sharing = [seam.open_datagram((address, 53), reuse_port=True) for _ in range(2)]
            with pytest.raises(OSError, match="in use"):
                seam.open_datagram((address, 53))
        target = host.addresses[0], 53
        with network.host("client"):
            clients = [seam.open_datagram(("0.0.0.0", 4000 + number)) for number in range(20)]
        for _ in range(3):
            for client in clients:
                client.send(memoryview(b"x"), 0, target, None, 0)
        await asyncio.sleep(1)
        heard = []
        for sock in sharing:
            arrival = Arrival()
            heard.append([])
            while sock.receive_into(memoryview(bytearray(9)), arrival):
                heard[-1].append(arrival.remote)
        assert all(heard)
        assert not set(heard[0]) & set(heard[1])  # a peer is heard by one of them, always the same
        assert sorted(heard[0] + heard[1]) == sorted(client_at(client) for client in clients for _ in range(3))
        for sock in (*sharing, *clients):
            sock.close()

    def client_at(client: SimulatedDatagramSocket) -> tuple[str, int]:
        return client.host.addresses[0], client.local[1]

    run(main)
