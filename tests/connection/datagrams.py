"""A loop, a datagram socket and a stack that do as they are told, for the endpoint and its doors."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from types import SimpleNamespace
from typing import Any

from taps_security.connection.driver import Driver
from taps_security.connection.endpoint import Endpoint
from taps_security.stack.events import CloseKind, HandshakeComplete, RouteIssued, StackEvent, Terminated
from taps_security.stack.layers import PathFacts
from taps_security.stack.screening import Create, Drop, Load, Match, NotOurs, Reply
from taps_security.stack.stack import Transmit
from taps_security.transport.network import NO_REPORT, Address, Arrival, Report

HERE, THERE, ELSEWHERE = ("127.0.0.1", 1000), ("127.0.0.1", 2000), ("127.0.0.1", 3000)


class StubLoop:
    """Remembers who waits for what."""

    taps_network = object()  # it watches its sockets itself, as a simulated loop does

    def __init__(self) -> None:
        self.now = 0.0
        self.readers: dict[Any, Any] = {}
        self.writers: dict[Any, Any] = {}
        self.soon: deque[tuple[Any, tuple[Any, ...]]] = deque()
        self.timers: list[tuple[float, Any]] = []
        self.readers_added = 0

    def time(self) -> float:
        return self.now

    def add_reader(self, sock: Any, callback: Any) -> None:
        self.readers[sock] = callback
        self.readers_added += 1

    def remove_reader(self, sock: Any) -> None:
        del self.readers[sock]

    def add_writer(self, sock: Any, callback: Any) -> None:
        self.writers[sock] = callback

    def remove_writer(self, sock: Any) -> None:
        del self.writers[sock]

    def call_soon(self, callback: Any, *arguments: Any) -> Any:
        self.soon.append((callback, arguments))
        return SimpleNamespace(cancel=lambda: None)

    def call_at(self, due: float, callback: Any) -> Any:
        timer = (due, callback)
        self.timers.append(timer)
        return SimpleNamespace(cancel=lambda: self.timers.remove(timer) if timer in self.timers else None)

    def turn(self) -> None:
        while self.soon:
            callback, arguments = self.soon.popleft()
            callback(*arguments)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer[0] <= self.now]:
            self.timers.remove(timer)
            timer[1]()
        self.turn()


class StubSocket:
    """Arrivals are put into `arriving`: octets with their segment and addresses, or an OSError with its report."""

    def __init__(self, local: Address = HERE) -> None:
        self.local = local
        self.max_datagrams = 64
        self.arriving: deque[tuple[bytes, int, Address, Address] | tuple[OSError, Address, Report]] = deque()
        self.sent: list[tuple[bytes, int, Address, Address | None, int]] = []
        self.errors: deque[OSError] = deque()
        self.mtu = 1472
        self.closed = False

    def fileno(self) -> int:
        return -1

    def receive_into(self, buffer: memoryview, arrival: Arrival) -> bool:
        if not self.arriving:
            return False
        first, *rest = self.arriving.popleft()
        if isinstance(first, OSError):
            arrival.remote, report = rest
            if report is not NO_REPORT:  # a socket that knows nothing leaves what stands there
                arrival.report = report
            raise first
        arrival.segment, arrival.remote, arrival.local = rest
        arrival.length = len(first)
        buffer[: len(first)] = first
        return True

    def send(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        if self.errors:
            raise self.errors.popleft()
        self.sent.append((bytes(data), segment, remote, local, ecn))

    def path_mtu(self, remote: Address) -> int:
        return self.mtu

    def learn_mtu(self, remote: Address, mtu: int) -> None:
        self.mtu = mtu - 28

    def close(self) -> None:
        self.closed = True


class StubStack:
    """Takes datagrams that begin with `mine`; sends what is put into `output`. What was sent began with `mine` too."""

    def __init__(self, mine: bytes = b"", *, completes: bool = True) -> None:
        self.mine, self.completes = mine, completes
        self.events: list[StackEvent] = []
        self.output: deque[bytes] = deque()
        self.deadline: float | None = None
        self.got: list[tuple[int, bytes, int]] = []
        self.facts: dict[int, Any] = {}
        self.news: list[tuple[Any, ...]] = []
        self.adopted: list[tuple[object, int]] = []
        self.path = 0
        self.error: Exception | None = None
        self.linger: Any = None
        self.wants_input = True

    @property
    def pending(self) -> int:
        return len(self.output)

    def start(self, path: int, facts: Any, now: float) -> None:
        self.path = path
        self.facts[path] = facts
        if self.mine:
            self.events.append(RouteIssued(("stub", self.mine)))
        if self.completes:
            self.events.append(HandshakeComplete({}))

    def adopt(self, seed: object, path: int, now: float) -> None:
        self.adopted.append((seed, path))

    def path_added(self, path: int, facts: Any, now: float) -> None:
        self.facts[path] = facts

    def path_news(self, *news: Any) -> None:
        self.news.append(news[:3])

    def sent(self, quoted: memoryview) -> bool:
        return quoted[: len(self.mine)] == self.mine

    def receive(self, inbound: Any, now: float) -> int:
        step, consumed = inbound.segment or len(inbound.data), 0
        while consumed < len(inbound.data) and inbound.data[consumed : consumed + 1] == self.mine[:1]:
            datagram = bytes(inbound.data[consumed : consumed + step])
            self.got.append((inbound.path, datagram, inbound.ecn))
            consumed += len(datagram)
        return consumed

    def transmit(self, slab: Any, datagrams: int, now: float) -> Transmit | None:
        data = self.output.popleft()
        slab.view[: len(data)] = data
        return Transmit(self.path, len(data))

    def abort(self, error: Exception | None, now: float) -> None:
        self.error = error
        self.events.append(Terminated(CloseKind.ABORTED, error))

    def deadline_reached(self, now: float) -> None:
        raise AssertionError("it has none")

    def retire(self, now: float) -> Any:
        return self.linger


class StubScreener:
    """By the first octet: n NotOurs, d Drop, r Reply, R a long Reply, c Create, x an error."""

    def __init__(self, verdicts: dict[bytes, Any] | None = None) -> None:
        self.verdicts = verdicts or {}
        self.seen: list[bytes] = []
        self.loads: list[Load] = []
        self.stacks: list[StubStack] = []
        self.completes = False

    def recognise(self, head: memoryview) -> Match:
        return Match.NO if head[:1] == b"?" else Match.YES

    def route_of(self, datagram: memoryview) -> Hashable | None:
        return ("stub", bytes(datagram[:1]))

    def screen(self, datagram: memoryview, path: int, facts: Any, load: Load, now: float) -> Any:
        self.seen.append(bytes(datagram))
        self.loads.append(load)
        made = {b"n": NotOurs(), b"d": Drop("dull"), b"r": Reply(b"answer"), b"R": Reply(bytes(500))}
        made[b"c"] = Create(bytes(datagram), validated=True)
        verdict = self.verdicts.get(bytes(datagram[:1]), made.get(bytes(datagram[:1]), Drop("unknown")))
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    def accept(self, seed: Any, now: float) -> StubStack:
        self.stacks.append(StubStack(seed[1:2], completes=self.completes))
        return self.stacks[-1]


class Bench:
    """One endpoint on a stub of everything."""

    def __init__(self, local: Address = HERE) -> None:
        self.loop, self.socket = StubLoop(), StubSocket(local)
        self.numbers = iter(range(10_000))
        self.endpoint = Endpoint(self.loop, self.socket, random=self._random)  # type: ignore[arg-type]
        self.told: list[StackEvent] = []

    def _random(self, length: int) -> bytes:
        return next(self.numbers).to_bytes(length, "big")

    def driver(self, stack: StubStack, facts: PathFacts | None = None) -> Driver:
        return Driver(self.loop, stack, self.told.append)  # type: ignore[arg-type]

    def connect(self, mine: bytes = b"", remote: Address = THERE) -> tuple[Driver, StubStack]:
        stack = StubStack(mine)
        driver = self.driver(stack)
        self.endpoint.connect(driver, remote)
        return driver, stack

    def serve(self, screener: StubScreener | None = None, **how: Any) -> StubScreener:
        screener = screener or StubScreener()
        self.endpoint.serve(screener, self.driver, **how)  # type: ignore[arg-type]
        return screener

    def arrive(self, data: bytes, segment: int = 0, remote: Address = THERE, local: Address = HERE) -> None:
        self.socket.arriving.append((data, segment, remote, local))
        self.read()

    def fail(self, error: OSError, remote: Address = THERE, report: Report = NO_REPORT) -> None:
        self.socket.arriving.append((error, remote, report))
        self.read()

    def read(self) -> None:
        self.loop.readers[self.socket]()
        self.loop.turn()

    def end(self, driver: Driver) -> None:
        driver.stack.abort(None, self.loop.now)
        driver.pump()
        self.loop.turn()
