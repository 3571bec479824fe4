"""Address translators: mappings, rebinding, moving."""

from __future__ import annotations

import asyncio

import pytest

from taps_security.simulation import Nat, Network, run
from taps_security.transport.network import network_of
from tests.simulation.support import accept, connect, listen, pair, receive, receive_datagram, send_all

INSIDE = ("10.0.0.1", 5000)


def test_one_external_port_for_each_internal_one_whoever_the_peer_is() -> None:
    nat = Nat("203.0.113.7")
    first = nat.outward("udp", INSIDE, 0.0)
    assert first == ("203.0.113.7", 20000)
    assert nat.outward("udp", INSIDE, 1.0) == first
    assert nat.outward("udp", ("10.0.0.1", 5001), 1.0) == ("203.0.113.7", 20001)
    assert nat.outward("tcp", INSIDE, 1.0) == ("203.0.113.7", 20002)
    assert nat.inward("udp", first) == INSIDE
    assert nat.inward("udp", ("203.0.113.7", 20002)) is None
    assert nat.mapping("udp", INSIDE) == first


def test_a_family_without_an_external_address_passes() -> None:
    nat = Nat("203.0.113.7")
    assert nat.outward("udp", ("2001:db8::1", 1), 0.0) == ("2001:db8::1", 1)
    assert nat.inward("udp", ("2001:db8::1", 1)) == ("2001:db8::1", 1)


def test_a_mapping_is_lost_when_it_is_not_used() -> None:
    nat = Nat("203.0.113.7", timeout=30)
    first = nat.outward("udp", INSIDE, 0.0)
    assert nat.outward("udp", INSIDE, 30.0) == first
    second = nat.outward("udp", INSIDE, 60.1)
    assert second != first
    assert nat.inward("udp", first) is None
    assert nat.inward("udp", second) == INSIDE


def test_moving_changes_the_address() -> None:
    nat = Nat("203.0.113.7")
    nat.outward("udp", INSIDE, 0.0)
    assert nat.move("203.0.113.8") == "203.0.113.7"
    assert nat.addresses == ("203.0.113.8",)
    assert nat.outward("udp", INSIDE, 0.0)[0] == "203.0.113.8"


def test_a_rebinding_changes_the_source_of_datagrams_and_kills_the_old_way_back() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01)
        nat = network.host("client").nat = Nat("203.0.113.7")
        seam = network_of(asyncio.get_running_loop())
        with network.host("client"):
            client = seam.open_datagram(("0.0.0.0", 4000))
        with network.host("server"):
            server = seam.open_datagram(("0.0.0.0", 53))
        address = (network.host("server").addresses[0], 53)

        async def ask() -> tuple[str, int]:
            client.send(memoryview(b"ping"), 0, address, None, 0)
            return (await receive_datagram(server))[1].remote

        first = await ask()
        assert first == ("203.0.113.7", 20000)
        server.send(memoryview(b"pong"), 0, first, None, 0)
        data, arrival = await receive_datagram(client)
        assert data == b"pong"
        assert arrival.local == (network.host("client").addresses[0], 4000)
        server.send(memoryview(b"on the way"), 0, first, None, 0)
        nat.rebind()
        assert await ask() == ("203.0.113.7", 20001)
        server.send(memoryview(b"to the old port"), 0, first, None, 0)
        await asyncio.sleep(1)
        assert not client.readable  # type: ignore[attr-defined]
        nat.move("203.0.113.9")
        assert (await ask())[0] == "203.0.113.9"

    run(main)


def test_a_stream_through_a_translator_lives_until_it_rebinds() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01)
        nat = network.host("client").nat = Nat("203.0.113.7")
        client, server = await pair(network)
        assert server.getpeername() == ("203.0.113.7", 20000)
        assert client.getsockname()[0] == network.host("client").addresses[0]
        await send_all(client, b"in")
        assert await receive(server) == b"in"
        await send_all(server, b"out")
        assert await receive(client) == b"out"
        nat.rebind()
        before = asyncio.get_running_loop().time()
        await send_all(client, b"from nowhere")
        with pytest.raises(ConnectionResetError):
            await receive(client)
        assert asyncio.get_running_loop().time() == round(before + 0.02, 9)

    run(main)


def test_nobody_reaches_the_inside_unasked() -> None:
    async def main(network: Network) -> None:
        network.host("client").nat = Nat("203.0.113.7")
        with network.host("client"):
            listener = listen(80)
        with network.host("server"):
            trying = asyncio.create_task(connect("203.0.113.7", 80))
        await asyncio.sleep(5)
        assert not trying.done()
        trying.cancel()
        with network.host("client"):  # it reaches itself without translation
            own = await connect(network.host("client").addresses[0], 80)
        assert (await accept(listener)).getpeername() == own.getsockname()

    run(main)
