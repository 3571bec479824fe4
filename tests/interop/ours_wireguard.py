"""Our side of the WireGuard tests: a program inside a namespace that does what lines of JSON ask it to.

    {"id": 1, "do": "open", "options": {...}}          ->  {"id": 1, "is": ...}  or  {"id": 1, "error": "Kind: text"}

Commands run at the same time; each answer carries its request's number. A test's own process cannot change its
namespace, so this one is started inside with `ip netns exec`. The methods of `Commands` are the commands.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import taps_security as taps
from taps_security.connection.stores import FileStore

REPEAT = 0.5  # seconds without any answer until messages are sent again
GIVE_UP = 30.0  # seconds without any answer until a command fails
HANDSHAKE = 60.0  # seconds that an establishment may take


def preconnection(commands: Commands, **endpoints: Any) -> taps.Preconnection:
    """With the options, store and key log that `open` was given."""
    return taps.Preconnection(
        transport_properties=taps.TransportProperties.unreliable_datagram(),
        security_parameters=taps.SecurityParameters(
            stacks=["wireguard"],
            options={"wireguard": taps.WireGuardOptions(**commands.options)},
            store=commands.store,
        ),
        key_log=commands.key_log,
        **endpoints,
    )


class Commands:
    """One tunnel, its connections and listeners, each known by a number."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.key_log: taps.KeyLogFile | None = None
        self.store: FileStore | None = None
        self.tunnel: Any = None
        self.connections: list[taps.Connection] = []
        self.listeners: list[taps.Listener] = []
        self.serving: list[asyncio.Task[None]] = []

    # -- the tunnel ---------------------------------------------------------------------------------------------------
    async def open(self, options: dict[str, Any], store: str = "", key_log: str = "") -> dict[str, Any]:
        """The tunnel, kept open until `close`."""
        self.options = options
        self.store = FileStore(store) if store else None
        self.key_log = taps.KeyLogFile(key_log) if key_log else None
        self.tunnel = await preconnection(self).tunnel()
        await self.tunnel.__aenter__()
        return {"pid": os.getpid()}

    async def apply(self, options: dict[str, Any]) -> None:
        """Other peers."""
        self.options = options
        await self.tunnel.apply(taps.WireGuardOptions(**options))

    async def status(self) -> Any:
        """Of every peer."""
        return self.tunnel.status()

    async def close(self) -> None:
        """Everything, in order."""
        for connection in self.connections:
            await connection.close()
        for listener in self.listeners:
            listener.stop()
        await asyncio.gather(*self.serving, return_exceptions=True)
        if self.tunnel is not None:
            await self.tunnel.__aexit__(None, None, None)
            self.tunnel = None

    async def memory(self) -> int:
        """Octets of proportional set size."""
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss in smaps_rollup")

    # -- listeners ----------------------------------------------------------------------------------------------------
    async def echo(self, host: str, port: int) -> int:
        """Send back whatever comes to an inner port; the port."""

        async def handle(connection: taps.Connection) -> None:
            while True:
                for message in await connection.receive_views():
                    await connection.send(bytes(message))

        return await self._listen(host, port, handle)

    async def sink(self, host: str, port: int) -> int:
        """Count; a message that begins with b"?" is answered with "COUNT OCTETS"; the port."""

        async def handle(connection: taps.Connection) -> None:
            count = octets = 0
            while True:
                for message in await connection.receive_views():
                    if message[0] != 0x3F:
                        count += 1
                        octets += len(message)
                        continue
                    await connection.send(f"{count} {octets}".encode())
                    count = octets = 0

        return await self._listen(host, port, handle)

    async def _listen(self, host: str, port: int, handler: Any) -> int:
        made = preconnection(self, local_endpoints=[taps.LocalEndpoint(ip_address=host, port=port)])
        listener = await made.listen()
        self.listeners.append(listener)
        self.serving.append(asyncio.create_task(listener.serve(handler)))
        return listener.port

    # -- connections --------------------------------------------------------------------------------------------------
    async def connect(self, host: str, port: int, patience: float = HANDSHAKE) -> dict[str, Any]:
        """A connection to an inner address, established: its number, and how long that took."""
        start = time.monotonic()
        made = preconnection(self, remote_endpoints=[taps.RemoteEndpoint(ip_address=host, port=port)])
        self.connections.append(await made.initiate(timeout=patience, handshake_timeout=patience))
        return {"connection": len(self.connections) - 1, "seconds": time.monotonic() - start}

    async def disconnect(self, connection: int) -> None:
        """Close one; the tunnel stays."""
        await self.connections[connection].close()

    async def ping(self, connection: int, size: int = 64, patience: float = GIVE_UP) -> dict[str, Any]:
        """One message there and back, repeated until it comes."""
        chosen, body, start, sent = self.connections[connection], os.urandom(size), time.monotonic(), 0
        while time.monotonic() - start < patience:
            await chosen.send(body)
            sent += 1
            try:
                while True:
                    message = await chosen.receive(timeout=REPEAT)
                    if message.data == body:
                        return {"sent": sent, "seconds": time.monotonic() - start}
            except TimeoutError:
                continue
        raise TimeoutError(f"no answer to {sent} messages")

    async def swap(self, connection: int, count: int, size: int, window: int) -> dict[str, Any]:
        """Numbered messages to an echo service until each came back as it was, `window` at a time."""
        chosen, body = self.connections[connection], os.urandom(size - 8)
        heard, repeated = time.monotonic(), 0
        for first in range(0, count, window):
            waiting = set(range(first, min(first + window, count)))
            await chosen.send([number.to_bytes(8, "big") + body for number in sorted(waiting)])
            while waiting:
                try:
                    async with asyncio.timeout(REPEAT):
                        views = await chosen.receive_views()
                except TimeoutError:
                    if time.monotonic() - heard > GIVE_UP:
                        raise TimeoutError(f"no answer; {len(waiting)} of {count} from {first} missing") from None
                    repeated += len(waiting)
                    await chosen.send([number.to_bytes(8, "big") + body for number in sorted(waiting)])
                    continue
                heard = time.monotonic()
                for view in views:
                    if view[8:] != body:
                        raise ValueError(f"came back changed: {bytes(view[:64]).hex()}")
                    waiting.discard(int.from_bytes(view[:8], "big"))
        return {"count": count, "octets": count * size, "repeated": repeated}

    async def pump(self, connection: int, count: int, size: int, batch: int = 32) -> dict[str, Any]:
        """`count` messages without waiting for answers, then what the sink says of them."""
        chosen, body = self.connections[connection], bytes(size)
        start = time.monotonic()
        for _ in range(count // batch):
            await chosen.send([body] * batch)
        while True:
            await chosen.send(b"?")
            try:
                came, octets = (await chosen.receive(timeout=REPEAT)).data.split()
            except TimeoutError:
                if time.monotonic() - start > GIVE_UP:
                    raise
                continue
            return {"count": int(came), "octets": int(octets), "seconds": time.monotonic() - start}


async def answer(commands: Commands, request: dict[str, Any]) -> None:
    """Do what one line asks."""
    number, name = request.pop("id"), request.pop("do")
    told: dict[str, Any] = {"id": number}
    try:
        told["is"] = await getattr(commands, name)(**request)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        told["error"] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(told, default=str) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Answer until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    commands, running = Commands(), set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(commands, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    with contextlib.suppress(Exception):
        await commands.close()


if __name__ == "__main__":
    asyncio.run(main())
