"""From a candidate to a Connection: the transport first, then the handshake; cancelling leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from ..stack.errors import LocalError, Reason
from ..stack.layers import PathFacts
from ..stack.stack import SecurityStack
from ..transport.network import Address, Network, StreamOptions, StreamSocket, network_of
from .carrier import StreamCarrier
from .connection import Connection
from .endpoint import Endpoint
from .state import ConnectionState

if TYPE_CHECKING:
    from ..properties.endpoints import LocalEndpoint
    from .tunnel import Tunnel

PhaseDone = Callable[[str], None]  # told the name of each phase as it ends: "connect", "handshake"


def attach_stream(loop: asyncio.AbstractEventLoop, connection: Connection, sock: StreamSocket) -> None:
    """Put a connected socket under a Connection and begin."""
    local, remote = _shared(sock.getsockname()[:2]), sock.getpeername()[:2]
    connection.local_endpoint, connection.remote_endpoint = local, remote
    driver = connection.driver
    carrier = StreamCarrier(loop, sock, driver, 0)
    driver.start(0, PathFacts(local, remote, reliable=True), carrier)
    carrier.resume()


@lru_cache(maxsize=64)
def _shared(address: Address) -> Address:
    """Connections of one listener have one local address: the same object for all of them."""
    return address


async def wait_ready(connection: Connection) -> None:
    """Until the handshake is complete. Raises what ended it; cancelling aborts the connection."""
    waiter = connection.ready_waiter()
    try:
        await waiter
    except BaseException:
        connection.abort()
        raise
    if connection.state is not ConnectionState.ESTABLISHED:
        raise connection.error or LocalError("the connection was aborted", reason=Reason.CONNECTION_ABORTED)


async def establish_stream(
    network: Network,
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], tuple[SecurityStack, Connection]],
    remote: Address,
    local: Address | None = None,
    options: StreamOptions | None = None,
    on_phase: PhaseDone | None = None,
) -> Connection:
    """Connect to `remote`, run the handshake, and return the ready Connection.

    `make` builds the stack only once there is a transport, so that losers of a race cost no key shares. Raises
    OSError from the transport and TapsError from the handshake.
    """
    sock = await network.connect_stream(remote, local, options or StreamOptions())
    if on_phase is not None:
        on_phase("connect")
    try:
        connection = make()[1]
        attach_stream(loop, connection, sock)
    except BaseException:
        sock.close()
        raise
    await wait_ready(connection)
    if on_phase is not None:
        on_phase("handshake")
    return connection


async def establish_datagram(
    network: Network,
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], tuple[SecurityStack, Connection]],
    remote: Address,
    local: Address | None = None,
    on_phase: PhaseDone | None = None,
) -> Connection:
    """Run the handshake over a datagram socket of its own, connected to `remote`; the ready Connection.

    Raises OSError from the socket and TapsError from the handshake.
    """
    connection = make()[1]
    sock = network.open_datagram(local or ("", 0), remote)
    endpoint = Endpoint(loop, sock, random=os.urandom)
    if on_phase is not None:
        on_phase("connect")
    connection.local_endpoint, connection.remote_endpoint = sock.local, remote
    endpoint.connect(connection.driver, remote)
    await wait_ready(connection)
    if on_phase is not None:
        on_phase("handshake")
    return connection


async def establish_inside(tunnel: Tunnel, remote: Address, local: Address, on_phase: PhaseDone) -> Connection:
    """An inner flow to `remote`, ready when the peer's stack is."""
    tunnel.use()
    try:
        connection = await tunnel.connect(remote, local)
    finally:
        tunnel.release()
    on_phase("connect")
    await wait_ready(connection)
    on_phase("handshake")
    return connection


def move(loop: asyncio.AbstractEventLoop, connection: Connection, local: LocalEndpoint | None) -> None:
    """Give a connection a path from another local address, and let its stack use it from now on.

    The path before stays open for what is still under way on it; older ones are let go of.
    """
    driver, remote = connection.driver, connection.remote_endpoint
    endpoint = driver.owner
    if not isinstance(endpoint, Endpoint) or remote is None:
        raise LocalError("migrate(): a byte stream cannot move", reason=Reason.NOT_SUPPORTED)
    if endpoint.shared:
        raise LocalError("migrate(): the socket serves others too", reason=Reason.NOT_SUPPORTED)
    address = ("", 0) if local is None else (local.ip_address or "", local.port or 0)
    sock = network_of(loop).open_datagram(address, remote)
    further = Endpoint(loop, sock, random=os.urandom, paths=endpoint.paths)
    former = driver.paths
    path = further.join(driver, remote)
    try:
        driver.stack.migrate(path, loop.time())
    except LocalError:
        driver.drop_path(path)
        driver.owner = endpoint
        raise
    driver.pump()
    connection.local_endpoint = sock.local
    for old in former[:-1]:
        driver.drop_path(old)
