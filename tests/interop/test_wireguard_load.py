"""Cookies both ways, and a flood: who is under load answers strangers with cookie replies and serves its peers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.namespaces import Namespace, Network
from tests.interop.peers import Program, start
from tests.interop.test_wireguard import SIZE, begun
from tests.interop.tunnels import PORT, Tunnel, in_namespace, tunnel, until
from tests.interop.wireguard_go import public_key

FOLDER = Path(__file__).parent
INITIATION, RESPONSE, COOKIE = 1, 2, 3
FLOOD = 200_000
GROWTH = 8 << 20  # octets by which a flood may make us grow


class Watch:
    """The handshake messages that pass on an interface, newest last."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @property
    def seen(self) -> list[dict[str, Any]]:
        lines = self.program.data.decode().splitlines(keepends=True)[1:]
        return [json.loads(line) for line in lines if line.endswith("\n")]


@asynccontextmanager
async def watching(space: Namespace, interface: str, *more: str) -> AsyncIterator[Watch]:
    words = in_namespace(space, sys.executable, FOLDER / "watch.py", interface, str(PORT), *more)
    async with start(*words) as program:
        await program.expect("^ready$")
        yield Watch(program)


@asynccontextmanager
async def strangers(
    net: Network, victim: Namespace, key: str, count: int, burst: int, pause: float
) -> AsyncIterator[Program]:
    """A flood of initiations from 65,536 addresses to the victim's port."""
    space = net.namespace("strangers")
    net.link(space, victim, "10.78.0")
    space.own_all_of("10.66.0.0/16")
    victim.ip("route", "add", "10.66.0.0/16", "via", "10.78.0.1")
    words = ("10.78.0.2", str(PORT), key, str(count), "10.66", str(burst), str(pause))
    async with start(*in_namespace(space, sys.executable, FOLDER / "flood.py", *words)) as program:
        await program.expect("^ready$")
        yield program


def our_key(made: Tunnel) -> str:
    return public_key(made.options["private_key"])


@pytest.mark.timeout(300)
async def test_cookie_taken(net: Network, tmp_path: Path) -> None:
    """wireguard-go is under load: it answers our initiation with a cookie, and takes the next, which has MAC2."""
    async with tunnel(net, tmp_path, "responder") as made:
        flood = strangers(net, made.their_space, made.theirs.public_key, 10_000_000, 2_000, 0.1)
        async with watching(made.their_space, made.their_interface) as watch, flood:
            connecting = asyncio.create_task(made.connect())
            await until(lambda: any(message["type"] == COOKIE for message in watch.seen), 200.0)
            await until(lambda: any(message.get("mac2") for message in watch.seen), 30.0)
            number = await connecting
            await made.ours.ping(connection=number)
            assert any(message["type"] == RESPONSE for message in watch.seen)


@pytest.mark.timeout(300)
async def test_cookie_given(net: Network, tmp_path: Path) -> None:
    """We are under load: we answer wireguard-go's initiation with a cookie; its next one has MAC2, and we take it."""
    async with tunnel(net, tmp_path, "initiator") as made:
        flood = strangers(net, made.our_space, our_key(made), 10_000_000, 2_000, 0.1)
        async with watching(made.their_space, made.their_interface) as watch, flood as program:
            await until(lambda: len(program.text) > 0)
            transfer = asyncio.create_task(made.their_swap(count=10))
            await until(lambda: any(message["type"] == COOKIE for message in watch.seen), 200.0)
            assert (await transfer)["count"] == 10
            with_cookie = [message.get("mac2") for message in watch.seen if message["type"] == INITIATION]
            assert with_cookie[0] is False
            assert True in with_cookie
            assert any(message["type"] == RESPONSE for message in watch.seen)


@pytest.mark.slow
async def test_flood(net: Network, tmp_path: Path) -> None:
    """200,000 initiations with valid MAC1 from many addresses: cookie replies, no growth, and the peer is served."""
    async with tunnel(net, tmp_path, "responder") as made:
        number = await begun(made, "responder")
        await made.ours.swap(connection=number, count=2_000, size=SIZE, window=32)
        before = await made.ours.memory()
        swapped = 0
        async with strangers(net, made.our_space, our_key(made), FLOOD, 500, 0.002) as program:
            over = asyncio.create_task(program.read_all())
            while not over.done():
                ours, theirs = await asyncio.gather(
                    made.ours.swap(connection=number, count=200, size=SIZE, window=32),
                    made.their_swap(count=200, size=SIZE, window=32),
                )
                swapped += ours["count"] + theirs["count"]
            await over
            told = json.loads(program.text.splitlines()[-1])
        assert told["sent"] == FLOOD
        assert set(told["came"]) == {str(COOKIE)}, told
        assert told["came"][str(COOKIE)] > 1_000
        assert swapped >= 400
        assert await made.ours.memory() - before < GROWTH
