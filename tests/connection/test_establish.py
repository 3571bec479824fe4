"""Establishing one candidate: what ends it, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

import taps_security as taps
from tests.support.pki import Pki
from tests.support.service import client_security, connect, service, towards

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


def reason_of(caught: pytest.ExceptionInfo[taps.EstablishmentError]) -> BaseException:
    (failure,) = caught.value.failures
    return failure.error


async def test_a_silent_peer_times_out(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        preconnection = towards(silent.getsockname()[1], client_security(pki))
        with pytest.raises(taps.EstablishmentError) as caught:
            await preconnection.initiate(handshake_timeout=0.2)
        assert caught.value.failures[0].error.reason is taps.Reason.TIMEOUT


async def test_a_closed_port_is_refused(pki: Pki) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(taps.EstablishmentError) as caught:
            await towards(sock.getsockname()[1], client_security(pki)).initiate(timeout=5)
        assert "refused" in str(caught.value).lower()


@pytest.mark.parametrize("linger", [None, struct.pack("ii", 1, 0)], ids=["fin", "reset"])
async def test_a_peer_that_ends_during_the_handshake(pki: Pki, linger: bytes | None) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if linger is not None:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        with pytest.raises(taps.EstablishmentError) as caught:
            await towards(server.sockets[0].getsockname()[1], client_security(pki)).initiate(timeout=5)
        assert isinstance(reason_of(caught), taps.ConnectionLost)


async def test_a_wrong_name_an_expired_and_an_untrusted_certificate(pki: Pki) -> None:
    refused = ((pki.wrong_name, "elsewhere.example"), (pki.expired, "expired"), (pki.untrusted, "trust anchor"))
    for identity, word in refused:
        async with service(pki, identity=taps.Identity(identity)) as listener:
            with pytest.raises(taps.EstablishmentError) as caught:
                await connect(pki, listener)
            error = reason_of(caught)
            assert isinstance(error, taps.AuthenticationFailed), error
            assert word in str(error).lower()


async def test_cancelling_leaves_nothing_behind(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        task = asyncio.create_task(towards(silent.getsockname()[1], client_security(pki)).initiate())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_server_that_requires_a_certificate_gets_one_or_nothing(pki: Pki) -> None:
    trust = taps.Trust.file(str(pki.trust_file))
    async with service(pki, trust=trust, client_authentication="require") as listener:
        async with await connect(pki, listener, identity=taps.Identity(pki.client())) as connection:
            await connection.send(b"x")
            assert (await connection.receive()).data == b"x"
        async with await connect(pki, listener) as connection:  # TLS 1.3: the client is ready before it is judged
            with pytest.raises(taps.RemoteError):
                await connection.receive(timeout=5)
