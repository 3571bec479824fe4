"""Too much of everything, through real sockets and the public API: what is bounded, and who goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import taps_security as taps
from taps_security.crypto.certificates import Identity
from taps_security.crypto.issuing import issue_certificate
from taps_security.protocols.tls.limits import MAX_HANDSHAKE_MESSAGE
from taps_security.protocols.tls.options import TlsOptions
from tests.faults import world
from tests.support.pki import SERVER_NAME, Pki
from tests.support.service import connect, receive_all, service

pytestmark = pytest.mark.usefixtures("no_leaks")

HELLO = b"\x16\3\1\2\0\1\0\1\xfc\3\3"  # the beginning of a ClientHello
MAX_ESTABLISHING = 16


async def raw(port: int, first: bytes = b"") -> socket.socket:
    """A connected socket that said `first` and nothing more."""
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    if first:
        sock.send(first)
    return sock


# -- half-open connections -------------------------------------------------------------------------------------------
@pytest.mark.both_loops
@pytest.mark.parametrize("first", [b"", HELLO], ids=["silent", "half a hello"])
async def test_a_flood_of_half_open_connections_is_bounded_and_traffic_goes_on(pki: Pki, first: bytes) -> None:
    async with service(pki, listen={"max_establishing": MAX_ESTABLISHING}) as listener:
        async with await connect(pki, listener) as established:
            flood, most = [], 0
            for number in range(300):
                flood.append(await raw(listener.port, first))
                most = max(most, len(listener._establishing))
                if not number % 10:
                    await world.ask(established)
            while listener.dropped < len(flood) - MAX_ESTABLISHING:
                await asyncio.sleep(0.001)
            assert most <= MAX_ESTABLISHING
            assert len(listener._establishing) == MAX_ESTABLISHING
            async with await connect(pki, listener) as late:  # which drops one more of them
                await world.ask(late)
            await world.ask(established)
            assert listener.dropped == len(flood) + 1 - MAX_ESTABLISHING
            for sock in flood:
                sock.close()


async def test_the_oldest_of_the_unfinished_goes_first(pki: Pki) -> None:
    async with service(pki, listen={"max_establishing": 3}) as listener:
        flood = []
        for _ in range(5):
            flood.append(await raw(listener.port, HELLO))
            await asyncio.sleep(0.01)
        alive = []
        for sock in flood:
            try:
                sock.recv(100)
                alive.append(False)
            except BlockingIOError:
                alive.append(True)
            except ConnectionResetError:
                alive.append(False)
            sock.close()
        assert alive == [False, False, True, True, True]


def test_one_octet_a_second_is_no_way_to_stay(pki: Pki) -> None:
    """In virtual time: the handshake as a whole has ten seconds, however busy it looks."""

    async def main(network: Any) -> None:
        network.connect("client", "server", delay=0.25)
        async with world.serving(network, pki) as listener:
            with network.host("client"):
                sock = await network.loop.taps_network.connect_stream((network.host("server").addresses[0], world.PORT))
            for octet in HELLO * 2:
                if sock.over:
                    break
                sock.send(bytes((octet,)))
                await asyncio.sleep(1)
            assert world.packets(network, "RST", "server")[0] == (10.75, sock.local[0])
            assert not listener._establishing
            sock.close()

    world.simulate(main)


async def test_ready_connections_that_nobody_takes_are_bounded(pki: Pki) -> None:
    local = taps.LocalEndpoint(ip_address="127.0.0.1", port=0)
    security = world.server_security(pki)
    async with await taps.Preconnection([local], security_parameters=security).listen(backlog=4) as listener:
        connections = [await connect(pki, listener) for _ in range(4)]
        waiting = asyncio.create_task(connect(pki, listener))  # the kernel holds it: nobody accepts
        await asyncio.sleep(0.05)
        assert len(listener._ready) == 4
        assert not waiting.done()
        (await listener.accept()).abort()
        connections.append(await waiting)
        for connection in connections:
            connection.abort()


# -- octets ----------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def growth() -> AsyncIterator[list[int]]:
    """Octets that Python holds at most beyond what it held before."""
    found: list[int] = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


async def test_a_slow_reader_costs_bounded_memory_on_both_sides_and_the_sender_waits(pki: Pki) -> None:
    go_on = asyncio.Event()
    received: list[int] = []

    async def sleepy(connection: taps.Connection) -> None:
        await go_on.wait()
        received.append(len(await receive_all(connection)))

    async with service(pki, sleepy) as listener, await connect(pki, listener) as connection:
        sent, block = 0, bytes(100_000)
        async with growth() as found:
            with pytest.raises(TimeoutError):  # noqa: PT012 -- each of them may be the one that waits
                while sent < 1 << 30:
                    await connection.send(block, timeout=0.2)
                    sent += len(block)
        assert found[0] < 6 * 1024 * 1024  # queues, slabs and receive buffers of both ends
        go_on.set()
        await connection.send(b"", final=True)
        while not received:
            await asyncio.sleep(0.001)
        assert received == [sent]


async def test_a_peer_that_sends_for_ever_fills_no_memory(pki: Pki) -> None:
    """The application does not take anything: reading pauses, and the peer's send waits."""

    async def speaks(connection: taps.Connection) -> None:
        while True:
            await connection.send(bytes(100_000))

    async with service(pki, speaks) as listener:
        connection = await connect(pki, listener)
        async with growth() as found:
            await asyncio.sleep(0.3)
        assert connection._size < 1024 * 1024
        assert found[0] < 6 * 1024 * 1024
        assert (await connection.receive()).data
        connection.abort()


