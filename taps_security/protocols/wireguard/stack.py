"""One peer of a tunnel: its handshakes, keys and timers, and the inner flows that go through them.

    send() --> queue --> transmit(): inner packets are written into the slab, padded, sealed where they lie
    receive() --> record.open() in place --> inner flows --> Received, lent views
    a handshake message, ours --> transmit()         an answer --> record --> handshake
    a peer's initiation --> screener --HandOver--> adopt()

While there is no key a bounded number of messages waits for a handshake, the oldest are dropped first. A stack whose
handshake was complete once lives until somebody closes it, however long the peer is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from ...stack.errors import ConnectionLost, LocalError, Reason, RemoteError
from ...stack.events import (
    CloseKind,
    Direction,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    KeyDiscarded,
    KeyExpiring,
    KeyReady,
    PathId,
    PathNews,
    PathValidated,
    PeerMoved,
    RouteIssued,
    RouteRetired,
    TransportEnd,
)
from ...stack.layered import LayeredStack
from ...stack.layers import HandshakeMessage, PathFacts, Slab, UnitKind
from ...stack.stack import DEFAULT_SEND_OPTIONS, Inbound, Transmit
from .delivery import Timer, Timers
from .flows import NEVER, OURS, InnerStack, Shared
from .handshake import HANDSHAKE_KEY, ROUTE, OpenedInitiation, WireGuardHandshake
from .limits import BASE_MTU, LOW_WATER, STAGED
from .record import OVERHEAD, WireGuardRecord
from .wire import INITIATION, INITIATION_SIZE

if TYPE_CHECKING:
    from .peers import Peer


class WireGuardStack(InnerStack):
    """The stack of one peer. `seed`: what a screener opened of the initiation with which the peer began.

    `endpoint_stale`: initiations went unanswered for 90 s; a handshake, or migrate(), makes it False again.
    `received_octets`, `sent_octets`: of outer datagrams' payloads, the authentic ones alone.
    """

    __slots__ = (
        "_facts",
        "_from",
        "_keepalive",
        "_messages",
        "_peer",
        "_timers",
        "endpoint_stale",
        "path",
        "received_octets",
        "sent_octets",
    )

    _handshake: WireGuardHandshake
    _record: WireGuardRecord

    def __init__(self, shared: Shared, peer: Peer, now: float, seed: OpenedInitiation | None = None) -> None:
        super().__init__(
            WireGuardHandshake(peer, shared.state), WireGuardRecord(shared.dropped), shared, peer.public_key
        )
        self.endpoint_stale = False
        self.path: PathId = 0
        self.received_octets = self.sent_octets = 0
        self._peer = peer
        self._timers = Timers(shared.state.environment.random, peer.config.persistent_keepalive)
        self._facts: dict[PathId, PathFacts] = {}
        self._messages: tuple[tuple[PathId, bytes], ...] = ()  # of handshakes
        self._keepalive = False  # an empty packet is due, unless data goes first
        self._from: PathId | None = None  # by which the message came that is being consumed
        if seed is not None:
            self._handshake.consume_initiation(seed, now)
            self.received_octets = INITIATION_SIZE
        shared.state.live[peer.public_key] = self

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        """Begin a handshake, or answer the one that the peer began."""
        self.path = self._record.path = path
        self.path_added(path, facts, now)
        self.events.append(RouteIssued((ROUTE, self.peer)))
        self._timers.wanted(now)
        self._handshake.start(facts, now)
        self._route(now)
        self._settle(now)

    def receive(self, inbound: Inbound, now: float) -> int:
        """What of a run was ours: transport data under our indices, and answers to our handshakes."""
        data = inbound.data
        total, consumed = len(data), 0
        if self.ended:
            return total
        record, opened = self._record, self._shared.opened
        while consumed < total:
            step = record.open(data[consumed:] if consumed else data, inbound.segment, inbound.path, opened, now)
            if record.has_events:
                self._route(now)  # who the peer is and where, before what it says
            plaintexts = opened.plaintexts
            answer = opened.unit if opened.kind is UnitKind.HANDSHAKE else None
            if opened.failed:  # by noise, of which we do not know how long it is
                self.received_octets += sum(map(len, plaintexts)) + OVERHEAD * len(plaintexts)
            else:
                self.received_octets += step if answer is None else step - len(answer)
            if plaintexts:
                while plaintexts and not len(plaintexts[-1]):
                    del plaintexts[-1]  # keepalives
                self._timers.received(now, data=bool(plaintexts))
                if plaintexts:
                    self._take(plaintexts, now)
            if answer is not None:
                self._answered(answer, inbound.path, now)
            elif not step:
                break
            consumed += step
            if self.ended:
                break
        opened.clear()
        self._settle(now)
        return consumed

    def _answered(self, unit: memoryview, path: PathId, now: float) -> None:
        """A response or a cookie reply for one of our indices."""
        before = self._record.send_key
        if self._consume(lambda: self._handshake.receive(HANDSHAKE_KEY, unit, 0, now), path, now):
            self.received_octets += len(unit)
        if self._record.send_key != before:
            # the responder sends nothing before it has seen something under the new keys: this, unless data goes first
            self._keepalive = True

    def adopt(self, seed: object, path: PathId, now: float) -> None:
        """An initiation of our peer that a screener opened."""
        assert isinstance(seed, OpenedInitiation)
        if not self.ended:
            self.received_octets += INITIATION_SIZE
            self._consume(lambda: self._handshake.consume_initiation(seed, now), path, now)
            self._settle(now)

    def _consume(self, step: Callable[[], None], path: PathId, now: float) -> bool:
        """One message of a handshake. False: something was wrong with it; it is dropped, and counted why."""
        try:
            step()
        except RemoteError as error:
            self._shared.dropped[str(error.reason.value)] += 1
            return False
        self._from = path
        self._route(now)
        self._from = None
        return True

    def transport_ended(self, path: PathId, end: TransportEnd, now: float) -> None:
        """Datagrams have no transport that ends."""

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        """A further path; nothing changes until something authentic comes by it, or migrate()."""
        self._facts[path] = facts
        if path == self.path:
            self._measure()

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        """A narrower path makes messages shorter, within reason: whoever sees our datagrams can forge a report. That a
        peer is unreachable is a rumour: the handshake is tried again anyway."""
        if news is PathNews.GONE:
            self._facts.pop(path, None)
        elif news is PathNews.MTU and path in self._facts:
            self._facts[path].mtu = value
            self._measure()

    def sent(self, quoted: memoryview) -> bool:
        """Transport data under the key in use, or a handshake message of ours: both begin with an index at random. A
        cookie reply is the screener's, and what becomes of it changes nothing here.
        """
        return not self.ended and self._record.may_have_sent(quoted)

    def _measure(self) -> None:
        """How large an inner packet the path takes. Less than BASE_MTU is not believed, whoever says so: what a socket
        knows of a path it has from reports too."""
        facts = self._facts.get(self.path)
        room = max(facts.mtu, BASE_MTU) - OVERHEAD if facts is not None and facts.mtu else 0
        self._room = room if 0 < room < self._shared.host.mtu else 0

    # -- deadlines ------------------------------------------------------------------------------------------------
    def deadline_reached(self, now: float) -> None:
        """A timer of `delivery`."""
        for timer in self._timers.due(now):
            if not self.ended:
                getattr(self, _WHEN_DUE[timer])(now)
                self._route(now)
        self._settle(now)

    def _due_give_up(self, now: float) -> None:
        lost = ConnectionLost("the peer answered no handshake for 90 s", reason=Reason.TIMEOUT)
        if not self.complete and (self._inner is not None or not self._timers.persistent):
            self._terminate(CloseKind.ABORTED, lost)  # somebody waits for it, or nobody ever will
            return
        self._timers.gave_up(now)
        self._handshake.abandon(now)
        self.endpoint_stale = True
        self.events.append(PathValidated(self.path, False))
        while self._queue:
            self._drop_oldest(lost)

    def _due_retransmit(self, now: float) -> None:
        self.endpoint_stale = self.endpoint_stale or self._timers.stale(now)
        pending = self._handshake.pending
        if pending is None:
            self._handshake.update_keys(now)
        else:
            self._handshake.unanswered(pending, now)

    def _due_keepalive(self, now: float) -> None:
        self._keepalive = True

    def _due_persistent(self, now: float) -> None:
        self._timers.traversed(now)
        self._keepalive = True
        if now >= self._until:
            self._want_handshake(now)

    def _want_handshake(self, now: float) -> None:
        """Something waits for a key, or the one there is leads nowhere: the next initiation, if none is under way."""
        if self.path in self._facts:
            timers, handshake = self._timers, self._handshake
            timers.wanted(now)
            if timers.may_initiate(now) and not handshake.create_initiation(now):
                timers.postponed(handshake.may_initiate_at)

    def _due_zero_keys(self, now: float) -> None:
        self._handshake.erase(now)

    # -- routing --------------------------------------------------------------------------------------------------
    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        if message.data[0] == INITIATION:
            self._timers.initiated(now)
        else:
            self._timers.sent(now, data=False)
        kept = [one for one in self._messages if one[1][0] != message.data[0]]  # a newer one takes its place
        self._messages = (*kept, (self.path if self._from is None else self._from, message.data))

    def _route_key_ready(self, event: KeyReady, now: float) -> None:
        super()._route_key_ready(event, now)
        timers = self._timers
        if event.direction is Direction.RECEIVE:
            timers.derived(now)
            timers.received(now, data=False)
            if self._from is not None:
                self._move(self._from)
        else:
            self._until = self._record.sealable_until
            timers.completed()
            self.endpoint_stale = False

    def _route_key_discarded(self, event: KeyDiscarded, now: float) -> None:
        super()._route_key_discarded(event, now)
        self._until = self._record.sealable_until

    def _route_key_expiring(self, event: KeyExpiring, now: float) -> None:
        self.events.append(event)
        timers, handshake = self._timers, self._handshake
        if timers.may_initiate(now):
            handshake.key_expiring(event, now)
            if handshake.pending is not None:
                timers.wanted(now)
            elif event.key == handshake.sending_key and now < handshake.may_initiate_at:
                timers.postponed(handshake.may_initiate_at)

    def _route_issued(self, event: RouteIssued, now: float) -> None:
        self._record.indices += (int.from_bytes(event.route[1], "little"),)  # type: ignore[index]
        self.events.append(event)

    def _route_retired(self, event: RouteRetired, now: float) -> None:
        gone = int.from_bytes(event.route[1], "little")  # type: ignore[index]
        self._record.indices = tuple([index for index in self._record.indices if index != gone])
        self.events.append(event)

    def _route_complete(self, event: HandshakeComplete, now: float) -> None:
        shared = self._shared
        agreed = dict(event.summary)  # type: ignore[call-overload]
        known = shared.summaries.get(agreed["psk"])
        if known is None:
            agreed |= {"version": "1", "inner_addresses": shared.host.addresses, "mtu": shared.host.mtu}
            known = shared.summaries[agreed["psk"]] = HandshakeComplete(MappingProxyType(agreed))
        super()._route_complete(known, now)

    def _route_peer_moved(self, event: PeerMoved, now: float) -> None:
        """A datagram that opens proves where its sender is: nothing more is asked."""
        self.path = event.new
        self._measure()
        super()._route_peer_moved(event, now)
        self.events.append(PathValidated(event.new, True))

    def _move(self, path: PathId) -> None:
        """A message of a handshake was authentic."""
        if path != self.path:
            old, self.path, self._record.path = self.path, path, path
            self._measure()
            self.events += (PeerMoved(old, path), PathValidated(path, True))

    _routes = {  # noqa: RUF012 -- annotated by the base
        **LayeredStack._routes,
        RouteIssued: "_route_issued",
        RouteRetired: "_route_retired",
    }

    def _settle(self, now: float) -> None:
        """What the driver looks at."""
        if self.ended:
            self.pending = 0
            return
        self.pending = len(self._messages) + (self._waiting + self._keepalive if now < self._until else 0)
        earliest = self._timers.earliest
        self.deadline = None if earliest == NEVER else earliest

    # -- output ---------------------------------------------------------------------------------------------------
    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        """Messages of handshakes one by one, then inner packets in runs of equal size, then a keepalive."""
        out = self._shared.transmitted
        if self._messages:
            (out.path, data), *rest = self._messages
            self._messages = tuple(rest)
            out.length, out.segment = len(data), 0
            slab.view[: out.length] = data
        else:
            out.path, out.length = self.path, 0
            sealable = self._record.sealable(now) if self._queue or self._keepalive else 0
            if sealable:
                self._transmit_inner(slab, min(datagrams, sealable), out, now)
            elif self._queue and self._until != -NEVER:
                self._until = -NEVER  # that key is over
                self._stage(now)
        if self._record.has_events:
            self._route(now)
        self.sent_octets += out.length
        self._settle(now)
        return out if out.length else None

    def _transmit_inner(self, slab: Slab, datagrams: int, out: Transmit, now: float) -> None:
        key = self._record.send_key
        assert key is not None
        count, size, last = self._write_inner(slab, datagrams, now) if self._queue else (0, 0, 0)
        if not count:
            if self._queue or not self._keepalive or self.ended:
                return  # others wait, nothing does, or what was queued has ended us
            count = 1  # an empty packet
        stride = size + OVERHEAD
        self._record.seal(key, UnitKind.APPLICATION, slab, stride, count, last, now)
        out.length = stride * (count - 1) + OVERHEAD + last
        out.segment = stride if count > 1 else 0
        self._keepalive = False
        self._timers.sent(now, data=size > 0)
        if self._queue:
            self._take_ends()
        if self._blocked and self._waiting <= LOW_WATER:
            self.events += [FlowWritable(flow) for flow in self._blocked]
            self._blocked = ()

    @property
    def wants_input(self) -> bool:
        """Always: what nobody takes is dropped above."""
        return True

    def _stage(self, now: float) -> None:
        """There is no key: what waits is bounded, and a handshake is wanted."""
        queue = self._queue
        assert queue is not None
        excess = sum([1 if messages is None else len(messages) for _, messages, _ in queue]) - STAGED
        if excess > 0:
            lost = ConnectionLost("too much waits for a handshake; the oldest was dropped", reason=Reason.OVERLOADED)
            for _ in range(excess):
                self._drop_oldest(lost)
        self._want_handshake(now)
        self._route(now)

    def reconfigured(self) -> None:
        """The peer's owner says something else of it: flows to what it may not have any more end."""
        if self.ended:
            return
        if self._timers.persistent != self._peer.config.persistent_keepalive:
            self._timers.keep_alive(self._peer.config.persistent_keepalive)
            self.deadline = self._timers.earliest if self._timers.earliest < NEVER else None
        for flow in self._inner.recheck() if self._inner is not None else ():
            self._end_flow(flow, CloseKind.RESET, 0)

    @property
    def remote(self) -> tuple[str, int] | None:
        """Where the peer is outside, as far as we know."""
        facts = self._facts.get(self.path)
        return None if facts is None else facts.remote

    # -- keys and ends --------------------------------------------------------------------------------------------
    def update_keys(self, now: float) -> None:
        """A new handshake now, unless one is under way: the 5 s between two are for those that nobody asks for.

        Raises LocalError before the first is complete.
        """
        self._require_established("update_keys()")
        self._timers.wanted(now)
        if self._handshake.pending is None and not self._timers.hasten(now):
            self._handshake.update_keys(now)
            self._route(now)
        self._settle(now)

    def migrate(self, path: PathId, now: float) -> None:
        """Send by another path from now on, and show it to the peer. Raises LocalError for an unknown path."""
        if self.ended or path not in self._facts:
            raise LocalError(f"migrate(): there is no path {path}")
        self.path = self._record.path = path
        self._measure()
        if now < self._until:
            self._keepalive = True
        elif self.endpoint_stale and (self._timers.persistent or self._queue):
            self._want_handshake(now)
            self._route(now)
        self.endpoint_stale = False
        self._timers.elsewhere()
        self._settle(now)

    def close(self, now: float) -> None:
        """Send what is queued, as soon as there is a key, then end: WireGuard has no word for it."""
        if self.ended or self._closing:
            return
        self._closing = True
        if self._queue and self.complete:
            self._enqueue(OURS, None, DEFAULT_SEND_OPTIONS)
        else:
            self._terminate(CloseKind.SILENT, None)
        self._settle(now)

    def abort(self, error: Exception | None, now: float) -> None:
        """End at once, without a word."""
        self._terminate(CloseKind.ABORTED, error)
        self._settle(now)

    def _terminate(self, how: CloseKind, error: Exception | None) -> None:
        if self.ended:
            return
        lost = error or LocalError("the stack ended before this was sent", reason=Reason.CONNECTION_ABORTED)
        for flow, messages, options in self._queue or ():
            if messages is not None and options.token:
                self.events.append(FlowSent(flow, options.token, lost))
        self._queue, self._waiting, self._messages, self._keepalive = None, 0, (), False
        self._until = -NEVER
        self._timers.stop()
        if self._inner is not None:
            self._inner.close_all()
        live, peers = self._shared.state.live, self._shared.state.peers
        if self._peer.public_key in peers:  # of those that were removed nobody asks any more
            received, sent = self._shared.transfer.get(self.peer, (0, 0))
            self._shared.transfer[self.peer] = received + self.received_octets, sent + self.sent_octets
        if live.get(self._peer.public_key) is self:
            del live[self._peer.public_key]
        self._handshake.erase(0.0)
        super()._terminate(how, error)


_WHEN_DUE = {
    Timer.GIVE_UP: "_due_give_up",
    Timer.RETRANSMIT_HANDSHAKE: "_due_retransmit",
    Timer.SEND_KEEPALIVE: "_due_keepalive",
    Timer.NEW_HANDSHAKE: "_want_handshake",
    Timer.ZERO_KEYS: "_due_zero_keys",
    Timer.PERSISTENT_KEEPALIVE: "_due_persistent",
}
