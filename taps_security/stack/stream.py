"""The stack of byte-stream records: TLS and tcpcrypt over TCP. One flow, number 0.

    application octets --send--> SendBuffer --seal--> slab --> TCP
    TCP --> standing buffer --open in place--> one Received per read

Handshake and control units are sealed when they are made, in order with the keys; application octets are sealed when
the socket takes them, so that small sends of one loop turn share records. A read costs one Received, however many
records it holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from .asks import AskId
from .delivery import PassThrough
from .errors import ConnectionLost, LocalError, PeerMisbehaved, Reason, RemoteError, TapsError
from .events import (
    Buffer,
    CloseKind,
    CloseTransport,
    Direction,
    FlowId,
    FlowSent,
    FlowWritable,
    KeyDiscarded,
    KeyId,
    KeyReady,
    PathId,
    PathNews,
    Received,
    Stage,
    TransportEnd,
)
from .frozen import frozen
from .layered import LayeredStack
from .layers import Ends, Handshake, HandshakeMessage, PathFacts, SendBuffer, Slab, StreamOpened, StreamRecord, UnitKind
from .stack import DEFAULT_SEND_OPTIONS, Inbound, SendOptions, Transmit

CONTROL_ROOM = 18 * 1024  # of a slab: handshake messages are cut so that each piece fits


@frozen
class StreamLimits:
    """Our own bounds on what a stream stack holds, in octets and seconds."""

    send_high: int = 256 * 1024  # send() takes nothing while more than this waits
    send_low: int = 64 * 1024  # FlowWritable when less than this waits
    receive_high: int = 256 * 1024  # reading pauses while the application has more than this to take
    close_timeout: float = 5.0  # how long the peer may take to end its stream after we ended ours
    drain_timeout: float = 30.0  # how long what is queued at close() may wait without the socket taking any of it
    units_without_data: int = 64  # consecutive units that bring nothing: a flood of empty records is an attack


DEFAULT_LIMITS = StreamLimits()
PLAINTEXT = KeyId(Stage.INITIAL, 0)
_NOTHING = bytearray()  # of all that have sealed nothing, and never added to: an idle connection owns no buffer


class StreamStack(LayeredStack):
    """A handshake and a record layer over one reliable byte stream."""

    __slots__ = (
        "_blocked",
        "_close_due",
        "_closing",
        "_delivery",
        "_ends",
        "_flight",
        "_flight_key",
        "_idle_units",
        "_limits",
        "_opened",
        "_outgoing",
        "_path",
        "_peer_over",
        "_received",
        "_said_goodbye",
        "_sealed",
        "_send_key",
        "_sending_over",
        "_sent",
        "_tokens",
        "_transmitted",
        "_unread",
    )

    _record: StreamRecord

    def __init__(
        self,
        handshake: Handshake,
        record: StreamRecord,
        delivery: PassThrough,
        ends: Ends,
        limits: StreamLimits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(handshake, record)
        self._delivery = delivery
        self._ends = ends
        self._limits = limits
        self._path: PathId = 0
        self._opened = StreamOpened()
        self._received: Received | None = None  # of this read
        self._transmitted = Transmit(0, 0)
        self._send_key = PLAINTEXT
        self._flight = b""  # handshake messages under one key: they share records
        self._flight_key = PLAINTEXT
        self._sealed = _NOTHING  # handshake and control units, in order, ready for the wire
        self._outgoing = SendBuffer()
        self._tokens: deque[tuple[int, int]] | None = None  # (octets sent when it is over, token)
        self._sent = 0
        self._unread = 0  # octets given to the application and not yet consumed
        self._blocked = False  # send() refused: say FlowWritable
        self._idle_units = 0
        self._sending_over = False  # the application sends nothing more
        self._said_goodbye = False  # our clean end is sealed
        self._peer_over = False  # the peer's clean end was read
        self._closing = False  # what still comes is thrown away
        self._close_due = 0.0  # after close(): when we stop waiting, for the socket or for the peer's end

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        """The byte stream is open."""
        self._path = self._transmitted.path = path
        try:
            self._handshake.start(facts, now)
            self._route(now)
        except TapsError as error:
            self._fail(error, now)
        self._settle(now)

    def receive(self, inbound: Inbound, now: float) -> int:
        """Open what is there; the octets consumed. The rest stands in front of the next read."""
        data, opened, record = inbound.data, self._opened, self._record
        if self.ended or self._peer_over:
            return len(data)
        if self._asks:
            return 0
        try:
            try:
                consumed = record.open(data, opened, now)
            finally:
                if opened.application is not None:  # authentic, whatever became of the unit behind it
                    self._take_application(opened.application)
            if opened.kind is not None:
                consumed = self._take_further(data, consumed, now)
            elif record.has_events:
                self._route(now)
            self._deliver()
        except TapsError as error:
            self._deliver()
            self._fail(error, now)
            consumed = len(data)
        opened.application = opened.unit = None
        if self._peer_over or self._sending_over or record.deadline is not None:
            self._settle(now)
        return consumed

    def _take_further(self, data: memoryview, consumed: int, now: float) -> int:
        """The unit behind which open() stopped, and all that follows; the octets consumed."""
        opened, record = self._opened, self._record
        total = len(data)
        while True:
            if opened.kind is UnitKind.KEY_MISSING:
                raise PeerMisbehaved("protected data before its key was agreed", reason=Reason.UNEXPECTED)
            assert opened.kind is not None
            assert opened.key is not None
            assert opened.unit is not None
            self._take_unit(opened.kind, opened.key, opened.unit, now)
            self._route(now)
            self._count_pending()
            if self._peer_over or self.ended:
                return total  # nothing counts behind an end
            if consumed == total or self._asks:
                return consumed
            try:
                consumed += record.open(data[consumed:], opened, now)
            finally:
                if opened.application is not None:
                    self._take_application(opened.application)
            if opened.kind is None:
                if record.has_events:
                    self._route(now)
                return consumed

    def _take_application(self, octets: memoryview) -> None:
        if not self.complete or self._delivery.held:
            where = "inside a handshake message" if self.complete else "before the handshake is complete"
            raise PeerMisbehaved(f"application data {where}", reason=Reason.UNEXPECTED, section="RFC 8446 §5.1")
        if not octets:
            self._count_idle_units(self._opened.empty)
        elif not self._closing:
            self._idle_units = 0
            self._unread += len(octets)
            if self._received is None:
                self._received = Received(0, [])
            self._received.chunks.append(octets)

    def _take_unit(self, kind: UnitKind, key: KeyId, unit: memoryview, now: float) -> None:
        if kind is UnitKind.HANDSHAKE:
            self._delivery.received(key, unit)
            self._feed_messages(now)
        elif kind is UnitKind.CONTROL:
            verdict = self._ends.read(unit)
            if isinstance(verdict, PeerMisbehaved):
                raise verdict  # a broken word for an end, of which the peer is told
            if isinstance(verdict, Exception):
                self._deliver()
                self._terminate(CloseKind.ABORTED, verdict)
            elif verdict:
                self._peer_over = True
            else:
                self._count_idle_units()
        else:
            self._count_idle_units()

    def _feed_messages(self, now: float) -> None:
        while (message := self._delivery.next_message()) is not None:
            if self.complete:
                self._count_idle_units()
            else:
                self._idle_units = 0  # the handshake's states bound the number of its messages
            self._handshake.receive(message[0], message[1], 0, now)
            self._route(now)

    def _count_idle_units(self, units: int = 1) -> None:
        self._idle_units += units
        if self._idle_units > self._limits.units_without_data:
            raise PeerMisbehaved(f"{self._idle_units} units in a row that bring no data", reason=Reason.UNEXPECTED)

    def _deliver(self) -> None:
        received, self._received = self._received, None
        if self._peer_over and not self._closing:
            self._closing = True  # only in the receiving direction: what still comes is thrown away
            if self.complete:
                received = received or Received(0, [])
                received.end = True
        if received is not None:
            self.events.append(received)

    def transport_ended(self, path: PathId, end: TransportEnd, now: float) -> None:
        """FIN behind the peer's clean end is no news; anything else is a truncation or a reset."""
        if self.ended:
            return
        if end is TransportEnd.FIN and self._closing and self._said_goodbye:
            self._terminate(CloseKind.CLEAN, None)  # we asked for nothing more
        elif end is not TransportEnd.FIN:
            over = self._peer_over and self._said_goodbye and not self.pending
            if over and end is TransportEnd.RESET:
                self._terminate(CloseKind.CLEAN, None)
            elif end is TransportEnd.TIMEOUT:
                text = "the peer acknowledged nothing for too long"
                self._terminate(CloseKind.RESET, ConnectionLost(text, reason=Reason.TIMEOUT))
            else:
                self._terminate(CloseKind.RESET, ConnectionLost("the peer reset the connection", reason=Reason.RESET))
        elif not self._peer_over and not self.complete:
            self._terminate(
                CloseKind.TRUNCATED,
                ConnectionLost("the peer ended the connection during the handshake", reason=Reason.TRUNCATED),
            )
        elif not self._peer_over:
            self._terminate(
                CloseKind.TRUNCATED,
                ConnectionLost(
                    "the stream ended without the protocol's own end: data may be missing", reason=Reason.TRUNCATED
                ),
            )

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """The answer to an Ask, or `Refused`."""
        try:
            super().answer(ask, result, now)
        except TapsError as error:
            self._fail(error, now)
        self._settle(now)

    def deadline_reached(self, now: float) -> None:
        """The peer did not end its stream in time after we ended ours, or a key's time is over."""
        if self.ended:
            return
        if self._close_due and now >= self._close_due:
            if self._outgoing.size:
                text = (
                    f"close(): the peer took nothing for {self._limits.drain_timeout:g} s; "
                    f"{self._outgoing.size} octets were not sent"
                )
                self.abort(ConnectionLost(text, reason=Reason.TIMEOUT), now)
            else:
                self._terminate(CloseKind.CLEAN, None)
            return
        self._record.deadline_reached(now)
        try:
            self._route(now)
        except TapsError as error:
            self._fail(error, now)
        self._settle(now)

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        """While a socket takes what is queued, close() waits on, however slow it is."""
        if news is PathNews.TAKEN and self._close_due and self._outgoing.size:
            self._close_due = now + self._time_to_close
            self._settle(now)

    # -- output ---------------------------------------------------------------------------------------------------
    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        """Stream octets into `slab`: what is sealed already, then application octets in full records."""
        length = 0
        if self._flight:
            try:
                self._seal_flight(now)
            except TapsError as error:
                self._fail(error, now)
        if self._sealed:
            length = min(len(self._sealed), len(slab.view))
            slab.view[:length] = self._sealed[:length]
            del self._sealed[:length]
            if not self._sealed:
                self._sealed = _NOTHING
        outgoing = self._outgoing
        if outgoing.size and self.complete and not self._sealed and not self.ended:
            before = outgoing.size
            try:
                length = self._record.seal(self._send_key, UnitKind.APPLICATION, outgoing, slab, length, now)
                self._sent += before - outgoing.size
                if self._tokens or self._blocked:
                    self._account()
                if self._close_due:
                    self._close_due = now + self._time_to_close
                if self._record.has_events:
                    self._route(now)
            except TapsError as error:
                self._fail(error, now)
        if self._sending_over or self._record.deadline is not None:
            self._settle(now)
        if self.ended or not self.complete:
            self._count_pending()
        else:
            self.pending = len(self._sealed) + len(self._flight) + outgoing.size
        if not length:
            return None
        self._transmitted.length = length
        return self._transmitted

    def _account(self) -> None:
        while self._tokens and self._tokens[0][0] <= self._sent:
            self.events.append(FlowSent(0, self._tokens.popleft()[1]))
        if self._blocked and self._outgoing.size <= self._limits.send_low:
            self._blocked = False
            self.events.append(FlowWritable(0))

    @property
    def wants_input(self) -> bool:
        """False while an ask is open, while the application has enough to take, or while the peer takes no answers."""
        limits = self._limits
        return not self._asks and self._unread < limits.receive_high and len(self._sealed) < limits.send_high

    # -- flows ----------------------------------------------------------------------------------------------------
    def send(self, flow: FlowId, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        """Octets taken: all, or 0 above the high-water mark, which does not stop the last send.

        Raises LocalError after the end of sending.
        """
        if options is DEFAULT_SEND_OPTIONS and self.complete and not self._sending_over and not self.ended:
            outgoing = self._outgoing
            if outgoing.size >= self._limits.send_high:
                self._blocked = True
                return 0
            taken = 0
            for chunk in chunks:
                outgoing.chunks.append(chunk)
                taken += len(chunk)
            outgoing.size += taken
            self.pending += taken
            return taken
        return self._send_with(chunks, options, now)

    def _send_with(self, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        """A send with a token or an end, or before the handshake is complete."""
        if self.ended or self._sending_over:
            raise LocalError("send(): this connection sends nothing more")
        outgoing = self._outgoing
        if outgoing.size >= self._limits.send_high and not options.end:
            self._blocked = True
            return 0
        taken = outgoing.size
        for chunk in chunks:
            outgoing.append(chunk)
        taken = outgoing.size - taken
        if options.token:
            if self._tokens is None:
                self._tokens = deque()
            self._tokens.append((self._sent + outgoing.size, options.token))
        if options.end:
            self._sending_over = True
        if self.complete:
            self.pending = len(self._sealed) + len(self._flight) + outgoing.size
            if options.end or (options.token and not taken):
                self._account()
                self._settle(now)
        return taken

    def message_limit(self, flow: FlowId) -> int:
        """0: a stream has no messages."""
        return 0

    def consumed(self, flow: FlowId, octets: int, now: float) -> None:
        """The application took that many octets."""
        self._unread -= octets

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        """The only flow is the connection."""
        self.abort(None, now)

    # -- keys and ends --------------------------------------------------------------------------------------------
    def update_keys(self, now: float) -> None:
        """Fresh sending keys now, and the peer is asked for its own. Raises LocalError behind our end."""
        if self._said_goodbye:
            raise LocalError("update_keys(): this connection sends nothing more")
        super().update_keys(now)
        self._idle_units -= 1  # the peer's answer brings no data either, and we asked for it
        self._count_pending()

    def close(self, now: float) -> None:
        """Send what is queued, say the protocol's end, and throw away what still comes."""
        if self.ended:
            return
        if not self.complete:
            self.abort(None, now)
            return
        self._sending_over = True
        self._closing = True
        self._unread = 0
        if not self._close_due:
            self._close_due = now + self._time_to_close
        self._settle(now)

    @property
    def _time_to_close(self) -> float:
        return self._limits.drain_timeout if self._outgoing.size else self._limits.close_timeout

    def abort(self, error: Exception | None, now: float) -> None:
        """Say the protocol's word for it, and end. Where the socket is full that word is lost: nobody waits for it."""
        if self.ended:
            return
        self._outgoing.clear()
        self._seal_control(self._ends.failure(error or LocalError("aborted", reason=Reason.CANCELLED)), now)
        self.events.append(CloseTransport(self._path, TransportEnd.RESET))
        self._terminate(CloseKind.ABORTED, error)

    # -- inside ---------------------------------------------------------------------------------------------------
    def _fail(self, error: TapsError, now: float) -> None:
        """Tell the peer in the protocol's words, and end."""
        if self.ended:
            return
        self._outgoing.clear()
        if isinstance(error, RemoteError | LocalError):
            self._seal_control(self._ends.failure(error), now)
        self._terminate(CloseKind.ABORTED, error)

    def _terminate(self, how: CloseKind, error: Exception | None) -> None:
        """Tell each send that is not over why, and let go of what it refers to."""
        if self.ended:
            return
        self._outgoing.clear()
        self._flight = b""  # its key goes with the others
        while self._tokens:
            self.events.append(FlowSent(0, self._tokens.popleft()[1], error or _unsent()))
        super()._terminate(how, error)
        self._count_pending()

    def _settle(self, now: float) -> None:
        """What follows from where we stand: our goodbye, the end of both streams, the count of what waits."""
        if self.ended:
            return
        if self._sending_over and not self._outgoing.size and not self._said_goodbye and self.complete:
            self._seal_control(self._ends.clean(), now)
            self._said_goodbye = True
            self.events.append(CloseTransport(self._path, TransportEnd.FIN))
        self._count_pending()
        if self._peer_over and self._said_goodbye and not self.pending:
            self._terminate(CloseKind.CLEAN, None)
            return
        if self._peer_over and not self.complete:
            self._terminate(
                CloseKind.ABORTED, ConnectionLost("the peer closed during the handshake", reason=Reason.TRUNCATED)
            )
            return
        if self._said_goodbye and self._closing and not self._close_due:
            self._close_due = now + self._limits.close_timeout
        self.deadline = self._close_due or self._record.deadline

    def _count_pending(self) -> None:
        waiting = self._outgoing.size if self.complete and not self.ended else 0
        self.pending = len(self._sealed) + len(self._flight) + waiting

    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        if self._said_goodbye:
            return  # nothing may follow our end: an answer to KeyUpdate has no data to protect
        if self._flight and message.key != self._flight_key:
            self._seal_flight(now)
        self._flight_key = message.key
        self._flight += message.data

    def _seal_control(self, unit: bytes, now: float) -> None:
        if unit and not self._said_goodbye:
            with suppress(TapsError):  # a key past its hard limit cannot even say goodbye
                self._seal(self._send_key, UnitKind.CONTROL, unit, now)

    def _seal_flight(self, now: float) -> None:
        """The messages so far, before anything that must come behind them."""
        flight, self._flight = self._flight, b""
        self._seal(self._flight_key, UnitKind.HANDSHAKE, flight, now)

    def _seal(self, key: KeyId, kind: UnitKind, data: bytes, now: float) -> None:
        if self._flight:
            self._seal_flight(now)
        source = SendBuffer()
        source.append(data)
        buffer = bytearray(min(len(data), CONTROL_ROOM) + 1024)
        with memoryview(buffer) as view:
            slab = Slab(buffer, view)
            while source.size:
                end = self._record.seal(key, kind, source, slab, 0, now)
                if not self._sealed:
                    self._sealed = bytearray()
                self._sealed += view[:end]
        self._count_pending()

    def _route_key_discarded(self, event: KeyDiscarded, now: float) -> None:
        if self._flight and event.key == self._flight_key and event.direction is Direction.SEND:
            self._seal_flight(now)
        super()._route_key_discarded(event, now)

    def _route_key_ready(self, event: KeyReady, now: float) -> None:
        if event.direction is Direction.SEND:
            self._send_key = event.key
        elif self._delivery.held:
            raise PeerMisbehaved(
                "handshake octets behind a message that changes keys", reason=Reason.UNEXPECTED, section="RFC 8446 §5.1"
            )
        super()._route_key_ready(event, now)


def _unsent() -> LocalError:
    return LocalError("the connection ended before this was sent", reason=Reason.CONNECTION_ABORTED)
