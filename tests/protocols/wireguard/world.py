"""Two local ends in memory: no sockets, a clock that tests set, datagrams that tests may lose, change or keep."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from taps_security.crypto.sodium import scalarmult_base
from taps_security.protocols.registry import Environment
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer
from taps_security.protocols.wireguard.stack import WireGuardStack
from taps_security.protocols.wireguard.tunnel import WireGuardTunnel
from taps_security.stack.errors import TapsError
from taps_security.stack.events import Direction, FlowId, FlowKind, FlowOpened, KeyReady, Received, StackEvent
from taps_security.stack.layers import PathFacts, Slab
from taps_security.stack.screening import Create, Drop, HandOver, Load, Reply
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, Inbound, SendOptions
from taps_security.stack.tunnel import FlowAddress

WALL = 1_700_000_000.0
PRIVATE = {"a": bytes([1]) * 32, "b": bytes([2]) * 32}
PUBLIC = {name: scalarmult_base(key) for name, key in PRIVATE.items()}
PSK = bytes([3]) * 32
INNER = {"a": "10.0.0.1", "b": "10.0.0.2"}
INNER6 = {"a": "fd00::1", "b": "fd00::2"}
OUTER = {"a": ("192.0.2.1", 51820), "b": ("192.0.2.2", 51820)}
OTHER = {"a": "b", "b": "a"}
PATH = 1


def options(
    name: str, *, psk: bool = False, mtu: int = 1420, keepalive: int = 0, peers: Any = None
) -> WireGuardOptions:
    other = OTHER[name]
    peer = WireGuardPeer(
        public_key=PUBLIC[other],
        preshared_key=PSK if psk else None,
        endpoint=OUTER[other],
        allowed_ips=(f"{INNER[other]}/32", f"{INNER6[other]}/128"),
        persistent_keepalive=keepalive,
    )
    return WireGuardOptions(
        private_key=PRIVATE[name],
        addresses=(f"{INNER[name]}/24", f"{INNER6[name]}/64"),
        mtu=mtu,
        peers=(peer,) if peers is None else peers,
    )


class End:
    """One local end, and the stack of its peer once there is one."""

    def __init__(self, world: World, name: str, given: WireGuardOptions, store: Any = None) -> None:
        self.world, self.name = world, name
        self.key_log: list[str] = []
        self.environment = Environment(
            random=world.random.randbytes,
            wall_clock=lambda: WALL + world.now,
            key_log=self.key_log.append,
            store=store,
        )
        self.tunnel = WireGuardTunnel(given, self.environment)
        self.stack: WireGuardStack | None = None
        self.events: list[StackEvent] = []
        self.messages: dict[FlowId, list[bytes]] = {}
        self.out: deque[bytes] = deque()  # datagrams on their way
        self.noise: list[str] = []
        self.errors: list[TapsError] = []
        self.path = PATH  # by which datagrams come to it
        self.paths: list[int] = []  # by which it sent, one for each transmit()
        self.load = Load(0, 100)
        buffer = bytearray(7 * (16 * 1024 + 22))
        self.slab = Slab(buffer, memoryview(buffer))

    # -- what an application does ---------------------------------------------------------------------------------
    def begin(self) -> WireGuardStack:
        self.stack = self.tunnel.stack(PUBLIC[OTHER[self.name]], self.world.now)
        self.stack.start(PATH, self.facts(), self.world.now)
        self.drain()
        return self.stack

    def facts(self) -> PathFacts:
        return PathFacts(OUTER[self.name], OUTER[OTHER[self.name]], mtu=65_507)

    def open(self, port: int = 7, host: str = "", local: tuple[str, int] = ("", 0)) -> FlowId:
        assert self.stack is not None
        address = FlowAddress((host or INNER[OTHER[self.name]], port), local)
        return self.stack.open_flow(FlowKind.DATAGRAM, address, self.world.now)

    def send(self, flow: FlowId, *messages: bytes, options: SendOptions = DEFAULT_SEND_OPTIONS) -> int:
        assert self.stack is not None
        taken = self.stack.send(flow, messages, options, self.world.now)
        self.drain()
        return taken

    def found(self, kind: type) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    @property
    def opened(self) -> list[FlowId]:
        return [event.flow for event in self.found(FlowOpened)]

    # -- what a driver and an endpoint do -------------------------------------------------------------------------
    def drain(self) -> None:
        stack = self.stack
        while stack is not None:
            while stack.events:
                event = stack.events.pop(0)
                if type(event) is Received:
                    self.messages.setdefault(event.flow, []).extend(bytes(chunk) for chunk in event.chunks)
                else:
                    self.events.append(event)
            if not stack.pending:
                return
            sent = 0
            while (out := stack.transmit(self.slab, 43, self.world.now)) is not None:
                sent += 1
                self.paths.append(out.path)
                step = out.segment or out.length
                self.world.sent[self.name] += -(-out.length // step)
                self.out.extend(
                    bytes(self.slab.view[at : min(at + step, out.length)]) for at in range(0, out.length, step)
                )
            if not sent and not stack.events:
                return

    def receive(self, data: bytes, segment: int = 0) -> None:
        """A run of datagrams, as an endpoint hands it out."""
        view, now = memoryview(bytearray(data)), self.world.now
        if self.stack is not None and self.path != PATH:
            self.stack.path_added(self.path, self.facts(), now)
        while view:
            step = self.stack.receive(Inbound(view, self.path, segment), now) if self.stack is not None else 0
            self.drain()
            if not step:
                step = min(segment or len(view), len(view))
                self.screen(view[:step])
            view = view[step:]

    def screen(self, datagram: memoryview) -> None:
        now = self.world.now
        verdict = self.tunnel.screener.screen(datagram, self.path, self.facts(), self.load, now)
        try:
            if isinstance(verdict, Create):
                self.stack = self.tunnel.screener.accept(verdict.seed, now)  # type: ignore[assignment]
                self.stack.start(self.path, self.facts(), now)
            elif isinstance(verdict, HandOver):
                assert self.stack is not None
                self.stack.path_added(self.path, self.facts(), now)
                self.stack.adopt(verdict.seed, self.path, now)
            elif isinstance(verdict, Reply):
                self.out.append(verdict.datagram)
            elif isinstance(verdict, Drop):
                self.noise.append(verdict.reason)
        except TapsError as error:
            self.errors.append(error)
        self.drain()

    def look_at_clock(self) -> None:
        stack = self.stack
        if stack is not None and stack.deadline is not None and stack.deadline <= self.world.now:
            stack.deadline_reached(self.world.now)
            self.drain()

    @property
    def deadline(self) -> float:
        stack = self.stack
        return float("inf") if stack is None or stack.deadline is None else stack.deadline


class World:
    """Two ends. `carry(sender, datagram)`: what arrives of it, perhaps changed; None: nothing."""

    def __init__(self, seed: int = 1, *, store_a: Any = None, store_b: Any = None, **given: Any) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.sent = {"a": 0, "b": 0}
        self.carry: Callable[[str, bytes], bytes | None] = lambda sender, datagram: datagram
        self.seen: list[tuple[str, bytes]] = []
        self.a = End(self, "a", options("a", **given), store_a)
        self.b = End(self, "b", options("b", **given), store_b)
        self.ends = {"a": self.a, "b": self.b}

    def step(self) -> bool:
        """What is on its way arrives, one datagram at a time. False: nothing was."""
        waiting = [(name, end.out.popleft()) for name, end in self.ends.items() for _ in range(len(end.out))]
        for name, datagram in waiting:
            self.seen.append((name, datagram))
            arrived = self.carry(name, datagram)
            if arrived is not None:
                self.ends[OTHER[name]].receive(arrived)
        return bool(waiting)

    def settle(self) -> None:
        """Until nothing is on its way."""
        while self.step():
            pass

    def run(self, seconds: float) -> None:
        """Let time pass: deadlines are met when they are due."""
        end = self.now + seconds
        while True:
            self.settle()
            due = min(self.a.deadline, self.b.deadline)
            if due > end:
                break
            self.now = max(self.now, due)
            self.a.look_at_clock()
            self.b.look_at_clock()
        self.now = end
        self.settle()

    def connect(self, port: int = 7) -> FlowId:
        """a begins, b listens at the port; both are established, nothing is on its way."""
        self.b.tunnel.listen("", port)
        self.a.begin()
        flow = self.a.open(port)
        self.settle()
        assert self.a.stack is not None
        assert self.a.stack.complete
        return flow


def connected(seed: int = 1, **how: Any) -> tuple[World, FlowId, FlowId]:
    """a began, b has heard one message and answered it; nothing is owed."""
    world = World(seed, **how)
    flow = world.connect()
    world.a.send(flow, b"hello")
    world.settle()
    (answering,) = world.b.opened
    world.b.send(answering, b"hello yourself")
    world.settle()
    world.a.messages.clear()
    world.b.messages.clear()
    return world, flow, answering


def sent(world: World, seconds: float) -> dict[str, int]:
    """Datagrams of each end while time passes."""
    before = dict(world.sent)
    world.run(seconds)
    return {name: world.sent[name] - before[name] for name in before}


def generation(end: End, direction: Direction = Direction.SEND) -> int:
    return max(event.key.generation for event in end.found(KeyReady) if event.direction is direction)
