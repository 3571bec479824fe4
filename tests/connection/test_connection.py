"""A Connection over real sockets, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

import taps_security as taps
from taps_security.stack.events import KeyConfirmed, KeyReady, PeerAuthenticated
from tests.support.pki import SERVER_NAME, Pki
from tests.support.service import connect, echo, receive_all, service

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


async def test_octets_come_back_in_order_once(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        data = os.urandom(3_000_000)
        reader = asyncio.create_task(receive_all(connection))
        for start in range(0, len(data), 100_000):
            await connection.send(data[start : start + 100_000])
        await connection.send(b"", final=True)
        assert await reader == data
        assert not connection.can_receive


async def test_several_messages_in_one_call_and_mutable_ones_are_copied(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        changing = bytearray(b"bb")
        await connection.send([b"aa", changing, memoryview(b"cc")])
        changing[:] = b"xx"
        message = await connection.receive(min_incomplete_length=6)
        assert message.data == b"aabbcc"


async def test_receive_keeps_to_its_bounds(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        await connection.send(b"0123456789")
        first = await connection.receive(min_incomplete_length=10, max_length=4)
        second = await connection.receive(max_length=100)
        assert (first.data, second.data) == (b"0123", b"456789")
        assert not first.end_of_message


async def test_receive_views_lends_and_ends_with_nothing(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        data = os.urandom(1_000_000)
        await connection.send(data, final=True)
        kept = []
        while views := await connection.receive_views():
            kept += views  # kept on purpose: what is lent must not be written over
        assert b"".join(kept) == data


async def test_a_deadline_leaves_the_connection_as_it_was(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        with pytest.raises(TimeoutError):
            await connection.receive(timeout=0.02)
        await connection.send(b"still here")
        assert (await connection.receive()).data == b"still here"


async def test_a_cancelled_receive_loses_nothing(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await connection.send(b"after")
        assert (await connection.receive()).data == b"after"


async def test_two_receives_at_a_time_are_a_mistake(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        with pytest.raises(taps.LocalError, match="one at a time"):
            await connection.receive()
        await connection.send(b"x")
        assert (await waiting).data == b"x"


async def test_a_slow_reader_makes_the_sender_wait_with_bounded_memory(pki: Pki) -> None:
    released = asyncio.Event()

    async def sleepy(connection: taps.Connection) -> None:
        await released.wait()
        await echo(connection)

    async with service(pki, sleepy) as listener, await connect(pki, listener) as connection:
        block = bytes(64 * 1024)
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while sent < 64 * 1024 * 1024:
                    await connection.send(block)
                    sent += len(block)
        assert 0 < sent < 32 * 1024 * 1024  # what sockets and queues hold
        released.set()
        reader = asyncio.create_task(receive_all(connection))
        await connection.send(b"", final=True)
        assert len(await reader) == sent


async def test_nothing_is_sent_behind_the_final_message(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        await connection.send(b"last", final=True)
        with pytest.raises(taps.LocalError):
            await connection.send(b"more")
        assert await receive_all(connection) == b"last"


async def test_fresh_keys_both_ways(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        before = connection.security.epoch
        await connection.update_keys()
        await connection.send(b"under new keys")
        assert (await connection.receive()).data == b"under new keys"
        assert connection.security.epoch == (before[0] + 1, before[1] + 1)
        kinds = [type(event) for event in connection.security_events]
        assert kinds.count(KeyReady) >= 6
        assert KeyConfirmed in kinds


async def test_both_ends_export_the_same_secret(pki: Pki) -> None:
    exported: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def export(connection: taps.Connection) -> None:
        exported.set_result(connection.export_secret("EXPORTER-test", b"context", 48))
        await connection.receive()

    async with service(pki, export) as listener, await connect(pki, listener) as connection:
        ours = connection.export_secret("EXPORTER-test", b"context", 48)
        assert ours == await exported
        assert ours != connection.export_secret("EXPORTER-other", b"context", 48)


async def test_the_report_says_what_protects(pki: Pki) -> None:
    async with service(pki, alpn=["echo/1"]) as listener:
        async with await connect(pki, listener, alpn=["echo/2", "echo/1"]) as connection:
            report = connection.security
            assert (report.stack, report.version, report.alpn) == ("tls", "1.3", "echo/1")
            assert report.algorithms["ciphersuite"].startswith("TLS_")
            assert report.provides["forward_secrecy"]
            assert SERVER_NAME in str(report.peer)
            assert any(type(event) is PeerAuthenticated for event in connection.security_events)
            words = {"stack", "version", "algorithms", "peer", "provides", "keys", "resumed", "early_data", "alpn"}
            assert words == set(report.as_json())


async def test_a_clone_is_a_resumed_connection(pki: Pki) -> None:
    async with service(pki) as listener, await connect(pki, listener) as connection:
        await connection.send(b"x")
        await connection.receive()  # tickets came with it
        async with await connection.clone(timeout=5) as clone:
            assert clone.security.resumed
            assert SERVER_NAME in str(clone.security.peer)
            await clone.send(b"y")
            assert (await clone.receive()).data == b"y"


async def test_an_accepted_connection_has_nothing_to_clone(pki: Pki) -> None:
    seen: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def clone(connection: taps.Connection) -> None:
        try:
            await connection.clone()
        except taps.LocalError as error:
            seen.set_result(error)

    async with service(pki, clone) as listener, await connect(pki, listener):
        error = await seen
        assert isinstance(error, taps.LocalError)
        assert error.reason is taps.Reason.NOT_CLONEABLE


async def test_a_cut_stream_is_told_from_an_ended_one(pki: Pki) -> None:
    async def cut(connection: taps.Connection) -> None:
        await connection.send(b"part")
        await asyncio.sleep(0)
        sock = connection.driver._carriers[0]._socket  # the wire itself, below TLS
        sock.shutdown(socket.SHUT_WR)
        await connection.wait_closed()

    async with service(pki, cut) as listener:
        connection = await connect(pki, listener)
        assert (await connection.receive()).data == b"part"
        with pytest.raises(taps.ConnectionLost) as caught:
            await connection.receive()
        assert caught.value.reason is taps.Reason.TRUNCATED


async def test_an_abort_is_an_error_at_the_other_end(pki: Pki) -> None:
    async def abort(connection: taps.Connection) -> None:
        await connection.receive()
        connection.abort()

    async with service(pki, abort) as listener:
        connection = await connect(pki, listener)
        await connection.send(b"go")
        with pytest.raises(taps.RemoteError):
            await connection.receive()
        assert connection.state is taps.ConnectionState.CLOSED
        with pytest.raises(taps.TapsError):
            await connection.send(b"x")


async def test_close_delivers_what_was_sent(pki: Pki) -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def collect(connection: taps.Connection) -> None:
        received.set_result(await receive_all(connection))

    async with service(pki, collect) as listener:
        connection = await connect(pki, listener)
        data = os.urandom(2_000_000)
        for start in range(0, len(data), 500_000):
            await connection.send(data[start : start + 500_000])
        await connection.close()
        assert await received == data
        assert connection.error is None


async def test_callbacks_tell_what_awaiting_would(pki: Pki) -> None:
    async with service(pki) as listener:
        connection = await connect(pki, listener)
        received, sent = [], []
        ended, closed = asyncio.Event(), asyncio.Event()

        def on_received(_: taps.Connection, message: taps.Message) -> None:
            received.append(message.data)
            if message.end_of_message:
                ended.set()

        callbacks = connection.callbacks
        callbacks.on_received = on_received
        callbacks.on_sent = lambda _, context: sent.append(context)
        callbacks.on_closed = lambda _: closed.set()
        context = taps.MessageContext(final=True)
        await connection.send(b"hello", context)
        await asyncio.wait_for(ended.wait(), 5)
        await connection.close()
        await asyncio.wait_for(closed.wait(), 5)
        assert sent == [context]
        assert b"".join(received) == b"hello"
