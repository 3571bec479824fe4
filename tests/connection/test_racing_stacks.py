"""TLS and CurveCP for one service, on one port number, under the public API: the race, its reasons, shared ports.

The declared properties are the same for both. Hosts are 20 ms apart: TCP and TLS take two round trips, CurveCP takes
one, and the second stack of a race starts 250 ms behind the first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import taps_security as taps
from taps_security import simulation
from taps_security.crypto.sodium import scalarmult_base
from taps_security.protocols.curvecp.names import key_label
from taps_security.simulation.links import Packet
from tests.support.pki import SERVER_NAME, Pki

SECRET = bytes(range(32))
PUBLIC = scalarmult_base(SECRET)
PORT = 4433
WANTED = {"forward_secrecy", "endpoint_authentication", "replay_protection", "identity_protection"}


def served(pki: Pki, **options: Any) -> taps.SecurityParameters:
    options = {"key": SECRET, "server_name": SERVER_NAME} | options
    return taps.SecurityParameters(
        stacks=["tls", "curvecp"],
        identity=taps.Identity(pki.leaf()),
        options={"curvecp": taps.CurveCpOptions(**options)},
    )


def client(pki: Pki, host: str = "server", **security: Any) -> taps.Preconnection:
    return taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(host_name=host, port=PORT)],
        transport_properties=taps.TransportProperties(reliability="require", preserve_order="require"),
        security_parameters=taps.SecurityParameters(
            require=WANTED,
            trust=taps.Trust.file(str(pki.trust_file)),
            server_name=SERVER_NAME,
            options={"curvecp": taps.CurveCpOptions(server_key=PUBLIC)},
            **security,
        ),
    )


@asynccontextmanager
async def service(network: simulation.Network, security: taps.SecurityParameters) -> AsyncIterator[taps.Listener]:
    """One echo service with both stacks."""
    network.connect("client", "server", delay=0.02)
    with network.host("server"):
        listener = await taps.Preconnection([taps.LocalEndpoint(port=PORT)], security_parameters=security).listen()

        async def echo(connection: taps.Connection) -> None:
            async for message in connection:
                await connection.send(message.data)
            await connection.close()

        serving = asyncio.ensure_future(listener.serve(echo))
    try:
        yield listener
    finally:
        listener.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def talk(preconnection: taps.Preconnection) -> tuple[str, float, dict[str, str]]:
    """The stack that won, the time until it was ready, and what became of each."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with await preconnection.initiate(timeout=30) as connection:
        took = loop.time() - began
        await connection.send(b"hello")
        assert (await connection.receive()).data == b"hello"
        assert preconnection.race is not None
        attempts = sorted(preconnection.race.attempts, key=lambda attempt: attempt.outcome == "won")
        became = {attempt.stack: attempt.outcome for attempt in attempts}  # a host has two addresses
        return connection.security.stack, pytest.approx(took), became


def no_udp(packet: Packet) -> bool:
    return packet.kind != "UDP"


def only_udp(packet: Packet) -> bool:
    return packet.kind == "UDP"


def run(pki: Pki, *, path: dict[str, Any], **security: Any) -> tuple[str, float, dict[str, str]]:
    async def main(network: simulation.Network) -> tuple[str, float, dict[str, str]]:
        async with service(network, served(pki)) as listener:
            assert {(stack, address[1]) for stack, address in listener.stacks} == {("tls", PORT), ("curvecp", PORT)}
            network.connect("client", "server", **{"delay": 0.02} | path)
            with network.host("client"):
                told = await talk(client(pki, **security))
            await asyncio.sleep(70)  # behind every TIME-WAIT
        await asyncio.sleep(70)
        assert network.open_sockets() == []
        return told

    return simulation.run(main, seed=5)


# -------------------------------------------------------------------------------------------------------------- a race
@pytest.mark.parametrize(
    ("path", "security", "winner", "ready", "became"),
    [
        ({}, {}, "tls", 0.08, {"tls": "won"}),
        ({}, {"prefer": {"connection_mobility"}}, "curvecp", 0.04, {"curvecp": "won"}),
        ({"filter": only_udp}, {}, "curvecp", 0.29, {"tls": "lost", "curvecp": "won"}),
        ({"filter": no_udp}, {"prefer": {"connection_mobility"}}, "tls", 0.33, {"curvecp": "lost", "tls": "won"}),
        # a slow path: TLS has begun 250 ms earlier, and needs a round trip of 400 ms more
        ({"delay": 0.2}, {}, "curvecp", 0.65, {"tls": "lost", "curvecp": "won"}),
        ({"delay": 0.1}, {}, "tls", 0.4, {"tls": "won", "curvecp": "lost"}),
    ],
    ids=["tls is first", "curvecp is preferred", "TCP is blocked", "UDP is blocked", "delayed", "not delayed enough"],
)
def test_who_wins(
    pki: Pki, path: dict[str, Any], security: dict[str, Any], winner: str, ready: float, became: dict[str, str]
) -> None:
    assert run(pki, path=path, **security) == (winner, ready, became)


def test_explain_says_why_each_is_a_candidate(pki: Pki) -> None:
    explained = client(pki, prefer={"connection_mobility", "key_update"}, avoid={"length_hiding"}).explain()[
        "candidates"
    ]
    kept = {choice["stack"]: choice for choice in explained if choice["kept"]}
    assert list(kept) == ["tls", "curvecp"]
    for choice in kept.values():
        required = {reason["property"] for reason in choice["reasons"] if reason["preference"] == "require"}
        assert required >= {*WANTED, "reliability", "preserve_order", "congestion_control"}
        for reason in choice["reasons"]:
            if reason["preference"] == "require":
                assert (reason["provides"], reason["effect"]) == (True, "kept")
    because = {
        name: {reason["property"]: (reason["effect"], reason["why"]) for reason in choice["reasons"]}
        for name, choice in kept.items()
    }
    assert because["curvecp"]["forward_secrecy"] == ("kept", "both short-term keys are the connection's own")
    assert because["curvecp"]["connection_mobility"][0] == "ranked up"
    assert because["curvecp"]["key_update"] == ("none", "a new key is a new connection")
    assert because["tls"]["connection_mobility"][0] == "none"
    assert because["tls"]["key_update"][0] == "ranked up"


