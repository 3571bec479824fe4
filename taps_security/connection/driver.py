"""One pump for one stack: input -> drain events -> transmit() while something is pending -> re-arm one timer.

The driver knows no protocol. It owns the carriers (a TCP socket, or an endpoint's door for one path) and lends them
slabs; events that are not its own go to the sink, one by one, and the sink may call back into the stack.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..stack.errors import ConnectionLost, Reason
from ..stack.events import (
    CloseKind,
    CloseTransport,
    HandshakeComplete,
    PathId,
    PathNews,
    PeerMoved,
    Received,
    RouteIssued,
    RouteRetired,
    StackEvent,
    Terminated,
    TransportEnd,
)
from ..stack.layers import PathFacts, Slab
from ..stack.stack import Inbound, SecurityStack, Transmit
from ..transport.buffers import shared_buffers
from ..transport.network import Address
from ..transport.poller import poller_of

_OF_OWNERS = frozenset({RouteIssued, RouteRetired, HandshakeComplete, PeerMoved})

LINGER = 30.0  # seconds that a full socket may take none of a cleanly ended connection's last octets


class Carrier(Protocol):
    """Takes output to the peer by one path."""

    @property
    def path(self) -> PathId:
        """Which one."""

    @property
    def max_datagrams(self) -> int:
        """Of one transmit(); at least 1. Byte streams ignore it."""

    @property
    def blocked(self) -> bool:
        """The socket is full: transmit() is not called until the driver's writable()."""

    def send(self, slab: Slab, out: Transmit) -> bool:
        """Send slab.view[:out.length]. False: the carrier keeps the slab until it is sent, and is blocked."""

    def finish(self) -> None:
        """FIN behind what was sent; datagram carriers do nothing."""

    def close(self, *, reset: bool) -> None:
        """Let go of the path at once."""

    def resume(self) -> None:
        """The stack may want input again: feed what is held, and read on."""


class Owner(Protocol):
    """Who gave a driver its datagram paths, and hands datagrams to it: an endpoint."""

    def heard(self, driver: Driver, event: StackEvent) -> None:
        """A rare event of the stack: its routes, the end of its handshake, where its peer is now."""


