"""CurveCP's congestion control through the public API on the simulated network: virtual time, the same on any machine.

100 Mbit/s, 40 ms there and back, a queue of one bandwidth-delay product. Shapes:

one    Mbit/s of one flow from second 10 to 60; settings `controller`, `loss` (of datagrams, per mille)
fair   Jain's index of two flows in those seconds
window mean window of one flow in datagrams, from its rate; `loss` per mille
fixed  settings["value"] / settings["of"]: what it is to be compared with

Rates count datagrams whose octets arrived for the first time, as the link does: 1,184 octets for 1,024 of data.
"""

from __future__ import annotations

import asyncio
from typing import Any

import taps_security as taps
from benchmarks.bottleneck import jain
from benchmarks.jobs import Job
from benchmarks.ours_curvecp import CONTROLLERS, SECRET, SERVER_NAME, parameters
from taps_security import simulation
from taps_security.crypto.sodium import scalarmult_base

RATE, ROUND_TRIP = 100e6, 0.040  # bit/s, seconds
FIRST, LAST = 10.0, 60.0  # seconds
PORT = 4433
DATAGRAM, BLOCK = 1_184, 1_024  # octets
PIECE = bytes(65_536)
APART = 0.004  # seconds between the starts of two flows

_known: dict[str, float] = {}  # a job's value never changes


async def serve(listener: taps.Listener, counts: list[int]) -> None:
    """Count each connection's octets."""

    async def handle(connection: taps.Connection) -> None:
        number = len(counts)
        counts.append(0)
        while views := await connection.receive_views():
            counts[number] += sum(map(len, views))

    await listener.serve(handle)


async def send(preconnection: taps.Preconnection, start: float) -> None:
    """Octets without end."""
    await asyncio.sleep(start)
    connection = await preconnection.initiate()
    while True:
        await connection.send(PIECE)


async def flows(network: Any, job: Job, number: int) -> list[float]:
    """Bit/s of `number` flows in the seconds that count."""
    queue = RATE / 8 * ROUND_TRIP
    loss = job.settings.get("loss", 0) / 1_000
    network.connect("client", "server", delay=ROUND_TRIP / 2, rate=RATE, queue=queue, loss=loss)
    controller: Any = CONTROLLERS[job.settings.get("controller", 0)]
    counts: list[int] = []
    with network.host("server"):
        own = taps.CurveCpOptions(key=SECRET, server_name=SERVER_NAME, congestion=controller)
        listening = taps.Preconnection(
            local_endpoints=[taps.LocalEndpoint(port=PORT)], security_parameters=parameters(own)
        )
        tasks = [asyncio.create_task(serve(await listening.listen(), counts))]
    with network.host("client"):
        options = taps.CurveCpOptions(
            server_key=scalarmult_base(SECRET), server_name=SERVER_NAME, congestion=controller
        )
        initiating = taps.Preconnection(
            remote_endpoints=[taps.RemoteEndpoint(host_name="server", port=PORT)],
            security_parameters=parameters(options),
        )
        tasks += [asyncio.create_task(send(initiating, APART * index)) for index in range(number)]
    await asyncio.sleep(FIRST)
    before = list(counts)
    await asyncio.sleep(LAST - FIRST)
    rates = [8 * (now - then) / (LAST - FIRST) for now, then in zip(counts, before, strict=True)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [rate * DATAGRAM / BLOCK for rate in rates]


def measure(job: Job) -> float:
    """The job's value; the second time it is known."""
    if job.shape == "fixed":
        return job.settings["value"] / job.settings.get("of", 1)
    key = f"{job.shape} {sorted(job.settings.items())}"
    if key not in _known:
        rates = simulation.run(lambda network: flows(network, job, 2 if job.shape == "fair" else 1), seed=1)
        if job.shape == "fair":
            _known[key] = jain(rates)
        else:
            _known[key] = rates[0] / 1e6 if job.shape == "one" else rates[0] * ROUND_TRIP / (8 * DATAGRAM)
    return _known[key]
