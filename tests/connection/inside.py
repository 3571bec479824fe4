"""Hosts with WireGuard tunnels on the simulated network: what is above the stacks, with a real one below.

Host NAME has the inner address 10.77.0.NUMBER and fd77::NUMBER, and its tunnel at port 51820 unless it is told another.
`play` looks for what a scenario leaves behind: tasks, timers and sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

import taps_security as taps
from taps_security import simulation
from taps_security.connection.tunnel import Tunnel
from taps_security.crypto.sodium import scalarmult_base
from taps_security.simulation import Network
from taps_security.transport.network import Address
from tests.support.leaks import other_tasks

DELAY = 0.01  # seconds from one host to another
PORT, SERVICE = 51820, 7
LONG = 3600.0  # virtual seconds: what takes longer never ends
NUMBERS = {name: number for number, name in enumerate(("client", "server", "third", "fourth"), 1)}
PRIVATE = {name: bytes([number]) * 32 for name, number in NUMBERS.items()}
PUBLIC = {name: scalarmult_base(key) for name, key in PRIVATE.items()}
ANYTHING = taps.TransportProperties.unreliable_datagram()


def inner(name: str) -> str:
    """The inner address of a host."""
    return f"10.77.0.{NUMBERS[name]}"


def inner6(name: str) -> str:
    """Its IPv6 one."""
    return f"fd77::{NUMBERS[name]}"


def peer(name: str, endpoint: Address | str | None = None, **changes: Any) -> taps.WireGuardPeer:
    """A host as others have it among their peers."""
    changes.setdefault("allowed_ips", (f"{inner(name)}/32", f"{inner6(name)}/128"))
    return taps.WireGuardPeer(public_key=PUBLIC[name], endpoint=endpoint, **changes)


def options(name: str, *peers: taps.WireGuardPeer, **changes: Any) -> taps.WireGuardOptions:
    """What a host's tunnel is made of."""
    changes.setdefault("listen_port", PORT)
    addresses = (f"{inner(name)}/24", f"{inner6(name)}/64")
    return taps.WireGuardOptions(private_key=PRIVATE[name], addresses=addresses, peers=peers, **changes)


class Site:
    """One host. By default it has each of `others` as a peer, with an endpoint."""

    def __init__(self, network: Network, name: str, *others: str, given: taps.WireGuardOptions | None = None) -> None:
        self.network, self.name, self.host = network, name, network.host(name)
        self.options = given or options(name, *(peer(other, self.outer(other)) for other in others))

    def outer(self, name: str) -> Address:
        """Where a host's tunnel is."""
        return self.network.host(name).addresses[0], PORT

    def preconnection(self, *remotes: taps.RemoteEndpoint, **how: Any) -> taps.Preconnection:
        """With this host's options."""
        how.setdefault("transport_properties", ANYTHING)
        security = taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": self.options})
        return taps.Preconnection(remote_endpoints=remotes, security_parameters=security, **how)

    async def tunnel(self) -> Tunnel:
        """The tunnel, in use."""
        with self.host:
            return await self.preconnection().tunnel()

    async def listen(self, port: int = SERVICE, address: str | None = None, **how: Any) -> taps.Listener:
        """A listener inside."""
        with self.host:
            local = taps.LocalEndpoint(ip_address=address, port=port)
            return await self.preconnection(local_endpoints=[local]).listen(**how)

    async def connect(
        self, name: str, port: int = SERVICE, *, address: str = "", timeout: float = 5.0, **how: Any
    ) -> taps.Connection:
        """A flow to another host."""
        with self.host:
            remote = taps.RemoteEndpoint(ip_address=address or inner(name), port=port)
            return await self.preconnection(remote, **how).initiate(timeout=timeout)


@asynccontextmanager
async def pair(network: Network, client: Site | None = None) -> AsyncIterator[tuple[taps.Connection, taps.Connection]]:
    """Both ends of a flow from "client" to "server", which have each other as peers."""
    client = client or Site(network, "client", "server")
    async with await Site(network, "server", "client").listen() as listener:
        ours = await client.connect("server")
        await ours.send(b"first")
        theirs = await take(listener)
        assert (await theirs.receive(timeout=5)).data == b"first"
        try:
            yield ours, theirs
        finally:
            ours.abort()
            theirs.abort()


async def take(listener: taps.Listener, timeout: float = 5.0) -> taps.Connection:
    """The next connection of a listener."""
    async with asyncio.timeout(timeout):
        return await listener.accept()


async def tell(sender: taps.Connection, receiver: taps.Connection, *messages: bytes, timeout: float = 5.0) -> None:
    """Messages that arrive as they were, once and in order."""
    for message in messages:
        await sender.send(message)
    for message in messages:
        assert (await receiver.receive(timeout=timeout)).data == message


async def ask(one: taps.Connection, other: taps.Connection) -> None:
    """Both directions live."""
    await tell(one, other, b"a question")
    await tell(other, one, b"an answer")


def reasons(caught: pytest.ExceptionInfo[taps.EstablishmentError]) -> list[object]:
    """Why each candidate failed."""
    return [getattr(failure.error, "reason", failure.error) for failure in caught.value.failures]


async def eventually(true: Callable[[], object], timeout: float = 5.0) -> None:
    """Until something is so."""
    async with asyncio.timeout(timeout):
        while not true():
            await asyncio.sleep(0.001)


def timers() -> list[asyncio.TimerHandle]:
    """What is to happen on this loop."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled()]


def play(scenario: Callable[[Network], Coroutine[Any, Any, None]], *, seed: int = 0, **conditions: Any) -> None:
    """Run a scenario among hosts with so many seconds between them; it leaves nothing behind."""

    async def main(network: Network) -> None:
        network.default_link.delay = DELAY
        for name, value in conditions.items():
            setattr(network.default_link, name, value)
        async with asyncio.timeout(LONG):
            await scenario(network)
        await asyncio.sleep(1)  # what is on its way arrives
        assert not network.open_sockets()
        assert not other_tasks()
        assert not timers()

    simulation.run(main, seed=seed)
