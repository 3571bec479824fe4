"""No object of a running CurveCP pair shows a key when it is printed, and no error that comes of one does."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from taps_security.protocols.curvecp import handshake, screening
from taps_security.protocols.curvecp.handshake import OpenedInitiate
from taps_security.protocols.curvecp.keys import StreamKey
from taps_security.protocols.curvecp.limits import TIME_WAIT
from taps_security.protocols.curvecp.linger import CurveCpLinger
from taps_security.protocols.curvecp.options import CurveCpOptions
from taps_security.protocols.registry import Environment
from taps_security.simulation import Network
from taps_security.stack.errors import TapsError
from taps_security.stack.stack import SendOptions
from tests.faults.test_wireguard_secrets import reachable, shows
from tests.protocols.curvecp import world
from tests.protocols.curvecp.world import CLIENT, SERVER, client_stack, connect, hosts, run

SECRET = bytes(range(100, 132))


def test_nothing_in_a_running_pair_prints_a_key(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets: set[bytes] = {CLIENT.secret, SERVER.secret}
    kinds: set[str] = set()

    def random(size: int) -> bytes:
        octets = os.urandom(size)
        if size == 32:  # c', s' and minute keys
            secrets.add(octets)
        return octets

    def agreed(public: bytes, secret: bytes) -> bytes:
        key = box_key(public, secret)
        secrets.add(key)
        return key

    def look(*roots: object) -> None:
        found = reachable(*roots)
        kinds.update(type(thing).__name__ for thing in found)
        for thing in found:
            assert not shows(f"{thing!r} {thing!s}", secrets), type(thing)

    box_key = screening.box_key
    monkeypatch.setattr(screening, "box_key", agreed)
    monkeypatch.setattr(handshake, "box_key", agreed)
    monkeypatch.setattr(world, "environment", lambda *_: Environment(random=random, wall_clock=lambda: 1e9))

    async def main(network: Network) -> None:
        host, server = hosts(network, {"patient": True})
        with host:
            endpoint, client = connect(server.address, client_stack())
        client.send(b"hello")
        look(client, server, endpoint, asyncio.get_running_loop())  # a Hello is out
        await client.ready()
        await asyncio.sleep(1)
        look(client, server)  # the server asks
        (other,) = server.peers
        other.driver.answer(other.asks[0].id, True)
        await client.until(lambda: client.data[0])
        look(client, server, other)
        client.send(b"", 0, SendOptions(end=True))
        await client.over()
        await other.over()
        look(client, server, other, client.ended, endpoint, server.endpoint)  # ends that linger
        endpoint.close()
        server.endpoint.close()

    run(main)
    wanted = {"ClientHandshake", "ServerHandshake", "CurveCpStack", "CurveCpRecord", "CurveCpScreener", "MinuteKeys"}
    wanted |= {"ServerConfiguration", "ClientConfiguration", "KeyPair", "OpenedInitiate", "StreamKey", "CurveCpLinger"}
    wanted |= {"Endpoint", "Delivery", "Recovery"}
    assert wanted <= kinds, wanted - kinds
    assert len(secrets) >= 8
    assert not shows(caplog.text, secrets)


def test_a_connection_that_is_over_has_no_key_left() -> None:
    """Whoever keeps the connection keeps no key: what was recorded stays secret."""

    async def main(network: Network) -> None:
        host, server = hosts(network)
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello", 0, SendOptions(end=True))
        await client.over()
        (other,) = server.peers
        await other.over()
        assert {StreamKey} <= {*map(type, reachable(endpoint, server))}
        await asyncio.sleep(TIME_WAIT[1])
        kept = {type(thing) for thing in reachable(client, server, other, endpoint)}
        assert not {StreamKey, CurveCpLinger, OpenedInitiate} & kept
        endpoint.close()
        server.endpoint.close()

    run(main)


def test_keys_and_options_print_none_alone() -> None:
    options = CurveCpOptions(key=SECRET, known_clients=[CLIENT.public])
    key = StreamKey(SECRET, 1, SECRET, SECRET)
    assert not shows(f"{options!r} {options!s} {key!r} {key!s} {handshake.KeyPair.of(SECRET)!r}", [SECRET])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CurveCpOptions(key=SECRET[:31]),
        lambda: CurveCpOptions(key=SECRET + b"\0"),
        lambda: CurveCpOptions(key=SECRET.hex()[:-1]),
        lambda: CurveCpOptions(key=f" {SECRET.hex()}"),
        lambda: CurveCpOptions(key=Path(SECRET.hex())),
        lambda: CurveCpOptions(key=bytearray(SECRET)),  # type: ignore[arg-type]
        lambda: CurveCpOptions(key=list(SECRET)),  # type: ignore[arg-type]
        lambda: CurveCpOptions(key=SECRET, idle_timeout=0),
        lambda: CurveCpOptions(key=SECRET, server_name="x" * 64),
        lambda: CurveCpOptions(key=SECRET, extension=b"short"),
        lambda: screening.KeyPair.of(SECRET[:31]),
        lambda: screening.box_key(bytes(32), SECRET),
    ],
)
def test_no_error_prints_a_key(wrong: Any) -> None:
    with pytest.raises((TapsError, ValueError)) as caught:
        wrong()
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert not shows(shown, [SECRET])


def test_a_server_that_ends_badly_tells_no_key() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        with host:
            endpoint, client = connect(server.address)
        await client.ready()
        secret = client.stack._record._send.key
        client.stack._record._send.number = 1 << 64
        client.send(b"too many")
        ended = await client.over()
        assert not shows(f"{ended!r} {ended.error!r} {ended.error}", [secret])
        endpoint.close()
        server.endpoint.close()

    run(main)
