"""NaCl's programs as CurveCP peers: curvecpserver and curvecpclient, with curvecpmessage and a program of ours inside.

Both know IPv4 alone, and neither says when a connection begins or ends: what the program inside came to is all.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.nacl_program import octets_of
from tests.interop.peers import HOST, PATIENCE, PeerFailed, Program, require_program, start

SCRIPT = str(Path(__file__).with_name("nacl_program.py"))
NO_EXTENSION = "00" * 16
NAME = "server.example"


def require() -> None:
    """Skip visibly if a program is missing, or fail where peers are required."""
    require_program("curvecpmakekey", "curvecpprintkey", "curvecpserver", "curvecpclient", "curvecpmessage")


def free_udp_port() -> int:
    """A UDP port that nobody has right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def make_key(folder: Path) -> bytes:
    """A key folder of curvecpmakekey's; the public key, as curvecpprintkey says it."""
    subprocess.run(["curvecpmakekey", folder], check=True, capture_output=True)
    printed = subprocess.run(["curvecpprintkey", folder], check=True, capture_output=True, text=True)
    return bytes.fromhex(printed.stdout.strip())


@dataclass(frozen=True)
class Told:
    """What a program inside came to."""

    octets: int
    sha256: str
    seconds: float

    def is_stream(self, seed: int, size: int) -> bool:
        """Whether exactly this stream came."""
        return self.octets == size and self.sha256 == hashlib.sha256(octets_of(seed, size)).hexdigest()


class Running:
    """One of the two programs. `port`: a server's."""

    def __init__(self, program: Program, port: int = 0) -> None:
        self.program = program
        self.port = port

    async def told(self, number: int = 1, patience: float = PATIENCE) -> Told:
        """What the so many-th program inside came to, once it has ended; `patience`: seconds."""
        seen: list[dict[str, Any]] = []
        since = 0
        for _ in range(number):
            match = await self.program.expect(r'^\{"octets".*\}$', since, patience)
            seen.append(json.loads(match[0]))
            since = match.end()
        return Told(**seen[-1])

    async def ended(self) -> int:
        """A client: its status, once it has ended by itself."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.program.process.wait()
        except TimeoutError:
            raise PeerFailed(f"it still runs:\n{self.program.text[-4000:]}") from None

    async def stop(self) -> None:
        """Kill it; what it started ends with it, since its pipes do."""
        await self.program.stop()


@asynccontextmanager
async def serve(folder: Path, *steps: str, name: str = NAME, port: int = 0, most: int = 100) -> AsyncIterator[Running]:
    """`curvecpserver` with the key in `folder`; `steps` are what nacl_program.py does for each client."""
    port = port or free_udp_port()
    inside = ("curvecpmessage", sys.executable, SCRIPT, "0", "1", *(steps or ("echo",)))
    fixed = ("-c", str(most), name, folder, HOST, str(port), NO_EXTENSION)
    async with start("curvecpserver", *fixed, *inside) as program:
        await _bound(program, port)
        yield Running(program, port)


async def _bound(program: Program, port: int) -> None:
    """Wait until the port is taken: a server says nothing once it listens."""
    async with asyncio.timeout(PATIENCE):
        while program.process.returncode is None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                try:
                    probe.bind((HOST, port))
                except OSError:
                    return
            await asyncio.sleep(0.01)
    raise PeerFailed(f"curvecpserver ended:\n{program.text}")


@asynccontextmanager
async def connect(
    server_key: bytes,
    port: int,
    *steps: str,
    name: str = NAME,
    folder: Path | None = None,
    server_first: bool = False,
) -> AsyncIterator[Running]:
    """`curvecpclient`, with the key in `folder` (`-c`) or an anonymous one.

    `server_first`: curvecpmessage's `-c`, which asks at once with an empty message; else `-C`.
    """
    inside = ("curvecpmessage", "-c" if server_first else "-C", sys.executable, SCRIPT, "6", "7", *steps)
    own = ("-c", folder) if folder is not None else ()
    fixed = (name, server_key.hex(), HOST, str(port), NO_EXTENSION)
    async with start("curvecpclient", *own, *fixed, *inside) as program:
        yield Running(program)
