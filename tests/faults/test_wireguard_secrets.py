"""No object of a running tunnel shows a key when it is printed, and no error that comes of it does."""

from __future__ import annotations

import asyncio
import gc
import logging
from base64 import b64encode
from collections.abc import Iterable, Iterator
from types import FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import pytest

import taps_security as taps
from taps_security.protocols import registry
from taps_security.protocols.wireguard import DESCRIPTOR
from taps_security.protocols.wireguard.handshake import WireGuardHandshake
from taps_security.protocols.wireguard.keys import TransportSecret
from taps_security.simulation import Network
from tests.protocols.wireguard.test_stack_simulated import PRIVATE, Site, ask, play
from tests.protocols.wireguard.world import World

PSK = bytes(range(100, 132))
_DULL = (type, ModuleType, FrameType, str, int, float)


def ours(thing: object) -> bool:
    return type(thing).__module__.partition(".")[0] == "taps_security"


def reachable(*roots: object) -> list[Any]:
    """Every object of this library that the roots lead to, through whatever else."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _DULL):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, FunctionType):
            waiting += [cell.cell_contents for cell in thing.__closure__ or () if cell != type(cell)()]
        elif isinstance(thing, MethodType):
            waiting.append(thing.__self__)
        else:
            waiting += gc.get_referents(thing)
    return [thing for thing in seen.values() if ours(thing)]


def forms(secret: bytes) -> Iterator[str]:
    """As a key might be printed. Half of it is enough."""
    half = secret[:16]
    yield repr(half)[2:-1]
    yield repr(bytearray(half))[12:-2]
    yield half.hex()
    yield half.hex(":")
    yield half.hex().upper()
    yield b64encode(secret[:15]).decode()
    yield str(list(half))[1:-1]
    yield str(int.from_bytes(secret, "big"))
    yield str(int.from_bytes(secret, "little"))


def shows(text: str, secrets: Iterable[bytes]) -> bool:
    return any(form in text for secret in secrets if secret for form in forms(secret))


def test_this_would_find_a_secret() -> None:
    for printed in (PSK, bytearray(PSK), [PSK], {"key": PSK.hex()}, b64encode(PSK), list(PSK)):
        assert shows(repr(printed), [PSK])
    assert not shows(repr(bytes(32)), [PSK])


def test_nothing_in_a_running_tunnel_prints_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: set[bytes] = {*PRIVATE.values(), PSK}
    split = TransportSecret.__init__
    found: list[Any] = []

    def keep(self: TransportSecret, key: bytes, index: bytes) -> None:
        secrets.add(key)
        split(self, key, index)

    def ephemeral(self: WireGuardHandshake) -> tuple[bytes, bytes]:
        private, public = new_ephemeral(self)
        secrets.add(private)
        return private, public

    new_ephemeral = WireGuardHandshake._new_ephemeral

    async def scenario(network: Network, client: Site, server: Site) -> None:
        for site in (client, server):
            (peer,) = site.options.peers
            with_psk = taps.WireGuardPeer(
                public_key=peer.public_key,
                preshared_key=PSK,
                endpoint=peer.endpoint,
                allowed_ips=peer.allowed_ips,
            )
            with site.host:
                await site.tunnel.apply(site.options.with_peer(with_psk))
        connection = await client.connect()
        await ask(connection, b"hello", tries=1)
        client.stack.update_keys(network.now)  # one that waits, too
        waiting = client.stack._handshake
        assert waiting._waiting is not None or waiting._outputs
        secrets.update({client.tunnel._engine._state.peers[client.stack.peer].static_static})
        secrets.update({waiting._waiting.state.chaining_key, waiting._waiting.state.hash})
        found.extend(reachable(client, server, connection, asyncio.get_running_loop()))
        text = "\n".join(f"{thing!r} {thing!s}" for thing in found)
        assert not shows(text, secrets)
        for thing in found:
            assert not shows(f"{thing!r}", secrets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransportSecret, "__init__", keep)
        patch.setattr(WireGuardHandshake, "_new_ephemeral", ephemeral)
        play(scenario)
    kinds = {type(thing).__name__ for thing in found}
    wanted = {"WireGuardOptions", "WireGuardPeer", "Peer", "TunnelState", "WireGuardTunnel", "WireGuardStack"}
    wanted |= {"_SendKey", "_ReceiveKey", "WireGuardHandshake", "SymmetricState", "Endpoint", "Group", "Flow"}
    wanted |= {"SecurityParameters", "Cookies", "Environment", "KeyReady"}
    assert wanted <= kinds, wanted - kinds
    assert len(secrets) >= 10
    assert not shows(caplog.text, secrets)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: taps.WireGuardOptions(private_key=PSK[:31]),
        lambda: taps.WireGuardOptions(private_key=PSK + b"\0"),
        lambda: taps.WireGuardOptions(private_key=b64encode(PSK).decode()[:-2]),
        lambda: taps.WireGuardOptions(private_key=PSK.hex()),
        lambda: taps.WireGuardOptions(private_key=list(PSK)),  # type: ignore[arg-type]
        lambda: taps.WireGuardOptions(private_key=bytearray(PSK)),  # type: ignore[arg-type]
        lambda: taps.WireGuardOptions(private_key=PSK, addresses=("nonsense",)),
        lambda: taps.WireGuardOptions(private_key=PSK, listen_port=-1),
        lambda: taps.WireGuardPeer(public_key=bytes(32), preshared_key=PSK[:-1]),
        lambda: taps.WireGuardPeer(public_key=bytes(32), preshared_key=PSK.hex()),
        lambda: taps.WireGuardPeer(public_key=bytes(32), preshared_key=PSK, allowed_ips=("nonsense",)),
        lambda: taps.WireGuardOptions(private_key=PSK, peers=[{"public_key": bytes(32), "preshared_key": PSK, "x": 1}]),
        lambda: taps.WireGuardOptions(private_key=PSK, peers=[{"preshared_key": PSK}]),
        lambda: taps.WireGuardOptions(private_key=PSK, peers={"preshared_key": PSK}),  # type: ignore[arg-type]
        lambda: taps.WireGuardOptions(private_key=PSK, peers=[PSK]),  # type: ignore[list-item]
        lambda: World().a.tunnel.apply({"private_key": PSK}),
        lambda: registry.configurations(
            DESCRIPTOR, taps.SecurityParameters(options={"wireguard": [{"private_key": PSK}]})
        ),
    ],
)
def test_no_error_prints_a_key(wrong: Any) -> None:
    with pytest.raises(taps.ConfigurationError) as caught:
        wrong()
    assert caught.value.__context__ is None or not shows(repr(caught.value.__context__), [PSK])
    assert not shows(f"{caught.value} {caught.value!r} {caught.value.__cause__!r}", [PSK])
    assert PSK.hex() not in str(caught.value)
