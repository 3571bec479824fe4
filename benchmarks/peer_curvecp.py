"""NaCl's own CurveCP over loopback: curvecpserver and curvecpclient, a curvecpmessage and a small program in each.

This module runs its own processes (`measure`). Shapes: `message` of bulk (the server's program reads, and times what
came behind the first octets) and of echo (the server's sends back). The six processes are not pinned: they work on all
cores at a time, which is best for them.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from benchmarks.harness import MeasurementError
from benchmarks.jobs import Job
from tests.interop.nacl_tools import Told, connect, make_key, serve


async def told(job: Job, server: tuple[str, ...], client: tuple[str, ...]) -> tuple[Told, Told]:
    """What the programs at the server and at the client came to."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        key = Path(folder) / "key"
        public = make_key(key)
        async with serve(key, *server) as left, connect(public, left.port, *client) as right:
            return await left.told(patience=PATIENCE), await right.told(patience=PATIENCE)


PATIENCE = 120.0  # seconds for one run


async def bulk(job: Job) -> float:
    """Octets per second that arrived."""
    steps = (f"read:{job.warm}", f"clock:{job.count}", "end")
    server, _ = await told(job, steps, (f"write:{job.warm + job.count}:1", "end", "drain"))
    return job.count / server.seconds


async def echo(job: Job) -> float:
    """Round trips per second."""
    if job.size != 1:
        raise MeasurementError("this echo is one of single octets")
    _, client = await told(job, ("relay", "end"), (f"ping:{job.warm}", f"ping:{job.count}", "end", "drain"))
    return job.count / client.seconds


def measure(job: Job) -> float:
    """Do the job's work once: its value."""
    return asyncio.run({"bulk": bulk, "echo": echo}[job.work](job))
