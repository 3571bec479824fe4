"""One process of a pair: `python -m benchmarks.worker server|client JOB`, pinned to one core.

A server prints {"port": N} once it accepts, and ends on SIGTERM; SIGUSR1 makes it collect garbage, so that idle
memory is compared without what either side had left to the collector. A client prints {"value": X}.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from benchmarks.jobs import Job


def allow_many_files() -> None:
    """Raise the limit of open files as far as this process may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_server(job: Job) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, gc.collect)
    port, listener = await importlib.import_module(job.module).serve(job)
    print(json.dumps({"port": port}), flush=True)
    await stop.wait()
    del listener


async def run_client(job: Job) -> None:
    """Do the work once."""
    value = await importlib.import_module(job.module).work(job)
    print(json.dumps({"value": value}), flush=True)


def run(job: Job, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on the job's loop, under cProfile if the job asks for a profile."""
    factory = None
    if job.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        if not job.profile:
            runner.run(main)
            return
        import cProfile

        profiler = cProfile.Profile()
        try:
            profiler.runcall(runner.run, main)
        finally:
            profiler.dump_stats(job.profile)


def main() -> None:
    """The process's entry."""
    role, job = sys.argv[1], Job.from_json(sys.argv[2])
    if job.core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})
    allow_many_files()
    run(job, run_server(job) if role == "server" else run_client(job))
    sys.stdout.flush()
    os._exit(0)  # thousands of open connections need no tidy end


if __name__ == "__main__":
    main()
