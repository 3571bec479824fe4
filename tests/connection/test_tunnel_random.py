"""Three tunnels with each other as peers, and hundreds of random calls.

Whatever they were, in the end everybody talks to everybody, and nothing stays behind (`play` looks for that).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain
from typing import Any

import pytest

import taps_security as taps
from taps_security.simulation import Nat, Network
from tests.connection.inside import Site, play, take

NAMES = ("client", "server", "third")
STEPS = 300
PAUSES = (0, 0.005, 0.02, 1, 10, 130)


class Chaos:
    """Random calls on random hosts. What was begun and not awaited is in `tasks`, every flow in `flows`."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network, self.rng = network, random.Random(seed)
        self.sites = {name: Site(network, name, *self.others(name)) for name in NAMES}
        self.listeners: dict[str, taps.Listener] = {}
        self.flows: dict[str, list[taps.Connection]] = {name: [] for name in NAMES}
        self.packets: dict[str, Any] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.calls: tuple[Callable[[str], Awaitable[None]], ...] = (
            *[self.connect, self.send] * 3,
            *[self.close, self.abort, self.clone, self.apply, self.restore, self.cancel, self.pause] * 2,
            *(self.short_lived, self.update, self.use, self.raw, self.cut, self.heal, self.rebind, self.fill),
        )

    def others(self, name: str) -> list[str]:
        return [other for other in NAMES if other != name]

    def tunnel(self, name: str) -> Any:
        return self.listeners[name].tunnel

    def begin(self, work: Callable[..., Any], *given: Any, into: Any = None, **how: Any) -> None:
        """Have something done meanwhile; a connection that it gives is kept."""

        async def run() -> None:
            with suppress(taps.TapsError, TimeoutError):
                found = await work(*given, **how)
                if into is not None:
                    into.append(found)

        self.tasks.append(asyncio.ensure_future(run()))

    # -- calls ----------------------------------------------------------------------------------------------------
    async def connect(self, name: str) -> None:
        other, patience = self.rng.choice(self.others(name)), self.rng.choice((0.01, 0.5, 5))
        self.begin(self.sites[name].connect, other, timeout=patience, into=self.flows[name])

    async def send(self, name: str) -> None:
        messages = [bytes(self.rng.randrange(1392)) for _ in range(self.rng.randrange(20))]
        if self.flows[name]:
            self.begin(self.rng.choice(self.flows[name]).send, messages, timeout=30)

    async def short_lived(self, name: str) -> None:
        if self.flows[name]:
            self.begin(self.rng.choice(self.flows[name]).send, b"x", taps.MessageContext(msg_lifetime=0.01))

    async def close(self, name: str) -> None:
        if self.flows[name]:
            self.begin(self.rng.choice(self.flows[name]).close)

    async def abort(self, name: str) -> None:
        if self.flows[name]:
            self.rng.choice(self.flows[name]).abort()

    async def clone(self, name: str) -> None:
        if self.flows[name]:
            self.begin(self.rng.choice(self.flows[name]).clone, timeout=1, into=self.flows[name])

    async def apply(self, name: str) -> None:
        one = self.rng.choice(self.others(name))
        self.begin(self.tunnel(name).apply, Site(self.network, name, one).options)

    async def restore(self, name: str) -> None:
        self.begin(self.tunnel(name).apply, self.sites[name].options)

    async def update(self, name: str) -> None:
        if self.flows[name]:
            self.begin(self.rng.choice(self.flows[name]).update_keys)

    async def use(self, name: str) -> None:
        (await self.sites[name].tunnel()).release()

    async def raw(self, name: str) -> None:
        if name in self.packets:
            self.packets.pop(name).close()
        else:
            self.packets[name] = self.tunnel(name).packets()

    async def cut(self, name: str) -> None:
        self.network.partition(name, self.others(name))

    async def heal(self, name: str) -> None:
        self.network.heal()

    async def rebind(self, name: str) -> None:
        host = self.network.host("client")
        if host.nat is None:
            host.nat = Nat("203.0.113.7")
        host.nat.rebind()

    async def fill(self, name: str) -> None:
        host = self.network.host(name)
        host.send_buffer = None if host.send_buffer else 1

    async def cancel(self, name: str) -> None:
        if self.tasks:
            self.rng.choice(self.tasks).cancel()

    async def pause(self, name: str) -> None:
        await asyncio.sleep(self.rng.choice(PAUSES))

    # -- all of it ------------------------------------------------------------------------------------------------
    async def accept(self, name: str) -> None:
        async for connection in self.listeners[name]:
            self.flows[name].append(connection)

    async def run(self) -> None:
        for name in NAMES:
            self.listeners[name] = await self.sites[name].listen()
        accepting = [asyncio.ensure_future(self.accept(name)) for name in NAMES]
        for _ in range(STEPS):
            with suppress(taps.TapsError):
                await self.rng.choice(self.calls)(self.rng.choice(NAMES))
        for packets in self.packets.values():
            packets.close()
        self.network.heal()
        for name in NAMES:
            self.network.host(name).send_buffer = None
            for other in self.others(name):
                self.network.link(name, other).loss = 0.0
        await asyncio.sleep(200)  # whoever had given up tries again by now
        for name in NAMES:
            await self.tunnel(name).apply(self.sites[name].options)
        for flow in chain(*self.flows.values()):
            flow.abort()
        for task in accepting:
            task.cancel()
        await asyncio.wait(accepting)
        await self.everybody_talks()
        for listener in self.listeners.values():
            listener.stop()
        assert all(flow.state is taps.ConnectionState.CLOSED for flow in chain(*self.flows.values()))
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def everybody_talks(self) -> None:
        for name in NAMES:
            for other in self.others(name):
                ours = await self.sites[name].connect(other, timeout=20)
                theirs = None
                while theirs is None or theirs.remote_endpoint != ours.local_endpoint:
                    await ours.send(b"are you there?")
                    theirs = await take(self.listeners[other])
                    theirs.abort()
                ours.abort()


@pytest.mark.parametrize("seed", range(12))
def test_random_calls_leave_working_tunnels_and_nothing_else(seed: int) -> None:
    async def scenario(network: Network) -> None:
        await Chaos(network, seed).run()

    play(scenario, seed=seed, loss=0.0 if seed % 2 else 0.05)