def test_who_cannot_do_what_is_required_does_not_race(pki: Pki) -> None:
    assert run(pki, path={"filter": only_udp}, prohibit={"session_resumption"})[0] == "curvecp"
    told = {
        choice["stack"]: choice["kept"]
        for choice in client(pki, prohibit={"algorithm_agility"}).explain()["candidates"]
    }
    assert (told["tls"], told["curvecp"]) == (False, True)


# --------------------------------------------------------------------------------------------------------- names, ports
def test_the_key_stands_in_the_name_and_the_loops_resolver_is_asked(pki: Pki) -> None:
    name = f"{key_label(PUBLIC)}.server.example"

    async def main(network: simulation.Network) -> None:
        async with service(network, served(pki, server_name=name)):
            network.names.add(name, network.host("server").addresses[0])
            with network.host("client"):
                there = taps.Preconnection(
                    remote_endpoints=[taps.RemoteEndpoint(host_name=name, port=PORT)],
                    security_parameters=taps.SecurityParameters(stacks=["curvecp"]),
                )
                assert (await talk(there))[0] == "curvecp"
                (choice,) = [one for one in there.explain()["candidates"] if one["kept"]]
                assert choice["stack"] == "curvecp"
                why = {reason["property"]: reason["why"] for reason in choice["reasons"]}
                assert why["credentials"] == f"the name {name} holds them"
                other = key_label(scalarmult_base(bytes(32)))
                network.names.add(other, network.host("server").addresses[0])
                there.remote_endpoints = (taps.RemoteEndpoint(host_name=other, port=PORT),)
                with pytest.raises(taps.EstablishmentError):
                    await there.initiate(timeout=5)  # the server has another key
                there.remote_endpoints = (taps.RemoteEndpoint(host_name="server", port=PORT),)
                with pytest.raises(taps.ConfigurationError, match="lacks a credential"):
                    await there.initiate()

    simulation.run(main, seed=6)


def tunnels() -> tuple[taps.WireGuardOptions, taps.WireGuardOptions]:
    """A server's and a client's end of one tunnel, at the server's port."""
    secrets = [bytes([number]) * 32 for number in (7, 8)]
    keys = [scalarmult_base(secret) for secret in secrets]
    server, client = (
        taps.WireGuardOptions(
            private_key=secrets[number],
            addresses=[f"10.88.0.{number + 1}/24"],
            listen_port=PORT if not number else 0,
            peers=[
                taps.WireGuardPeer(
                    public_key=keys[1 - number],
                    allowed_ips=[f"10.88.0.{2 - number}/32"],
                    endpoint=f"server:{PORT}" if number else None,
                )
            ],
        )
        for number in range(2)
    )
    return server, client


@asynccontextmanager
async def inner_service(network: simulation.Network, options: taps.WireGuardOptions) -> AsyncIterator[None]:
    """Messages are echoed inside the tunnel."""
    with network.host("server"):
        listener = await messages(options, local=taps.LocalEndpoint(ip_address="10.88.0.1", port=7)).listen()

        async def echo(connection: taps.Connection) -> None:
            async for message in connection:
                await connection.send(message.data)

        serving = asyncio.ensure_future(listener.serve(echo))
    try:
        yield
    finally:
        listener.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def messages(options: taps.WireGuardOptions, *, local: Any = None, remote: Any = None) -> taps.Preconnection:
    return taps.Preconnection(
        [local] if local else [],
        [remote] if remote else [],
        taps.TransportProperties(
            reliability="no preference", preserve_order="no preference", congestion_control="no preference"
        ),
        taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": options}),
    )


@pytest.mark.parametrize("tunnel_first", [True, False])
def test_curvecp_and_wireguard_serve_on_one_port(pki: Pki, tunnel_first: bool) -> None:
    ours, theirs = tunnels()

    async def main(network: simulation.Network) -> None:
        stream, inner = service(network, served(pki)), inner_service(network, ours)
        async with inner if tunnel_first else stream, stream if tunnel_first else inner:
            udp = [sock for sock in network.open_sockets() if type(sock).__name__ == "SimulatedDatagramSocket"]
            assert len(udp) == 1  # one socket for both
            with network.host("client"):
                there = taps.RemoteEndpoint(ip_address="10.88.0.1", port=7)
                async with await messages(theirs, remote=there).initiate(timeout=5) as inside:
                    for turn in range(3):
                        await inside.send(b"inside")
                        assert bytes((await inside.receive()).data) == b"inside"
                        won = await talk(client(pki, stacks=["curvecp"]))
                        assert won[0] == "curvecp", turn

    simulation.run(main, seed=7)


def test_two_of_a_kind_on_one_port_are_refused(pki: Pki) -> None:
    async def main(network: simulation.Network) -> None:
        async with service(network, served(pki)):
            with network.host("server"):
                with pytest.raises(taps.ConfigurationError, match="would both take datagrams that begin with"):
                    await taps.Preconnection(
                        [taps.LocalEndpoint(port=PORT)],
                        security_parameters=served(pki).replace(stacks=["curvecp"]),
                    ).listen()

    simulation.run(main)
