"""CurveCP through the public API of taps_security, two processes over loopback, in the shapes `bytes` and `views`.

The works are those of `benchmarks.ours`: bulk with its reply at the end, echo, idle connections after one echo. The
congestion controller is the job's setting `controller`, an index into `CONTROLLERS`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import taps_security as taps
from benchmarks import clock
from benchmarks.ours import HOST, Rounds, count_bytes, count_views, echo
from taps_security.crypto.sodium import scalarmult_base

if TYPE_CHECKING:
    from benchmarks.jobs import Job

CONTROLLERS = ("cubic", "chicago", "new-reno")
SERVER_NAME = "server.example"
SECRET = bytes(range(32))


def parameters(options: taps.CurveCpOptions) -> taps.SecurityParameters:
    """CurveCP alone."""
    return taps.SecurityParameters(stacks=["curvecp"], options={"curvecp": options})


def controller(job: Job) -> Any:
    """The name of the job's congestion controller."""
    return CONTROLLERS[job.settings.get("controller", 0)]


# -- server ---------------------------------------------------------------------------------------------------------
async def serve(job: Job) -> tuple[int, object]:
    """Start the server of the job's work: its port, and what keeps it alive."""
    options = taps.CurveCpOptions(key=SECRET, server_name=SERVER_NAME, congestion=controller(job))
    listening = taps.Preconnection(
        local_endpoints=[taps.LocalEndpoint(ip_address=HOST, port=0)], security_parameters=parameters(options)
    )
    listener = await listening.listen()
    count = count_views if job.shape == "views" else count_bytes
    marks = [job.warm, job.warm + job.count]

    async def handle(connection: taps.Connection) -> None:
        if job.work == "bulk":
            await count(connection, marks)
        else:
            await echo(connection)

    return listener.port, asyncio.create_task(listener.serve(handle))


# -- client ---------------------------------------------------------------------------------------------------------
async def work(job: Job) -> float:
    """Do the client's half of the job's work: its value."""
    options = taps.CurveCpOptions(
        server_key=scalarmult_base(SECRET), server_name=SERVER_NAME, congestion=controller(job)
    )
    initiating = taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=HOST, port=job.port)], security_parameters=parameters(options)
    )

    async def echoed() -> taps.Connection:
        connection = await initiating.initiate()
        await Rounds(connection, job.size).echo(1)
        return connection

    if job.work == "idle":
        return await clock.idle_memory(job, echoed)
    rounds = Rounds(await initiating.initiate(), job.size)
    return await clock.rate(job, getattr(rounds, job.work))
