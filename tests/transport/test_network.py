"""Which network a loop has."""

from __future__ import annotations

import asyncio

import pytest

from taps_security.transport.network import network_of
from taps_security.transport.system import SystemNetwork


@pytest.mark.both_loops
async def test_a_loop_has_the_systems_network_unless_it_brings_one() -> None:
    assert isinstance(network_of(asyncio.get_running_loop()), SystemNetwork)


def test_a_simulated_loop_brings_its_own() -> None:
    class Loop:
        taps_network = object()

    assert network_of(Loop()) is Loop.taps_network
