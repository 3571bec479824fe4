"""Real TLS programs to talk to: started on loopback, asked for facts, stopped by their process id.

A `Peer` starts as a server or as a client with a `Wish`; what runs is a `Running`. `say` and `heard` move one line of
text; servers that have `echoes` send back what they hear by themselves. What a peer cannot do stands in matrix.toml.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.pki import SERVER_NAME, Files

HOST = "127.0.0.1"
PATIENCE = 20.0  # seconds that a peer has for one step
EXPORT_LABEL = "EXPORTER-taps-interop"
EXPORT_LENGTH = 32
PSK_IDENTITY = "alice"


class PeerFailed(Exception):
    """The peer ended, or did not do in time what was waited for; the text is its output."""


@dataclass(frozen=True)
class Wish:
    """What a peer is to be set up with."""

    identity: Files | None = None
    trust: Path | None = None
    client_certificate: bool = False  # servers: demand one, signed by `trust`
    alpn: str = ""
    group: str = ""  # the only one: "x25519", "secp256r1", "secp384r1"
    cookie: bool = False  # servers: put a cookie into HelloRetryRequest
    psk: bytes = b""  # external, under PSK_IDENTITY
    server_name: str = SERVER_NAME

    def but(self, **changes: object) -> Wish:
        """The same with some changes."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass
class Facts:
    """What a peer says of a connection; None where it does not say."""

    resumed: bool | None = None
    alpn: str | None = None
    exported: bytes | None = None
    group: str | None = None
    client_certificate: bool | None = None
    text: str = field(default="", repr=False)


class Running(Protocol):
    """A peer program that runs."""

    port: int
    echoes: bool

    async def facts(self) -> Facts:
        """Of the newest connection, once its handshake is done. Raises PeerFailed if it failed."""

    async def failure(self) -> str:
        """Why the newest handshake failed, in the peer's words."""

    async def say(self, text: str) -> None:
        """Send one line."""

    async def heard(self, text: str) -> None:
        """Wait until the peer has received this line."""

    async def update_keys(self) -> None:
        """Make the peer send a KeyUpdate."""

    def echo_of(self, data: bytes) -> bytes:
        """Servers started with `bulk`: what they send back for `data`."""

    async def finish(self) -> None:
        """Clients: end cleanly, with close_notify."""


class Peer(Protocol):
    """A program that can be started in either role."""

    name: str

    def require(self) -> None:
        """Skip the test visibly if the program is missing, or fail it where peers are required."""

    def serve(self, wish: Wish, *, bulk: bool = False) -> Starting:
        """Start as a server. `bulk`: echoes large amounts of data and tells no facts."""

    def connect(self, port: int, wish: Wish, *, resume: bool = False) -> Starting:
        """Start as a client. `resume`: connect once for a ticket, then again with it."""

    async def bulk(self, port: int, wish: Wish, octets: int) -> None:
        """As a client, send that much to an echo server and check what comes back."""


class Starting(Protocol):
    """`async with` starts the program and stops it again."""

    async def __aenter__(self) -> Running: ...
    async def __aexit__(self, *error: object) -> bool | None: ...


def require_program(*names: str) -> None:
    """Skip visibly, or fail where peers are required."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        text = f"peer program missing: {', '.join(missing)} (make peers)"
        if os.environ.get("TAPS_REQUIRE_PEERS") == "1":
            pytest.fail(text)
        pytest.skip(text)


def free_port() -> int:
    """A TCP port that nobody has right now; for programs that cannot be given port 0."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


class Program:
    """A child process whose output is kept and can be waited for."""

    def __init__(self, process: asyncio.subprocess.Process, arguments: Sequence[str]) -> None:
        self.process = process
        self.arguments = arguments
        self.output = bytearray()  # both streams
        self.data = bytearray()  # standard output alone
        self._changed = asyncio.Event()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.data)),
            asyncio.create_task(self._read(process.stderr, bytearray())),
        ]

    @property
    def text(self) -> str:
        """All that it wrote so far, both streams."""
        return self.output.decode("utf-8", "replace")

    async def _read(self, stream: asyncio.StreamReader, into: bytearray) -> None:
        while data := await stream.read(65_536):
            self.output += data
            into += data
            self._changed.set()
        self._changed.set()

    @property
    def _is_over(self) -> bool:
        return all(reader.done() for reader in self._readers)

    async def expect(self, pattern: str, since: int = 0, patience: float = PATIENCE) -> re.Match[str]:
        """Wait for output that matches, from position `since` of the text on; `patience`: seconds."""
        wanted = re.compile(pattern, re.MULTILINE)
        try:
            async with asyncio.timeout(patience):
                while True:
                    if (match := wanted.search(self.text, since)) is not None:
                        return match
                    if self._is_over:
                        raise PeerFailed(f"{self.arguments[0]} ended before {pattern!r}:\n{self.text[-4000:]}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise PeerFailed(f"{self.arguments[0]} did not write {pattern!r}:\n{self.text[-4000:]}") from None

    async def read_all(self) -> None:
        """Wait until its output has ended."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._readers)

    async def write(self, data: bytes) -> None:
        """To its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def end_input(self) -> None:
        """Close its standard input and wait until it ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await self.process.wait()

    async def stop(self) -> None:
        """Kill it, if it still runs, and reap it."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)
        if self.process.stdin is not None:
            self.process.stdin.close()
            with suppress(ConnectionError):
                await self.process.stdin.wait_closed()


@asynccontextmanager
async def start(*arguments: str | Path, directory: Path | None = None) -> AsyncIterator[Program]:
    """Run a program with line-buffered output; it is dead when this ends."""
    words = [str(argument) for argument in arguments]
    buffered = ["stdbuf", "-oL", "-eL", *words] if shutil.which("stdbuf") else words
    process = await asyncio.create_subprocess_exec(
        *buffered,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=directory,
    )
    program = Program(process, words)
    try:
        yield program
    finally:
        await program.stop()


def lines_of_text(octets: int) -> bytes:
    """Random lines of 8,000 letters; none begins with what a peer takes for a command."""
    block = b"".join(b"0" + base64.b64encode(os.urandom(6_000))[:7_998] + b"\n" for _ in range(64))
    return (block * (octets // len(block) + 1))[:octets]


async def pump(program: Program, octets: int) -> None:
    """Feed lines to a program's input while reading; its output must become the same."""
    data = lines_of_text(octets)
    feeding = asyncio.create_task(program.write(data))
    try:
        async with asyncio.timeout(6 * PATIENCE):
            while len(program.data) < len(data):
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise PeerFailed(f"{program.arguments[0]} returned {len(program.data)} of {len(data)} octets") from None
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    if program.data != data:
        raise PeerFailed(f"{program.arguments[0]} returned other data")