class Driver:
    """Turns one stack's crank. See the head of this file."""

    __slots__ = (
        "_carriers",
        "_finishing",
        "_flush",
        "_last",
        "_lingering",
        "_loop",
        "_pumping",
        "_resetting",
        "_resume_due",
        "_sink",
        "_slabs",
        "_terminated",
        "_timer",
        "_timer_due",
        "answered",
        "clock",
        "in_callback",
        "owner",
        "paused",
        "stack",
        "will_pump",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stack: SecurityStack, sink: Callable[[StackEvent], None]
    ) -> None:
        self.stack = stack
        self._loop = loop
        self.clock = poller_of(loop).time
        self._sink = sink
        self._slabs = shared_buffers(loop).slabs
        self._carriers: tuple[Carrier, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._flush: asyncio.Handle | None = None
        self.answered = False  # an ask was answered since the carrier looked
        self.in_callback = False  # a socket's callback runs, and so no task does
        self.paused = False  # a carrier stopped reading, because the stack wants no input
        self._pumping = False
        self.will_pump = False  # it is pumping, or will at the end of this turn
        self._resume_due = False  # resume() was called inside a pump
        self._lingering = False
        self._finishing = False  # a FIN is due behind what is queued
        self._resetting = False
        self._terminated = False
        self.owner: Owner | None = None
        self._last: Terminated | None = None  # told once the last octets are with the socket

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, carrier: Carrier) -> None:
        """The first path is there: begin."""
        self._carriers = (carrier,)
        self.stack.start(path, facts, self._loop.time())
        self.pump()

    def add_path(self, path: PathId, facts: PathFacts, carrier: Carrier) -> None:
        """A further path, or a new remote address."""
        if self._carrier(path) is None:
            self._carriers += (carrier,)
            self.stack.path_added(path, facts, self._loop.time())
            self.pump()

    @property
    def paths(self) -> tuple[PathId, ...]:
        """Those that it has, the newest last."""
        return tuple([carrier.path for carrier in self._carriers])

    def remote(self, path: PathId) -> Address | None:
        """Where a path of datagrams leads."""
        return getattr(self._carrier(path), "remote", None)

    def drop_path(self, path: PathId) -> None:
        """A path leads nowhere any more."""
        carrier = self._carrier(path)
        if carrier is not None:
            self._carriers = tuple([one for one in self._carriers if one is not carrier])
            carrier.close(reset=False)
            self.path_news(path, PathNews.GONE, 0)

    def path_news(self, path: PathId, news: PathNews, value: int) -> None:
        """What the network says of a path."""
        if not self._terminated:
            self.stack.path_news(path, news, value, self.clock())
            self.pump()

    def taken(self, path: PathId) -> None:
        """A full socket took some of what its carrier holds: who waits for an end with patience goes on waiting."""
        if self._lingering:
            self._arm(self.clock() + LINGER)
        elif self.stack.deadline is not None:
            self.path_news(path, PathNews.TAKEN, 0)

    def receive(self, inbound: Inbound) -> int:
        """Octets consumed of one read or datagram run."""
        now = self.clock()
        consumed = self.stack.receive(inbound, now)
        self.pump(now)
        return consumed

    def adopt(self, seed: object, path: PathId) -> None:
        """A screener opened a datagram that is for this stack."""
        if not self._terminated:
            now = self.clock()
            self.stack.adopt(seed, path, now)
            self.pump(now)

    def transport_ended(self, path: PathId, end: TransportEnd) -> None:
        """The transport of a path ended."""
        if not self._terminated:
            self.stack.transport_ended(path, end, self._loop.time())
            self.pump()
        elif self._lingering and end is not TransportEnd.FIN:
            self._lose(CloseKind.RESET, ConnectionLost("the peer reset the connection", reason=Reason.RESET))

    def answer(self, ask: int, result: object) -> None:
        """The answer to an Ask; then what was held meanwhile is looked at again."""
        self.stack.answer(ask, result, self._loop.time())
        self.answered = True
        self.pump()
        self.resume()

    def writable(self) -> None:
        """A carrier is no longer blocked."""
        paused = not self.stack.wants_input
        self.pump()
        if paused:
            self.resume()  # it may have waited for room for its answers

    def resume(self) -> None:
        """The application took something, or an ask was answered."""
        if self._pumping:
            self._resume_due = True
        elif self.stack.wants_input:
            self.paused = False
            for carrier in self._carriers:
                carrier.resume()

    def _carrier(self, path: PathId) -> Carrier | None:
        for carrier in self._carriers:
            if carrier.path == path:
                return carrier
        return None

    # -- output ---------------------------------------------------------------------------------------------------
    def schedule(self) -> None:
        """Pump at the end of this loop turn: what is sent meanwhile shares records and datagrams."""
        if not self.will_pump:
            self.will_pump = True
            self._flush = self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        self.pump()

    def pump(self, now: float | None = None) -> None:
        """Drain events and output until both are empty or the socket is full, then re-arm the timer.

        `now`: the loop's time, where the caller has it already.
        """
        if self._pumping:
            return
        self._pumping = self.will_pump = True
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        stack = self.stack
        events = stack.events
        sink = self._sink
        try:
            while True:
                while events:
                    event = events.pop(0)
                    kind = type(event)
                    if kind is Received:
                        sink(event)
                    elif kind is CloseTransport:
                        self._close_transport(event)  # type: ignore[arg-type]
                    elif kind is Terminated:
                        self._terminated = True
                        self._last = event  # type: ignore[assignment]
                    else:
                        if kind in _OF_OWNERS and self.owner is not None:
                            self.owner.heard(self, event)
                        if kind is not RouteIssued and kind is not RouteRetired:
                            sink(event)
                if not (stack.pending and self._transmit(now)) and not events:
                    break
        finally:
            self._pumping = self.will_pump = False
        if self._terminated or self._finishing:
            self._finish()
        elif stack.deadline is not None and (self._timer is None or stack.deadline < self._timer_due):
            self._arm(stack.deadline)
        if self._resume_due:
            self._resume_due = False
            self.resume()

    def _transmit(self, now: float | None) -> bool:
        """Move output to the carriers. False: nothing moved, or the socket is full."""
        carriers = self._carriers
        datagrams = 0
        for carrier in carriers:
            if carrier.blocked:
                return False  # the stack picks the path: all must take what comes
            datagrams = carrier.max_datagrams
        if not datagrams:
            return False
        stack, slab = self.stack, self._slabs.lend()
        if now is None:
            now = self.clock()
        moved = False
        while (out := stack.transmit(slab, datagrams, now)) is not None:
            moved = True
            taker = carriers[0] if carriers[0].path == out.path else self._carrier(out.path)
            if taker is not None and not taker.send(slab, out):
                return True  # the carrier gives the slab back
            if not stack.pending:
                break
        self._slabs.give_back(slab)
        return moved

    def _close_transport(self, event: CloseTransport) -> None:
        if event.how is TransportEnd.FIN:
            self._finishing = True
        else:
            self._resetting = True

    def _finish(self) -> None:
        """The end of output, or of everything."""
        blocked = any(carrier.blocked for carrier in self._carriers)
        if self._last is not None:
            if blocked and self._last.how is CloseKind.CLEAN:
                if not self._lingering:
                    self._lingering = True
                    self._arm(self._loop.time() + LINGER)
                return
            self._let_go()
        elif not self._terminated:
            if not blocked and not self.stack.pending:
                self._finishing = False
                for carrier in self._carriers:
                    carrier.finish()
            deadline = self.stack.deadline
            if deadline is not None and (self._timer is None or deadline < self._timer_due):
                self._arm(deadline)

    def _let_go(self) -> None:
        """Close every carrier and tell the end."""
        last, self._last = self._last, None
        self._disarm()
        carriers, self._carriers = self._carriers, ()
        for carrier in carriers:
            carrier.close(reset=self._resetting)
        if last is not None:
            self._sink(last)

    def _lose(self, how: CloseKind, error: Exception) -> None:
        """A clean end whose last octets did not get to the socket is none."""
        if self._last is not None:
            self._last = Terminated(how, error)
            self._resetting = True
            self._let_go()

    # -- the timer ------------------------------------------------------------------------------------------------
    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._deadline_reached)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deadline_reached(self) -> None:
        due, self._timer = self._timer_due, None
        deadline = self.stack.deadline
        if self._terminated:
            text = f"the socket took none of the last octets for {LINGER:g} s"
            self._lose(CloseKind.ABORTED, ConnectionLost(text, reason=Reason.TIMEOUT))
            return
        if deadline is None:
            return
        if deadline > due:
            self._arm(deadline)  # it moved later since it was armed
            return
        self.stack.deadline_reached(max(self._loop.time(), due))
        self.pump()
