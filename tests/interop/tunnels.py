"""One tunnel between us and wireguard-go, each in a namespace of its own: how the WireGuard tests set it up.

        namespace "ours"                          namespace "theirs"
    ours_wireguard.py (inner 10.88.0.1, fd88::1)      wireguard-go (inner 10.88.0.2, fd88::2)
         10.77.0.1, fd77::1  =======  veth  =======  10.77.0.2, fd77::2

`role` is the peer's: a "responder" has our endpoint not, an "initiator" is the only one that knows the other's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interop import wireguard_go
from tests.interop.namespaces import Namespace, Network
from tests.interop.wireguard_go import Interface, Peer, Shown

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0  # seconds that one command has
PORT = 51_820  # of both, outside
ECHO, SINK = 7, 9  # inner ports of the peer's programs, and of ours
RELAY_PORT, INNER_RELAY_PORT = 41_001, 41_000  # of the translator, towards the peer and towards us
OUTER = {"ipv4": ("10.77.0.1", "10.77.0.2"), "ipv6": ("fd77::1", "fd77::2")}  # ours, theirs
INNER = {"ipv4": ("10.88.0.1", "10.88.0.2"), "ipv6": ("fd88::1", "fd88::2")}
OUR_ADDRESSES = ("10.88.0.1/24", "fd88::1/64")
THEIR_ADDRESSES = ("10.88.0.2/24", "fd88::2/64")


class OursFailed(Exception):
    """A command of ours failed; the text is its error, or what the program wrote to its standard error."""


def endpoint(host: str, port: int = PORT) -> str:
    """HOST:PORT as everybody here reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Ours:
    """The running ours_wireguard.py: `await ours.ping(connection=0)` is its command `ping`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        while line := await self.process.stdout.readline():
            told = json.loads(line)
            future = self._waiting.pop(told["id"])
            if future.done():
                continue
            if "error" in told:
                future.set_exception(OursFailed(told["error"]))
            else:
                future.set_result(told["is"])
        text = (await self.process.stderr.read()).decode("utf-8", "replace")
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(OursFailed(f"the program ended:\n{text[-4000:]}"))
        self._waiting.clear()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(**arguments: Any) -> Any:
            number = next(self._numbers)
            self._waiting[number] = asyncio.get_running_loop().create_future()
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps({"id": number, "do": name, **arguments}).encode() + b"\n")
            async with asyncio.timeout(PATIENCE):
                return await self._waiting[number]

        return ask

    async def kill(self) -> None:
        """As a crash: nothing is said to anybody."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reader
        if self.process.stdin is not None:
            self.process.stdin.close()


