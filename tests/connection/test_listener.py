"""A Listener: what it accepts, bounds and drops."""

from __future__ import annotations

import asyncio
import socket

import pytest

import taps_security as taps
from tests.support.pki import Pki
from tests.support.service import connect, echo, service

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


async def silent(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    return sock


async def test_port_0_is_read_back_and_connections_are_iterated(pki: Pki) -> None:
    async with service(pki) as listener:
        assert listener.port > 0
        async with await connect(pki, listener) as one, await connect(pki, listener) as two:
            for connection in (one, two):
                await connection.send(b"x")
                assert (await connection.receive()).data == b"x"


async def test_half_open_connections_are_bounded_and_established_ones_go_on(pki: Pki) -> None:
    async with service(pki, listen={"max_establishing": 8}) as listener:
        async with await connect(pki, listener) as connection:
            flood = [await silent(listener.port) for _ in range(40)]
            await connection.send(b"x")
            assert (await connection.receive(timeout=5)).data == b"x"
            while listener.dropped < 32:
                await asyncio.sleep(0.01)
            assert listener.dropped == 32
            for sock in flood:
                sock.close()


async def test_a_silent_client_has_so_many_seconds(pki: Pki) -> None:
    async with service(pki, listen={"handshake_timeout": 0.2}) as listener:
        sock = await silent(listener.port)
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), 5)
        assert len(data) in {0, 14}  # nothing, or user_canceled and close_notify
        sock.close()


async def test_a_limit_of_new_connections(pki: Pki) -> None:
    async with service(pki) as listener:
        listener.set_new_connection_limit(1)
        async with await connect(pki, listener) as connection:
            await connection.send(b"x")
            await connection.receive()
            with pytest.raises(taps.EstablishmentError):
                await connect_soon(pki, listener)


async def connect_soon(pki: Pki, listener: taps.Listener) -> None:
    from tests.support.service import client_security, towards

    await towards(listener.port, client_security(pki)).initiate(timeout=0.3)


async def test_a_failing_handler_ends_its_own_connection_only(pki: Pki) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def fragile(connection: taps.Connection) -> None:
        if (await connection.receive()).data == b"fail":
            raise RuntimeError("on purpose")
        await connection.send(b"fine")
        await echo(connection)

    async with service(pki, fragile) as listener:
        first = await connect(pki, listener)
        await first.send(b"fail")
        with pytest.raises(taps.RemoteError):
            await first.receive()
        async with await connect(pki, listener) as second:
            await second.send(b"go")
            assert (await second.receive()).data == b"fine"
    assert isinstance(told[0]["exception"], RuntimeError)


async def test_a_stopped_listener_lets_the_established_finish(pki: Pki) -> None:
    preconnection = taps.Preconnection(
        [taps.LocalEndpoint(ip_address="127.0.0.1", port=0)],
        security_parameters=taps.SecurityParameters(identity=taps.Identity(pki.leaf())),
    )
    listener = await preconnection.listen()
    accepting = asyncio.create_task(listener.accept())
    client = await connect(pki, listener)
    server = await accepting
    listener.stop()
    with pytest.raises(taps.LocalError):
        await listener.accept()
    await client.send(b"late")
    assert (await server.receive()).data == b"late"
    await asyncio.gather(client.close(), server.close())


async def test_serve_gives_handlers_grace(pki: Pki) -> None:
    preconnection = taps.Preconnection(
        [taps.LocalEndpoint(ip_address="127.0.0.1", port=0)],
        security_parameters=taps.SecurityParameters(identity=taps.Identity(pki.leaf())),
    )
    listener = await preconnection.listen()
    finished = []

    async def slow(connection: taps.Connection) -> None:
        await connection.receive()
        await asyncio.sleep(0.1)
        await connection.send(b"done")
        finished.append(True)

    serving = asyncio.create_task(listener.serve(slow, grace=5))
    client = await connect(pki, listener)
    await client.send(b"x")
    await asyncio.sleep(0.02)
    listener.stop()
    assert (await client.receive()).data == b"done"
    await client.close()
    await serving
    assert finished
