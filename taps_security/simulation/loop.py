"""An asyncio event loop whose time is virtual, and the way to run a program on it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from ..protocols.registry import Environment
from .links import nanoseconds
from .network import HostNetwork, Network
from .sockets import SimulatedSocket, socket_name

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Nothing is scheduled, no packet is on its way, no executor job is out: the program would wait for ever."""


class _Timer(asyncio.TimerHandle):
    """A timer that keeps its place among those of the same instant."""

    __slots__ = ("order",)

    def __init__(self, order: int, when: float, callback: Any, args: Any, loop: Any, context: Any) -> None:
        super().__init__(when, callback, args, loop, context)
        self.order = order

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.order) < (other.when(), other.order)


class _Watch:
    """Who waits for a socket."""

    __slots__ = ("reader", "writer")

    def __init__(self) -> None:
        self.reader: asyncio.Handle | None = None
        self.writer: asyncio.Handle | None = None


class _Clock:
    """Stands where a real loop has its selector: instead of waiting it moves the time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[asyncio.Handle]:
        return self._loop.next_events(timeout)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop with virtual time and a network of its own.

    `time()` starts at 0.0. While something is ready the clock stands; when nothing is, it jumps to the next timer or
    the next arrival of a packet. It stands still while an executor job (run_in_executor, asyncio.to_thread) is out,
    and the loop waits for that job in real time. With nothing to wait for at all the loop raises Deadlock.

    Timers of one instant run in the order in which they were set. call_later() and asyncio.sleep() end on whole
    nanoseconds, so 0.1 s after 0.2 is 0.3; call_at() is taken as it is. No timer runs early.

    `network` holds hosts, links and faults; `taps_network` is what the library finds and uses as its network, and
    `taps_environment` what security protocols find as randomness and wall clock. The randomness comes from the seed,
    so that a run can be had again: it keeps no secret. The wall clock begins at `starts_at` (unix seconds; None: what
    the real one shows, so that real certificates are valid) and goes on with the virtual time.
    Threads of your own that call call_soon_threadsafe() need `with loop.standing_still():` around the wait for them.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[_Timer]
    _default_executor: Executor | None

    def __init__(self, seed: int = 0, *, starts_at: float | None = None) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = math.ulp(0.0)  # asyncio runs what is due before now + resolution: due now, no later
        self._selector = _Clock(self)
        self._order = itertools.count()
        self._watches: dict[SimulatedSocket, _Watch] = {}
        self._touched: dict[SimulatedSocket, None] = {}  # watched sockets that may be ready, in order
        self._jobs = 0
        self._jobs_lock = threading.Lock()
        self._woken = threading.Event()
        self.network = Network(self, seed)
        self.taps_network = HostNetwork(self.network)
        self._starts_at = time.time() if starts_at is None else starts_at
        octets = random.Random(f"octets of {seed}")  # noqa: S311 -- not that of the faults, so that neither moves the other
        self.taps_environment = Environment(random=octets.randbytes, wall_clock=self._wall_clock)

    def __repr__(self) -> str:
        return f"<VirtualLoop seed={self.network.seed} time={self._now} running={self.is_running()}>"

    # -- time -----------------------------------------------------------------------------------------------------
    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def _wall_clock(self) -> float:
        return self._starts_at + self._now

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run `callback` after `delay` virtual seconds, on a whole nanosecond."""
        exact = self._now + delay
        when = nanoseconds(exact)
        return self.call_at(when if when > self._now else exact, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run `callback` at exactly that virtual time."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        timer = _Timer(next(self._order), when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]  # asyncio's own mark, for cancel()
        return timer

    def next_events(self, timeout: float | None) -> list[asyncio.Handle]:
        """For the loop itself: the callbacks of ready sockets; if there is nothing to run, move the clock."""
        events = self._socket_events()
        if self._woken.is_set():
            self._woken.clear()
        elif not events and timeout != 0:
            with self._jobs_lock:
                busy = self._jobs > 0
            if busy or self._woken.is_set():
                self._woken.wait()
                self._woken.clear()
            else:
                self._jump()
        return events

    def _jump(self) -> None:
        when = self._scheduled[0].when() if self._scheduled else math.inf
        if when == math.inf:
            raise Deadlock(self._complaint())
        if when > self._now:
            self._now = when
            self._clock_resolution = math.ulp(when)

    def _complaint(self) -> str:
        lines = []
        for task in sorted(asyncio.all_tasks(self), key=asyncio.Task.get_name):
            frames = task.get_stack(limit=1)
            place = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "not started"
            lines.append(f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')}) at {place}")
        tasks = "; ".join(lines) or "no task"
        return f"at {self._now} s nothing can happen any more (seed {self.network.seed}). Pending: {tasks}"

    # -- sockets --------------------------------------------------------------------------------------------------
    def touch(self, sock: SimulatedSocket) -> None:
        """For sockets: their readiness may have changed."""
        if sock in self._watches:
            self._touched[sock] = None

    def closed_socket(self, number: int, sock: SimulatedSocket) -> None:
        """For sockets: one is closed. Raises RuntimeError if it is still watched."""
        self._touched.pop(sock, None)
        watch = self._watches.pop(sock, None)
        if watch is not None:
            for handle in (watch.reader, watch.writer):
                if handle is not None:
                    handle.cancel()
            raise RuntimeError(f"socket {number} was closed before remove_reader() or remove_writer()")

    def _socket_events(self) -> list[asyncio.Handle]:
        events: list[asyncio.Handle] = []
        for sock in list(self._touched):
            watch = self._watches[sock]
            due = len(events)
            if watch.reader is not None and sock.readable:
                events.append(watch.reader)
            if watch.writer is not None and sock.writable:
                events.append(watch.writer)
            if due == len(events):
                del self._touched[sock]
        return events

    def _process_events(self, events: list[asyncio.Handle]) -> None:
        self._ready.extend(events)

    def _simulated(self, sock: Any) -> SimulatedSocket:
        found = self.network.socket(sock) if isinstance(sock, int) else sock
        if not isinstance(found, SimulatedSocket):
            raise ValueError(f"a VirtualLoop watches only the sockets of its own network, not {sock!r}")
        found.check_open()
        return found

    def _watch(self, fd: Any, kind: str, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        sock = self._simulated(fd)
        watch = self._watches.setdefault(sock, _Watch())
        old: asyncio.Handle | None = getattr(watch, kind)
        setattr(watch, kind, asyncio.Handle(callback, args, self))
        if old is not None:
            old.cancel()
        self.touch(sock)

    def _unwatch(self, fd: Any, kind: str) -> bool:
        sock = self.network.socket(fd) if isinstance(fd, int) else fd
        watch = self._watches.get(sock)
        if watch is None:
            return False
        handle: asyncio.Handle | None = getattr(watch, kind)
        setattr(watch, kind, None)
        if watch.reader is None and watch.writer is None:
            del self._watches[sock]
            self._touched.pop(sock, None)
        if handle is None:
            return False
        handle.cancel()
        return True

    def add_reader(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call `callback` whenever this simulated socket (or its number) is readable."""
        self._watch(fd, "reader", callback, args)

    def remove_reader(self, fd: Any) -> bool:
        """Stop it. False: nobody was waiting."""
        return self._unwatch(fd, "reader")

    def add_writer(self, fd: Any, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call `callback` whenever this simulated socket (or its number) takes octets."""
        self._watch(fd, "writer", callback, args)

    def remove_writer(self, fd: Any) -> bool:
        """Stop it. False: nobody was waiting."""
        return self._unwatch(fd, "writer")

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 -- asyncio's word
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """The simulated resolver, in the form of socket.getaddrinfo()."""
        found = await self.taps_network.resolve(host or "localhost", port or 0, family)
        return [(each.family, type, proto, "", socket_name((each.host, each.port))) for each in found]

    # -- the real world -------------------------------------------------------------------------------------------
    def _write_to_self(self) -> None:
        self._woken.set()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The clock stands while this is open: something outside of the loop will wake it (call_soon_threadsafe)."""
        with self._jobs_lock:
            self._jobs += 1
        try:
            yield
        finally:
            with self._jobs_lock:
                self._jobs -= 1

    def _job_over(self, _job: Future[Any]) -> None:
        with self._jobs_lock:
            self._jobs -= 1
        self._woken.set()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; the clock stands until it is done."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        if executor is None:
            if self._default_executor is None:
                self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="simulation"))
            executor = self._default_executor
            assert executor is not None
        with self._jobs_lock:
            self._jobs += 1
        try:
            job = executor.submit(func, *args)
        except BaseException:
            with self._jobs_lock:
                self._jobs -= 1
            raise
        future = asyncio.wrap_future(job, loop=self)
        job.add_done_callback(self._job_over)  # behind wrap_future's own: the result is queued before the clock moves
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait, in real time, until the threads of the default executor are gone."""
        with self.standing_still():
            await super().shutdown_default_executor()


def run(
    main: Callable[[Network], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    starts_at: float | None = None,
    debug: bool | None = None,
) -> T:
    """Run `main(network)` on a new VirtualLoop and return its result, as asyncio.run() does on a real one.

    `seed` and `starts_at` are those of the loop. What it raises carries the note "simulation seed: N", which tracebacks
    and pytest print.
    """
    try:
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(seed, starts_at=starts_at), debug=debug) as runner:
            return runner.run(_start(main))
    except BaseException as error:
        error.add_note(f"simulation seed: {seed}")
        raise


async def _start(main: Callable[[Network], Coroutine[Any, Any, T]]) -> T:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return await main(loop.network)
