"""Stacks on real sockets: batches by the kernel, and a flood of Hellos beside a transfer."""

from __future__ import annotations

import asyncio
import os
import random
import socket

import pytest

from taps_security.stack.events import CloseKind, HandshakeConfirmed
from taps_security.stack.stack import SendOptions
from tests.toys.program import Counting

from .pair import Pair
from .world import Server, connect

DATA = random.Random(7).randbytes(2_000_000)


@pytest.mark.both_loops
async def test_a_transfer_each_way_goes_in_batches(no_leaks) -> None:
    server = Server(("127.0.0.1", 0))
    endpoint, client = connect(server.address)
    await client.ready()
    client.send(DATA, 0, SendOptions(end=True))
    await client.until(lambda: 0 in client.ends, 60)
    assert client.data[0] == DATA
    assert server.peers[0].data[0] == DATA
    assert (await client.over()).how is CloseKind.CLEAN
    sock = endpoint._socket
    assert isinstance(sock, Counting)
    if sock.max_datagrams > 1:
        assert sock.runs_sent > 10
    assert server.peers[0].stack._record.failed == 0
    endpoint.close()
    server.endpoint.close()


@pytest.mark.both_loops
async def test_a_flood_of_hellos_costs_no_state_and_stops_no_transfer(no_leaks) -> None:
    server = Server(("127.0.0.1", 0))
    endpoint, client = connect(server.address)
    await client.ready()
    await client.until(lambda: client.found(HandshakeConfirmed))
    tables = [server.endpoint._by_path, server.endpoint._by_route, server.endpoint._members, server.endpoint._paths]
    before = [len(table) for table in tables]
    client.send(DATA * 4, 0, SendOptions(end=True))
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        while not client.ends and not client.ended:
            (hello,) = Pair().client.take()
            for datagram in (hello, hello[:-1] + bytes((hello[-1] ^ 1,)), os.urandom(224), hello[:223]):
                flood.sendto(datagram, server.address)
                sent += 1
            await asyncio.sleep(0)
            assert all(len(table) <= size for table, size in zip(tables, before, strict=True))
        assert client.data[0] == DATA * 4
        cookies = 0
        while True:
            try:
                assert len(flood.recv(2000)) == 200
                cookies += 1
            except BlockingIOError:
                break
    assert 0 < cookies <= sent // 4
    assert len(server.peers) == 1
    endpoint.close()
    server.endpoint.close()
