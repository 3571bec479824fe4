"""Tunnels: who shares one, how long it is up, and what is inside. Over WireGuard. Changes: test_tunnel_changes.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import taps_security as taps
from taps_security.simulation import Network
from tests.connection.inside import (
    PORT,
    PRIVATE,
    SERVICE,
    Site,
    ask,
    eventually,
    inner,
    inner6,
    options,
    peer,
    play,
    reasons,
    take,
    timers,
)


# ------------------------------------------------------------------------------------------------------- who shares one
def test_the_same_options_share_one_tunnel() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server")
        same = Site(network, "client", given=options("client", peer("server", site.outer("server"))))
        assert same.options is not site.options
        async with await site.tunnel() as tunnel, await same.tunnel() as other, await same.listen() as listener:
            assert tunnel is other is listener.tunnel
            assert tunnel.port == PORT
            assert tunnel.addresses == (inner("client"), inner6("client"))
            assert "1 stacks" not in repr(tunnel)
            assert len(network.open_sockets()) == 1

    play(scenario)


def test_other_options_with_the_same_key_are_refused() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server")
        others = [Site(network, "client"), Site(network, "client", given=options("client", listen_port=PORT + 1))]
        async with await site.tunnel():
            for other in others:
                for attempt in (other.tunnel, other.listen):
                    with pytest.raises(taps.ConfigurationError, match="other options"):
                        await attempt()
            with pytest.raises(taps.EstablishmentError, match="other options"):
                await Site(network, "client", "server", "third").connect("server")
        await asyncio.sleep(0)
        async with await others[1].tunnel() as tunnel:  # the key is free again
            assert tunnel.port == PORT + 1

    play(scenario)


def test_hosts_do_not_share_theirs() -> None:
    async def scenario(network: Network) -> None:
        here = Site(network, "client", "server")
        async with await here.tunnel() as one:
            with network.host("elsewhere"):
                other = await here.preconnection().tunnel()
            assert other is not one
            other.release()

    play(scenario)


def test_two_keys_cannot_share_a_port() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server")
        other = taps.WireGuardOptions(private_key=PRIVATE["third"], addresses=("10.99.0.1/24",), listen_port=PORT)
        async with await site.tunnel() as tunnel:
            with pytest.raises(taps.ConfigurationError, match=f"port {PORT}"):
                await Site(network, "client", given=other).tunnel()
            assert not tunnel.closed
        await asyncio.sleep(0)
        (await Site(network, "client", given=other).tunnel()).release()

    play(scenario)


def test_a_port_in_use_is_named() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server")
        for taken in ("0.0.0.0", "::"):
            with site.host:
                sock = network.loop.taps_network.open_datagram((taken, PORT))
            for attempt in (site.tunnel, site.listen):
                with pytest.raises(taps.EstablishmentError, match=str(PORT)) as caught:
                    await attempt()
                assert caught.value.reason is taps.Reason.ADDRESS_IN_USE
            with pytest.raises(taps.EstablishmentError) as caught:
                await site.connect("server")
            assert reasons(caught) == [taps.Reason.ADDRESS_IN_USE]
            sock.close()
        (await site.tunnel()).release()

    play(scenario)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"stacks": ["tls"], "psk": taps.PreSharedKey("a key", bytes(32))}, "tls carries no inner packets"),
        ({"stacks": ["wireguard"]}, r"tunnel\(\): no protocol stack .* lacks a credential"),
    ],
)
async def test_only_packet_stacks_have_tunnels(how: Any, text: str) -> None:
    security = taps.SecurityParameters(**how)
    with pytest.raises(taps.ConfigurationError, match=text):
        await taps.Preconnection(security_parameters=security).tunnel()


def test_a_tunnel_may_be_without_peers_at_first() -> None:
    async def scenario(network: Network) -> None:
        async with await Site(network, "server", "client").listen() as listener:
            async with await Site(network, "client").tunnel() as tunnel:
                await tunnel.apply(Site(network, "client", "server").options)
                flow = await tunnel.connect((inner("server"), SERVICE))
                await eventually(lambda: flow.state is taps.ConnectionState.ESTABLISHED)
                await flow.send(b"x")
                (await take(listener)).abort()
                flow.abort()

    play(scenario)


def test_any_port_will_do() -> None:
    async def scenario(network: Network) -> None:
        given = options("client", peer("server"), listen_port=0)
        async with await Site(network, "client", given=given).tunnel() as tunnel:
            assert tunnel.port >= 49_152

    play(scenario)


# ------------------------------------------------------------------------------------------------- how long it is up
def test_the_last_flow_closes_the_tunnel_and_leaves_nothing() -> None:
    async def scenario(network: Network) -> None:
        client = Site(network, "client", "server")
        async with await Site(network, "server", "client").listen() as listener:
            one, other = await client.connect("server"), await client.connect("server")
            tunnel = one.tunnel
            assert tunnel is not None
            ours = {tunnel, one.driver}
            assert {getattr(timer._callback, "__self__", None) for timer in timers()} >= ours
            await one.close()
            await asyncio.sleep(1)
            assert not tunnel.closed
            await other.close()
            await asyncio.sleep(0)
            assert tunnel.closed
            assert [sock.host.name for sock in network.open_sockets()] == ["server"]
            assert not {getattr(timer._callback, "__self__", None) for timer in timers()} & ours
            assert listener.tunnel is not None
            again = await client.connect("server")
            assert again.tunnel is not tunnel
            again.abort()

    play(scenario)


def test_a_listener_keeps_it_up() -> None:
    async def scenario(network: Network) -> None:
        listener = await Site(network, "server", "client").listen()
        connection = await Site(network, "client", "server").connect("server")
        await connection.send(b"x")
        theirs = await take(listener)
        await connection.close()
        await theirs.close()
        await asyncio.sleep(100)
        assert listener.tunnel is not None
        assert not listener.tunnel.closed
        listener.stop()
        await asyncio.sleep(0)
        assert listener.tunnel.closed

    play(scenario)


def test_who_asked_for_the_tunnel_keeps_it_up() -> None:
    async def scenario(network: Network) -> None:
        client, tunnel = Site(network, "client", "server"), None
        async with await Site(network, "server", "client").listen():
            async with await client.tunnel() as tunnel:
                connection = await client.connect("server")
                await connection.close()
                await asyncio.sleep(1)
                assert not tunnel.closed
                connection = await client.connect("server")
            await asyncio.sleep(1)
            assert not tunnel.closed  # the flow
            await connection.close()
            await asyncio.sleep(0)
            assert tunnel.closed
            with pytest.raises(taps.LocalError, match="closed"):
                await tunnel.apply(client.options)

    play(scenario)


def test_accepted_flows_outlive_their_listener() -> None:
    async def scenario(network: Network) -> None:
        listener = await Site(network, "server", "client").listen()
        client = await Site(network, "client", "server").connect("server")
        await client.send(b"x")
        server = await take(listener)
        await client.send(b"y")
        listener.stop()
        assert (await server.receive(timeout=1)).data == b"x"
        assert (await server.receive(timeout=1)).data == b"y"
        await ask(client, server)
        other = await client.clone()
        await other.send(b"nobody listens")
        await asyncio.sleep(1)
        assert server.tunnel is not None
        assert server.tunnel.status()[0]["dropped"] == {"no listener": 1}
        for connection in (client, server, other):
            await connection.close()

    play(scenario)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.015, 0.025])
def test_an_initiate_that_is_cancelled_leaves_no_tunnel(moment: float) -> None:
    async def scenario(network: Network) -> None:
        network.names.add("server.example", *network.host("server").addresses, delay=0.01)
        given = options("client", peer("server", ("server.example", PORT)))
        async with await Site(network, "server", "client").listen():
            task = asyncio.ensure_future(Site(network, "client", given=given).connect("server"))
            await asyncio.sleep(moment)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [sock.host.name for sock in network.open_sockets()] == ["server"]

    play(scenario)


def test_a_silent_peer_fails_the_candidate_and_its_tunnel_closes() -> None:
    async def scenario(network: Network) -> None:
        client = Site(network, "client", "server")
        remote = taps.RemoteEndpoint(ip_address=inner("server"), port=SERVICE)
        with client.host, pytest.raises(taps.EstablishmentError) as caught:
            await client.preconnection(remote).initiate(handshake_timeout=3)
        assert reasons(caught) == [taps.Reason.TIMEOUT]
        await asyncio.sleep(0)
        assert not network.open_sockets()

    play(scenario)


def test_with_patience_the_handshake_is_given_up_after_90_seconds() -> None:
    async def scenario(network: Network) -> None:
        client = Site(network, "client", "server")
        begin = network.now
        remote = taps.RemoteEndpoint(ip_address=inner("server"), port=SERVICE)
        with client.host, pytest.raises(taps.EstablishmentError, match="90 s"):
            await client.preconnection(remote).initiate(handshake_timeout=1000)
        assert network.now - begin == pytest.approx(90, abs=1)

    play(scenario)


# -------------------------------------------------------------------------------------------------------------- inside
def test_who_has_no_endpoint_is_waited_for() -> None:
    async def scenario(network: Network) -> None:
        server = Site(network, "server", given=options("server", peer("client")))
        async with await server.listen() as listener, await Site(network, "client", "server").listen():
            with pytest.raises(taps.EstablishmentError, match="has no endpoint") as caught:
                await server.connect("client")
            assert reasons(caught) == [taps.Reason.MISSING_CREDENTIAL]
            client = await Site(network, "client", "server").connect("server")
            await client.send(b"here I am")
            theirs = await take(listener)
            back = await server.connect("client")  # by the stack that the peer began
            await back.send(b"there you are")
            for connection in (client, theirs, back):
                connection.abort()

    play(scenario)


def test_an_address_of_nobody() -> None:
    async def scenario(network: Network) -> None:
        client = Site(network, "client", "server")
        for address in ("10.99.0.1", "fd99::1"):
            with pytest.raises(taps.EstablishmentError, match="allowed addresses") as caught:
                await client.connect("server", address=address)
            assert reasons(caught) == [taps.Reason.NO_CANDIDATES]
        await asyncio.sleep(0)
        assert not network.open_sockets()

    play(scenario)


def test_both_families_inside_and_out() -> None:
    async def scenario(network: Network) -> None:
        server = Site(network, "server", "client")
        outer = network.host("server").addresses[1], PORT
        client = Site(network, "client", given=options("client", peer("server", outer)))
        async with await server.listen() as listener:
            for address in (inner("server"), inner6("server")):
                ours = await client.connect("server", address=address)
                await ours.send(b"x")
                theirs = await take(listener)
                assert theirs.local_endpoint == (address, SERVICE)
                assert (await theirs.receive(timeout=1)).data == b"x"
                await ask(ours, theirs)
                await ours.close()
                await theirs.close()
            assert all(":" in entry.source[0] for entry in network.trace)

    play(scenario)


def test_listeners_of_different_ports_and_addresses() -> None:
    async def scenario(network: Network) -> None:
        server = Site(network, "server", "client")
        client = Site(network, "client", "server")
        four = await server.listen(address=inner("server"))
        six = await server.listen(address=inner6("server"))
        free = await server.listen(0)
        for address in (None, inner("server")):
            with pytest.raises(taps.EstablishmentError, match=f"{SERVICE} is in use") as caught:
                await server.listen(address=address)
            assert caught.value.reason is taps.Reason.ADDRESS_IN_USE
        with pytest.raises(taps.ConfigurationError, match="not ours"):
            await server.listen(address="10.99.0.1")
        assert four.addresses == ((inner("server"), SERVICE),)
        assert free.addresses == ((inner("server"), free.port), (inner6("server"), free.port))
        for listener, address in ((four, inner("server")), (six, inner6("server")), (free, inner6("server"))):
            connection = await client.connect("server", listener.port, address=address)
            await connection.send(b"x")
            (await take(listener)).abort()
            connection.abort()
            listener.stop()
        again = await server.listen()  # the ports are free
        again.stop()

    play(scenario)


@pytest.mark.parametrize("address", ["10.99.0.1", "taken"])
def test_a_listen_that_fails_leaves_no_tunnel(address: str) -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "server", "client")
        wrong = taps.LocalEndpoint(ip_address=inner("server") if address == "taken" else address, port=SERVICE)
        right = taps.LocalEndpoint(ip_address=inner("server"), port=SERVICE)
        with site.host, pytest.raises(taps.TapsError):
            await site.preconnection(local_endpoints=[right, wrong]).listen()
        await asyncio.sleep(0)
        assert not network.open_sockets()

    play(scenario)


def test_a_local_end_that_was_named_is_used() -> None:
    async def scenario(network: Network) -> None:
        client = Site(network, "client", "server")
        local = taps.LocalEndpoint(ip_address=inner("client"), port=5353)
        async with await Site(network, "server", "client").listen() as listener:
            connection = await client.connect("server", local_endpoints=[local])
            assert connection.local_endpoint == (inner("client"), 5353)
            await connection.send(b"x")
            theirs = await take(listener)
            assert theirs.remote_endpoint == (inner("client"), 5353)
            with pytest.raises(taps.EstablishmentError) as caught:
                await client.connect("server", local_endpoints=[local])
            assert reasons(caught) == [taps.Reason.ADDRESS_IN_USE]
            connection.abort()
            theirs.abort()

    play(scenario)


def test_backlog_and_limit_of_a_listener() -> None:
    async def scenario(network: Network) -> None:
        listener = await Site(network, "server", "client").listen(backlog=2)
        client = Site(network, "client", "server")
        ours = [await client.connect("server") for _ in range(4)]
        for connection in ours:
            await connection.send(b"1")
        await asyncio.sleep(0.1)
        theirs = [await take(listener), await take(listener)]
        assert [each.remote_endpoint for each in theirs] == [each.local_endpoint for each in ours[:2]]
        for connection in ours:
            await connection.send(b"2")  # who was not taken may try again
        theirs += [await take(listener), await take(listener)]
        assert [(await each.receive(timeout=1)).data for each in theirs] == [b"1", b"1", b"2", b"2"]
        listener.set_new_connection_limit(1)
        further = [await client.connect("server") for _ in range(2)]
        for connection in further:
            await connection.send(b"x")
        theirs.append(await take(listener))
        with pytest.raises(TimeoutError):
            await take(listener, 1)
        listener.set_new_connection_limit(None)
        await further[1].send(b"y")
        theirs.append(await take(listener))
        assert (await theirs[-1].receive(timeout=1)).data == b"y"
        assert theirs[0].tunnel is not None
        assert theirs[0].tunnel.status()[0]["flows"] == 6
        for connection in (*ours, *further, *theirs):
            connection.abort()
        listener.stop()

    play(scenario)
