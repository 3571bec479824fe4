"""Our side of the CurveCP tests, through the public API, and a pair of ends in either role of the peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import taps_security as taps
from tests.interop import nacl_tools
from tests.interop.nacl_program import octets_of
from tests.interop.nacl_tools import NAME, Running
from tests.interop.peers import HOST
from tests.interop.udp_relay import Relay, relay

TIMEOUT = 30.0  # seconds for one step
PIECE = 65_536  # octets of each send


@dataclass(frozen=True)
class Keys:
    """Two key folders of curvecpmakekey's, and their public keys."""

    server: Path
    server_public: bytes
    client: Path
    client_public: bytes


def make_keys(folder: Path) -> Keys:
    """New ones."""
    server, client = folder / "server-key", folder / "client-key"
    return Keys(server, nacl_tools.make_key(server), client, nacl_tools.make_key(client))


def client(keys: Keys, port: int, **options: Any) -> taps.Preconnection:
    """A Preconnection to a server on loopback; `options` as CurveCpOptions has them."""
    given = {"server_key": keys.server_public, "server_name": NAME, **options}
    return taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=HOST, port=port)],
        security_parameters=taps.SecurityParameters(
            stacks=["curvecp"], options={"curvecp": taps.CurveCpOptions(**given)}
        ),
    )


@asynccontextmanager
async def listening(keys: Keys, port: int = 0, **options: Any) -> AsyncIterator[taps.Listener]:
    """A listener of ours with the server's key folder."""
    given = {"key": keys.server, "server_name": NAME, **options}
    made = taps.Preconnection(
        local_endpoints=[taps.LocalEndpoint(ip_address=HOST, port=port)],
        security_parameters=taps.SecurityParameters(
            stacks=["curvecp"], options={"curvecp": taps.CurveCpOptions(**given)}
        ),
    )
    async with await made.listen() as listener:
        yield listener


@dataclass
class Pair:
    """One connection: our end, the peer's program, and the path between them, if it is a bad one."""

    ours: taps.Connection
    peer: Running
    path: Relay | None

    async def finish(self) -> nacl_tools.Told:
        """Close ours; what the program inside the peer came to."""
        await self.ours.close()
        return await self.peer.told()


@asynccontextmanager
async def pair(
    role: str,
    keys: Keys,
    *steps: str,
    deeds: dict[str, float] | None = None,
    **options: Any,
) -> AsyncIterator[Pair]:
    """A peer in that role, whose program does `steps`, and our end. `deeds`: of a relay between them.

    `options` are ours. A peer that is a client asks at once with an empty message, so that nobody has to speak first.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        path: Relay | None = None
        if role == "server":
            peer = await enter(nacl_tools.serve(keys.server, *steps))
            port = peer.port
            if deeds is not None:
                path = await enter(relay(port, **deeds))
                port = path.port
            ours = await client(keys, port, **options).initiate(timeout=TIMEOUT)
        else:
            listener = await enter(listening(keys, **options))
            port = listener.port
            if deeds is not None:
                path = await enter(relay(port, **deeds))
                port = path.port
            peer = await enter(nacl_tools.connect(keys.server_public, port, *steps, server_first=True))
            async with asyncio.timeout(TIMEOUT):
                ours = await listener.accept()
        async with ours:
            yield Pair(ours, peer, path)


async def send_stream(connection: taps.Connection, seed: int, size: int) -> None:
    """Send a stream that both ends know, and the end of ours."""
    data = octets_of(seed, size)
    for at in range(0, size, PIECE):
        await connection.send(data[at : at + PIECE])
    await connection.send(b"", final=True)


async def receive_all(connection: taps.Connection, patience: float = TIMEOUT) -> bytes:
    """What comes until the peer ends its stream; `patience`: seconds for each part of it."""
    received = bytearray()
    while True:
        message = await connection.receive(timeout=patience)
        received += message.data
        if message.end_of_message:
            return bytes(received)


async def receive_stream(connection: taps.Connection, seed: int, size: int) -> None:
    """What comes until the peer ends its stream must be exactly this."""
    received = await receive_all(connection)
    assert len(received) == size
    assert received == octets_of(seed, size)


async def swap_streams(connection: taps.Connection, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    """(seed, size) each way at the same time."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send_stream(connection, *ours))
        tasks.create_task(receive_stream(connection, *theirs))


async def echo(connection: taps.Connection) -> None:
    """Send back what comes until the peer ends its stream, then end ours."""
    async for message in connection:
        await connection.send(message.data)
    await connection.send(b"", final=True)
