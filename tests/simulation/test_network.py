"""Hosts and what is between them: routes, partitions, the log, and the seam."""

from __future__ import annotations

import asyncio

import pytest

from taps_security.simulation import HostNetwork, Link, Network, TraceEntry, VirtualLoop, run
from taps_security.transport.network import StreamOptions, network_of
from tests.simulation.support import connect, listen, pair, raised, readable, receive, send_all


def now() -> float:
    return asyncio.get_running_loop().time()


def test_the_library_finds_the_simulated_network() -> None:
    async def main(network: Network) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert isinstance(network_of(loop), HostNetwork)
        assert network_of(loop) is loop.taps_network
        assert network.loop is loop
        assert network.seed == 9

    run(main, seed=9)


def test_the_log_has_every_packet_with_its_fate() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01, back=Link(delay=0.03))
        network.record_data = True
        client, server = await pair(network)
        link = network.link("client", "server")
        link.loss = 1.0
        client.send(memoryview(b"lost"))
        link.loss = 0.0
        assert await receive(server) == b"lost"
        one, other = client.getsockname(), server.getsockname()
        assert network.trace == [
            TraceEntry(0.0, "client", "server", one, other, "SYN", 0, (0.01,), "", b""),
            TraceEntry(0.01, "server", "client", other, one, "SYN-ACK", 0, (0.04,), "", b""),
            TraceEntry(0.04, "client", "server", one, other, "ACK", 0, (0.05,), "", b""),
            TraceEntry(0.05, "client", "server", one, other, "DATA", 4, (), "loss", b"lost"),
            TraceEntry(0.25, "client", "server", one, other, "DATA", 4, (0.26,), "", b"lost"),
        ]

    run(main)


def test_payloads_are_kept_only_if_asked_for() -> None:
    async def main(network: Network) -> None:
        client, _ = await pair(network)
        await send_all(client, b"secret")
        assert {entry.data for entry in network.trace} == {None}

    run(main)


def test_unconnected_hosts_have_the_default_conditions_each_way_for_itself() -> None:
    async def main(network: Network) -> None:
        network.default_link = Link(delay=0.5)
        assert network.link("a", "b").delay == 0.5
        assert network.link("a", "b") is not network.link("b", "a")
        network.link("a", "b").delay = 0.1
        assert network.link("b", "a").delay == 0.5
        assert network.link("a", "a").delay == 0.0
        assert network.link("a", "a").mtu == 65_536

    run(main)


def test_a_partition_stops_what_leaves_and_healing_lets_it_go_on() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01)
        client, server = await pair(network)
        start = now()
        client.send(memoryview(b"before "))
        network.partition("client", ["server", "localhost"])
        client.send(memoryview(b"during"))
        assert await receive(server) == b"before "
        network.heal()
        assert await receive(server) == b"during"
        assert now() == round(start + 0.21, 9)
        with pytest.raises(LookupError, match="no such host: nobody"):
            network.partition("client", "nobody")

    run(main)


def test_a_partition_may_be_one_way() -> None:
    async def main(network: Network) -> None:
        client, server = await pair(network)
        network.partition("client", "server", one_way=True)
        await send_all(server, b"down")
        assert await receive(client) == b"down"
        await send_all(client, b"up")
        await asyncio.sleep(10)
        assert not server.readable

    run(main)


def test_several_hosts_talk_over_links_of_their_own() -> None:
    async def main(network: Network) -> None:
        for number, name in enumerate(("a", "b", "c"), 1):
            network.connect(name, "server", delay=number / 100)
        with network.host("server"):
            listen(80)

        async def measure() -> float:
            before = now()
            await connect("server", 80)
            return now() - before

        found = await asyncio.gather(*(network.host(name).run(measure()) for name in ("a", "b", "c")))
        assert found == [0.02, 0.04, 0.06]

    run(main)


def test_equal_arrivals_are_delivered_in_the_order_of_their_sending() -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        with network.host("server"):
            server = seam.open_datagram(("0.0.0.0", 53))
        target = (network.host("server").addresses[0], 53)
        senders = []
        for name, delay in (("a", 0.03), ("b", 0.02), ("c", 0.01)):
            network.connect(name, "server", delay=delay)
            with network.host(name):
                senders.append(seam.open_datagram(("0.0.0.0", 1)))
        for sender in senders:  # all arrive at 0.03
            sender.send(memoryview(sender.host.name.encode()), 0, target, None, 0)  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        await readable(server)
        assert now() == 0.03
        await asyncio.sleep(0)
        assert [packet.data for packet in server._waiting] == [b"a", b"b", b"c"]  # type: ignore[attr-defined]

    run(main)


def test_wrong_addresses_and_interfaces_are_errors() -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        assert isinstance(await raised(seam.connect_stream(("server.example", 80))), OSError)
        options = StreamOptions(interface="eth0")
        assert "No such device" in str(await raised(seam.connect_stream(("127.0.0.1", 80), None, options)))
        assert network.open_sockets() == []
        with pytest.raises(ValueError, match="1 is no open simulated socket"):
            network.socket(1)

    run(main)


def test_the_local_address_of_a_connection_can_be_chosen() -> None:
    async def main(network: Network) -> None:
        seam = network_of(asyncio.get_running_loop())
        client = network.host("client", "192.0.2.1", "192.0.2.2")
        with network.host("server"):
            listen(80)
        target = (network.host("server").addresses[0], 80)
        with client:
            assert (await seam.connect_stream(target, ("192.0.2.2", 7))).getsockname() == ("192.0.2.2", 7)
            assert (await seam.connect_stream(target, ("0.0.0.0", 8))).getsockname() == ("192.0.2.1", 8)
            assert "in use" in str(await raised(seam.connect_stream(target, ("192.0.2.2", 7))))

    run(main)
