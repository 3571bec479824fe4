"""The simulated resolver: order, delays per family, failures."""

from __future__ import annotations

import asyncio
import socket

import pytest

from taps_security.simulation import Names, Network, run
from taps_security.transport.network import network_of

V4, V6 = socket.AF_INET, socket.AF_INET6


async def resolve(host: str, port: int | str = 443, family: int = 0) -> list[tuple[str, int, int]]:
    return [tuple(each) for each in await network_of(asyncio.get_running_loop()).resolve(host, port, family)]


def test_addresses_come_in_the_order_given() -> None:
    async def main(network: Network) -> None:
        network.names.add("Server.Example", "2001:DB8:0::1", "192.0.2.1")
        everything = [("2001:db8::1", 443, V6), ("192.0.2.1", 443, V4)]
        assert await resolve("server.example.") == everything
        assert await resolve("server.example", 443, V4) == everything[1:]
        network.names.remove("server.example")
        with pytest.raises(socket.gaierror):
            await resolve("server.example")

    run(main)


def test_each_family_has_its_delay_and_both_take_the_longer_one() -> None:
    async def main(network: Network) -> None:
        network.names.add("slow.example", "2001:db8::1", "192.0.2.1", delay=0.02, delays={V6: 0.3})
        loop = asyncio.get_running_loop()
        await resolve("slow.example", 443, V4)
        assert loop.time() == 0.02
        await resolve("slow.example", 443, V6)
        assert loop.time() == 0.32
        await resolve("slow.example")
        assert loop.time() == 0.62

    run(main)


def test_a_family_may_fail_and_the_other_answer() -> None:
    async def main(network: Network) -> None:
        network.names.add("half.example", "2001:db8::1", "192.0.2.1", failures={V6: socket.EAI_AGAIN})
        assert await resolve("half.example") == [("192.0.2.1", 443, V4)]
        with pytest.raises(socket.gaierror, match="Temporary failure") as caught:
            await resolve("half.example", 443, V6)
        assert caught.value.errno == socket.EAI_AGAIN

    run(main)


def test_unknown_names_and_services_are_errors() -> None:
    async def main(network: Network) -> None:
        with pytest.raises(socket.gaierror, match="not known"):
            await resolve("nowhere.example")
        with pytest.raises(socket.gaierror, match="Servname"):
            await resolve("localhost", "no-such-service")

    run(main)


def test_names_of_hosts_and_numbers_are_known() -> None:
    async def main(network: Network) -> None:
        network.host("server", "192.0.2.1", "2001:db8::1")
        assert await resolve("server", "80") == [("192.0.2.1", 80, V4), ("2001:db8::1", 80, V6)]
        assert await resolve("localhost", 1, V6) == [("::1", 1, V6)]
        assert await resolve("192.0.2.77") == [("192.0.2.77", 443, V4)]
        with pytest.raises(socket.gaierror):
            await resolve("192.0.2.77", 443, V6)
        with network.host("server"):
            assert await resolve("localhost", 1, V4) == [("127.0.0.1", 1, V4)]

    run(main)


def test_what_is_known_may_change() -> None:
    names = Names()
    name = names.add("a.example", "192.0.2.1")
    name.addresses = ("192.0.2.2",)
    assert names.find("A.example") is name
    assert names.find("b.example") is None
    with pytest.raises(ValueError, match="not an address"):
        names.add("c.example", "not an address")
