"""The same works through the public API of taps_security, in the shapes `bytes` and `views`.

`bytes` receives with `receive()`, `views` with `receive_views()`; all sends are awaited. The ciphersuite is the one
that the peers agree on (TLS_AES_256_GCM_SHA384, the first of OpenSSL's list). Settings: `tickets` as for the peers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import taps_security as taps

if TYPE_CHECKING:  # the start-up measurement loads this module alone
    from benchmarks.jobs import Job

HOST = "127.0.0.1"
SERVER_NAME = "server.example"
CLIENT_NAME = "client.example"
CIPHERSUITES: Any = ("TLS_AES_256_GCM_SHA384",)  # by name
REPLY = b"k"


# -- what both sides declare ----------------------------------------------------------------------------------------
def listening(job: Job) -> taps.Preconnection:
    """A server with the benchmark's certificate; with `mutual` it demands and checks the client's."""
    options = taps.TlsOptions(ciphersuites=CIPHERSUITES, tickets=job.settings.get("tickets", 2))
    return taps.Preconnection(
        local_endpoints=[taps.LocalEndpoint(ip_address=HOST, port=0)],
        security_parameters=taps.SecurityParameters(
            require={"mutual_authentication"} if job.mutual else (),
            identity=_identity(job, SERVER_NAME),
            trust=taps.Trust.file(job.credential("ca.pem")) if job.mutual else None,
            stacks=["tls/1.3"],
            options={"tls": options},
        ),
    )


def initiating(job: Job) -> taps.Preconnection:
    """A client that checks the server's chain and name, and shows its own certificate with `mutual`."""
    return taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=HOST, port=job.port)],
        security_parameters=taps.SecurityParameters(
            identity=_identity(job, CLIENT_NAME) if job.mutual else None,
            trust=taps.Trust.file(job.credential("ca.pem")),
            server_name=SERVER_NAME,
            stacks=["tls/1.3"],
            options={"tls": taps.TlsOptions(ciphersuites=CIPHERSUITES)},
        ),
    )


def _identity(job: Job, name: str) -> taps.Identity:
    return taps.Identity.file(job.credential(f"{name}.pem"), job.credential(f"{name}.key"))


# -- server ---------------------------------------------------------------------------------------------------------
async def count_bytes(connection: taps.Connection, marks: list[int]) -> None:
    """Count what comes, as bytes, and reply at the marks."""
    received = 0
    for mark in marks:
        while received < mark:
            message = await connection.receive()
            received += len(message.data)
        await connection.send(REPLY)
    await connection.receive()


async def count_views(connection: taps.Connection, marks: list[int]) -> None:
    """Count what comes, as lent views, and reply at the marks."""
    received = 0
    for mark in marks:
        while received < mark:
            for view in await connection.receive_views():
                received += len(view)
        await connection.send(REPLY)
    await connection.receive()


async def echo(connection: taps.Connection) -> None:
    """Send back what comes."""
    async for message in connection:
        await connection.send(message.data)


async def greet(connection: taps.Connection) -> None:
    """One octet, then wait for the end."""
    await connection.send(REPLY)
    await connection.receive()


async def serve(job: Job) -> tuple[int, object]:
    """Start the server of the job's work: its port, and what keeps it alive."""
    listener = await listening(job).listen()
    count = count_views if job.shape == "views" else count_bytes
    unit = 1 if job.work == "bulk" else job.size
    marks = [job.warm * unit, (job.warm + job.count) * unit]

    async def handle(connection: taps.Connection) -> None:
        if job.work in {"bulk", "sends"}:
            await count(connection, marks)
        elif job.work == "handshakes":
            await greet(connection)
        else:
            await echo(connection)

    return listener.port, asyncio.create_task(listener.serve(handle))


# -- client ---------------------------------------------------------------------------------------------------------
class Rounds:
    """The works on one connection."""

    def __init__(self, connection: taps.Connection, size: int) -> None:
        self.connection = connection
        self.size = size

    async def bulk(self, count: int) -> None:
        """`count` octets, then the server's reply."""
        await self.sends(count // self.size)

    async def sends(self, count: int) -> None:
        """`count` sends, then the server's reply."""
        connection, chunk = self.connection, bytes(self.size)
        for _ in range(count):
            await connection.send(chunk)
        await connection.receive()

    async def echo(self, count: int) -> None:
        """`count` round trips."""
        connection, size, message = self.connection, self.size, bytes(self.size)
        for _ in range(count):
            await connection.send(message)
            received = 0
            while received < size:
                received += len((await connection.receive()).data)


async def work(job: Job) -> float:
    """Do the client's half of the job's work: its value."""
    from benchmarks import clock

    preconnection = initiating(job)

    async def handshake() -> None:
        connection = await preconnection.initiate()
        await connection.receive()
        await connection.close()

    async def echoed() -> taps.Connection:
        connection = await preconnection.initiate()
        await Rounds(connection, job.size).echo(1)
        return connection

    if job.work == "handshakes":
        return await clock.handshake_rate(job, handshake)
    if job.work == "idle":
        return await clock.idle_memory(job, echoed)
    connections = [Rounds(await preconnection.initiate(), job.size) for _ in range(job.connections)]
    return await clock.rate_of_many(job, [getattr(connection, job.work) for connection in connections])


async def echo_once(port: int, authority: str, message: bytes) -> bytes:
    """One verified echo, for the start-up measurement."""
    preconnection = taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=HOST, port=port)],
        security_parameters=taps.SecurityParameters(trust=taps.Trust.file(authority), server_name=SERVER_NAME),
    )
    connection = await preconnection.initiate()
    await connection.send(message)
    return bytes((await connection.receive(min_incomplete_length=len(message))).data)
