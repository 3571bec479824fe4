"""A small asyncio program over the seam, for tests: read and write simulated sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from taps_security.simulation import Network, SimulatedListener, SimulatedStream
from taps_security.transport.network import Arrival, DatagramSocket, network_of


async def readable(sock: object) -> None:
    """Until the loop says that a socket is readable."""
    await _until(asyncio.get_running_loop().add_reader, asyncio.get_running_loop().remove_reader, sock)


async def writable(sock: object) -> None:
    """Until the loop says that a socket is writable."""
    await _until(asyncio.get_running_loop().add_writer, asyncio.get_running_loop().remove_writer, sock)


async def _until(add: Callable[..., object], remove: Callable[..., object], sock: object) -> None:
    ready = asyncio.get_running_loop().create_future()
    add(sock, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        remove(sock)


async def connect(host: str, port: int) -> SimulatedStream:
    """Connect from the current host to a numeric address or the first address of a name."""
    network = network_of(asyncio.get_running_loop())
    found = await network.resolve(host, port)
    return await network.connect_stream(found[0][:2])  # type: ignore[return-value]


def listen(port: int, host: str = "0.0.0.0", backlog: int = 512) -> SimulatedListener:
    """Listen on the current host."""
    return network_of(asyncio.get_running_loop()).listen_stream((host, port), backlog)  # type: ignore[return-value]


async def accept(listener: SimulatedListener) -> SimulatedStream:
    """The next connection."""
    await readable(listener)
    return listener.accept()[0]


async def receive(sock: SimulatedStream, size: int = 65_536) -> bytes:
    """What is there, at least one octet; b"" at the end."""
    buffer = bytearray(size)
    while True:
        try:
            return bytes(buffer[: sock.recv_into(memoryview(buffer))])
        except BlockingIOError:
            await readable(sock)


async def receive_all(sock: SimulatedStream) -> bytes:
    """Everything up to the end."""
    whole = bytearray()
    while data := await receive(sock):
        whole += data
    return bytes(whole)


async def send_all(sock: SimulatedStream, data: bytes) -> None:
    """Send everything, waiting for room."""
    view = memoryview(data)
    while view:
        try:
            view = view[sock.send(view) :]
        except BlockingIOError:
            await writable(sock)


async def receive_datagram(sock: DatagramSocket) -> tuple[bytes, Arrival]:
    """The next datagram or run of them."""
    buffer, arrival = bytearray(65_536), Arrival()
    while not sock.receive_into(memoryview(buffer), arrival):
        await readable(sock)
    return bytes(buffer[: arrival.length]), arrival


async def pair(network: Network, port: int = 80) -> tuple[SimulatedStream, SimulatedStream]:
    """A connected pair from host "client" to host "server"; the clock has moved by one and a half round trips."""
    with network.host("server"):
        listener = listen(port)
    with network.host("client"):
        client = await connect("server", port)
    server = await accept(listener)
    listener.close()
    return client, server


async def raised(work: Awaitable[object]) -> BaseException | None:
    """The exception of an awaitable, or None."""
    try:
        await work
    except Exception as error:
        return error
    return None
