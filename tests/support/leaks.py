"""What a test must not leave behind: tasks and sockets."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")


def open_sockets() -> int:
    """How many sockets this process has; 0 where the system does not show them.

    Their number, not their names: uvloop makes a new pair for signals in each run of the loop.
    """
    found = 0
    if _DESCRIPTORS.is_dir():
        for descriptor in os.listdir(_DESCRIPTORS):
            try:
                found += os.readlink(_DESCRIPTORS / descriptor).startswith("socket:")
            except OSError:
                continue  # the descriptor of the listing itself
    return found


def other_tasks() -> set[asyncio.Task[object]]:
    """Every unfinished task of this loop but the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def settle(sockets: int, tasks: set[asyncio.Task[object]], turns: int = 50) -> tuple[int, set[str]]:
    """What is there that was not there before, after the loop had some turns to finish closing: sockets, tasks."""
    for turn in range(turns):
        new_sockets, new_tasks = open_sockets() - sockets, other_tasks() - tasks
        if new_sockets <= 0 and not new_tasks:
            break
        await asyncio.sleep(0 if turn < turns // 2 else 0.01)
    return max(0, new_sockets), {repr(task) for task in new_tasks}
