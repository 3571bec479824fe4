"""An awaitable that wakes its task in the same loop turn.

A Future schedules its task for the next turn of the loop; for a 64-octet echo that turn is a quarter of the time.
When a read brings what a task waits for, no other task is running, so the task may go on at once, inside the read's
callback. It is the same contract with `asyncio.Task` that Future keeps (`_asyncio_future_blocking`,
`add_done_callback`, `result`, `cancel`); whenever another task is running the wake-up is scheduled as usual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


class Waiter:
    """Waits for one wake(); again() makes it fit for another wait of the same task or of another."""

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_loop", "_message", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._cancelled = False
        self._message: object = None
        self.done = False

    def __await__(self) -> Generator[Waiter, None, None]:
        if not self.done:
            self._asyncio_future_blocking = True
            yield self

    def again(self) -> Waiter:
        """The same object for the next wait: nobody waits for it now."""
        self.done = self._cancelled = False
        self._callback = None
        return self

    def wake_now(self) -> None:
        """Let the task go on at once. Only where it is certain that no task is running: in a socket's callback."""
        if not self.done:
            self.done = True
            if self._callback is not None and self._context is not None:
                self._context.run(self._callback, self)

    def wake(self) -> None:
        """Let the task go on: now if no task is running, else in the next turn."""
        if self.done:
            return
        self.done = True
        if self._callback is None:
            return
        if asyncio.current_task(self._loop) is None and self._context is not None:
            self._context.run(self._callback, self)
        else:
            self._loop.call_soon(self._callback, self, context=self._context)

    # -- what asyncio.Task wants of what it waits for -----------------------------------------------------------------
    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that this belongs to."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """The task's wake-up. One task waits, so there is one."""
        self._callback, self._context = callback, context
        if self.done:
            self._loop.call_soon(callback, self, context=context)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Forget the wake-up; how many there were."""
        removed = int(self._callback is not None)
        self._callback = None
        return removed

    def cancel(self, msg: object = None) -> bool:
        """The waiting task is cancelled. Runs inside another task, so the wake-up is scheduled."""
        if self.done:
            return False
        self.done = self._cancelled = True
        self._message = msg
        if self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)
        return True

    def result(self) -> None:
        """None, or CancelledError."""
        if self._cancelled:
            raise asyncio.CancelledError if self._message is None else asyncio.CancelledError(self._message)
