"""Binding local endpoints of a listener: one port for all carriers and families, and what is said if there is none."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from typing import Any

import pytest

from taps_security import simulation
from taps_security.connection.binding import TRIES, Bound, bind
from taps_security.properties.endpoints import LocalEndpoint
from taps_security.simulation import Network
from taps_security.stack.errors import EstablishmentError, Reason
from taps_security.transport.network import StreamOptions
from tests.connection.datagrams import StubScreener

BOTH = {"tcp", "udp"}


def bound(*locals_: LocalEndpoint, carriers: set[str] = BOTH, reuse_port: bool = False) -> Bound:
    return bind(
        asyncio.get_running_loop(), locals_, carriers, backlog=5, options=StreamOptions(), reuse_port=reuse_port
    )


def addresses(found: Bound) -> list[tuple[str, int]]:
    return [*(sock.getsockname()[:2] for sock in found.streams), *(endpoint.local for endpoint in found.datagrams)]


class Refusing:
    """The simulated network, which first refuses what tests say: (what, errno)."""

    def __init__(self, network: Network, *refusals: tuple[str, int]) -> None:
        self._network = network.loop.taps_network
        self._refusals = deque(refusals)
        self.asked: list[tuple[str, Any, bool]] = []
        network.loop.taps_network = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def _refuse(self, what: str, local: Any, reuse_port: bool) -> None:
        self.asked.append((what, local, reuse_port))
        if self._refusals and self._refusals[0][0] in {what, f"{what} {local[0]}"}:
            number = self._refusals.popleft()[1]
            raise OSError(number, os.strerror(number))

    def listen_stream(self, local: Any, **how: Any) -> Any:
        self._refuse("tcp", local, how["reuse_port"])
        return self._network.listen_stream(local, **how)

    def open_datagram(self, local: Any, remote: Any = None, *, reuse_port: bool = False) -> Any:
        self._refuse("udp", local, reuse_port)
        return self._network.open_datagram(local, remote, reuse_port=reuse_port)


@pytest.mark.parametrize("carriers", [{"tcp"}, {"udp"}, BOTH])
@pytest.mark.parametrize("port", [0, 4433])
def test_one_port_for_all_carriers_and_families(port: int, carriers: set[str]) -> None:
    async def main(network: Network) -> None:
        found = bound(LocalEndpoint(port=port), carriers=carriers)
        (number,) = {address[1] for address in addresses(found)}
        assert number == port or (not port and number >= 49_152)
        assert len(found.streams) == (2 if "tcp" in carriers else 0)
        assert [endpoint.local[0] for endpoint in found.datagrams] == (["::"] if "udp" in carriers else [])
        found.close()
        assert not network.open_sockets()

    simulation.run(main)


def test_each_local_endpoint_is_bound() -> None:
    async def main(network: Network) -> None:
        with network.host("server") as host:
            found = bound(*(LocalEndpoint(ip_address=address, port=443) for address in host.addresses))
            assert sorted(addresses(found)) == sorted([(address, 443) for address in host.addresses] * 2)
            found.close()
        assert not network.open_sockets()

    simulation.run(main)


def test_a_free_port_that_one_carrier_cannot_have_is_let_go_of() -> None:
    async def main(network: Network) -> None:
        Refusing(network, ("udp", errno.EADDRINUSE), ("udp", errno.EADDRINUSE))
        found = bound(LocalEndpoint())
        assert len({address[1] for address in addresses(found)}) == 1
        assert len(network.open_sockets()) == 3
        found.close()

    simulation.run(main)


@pytest.mark.parametrize("number", [errno.EADDRINUSE, errno.EACCES])
def test_so_often_and_no_more(number: int) -> None:
    async def main(network: Network) -> None:
        refusing = Refusing(network, *[("udp", number)] * (TRIES + 5))
        with pytest.raises(EstablishmentError):
            bound(LocalEndpoint())
        tries = sum(what == "udp" for what, _, _ in refusing.asked)
        assert tries == (TRIES if number == errno.EADDRINUSE else 1)
        assert not network.open_sockets()

    simulation.run(main)


@pytest.mark.parametrize("carrier", ["tcp", "udp"])
def test_a_named_port_in_use_is_told_at_once(carrier: str) -> None:
    async def main(network: Network) -> None:
        first = bound(LocalEndpoint(ip_address="127.0.0.1", port=443), carriers={carrier})
        other = bound(LocalEndpoint(port=80), carriers={"udp"} if carrier == "tcp" else {"tcp"})
        refusing = Refusing(network)
        before = len(network.open_sockets())
        with pytest.raises(EstablishmentError, match=r"\*:443|0.0.0.0:443") as caught:
            bound(LocalEndpoint(port=80), LocalEndpoint(port=443), carriers={carrier})
        assert caught.value.reason is Reason.ADDRESS_IN_USE
        assert len(network.open_sockets()) == before
        assert refusing.asked
        first.close()
        other.close()

    simulation.run(main)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EADDRINUSE, r"\[::1\]:22 is in use; choose another port"),
        (errno.EACCES, r"cannot bind \[::1\]:22: .*; ports below 1024 need a privilege"),
        (errno.EADDRNOTAVAIL, r"cannot bind \[::1\]:22: .*; this machine has no such address"),
        (errno.EPERM, r"cannot bind \[::1\]:22: Operation not permitted$"),
    ],
)
@pytest.mark.parametrize("carrier", ["tcp", "udp"])
def test_what_cannot_be_bound_is_told_with_what_to_do(number: int, text: str, carrier: str) -> None:
    async def main(network: Network) -> None:
        Refusing(network, (carrier, number))
        with pytest.raises(EstablishmentError, match=text):
            bound(LocalEndpoint(ip_address="::1", port=22), carriers={carrier})

    simulation.run(main)


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EADDRINUSE])
def test_one_family_is_enough_where_there_is_no_other(number: int) -> None:
    async def main(network: Network) -> None:
        Refusing(network, ("tcp ::", number))
        found = bound(LocalEndpoint(), carriers={"tcp"})
        assert [address[0] for address in addresses(found)] == ["0.0.0.0"]
        found.close()

    simulation.run(main)


def test_a_family_that_fails_otherwise_fails_all() -> None:
    async def main(network: Network) -> None:
        Refusing(network, ("tcp ::", errno.EPERM))
        with pytest.raises(EstablishmentError, match="not permitted"):
            bound(LocalEndpoint(), carriers={"tcp"})
        assert not network.open_sockets()

    simulation.run(main)


def test_link_local_addresses_have_their_interface_behind() -> None:
    async def main(network: Network) -> None:
        refusing = Refusing(network, *[("udp", errno.EPERM)] * 3)
        for local in (
            LocalEndpoint(ip_address="fe80::1", interface="eth0", port=1),
            LocalEndpoint(ip_address="2001:db8::1", interface="eth0", port=1),
            LocalEndpoint(ip_address="fe80::1%eth1", port=1),
        ):
            with pytest.raises(EstablishmentError):
                bound(local, carriers={"udp"})
        assert [local[0] for _, local, _ in refusing.asked] == ["fe80::1%eth0", "2001:db8::1", "fe80::1%eth1"]

    simulation.run(main)


def test_whatever_goes_wrong_nothing_stays_bound() -> None:
    async def main(network: Network) -> None:
        refusing = Refusing(network)
        refusing.open_datagram = None  # type: ignore[assignment]
        with pytest.raises(TypeError):
            bound(LocalEndpoint())
        assert not network.open_sockets()

    simulation.run(main)


def test_what_others_use_stays_open() -> None:
    async def main(network: Network) -> None:
        found = bound(LocalEndpoint(port=443))
        (endpoint,) = found.datagrams
        screener = StubScreener()
        endpoint.serve(screener, lambda stack, facts: None)  # type: ignore[arg-type]
        again = bound(LocalEndpoint(port=443), carriers={"udp"})
        assert again.datagrams == [endpoint]
        again.close()
        found.close()
        assert not endpoint.closed
        endpoint.stop_serving(screener)
        assert endpoint.closed

    simulation.run(main)


def test_reuse_port_is_for_all_carriers() -> None:
    async def main(network: Network) -> None:
        refusing = Refusing(network)
        several = [bound(LocalEndpoint(port=443), reuse_port=True) for _ in range(2)]
        assert {reuse for _, _, reuse in refusing.asked} == {True}
        assert several[0].datagrams != several[1].datagrams
        assert addresses(several[0]) == addresses(several[1])
        with pytest.raises(EstablishmentError):
            bound(LocalEndpoint(port=443))
        for found in several:
            found.close()
        assert not network.open_sockets()

    simulation.run(main)


@pytest.mark.both_loops
@pytest.mark.usefixtures("no_leaks")
async def test_on_the_systems_network() -> None:
    found = bound(LocalEndpoint())
    numbers = {address[1] for address in addresses(found)}
    assert len(numbers) == 1
    if hasattr(socket, "SO_REUSEPORT"):
        shared = bound(LocalEndpoint(ip_address="127.0.0.1"), reuse_port=True)
        (port,) = {address[1] for address in addresses(shared)}
        bound(LocalEndpoint(ip_address="127.0.0.1", port=port), reuse_port=True).close()
        shared.close()
    found.close()
