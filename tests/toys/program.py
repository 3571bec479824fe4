"""Programs that use the toys: a driver, an endpoint, and what an application would do with the events."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from taps_security.connection.driver import Driver
from taps_security.connection.endpoint import Endpoint
from taps_security.stack.asks import Ask, AskWithdrawn, ClaimOnce, VerifyPeer
from taps_security.stack.events import (
    FlowId,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    Received,
    StackEvent,
    Terminated,
)
from taps_security.stack.layers import PathFacts
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, SecurityStack, SendOptions
from taps_security.transport.network import Address, Arrival, DatagramSocket, network_of
from taps_security.transport.paths import PathTable

from .parley import route_of as parley_route
from .parley_screening import ParleyScreener
from .satchel import route_of as satchel_route


class Peer:
    """One stack and its driver. Asks are answered at once, unless `patient`: then they wait in `asks`."""

    def __init__(self, stack: SecurityStack, *, echo: bool = False, patient: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.driver = Driver(self.loop, stack, self._handle)
        self.stack: Any = stack
        self.events: list[StackEvent] = []
        self.data: defaultdict[FlowId, bytearray] = defaultdict(bytearray)
        self.messages: list[bytes] = []
        self.ends: set[FlowId] = set()
        self.asks: list[Ask] = []
        self.ended: Terminated | None = None
        self.claimed: set[bytes] = set()
        self.runs = 0  # Received events
        self._echo, self._patient = echo, patient
        self._blocked: dict[FlowId, list[tuple[bytes, SendOptions]]] = defaultdict(list)
        self._changed = asyncio.Event()

    def _handle(self, event: StackEvent) -> None:
        self._changed.set()
        if isinstance(event, Received):
            self._received(event)
            return
        self.events.append(event)
        if isinstance(event, Ask):
            self.asks.append(event)
            if not self._patient:
                self.driver.answer(event.id, self.verdict(event))
        elif isinstance(event, FlowWritable):
            waiting, self._blocked[event.flow] = self._blocked[event.flow], []
            for data, options in waiting:
                self.send(data, event.flow, options)
        elif isinstance(event, Terminated):
            self.ended = event

    def verdict(self, ask: Ask) -> object:
        if isinstance(ask.request, ClaimOnce):
            fresh = ask.request.token not in self.claimed
            self.claimed.add(ask.request.token)
            return fresh
        assert isinstance(ask.request, VerifyPeer)
        return f"whoever has {ask.request.chain[0].decode()}"

    def _received(self, event: Received) -> None:
        self.runs += 1
        for chunk in event.chunks:
            self.messages.append(bytes(chunk))
            self.data[event.flow] += chunk
        octets = sum(map(len, event.chunks))
        if event.end:
            self.ends.add(event.flow)
        if self._echo and self.ended is None and not getattr(self.stack, "ended", False):
            chunks, event_flow = b"".join(map(bytes, event.chunks)), event.flow
            self.send(chunks, event_flow, SendOptions(end=event.end))
        self.stack.consumed(event.flow, octets, self.loop.time())
        self.driver.schedule()

    def send(self, data: bytes, flow: FlowId = 0, options: SendOptions = DEFAULT_SEND_OPTIONS) -> None:
        if self._blocked[flow] or (not self.stack.send(flow, [data], options, self.loop.time()) and data):
            self._blocked[flow].append((data, options))
        self.driver.schedule()

    def close(self) -> None:
        self.stack.close(self.loop.time())
        self.driver.pump()

    def found(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object], timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def ready(self) -> Peer:
        await self.until(lambda: self.found(HandshakeComplete) or self.ended)
        assert self.ended is None, self.ended
        return self

    async def over(self, timeout: float = 30.0) -> Terminated:
        await self.until(lambda: self.ended, timeout)
        assert self.ended is not None
        return self.ended


class Counting:
    """A datagram socket that counts what really happened."""

    def __init__(self, sock: DatagramSocket) -> None:
        self._socket = sock
        self.local = sock.local
        self.runs_received = self.datagrams_received = self.runs_sent = 0
        self.locals: set[Address] = set()

    @property
    def max_datagrams(self) -> int:
        return self._socket.max_datagrams

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def receive_into(self, buffer: memoryview, arrival: Arrival) -> bool:
        if not self._socket.receive_into(buffer, arrival):
            return False
        self.datagrams_received += -(-arrival.length // arrival.segment) if arrival.segment else 1
        self.runs_received += arrival.segment > 0
        self.locals.add(arrival.local)
        return True

    def send(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        self._socket.send(data, segment, remote, local, ecn)
        self.runs_sent += 0 < segment < len(data)


def open_endpoint(local: Address, remote: Address | None = None, paths: PathTable | None = None) -> Endpoint:
    """An endpoint on the loop's network. Real sockets are counted."""
    loop = asyncio.get_running_loop()
    sock: Any = network_of(loop).open_datagram(local, remote)
    if not hasattr(loop, "taps_network"):
        sock = Counting(sock)
    endpoint = Endpoint(loop, sock, random=os.urandom, paths=paths)
    endpoint.read_routes(parley_route)
    endpoint.read_routes(satchel_route)
    return endpoint


def connect(
    remote: Address,
    stack: SecurityStack,
    *,
    local: Address = ("0.0.0.0", 0),
    paths: PathTable | None = None,
    **how: Any,
) -> tuple[Endpoint, Peer]:
    """A client on a socket of its own."""
    endpoint = open_endpoint(local, remote, paths)
    peer = Peer(stack, **how)
    endpoint.connect(peer.driver, remote)
    return endpoint, peer


class Server:
    """A parley's listener: `peers` in the order in which they came."""

    def __init__(
        self,
        local: Address,
        *,
        echo: bool = True,
        patient: bool = False,
        max_establishing: int = 100,
        **screening: Any,
    ) -> None:
        self.endpoint = open_endpoint(local)
        self.peers: list[Peer] = []
        self.claimed: set[bytes] = set()
        self.screener = ParleyScreener(os.urandom, self.endpoint.issue_id, **screening)
        self._echo, self._patient = echo, patient
        self.endpoint.serve(self.screener, self._make, max_establishing=max_establishing)

    def _make(self, stack: SecurityStack, facts: PathFacts) -> Driver:
        peer = Peer(stack, echo=self._echo, patient=self._patient)
        peer.claimed = self.claimed
        self.peers.append(peer)
        return peer.driver

    @property
    def address(self) -> Address:
        return self.endpoint.local


__all__ = ["AskWithdrawn", "Counting", "FlowSent", "Peer", "Server", "connect", "open_endpoint"]
