"""Ends that nobody wished for: cut streams, garbage, silence, cancelling.

Only what is authentic is delivered, the error says who is to blame, and nothing stays behind (`play` looks for that).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from socket import SHUT_WR

import pytest

import taps_security as taps
from taps_security.properties.security import Role
from taps_security.transport.network import network_of
from tests.conformance.subject import SUBJECTS, TIMEOUT, Pair, Subject, properties
from tests.conformance.talk import ask, ends_with, take
from tests.conformance.worlds import DELAY, WORLDS, World, play
from tests.simulation.support import accept, receive, send_all

everywhere = pytest.mark.parametrize("where", WORLDS)
every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=str)
over_streams = pytest.mark.parametrize(
    "subject", [subject for subject in SUBJECTS if subject.descriptor.carrier == "tcp"], ids=str
)
over_datagrams = pytest.mark.parametrize(
    "subject", [subject for subject in SUBJECTS if subject.descriptor.carrier == "udp"], ids=str
)


# ---------------------------------------------------------------------------------------------------------- the carrier
@over_streams
def test_a_stream_that_ends_without_the_protocols_end_is_truncated(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            await server.send(b"all that there is")
            assert await take(client, 17) == b"all that there is"
            world.stream_of("server").shutdown(SHUT_WR)
            error = await ends_with(client)
            assert isinstance(error, taps.ConnectionLost)
            assert error.reason is taps.Reason.TRUNCATED
            assert client.error is error

    play(scenario)


@over_streams
def test_a_cut_inside_a_record_delivers_what_came_before(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as (client, server):
            await server.send(b"whole")
            assert await take(client, 5) == b"whole"
            world.simulated.connect("server", "client", delay=DELAY, mtu=140)  # what follows comes in small segments
            data_segments = 0

            def first_segments_only(packet: object) -> bool:
                nonlocal data_segments
                data_segments += bool(packet.data)  # type: ignore[attr-defined]
                return data_segments <= 2

            world.simulated.link("server", "client").filter = first_segments_only
            await server.send(bytes(1000))
            await asyncio.sleep(1)
            world.stream_of("client").reset()
            received = bytearray()
            error = await ends_with(client, received)
            assert isinstance(error, taps.ConnectionLost)
            assert error.reason in {taps.Reason.RESET, taps.Reason.TRUNCATED}
            assert not received.strip(b"\0")

    play(scenario)


@over_streams
def test_a_reset_is_an_error_at_both_ends(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            world.stream_of("client").reset()
            for connection in pair:
                error = await ends_with(connection)
                assert isinstance(error, taps.ConnectionLost)
                assert error.reason is taps.Reason.RESET

    play(scenario)


@every_subject
def test_an_abort_is_heard_or_at_least_ends_ours(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            pair.client.abort()
            assert pair.client.state is not taps.ConnectionState.ESTABLISHED
            await pair.client.wait_closed()
            assert pair.client.state is taps.ConnectionState.CLOSED
            if subject.descriptor.carrier == "tcp":
                assert isinstance(await ends_with(pair.server), taps.RemoteError)

    play(scenario)


# -------------------------------------------------------------------------------------------------------------- garbage
GARBAGE = {
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "text": b"GET / HTTP/1.1\r\nHost: server.example\r\n\r\n" * 40,
    "noise": bytes((index * 97 + index // 7) & 255 for index in range(5000)),
    "one octet": b"\x16",
}


@pytest.mark.parametrize("octets", list(GARBAGE.values()), ids=list(GARBAGE))
@over_streams
def test_a_client_that_talks_garbage_hurts_only_itself(subject: Subject, octets: bytes) -> None:
    async def scenario(world: World) -> None:
        async with subject.serving(world) as service:
            with world.client:
                stranger = await network_of(asyncio.get_running_loop()).connect_stream(service.address)
            with suppress(OSError):
                await send_all(stranger, octets)  # type: ignore[arg-type]
                stranger.shutdown(SHUT_WR)
            with suppress(OSError):
                while await receive(stranger):  # type: ignore[arg-type]
                    pass
            stranger.close()
            client = await service.initiate()
            server = await service.accept()
            await ask(Pair(client, server))
            assert not service.others()
            client.abort()
            server.abort()

    play(scenario)


@pytest.mark.parametrize("octets", list(GARBAGE.values()), ids=list(GARBAGE))
@over_streams
def test_a_server_that_talks_garbage_fails_its_candidate(subject: Subject, octets: bytes) -> None:
    async def scenario(world: World) -> None:
        with world.server:
            listener = network_of(asyncio.get_running_loop()).listen_stream((world.address, 0))

        async def talk_garbage() -> None:
            sock = await accept(listener)  # type: ignore[arg-type]
            await send_all(sock, octets)
            sock.shutdown(SHUT_WR)
            with suppress(OSError):
                await receive(sock)
                await receive(sock)
            sock.close()

        talking = asyncio.create_task(talk_garbage())
        with world.client, pytest.raises(taps.EstablishmentError) as caught:
            await towards(subject, *listener.getsockname()[:2]).initiate(timeout=TIMEOUT)
        assert [isinstance(failure.error, taps.RemoteError) for failure in caught.value.failures] == [True]
        await talking
        listener.close()

    play(scenario)


def towards(subject: Subject, host: str, port: int) -> taps.Preconnection:
    return taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=host, port=port)],
        transport_properties=properties(),
        security_parameters=subject.security(Role.CLIENT),
    )


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 5, 6, 20, 60, 99])
@over_streams
def test_one_flipped_bit_ends_the_connection_and_delivers_nothing(subject: Subject, offset: int) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            world.stream_of("server").corrupt_at(world.octets_from("server") + offset)
            secret = os.urandom(100)
            await pair.server.send(secret)
            await pair.server.send(bytes(300_000))  # so that a falsified length is reached
            received = bytearray()
            error = await ends_with(pair.client, received)
            assert isinstance(error, taps.PeerMisbehaved)
            assert not received
            assert secret.hex() not in str(error)
            assert isinstance(await ends_with(pair.server), taps.RemoteError)  # and the peer hears of it

    play(scenario)


@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize("seed", range(8))
@over_streams
def test_one_flipped_bit_in_the_handshake_fails_it(subject: Subject, seed: int, sender: str) -> None:
    """Whatever bit it is: no connection lives on a transcript that the ends see differently."""

    async def scenario(world: World) -> None:
        async with subject.connected(world):
            handshake = world.octets_from(sender)
        offset = world.simulated.random.randrange(handshake)

        def corrupt(packet: object) -> bool:
            for stream in world.simulated.streams():
                end = stream if stream.host.name == sender else stream.other_end
                if end is not None:
                    end.corrupt_at(offset)
            return True

        world.simulated.link("client", "server").filter = corrupt
        world.simulated.link("server", "client").filter = corrupt
        async with subject.serving(world) as service:
            connection: taps.Connection | None = None
            with suppress(taps.EstablishmentError):
                connection = await service.initiate()
            if connection is not None:  # a client may be ready before the server has seen its last message
                assert isinstance(await ends_with(connection, patience=3 * TIMEOUT), taps.RemoteError)
            assert not service.others()

    play(scenario, seed=seed)


@over_datagrams
def test_falsified_datagrams_are_dropped(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            there, back = world.simulated.link("client", "server"), world.simulated.link("server", "client")
            there.corrupt = back.corrupt = 1.0
            for _ in range(20):
                await pair.client.send(b"falsified")
                await pair.server.send(b"falsified")
            await asyncio.sleep(4 * DELAY)
            there.corrupt = back.corrupt = 0.0
            if subject.provides("reliability"):  # they are sent again
                for connection in pair:
                    assert await take(connection, 20 * 9) == b"falsified" * 20
            await ask(pair)  # what was falsified was not delivered

    play(scenario)


@over_datagrams
def test_garbage_datagrams_hurt_nobody(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            assert pair.client.driver.owner is not None
            ends = [connection.driver.owner.local for connection in pair]  # type: ignore[union-attr]
            with world.simulated.host("stranger"):
                stranger = network_of(asyncio.get_running_loop()).open_datagram(("0.0.0.0", 0))
            for address in ends:
                for octets in GARBAGE.values():
                    for size in (1, 2, 14, 29, 200, 1200):
                        stranger.send(memoryview(octets[:size]), 0, address, None, 0)
            await asyncio.sleep(1)
            stranger.close()
            await ask(pair)

    play(scenario)


# -------------------------------------------------------------------------------------------------------------- silence
@pytest.mark.parametrize("subject", [one for one in SUBJECTS if not one.provides("key_import")], ids=str)
def test_a_silent_peer_costs_the_handshakes_time_and_no_more(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.serving(world) as service:
            world.simulated.partition("server", "client", one_way=True)
            started = asyncio.get_running_loop().time()
            with pytest.raises(taps.EstablishmentError):
                await service.initiate(timeout=3.0)
            assert asyncio.get_running_loop().time() == started + 3.0

    play(scenario)


@every_subject
def test_a_peer_that_vanishes_keeps_nobody_from_ending(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            world.simulated.partition("client", "server")
            await pair.client.send(b"is anybody there?")
            async with asyncio.timeout(300):
                await pair.client.close()
            assert pair.client.state is taps.ConnectionState.CLOSED

    play(scenario)


# ----------------------------------------------------------------------------------------------------------- cancelling
@pytest.mark.parametrize("moment", [round(step * DELAY / 2, 4) for step in range(9)])
@every_subject
def test_cancelling_an_initiate_leaves_nothing(subject: Subject, moment: float) -> None:
    async def scenario(world: World) -> None:
        async with subject.serving(world) as service:
            initiating = asyncio.create_task(service.initiate())
            await asyncio.sleep(moment)
            initiating.cancel()
            with suppress(asyncio.CancelledError):
                (await initiating).abort()  # it was ready already
            await asyncio.sleep(1)
            with world.client:
                assert not [sock for sock in world.simulated.open_sockets() if "client" in repr(sock)]

    play(scenario)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21])
@everywhere
@every_subject
def test_cancelling_after_so_many_turns_leaves_nothing(subject: Subject, where: str, turns: int) -> None:
    async def scenario(world: World) -> None:
        async with subject.serving(world) as service:
            initiating = asyncio.create_task(service.initiate())
            for _ in range(turns):
                await asyncio.sleep(0)
            initiating.cancel()
            with suppress(asyncio.CancelledError):
                (await initiating).abort()

    play(scenario, where)


WAITS: dict[str, Callable[[Pair], Awaitable[object]]] = {
    "receive": lambda pair: pair.client.receive(),
    "receive some": lambda pair: pair.client.receive(min_incomplete_length=1000),
    "receive_views": lambda pair: pair.client.receive_views(),
    "wait_closed": lambda pair: pair.client.wait_closed(),
}


@pytest.mark.parametrize("wait", list(WAITS.values()), ids=list(WAITS))
@everywhere
@every_subject
def test_cancelling_a_wait_leaves_the_connection_as_it_was(
    subject: Subject, where: str, wait: Callable[[Pair], Awaitable[object]]
) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            waiting = asyncio.ensure_future(wait(pair))
            await asyncio.sleep(0.005)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await ask(pair)

    play(scenario, where)


@every_subject
def test_cancelling_a_close_still_closes(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            closing = asyncio.create_task(pair.client.close())
            await asyncio.sleep(0)
            closing.cancel()
            with suppress(asyncio.CancelledError):
                await closing
            async with asyncio.timeout(TIMEOUT):
                await pair.client.wait_closed()

    play(scenario)


@everywhere
@every_subject
def test_stopping_a_listener_leaves_the_connections_that_were_taken(subject: Subject, where: str) -> None:
    async def scenario(world: World) -> None:
        async with subject.serving(world) as service:
            client = await service.initiate()
            server = await service.accept()
        await ask(Pair(client, server))
        client.abort()
        server.abort()

    play(scenario, where)
