"""Happy Eyeballs over candidates (RFC 8305, RFC 9623 §4.3): attempts start one behind the other, the first ready wins.

    paths --staggered--> stacks --staggered--> addresses --staggered--> attempt(candidate)

Each level has a timer of its own. A failure starts the next attempt at once. A candidate is ready when its attempt
returns, which is when its handshake is complete; nothing here knows a protocol. Losers are cancelled and awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

from ..properties.endpoints import Endpoint, RemoteEndpoint
from ..properties.words import refuse
from ..stack.errors import CandidateFailure, ConnectionLost, EstablishmentError, Reason, RemoteError, TapsError
from ..stack.frozen import frozen, slotted
from ..transport.network import ResolvedAddress
from .candidates import Path, StackChoice
from .performance import Opinion, PerformanceCache
from .resolution import FAMILIES, AddressPool, Lookups, Place

MIN_ATTEMPT_DELAY = 0.1  # seconds; RFC 8305 §8
MAX_ATTEMPT_DELAY = 2.0

_T = TypeVar("_T")
_Child = TypeVar("_Child")
_Child_co = TypeVar("_Child_co", covariant=True)


@frozen(kw_only=True)
class Racing:
    """How candidates race, in seconds. ConfigurationError for values out of bounds.

    `attempt_delay`: between two attempts, 0.1 to 2. `resolution_delay`: how long an IPv4 answer waits for the IPv6
    one, 0 to 2 (RFC 8305 §8).
    """

    attempt_delay: float = 0.25
    resolution_delay: float = 0.05

    def __post_init__(self) -> None:
        for name, low in (("attempt_delay", MIN_ATTEMPT_DELAY), ("resolution_delay", 0.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= MAX_ATTEMPT_DELAY:
                refuse(f"Racing.{name}", value, f"seconds from {low:g} to {MAX_ATTEMPT_DELAY:g}")


# ------------------------------------------------------------------------------------------------------------ report
class Phase(NamedTuple):
    """A part of an attempt, in seconds since the race began."""

    name: str
    start: float
    end: float


@frozen
class Candidate:
    """A leaf of the tree: a stack, a way out, and an address."""

    choice: StackChoice
    path: Path
    endpoint: RemoteEndpoint
    address: ResolvedAddress

    @property
    def place(self) -> str:
        """HOST:PORT in numbers."""
        host, port = self.address.host, self.address.port
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@slotted
class Attempted:
    """What became of one candidate. `outcome`: running, won, lost or failed; `reason` says why."""

    stack: str
    version: str
    endpoint: str
    rank: int
    configuration: int = 0
    outcome: str = "running"
    reason: str = ""
    phases: list[Phase] = field(default_factory=list)
    error: BaseException | None = None

    def as_json(self) -> dict[str, Any]:
        """The words of the command's JSON."""
        return {
            "stack": self.stack,
            "version": self.version,
            "endpoint": self.endpoint,
            "configuration": self.configuration,
            "outcome": self.outcome,
            "reason": self.reason,
            "phases": [phase._asdict() for phase in self.phases],
        }


@slotted
class RaceReport:
    """Every attempt, in the order of their starts."""

    attempts: list[Attempted] = field(default_factory=list)

    @property
    def winner(self) -> Attempted | None:
        """The attempt whose connection the application got."""
        return next((attempt for attempt in self.attempts if attempt.outcome == "won"), None)

    def failures(self) -> tuple[CandidateFailure, ...]:
        """One reason per candidate that failed, by rank."""
        failed = [attempt for attempt in self.attempts if attempt.error is not None]
        return tuple(
            CandidateFailure(attempt.stack, attempt.version, attempt.endpoint, attempt.error)
            for attempt in sorted(failed, key=lambda attempt: attempt.rank)
            if attempt.error is not None
        )

    def as_json(self) -> dict[str, Any]:
        """`candidates` and `winner`, as the command prints them."""
        winner = self.winner
        return {
            "candidates": [attempt.as_json() for attempt in self.attempts],
            "winner": None if winner is None else winner.as_json(),
        }


