"""What both toys do alike: units in and out, paths, asks, deadlines. How they carry data is their own."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from taps_security.parts.deadlines import Deadlines
from taps_security.stack.errors import ConnectionLost, LocalError, Reason, TapsError
from taps_security.stack.events import (
    CloseKind,
    Direction,
    HandshakeComplete,
    KeyId,
    KeyReady,
    PathId,
    PathNews,
    PathValidated,
    PeerMoved,
    Stage,
    TransportEnd,
)
from taps_security.stack.layered import LayeredStack
from taps_security.stack.layers import DatagramRecord, Handshake, HandshakeMessage, Opened, PathFacts, Slab, UnitKind
from taps_security.stack.stack import Inbound, Transmit

from .exchanges import Exchanges, Incoming
from .record import PLAINTEXT, ToyRecord

ESTABLISH = 10.0  # seconds for a handshake
HELD = 8  # units that wait for an answer or a key
DATAGRAM = 1400  # octets that a datagram has at most, where the path carries so much


class DatagramToy(LayeredStack):
    """Handshake, ToyRecord and Exchanges in one place."""

    _record: ToyRecord

    def __init__(self, handshake: Handshake, record: DatagramRecord, *, client: bool) -> None:
        super().__init__(handshake, record)
        self.news: list[tuple[PathId, PathNews, int]] = []
        self.path: PathId = 0
        self._former: PathId = 0
        self._facts: dict[PathId, PathFacts] = {}
        self._credit: dict[PathId, float] = {}  # octets that may go to what is not validated
        self._exchanges = Exchanges(client=client)
        self._deadlines: Deadlines[str] = Deadlines()
        self._opened = Opened()
        self._sealed: deque[tuple[PathId, bytes]] = deque()
        self._held: deque[tuple[KeyId, int, bytes]] = deque(maxlen=HELD)
        self._early: deque[tuple[PathId, bytes]] = deque(maxlen=HELD)
        self._send_key: KeyId | None = None
        self._arrived = 0
        self._transmitted = Transmit(0, 0)

    # -- what a toy brings ----------------------------------------------------------------------------------------
    def _take_data(self, plaintext: memoryview, now: float) -> None:
        raise AssertionError("a toy brings its own")

    def _take_control(self, plaintext: memoryview, now: float) -> None:
        raise AssertionError("a toy brings its own")

    def _taken(self, now: float) -> None:
        """A receive() is over."""

    def _waiting(self) -> int:
        """Datagrams or octets of data that could go now."""
        return 0

    def _transmit_data(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        return None

    def _data_due(self, name: str, now: float) -> None:
        """One of the toy's own deadlines."""

    def _say_failure(self, error: Exception, now: float) -> None:
        """Tell the peer."""

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        self.path = self._former = self._record.path = path
        self._facts[path] = facts
        self._deadlines.set("establish", now + ESTABLISH)
        self._guard(lambda: self._handshake.start(facts, now), now)

    def _guard(self, step: Any, now: float) -> None:
        try:
            step()
            self._route(now)
        except TapsError as error:
            self._fail(error, now)
        self._settle(now)

    def receive(self, inbound: Inbound, now: float) -> int:
        data, total, consumed = inbound.data, len(inbound.data), 0
        if self.ended:
            return total
        if inbound.path in self._credit:
            self._credit[inbound.path] += 3 * total
        self._arrived = total
        try:
            while consumed < total and not self.ended:
                step = self._record.open(data[consumed:], inbound.segment, inbound.path, self._opened, now)
                consumed += step
                self._route(now)  # what the record saw comes before what it opened
                missing = self._opened.unit
                if self._opened.kind is UnitKind.KEY_MISSING and missing is not None:
                    self._early.append((inbound.path, bytes(missing)))
                    consumed += len(missing)
                elif not step:
                    break  # another's
                self._take_units(now)
        except TapsError as error:
            self._fail(error, now)
        finally:
            self._opened.clear()
        self._taken(now)
        self._settle(now)
        return consumed

    def _take_units(self, now: float) -> None:
        opened = self._opened
        for plaintext in opened.plaintexts:
            if self.complete and not self.ended:
                self._take_data(plaintext, now)
        key, unit = opened.key, opened.unit
        if self.ended or key is None or unit is None:
            return
        if opened.kind is UnitKind.HANDSHAKE:
            exchange, message = 0, unit
            if key != PLAINTEXT:
                exchange, message = int.from_bytes(unit[:2], "big"), unit[2:]
            if self._asks:
                self._held.append((key, exchange, bytes(message)))
            else:
                self._feed(key, exchange, message, now)
        elif opened.kind is UnitKind.CONTROL:
            self._take_control(unit, now)

    def _feed(self, key: KeyId, exchange: int, message: memoryview, now: float) -> None:
        verdict = self._exchanges.incoming(exchange)
        if verdict is Incoming.NEW:
            self._handshake.receive(key, message, exchange, now)
            self._route(now)
        elif verdict is Incoming.AGAIN:
            for answer in self._exchanges.answers(exchange):
                self._seal_message(answer, now)

    def answer(self, ask: int, result: object, now: float) -> None:
        def step() -> None:
            super(DatagramToy, self).answer(ask, result, now)
            while self._held and not self._asks and not self.ended:
                key, exchange, message = self._held.popleft()
                self._feed(key, exchange, memoryview(message), now)

        self._guard(step, now)

    def update_keys(self, now: float) -> None:
        super().update_keys(now)
        self._settle(now)

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        self._facts[path] = facts

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        self.news.append((path, news, value))
        if news is PathNews.MTU and path in self._facts:
            self._facts[path].mtu = value
        elif news is PathNews.GONE:
            self._facts.pop(path, None)
        elif news is PathNews.UNREACHABLE and not self.complete and path == self.path:
            self._fail(ConnectionLost("nobody listens there", reason=Reason.REFUSED), now)

    def sent(self, quoted: memoryview) -> bool:
        return self._record.may_have_sent(bytes(quoted))

    def transport_ended(self, path: PathId, end: TransportEnd, now: float) -> None:
        """Datagrams have no transport that ends."""

    def deadline_reached(self, now: float) -> None:
        if not self.ended:
            self._guard(lambda: self._due(now), now)

    def _due(self, now: float) -> None:
        self._record.deadline_reached(now)
        for exchange in self._exchanges.due(now):
            if self._handshake.unanswered(exchange, now):
                self._exchanges.over(exchange)
                self._route(now)
            elif (message := self._exchanges.again(exchange, now)) is not None:
                self._seal_message(message, now)
            else:
                raise ConnectionLost("the peer does not answer", reason=Reason.TIMEOUT)
        for name in self._deadlines.reached(now):
            if name == "establish":
                raise ConnectionLost("the handshake took too long", reason=Reason.TIMEOUT)
            self._data_due(name, now)

    # -- output ---------------------------------------------------------------------------------------------------
    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        out = None
        if self._sealed:
            path, sealed = self._sealed[0]
            if self._spend(path, len(sealed)):
                self._sealed.popleft()
                slab.view[: len(sealed)] = sealed
                out = self._out(path, len(sealed), 0)
        elif self.complete and not self.ended:
            try:
                out = self._transmit_data(slab, datagrams, now)
                self._route(now)
            except TapsError as error:
                self._fail(error, now)
        self._settle(now)
        return out

    def _out(self, path: PathId, length: int, segment: int) -> Transmit:
        out = self._transmitted
        out.path, out.length, out.segment = path, length, segment
        return out

    def _spend(self, path: PathId, octets: int) -> bool:
        """At most three times what came may go to an address that is not validated."""
        left = self._credit.get(path, math.inf)
        if left < octets:
            return False
        if path in self._credit:
            self._credit[path] = left - octets
        return True

    @property
    def wants_input(self) -> bool:
        return True

    def _datagram_size(self) -> int:
        return min(self._facts[self.path].mtu, DATAGRAM) if self.path in self._facts else DATAGRAM

    # -- inside ---------------------------------------------------------------------------------------------------
    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        self._exchanges.queued(message, now)
        self._seal_message(message, now)

    def _seal_message(self, message: HandshakeMessage, now: float) -> None:
        if message.key == PLAINTEXT:
            self._sealed.append((self.path, message.data))
        else:
            self._seal(UnitKind.HANDSHAKE, message.exchange.to_bytes(2, "big") + message.data, now)

    def _seal(self, kind: UnitKind, plaintext: bytes, now: float) -> bytes:
        key = self._send_key
        if key is None:
            raise LocalError("there is no key to send under")
        size, before = len(plaintext), self._record.headroom(key)
        sealed = bytearray(self._record.overhead(key) + size)
        sealed[before : before + size] = plaintext
        self._record.seal(key, kind, Slab(sealed, memoryview(sealed)), len(sealed), 1, size, now)
        self._sealed.append((self.path, bytes(sealed)))
        return bytes(sealed)

    def _route_key_ready(self, event: KeyReady, now: float) -> None:
        super()._route_key_ready(event, now)
        if event.direction is Direction.SEND and event.key.stage is Stage.APPLICATION:
            self._send_key = event.key

    def _replay_early(self, now: float) -> None:
        """What came before its key."""
        early, self._early = self._early, deque(maxlen=HELD)
        for path, datagram in early:
            self.receive(Inbound(memoryview(bytearray(datagram)), path), now)

    def _route_complete(self, event: HandshakeComplete, now: float) -> None:
        self._deadlines.clear("establish")
        self._credit.pop(self.path, None)
        super()._route_complete(event, now)

    def _route_peer_moved(self, event: PeerMoved, now: float) -> None:
        if event.new != self.path:
            self._former, self.path = self.path, event.new
            self._credit[event.new] = 3 * self._arrived
        super()._route_peer_moved(event, now)

    def _route_onwards(self, event: Any, now: float) -> None:
        if isinstance(event, PathValidated):
            self._credit.pop(event.path, None)
            if not event.ok and event.path == self.path:
                self.path = self._former
        super()._route_onwards(event, now)

    def _settle(self, now: float) -> None:
        self.pending = len(self._sealed)
        if self.ended:
            self.deadline = None
            return
        if self.complete:
            self.pending += self._waiting()
        dues = (self._deadlines.earliest, self._exchanges.deadlines.earliest, self._record.deadline)
        self.deadline = min((due for due in dues if due is not None), default=None)

    def _fail(self, error: TapsError, now: float) -> None:
        if not self.ended:
            self._say_failure(error, now)
            self._terminate(CloseKind.ABORTED, error)
            self._settle(now)

    def abort(self, error: Exception | None, now: float) -> None:
        if not self.ended:
            self._sealed.clear()
            self._say_failure(error or LocalError("aborted", reason=Reason.CANCELLED), now)
            self._terminate(CloseKind.ABORTED, error)
            self._settle(now)
