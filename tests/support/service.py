"""A secured echo service and its clients through the public API, for tests of that API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import taps_security as taps
from tests.support.pki import SERVER_NAME, Pki

Handler = Callable[[taps.Connection], Awaitable[None]]


async def echo(connection: taps.Connection) -> None:
    """Everything back, and the end behind it."""
    async for message in connection:
        await connection.send(message.data)
    await connection.send(b"", final=True)


def server_security(pki: Pki, **changes: Any) -> taps.SecurityParameters:
    """A server with the usual certificate."""
    changes.setdefault("identity", taps.Identity(pki.leaf()))
    return taps.SecurityParameters(**changes)


def client_security(pki: Pki, **changes: Any) -> taps.SecurityParameters:
    """A client that trusts the usual authority."""
    changes.setdefault("trust", taps.Trust.file(str(pki.trust_file)))
    changes.setdefault("server_name", SERVER_NAME)
    return taps.SecurityParameters(**changes)


def towards(port: int, security: taps.SecurityParameters, **changes: Any) -> taps.Preconnection:
    """A Preconnection to a port of loopback."""
    remote = taps.RemoteEndpoint(ip_address="127.0.0.1", port=port)
    return taps.Preconnection(remote_endpoints=[remote], security_parameters=security, **changes)


@asynccontextmanager
async def service(
    pki: Pki, handler: Handler = echo, *, listen: dict[str, Any] | None = None, **changes: Any
) -> AsyncIterator[taps.Listener]:
    """A listener on a free port whose connections `handler` serves; gone, with all of them, at the end."""
    local = taps.LocalEndpoint(ip_address="127.0.0.1", port=0)
    preconnection = taps.Preconnection([local], security_parameters=server_security(pki, **changes))
    listener = await preconnection.listen(**(listen or {}))
    task = asyncio.create_task(listener.serve(handler))
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])


async def connect(pki: Pki, listener: taps.Listener, **changes: Any) -> taps.Connection:
    """A ready connection to a service."""
    return await towards(listener.port, client_security(pki, **changes)).initiate(timeout=5)


async def receive_all(connection: taps.Connection) -> bytes:
    """Everything up to the peer's end."""
    return b"".join([bytes(message.data) async for message in connection])