async def start_ours(space: Namespace) -> Ours:
    """Our program inside a namespace, without a tunnel yet."""
    process = await asyncio.create_subprocess_exec(
        *(*space.command, sys.executable, "-m", "tests.interop.ours_wireguard"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        limit=1 << 20,
    )
    return Ours(process)


async def theirs_does(space: Namespace, work: str, host: str, port: int, *words: object) -> dict[str, Any]:
    """One of the ending programs of udp_services.py inside the namespace: what it writes."""
    process = await asyncio.create_subprocess_exec(
        *(*space.command, sys.executable, wireguard_go.SERVICES, work, host, str(port), *map(str, words)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    told: dict[str, Any] = json.loads(out)
    return told


async def until(condition: Callable[[], Any], patience: float = 20.0, every: float = 0.05) -> Any:
    """Ask until the answer is true, and return it. AssertionError when patience ends."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"still not so after {patience:.0f} s"
        await asyncio.sleep(every)


@dataclass
class Tunnel:
    """Both ends. `ours` is replaced by `restart_ours`."""

    our_space: Namespace
    their_space: Namespace
    our_interface: str  # outside
    their_interface: str
    options: dict[str, Any]
    theirs: Interface
    their_peers: tuple[Peer, ...]
    family: str
    store: str
    key_log: str
    ours: Ours = field(init=False)
    services: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def shown(self) -> Shown:
        """What wireguard-go says of us."""
        return self.theirs.shown()

    async def open_ours(self) -> None:
        """Our program with its tunnel."""
        self.ours = await start_ours(self.our_space)
        await self.ours.open(options=self.options, store=self.store, key_log=self.key_log)

    async def restart_ours(self) -> None:
        """A crash and a new start, with the same store."""
        await self.ours.kill()
        await self.open_ours()

    def restart_theirs(self) -> None:
        """Stop wireguard-go and start it again as it was; its programs inside notice nothing but lost packets."""
        self.theirs.stop()
        self.start_theirs()

    def start_theirs(self) -> None:
        """Start wireguard-go with its configuration."""
        self.theirs.start()
        self.theirs.configure(self.their_peers, PORT)
        self.theirs.up(THEIR_ADDRESSES, (), self.options["mtu"])

    async def connect(self, inner: str = "ipv4", port: int = ECHO) -> int:
        """Our connection to the peer's inner address: its number."""
        told = await self.ours.connect(host=INNER[inner][1], port=port)
        number: int = told["connection"]
        return number

    async def their_swap(self, inner: str = "ipv4", count: int = 200, size: int = 1_200, window: int = 20) -> Any:
        """The peer's program swaps messages with our echo listener."""
        return await theirs_does(self.their_space, "swap", INNER[inner][0], ECHO, count, size, window)

    def relay(self) -> None:
        """A translator in our namespace, between our port and the peer's."""
        ours, theirs = OUTER[self.family]
        words = ("127.0.0.1", PORT, ours, RELAY_PORT, theirs, PORT)
        self.serve("relay", "127.0.0.1", INNER_RELAY_PORT, *words, space=self.our_space)

    def forget_port(self) -> None:
        """The translator, which is the newest service, takes another port towards the peer."""
        process = self.services[-1]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"

    def serve(self, work: str, host: str, port: int, *more: object, space: Namespace | None = None) -> None:
        """A lasting program, in the peer's namespace if no other is named; it ends with the tunnel."""
        words = (*(space or self.their_space).command, sys.executable, wireguard_go.SERVICES, work, host, str(port))
        process = subprocess.Popen([*words, *map(str, more)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.services.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"{work} did not start at {host}"

    async def stop(self) -> None:
        """Everything, also after a failure."""
        if hasattr(self, "ours"):
            await self.ours.kill()
        for process in self.services:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self.theirs.stop()


@asynccontextmanager
async def tunnel(
    net: Network,
    folder: Path,
    role: str = "responder",
    family: str = "ipv4",
    *,
    psk: bool = False,
    our_keepalive: int = 0,
    their_keepalive: int = 0,
    mtu: int = 1_420,
    relayed: bool = False,
) -> AsyncIterator[Tunnel]:
    """A tunnel whose peer has the `role`, over the outer `family`; echo programs stand on both inner sides.

    `relayed`: through a translator in our namespace (IPv4).
    """
    space, there = net.namespace("ours"), net.namespace("theirs")
    link = net.link(space, there, "10.77.0", "fd77")
    our_key, their_key = wireguard_go.new_key(), wireguard_go.new_key()
    shared = wireguard_go.new_psk() if psk else ""
    to_us, to_them = (endpoint(host) for host in OUTER[family])
    if relayed:
        to_us, to_them = endpoint(OUTER[family][0], RELAY_PORT), endpoint("127.0.0.1", INNER_RELAY_PORT)
    options = {
        "private_key": our_key,
        "addresses": OUR_ADDRESSES,
        "listen_port": PORT,
        "mtu": mtu,
        "peers": [
            {
                "public_key": wireguard_go.public_key(their_key),
                "preshared_key": shared or None,
                "endpoint": to_them if role == "responder" else None,
                "allowed_ips": ("10.88.0.2/32", "fd88::2/128"),
                "persistent_keepalive": our_keepalive,
            }
        ],
    }
    us = Peer(
        wireguard_go.public_key(our_key),
        ("10.88.0.1/32", "fd88::1/128"),
        to_us if role == "initiator" else "",
        shared,
        their_keepalive,
    )
    theirs = Interface(there, wireguard_go.unique("wg"), their_key)
    files = (str(folder / "store.json"), str(folder / "keys.log"))
    made = Tunnel(space, there, link.left, link.right, options, theirs, (us,), family, *files)
    try:
        made.start_theirs()
        for _, host in INNER.values():
            made.serve("echo", host, ECHO)
        if relayed:
            made.relay()
        await made.open_ours()
        for host, _ in INNER.values():
            await made.ours.echo(host=host, port=ECHO)
        yield made
    finally:
        await made.stop()


def in_namespace(space: Namespace, *words: str | os.PathLike[str]) -> list[str]:
    """The words of a program that is to run inside."""
    return [*space.command, *(str(word) for word in words)]
