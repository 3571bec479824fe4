"""asyncio's stream API over TLS: the same code through another door."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

import taps_security as taps
from tests.support.pki import SERVER_NAME, Pki
from tests.support.service import client_security, server_security

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.write_eof()


async def test_reader_and_writer_as_asyncio_has_them(pki: Pki) -> None:
    async with await taps.start_server(upper, "127.0.0.1", 0, security=server_security(pki)) as server:
        reader, writer = await taps.open_connection(*server.addresses[0], security=client_security(pki), timeout=5)
        writer.write(b"first line\nsecond")
        await writer.drain()
        assert await reader.readline() == b"FIRST LINE\n"
        writer.write_eof()
        assert await reader.read() == b"SECOND"
        connection = writer.get_extra_info("connection")
        assert connection.security.stack == "tls"
        assert writer.get_extra_info("peername") == server.addresses[0]
        writer.close()
        await writer.wait_closed()


async def test_large_writes_wait_for_the_reader(pki: Pki) -> None:
    data = os.urandom(4_000_000)
    async with await taps.start_server(upper, "127.0.0.1", 0, security=server_security(pki)) as server:
        reader, writer = await taps.open_connection(*server.addresses[0], security=client_security(pki), timeout=5)
        reading = asyncio.create_task(reader.read(-1))
        for start in range(0, len(data), 300_000):
            writer.write(data[start : start + 300_000])
            await writer.drain()
        writer.write_eof()
        assert await reading == data.upper()
        writer.close()
        await writer.wait_closed()


async def test_an_open_stream_is_secured(pki: Pki) -> None:
    async def starttls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"GO\n")
        reader, writer = await taps.start_tls(reader, writer, security=server_security(pki), server_side=True)
        await upper(reader, writer)
        writer.close()

    server = await asyncio.start_server(starttls, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"GO\n"
        reader, writer = await taps.start_tls(
            reader, writer, security=client_security(pki), server_name=SERVER_NAME, timeout=5
        )
        writer.write(b"secret")
        writer.write_eof()
        assert await reader.read() == b"SECRET"
        writer.close()
        await writer.wait_closed()


async def test_octets_before_the_handshake_are_not_taken_for_protected_ones(pki: Pki) -> None:
    async def injecting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GO\ninjected")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(injecting, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.readline() == b"GO\n"
        with pytest.raises(taps.ConfigurationError, match="before the handshake"):
            await taps.start_tls(reader, writer, security=client_security(pki), timeout=5)
        writer.close()


async def test_a_connected_socket_is_adopted(pki: Pki) -> None:
    async with await taps.start_server(upper, "127.0.0.1", 0, security=server_security(pki)) as server:
        sock = socket.create_connection(server.addresses[0])
        reader, writer = await taps.open_connection(
            SERVER_NAME, server.addresses[0][1], sock=sock, security=client_security(pki), timeout=5
        )
        writer.write(b"adopted")
        writer.write_eof()
        assert await reader.read() == b"ADOPTED"
        writer.close()
        await writer.wait_closed()
