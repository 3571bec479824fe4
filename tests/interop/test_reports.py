"""ICMP reports of real routers and of liars, through real sockets. tests/faults/test_reports.py has the rooms."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.namespaces import Namespace, Network

PROGRAM = ("-m", "tests.interop.reported")
PATIENCE = 30.0  # seconds
PORT = 4433
NARROW = 1300  # octets of the second link
HEADERS = {"ipv4": 28, "ipv6": 48}
WHO = {"ipv4": ("10.77.0.1", "10.78.0.2"), "ipv6": ("fd77::1", "fd78::2")}
NOTHING_SENT = {"a report of nothing that was sent": 1}


def routed(net: Network) -> tuple[Namespace, Namespace]:
    """We, and a router to them whose second link is narrow."""
    ours, router, theirs = (net.namespace(name) for name in ("ours", "router", "theirs"))
    net.link(ours, router, "10.77.0", "fd77")
    net.link(router, theirs, "10.78.0", "fd78", mtu=NARROW)
    for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        router.set(key, 1)
    ours.ip("route", "add", "default", "via", "10.77.0.2")
    ours.ip("-6", "route", "add", "default", "via", "fd77::2")
    theirs.ip("route", "add", "default", "via", "10.78.0.1")
    theirs.ip("-6", "route", "add", "default", "via", "fd78::1")
    return ours, router


class Client:
    """The running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.port = 0

    async def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(await asyncio.wait_for(self._process.stdout.readline(), PATIENCE))

    async def tell(self, size: int = 0) -> dict[str, Any]:
        """Send a message of so many octets, and say what is known by then."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d\n" % size)
        return await self.read()

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """What is known once that is so."""
        async with asyncio.timeout(PATIENCE):
            while not condition(told := await self.tell()):
                await asyncio.sleep(0.01)
        return told

    async def stop(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        await self._process.wait()


async def start(space: Namespace, family: str, port: int = PORT) -> Client:
    pipe = asyncio.subprocess.PIPE
    words = (*space.command, sys.executable, *PROGRAM, "client", *WHO[family], str(port))
    client = Client(await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe))
    client.port = (await client.read())["port"]
    return client


@pytest.mark.parametrize("family", HEADERS)
async def test_a_router_is_believed_and_a_liar_is_not(net: Network, family: str) -> None:
    ours, router = routed(net)
    (local, remote), narrow = WHO[family], NARROW - HEADERS[family]
    client = await start(ours, family)
    try:
        assert await client.tell() == {"news": [], "noise": {}, "mtu": 1500 - HEADERS[family]}
        router.run(sys.executable, *PROGRAM, "forge", local, str(client.port), remote, str(PORT), "1280")
        told = await client.until(lambda told: told["noise"] or told["news"])
        assert told == {"news": [], "noise": NOTHING_SENT, "mtu": 1500 - HEADERS[family]}
        await client.tell(1350)
        told = await client.until(lambda told: told["news"])
        assert told == {"news": [["MTU", narrow]], "noise": NOTHING_SENT, "mtu": narrow}
    finally:
        await client.stop()


@pytest.mark.parametrize("family", HEADERS)
async def test_what_a_liar_has_told_the_kernel_is_not_taken_over(net: Network, family: str) -> None:
    """The kernel notes what it is told at its route, for every socket that asks within ten minutes."""
    ours, router = routed(net)
    local, remote = WHO[family]
    client = await start(ours, family)
    try:
        router.run(sys.executable, *PROGRAM, "forge", local, str(client.port), remote, str(PORT), "1280")
        await client.until(lambda told: told["noise"])
        assert "mtu 1280" in ours.ip("route", "get", remote)
        another = await start(ours, family)
        try:
            assert (await another.tell())["mtu"] == 1500 - HEADERS[family]
        finally:
            await another.stop()
    finally:
        await client.stop()


@pytest.mark.parametrize("family", HEADERS)
async def test_a_route_that_is_narrow_by_configuration_is_believed(net: Network, family: str) -> None:
    ours, _ = routed(net)
    version, router = {"ipv4": ("-4", "10.77.0.2"), "ipv6": ("-6", "fd77::2")}[family]
    ours.ip(version, "route", "replace", "default", "via", router, "mtu", "1350")
    client = await start(ours, family)
    try:
        assert (await client.tell())["mtu"] == 1350 - HEADERS[family]
    finally:
        await client.stop()


@pytest.mark.parametrize("family", HEADERS)
async def test_a_port_that_is_closed_says_so_and_quotes_what_came(net: Network, family: str) -> None:
    ours, _ = routed(net)
    client = await start(ours, family)
    try:
        await client.tell(100)
        told = await client.until(lambda told: told["news"] or told["noise"])
        assert [news for news, _ in told["news"]] == ["UNREACHABLE"]
        assert told["noise"] == {}
    finally:
        await client.stop()
