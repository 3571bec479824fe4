"""A client and a server on the simulated network, through the public API, and a look at what they left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import taps_security as taps
from taps_security import simulation
from taps_security.simulation import Network, SimulatedStream
from tests.support.pki import Pki
from tests.support.service import Handler, client_security, echo, server_security

T = TypeVar("T")

DELAY = 0.02  # seconds each way between client and server
ROUND_TRIP = 2 * DELAY
PORT = 443
APPLICATION_DATA = 23


def simulate(main: Callable[[Network], Awaitable[T]], *, seed: int = 1) -> T:
    """Run `main` and see that no socket, task or timer stays behind."""

    async def whole(network: Network) -> T:
        result = await main(network)
        await asyncio.sleep(2000)  # whatever is on its way arrives, and what is given up is given up
        tasks = asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]
        assert not tasks, f"tasks left behind: {tasks}"
        assert not network.open_sockets(), f"sockets left behind: {network.open_sockets()}"
        timers = [timer for timer in network.loop._scheduled if not timer.cancelled()]
        assert not timers, f"timers left behind: {timers}"
        return result

    return simulation.run(whole, seed=seed)


@asynccontextmanager
async def serving(
    network: Network,
    pki: Pki,
    handler: Handler = echo,
    *,
    host: str = "server",
    listen: dict[str, Any] | None = None,
    transport: taps.TransportProperties | None = None,
    **security: Any,
) -> AsyncIterator[taps.Listener]:
    """A service on port 443 of a host; gone, with all of its connections, at the end."""
    preconnection = taps.Preconnection(
        [taps.LocalEndpoint(port=PORT)],
        security_parameters=server_security(pki, **security),
        transport_properties=transport,
    )
    with network.host(host):
        listener = await preconnection.listen(**(listen or {}))
        task = asyncio.create_task(listener.serve(handler))
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])


def towards(pki: Pki, *names: str, transport: taps.TransportProperties | None = None, **security: Any) -> Any:
    """A Preconnection to port 443 of hosts or names."""
    remotes = [taps.RemoteEndpoint(host_name=name, port=PORT) for name in names or ("server",)]
    return taps.Preconnection(
        remote_endpoints=remotes,
        security_parameters=client_security(pki, **security),
        transport_properties=transport,
    )


async def initiate(network: Network, preconnection: taps.Preconnection, **settings: Any) -> taps.Connection:
    """A ready connection from host "client"."""
    with network.host("client"):
        return await preconnection.initiate(**settings)


async def connected(network: Network, pki: Pki, **settings: Any) -> taps.Connection:
    """A ready connection from host "client" to host "server"."""
    return await initiate(network, towards(pki, **settings))


async def ask(connection: taps.Connection, question: bytes = b"question") -> None:
    """Hear an echo."""
    await connection.send(question)
    answer = b""
    while len(answer) < len(question):
        answer += (await connection.receive()).data
    assert answer == question


def records(network: Network, sender: str = "client") -> list[tuple[float, int, int]]:
    """The TLS records of a host as they left: time, content type, length. Wants `network.record_data`, no losses."""
    found = []
    held, begun = b"", 0.0
    for entry in network.trace:
        if entry.sender != sender or entry.kind != "DATA" or entry.data is None:
            continue
        begun = begun if held else entry.time
        held += entry.data
        while len(held) >= 5 and len(held) >= 5 + int.from_bytes(held[3:5], "big"):
            length = int.from_bytes(held[3:5], "big")
            found.append((begun, held[0], length))
            held, begun = held[5 + length :], entry.time
    assert not held, "an unfinished record"
    return found


def left_at(network: Network, octets: int, sender: str = "client") -> float:
    """When the one record with that many application octets left."""
    (time,) = (time for time, kind, length in records(network, sender) if (kind, length) == (23, octets + 17))
    return time


def packets(network: Network, kind: str, sender: str = "client") -> list[tuple[float, str]]:
    """When packets of a kind left, and to which address."""
    return [
        (entry.time, entry.destination[0]) for entry in network.trace if (entry.sender, entry.kind) == (sender, kind)
    ]


def stream_of(network: Network, host: str) -> SimulatedStream:
    """The one open byte stream of a host."""
    (stream,) = (stream for stream in network.streams() if stream.host.name == host)
    return stream


async def failure(work: Awaitable[object]) -> Any:
    """What an awaitable raises; for an EstablishmentError of one candidate, why that one failed."""
    try:
        await work
    except taps.EstablishmentError as error:
        (only,) = error.failures
        return only.error
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