# -- keys and tickets ------------------------------------------------------------------------------------------------
async def test_key_updates_without_end_and_without_data_end_that_connection_alone(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as other:
        connection = await connect(pki, listener)
        with pytest.raises(taps.TapsError) as caught:  # noqa: PT012 -- one of them
            for _ in range(1000):
                await connection.update_keys()
                await asyncio.sleep(0)
        assert "ended" in str(caught.value)
        assert isinstance(connection.error, taps.PeerAborted | taps.ConnectionLost)
        await world.ask(other)


async def test_fresh_keys_as_often_as_one_likes_while_octets_go_one_way_only(pki: Pki) -> None:
    """Each answer of the peer brings no data, but it was asked for."""
    received: list[int] = []

    async def takes(connection: taps.Connection) -> None:
        received.append(len(await receive_all(connection)))

    async with service(pki, takes) as listener, await connect(pki, listener) as connection:
        for _ in range(300):
            await connection.update_keys()
            await connection.send(b"x")
            await asyncio.sleep(0)
        await connection.close()
        assert connection.error is None
    assert received == [300]


async def test_a_server_may_send_as_many_tickets_as_it_likes_with_data_between(pki: Pki) -> None:
    options = {"tls": TlsOptions(tickets=16)}
    cache = taps.SessionCache()
    async with service(pki, options=options) as listener:
        for _ in range(5):
            async with await connect(pki, listener, session_cache=cache) as connection:
                await world.ask(connection)
    assert len(cache) <= 4  # of one peer


# -- large handshake messages -----------------------------------------------------------------------------------------
def large(pki: Pki, octets: int) -> Identity:
    """A chain of about so many octets: certificates with many names, of which the first is the leaf."""
    chain: list[bytes] = []
    leaf = None
    while (missing := octets - sum(map(len, chain))) > 0:
        names = [SERVER_NAME, *(f"host-{number:06d}.example" for number in range(min(missing, 50_000) // 21))]
        one = issue_certificate(pki.authority, names, at=pki.now, random=os.urandom)
        leaf = leaf or one
        chain += one.chain
    assert leaf is not None
    return Identity.of(tuple(chain), leaf.private_key)


@pytest.mark.parametrize("role", ["server", "client"])
async def test_a_chain_of_64_kib_works(pki: Pki, role: str) -> None:
    identity = large(pki, 64 * 1024)
    assert 64 * 1024 <= sum(map(len, identity.chain)) < MAX_HANDSHAKE_MESSAGE
    ours: dict[str, Any] = {"identity": taps.Identity(identity)} if role == "client" else {}
    theirs: dict[str, Any] = {"identity": taps.Identity(identity)} if role == "server" else {}
    if role == "client":
        theirs = {"trust": taps.Trust.file(str(pki.trust_file)), "client_authentication": "require"}
    cache = taps.SessionCache()
    async with service(pki, **theirs) as listener:
        for _ in range(2):  # the second time resumed, or not where the ticket would be too large
            async with await connect(pki, listener, session_cache=cache, **ours) as connection:
                await world.ask(connection)


async def test_a_chain_above_the_limit_is_a_clear_error_on_both_sides(pki: Pki) -> None:
    identity = large(pki, MAX_HANDSHAKE_MESSAGE + 10_000)
    async with service(pki, identity=taps.Identity(identity)) as listener:
        with pytest.raises(taps.EstablishmentError) as caught:
            await connect(pki, listener)
        error = caught.value.failures[0].error
        assert isinstance(error, taps.PeerMisbehaved)
        assert f"at most {MAX_HANDSHAKE_MESSAGE} are taken" in str(error)
        larger = {"tls": TlsOptions(max_handshake_message=2 * MAX_HANDSHAKE_MESSAGE)}
        async with await connect(pki, listener, options=larger) as connection:
            await world.ask(connection)


async def test_a_limit_may_be_smaller_too(pki: Pki) -> None:
    identity = large(pki, 6000)
    async with service(pki, identity=taps.Identity(identity)) as listener:
        with pytest.raises(taps.EstablishmentError, match="at most 4096 are taken"):
            await connect(pki, listener, options={"tls": TlsOptions(max_handshake_message=4096)})
