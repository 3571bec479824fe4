"""Python's `ssl` and pyOpenSSL as peers: `python_peer.py` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peers import EXPORT_LABEL, PATIENCE, PSK_IDENTITY, Facts, PeerFailed, Program, Wish, start

SCRIPT = Path(__file__).with_name("python_peer.py")


class ScriptedRunning:
    """Reads the script's JSON lines."""

    echoes = True

    def __init__(self, program: Program, *, server: bool) -> None:
        self.program = program
        self.server = server
        self.port = 0
        self._read = 0  # events looked at

    async def event(self, *wanted: str) -> dict[str, Any]:
        """The next event of one of these kinds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    lines = self.program.text.split("\n")[:-1]
                    while self._read < len(lines):
                        line = lines[self._read]
                        self._read += 1
                        found = json.loads(line) if line.startswith("{") else {"event": line}
                        if found["event"] in wanted:
                            return dict(found)
                    if self.program.process.returncode is not None:
                        raise PeerFailed(f"the peer ended before {wanted}:\n{self.program.text[-4000:]}")
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise PeerFailed(f"the peer did not say {wanted}:\n{self.program.text[-4000:]}") from None

    async def facts(self) -> Facts:
        found = await self.event("connected", "failed")
        if found["event"] == "failed":
            raise PeerFailed(found["error"])
        exported = found.get("exported")
        return Facts(
            resumed=found["resumed"],
            alpn=found["alpn"] or None,
            exported=bytes.fromhex(exported) if exported else None,
            group=found.get("group"),
            client_certificate=found["client_certificate"],
            text=json.dumps(found),
        )

    async def failure(self) -> str:
        return str((await self.event("failed"))["error"])

    async def say(self, text: str) -> None:
        await self.command(do="say", text=f"{text}\n")

    async def heard(self, text: str) -> None:
        received = ""
        while text not in received:
            received += (await self.event("heard"))["text"]

    def echo_of(self, data: bytes) -> bytes:
        return data

    async def finish(self) -> None:
        await self.command(do="finish")
        await self.event("closed")

    async def command(self, **words: object) -> None:
        """One line to the script."""
        await self.program.write(json.dumps(words).encode() + b"\n")


class ScriptedPeer:
    """One of the two libraries."""

    def __init__(self, name: str, flavour: str) -> None:
        self.name = name
        self.flavour = flavour

    def require(self) -> None:
        """Both come with the test tools."""

    @asynccontextmanager
    async def serve(self, wish: Wish, *, bulk: bool = False) -> AsyncIterator[ScriptedRunning]:
        async with start(self._python(wish), SCRIPT, self.flavour, self._wish(wish, "server")) as program:
            running = ScriptedRunning(program, server=True)
            running.port = int((await running.event("ready"))["port"])
            yield running

    @asynccontextmanager
    async def connect(self, port: int, wish: Wish, *, resume: bool = False) -> AsyncIterator[ScriptedRunning]:
        arguments = self._wish(wish, "client", port=port, resume=resume)
        async with start(self._python(wish), SCRIPT, self.flavour, arguments) as program:
            yield ScriptedRunning(program, server=False)

    async def bulk(self, port: int, wish: Wish, octets: int) -> None:
        async with self.connect(port, wish) as running:
            await running.facts()
            await running.command(do="bulk", octets=octets)
            found = await running.event("bulk", "failed")
            if found["event"] == "failed":
                raise PeerFailed(found["error"])
            await running.finish()

    def _python(self, wish: Wish) -> str:
        return python_with_psk() if wish.psk else sys.executable

    def _wish(self, wish: Wish, role: str, **more: object) -> str:
        words = {
            "role": role,
            "certificate": str(wish.identity.certificate) if wish.identity else "",
            "key": str(wish.identity.key) if wish.identity else "",
            "trust": str(wish.trust) if wish.trust else "",
            "client_certificate": wish.client_certificate,
            "alpn": wish.alpn,
            "group": wish.group,
            "psk": wish.psk.hex(),
            "psk_identity": PSK_IDENTITY,
            "server_name": wish.server_name,
            "export_label": EXPORT_LABEL,
        }
        return json.dumps(words | more)


def python_with_psk() -> str:
    """A Python whose `ssl` has the PSK callbacks (3.13), this one or another of the machine; else the test skips."""
    found = _python_with_psk()
    if not found:
        pytest.skip("no Python of this machine has ssl.SSLContext.set_psk_client_callback: 3.13 and later do")
    return found


@cache
def _python_with_psk() -> str:
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    installed = [str(path) for root in roots for path in sorted(root.glob("versions/3.1[3-9]*/bin/python3"))]
    in_path = [shutil.which(f"python3.{minor}") or "" for minor in range(13, 20)]
    check = "import ssl, sys; sys.exit(not hasattr(ssl.SSLContext, 'set_psk_client_callback'))"
    for candidate in (sys.executable, *in_path, *installed):
        if candidate and subprocess.run([candidate, "-c", check], capture_output=True, check=False).returncode == 0:
            return candidate
    return ""
