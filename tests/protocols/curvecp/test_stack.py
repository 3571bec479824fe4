"""CurveCP on the simulated network: exact round trips, loss, reordering, duplication, ends, moving, TIME-WAIT."""

from __future__ import annotations

import asyncio
import random as randomness

import pytest

from taps_security.simulation import Network
from taps_security.stack.events import CloseKind, FlowSent
from taps_security.stack.stack import SendOptions

from .world import DELAY, connect, hosts, run


def test_one_round_trip_to_the_first_data() -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network)
        with host:
            endpoint, client = connect(server.address)
        client.send(b"hello")  # before there is a key
        await asyncio.sleep(3 * DELAY - 0.001)
        assert not server.peers
        await asyncio.sleep(0.0011)
        assert server.peers[0].data[0] == b"hello"  # Hello, Cookie, and the data in the first Initiate
        await client.until(lambda: client.data[0] == b"hello")
        assert network.now == pytest.approx(4 * DELAY)
        endpoint.close()
        server.endpoint.close()

    run(main)


@pytest.mark.parametrize("seed", range(4))
def test_streams_arrive_once_and_in_order_whatever_the_network_does(seed: int) -> None:
    async def main(network: Network) -> None:
        host, server = hosts(network, loss=0.3, duplicate=0.1, corrupt=0.03, reorder=0.2, rate=50e6)
        network.coalesce = bool(seed & 1)
        with host:
            endpoint, client = connect(server.address)
        data = randomness.Random(seed).randbytes(300_000)
        client.send(data, 0, SendOptions(end=True, token=7))
        await client.until(lambda: 0 in client.ends, 600)
        assert client.data[0] == data
        assert server.peers[0].data[0] == data
        assert (await client.over(300)).how is CloseKind.CLEAN
        assert (await server.peers[0].over(300)).how is CloseKind.CLEAN
        assert [(event.token, event.error) for event in client.found(FlowSent)] == [(7, None)]
        assert len(server.peers) == 1
        endpoint.close()
        server.endpoint.close()

    run(main, seed)
