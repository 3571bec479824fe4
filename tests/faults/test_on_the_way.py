"""What networks and peers do to a connection: loss, partition, rebinding, resets, silence, truncation, slow ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import taps_security as taps
from taps_security.protocols.tls.options import TlsOptions
from taps_security.simulation import Nat, Network
from taps_security.simulation.links import nanoseconds
from taps_security.stack.events import CloseKind, KeyReady, Terminated
from tests.faults.world import (
    DELAY,
    PORT,
    ROUND_TRIP,
    ask,
    connected,
    failure,
    initiate,
    packets,
    serving,
    simulate,
    stream_of,
    towards,
)
from tests.support.pki import Pki

READY = 2 * ROUND_TRIP
HANDSHAKE_TIMEOUT = 10.0  # seconds, unless set
BAD_LINKS: dict[str, dict[str, Any]] = {
    "lossy": {"loss": 0.1},
    "reordering": {"reorder": 0.3, "reorder_delay": 0.03},
    "duplicating": {"duplicate": 0.3},
    "corrupting": {"corrupt": 0.1},  # TCP's checksum drops them
    "slow": {"rate": 2e6},
    "narrow": {"mtu": 576, "rate": 8e6, "queue": 4000},
    "everything": {"loss": 0.05, "reorder": 0.1, "duplicate": 0.05, "corrupt": 0.02, "rate": 1e7, "mtu": 1280},
}


def how_it_ended(connection: taps.Connection) -> Terminated:
    (ended,) = (event for event in connection.security_events if isinstance(event, Terminated))
    return ended


def generations(connection: taps.Connection) -> int:
    return max(event.key.generation for event in connection.security_events if isinstance(event, KeyReady))


# -- bad links -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", BAD_LINKS)
@pytest.mark.parametrize("seed", [1, 2])
def test_octets_cross_every_bad_link_whole_and_in_order(pki: Pki, kind: str, seed: int) -> None:
    octets = bytes(range(256)) * 1024

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY, **BAD_LINKS[kind])
        async with serving(network, pki), await connected(network, pki, options=None) as connection:
            await connection.send(octets, final=True)
            assert b"".join([bytes(message.data) async for message in connection]) == octets

    simulate(main, seed=seed)


def test_two_megabytes_each_way_over_a_bad_link(pki: Pki) -> None:
    octets = bytes(2_000_000)

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY, loss=0.01, reorder=0.05, rate=5e7)
        async with serving(network, pki), await connected(network, pki) as connection:
            await connection.send(octets, final=True)
            assert b"".join([bytes(message.data) async for message in connection]) == octets

    simulate(main)


@pytest.mark.parametrize("seed", range(3))
def test_keys_change_under_loss_from_both_sides_and_by_their_limits(pki: Pki, seed: int) -> None:
    async def echoes(connection: taps.Connection) -> None:
        async for message in connection:
            await connection.send(message.data)
            await connection.update_keys()

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY, loss=0.1, reorder=0.1)
        options = {"tls": TlsOptions(records_per_key=5)}
        async with serving(network, pki, echoes), await connected(network, pki, options=options) as connection:
            for number in range(30):
                if number % 3 == 0:
                    await connection.update_keys()
                await ask(connection, number.to_bytes(2, "big") * 10_000)
            assert generations(connection) > 30

    simulate(main, seed=seed)


def test_a_partition_that_heals_costs_time_only(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki), await connected(network, pki) as connection:
            await ask(connection)
            network.partition("client", "server")
            begun = network.now
            network.loop.call_later(30, network.heal)
            await ask(connection)
            assert 30 < network.now - begun < 60
            await connection.update_keys()
            await ask(connection)

    simulate(main)


@pytest.mark.parametrize("moment", [0.0, 0.01, ROUND_TRIP, 0.05, 0.07, READY - 0.001])
def test_a_partition_during_the_handshake_heals_too(pki: Pki, moment: float) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.loop.call_at(moment, network.partition, "client", "server")
        network.loop.call_at(moment + 2, network.heal)
        network.names.add("one.example", network.host("server").addresses[0])
        async with serving(network, pki), await initiate(network, towards(pki, "one.example")) as connection:
            await ask(connection)
            assert 2 < network.now < HANDSHAKE_TIMEOUT

    simulate(main)


def test_rebinding_cuts_a_tcp_connection_and_the_next_one_works(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        nat = network.host("client").nat = Nat("192.0.2.1", "2001:db8::1")
        preconnection = towards(pki)
        async with serving(network, pki, listen={"handshake_timeout": 5}, transport=giving_up(20)):
            connection = await initiate(network, preconnection)
            await ask(connection)
            nat.rebind()
            await connection.send(b"from another port")
            error = await failure(connection.receive())
            assert isinstance(error, taps.ConnectionLost)
            assert error.reason is taps.Reason.RESET
            assert how_it_ended(connection).how is CloseKind.RESET
            async with await initiate(network, preconnection) as again:
                assert again.security.resumed
                await ask(again)

    simulate(main)


# -- resets ----------------------------------------------------------------------------------------------------------
RESETS = [0.041, 0.05, 0.061, 0.07, READY - 0.0001]


@pytest.mark.parametrize("moment", [0.01, 0.03, *RESETS])
def test_a_reset_before_the_handshake_is_complete(pki: Pki, moment: float) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("one.example", network.host("server").addresses[0])

        def reset() -> None:
            for stream in network.streams():
                stream.reset()

        async with serving(network, pki) as listener:
            network.loop.call_at(moment, reset)
            error = await failure(initiate(network, towards(pki, "one.example")))
            if moment > ROUND_TRIP:
                assert isinstance(error, taps.ConnectionLost)
                assert error.reason is taps.Reason.RESET
                assert network.now == moment
            else:
                assert isinstance(error, ConnectionResetError)  # TCP was not there yet
            assert not network.streams()
            assert not listener._establishing
            async with await initiate(network, towards(pki, "one.example")) as connection:
                await ask(connection)

    simulate(main)


@pytest.mark.parametrize("unread", [b"", b"last words"])
def test_a_reset_afterwards_comes_behind_what_was_received(pki: Pki, unread: bytes) -> None:
    async def speaks(connection: taps.Connection) -> None:
        await connection.send(unread)
        await connection.receive()

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, speaks):
            connection = await connected(network, pki)
            await asyncio.sleep(1)
            stream_of(network, "client").reset()
            received = b""
            while unread != received:
                received += (await connection.receive()).data
            for _ in range(2):
                error = await failure(connection.receive())
                assert isinstance(error, taps.ConnectionLost)
                assert error.reason is taps.Reason.RESET
            assert isinstance(await failure(connection.send(b"x")), taps.TapsError)
            await connection.close()
            assert connection.error is error

    simulate(main)


def test_a_reset_while_closing_is_told(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, waits):
            connection = await connected(network, pki)
            closing = asyncio.create_task(connection.close())
            await asyncio.sleep(0.001)
            stream_of(network, "client").reset()
            await closing
            assert isinstance(connection.error, taps.ConnectionLost)

    simulate(main)


async def waits(connection: taps.Connection) -> None:
    """A peer that never does anything."""
    await asyncio.sleep(10_000)


# -- silence ---------------------------------------------------------------------------------------------------------
def giving_up(seconds: float) -> taps.TransportProperties:
    return taps.TransportProperties(conn_timeout=seconds)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.021, ROUND_TRIP + 0.001, 0.059])
@pytest.mark.parametrize("settings", [{}, {"handshake_timeout": 3.0}])
def test_a_silent_server_ends_the_attempt_after_ten_seconds_unless_set(
    pki: Pki, moment: float, settings: dict[str, float]
) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("one.example", network.host("server").addresses[0])
        async with serving(network, pki):
            network.loop.call_at(moment, setattr, network.host("server"), "silent", True)
            preconnection = towards(pki, "one.example")
            error = await failure(initiate(network, preconnection, **settings))
            assert network.now == settings.get("handshake_timeout", HANDSHAKE_TIMEOUT)
            assert isinstance(error, taps.ConnectionLost)
            assert error.reason is taps.Reason.TIMEOUT
            phase = "connect" if moment < DELAY else "handshake"
            assert str(error) == f"no answer within {network.now:g} s ({phase})"
            assert not [stream for stream in network.streams() if stream.host.name == "client"]
            await asyncio.sleep(HANDSHAKE_TIMEOUT)
            assert not network.streams()  # the server's handshake timeout

    simulate(main)


@pytest.mark.parametrize("settings", [{}, {"handshake_timeout": 3.0}])
@pytest.mark.parametrize("first", [b"", b"\x16\3\1"])
def test_a_silent_client_is_dropped_after_ten_seconds_unless_set(
    pki: Pki, settings: dict[str, float], first: bytes
) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, listen=settings) as listener:
            with network.host("client"):
                sock = await network.loop.taps_network.connect_stream((network.host("server").addresses[0], PORT))
            if first:
                sock.send(memoryview(first))
            accepted = ROUND_TRIP + DELAY
            await asyncio.sleep(1)
            assert len(listener._establishing) == 1
            await asyncio.sleep(HANDSHAKE_TIMEOUT)
            assert not listener._establishing
            due = accepted + settings.get("handshake_timeout", HANDSHAKE_TIMEOUT)
            assert packets(network, "RST", "server") == [(nanoseconds(due), sock.local[0])]
            sock.close()

    simulate(main)


@pytest.mark.parametrize("seconds", [2.5, 30.0])
def test_a_vanished_peer_is_given_up_after_conn_timeout(pki: Pki, seconds: float) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("one.example", network.host("server").addresses[0])
        async with serving(network, pki, transport=giving_up(seconds)):
            connection = await initiate(network, towards(pki, "one.example", transport=giving_up(seconds)))
            await ask(connection)
            network.host("server").silent = True
            begun = network.now
            await connection.send(b"is anybody there?")
            error = await failure(connection.receive())
            assert isinstance(error, taps.ConnectionLost)
            assert error.reason is taps.Reason.TIMEOUT
            assert network.now - begun == pytest.approx(seconds, abs=1e-6)
            network.host("server").silent = False

    simulate(main)


def test_the_initiate_timeout_covers_everything(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("slow.example", network.host("server").addresses[0], delay=3.0)
        network.host("server").silent = True
        with pytest.raises(taps.EstablishmentError) as caught:
            await initiate(network, towards(pki, "slow.example"), timeout=4.5)
        assert network.now == 4.5
        assert caught.value.reason is taps.Reason.TIMEOUT
        with pytest.raises(taps.EstablishmentError) as caught:
            await initiate(network, towards(pki, "slow.example"), timeout=1)
        assert network.now == 5.5
        assert caught.value.reason is taps.Reason.TIMEOUT

    simulate(main)


# -- ends ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["fin", "reset", "close_notify"])
def test_a_truncated_stream_is_told_from_an_ended_one(pki: Pki, how: str) -> None:
    """An attacker can end TCP, but cannot say close_notify."""
    expected: dict[str, taps.Reason | None] = {
        "fin": taps.Reason.TRUNCATED,
        "reset": taps.Reason.RESET,
        "close_notify": None,
    }

    async def speaks(connection: taps.Connection) -> None:
        await connection.send(b"half of it", final=how == "close_notify")
        await asyncio.sleep(5)

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, speaks):
            connection = await connected(network, pki)
            assert (await connection.receive()).data == b"half of it"
            if how == "fin":
                stream_of(network, "server")._out.finish()
            elif how == "reset":
                stream_of(network, "server").abort()
            if expected[how] is None:
                last = await connection.receive()
                assert (last.data, last.end_of_message) == (b"", True)
                await connection.close()
            else:
                error = await failure(connection.receive())
                assert isinstance(error, taps.ConnectionLost)
                assert error.reason is expected[how]

    simulate(main)


def test_close_waits_five_seconds_for_a_peer_that_does_not_end(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, waits):
            connection = await connected(network, pki)
            begun = network.now
            await connection.close()
            assert network.now == begun + 5
            assert (connection.error, how_it_ended(connection).how) == (None, CloseKind.CLEAN)

    simulate(main)


def test_close_takes_one_round_trip_when_the_peer_ends_too(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki):
            connection = await connected(network, pki)
            begun = network.now
            await connection.close()
            assert network.now == nanoseconds(begun + ROUND_TRIP)

    simulate(main)


@pytest.mark.parametrize("octets", [200_000, 5_000_000])
def test_close_with_queued_octets_towards_a_peer_that_never_reads_ends_with_its_error(pki: Pki, octets: int) -> None:
    """Whether what is queued is with us or only with the socket: it is not sent, and that is said in time."""

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, waits):
            connection = await connected(network, pki)
            await fill(connection)
            await connection.send(bytes(octets), final=False)
            begun = network.now
            await connection.close()
            assert 30 <= network.now - begun <= 36
            assert isinstance(connection.error, taps.ConnectionLost)
            assert connection.error.reason is taps.Reason.TIMEOUT
            assert how_it_ended(connection).how is CloseKind.ABORTED

    simulate(main)


async def fill(connection: taps.Connection) -> None:
    """Send until the peer takes no octet more."""
    (carrier,) = connection.driver._carriers
    while not carrier.blocked:
        await connection.send(bytes(50_000))
        await asyncio.sleep(1)


def test_close_with_queued_octets_towards_a_slow_peer_sends_them_all(pki: Pki) -> None:
    """Half a minute per slab is slow, but it is headway: nothing is lost, however long it takes."""
    received: list[bytes] = []

    async def reads(connection: taps.Connection) -> None:
        async for message in connection:
            received.append(bytes(message.data))  # noqa: PERF401 -- what came before an error counts

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY, rate=70_000)
        async with serving(network, pki, reads, listen={"handshake_timeout": 60}):
            connection = await connected(network, pki)
            await connection.send(bytes(900_000))
            begun = network.now
            await connection.close()
            assert network.now - begun > 60
            assert (connection.error, how_it_ended(connection).how) == (None, CloseKind.CLEAN)
            await asyncio.sleep(60)  # what the two sockets still hold
        assert sum(map(len, received)) == 900_000

    simulate(main)


def test_an_abort_reaches_the_peer_as_an_error(pki: Pki) -> None:
    errors: list[BaseException] = []

    async def listens(connection: taps.Connection) -> None:
        try:
            await connection.receive()
        except taps.TapsError as error:
            errors.append(error)
            raise

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, listens):
            connection = await connected(network, pki)
            await asyncio.sleep(1)
            connection.abort()
            await asyncio.sleep(1)
            assert connection.state is taps.ConnectionState.CLOSED
        (error,) = errors
        assert isinstance(error, taps.PeerAborted | taps.ConnectionLost)

    simulate(main)


@pytest.mark.parametrize("end", ["close", "abort", "reset"])
def test_an_end_wakes_every_waiter(pki: Pki, end: str) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, waits):
            connection = await connected(network, pki)
            await fill(connection)
            waiting = [
                asyncio.create_task(connection.receive()),
                asyncio.create_task(fills(connection)),
                asyncio.create_task(connection.wait_closed()),
            ]
            await asyncio.sleep(1)
            ends: dict[str, Callable[[], object]] = {
                "close": lambda: asyncio.create_task(connection.close()),
                "abort": connection.abort,
                "reset": stream_of(network, "client").reset,
            }
            ending = ends[end]()
            done, pending = await asyncio.wait(waiting, timeout=60)
            assert not pending
            assert all(isinstance(task.exception(), taps.TapsError) for task in waiting[:2])
            assert done
            if isinstance(ending, asyncio.Task):
                await ending

    simulate(main)


async def fills(connection: taps.Connection) -> None:
    while True:
        await connection.send(bytes(100_000))
