"""Python's own TLS, on asyncio and on uvloop, in the shapes `streams`, `protocol` and `buffered`.

Settings: `read` octets per read (streams) or of the receive buffer (buffered), `high` the high-water mark of the
sender, `tickets` the session tickets of a handshake. TCP_NODELAY is on: both loops set it themselves.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

from benchmarks import clock
from benchmarks.jobs import CLIENT_NAME, REPLY, SERVER_NAME, Job

HOST = "127.0.0.1"


def server_context(job: Job) -> ssl.SSLContext:
    """TLS 1.3 alone; with `mutual` the client's chain is required and checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(job.credential(f"{SERVER_NAME}.pem"), job.credential(f"{SERVER_NAME}.key"))
    if job.mutual:
        context.load_verify_locations(job.credential("ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
    if "tickets" in job.settings:
        context.num_tickets = job.settings["tickets"]
    return context


def client_context(job: Job) -> ssl.SSLContext:
    """Checks the server's chain and name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(job.credential("ca.pem"))
    if job.mutual:
        context.load_cert_chain(job.credential(f"{CLIENT_NAME}.pem"), job.credential(f"{CLIENT_NAME}.key"))
    return context


def marks(job: Job) -> list[int]:
    """The totals at which a server that only counts answers: the end of the warm-up, and of the work."""
    unit = 1 if job.work == "bulk" else job.size
    return [job.warm * unit, (job.warm + job.count) * unit]


# -- streams ----------------------------------------------------------------------------------------------------------
async def serve_streams(job: Job) -> tuple[int, object]:
    """A server of StreamReader and StreamWriter."""
    size = job.settings.get("read", 65536)

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = 0
        for mark in marks(job):
            while received < mark:
                received += len(await reader.read(size))
            writer.write(REPLY)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(size):
            writer.write(data)
            await writer.drain()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REPLY)
        await reader.read(1)
        writer.close()

    handler = {"bulk": count, "sends": count, "handshakes": greet}.get(job.work, echo)
    server = await asyncio.start_server(handler, HOST, 0, ssl=server_context(job), limit=size, backlog=512)
    return server.sockets[0].getsockname()[1], server


async def work_streams(job: Job) -> float:
    """The client's half of every work, with StreamReader and StreamWriter."""
    context = client_context(job)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(HOST, job.port, ssl=context, server_hostname=SERVER_NAME)

    async def handshake() -> None:
        reader, writer = await connect()
        await reader.readexactly(1)
        writer.close()
        await writer.wait_closed()

    async def echoed() -> StreamRounds:
        rounds = StreamRounds(*await connect(), job)
        await rounds.echo(1)
        return rounds

    if job.work == "handshakes":
        return await clock.handshake_rate(job, handshake)
    if job.work == "idle":
        return await clock.idle_memory(job, echoed)
    connections = [StreamRounds(*await connect(), job) for _ in range(job.connections)]
    return await clock.rate_of_many(job, [getattr(connection, job.work) for connection in connections])


class StreamRounds:
    """The works on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, job: Job) -> None:
        self.reader = reader
        self.writer = writer
        self.size = job.size
        if "high" in job.settings:
            writer.transport.set_write_buffer_limits(high=job.settings["high"])

    async def bulk(self, count: int) -> None:
        """`count` octets, then the server's reply."""
        await self.sends(count // self.size)

    async def sends(self, count: int) -> None:
        """`count` sends, then the server's reply."""
        writer, chunk = self.writer, bytes(self.size)
        for _ in range(count):
            writer.write(chunk)
            await writer.drain()
        await self.reader.readexactly(1)

    async def echo(self, count: int) -> None:
        """`count` round trips."""
        reader, writer, size, message = self.reader, self.writer, self.size, bytes(self.size)
        for _ in range(count):
            writer.write(message)
            await writer.drain()
            await reader.readexactly(size)


# -- protocols --------------------------------------------------------------------------------------------------------
class Link:
    """One connection: `send` waits while the transport is above its high-water mark, `receive` for octets."""

    transport: asyncio.Transport

    def __init__(self, job: Job) -> None:
        self.job = job
        self.size = job.size
        self.received = 0
        self.resumed: asyncio.Future[None] | None = None
        self.arrived: asyncio.Future[None] | None = None
        self.ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if "high" in self.job.settings:
            self.transport.set_write_buffer_limits(high=self.job.settings["high"])

    def connection_lost(self, exc: Exception | None) -> None:
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def eof_received(self) -> bool | None:
        return None

    def took(self, data: bytes | bytearray, count: int) -> None:
        """`count` octets have come, at the beginning of `data`."""
        self.received += count
        if self.arrived is not None and not self.arrived.done():
            self.arrived.set_result(None)

    def pause_writing(self) -> None:
        self.resumed = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self.resumed is not None:
            self.resumed.set_result(None)
            self.resumed = None

    async def send(self, data: bytes) -> None:
        """Hand `data` over; wait while the transport is full."""
        self.transport.write(data)
        if self.resumed is not None:
            await self.resumed

    async def receive(self, count: int) -> None:
        """Wait until `count` octets are here, and take them."""
        while self.received < count:
            self.arrived = asyncio.get_running_loop().create_future()
            await self.arrived
        self.received -= count

    async def close(self) -> None:
        """Close and wait for the end."""
        self.ended = asyncio.get_running_loop().create_future()
        self.transport.close()
        await self.ended

    async def bulk(self, count: int) -> None:
        """`count` octets, then the server's reply."""
        await self.sends(count // self.size)

    async def sends(self, count: int) -> None:
        """`count` sends, then the server's reply."""
        chunk = bytes(self.size)
        for _ in range(count):
            await self.send(chunk)
        await self.receive(1)

    async def echo(self, count: int) -> None:
        """`count` round trips."""
        message = bytes(self.size)
        for _ in range(count):
            await self.send(message)
            await self.receive(self.size)


class Counting(Link):
    """Server: counts, and replies at the marks."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.marks = marks(job)

    def took(self, data: bytes | bytearray, count: int) -> None:
        self.received += count
        while self.marks and self.received >= self.marks[0]:
            self.marks.pop(0)
            self.transport.write(REPLY)


class Echoing(Link):
    """Server: sends back."""

    def took(self, data: bytes | bytearray, count: int) -> None:
        self.transport.write(data[:count])


class Greeting(Link):
    """Server: one octet once the handshake is over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(REPLY)


class Plain(asyncio.Protocol):
    """Octets come as `bytes`."""

    took: Callable[[bytes, int], None]

    def data_received(self, data: bytes) -> None:
        self.took(data, len(data))


class Buffered(asyncio.BufferedProtocol):
    """Octets come in one buffer for all connections: what it holds is used before `buffer_updated` returns."""

    took: Callable[[bytearray, int], None]
    buffer: bytearray

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.took(self.buffer, nbytes)


def link_class(kind: type[Link], job: Job) -> type[Any]:
    """`kind` as a protocol of the job's shape."""
    if job.shape == "protocol":
        return type(kind.__name__, (kind, Plain), {})
    return type(kind.__name__, (kind, Buffered), {"buffer": bytearray(job.settings.get("read", 65536))})


async def serve_links(job: Job) -> tuple[int, object]:
    """A server of one Link for each connection."""
    kinds = {"bulk": Counting, "sends": Counting, "handshakes": Greeting}
    kind = link_class(kinds.get(job.work, Echoing), job)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: kind(job), HOST, 0, ssl=server_context(job), backlog=512)
    return server.sockets[0].getsockname()[1], server


async def work_links(job: Job) -> float:
    """The client's half of every work, with Links."""
    loop = asyncio.get_running_loop()
    context = client_context(job)
    kind = link_class(Link, job)

    async def connect() -> Link:
        _, link = await loop.create_connection(
            lambda: kind(job), HOST, job.port, ssl=context, server_hostname=SERVER_NAME
        )
        return cast(Link, link)

    async def handshake() -> None:
        link = await connect()
        await link.receive(1)
        await link.close()

    async def echoed() -> Link:
        link = await connect()
        await link.echo(1)
        return link

    if job.work == "handshakes":
        return await clock.handshake_rate(job, handshake)
    if job.work == "idle":
        return await clock.idle_memory(job, echoed)
    links = [await connect() for _ in range(job.connections)]
    return await clock.rate_of_many(job, [getattr(link, job.work) for link in links])


async def serve(job: Job) -> tuple[int, object]:
    """Start the server of the job's shape: its port, and what keeps it alive."""
    return await (serve_streams if job.shape == "streams" else serve_links)(job)


async def work(job: Job) -> float:
    """Do the client's half of the job's work: its value."""
    return await (work_streams if job.shape == "streams" else work_links)(job)
