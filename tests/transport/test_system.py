"""The machine's own network, on loopback, on both loops."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from taps_security.transport.network import Arrival, StreamOptions
from taps_security.transport.system import SystemNetwork

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


@pytest.fixture
async def network() -> SystemNetwork:
    return SystemNetwork(asyncio.get_running_loop())


async def accepted(listening):
    """The next connection."""
    loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    loop.add_reader(listening, lambda: future.done() or future.set_result(None))
    await asyncio.wait_for(future, 2)
    loop.remove_reader(listening)
    return listening.accept()[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_streams_connect_and_carry_octets(network, host) -> None:
    listening = network.listen_stream((host, 0))
    client = await network.connect_stream(listening.getsockname()[:2], options=StreamOptions(keep_alive=True))
    server = await accepted(listening)
    assert client.send(memoryview(b"hello")) == 5
    buffer = bytearray(10)
    await asyncio.sleep(0.01)
    assert server.recv_into(memoryview(buffer)) == 5
    with pytest.raises(BlockingIOError):
        client.recv_into(memoryview(buffer))
    assert client.getpeername()[:2] == listening.getsockname()[:2]
    for sock in (client, server, listening):
        sock.close()


async def test_what_a_listener_accepts_has_its_options(network) -> None:
    listening = network.listen_stream(("127.0.0.1", 0), options=StreamOptions(no_delay=True, keep_alive=True))
    client = await network.connect_stream(listening.getsockname())
    server = await accepted(listening)
    assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    for sock in (client, server, listening):
        sock.close()


async def test_a_source_address_is_kept(network) -> None:
    listening = network.listen_stream(("127.0.0.1", 0))
    client = await network.connect_stream(listening.getsockname(), ("127.0.0.4", 0))
    assert client.getsockname()[0] == "127.0.0.4"
    client.close()
    listening.close()


async def test_errors_are_the_systems_and_leave_no_socket(network) -> None:
    listening = network.listen_stream(("127.0.0.1", 0))
    address = listening.getsockname()
    with pytest.raises(OSError, match=f"127.0.0.1:{address[1]}") as caught:
        network.listen_stream(address)
    assert caught.value.errno == errno.EADDRINUSE
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        await network.connect_stream(address)


async def test_cancelling_closes_the_socket(network) -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=1)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    task = asyncio.ensure_future(network.connect_stream(full.getsockname()))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for sock in (full, *fillers):
        sock.close()


async def test_several_listeners_share_a_port_if_they_ask_for_it(network) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("no SO_REUSEPORT here")
    one = network.listen_stream(("127.0.0.1", 0), reuse_port=True)
    other = network.listen_stream(one.getsockname(), reuse_port=True)
    one.close()
    other.close()


async def test_ipv4_and_ipv6_listen_on_one_port(network) -> None:
    one = network.listen_stream(("0.0.0.0", 0))
    other = network.listen_stream(("::", one.getsockname()[1]))
    one.close()
    other.close()


async def test_datagrams(network) -> None:
    server = network.open_datagram(("127.0.0.1", 0))
    client = network.open_datagram(("", 0), server.local)
    client.send(memoryview(b"hello"), 0, server.local, None, 0)
    await asyncio.sleep(0.01)
    buffer, arrival = bytearray(100), Arrival()
    assert server.receive_into(memoryview(buffer), arrival)
    assert arrival.remote == client.local
    client.close()
    server.close()


async def test_datagram_sockets_share_a_port_if_they_ask_for_it(network) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("no SO_REUSEPORT here")
    one = network.open_datagram(("127.0.0.1", 0), reuse_port=True)
    other = network.open_datagram(one.local, reuse_port=True)
    assert one.local == other.local
    with pytest.raises(OSError, match="in use"):
        network.open_datagram(one.local)
    one.close()
    other.close()


async def test_all_ports_are_of_one_place(network) -> None:
    assert network.place() == SystemNetwork(asyncio.get_running_loop()).place()


async def test_names_resolve_to_numbers(network) -> None:
    found = await network.resolve("localhost", 4433)
    assert ("127.0.0.1", 4433, socket.AF_INET) in found
    assert await network.resolve("::1", "http", socket.AF_INET6) == [("::1", 80, socket.AF_INET6)]
    with pytest.raises(socket.gaierror):
        await network.resolve("127.0.0.1", 1, socket.AF_INET6)
