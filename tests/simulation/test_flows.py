"""What one direction of a stream keeps: windows, acknowledgements, ends."""

from __future__ import annotations

import asyncio
import socket

from taps_security.simulation import Network, run
from taps_security.simulation.flows import BUFFER, GIVE_UP, MIN_RTO, Reports
from tests.simulation.support import pair, receive, receive_all, send_all


def now() -> float:
    return asyncio.get_running_loop().time()


def test_reports_of_one_instant_are_one_event() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01)
        client, _ = await pair(network)
        start, seen = now(), []
        reports = Reports(lambda total: seen.append((round(now() - start, 9), total)))
        reports.send(client, 1)
        reports.send(client, 2)
        await asyncio.sleep(0.005)
        reports.send(client, 3)
        await asyncio.sleep(1)
        assert seen == [(0.01, 2), (0.015, 3)]

    run(main)


def test_segments_have_the_size_that_the_link_allows() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", mtu=1040)
        client, server = await pair(network)
        await send_all(client, bytes(2500))
        assert [entry.length for entry in network.trace if entry.kind == "DATA"] == [1000, 1000, 500]
        received = 0
        while received < 2500:
            received += len(await receive(server))

    run(main)


def test_the_window_opens_half_a_round_trip_after_the_read() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.05)
        client, server = await pair(network)
        sending = asyncio.create_task(send_all(client, bytes(BUFFER + 1000)))
        await asyncio.sleep(1)
        start = now()
        assert len(await receive(server, BUFFER)) == BUFFER
        assert len(await receive(server)) == 1000
        assert now() == round(start + 0.1, 9)
        await sending

    run(main)


def test_end_comes_behind_what_was_taken_even_if_that_is_lost() -> None:
    async def main(network: Network) -> None:
        link = network.connect("client", "server", delay=0.01)
        client, server = await pair(network)
        start = now()
        link.loss = 1.0
        client.send(memoryview(b"lost at first"))
        link.loss = 0.0
        client.shutdown(socket.SHUT_WR)
        assert await receive_all(server) == b"lost at first"
        assert now() == round(start + MIN_RTO + 0.01, 9)

    run(main)


def test_a_sender_gives_up_in_the_end() -> None:
    async def main(network: Network) -> None:
        client, server = await pair(network)
        network.partition("client", "server")
        start = now()
        client.send(memoryview(b"hello?"))
        try:
            await receive(client)
        except TimeoutError:
            assert now() == start + GIVE_UP
        else:
            raise AssertionError("no error")
        assert not server.readable

    run(main)


def test_copies_are_ignored_and_late_ones_after_the_end_too() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01, duplicate=1.0, reorder=0.5, reorder_delay=2.0)
        client, server = await pair(network)
        await send_all(client, bytes(range(200)))
        client.close()
        assert await receive_all(server) == bytes(range(200))
        server.close()
        await asyncio.sleep(10)
        assert "RST" not in {entry.kind for entry in network.trace}

    for seed in range(4):
        run(main, seed=seed)


def test_what_was_taken_arrives_after_both_ends_said_that_they_are_done() -> None:
    async def main(network: Network) -> None:
        link = network.connect("client", "server", delay=0.01)
        client, server = await pair(network)
        server.shutdown(socket.SHUT_WR)
        assert await receive(client) == b""
        link.loss = 1.0
        client.send(memoryview(b"last words"))
        client.close()
        link.loss = 0.0
        assert await receive_all(server) == b"last words"

    run(main)


def test_a_little_room_takes_octets_but_wakes_no_writer() -> None:
    async def main(network: Network) -> None:
        link = network.connect("client", "server", mtu=1040)
        client, server = await pair(network)
        passed: list[object] = []
        link.filter = lambda packet: not passed and passed.append(packet) is None
        assert client.send(memoryview(bytes(BUFFER))) == BUFFER
        link.filter = lambda packet: False
        await asyncio.sleep(0.1)
        assert len(await receive(server)) == 1000
        assert not client.writable
        assert client.send(memoryview(bytes(5000))) == 1000

    run(main)
