"""Raw inner packets: where they go, who gets what nobody claims, what is dropped. Over WireGuard."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

import taps_security as taps
from taps_security.connection.packets import KEPT_ROUTES, WAITING, Packets
from taps_security.inner.udp import Writer
from taps_security.simulation import Network
from tests.connection.inside import (
    ANYTHING,
    PORT,
    SERVICE,
    Site,
    ask,
    inner,
    inner6,
    options,
    pair,
    peer,
    play,
    take,
)


def datagram(source: str, destination: str, payload: bytes, port: int = 9) -> bytes:
    """A whole IP packet with a UDP datagram."""
    ends = [ip_address(address).packed for address in (source, destination)]
    into = bytearray(65_535)
    length = Writer((ends[0], 5000), (ends[1], port)).write(payload, memoryview(into))
    return bytes(into[:length])


def there(payload: bytes, port: int = 9, *, six: bool = False) -> bytes:
    """From "client" to "server"."""
    address = inner6 if six else inner
    return datagram(address("client"), address("server"), payload, port)


def back(payload: bytes) -> bytes:
    """And back."""
    return datagram(inner("server"), inner("client"), payload)


async def receive(packets: Packets, count: int) -> list[bytes]:
    """So many packets."""
    found: list[bytes] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found += map(bytes, await packets.receive())
    return found


class Ends:
    """Both hosts take packets."""

    def __init__(self, network: Network, client: Site | None = None) -> None:
        self._sites = client or Site(network, "client", "server"), Site(network, "server", "client")

    async def __aenter__(self) -> tuple[Packets, Packets]:
        self._tunnels = [await site.tunnel() for site in self._sites]
        self._packets = [tunnel.packets() for tunnel in self._tunnels]
        return self._packets[0], self._packets[1]

    async def __aexit__(self, *_: object) -> None:
        for packets, tunnel in zip(self._packets, self._tunnels, strict=True):
            packets.close()
            tunnel.release()


def test_packets_go_both_ways_as_they_were() -> None:
    async def scenario(network: Network) -> None:
        async with Ends(network) as (client, server):
            sent = [there(bytes([number]) * size) for number, size in enumerate((0, 1, 100, 1392))]
            sent.append(there(b"by IPv6", six=True))
            await client.send(sent)
            assert await receive(server, len(sent)) == sent
            await server.send([back(b"an answer")])
            assert await receive(client, 1) == [back(b"an answer")]
            assert client.dropped == server.dropped == 0
            await client.send([])
            await client.send(sent[2])  # one alone
            assert await receive(server, 1) == [sent[2]]

    play(scenario)


def test_buffers_may_be_used_again() -> None:
    async def scenario(network: Network) -> None:
        async with Ends(network) as (client, server):
            expected = [there(b"%03d" % number) for number in range(20)]
            buffer = bytearray(len(expected[0]))
            for packet in expected:
                buffer[:] = packet
                await client.send([memoryview(buffer)])
            assert await receive(server, 20) == expected

    play(scenario)


def test_what_leads_nowhere_is_dropped_and_counted() -> None:
    async def scenario(network: Network) -> None:
        async with Ends(network) as (client, server):
            nowhere = datagram(inner("client"), "10.99.0.1", b"x")
            wrong = [b"", b"\x45", b"\x60" * 40, bytes(40), nowhere, there(bytes(1393)), there(b"x") + b"tail"]
            for number, packet in enumerate(wrong, 1):
                await client.send([packet])
                assert client.dropped == number
            good = there(b"good")
            await client.send([good, *wrong, good, nowhere, good])
            assert client.dropped == 2 * len(wrong) + 1
            assert await receive(server, 3) == [good] * 3

    play(scenario)


def test_a_peer_that_cannot_be_reached_costs_only_its_own_packets() -> None:
    async def scenario(network: Network) -> None:
        given = options(
            "client",
            peer("server", Site(network, "client").outer("server")),
            peer("third"),
            peer("fourth", ("nobody.example", PORT)),
        )
        async with Ends(network, Site(network, "client", given=given)) as (client, server):
            for name in ("third", "fourth"):
                await client.send([datagram(inner("client"), inner(name), b"x"), there(b"y")])
            assert client.dropped == 2
            assert await receive(server, 2) == [there(b"y")] * 2
            async with await Site(network, "third", "client").listen():
                network.names.add("fourth.example", *network.host("fourth").addresses)
                third = Site(network, "third", "client")
                knock = await third.connect("client")
                await knock.send(b"I begin")
                (packet,) = await receive(client, 1)
                assert packet[-7:] == b"I begin"
                await client.send([datagram(inner("client"), inner("third"), b"now it can")])
                await asyncio.sleep(0.1)
                assert client.dropped == 2
                knock.abort()

    play(scenario)


def test_what_a_flow_or_a_listener_claims_is_theirs() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            assert server.tunnel is not None
            with server.tunnel.packets() as packets:
                other = await client.tunnel.connect((inner("server"), 9))  # type: ignore[union-attr]
                await other.send(b"for nobody else")
                (packet,) = await receive(packets, 1)
                assert packet[-15:] == b"for nobody else"
                await ask(client, server)
                assert not packets._waiting
            await other.send(b"for nobody at all")
            await asyncio.sleep(1)
            assert server.tunnel.status()[0]["dropped"] == {"no listener": 1}
            other.abort()

    play(scenario)


def test_what_waits_is_bounded() -> None:
    async def scenario(network: Network) -> None:
        async with Ends(network) as (client, server):
            await client.send([there(b"first")])
            assert len(await receive(server, 1)) == 1
            count = WAITING + 504  # a multiple of 50
            for start in range(0, count, 50):
                await client.send([there(b"%d" % number) for number in range(start, start + 50)])
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            waiting = await server.receive()
            assert WAITING <= len(waiting) < WAITING + 64
            assert len(waiting) + server.dropped == count
            assert all(type(packet) is bytes for packet in waiting)  # no buffer is held for them
            await client.send([there(b"there is room again")])
            assert await receive(server, 1) == [there(b"there is room again")]

    play(scenario)


def test_views_that_are_kept_stay_as_they_were() -> None:
    async def scenario(network: Network) -> None:
        async with Ends(network) as (client, server):
            views: list[Any] = []

            async def keep() -> None:
                while len(views) < 200:
                    views.extend(await server.receive())

            keeping = asyncio.ensure_future(keep())
            for number in range(200):
                await client.send([there(number.to_bytes(2, "big") * 300)])
                await asyncio.sleep(0.001)
            async with asyncio.timeout(5):
                await keeping
            assert memoryview in map(type, views)
            assert [bytes(view) for view in views] == [there(number.to_bytes(2, "big") * 300) for number in range(200)]

    play(scenario)


def test_a_receive_that_is_cancelled_loses_nothing() -> None:
    async def scenario(network: Network) -> None:
        async with Ends(network) as (client, server):
            for moment in (0.0, 0.01, 0.0201, 0.03):
                waiting = asyncio.ensure_future(server.receive())
                await asyncio.sleep(0)
                with pytest.raises(taps.LocalError, match="another receive"):
                    await server.receive()
                await client.send([there(b"x")])
                await asyncio.sleep(moment)
                waiting.cancel()
                try:
                    got = await waiting
                except asyncio.CancelledError:
                    got = await server.receive()
                assert list(map(bytes, got)) == [there(b"x")]

    play(scenario)


def test_after_closing_the_tunnel_answers_for_itself_again() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "server", "client")
        async with await site.listen(), await site.tunnel() as tunnel:
            packets = tunnel.packets()
            with pytest.raises(taps.LocalError, match="already"):
                tunnel.packets()
            waiting = asyncio.ensure_future(packets.receive())
            await asyncio.sleep(0)
            packets.close()
            packets.close()
            for attempt in (waiting, packets.receive(), packets.send([there(b"x")])):
                with pytest.raises(taps.LocalError, match="let go of"):
                    await attempt
            with tunnel.packets() as again:  # there is room for the next one
                ours = await Site(network, "client", "server").connect("server", 9)
                await ours.send(b"x")
                assert len(await receive(again, 1)) == 1
                ours.abort()
            await asyncio.sleep(0)
            assert tunnel.status()[0]["flows"] == 0

    play(scenario)


def test_closing_while_a_peers_name_is_looked_up() -> None:
    async def scenario(network: Network) -> None:
        network.names.add("slow.example", *network.host("server").addresses, delay=2.0)
        given = options("client", peer("server", ("slow.example", PORT)))
        async with await Site(network, "client", given=given).tunnel() as tunnel:
            packets = tunnel.packets()
            sending = asyncio.ensure_future(packets.send([there(b"x")]))
            await asyncio.sleep(1)
            packets.close()
            with pytest.raises(taps.LocalError, match="let go of"):
                await sending
            assert [entry["flows"] for entry in tunnel.status()] == [0]

    play(scenario)


def test_packets_alone_keep_a_tunnel_up() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server")
        tunnel = await site.tunnel()
        with tunnel.packets():
            tunnel.release()
            await asyncio.sleep(100)
            assert not tunnel.closed
        await asyncio.sleep(0)
        assert tunnel.closed

    play(scenario)


def test_routes_follow_the_options_and_stacks() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server", "third")
        async with await site.tunnel() as tunnel, await Site(network, "third", "client").tunnel() as other:
            with tunnel.packets() as client, other.packets() as third:
                packet = datagram(inner("client"), "10.99.0.1", b"x")
                await client.send([packet])
                assert client.dropped == 1
                outer = site.outer("third")
                further = peer("third", outer, allowed_ips=("10.99.0.0/24", f"{inner('third')}/32"))
                await tunnel.apply(options("client", further))
                await client.send([packet, there(b"who is that?")])
                assert client.dropped == 2
                await asyncio.sleep(1)
                assert len(tunnel.status()) == 1
                knock = datagram(inner("client"), inner("third"), b"knock")
                await client.send([knock])
                assert await receive(third, 2) == [packet, knock]
                await tunnel.apply(options("client"))  # its stack ends, and its flow with it
                await client.send([knock])
                assert client.dropped == 3
                assert not client._flows

    play(scenario)


def test_remembered_routes_are_bounded() -> None:
    async def scenario(network: Network) -> None:
        everything = peer("server", Site(network, "client").outer("server"), allowed_ips=("0.0.0.0/0",))
        site = Site(network, "client", given=options("client", everything))
        async with await site.tunnel() as tunnel, await Site(network, "server", "client").listen():
            with tunnel.packets() as packets:
                base = int(ip_address("198.18.0.0"))
                for number in range(KEPT_ROUTES + 100):
                    await packets.send([datagram(inner("client"), str(ip_address(base + number)), b"x")])
                assert len(packets._routes) <= KEPT_ROUTES
                assert packets.dropped == 0

    play(scenario)


def test_flows_and_packets_of_one_peer_share_its_stack() -> None:
    async def scenario(network: Network) -> None:
        async with await Site(network, "server", "client").listen() as listener:
            client = Site(network, "client", "server")
            async with await client.tunnel() as tunnel:
                with tunnel.packets() as packets:
                    flow = await client.connect("server")
                    await flow.send(b"x")
                    theirs = await take(listener)
                    await packets.send([there(b"by hand", SERVICE)])
                    by_hand = await take(listener)
                    assert (await by_hand.receive(timeout=1)).data == b"by hand"
                    await by_hand.send(b"an answer to a packet")
                    assert (await receive(packets, 1))[0][-21:] == b"an answer to a packet"
                    await ask_after(flow, theirs)
                    assert sum(entry.length == 148 for entry in network.trace) == 1
                    for connection in (flow, theirs, by_hand):
                        connection.abort()

    async def ask_after(flow: taps.Connection, theirs: taps.Connection) -> None:
        assert (await theirs.receive(timeout=1)).data == b"x"
        await ask(flow, theirs)

    play(scenario)


@pytest.mark.both_loops
@pytest.mark.usefixtures("no_leaks")
async def test_on_the_systems_network() -> None:
    def declared(given: taps.WireGuardOptions) -> taps.Preconnection:
        security = taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": given})
        return taps.Preconnection(transport_properties=ANYTHING, security_parameters=security)

    async with await declared(options("server", peer("client"), listen_port=0)).tunnel() as theirs:
        here = options("client", peer("server", ("127.0.0.1", theirs.port)), listen_port=0)
        async with await declared(here).tunnel() as ours:
            with ours.packets() as client, theirs.packets() as server:
                for number in range(20):
                    batch = [there(bytes([number]) * size) for size in (0, 100, 100, 300, 300, 300, 3)]
                    await client.send(batch)
                    assert await receive(server, len(batch)) == batch
                    await server.send([back(b"%d" % number)])
                    assert await receive(client, 1) == [back(b"%d" % number)]
                assert client.dropped == server.dropped == 0
