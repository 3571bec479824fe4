"""Where the suite runs: on the simulated network, and on loopback with each event loop.

A scenario is an async function of a World. `play()` runs it and fails if it leaves a task or a socket behind.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

from taps_security import simulation
from tests.support.leaks import open_sockets, other_tasks, settle

try:
    import uvloop
except ImportError:  # Windows, PyPy
    uvloop = None  # type: ignore[assignment]

DELAY = 0.01  # seconds from one simulated host to the other
MINUTE = 60.0


@dataclass(frozen=True)
class World:
    """Two hosts. `with world.client:` runs what is inside on it; on loopback both are this machine."""

    address: str  # of the server
    client_address: str
    client: AbstractContextManager[Any]
    server: AbstractContextManager[Any]
    network: simulation.Network | None = None

    @property
    def simulated(self) -> simulation.Network:
        """The network whose conditions a scenario changes."""
        assert self.network is not None, "this scenario is for the simulated network"
        return self.network

    def free_port(self) -> int:
        """A UDP port of the server that nobody has now."""
        if self.network is not None:
            return 51_820
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((self.address, 0))
            port: int = sock.getsockname()[1]
            return port

    def stream_of(self, host: str) -> simulation.SimulatedStream:
        """That host's end of the only open byte stream."""
        (found,) = [stream for stream in self.simulated.streams() if stream.host.name == host]
        return found

    def octets_from(self, host: str) -> int:
        """Octets that a host has sent in byte streams so far."""
        return sum(entry.length for entry in self.simulated.trace if entry.sender == host and entry.kind == "DATA")


Scenario: TypeAlias = Callable[[World], Coroutine[Any, Any, None]]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
if uvloop is not None:
    LOOPS["uvloop"] = uvloop.new_event_loop
WORLDS = ("simulated", *LOOPS)


def play(scenario: Scenario, where: str = "simulated", seed: int = 0) -> None:
    """Run a scenario in one of WORLDS."""
    if where == "simulated":
        simulation.run(lambda network: _simulated(scenario, network), seed=seed)
    else:
        with asyncio.Runner(loop_factory=LOOPS[where]) as runner:
            runner.run(_real(scenario))


async def _simulated(scenario: Scenario, network: simulation.Network) -> None:
    network.connect("client", "server", delay=DELAY)
    client, server = network.host("client"), network.host("server")
    tasks = other_tasks()
    await scenario(World(server.addresses[0], client.addresses[0], client, server, network))
    network.heal()
    await asyncio.sleep(MINUTE)  # the last packets arrive, the last timers end
    assert not network.open_sockets(), f"sockets left behind: {network.open_sockets()}"
    assert not other_tasks() - tasks, f"tasks left behind: {other_tasks() - tasks}"


async def _real(scenario: Scenario) -> None:
    await asyncio.sleep(0)  # uvloop opens its own sockets in its first turn
    sockets, tasks = open_sockets(), other_tasks()
    await scenario(World("127.0.0.1", "127.0.0.1", nullcontext(), nullcontext()))
    left_sockets, left_tasks = await settle(sockets, tasks, turns=2000)  # an end may linger
    assert not left_tasks, f"tasks left behind: {sorted(left_tasks)}"
    assert not left_sockets, f"{left_sockets} sockets left behind"
