"""Message connections: bounds, batches, lifetimes, what waits, and waits that are cancelled. Over WireGuard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import taps_security as taps
from taps_security.connection.messages import COUNTED_AT_LEAST, WAITING
from taps_security.simulation import Network
from tests.connection.inside import ask, pair, play, tell

Messages = list[bytes]


async def received(connection: taps.Connection, count: int) -> Messages:
    """So many messages."""
    return [(await connection.receive(timeout=5)).data for _ in range(count)]


def kept(connection: Any) -> dict[int, Any]:
    """Contexts that wait for their message's fate."""
    return connection._contexts or {}


class Full:
    """The client's socket takes next to nothing until the block ends: messages wait in their queue."""

    def __init__(self, network: Network) -> None:
        self._network, self._host = network, network.host("client")

    def __enter__(self) -> None:
        self._host.send_buffer = 1
        self._network.link("client", "server").rate = 8_000.0  # bits per second

    def __exit__(self, *_: object) -> None:
        self._network.link("client", "server").rate = 1e9
        self._host.send_buffer = None


async def fill(connection: taps.Connection) -> int:
    """Send without waiting until nothing is taken; how many messages were."""
    count = 0
    while connection.try_send(bytes(1000)):
        count += 1
        await asyncio.sleep(0)
    return count


# -------------------------------------------------------------------------------------------------------------- bounds
def test_messages_keep_their_bounds_alone_and_in_batches() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            sent = [bytes([number]) * size for number, size in enumerate((1, 0, 1300, 17, 0, 0, 500))]
            for message in sent:
                await client.send(message)
            assert await received(server, len(sent)) == sent
            await client.send(sent)
            await client.send([bytearray(b"may"), memoryview(b"be"), b"any kind"])
            assert await received(server, len(sent) + 3) == [*sent, b"may", b"be", b"any kind"]
            await client.send([])
            await tell(client, server, b"nothing came of nothing")

    play(scenario)


def test_what_was_given_may_be_changed_afterwards() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            buffer = bytearray(b"before")
            await client.send(buffer)
            await client.send(memoryview(buffer))
            buffer[:] = b"behind"
            assert await received(server, 2) == [b"before"] * 2

    play(scenario)


def test_of_a_message_that_is_longer_than_asked_for_the_rest_comes_next() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            for message in (b"abcdefgh", b"", b"ij"):
                await client.send(message)
            parts = [await server.receive(max_length=3, timeout=5) for _ in range(5)]
            assert [(part.data, part.end_of_message) for part in parts] == [
                (b"abc", False),
                (b"def", False),
                (b"gh", True),
                (b"", True),
                (b"ij", True),
            ]

    play(scenario)


def test_a_message_above_the_limit_leaves_the_connection_alive() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            limit = client.send_msg_max_len
            assert limit == 1420 - 28
            context = taps.MessageContext()
            for attempt in (bytes(limit + 1), [b"small", bytes(limit + 1)]):
                for how in (None, context):
                    with pytest.raises(taps.LocalError) as caught:
                        await client.send(attempt, how)
                    assert caught.value.reason is taps.Reason.MESSAGE_TOO_LARGE
            with pytest.raises(taps.LocalError):
                client.try_send(bytes(limit + 1))
            assert not kept(client)
            await tell(client, server, bytes(limit), b"and the small one was not taken")

    play(scenario)


@pytest.mark.parametrize("how", [{"final": True}, {"context": taps.MessageContext(final=True)}])
def test_there_is_no_final_message(how: dict[str, Any]) -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            with pytest.raises(taps.LocalError) as caught:
                await client.send(b"the end", **how)
            assert caught.value.reason is taps.Reason.NOT_SUPPORTED
            assert not kept(client)
            await ask(client, server)

    play(scenario)


# ------------------------------------------------------------------------------------------------------------- waiting
def test_what_waits_for_the_application_is_bounded_and_the_rest_counted() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            count, size = 4000, 1392
            for _ in range(count):
                await client.send(bytes(size))
                await asyncio.sleep(0.001)
            await asyncio.sleep(1)
            waiting = len(server._chunks)
            assert waiting + server.dropped == count
            assert WAITING - size < waiting * (size + COUNTED_AT_LEAST) < WAITING + 64 * 1024
            for _ in range(waiting):
                assert len((await server.receive(timeout=1)).data) == size
            await ask(client, server)  # there is room again

    play(scenario)


def test_empty_messages_count_too() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            for _ in range(80):
                await client.send([b""] * 1000)
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert len(server._chunks) + server.dropped == 80_000
            assert len(server._chunks) <= WAITING // COUNTED_AT_LEAST + 1000

    play(scenario, mtu=65_536)


def test_nobody_waits_twice() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            waiting = asyncio.ensure_future(server.receive(timeout=5))
            await asyncio.sleep(0)
            for wait in (server.receive(), server.receive_views(), anext(server)):
                with pytest.raises(taps.LocalError, match="another receive"):
                    await wait
            await client.send(b"for the first")
            assert (await waiting).data == b"for the first"

    play(scenario)


def test_views_that_are_kept_stay_as_they_were() -> None:
    async def scenario(network: Network) -> None:
        network.coalesce = True
        async with pair(network) as (client, server):
            views: list[Any] = []

            async def receive() -> None:
                while len(views) < 500:
                    views.extend(await server.receive_views())

            receiving = asyncio.ensure_future(receive())
            for number in range(0, 500, 5):
                await client.send([(number + step).to_bytes(2, "big") * 300 for step in range(5)])
                await asyncio.sleep(0.02)
            async with asyncio.timeout(5):
                await receiving
            assert any(type(view) is memoryview for view in views)
            assert [bytes(view) for view in views] == [number.to_bytes(2, "big") * 300 for number in range(500)]

    play(scenario)


