"""Our own side of the interoperability tests, through the public API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import taps_security as taps
from tests.interop.peers import HOST, PSK_IDENTITY, Peer, Running
from tests.interop.programs import GnuTls, OpenSsl
from tests.interop.scripted import ScriptedPeer
from tests.support.pki import SERVER_NAME, Files, Pki

PEERS: Mapping[str, Peer] = {
    "openssl": OpenSsl(),
    "gnutls": GnuTls(),
    "python": ScriptedPeer("python", "ssl"),
    "pyopenssl": ScriptedPeer("pyopenssl", "pyopenssl"),
}
BULK = 20_000_000  # octets each way
PSK = bytes(range(32))
TIMEOUT = 15.0


def client(port: int, pki: Pki, *, tls: Mapping[str, Any] | None = None, **security: Any) -> taps.Preconnection:
    """A Preconnection to a peer on loopback that trusts the test authority."""
    declared: dict[str, Any] = {
        "stacks": ["tls"],
        "trust": taps.Trust.file(str(pki.trust_file)),
        "server_name": SERVER_NAME,
    }
    declared |= security
    if tls:
        declared["options"] = {"tls": taps.TlsOptions(**tls)}
    return taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=HOST, port=port)],
        security_parameters=taps.SecurityParameters(**declared),
    )


class Server:
    """A listener that echoes, and keeps the connections that it had."""

    def __init__(self, listener: taps.Listener) -> None:
        self.listener = listener
        self.port = listener.port
        self.connections: list[taps.Connection] = []
        self._came = asyncio.Event()

    async def handle(self, connection: taps.Connection) -> None:
        """Echo until the peer ends."""
        self.connections.append(connection)
        self._came.set()
        async for message in connection:
            await connection.send(message.data)

    async def connection(self, number: int = 1) -> taps.Connection:
        """The so many-th connection, once it is there."""
        async with asyncio.timeout(TIMEOUT):
            while len(self.connections) < number:
                self._came.clear()
                await self._came.wait()
        return self.connections[number - 1]


@asynccontextmanager
async def server(
    pki: Pki, identity: Files | None, *, tls: Mapping[str, Any] | None = None, **security: Any
) -> AsyncIterator[Server]:
    """Our listener on loopback."""
    declared: dict[str, Any] = {"stacks": ["tls"], **security}
    if identity is not None:
        declared["identity"] = taps.Identity.file(identity.certificate, identity.key)
    if tls:
        declared["options"] = {"tls": taps.TlsOptions(**tls)}
    preconnection = taps.Preconnection(
        local_endpoints=[taps.LocalEndpoint(ip_address=HOST, port=0)],
        security_parameters=taps.SecurityParameters(**declared),
    )
    async with await preconnection.listen() as listener:
        running = Server(listener)
        serving = asyncio.create_task(listener.serve(running.handle))
        try:
            yield running
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def psk(**more: Any) -> dict[str, Any]:
    """Security parameters with the external key that peers know; they do not know the importer."""
    return {"psk": taps.PreSharedKey(PSK_IDENTITY, PSK), "trust": None, "tls": {"import_psk": False}, **more}


async def read_until(connection: taps.Connection, wanted: bytes) -> bytes:
    """What comes until `wanted` is in it."""
    received = b""
    while wanted not in received:
        message = await connection.receive(timeout=TIMEOUT)
        received += message.data
        assert not message.end_of_message or wanted in received, f"the peer ended before {wanted!r}: {received!r}"
    return received


async def swap(connection: taps.Connection, running: Running, text: str = "0ping") -> None:
    """One line each way with a peer that is a server."""
    await connection.send(f"{text}\n".encode())
    await running.heard(text)
    if running.echoes:
        await read_until(connection, text.encode())
    else:
        await running.say(f"9{text}")
        await read_until(connection, f"9{text}".encode())


async def say_and_hear(running: Running, text: str = "0ping") -> None:
    """The facts of a client's connection, and one line to our echo server and back."""
    await running.facts()
    await ask_back(running, text)


async def ask_back(running: Running, text: str = "0ping") -> None:
    """One line to our echo server and back, with a peer that is a client."""
    await running.say(text)
    await running.heard(text)


async def send_and_receive(connection: taps.Connection, data: bytes, octets: int) -> bytes:
    """Send all of `data` while receiving so many octets."""
    received = bytearray()

    async def receive() -> None:
        while len(received) < octets:
            message = await connection.receive(timeout=6 * TIMEOUT)
            received.extend(message.data)
            assert message.data, "the peer ended early"

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive())
        for at in range(0, len(data), 65_536):
            await connection.send(data[at : at + 65_536])
    return bytes(received)


async def refused(establish: Callable[[], Any]) -> taps.TapsError:
    """The error of the only candidate of an establishment that must fail."""
    try:
        connection = await establish()
    except taps.EstablishmentError as error:
        (failure,) = error.failures
        assert isinstance(failure.error, taps.TapsError), repr(failure.error)
        return failure.error
    connection.abort()
    raise AssertionError("the connection was established")
