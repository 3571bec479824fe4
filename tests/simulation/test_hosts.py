"""Hosts: which code runs where, addresses, ports."""

from __future__ import annotations

import asyncio
import errno

import pytest

from taps_security.simulation import Network, run
from taps_security.transport.network import network_of
from tests.simulation.support import connect, listen, pair, raised, receive


def test_tasks_and_callbacks_stay_on_the_host_that_started_them() -> None:
    async def main(network: Network) -> None:
        async def where() -> str:
            await asyncio.sleep(1)
            return network.current_host().name

        def note() -> None:
            seen.append(network.current_host().name)

        seen: list[str] = []
        assert await where() == "localhost"
        with network.host("client"):
            task = asyncio.create_task(where())
            asyncio.get_running_loop().call_later(1, note)
            with network.host("server"):
                assert await where() == "server"
            assert network.current_host().name == "client"
        assert await task == "client"
        assert await network.host("server").run(where(), name="asking") == "server"
        assert seen == ["client"]
        assert network.current_host().name == "localhost"

    run(main)


def test_new_hosts_get_an_address_of_each_family() -> None:
    async def main(network: Network) -> None:
        assert network.host("one").addresses == ("10.0.0.1", "fd00::1")
        assert network.host("two").addresses == ("10.0.0.2", "fd00::2")
        assert network.host("three", "192.0.2.3").addresses == ("192.0.2.3",)
        assert network.host("three", "192.0.2.3") is network.host("three")
        with pytest.raises(ValueError, match="has other addresses already"):
            network.host("three", "192.0.2.4")
        with pytest.raises(ValueError, match=r"192\.0\.2\.3 is an address of <Host three"):
            network.host("four", "192.0.2.3")

    run(main)


def test_loopback_is_each_hosts_own() -> None:
    async def main(network: Network) -> None:
        with network.host("server"):
            listen(80, "127.0.0.1")
            await connect("127.0.0.1", 80)
        with network.host("client"):
            assert isinstance(await raised(connect("127.0.0.1", 80)), ConnectionRefusedError)
            assert isinstance(await raised(connect("server", 80)), ConnectionRefusedError)

    run(main)


def test_addresses_come_and_go() -> None:
    async def main(network: Network) -> None:
        client, server = await pair(network)
        host = network.host("client")
        host.add_address("192.0.2.50")
        host.remove_address(client.getsockname()[0])
        client.send(memoryview(b"lost"))
        await asyncio.sleep(0.1)
        assert not server.readable
        assert network.trace[-1].lost == "silent"
        host.add_address(client.getsockname()[0])
        assert await receive(server) == b"lost"
        assert host.source_for("203.0.113.1") == "192.0.2.50"
        assert host.source_for("::1") == "::1"

    run(main)


def test_a_silent_host_neither_hears_nor_says_anything() -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.01)
        client, server = await pair(network)
        client.send(memoryview(b"on the way"))
        network.host("server").silent = True
        await asyncio.sleep(0.1)
        assert not server.readable
        with network.host("client"), pytest.raises(TimeoutError):
            await asyncio.wait_for(connect("server", 80), 10)

    run(main)


def test_free_ports_are_not_given_twice() -> None:
    async def main(network: Network) -> None:
        ports = {listen(0).getsockname()[1] for _ in range(50)}
        assert len(ports) == 50
        assert min(ports) == 49_152
        seam = network_of(asyncio.get_running_loop())
        assert seam.open_datagram(("127.0.0.1", min(ports))).local == ("127.0.0.1", 49_152)

    run(main)


@pytest.mark.parametrize(("local", "number"), [("192.0.2.9", errno.EADDRNOTAVAIL), ("nonsense", errno.EINVAL)])
def test_only_its_own_addresses_can_be_bound(local: str, number: int) -> None:
    async def main(network: Network) -> None:
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            listen(80, local)
        assert caught.value.errno == number

    run(main)
