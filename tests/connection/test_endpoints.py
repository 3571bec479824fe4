"""Endpoints that are shared by their local address."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import weakref

import pytest

from taps_security import simulation
from taps_security.connection import endpoints
from taps_security.connection.endpoint import Endpoint
from taps_security.connection.endpoints import open_endpoint
from taps_security.simulation import Network
from tests.connection.datagrams import StubScreener

ANY = ("", 5000)


def opened(local: tuple[str, int] = ANY, **how: bool) -> Endpoint:
    return open_endpoint(asyncio.get_running_loop(), local, random=os.urandom, **how)


def used(endpoint: Endpoint) -> StubScreener:
    """Somebody serves on it."""
    screener = StubScreener()
    endpoint.serve(screener, lambda stack, facts: None, claims=(os.urandom(8),))  # type: ignore[arg-type]
    return screener


def test_one_address_is_one_endpoint_as_long_as_it_is_open() -> None:
    async def main(network: Network) -> None:
        one = opened()
        first, second = used(one), used(opened())
        assert opened() is one
        assert len(network.open_sockets()) == 1
        one.stop_serving(first)
        assert opened() is one
        one.stop_serving(second)
        assert one.closed
        other = opened()
        assert other is not one
        other.close_if_unused()
        assert not network.open_sockets()

    simulation.run(main)


def test_any_port_is_a_new_one_and_then_found_by_its_number() -> None:
    async def main(network: Network) -> None:
        one, other = opened(("", 0)), opened(("", 0))
        assert one is not other
        assert opened(("", one.local[1])) is one
        assert opened(("", other.local[1])) is other
        for endpoint in (one, other):
            endpoint.close()

    simulation.run(main)


def test_ports_are_each_hosts_own() -> None:
    async def main(network: Network) -> None:
        found = []
        for name in ("client", "server", "client"):
            with network.host(name):
                found.append(opened())
        assert found[0] is found[2] is not found[1]
        for endpoint in found:
            endpoint.close()

    simulation.run(main)


def test_an_address_that_cannot_be_bound_leaves_nothing() -> None:
    async def main(network: Network) -> None:
        one = opened(("0.0.0.0", 5000))
        with pytest.raises(OSError, match="in use") as caught:
            opened()
        assert caught.value.errno == errno.EADDRINUSE
        one.close()
        again = opened()
        again.close()

    simulation.run(main)


def test_who_shares_a_port_with_others_has_an_endpoint_of_its_own() -> None:
    async def main(network: Network) -> None:
        one, other = opened(reuse_port=True), opened(reuse_port=True)
        assert one is not other
        assert one.local == other.local
        with pytest.raises(OSError, match="in use"):
            opened()
        for endpoint in (one, other):
            endpoint.close()

    simulation.run(main)


@pytest.mark.both_loops
@pytest.mark.usefixtures("no_leaks")
async def test_on_the_systems_network() -> None:
    one = opened(("127.0.0.1", 0))
    assert opened(one.local) is one
    one.close()


def test_nothing_keeps_an_endpoint_or_its_loop() -> None:
    kept = []

    async def main(network: Network) -> None:
        endpoint = opened()
        kept.append(weakref.ref(endpoint))
        endpoint.close()
        kept.append(weakref.ref(asyncio.get_running_loop()))

    simulation.run(main)
    gc.collect()
    assert [reference() for reference in kept] == [None, None]
    assert not any(loop.is_closed() and len(table) for loop, table in endpoints._open.items())
