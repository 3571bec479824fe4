from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import pytest

from taps_security.connection.waiter import Waiter

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")


def here() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def waits(waiter: Waiter, seen: list[object]) -> None:
    await waiter
    seen.append(NAME.get())


async def in_callback(action: Callable[[], object]) -> None:
    """Run `action` where no task is running, and wait until it has."""
    done = asyncio.Event()

    def callback() -> None:
        action()
        done.set()

    here().call_soon(callback, context=contextvars.Context())
    await done.wait()


@pytest.mark.parametrize("debug", [False, True])
async def test_a_task_goes_on_inside_the_wake_when_no_task_runs(debug: bool) -> None:
    here().set_debug(debug)
    waiter, seen = Waiter(here()), []
    NAME.set("the waiting task")
    task = asyncio.create_task(waits(waiter, seen))
    await asyncio.sleep(0)
    NAME.set("another")
    during: list[object] = []

    def wake() -> None:
        waiter.wake()
        during.extend(seen)

    await in_callback(wake)
    assert during == ["the waiting task"]  # in its own context
    await task


async def test_a_wake_from_a_task_is_scheduled() -> None:
    waiter, seen = Waiter(here()), []
    task = asyncio.create_task(waits(waiter, seen))
    await asyncio.sleep(0)
    waiter.wake()
    waiter.wake()
    assert not seen
    await task
    assert seen == ["nobody"]


async def test_a_wake_before_the_wait_is_not_lost() -> None:
    waiter = Waiter(here())
    waiter.wake()
    await waiter
    assert waiter.done


async def test_a_callback_added_behind_the_wake_is_called() -> None:
    waiter, called = Waiter(here()), asyncio.Event()
    waiter.wake()
    waiter.add_done_callback(lambda _: called.set())
    await called.wait()


async def test_cancelling_the_task_ends_the_wait_and_a_later_wake_is_harmless() -> None:
    waiter, seen = Waiter(here()), []
    task = asyncio.create_task(waits(waiter, seen))
    await asyncio.sleep(0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    await in_callback(waiter.wake)
    assert not waiter.cancel()
    assert not seen


async def test_cancelled_between_wake_and_resumption_is_cancelled() -> None:
    waiter, seen = Waiter(here()), []
    task = asyncio.create_task(waits(waiter, seen))
    await asyncio.sleep(0)
    waiter.wake()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not seen


async def test_timeouts_work() -> None:
    for debug in (False, True):
        here().set_debug(debug)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Waiter(here())
    waiter = Waiter(here())
    here().call_later(0.01, waiter.wake)
    async with asyncio.timeout(5):
        await waiter


async def test_what_the_woken_task_raises_is_the_tasks() -> None:
    waiter = Waiter(here())

    async def fails() -> None:
        await waiter
        raise ValueError("mine")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await in_callback(waiter.wake)
    with pytest.raises(ValueError, match="mine"):
        await task


async def test_one_task_may_wait_many_times_in_one_callback() -> None:
    waiters = [Waiter(here()) for _ in range(3)]
    passed: list[int] = []

    async def waits_for_all() -> None:
        for index, waiter in enumerate(waiters):
            await waiter
            passed.append(index)

    task = asyncio.create_task(waits_for_all())
    await asyncio.sleep(0)
    await in_callback(lambda: [waiter.wake() for waiter in waiters])
    assert passed == [0, 1, 2]
    await task


async def test_a_callback_that_is_taken_back_is_not_called() -> None:
    waiter, seen = Waiter(here()), []
    waiter.add_done_callback(seen.append)
    assert waiter.remove_done_callback(seen.append) == 1
    assert waiter.remove_done_callback(seen.append) == 0
    waiter.wake()
    await asyncio.sleep(0)
    assert not seen
    assert waiter.get_loop() is here()
    assert waiter.result() is None  # type: ignore[func-returns-value]