# ------------------------------------------------------------------------------------------------------------- sending
def test_a_full_queue_makes_the_sender_wait() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            with Full(network):
                count = await fill(client)
                with pytest.raises(TimeoutError):
                    await client.send(b"never taken", taps.MessageContext(), timeout=0.1)
                for message in (b"never taken", b""):
                    with pytest.raises(TimeoutError):
                        await client.send(message, timeout=0.1)
                sending = asyncio.ensure_future(client.send([b"never taken"]))
                await asyncio.sleep(0.1)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                assert not kept(client)
                last = asyncio.ensure_future(client.send(b"the last"))
                await asyncio.sleep(0.1)
                with pytest.raises(taps.LocalError, match="another send"):
                    await client.send(b"meanwhile")
                assert not last.done()
            async with asyncio.timeout(600):
                await last
            assert await received(server, count + 1) == [bytes(1000)] * count + [b"the last"]
            await ask(client, server)

    play(scenario)


def test_a_message_that_was_not_sent_in_its_lifetime_is_dropped() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            told: list[tuple[Any, Any]] = []
            client.callbacks.on_sent = lambda _, context: told.append((context, None))
            client.callbacks.on_send_error = lambda _, context, error: told.append((context, error.reason))
            short, long = taps.MessageContext(msg_lifetime=0.5), taps.MessageContext(msg_lifetime=600)
            await client.send(b"at once", short)
            assert await received(server, 1) == [b"at once"]
            with Full(network):
                for _ in range(3):
                    await client.send(bytes(1000))  # a second each
                    await asyncio.sleep(0)
                await client.send([b"too", b"late"], short)
                await client.send(b"in time", long)
                await asyncio.sleep(5)
            assert await received(server, 4) == [bytes(1000)] * 3 + [b"in time"]
            assert told == [(short, None), (short, taps.Reason.TIMEOUT), (long, None)]
            assert not kept(client)

    play(scenario)


# ---------------------------------------------------------------------------------------------------------- cancelling
WAITS: dict[str, Callable[[taps.Connection], Awaitable[Any]]] = {
    "receive": lambda connection: connection.receive(),
    "receive with a timeout": lambda connection: connection.receive(timeout=60),
    "receive_views": lambda connection: connection.receive_views(),
    "iteration": anext,
    "wait_closed": lambda connection: connection.wait_closed(),
}


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.01, 0.015])
@pytest.mark.parametrize("wait", list(WAITS.values()), ids=list(WAITS))
def test_a_wait_that_is_cancelled_loses_nothing(wait: Callable[[taps.Connection], Any], moment: float) -> None:
    """Also where the message comes in the very turn in which its receiver is cancelled."""

    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            waiting = asyncio.ensure_future(wait(server))
            await asyncio.sleep(0)
            await client.send(b"a message")
            await asyncio.sleep(moment)
            waiting.cancel()
            got = b""
            with suppress(asyncio.CancelledError):
                taken = await waiting
                got = b"".join(map(bytes, taken)) if isinstance(taken, list) else taken.data
            if not got:
                got = (await server.receive(timeout=1)).data
            assert got == b"a message"
            await ask(client, server)

    play(scenario)


# ----------------------------------------------------------------------------------------------------------- callbacks
def test_callbacks_instead_of_awaiting() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            heard: list[bytes] = []
            await client.send([b"before", b"anybody", b"asked"])
            await asyncio.sleep(0.1)
            server.callbacks.on_received = lambda _, message: heard.append(message.data)
            await asyncio.sleep(0)
            assert heard == [b"before", b"anybody", b"asked"]
            await client.send([b"and", b"", b"since"])
            await asyncio.sleep(0.1)
            assert heard[3:] == [b"and", b"", b"since"]
            ends: list[object] = []
            client.callbacks.on_closed = ends.append
            await client.close()
            assert ends == [client]

    play(scenario)


def test_on_writable_tells_when_there_is_room() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            writable: list[object] = []
            client.callbacks.on_writable = writable.append
            with Full(network):
                count = await fill(client)
                assert not client.try_send(b"")
                assert not writable
            await asyncio.sleep(60)
            assert writable == [client]
            assert client.try_send(b"")
            assert (await received(server, count + 1))[-1] == b""

    play(scenario)


# ---------------------------------------------------------------------------------------------------------------- ends
def test_what_came_before_the_end_is_received_before_it_is_told() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            await client.send([b"one", b"two"])
            await asyncio.sleep(0.1)
            server.abort()
            assert server.can_receive
            assert await received(server, 2) == [b"one", b"two"]
            assert not server.can_receive
            assert server.take_received() is None
            for wait in (server.receive(), server.receive_views(), anext(server)):
                with pytest.raises(taps.LocalError) as caught:
                    await wait
                assert caught.value.reason is taps.Reason.CONNECTION_ABORTED

    play(scenario)


def test_iteration_ends_with_a_connection_that_was_closed() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            await client.send([b"one", b"two"])
            taken = []
            async for message in server:
                taken.append(message.data)
                if len(taken) == 2:
                    asyncio.get_running_loop().call_later(
                        1, lambda: closing.append(asyncio.create_task(server.close()))
                    )
            assert taken == [b"one", b"two"]
            with pytest.raises(taps.LocalError, match="closed"):
                await server.receive()
            await asyncio.gather(*closing)

    closing: list[Any] = []
    play(scenario)
