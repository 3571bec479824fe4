"""The works as seen by the client, for every candidate alike: what is timed, what is counted."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Protocol, TypeVar

from benchmarks.jobs import Job

L = TypeVar("L")

SETTLE = 0.3  # seconds that a server gets to finish what the last connection left


class Rounds(Protocol):
    """Does `count` units of work on one connection."""

    async def __call__(self, count: int) -> None: ...


async def rate(job: Job, rounds: Rounds) -> float:
    """Units per second of `job.count` units, after `job.warm` of them."""
    await rounds(job.warm)
    gc.collect()
    start = perf_counter()
    await rounds(job.count)
    return job.count / (perf_counter() - start)


async def rate_of_many(job: Job, connections: list[Rounds]) -> float:
    """Units per second over several connections that work at the same time."""

    async def everyone(count: int) -> None:
        await asyncio.gather(*(rounds(count // len(connections)) for rounds in connections))

    return await rate(job, everyone)


async def handshake_rate(job: Job, connect_once: Callable[[], Awaitable[None]]) -> float:
    """Handshakes per second, `job.connections` at a time."""

    async def handshakes(count: int) -> None:
        async def one_after_another(share: int) -> None:
            for _ in range(share):
                await connect_once()

        await asyncio.gather(*(one_after_another(count // job.connections) for _ in range(job.connections)))

    return await rate(job, handshakes)


async def idle_memory(job: Job, connect: Callable[[], Awaitable[L]]) -> float:
    """Octets of proportional set size (PSS) by which the server grows for each idle connection.

    `connect` opens a connection and exchanges one echo on it, so that it has been in use.
    """
    held = [await connect() for _ in range(job.warm)]
    before = await server_memory(job)
    held += [await connect() for _ in range(job.count)]
    after = await server_memory(job)
    assert len(held) == job.warm + job.count
    return (after - before) / job.count


async def server_memory(job: Job) -> int:
    """The server's PSS in octets, without garbage."""
    await asyncio.sleep(SETTLE)
    os.kill(job.server_process, signal.SIGUSR1)
    await asyncio.sleep(SETTLE)
    return proportional_set_size(Path(f"/proc/{job.server_process}/smaps_rollup").read_text())


def proportional_set_size(smaps_rollup: str) -> int:
    """The Pss line of a smaps_rollup file, in octets."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss line in smaps_rollup")