# --------------------------------------------------------------------------------------------------- staggered starts
class Source(Protocol[_Child_co]):
    """Children to start, in order, perhaps not all known yet."""

    changed: Callable[[], None]  # set by the race: there may be something to take

    def take(self) -> _Child_co | None:
        """The next child, or None: nothing now."""

    @property
    def exhausted(self) -> bool:
        """Nothing is left, and nothing more will come."""

    def close(self) -> None:
        """The race is over."""


class Fixed(Generic[_Child]):
    """Children that are all known."""

    def __init__(self, children: Sequence[_Child]) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._children = list(children)

    def take(self) -> _Child | None:
        """The next child."""
        return self._children.pop(0) if self._children else None

    @property
    def exhausted(self) -> bool:
        """All were taken."""
        return not self._children

    def close(self) -> None:
        """Nothing to let go of."""


class AllFailed(Exception):
    """No child became ready. Why, stands in the report."""


async def staggered(
    loop: asyncio.AbstractEventLoop,
    source: Source[_Child],
    start: Callable[[_Child], Awaitable[_T]],
    delay: float,
    discard: Callable[[_T], None],
) -> _T:
    """The first result of `start(child)`. Raises AllFailed when there is none.

    Children start `delay` seconds apart, the next at once when one fails. A result that comes too late is discarded.
    Cancelling cancels all attempts and waits for them.
    """
    try:
        first = source.take()
        if first is not None and source.exhausted:
            return await start(first)  # an only child needs no task
        return await _Stagger(loop, source, start, delay, discard).run(first)
    finally:
        source.close()


