"""The apps over real connections on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import taps_security as taps
from taps_security.cli.apps import APPS, DATAGRAM, PATTERN, App, chargen, discard, echo
from taps_security.cli.relay import Traffic
from tests.cli.test_relay import Messages
from tests.support.pki import SERVER_NAME, Pki

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


@asynccontextmanager
async def connected(pki: Pki, app: App) -> AsyncIterator[tuple[taps.Connection, Traffic]]:
    """A client of the app, and what the app counts."""
    traffic = Traffic()

    async def serve(connection: taps.Connection) -> None:
        await app(connection, traffic, None)

    files = pki.files(pki.leaf())
    server = taps.SecurityParameters(identity=taps.Identity.file(files.certificate, files.key))
    local = taps.LocalEndpoint(ip_address="127.0.0.1", port=0)
    trust = taps.SecurityParameters(trust=taps.Trust.file(str(pki.trust_file)), server_name=SERVER_NAME)
    listener = await taps.Preconnection(local_endpoints=[local], security_parameters=server).listen()
    serving = asyncio.ensure_future(listener.serve(serve, grace=5))
    try:
        remote = taps.RemoteEndpoint(ip_address="127.0.0.1", port=listener.port)
        async with await taps.Preconnection(remote_endpoints=[remote], security_parameters=trust).initiate() as client:
            yield client, traffic
    finally:
        listener.stop()
        await serving


async def received(client: taps.Connection) -> bytes:
    return b"".join([bytes(message) async for message in client])


async def test_echo(pki: Pki) -> None:
    async with connected(pki, echo) as (client, traffic):
        await client.send(b"x" * 300_000, final=True)
        assert await received(client) == b"x" * 300_000
    assert (traffic.received, traffic.sent) == (300_000, 300_000)


async def test_discard(pki: Pki) -> None:
    async with connected(pki, discard) as (client, traffic):
        await client.send(b"x" * 300_000, final=True)
        assert await received(client) == b""
    assert (traffic.received, traffic.sent) == (300_000, 0)


async def test_chargen_goes_on_until_the_peer_ends(pki: Pki) -> None:
    async with connected(pki, chargen) as (client, traffic):
        data = b""
        while len(data) < 3 * len(PATTERN):
            data += bytes(await client.receive())
        assert data.startswith(PATTERN * 3)
        await client.send(b"ignored", final=True)
        await received(client)
    assert traffic.received == 7


async def test_chargen_waits_for_a_slow_reader(pki: Pki) -> None:
    async with connected(pki, chargen) as (client, traffic):
        before = -1
        while before != traffic.sent:
            before = traffic.sent
            await asyncio.sleep(0.2)
        assert before < 64 * 1024 * 1024
        client.abort()


def test_the_pattern_is_that_of_the_rfc() -> None:
    lines = PATTERN.decode().split("\r\n")
    assert lines.pop() == ""
    assert len(lines) == 95
    assert {len(line) for line in lines} == {72}
    assert lines[0].startswith(" !\"#$%&'()*+,-./0123456789")
    assert lines[1].startswith("!\"#$%&'()*+,-./0123456789")
    assert set(APPS) == {"echo", "discard", "chargen", "cat"}


# ---------------------------------------------------------------------------------------------------------- messages
async def answers(app: App, *messages: bytes) -> tuple[list[bytes], Traffic]:
    """What an app sends to a peer that says all this and falls silent."""
    peer, traffic = Messages(*messages), Traffic()
    async with asyncio.timeout(5):
        await app(peer, traffic, 0.02)
    return peer.sent, traffic


async def test_messages_are_echoed_one_by_one() -> None:
    sent, traffic = await answers(echo, b"one", b"", b"two")
    assert sent == [b"one", b"", b"two"]
    assert (traffic.received, traffic.sent) == (6, 6)


async def test_messages_are_discarded() -> None:
    sent, traffic = await answers(discard, b"one", b"two")
    assert sent == []
    assert traffic.received == 6


async def test_each_message_asks_for_some_characters() -> None:
    class Large(Messages):
        send_msg_max_len = 10_000

    peer, traffic = Large(b"?", b"?"), Traffic()
    await chargen(peer, traffic, 0.02)
    assert b"".join(peer.sent) == PATTERN[: 2 * DATAGRAM]
    assert {len(message) for message in peer.sent} == {DATAGRAM}
    assert (traffic.received, traffic.sent) == (2, 2 * DATAGRAM)
