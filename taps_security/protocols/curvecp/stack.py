"""CurveCP's stack: one stream over datagrams. Flow 0 is there from the start, and the connection ends with it.

    client    start: Hello, again until a Cookie --KeyReady--> Initiates --KeyConfirmed--> Messages
    server    start: asks --KeyReady--> the Initiate's own message --> Messages

The end of both streams is the end of the connection; a `CurveCpLinger` answers for it for a while. close() sends what
is queued and the end; abort() says the end by failure once, and the linger says it again to who did not hear it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ...stack.asks import AskId
from ...stack.errors import ConnectionLost, HardLimitReached, LocalError, PeerAborted, Reason, TapsError
from ...stack.events import (
    Buffer,
    CloseKind,
    FlowId,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    KeyConfirmed,
    PathId,
    PathNews,
    PathValidated,
    PeerMoved,
    Received,
    TransportEnd,
)
from ...stack.layers import HandshakeMessage, Opened, PathFacts, Slab, UnitKind
from ...stack.stack import Inbound, SendOptions, Transmit
from .delivery import Delivery
from .handshake import FIRST_PACKETS, STREAM, ClientHandshake, OpenedInitiate, ServerHandshake
from .limits import (
    AMPLIFICATION,
    BLOCK_PADDING,
    CLOSE_WAIT,
    FIRST_BLOCK,
    HELLO_WAITS,
    MAX_BLOCK,
    MESSAGE_HEADER,
    MESSAGE_SIZES,
    PROBE_MESSAGE,
    SEND_HIGH,
    SEND_LOW,
)
from .linger import CurveCpLinger
from .record import CurveCpRecord
from .timers import Due, TimedStack
from .wire import FAILURE, message_size

_USUAL_MTU = 1280 - 48  # octets, where a path does not say


class CurveCpStack(TimedStack):
    """Handshake, record and delivery of one connection.

    `jitter`: a fraction from 0 to 1, at random, for each wait of a Hello. `seed`: what a server's screener opened.
    """

    __slots__ = (
        "_arrived",
        "_blocked",
        "_credit",
        "_facts",
        "_hello_at",
        "_jitter",
        "_linger",
        "_moved_at",
        "_opened",
        "_received",
        "_seed",
        "_transmitted",
        "path",
    )

    def __init__(
        self,
        handshake: ClientHandshake | ServerHandshake,
        record: CurveCpRecord,
        delivery: Delivery,
        *,
        idle_timeout: float,
        keep_alive: float | None = None,
        jitter: Sequence[float] = (),
        seed: OpenedInitiate | None = None,
    ) -> None:
        super().__init__(handshake, record, delivery, idle_timeout, keep_alive)
        self.path: PathId = 0
        self._facts: dict[PathId, PathFacts] = {}
        self._jitter = jitter
        self._seed = seed
        self._opened = Opened()
        self._transmitted = Transmit(0, 0)
        self._received: Received | None = None
        self._credit: float | None = None  # octets that may go to an address that has not answered; None: it has
        self._arrived = 0  # octets of the last receive()
        self._moved_at = 0  # the first number that went there
        self._hello_at = 0.0
        self._blocked = False  # send() refused: say FlowWritable
        self._linger: CurveCpLinger | None = None

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        """There is a path. A client says Hello."""
        self.path = self._record.path = path
        self._facts[path] = facts
        self._heard = now
        self._guard(lambda: self._handshake.start(facts, now), now)

    def _guard(self, step: Callable[[], None], now: float) -> None:
        try:
            step()
            self._route(now)
        except TapsError as error:
            self._fail(error, now)
        self._settle(now)

    def receive(self, inbound: Inbound, now: float) -> int:
        """Open what is there; the octets consumed."""
        data, total = inbound.data, len(inbound.data)
        if self.ended:
            return total
        record, opened = self._record, self._opened
        self._arrived = total
        if self._credit is not None and inbound.path == self.path:
            self._credit += AMPLIFICATION * total
        consumed = 0
        try:
            while consumed < total and not self.ended:
                step = record.open(data[consumed:] if consumed else data, inbound.segment, inbound.path, opened, now)
                if not step:
                    break  # another stack's
                consumed += step
                if record.has_events:
                    self._route(now)
                if opened.plaintexts:
                    self._heard = now
                    self._take(opened.plaintexts, now)
                if opened.kind is UnitKind.HANDSHAKE and opened.unit is not None:
                    self._take_cookie(opened.unit, now)
        except TapsError as error:
            self._fail(error, now)
        finally:
            opened.clear()
        self._after(now)
        return consumed

    def _take(self, messages: list[memoryview], now: float) -> None:
        """Messages of the stream."""
        delivery = self._delivery
        if self._received is None:
            self._received = Received(0, [])
        if not self.complete:
            return
        delivery.take(messages, self._received.chunks, now)
        if self._credit is not None and delivery.recovery.space().largest_acked >= self._moved_at:
            self._credit = None
            self.events.append(PathValidated(self.path, True))
            self._choose_block()

    def _take_cookie(self, packet: memoryview, now: float) -> None:
        if self._asks or self.complete:
            return
        self._handshake.receive(FIRST_PACKETS, packet, 0, now)
        self._route(now)
        if self.complete and self._hellos == 1:
            self._delivery.first_sample(now - self._hello_at, now)

    def _after(self, now: float) -> None:
        """A turn is over: tell what came, and see what ended."""
        delivery = self._delivery
        received, self._received = self._received, None
        incoming = delivery.incoming
        if self._closing and received is not None:
            octets = sum(map(len, received.chunks))
            if octets:
                incoming.consumed(octets)
            received = None
        if incoming.over and not self._peer_over and not self.ended:
            self._peer_over = True
            if not incoming.failed and not self._closing:
                received = received or Received(0, [])
                received.end = True
        if received is not None and (received.chunks or received.end):
            self.events.append(received)
        if not self.ended and self.complete:
            self._account()
            self._look_at_close(now)
            if incoming.failed:
                self._end(CloseKind.ABORTED, PeerAborted("the peer ended its stream with a failure"), now)
            elif self._peer_over and delivery.outgoing.over:
                self._end(CloseKind.CLEAN, None, now)
        self._settle(now)

    def _account(self) -> None:
        """What arrived at the peer."""
        outgoing = self._delivery.outgoing
        if outgoing.tokens:
            for token in self._delivery.arrived_tokens():
                self.events.append(FlowSent(0, token))
        if self._blocked and outgoing.unsent <= SEND_LOW:
            self._blocked = False
            self.events.append(FlowWritable(0))

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """The answer to an Ask, or `Refused`."""
        if self.ended:
            return
        try:
            super().answer(ask, result, now)
            self._take_seed(now)
        except TapsError as error:
            self._fail(error, now)
        self._after(now)

    def _take_seed(self, now: float) -> None:
        """The Initiate's own message, once its client is allowed."""
        if self._seed is not None and self.complete:
            seed, self._seed = self._seed, None
            self._take([memoryview(seed.message)], now)

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        """A further path, or a new address of the peer: used once it sends the newest datagram from there."""
        self._facts[path] = facts

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        """MTU, and that nobody listens. An established connection believes only silence."""
        if news is PathNews.MTU and path in self._facts:
            self._facts[path].mtu = value
            self._choose_block()
        elif news is PathNews.GONE:
            self._facts.pop(path, None)
        elif news is PathNews.UNREACHABLE and not self.complete and path == self.path and not self.ended:
            self._fail(ConnectionLost("nobody listens there", reason=Reason.REFUSED), now)
        self._settle(now)

    def sent(self, quoted: memoryview) -> bool:
        """A Hello, Initiate or Message of ours. Cookies are the screener's, and of no stack."""
        return not self.ended and self._record.may_have_sent(bytes(quoted))

    def transport_ended(self, path: PathId, end: TransportEnd, now: float) -> None:
        """Datagrams have no transport that ends."""

    # -- output ---------------------------------------------------------------------------------------------------
    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        """Packets that are whole already, then messages in batches of equal size."""
        if self._packets:
            path, packet = self._packets.popleft()
            if not self._packets:
                self._packets = None
            slab.view[: len(packet)] = packet
            self._settle(now)
            return self._out(path, len(packet), 0)
        if self.ended or not self.complete:
            self._settle(now)
            return None
        record, delivery = self._record, self._delivery
        overhead = record.overhead(STREAM)
        if self._credit is not None:
            datagrams = min(datagrams, int(self._credit) // (overhead + PROBE_MESSAGE))
        out = None
        filled = delivery.fill(slab.view, overhead, datagrams, now) if datagrams else None
        if filled is not None:
            count, stride, last = filled
            try:
                record.seal(STREAM, UnitKind.APPLICATION, slab, stride, count, last, now)
                length = (count - 1) * stride + overhead + last
                if self._credit is not None:
                    self._credit -= length
                out = self._out(self.path, length, stride if count > 1 else 0)
                self._sent_at = now
                if record.has_events:
                    self._route(now)
                if self._blocked:
                    self._account()
            except TapsError as error:
                self._fail(error, now)
        self._settle(now)
        if out is None and self._credit is not None:
            self.pending = 0
        return out

    def _out(self, path: PathId, length: int, segment: int) -> Transmit:
        out = self._transmitted
        out.path, out.length, out.segment = path, length, segment
        return out

    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        """A Hello, which waits for its Cookie longer each time (and as much again at random)."""
        self._queue_packet(message.data)
        wait = HELLO_WAITS[self._hellos]
        jitter = self._jitter[self._hellos] if self._jitter else 0.0
        self._hellos += 1
        self._hello_at = now
        self._deadlines.set(Due.HELLO, now + wait * (1 + jitter))

    def _queue_packet(self, packet: bytes) -> None:
        if self._packets is None:
            self._packets = deque()
        self._packets.append((self.path, packet))

    @property
    def wants_input(self) -> bool:
        """Datagrams are never held back: what does not fit is not acknowledged."""
        return True

    # -- flows ----------------------------------------------------------------------------------------------------
    def send(self, flow: FlowId, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        """Octets taken: all, or 0 above the high-water mark, which does not stop the last send.

        Raises LocalError after the end of sending.
        """
        outgoing = self._delivery.outgoing
        if self.ended or outgoing.end or flow:
            raise LocalError("send(): this connection sends nothing more")
        if outgoing.unsent >= SEND_HIGH and not options.end:
            self._blocked = True
            return 0
        before = outgoing.final
        for chunk in chunks:
            outgoing.append(chunk)
        taken = outgoing.final - before
        if options.end:
            outgoing.finish()
        if options.token:
            if outgoing.tokens is None:
                outgoing.tokens = deque()
            outgoing.tokens.append((outgoing.final, options.token))
        if self.complete:
            if options.token and not taken:
                self._account()
            self._settle(now)
        return taken

    def message_limit(self, flow: FlowId) -> int:
        """0: a stream has no messages."""
        return 0

    def consumed(self, flow: FlowId, octets: int, now: float) -> None:
        """The application took that many octets. A peer that was refused some is told that there is room again."""
        delivery = self._delivery
        if delivery.incoming.consumed(octets) and not self.ended:
            delivery.ping_due = delivery.ack_due = True
            self._settle(now)

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        """The only flow is the connection."""
        self.abort(None, now)

    def migrate(self, path: PathId, now: float) -> None:
        """Use another path from now on; the peer follows. LocalError if there is none of that name."""
        self._require_established("migrate()")
        if path not in self._facts:
            raise LocalError(f"migrate(): there is no path {path}")
        if path != self.path:
            self.path = path
            self._credit = None  # the peer's address is the one that it had
            self._delivery.path_changed(now)
            self._choose_block()
            self._delivery.ping_due = True
        self._settle(now)

    # -- ends -----------------------------------------------------------------------------------------------------
    def close(self, now: float) -> None:
        """Send what is queued, then the end, and throw away what still comes."""
        if self.ended:
            return
        if not self.complete:
            self.abort(None, now)
            return
        if not self._closing:
            self._closing = True
            outgoing = self._delivery.outgoing
            if not outgoing.end:
                outgoing.finish()
            self._delivery.progress = now
            self._draining = not outgoing.over
            self._discard_unread()
            self._deadlines.clear(Due.SILENCE)
            self._look_at_close(now)
        self._after(now)

    def _discard_unread(self) -> None:
        """What the application has not taken, it will not take."""
        incoming = self._delivery.incoming
        incoming.consumed(incoming.unread)

    def _look_at_close(self, now: float) -> None:
        if self._closing and Due.CLOSE not in self._deadlines and self._delivery.outgoing.over:
            self._draining = False
            self._deadlines.clear(Due.SILENCE)
            self._deadlines.set(Due.CLOSE, now + CLOSE_WAIT)

    def abort(self, error: Exception | None, now: float) -> None:
        """End at once; the peer hears that our stream failed."""
        if not self.ended:
            self._end(CloseKind.ABORTED, error, now, end=FAILURE)
            self._settle(now)

    def _end(self, how: CloseKind, error: Exception | None, now: float, end: int = 0) -> None:
        """The last word, the linger that says it again, and the end.

        After close() a stream of the peer's that never ended fails, but only if something comes of it.
        """
        self._packets = None
        if self.complete:
            acknowledges = self._delivery.ack_due
            words = self._delivery.last_words(end)
            try:
                self._linger = CurveCpLinger(self._record, words, now + self._delivery.time_wait)
                if how is CloseKind.ABORTED or acknowledges:
                    self._queue_packet(self._linger.say(now))
            except HardLimitReached:
                self._linger = None  # a key past its hard limit cannot even say that
        self._terminate(how, error)

    def _terminate(self, how: CloseKind, error: Exception | None) -> None:
        """Tell each send that did not arrive why, and let go of what it refers to."""
        if self.ended:
            return
        outgoing = self._delivery.outgoing
        self._account()
        while outgoing.tokens:
            lost = error or LocalError("the connection ended before this arrived", reason=Reason.CONNECTION_ABORTED)
            self.events.append(FlowSent(0, outgoing.tokens.popleft()[1], lost))
        outgoing.drop()
        self._deadlines.clear_all()
        super()._terminate(how, error)

    def retire(self, now: float) -> CurveCpLinger | None:
        """TIME-WAIT: whoever did not hear our last word hears it again. With it the key leaves this stack."""
        linger, self._linger = self._linger, None
        return linger

    # -- routing --------------------------------------------------------------------------------------------------
    def _route_complete(self, event: HandshakeComplete, now: float) -> None:
        self._deadlines.clear(Due.HELLO)
        self._heard = self._sent_at = self._delivery.asked = now
        super()._route_complete(event, now)
        self._choose_block()
        self._deadlines.set(Due.IDLE, now + self._idle_timeout / 2)
        self._deadlines.set(Due.LOST, now + self._idle_timeout)
        if self._keep_alive is not None:
            self._deadlines.set(Due.KEEP_ALIVE, now + self._keep_alive)
        if self._record.long_header:
            self._delivery.ping_due = True  # the server knows nothing of us before the first Initiate

    def _route_key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        super()._route_key_confirmed(event, now)
        self._choose_block()

    def _route_peer_moved(self, event: PeerMoved, now: float) -> None:
        """Follow the peer. Little goes to its new address before it has answered from there."""
        if event.new != self.path and event.new in self._facts:
            self.path = event.new
            self._moved_at = self._delivery.path_changed(now)
            self._credit = float(AMPLIFICATION * self._arrived)
            self._delivery.ping_due = True
            self._choose_block()
        super()._route_peer_moved(event, now)

    def _ask(self, now: float) -> None:
        super()._ask(now)
        if self._credit is not None:  # whoever moved and has nothing to say would never hear of us again
            self._credit = max(self._credit, float(self._record.overhead(STREAM) + PROBE_MESSAGE))

    def _choose_block(self) -> None:
        """How many octets of data a message has: what the protocol, the path and its state allow."""
        facts = self._facts.get(self.path)
        room = ((facts.mtu if facts is not None else 0) or _USUAL_MTU) - self._record.overhead(STREAM)
        most = FIRST_BLOCK if self._record.long_header else MAX_BLOCK
        largest = PROBE_MESSAGE if self._credit is not None else message_size(most)
        fitting = [size for size in MESSAGE_SIZES if size <= min(room, largest)] or [MESSAGE_SIZES[0]]
        self._delivery.block = fitting[-1] - MESSAGE_HEADER - BLOCK_PADDING