class _Stagger(Generic[_Child, _T]):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: Source[_Child],
        start: Callable[[_Child], Awaitable[_T]],
        delay: float,
        discard: Callable[[_T], None],
    ) -> None:
        self._loop = loop
        self._source = source
        self._start = start
        self._delay = delay
        self._discard = discard
        self._running: list[asyncio.Task[_T]] = []
        self._next_at = loop.time()
        self._wake: asyncio.Future[None] | None = None
        source.changed = self._nudge

    async def run(self, first: _Child | None) -> _T:
        winner: asyncio.Task[_T] | None = None
        try:
            if first is not None:
                self._launch(first)
            while winner is None:
                self._launch_due()
                if not self._running and self._source.exhausted:
                    raise AllFailed
                await self._sleep()
                winner = self._look()
            await self._end(self._running)
        except BaseException:
            if winner is not None:
                self._discard(winner.result())
            await self._end(self._running)
            raise
        return winner.result()

    def _launch(self, child: _Child) -> None:
        async def attempt() -> _T:
            return await self._start(child)

        task = self._loop.create_task(attempt())
        task.add_done_callback(self._nudge)
        self._running.append(task)
        self._next_at = self._loop.time() + self._delay

    def _launch_due(self) -> None:
        while not self._running or self._loop.time() >= self._next_at:
            child = self._source.take()
            if child is None:
                return
            self._launch(child)

    def _look(self) -> asyncio.Task[_T] | None:
        """The first that is ready; the failed are dropped, and let the next one start."""
        for task in [task for task in self._running if task.done()]:
            error = None if task.cancelled() else task.exception()
            if error is None and not task.cancelled():
                self._running.remove(task)
                return task
            self._running.remove(task)
            if error is not None and not isinstance(error, AllFailed):
                raise error
            self._next_at = self._loop.time()
        return None

    async def _sleep(self) -> None:
        """Until an attempt is over, the source has something, or the next start is due."""
        self._wake = self._loop.create_future()
        timer = None
        if self._next_at > self._loop.time() and not self._source.exhausted:
            timer = self._loop.call_at(self._next_at, self._nudge)
        try:
            await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    def _nudge(self, _: object = None) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _end(self, tasks: list[asyncio.Task[_T]]) -> None:
        """Cancel, and wait even when we are cancelled ourselves: an attempt in its end must not be left alone."""
        for task in tasks:
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while pending := [task for task in tasks if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                cancelled = error
        for task in tasks:
            if not task.cancelled() and task.exception() is None:
                self._discard(task.result())
        tasks.clear()
        if cancelled is not None:
            raise cancelled


# -------------------------------------------------------------------------------------------------------------- race
Connect = Callable[[Candidate, Callable[[str], None]], Awaitable[_T]]


class _Ready(NamedTuple, Generic[_T]):
    result: _T
    attempt: Attempted
    candidate: Candidate


class Race(Generic[_T]):
    """One establishment. `connect(candidate, phase_done)` makes an attempt; it is told nothing of the others.

    `phases` names the parts of an attempt in their order, so that an unfinished one has a name. `discard` gets
    results that came too late.
    """

    phases: tuple[str, ...] = ("connect", "handshake")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lookups: Lookups,
        connect: Connect[_T],
        discard: Callable[[_T], None],
        *,
        racing: Racing = Racing(),  # noqa: B008
        attempt_timeout: float | None = None,
        cache: PerformanceCache | None = None,
        families: Callable[[Path], Sequence[int]] = lambda path: FAMILIES,
        report: RaceReport | None = None,
    ) -> None:
        self.report = RaceReport() if report is None else report
        self._loop = loop
        self._lookups = lookups
        self._connect = connect
        self._discard = discard
        self._racing = racing
        self._attempt_timeout = attempt_timeout
        self._cache = cache
        self._families = families
        self._began = loop.time()

    async def run(
        self,
        paths: Sequence[Path],
        choices: Sequence[StackChoice],
        remotes: Sequence[RemoteEndpoint],
        timeout: float | None = None,
    ) -> _T:
        """The first ready result. EstablishmentError with one reason per candidate if there is none in time."""
        try:
            async with asyncio.timeout(timeout) as limit:
                ready = await self._over_paths(paths, choices, remotes)
        except AllFailed:
            self._raise(self._message(remotes), self._common_reason())
        except TimeoutError:
            if not limit.expired():
                raise
            self._time_out(timeout or 0.0)
            self._raise(f"{_named(remotes)}: nothing became ready within {timeout:g} s", Reason.TIMEOUT)
        finally:
            await self._lookups.close()
        for attempt in self.report.attempts:
            if attempt.outcome == "lost":
                attempt.reason = "another was ready first"
        ready.attempt.outcome, ready.attempt.reason = "won", "first to be ready"
        return ready.result

    # -- the tree -------------------------------------------------------------------------------------------------
    async def _over_paths(
        self, paths: Sequence[Path], choices: Sequence[StackChoice], remotes: Sequence[RemoteEndpoint]
    ) -> _Ready[_T]:
        def start(path: Path) -> Awaitable[_Ready[_T]]:
            return self._over_stacks(path, choices, remotes)

        return await self._stagger(Fixed(paths), start)

    async def _over_stacks(
        self, path: Path, choices: Sequence[StackChoice], remotes: Sequence[RemoteEndpoint]
    ) -> _Ready[_T]:
        def start(choice: StackChoice) -> Awaitable[_Ready[_T]]:
            return self._over_addresses(path, choice, remotes)

        return await self._stagger(Fixed(choices), start)

    async def _over_addresses(self, path: Path, choice: StackChoice, remotes: Sequence[RemoteEndpoint]) -> _Ready[_T]:
        fitting = [remote for remote in remotes if remote.protocol in {None, choice.protocol.name}]

        def unresolved(endpoint: Endpoint, error: Exception) -> None:
            attempt = self._record(choice, str(endpoint))
            attempt.phases.append(Phase("resolve", 0.0, self._now()))
            self._failed(attempt, error)

        def opinion(place: Place) -> Opinion:
            if self._cache is None:
                return Opinion.UNKNOWN
            return self._cache.opinion(path.interface, choice.name, _place(choice, path, place).place)

        def start(place: Place) -> Awaitable[_Ready[_T]]:
            return self._attempt(_place(choice, path, place), place.resolved)

        pool = AddressPool(
            self._loop,
            [self._lookups.of(remote) for remote in fitting],
            allowed=self._families(path),
            resolution_delay=self._racing.resolution_delay,
            opinion=opinion,
            unresolved=unresolved,
        )
        return await self._stagger(pool, start)

    async def _stagger(self, source: Source[_Child], start: Callable[[_Child], Awaitable[_Ready[_T]]]) -> _Ready[_T]:
        return await staggered(self._loop, source, start, self._racing.attempt_delay, self._too_late)

    # -- a leaf ---------------------------------------------------------------------------------------------------
    async def _attempt(self, candidate: Candidate, resolved: tuple[float, float] | None) -> _Ready[_T]:
        attempt = self._record(candidate.choice, candidate.place)
        begun = self._now()
        if resolved is not None:
            attempt.phases.append(Phase("resolve", resolved[0] - self._began, resolved[1] - self._began))
        done = 0

        def phase_done(name: str) -> None:
            nonlocal begun, done
            now = self._now()
            attempt.phases.append(Phase(name, begun, now))
            begun, done = now, done + 1

        def unfinished() -> str:
            name = self.phases[done] if done < len(self.phases) else "end"
            attempt.phases.append(Phase(name, begun, self._now()))
            return name

        try:
            async with asyncio.timeout(self._attempt_timeout) as limit:
                result = await self._connect(candidate, phase_done)
        except asyncio.CancelledError:
            unfinished()
            attempt.outcome, attempt.reason = "lost", "cancelled"
            raise
        except (OSError, TapsError) as error:
            name, cause = unfinished(), error
            if limit.expired():
                text = f"no answer within {self._attempt_timeout:g} s ({name})"
                cause = ConnectionLost(text, reason=Reason.TIMEOUT)
            self._failed(attempt, cause)
            self._remember(candidate, cause)
            raise AllFailed from cause
        self._remember(candidate, None)
        return _Ready(result, attempt, candidate)

    def _record(self, choice: StackChoice, endpoint: str) -> Attempted:
        rank, configuration = choice.rank or 0, choice.configuration
        attempt = Attempted(choice.protocol.name, choice.version, endpoint, rank, configuration)
        self.report.attempts.append(attempt)
        return attempt

    def _failed(self, attempt: Attempted, error: BaseException) -> None:
        attempt.outcome = "failed"
        attempt.error = error
        attempt.reason = str(error) or type(error).__name__

    def _remember(self, candidate: Candidate, error: BaseException | None) -> None:
        """Only what the network and the peer do counts, not what we lack ourselves."""
        if self._cache is None or not (error is None or isinstance(error, OSError | RemoteError)):
            return
        network, stack = candidate.path.interface, candidate.choice.name
        self._cache.record(network, stack, candidate.place, worked=error is None)
        self._cache.record(network, stack, candidate.endpoint.host, worked=error is None)

    def _too_late(self, ready: _Ready[_T]) -> None:
        ready.attempt.outcome = "lost"
        self._discard(ready.result)

    def _now(self) -> float:
        return self._loop.time() - self._began

    # -- failure --------------------------------------------------------------------------------------------------
    def _time_out(self, timeout: float) -> None:
        for attempt in self.report.attempts:
            if attempt.outcome == "lost":
                phase = attempt.phases[-1].name if attempt.phases else "start"
                text = f"not ready within {timeout:g} s ({phase})"
                self._failed(attempt, ConnectionLost(text, reason=Reason.TIMEOUT))

    def _message(self, remotes: Sequence[RemoteEndpoint]) -> str:
        count = len(self.report.attempts)
        if not count:
            return f"{_named(remotes)}: none of the endpoints is for an allowed stack"
        return f"{_named(remotes)}: {'the only candidate' if count == 1 else f'all {count} candidates'} failed"

    def _common_reason(self) -> Reason:
        """The one reason that all failures share, if it says more than that they failed."""
        if not self.report.attempts:
            return Reason.NO_CANDIDATES
        reasons = {getattr(attempt.error, "reason", None) for attempt in self.report.attempts}
        shared = reasons.pop() if len(reasons) == 1 else None
        return shared if shared in {Reason.RESOLUTION_FAILED, Reason.TIMEOUT} else Reason.ESTABLISHMENT_FAILED

    def _raise(self, message: str, reason: Reason) -> NoReturn:
        raise EstablishmentError(message, failures=self.report.failures(), reason=reason) from None


def _place(choice: StackChoice, path: Path, place: Place) -> Candidate:
    return Candidate(choice, path, place.endpoint, place.address)


def _named(remotes: Sequence[RemoteEndpoint]) -> str:
    shown = ", ".join(str(remote) for remote in remotes[:3])
    return f"{shown} and {len(remotes) - 3} more" if len(remotes) > 3 else shown
