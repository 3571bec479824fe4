"""Running tunnels: peers that are added, changed and removed, and names that change. Over WireGuard."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import taps_security as taps
from taps_security.connection.tunnel import LOOK_AGAIN, REMEMBERED
from taps_security.simulation import Network
from tests.connection.inside import (
    PORT,
    SERVICE,
    Site,
    ask,
    eventually,
    inner,
    inner6,
    options,
    pair,
    peer,
    play,
    reasons,
    take,
    tell,
)


# ----------------------------------------------------------------------------------------------------- apply(), status
def test_status_tells_of_each_peer() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            assert client.tunnel is not None
            (entry,) = client.tunnel.status()
            assert entry["flows"] == 1
            assert entry["established"]
            assert {record["direction"] for record in entry["keys"]} == {"send", "receive"}
            assert "Group" in repr(server._group)  # type: ignore[attr-defined]
            assert "1 stacks" in repr(client.tunnel)

    play(scenario)


def test_a_peer_is_added_while_others_talk() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server), await Site(network, "third", "client").listen() as listener:
            tunnel = client.tunnel
            assert tunnel is not None
            with pytest.raises(taps.LocalError):
                await tunnel.connect((inner("third"), SERVICE))
            both = Site(network, "client", "server", "third")
            await tunnel.apply(both.options)
            third = await both.connect("third")  # who knows the new options finds the tunnel
            assert third.tunnel is tunnel
            await third.send(b"x")
            theirs = await take(listener)
            await ask(client, server)
            assert len(tunnel.status()) == 2
            again = await Site(network, "client", "server").connect("server")  # and who knows the first ones
            assert again.tunnel is tunnel
            for connection in (third, theirs, again):
                connection.abort()

    play(scenario)


def test_options_that_were_applied_are_not_kept_without_bound() -> None:
    async def scenario(network: Network) -> None:
        site = Site(network, "client", "server")
        async with await site.tunnel() as tunnel:
            given = [
                options("client", peer("server", persistent_keepalive=number)) for number in range(1, 5 * REMEMBERED)
            ]
            for each in given:
                await tunnel.apply(each)
                await tunnel.apply(each)
            assert len(tunnel.applied) == REMEMBERED + 1
            for known in (site.options, *given[-REMEMBERED:]):
                other = await Site(network, "client", given=known).tunnel()
                assert other is tunnel
                other.release()
            with pytest.raises(taps.ConfigurationError):
                await Site(network, "client", given=given[0]).tunnel()

    play(scenario)


def test_a_peer_that_is_removed_loses_its_flows_and_others_go_on() -> None:
    async def scenario(network: Network) -> None:
        both = Site(network, "client", "server", "third")
        async with pair(network, both) as (client, server), await Site(network, "third", "client").listen() as listener:
            third = await both.connect("third")
            await third.send(b"x")
            theirs = await take(listener)
            waiting = asyncio.ensure_future(third.receive())
            await asyncio.sleep(0)
            tunnel = client.tunnel
            assert tunnel is not None
            await tunnel.apply(Site(network, "client", "server").options)
            with pytest.raises(taps.LocalError, match="removed") as caught:
                await waiting
            assert caught.value.reason is taps.Reason.CANCELLED
            assert third.state is taps.ConnectionState.CLOSED
            await ask(client, server)
            assert [entry["flows"] for entry in tunnel.status()] == [1]
            with pytest.raises(taps.LocalError, match="ended"):
                await third.clone()
            theirs.abort()

    play(scenario)


def test_removing_the_last_peer_closes_a_tunnel_that_nobody_uses() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, _server):
            assert client.tunnel is not None
            await client.tunnel.apply(options("client"))
            await asyncio.sleep(0)
            assert client.state is taps.ConnectionState.CLOSED
            assert client.tunnel.closed

    play(scenario)


def test_addresses_that_move_to_another_peer_end_the_flows_to_them() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            six = await client.tunnel.connect((inner6("server"), SERVICE))  # type: ignore[union-attr]
            waiting = asyncio.ensure_future(client.receive())
            await asyncio.sleep(0)
            only_six = peer("server", Site(network, "client").outer("server"), allowed_ips=(f"{inner6('server')}/128",))
            given = options("client", only_six, peer("third", allowed_ips=(f"{inner('server')}/32",)))
            await client.tunnel.apply(given)  # type: ignore[union-attr]
            with pytest.raises(taps.ConnectionLost):
                async with asyncio.timeout(0.001):  # at once, not with the next packet
                    await waiting
            await six.send(b"still there")
            assert six.state is taps.ConnectionState.ESTABLISHED
            six.abort()
            assert server.state is taps.ConnectionState.ESTABLISHED

    play(scenario)


@pytest.mark.parametrize(
    "wrong",
    [
        options("client", listen_port=1),
        options("third"),
        options("client", mtu=1300),
        "nonsense",
    ],
)
def test_what_cannot_be_applied_changes_nothing(wrong: Any) -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            assert client.tunnel is not None
            before = list(client.tunnel.applied)
            with pytest.raises(taps.ConfigurationError):
                await client.tunnel.apply(wrong)
            assert client.tunnel.applied == before
            await ask(client, server)

    play(scenario)


def test_a_changed_endpoint_moves_the_stack() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            tunnel = client.tunnel
            assert tunnel is not None
            _, six = network.host("server").addresses
            await tunnel.apply(options("client", peer("server", (six, PORT))))
            before = len(network.trace)
            await ask(client, server)
            sent = [entry for entry in network.trace[before:] if entry.sender == "client"]
            assert {entry.destination for entry in sent} == {(six, PORT)}
            assert tunnel.status()[0]["endpoint"] == f"[{six}]:{PORT}"
            await tunnel.apply(options("client", peer("server")))  # no endpoint: it stays where it was heard last
            await ask(client, server)
            assert tunnel.status()[0]["endpoint"] == f"[{six}]:{PORT}"

    play(scenario)


def test_paths_to_many_endpoints_do_not_pile_up() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            tunnel, home = client.tunnel, Site(network, "client").outer("server")
            assert tunnel is not None
            for number in range(1, 60):
                await tunnel.apply(options("client", peer("server", (f"192.0.2.{number}", PORT))))
                await client.send(b"to nowhere")
                await asyncio.sleep(0.1)
            await tunnel.apply(options("client", peer("server", home)))
            await ask(client, server)
            assert len(tunnel._endpoint._paths) <= 8

    play(scenario)


def test_a_changed_endpoint_that_does_not_resolve_is_asked_for_again() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            tunnel = client.tunnel
            assert tunnel is not None
            await tunnel.apply(options("client", peer("server", ("later.example", PORT))))
            await ask(client, server)  # by the path that it had
            six = network.host("server").addresses[1]
            network.names.add("later.example", six)
            await asyncio.sleep(LOOK_AGAIN + 1)
            await ask(client, server)
            assert tunnel.status()[0]["endpoint"] == f"[{six}]:{PORT}"

    play(scenario)


def test_apply_that_is_cancelled_is_applied() -> None:
    async def scenario(network: Network) -> None:
        six = network.host("server").addresses[1]
        network.names.add("slow.example", six, delay=5.0)
        async with pair(network) as (client, server):
            tunnel = client.tunnel
            assert tunnel is not None
            applying = asyncio.ensure_future(tunnel.apply(options("client", peer("server", ("slow.example", PORT)))))
            await asyncio.sleep(1)
            assert not applying.done()
            applying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await applying
            await asyncio.sleep(10)
            await ask(client, server)
            assert tunnel.status()[0]["endpoint"] == f"[{six}]:{PORT}"

    play(scenario)


def test_an_endpoint_that_changes_while_its_name_is_looked_up() -> None:
    async def scenario(network: Network) -> None:
        network.names.add("slow.example", "192.0.2.1", delay=2.0)
        site = Site(network, "client", given=options("client", peer("server", ("slow.example", PORT))))
        async with await Site(network, "server", "client").listen(), await site.tunnel() as tunnel:
            connecting = asyncio.ensure_future(tunnel.connect((inner("server"), SERVICE)))
            await asyncio.sleep(1)
            await tunnel.apply(Site(network, "client", "server").options)
            async with asyncio.timeout(5):
                flow = await connecting
            await eventually(lambda: flow.state is taps.ConnectionState.ESTABLISHED)
            flow.abort()
            gone = asyncio.ensure_future(tunnel.connect((inner("server"), SERVICE)))
            await asyncio.sleep(0)
            await tunnel.apply(options("client"))
            with pytest.raises(taps.LocalError):
                (await gone).abort() or await tunnel.connect((inner("server"), SERVICE))

    play(scenario)


# --------------------------------------------------------------------------------------------------- names that change
def test_a_name_that_does_not_resolve_fails_the_candidate() -> None:
    async def scenario(network: Network) -> None:
        for name in ("nobody.example", "a..b"):
            given = options("client", peer("server", (name, PORT)))
            with pytest.raises(taps.EstablishmentError, match="not resolved") as caught:
                await Site(network, "client", given=given).connect("server")
            assert reasons(caught) == [taps.Reason.RESOLUTION_FAILED]
            await asyncio.sleep(0)
            assert not network.open_sockets()

    play(scenario)


def test_a_name_is_resolved_anew_when_the_peer_answers_no_more() -> None:
    async def scenario(network: Network) -> None:
        old, new = network.host("server").addresses[0], "10.9.9.9"
        network.names.add("server.example", old)
        given = options("client", peer("server", ("server.example", PORT)))
        async with pair(network, Site(network, "client", given=given)) as (client, server):
            network.host("server").remove_address(old)
            network.host("server").add_address(new)
            network.names.add("server.example", new)
            for _ in range(20):
                await client.send(b"where are you?")
                await asyncio.sleep(10)
            assert client.tunnel is not None
            assert client.tunnel.status()[0]["endpoint"] == f"{new}:{PORT}"
            while server.take_received() is not None:
                pass
            await tell(client, server, b"there you are")

    play(scenario)


def test_of_several_addresses_each_has_its_turn() -> None:
    async def scenario(network: Network) -> None:
        right = network.host("server").addresses[0]
        network.names.add("server.example", "192.0.2.1", "192.0.2.2", right)
        keep = peer("server", ("server.example", PORT), persistent_keepalive=25)
        site = Site(network, "client", given=options("client", keep))
        async with await Site(network, "server", "client").listen(), await site.tunnel() as tunnel:
            await asyncio.sleep(600)
            assert tunnel.status()[0]["established"]
            assert tunnel.status()[0]["endpoint"] == f"{right}:{PORT}"

    play(scenario)


def test_a_peer_with_keepalives_begins_with_the_tunnel_and_again_and_again() -> None:
    async def scenario(network: Network) -> None:
        keep = peer("server", ("server.example", PORT), persistent_keepalive=25)
        site = Site(network, "client", given=options("client", keep))
        async with await Site(network, "server", "client").listen(), await site.tunnel() as tunnel:
            await asyncio.sleep(100)  # its name is not known
            assert not tunnel.status()[0]["established"]
            network.names.add("server.example", network.host("server").addresses[0])
            await asyncio.sleep(LOOK_AGAIN + 1)
            assert tunnel.status()[0]["established"]
            network.partition("client", "server")
            await asyncio.sleep(1000)
            network.heal()
            await asyncio.sleep(2 * LOOK_AGAIN)
            handshake = tunnel.status()[0]["latest_handshake"]
            assert handshake > network.loop.taps_environment.wall_clock() - 2 * LOOK_AGAIN - 1

    play(scenario)


def test_a_resolver_that_never_answers_keeps_nothing_open() -> None:
    async def scenario(network: Network) -> None:
        network.names.add("never.example", "192.0.2.1", delay=100_000.0)
        keep = peer("server", ("never.example", PORT), persistent_keepalive=25)
        site = Site(network, "client", given=options("client", keep))
        async with await site.tunnel():
            await asyncio.sleep(10 * LOOK_AGAIN)
            assert len(asyncio.all_tasks()) == 2  # this one, and one look-up
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not network.open_sockets()
        assert len(asyncio.all_tasks()) == 1

    play(scenario)
