"""asyncio's own stream API over any stream stack: StreamReader and StreamWriter on a Connection.

Existing code keeps its shape: `open_connection()` and `start_server()` stand where asyncio's do, and the writer's
`get_extra_info("connection")` is the Connection. `start_tls()` secures a stream that is already open.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from ..properties.endpoints import LocalEndpoint, RemoteEndpoint
from ..properties.messages import Message
from ..properties.security import SecurityParameters
from ..properties.transport import TransportProperties
from ..stack.errors import ConfigurationError
from ..transport.network import Address
from .connection import Connection
from .listener import Listener
from .preconnection import HANDSHAKE_TIMEOUT, Preconnection
from .state import ConnectionState

StreamPair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

DEFAULT_LIMIT = 1 << 16  # octets, as asyncio's streams have it


class ConnectionTransport(asyncio.Transport):
    """An asyncio transport whose octets go through a Connection."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection: Connection, protocol: asyncio.StreamReaderProtocol
    ) -> None:
        super().__init__({"connection": connection})
        self._loop = loop
        self._connection = connection
        self._protocol: asyncio.BaseProtocol = protocol
        self._backlog: deque[bytes] = deque()  # what the connection did not take yet
        self._eof = False
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        callbacks = connection.callbacks
        callbacks.on_received = self._received
        callbacks.on_writable = self._writable
        callbacks.on_closed = self._lost
        callbacks.on_connection_error = self._lost
        protocol.connection_made(self)

    # -- reading --------------------------------------------------------------------------------------------------
    def _received(self, connection: Connection, message: Message) -> None:
        protocol: Any = self._protocol
        if message.data:
            protocol.data_received(message.data)
        if message.end_of_message:
            protocol.eof_received()

    def pause_reading(self) -> None:
        """What comes stays with the connection, which stops reading when it holds enough."""
        self._connection.callbacks.on_received = None

    def resume_reading(self) -> None:
        """Octets go to the protocol again."""
        self._connection.callbacks.on_received = self._received

    def is_reading(self) -> bool:
        """False while paused."""
        return self._connection.callbacks.on_received is not None

    # -- writing --------------------------------------------------------------------------------------------------
    def write(self, data: Any) -> None:
        """Queue octets; the protocol is told to pause when the connection takes no more."""
        if self._eof:
            raise RuntimeError("write() after write_eof()")
        if not data or self._closing:
            return
        octets = bytes(data)
        if self._backlog or not self._connection.try_send(octets):
            self._backlog.append(octets)
            self._protocol.pause_writing()

    def _writable(self, connection: Connection) -> None:
        backlog = self._backlog
        while backlog and self._connection.try_send(backlog[0]):
            backlog.popleft()
        if not backlog:
            self._protocol.resume_writing()
            if self._eof:
                self._connection.try_send(b"", final=True)
            elif self._closing:
                self._close_now()

    def can_write_eof(self) -> bool:
        """Half close is there."""
        return True

    def write_eof(self) -> None:
        """End our stream behind what is queued."""
        if not self._eof:
            self._eof = True
            if not self._backlog:
                self._connection.try_send(b"", final=True)

    def get_write_buffer_size(self) -> int:
        """Octets that the connection did not take yet."""
        return sum(map(len, self._backlog))

    # -- ends -----------------------------------------------------------------------------------------------------
    def is_closing(self) -> bool:
        """True once close() or abort() was called, or the connection ended."""
        return self._closing or self._connection.state is ConnectionState.CLOSED

    def close(self) -> None:
        """Close behind what is queued."""
        if not self._closing:
            self._closing = True
            if not self._backlog:
                self._close_now()

    def _close_now(self) -> None:
        if self._task is None and self._connection.state is not ConnectionState.CLOSED:
            self._task = self._loop.create_task(self._connection.close())

    def abort(self) -> None:
        """End at once."""
        self._closing = True
        self._connection.abort()

    def _lost(self, connection: Connection, error: Exception | None = None) -> None:
        self._backlog.clear()
        self._closing = True
        self._loop.call_soon(self._protocol.connection_lost, error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol in use."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`connection`, `peername` and `sockname`."""
        if name == "peername":
            return self._connection.remote_endpoint
        if name == "sockname":
            return self._connection.local_endpoint
        return super().get_extra_info(name, default)


def stream_pair(connection: Connection, *, limit: int = DEFAULT_LIMIT) -> StreamPair:
    """A reader and a writer over a ready Connection, which they own from now on."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = ConnectionTransport(loop, connection, protocol)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def open_connection(
    host: str | None = None,
    port: int | None = None,
    *,
    sock: socket.socket | None = None,
    security: SecurityParameters | None = None,
    transport: TransportProperties | None = None,
    timeout: float | None = None,
    limit: int = DEFAULT_LIMIT,
) -> StreamPair:
    """As asyncio.open_connection(), over whatever stream stack `security` and `transport` ask for.

    `host`: a name or an address; with `sock`, a connected socket, it only says whom we mean. `timeout`: seconds.
    Raises ConfigurationError and EstablishmentError as Preconnection.initiate() does.
    """
    remotes = [] if host is None else [_remote(host, port)]
    preconnection = Preconnection([], remotes, transport, security)
    if sock is None:
        return stream_pair(await preconnection.initiate(timeout=timeout), limit=limit)
    return stream_pair(await preconnection.adopt(sock, handshake_timeout=timeout or HANDSHAKE_TIMEOUT), limit=limit)


def _remote(host: str, port: int | None) -> RemoteEndpoint:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return RemoteEndpoint(host_name=host, port=port)
    return RemoteEndpoint(ip_address=host, port=port)


class StreamServer:
    """What start_server() returns, with the verbs of asyncio.Server. Leaving the `async with` closes it."""

    def __init__(self, listener: Listener, task: asyncio.Task[None]) -> None:
        self.listener = listener
        self._task = task

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens, with the real ports."""
        return self.listener.addresses

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return not self.listener.stopped

    def close(self) -> None:
        """Accept nothing more; what is served goes on until it ends."""
        self.listener.stop()

    async def wait_closed(self) -> None:
        """Until it is closed and nothing is served any more."""
        await asyncio.wait([self._task])

    async def serve_forever(self) -> None:
        """Until cancelled, which ends everything that is served."""
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise

    async def __aenter__(self) -> StreamServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def start_server(
    client_connected: ClientConnected,
    host: str | None = None,
    port: int = 0,
    *,
    security: SecurityParameters,
    transport: TransportProperties | None = None,
    limit: int = DEFAULT_LIMIT,
) -> StreamServer:
    """As asyncio.start_server(): `client_connected(reader, writer)` runs in a task for each secured connection.

    `host`: an address to listen on; None: all of them. Raises as Preconnection.listen() does.
    """
    local = LocalEndpoint(ip_address=host, port=port)
    listener = await Preconnection([local], [], transport, security).listen()

    async def handle(connection: Connection) -> None:
        reader, writer = stream_pair(connection, limit=limit)
        try:
            await client_connected(reader, writer)
        finally:
            writer.close()
            await connection.wait_closed()

    return StreamServer(listener, asyncio.get_running_loop().create_task(listener.serve(handle)))


async def start_tls(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    security: SecurityParameters,
    server_name: str | None = None,
    server_side: bool = False,
    timeout: float = HANDSHAKE_TIMEOUT,
    limit: int = DEFAULT_LIMIT,
) -> StreamPair:
    """Secure an asyncio stream that is already open (STARTTLS): a new pair, which replaces the old one.

    Both sides must have agreed to begin now. `server_name`: whom the client means. `timeout`: seconds for the
    handshake. Raises ConfigurationError if octets of the peer wait to be read already, or for what `security` lacks.
    """
    if server_name is not None:
        security = security.replace(server_name=server_name)
    preconnection = Preconnection([], [], None, security)
    sock = await take_socket(reader, writer)
    connection = await preconnection.adopt(sock, accepted=server_side, handshake_timeout=timeout)
    return stream_pair(connection, limit=limit)


async def take_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> socket.socket:
    """The socket under an asyncio stream, which ends without closing the connection.

    Raises ConfigurationError if octets were read already: whoever sent them before the handshake is not authenticated,
    and they must not be taken for protected ones (the STARTTLS injection of CVE-2011-0411).
    """
    transport: Any = writer.transport
    transport.pause_reading()
    await writer.drain()
    if getattr(reader, "_buffer", b""):
        transport.resume_reading()
        raise ConfigurationError("start_tls(): octets of the peer arrived before the handshake; read them first")
    under = transport.get_extra_info("socket")
    if under is None:
        raise ConfigurationError("start_tls(): the stream has no socket under it")
    while transport.get_write_buffer_size():  # noqa: ASYNC110 -- drain() waits for the low-water mark only
        await asyncio.sleep(0.001)
    sock = socket.socket(fileno=os.dup(under.fileno()))
    sock.setblocking(False)
    transport.abort()
    return sock
