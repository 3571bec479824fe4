"""The parley's delivery: streams over datagrams, acknowledged as a whole, sent again from where they stand.

    frame      flow (2), flags (1), offset (6), octets            under kind APPLICATION
    control    type (1), body                                     under kind CONTROL

A client's flows are even, a server's odd; flow 0 is there from the start. The end of the connection is Close and
Closed; a `ParleyLinger` says Closed again to whoever did not hear it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from enum import IntEnum

from taps_security.stack.errors import ConnectionLost, LocalError, PeerAborted, PeerMisbehaved, Reason, TapsError
from taps_security.stack.events import (
    Buffer,
    CloseKind,
    Direction,
    FlowClosed,
    FlowId,
    FlowKind,
    FlowOpened,
    FlowSent,
    FlowWritable,
    KeyReady,
    PathId,
    Received,
)
from taps_security.stack.layers import PathFacts, Slab, UnitKind
from taps_security.stack.stack import SendOptions, Transmit

from .base import DatagramToy
from .parley import KIND, ParleyHandshake
from .record import Ids, ToyRecord

FRAME, END = 9, 1
HIGH, LOW = 256 * 1024, 64 * 1024  # octets that wait to be acknowledged
WINDOW = 128 * 1024  # octets that a flow's receiver takes before they are consumed
FLIGHT = 48 * 1024  # octets of a flow on their way
FLOWS = 16  # that a peer may open
WAIT, TRIES = 0.25, 8
CLOSE_WAIT = 5.0  # seconds that the peer has to end a flow that we have closed
LINGER, LAST_WORDS = 1.0, 8  # seconds, answers


class Control(IntEnum):
    """What is said beside data."""

    ACK = 1
    PING = 2
    CLOSE = 3
    CLOSED = 4
    ERROR = 5
    RESET = 6


class _Flow:
    """One stream, both ways."""

    def __init__(self, number: FlowId) -> None:
        self.id = number
        self.out = bytearray()  # from `base` on: not acknowledged
        self.base = self.next = 0
        self.end: int | None = None  # the offset behind our last octet
        self.end_sent = False
        self.limit = WINDOW  # how far the peer lets us go
        self.tokens: deque[tuple[int, int]] = deque()
        self.blocked = False
        self.received = self.consumed = 0
        self.again = 0  # the same acknowledgement in a row
        self.peer_over = False
        self.closing = False  # what still comes is thrown away

    @property
    def final(self) -> int:
        return self.base + len(self.out)

    @property
    def sendable(self) -> int:
        """Octets that may go now; 1 for an end alone."""
        room = min(self.final, self.limit, self.base + FLIGHT) - self.next
        return max(room, int(self._end_waits and not self.end_sent and self.next == self.final))

    @property
    def _end_waits(self) -> bool:
        return self.end is not None and self.base <= self.end

    @property
    def highest(self) -> int:
        """What the peer may acknowledge: the end counts as an octet."""
        return self.final + int(self._end_waits)

    @property
    def idle(self) -> bool:
        """Everything is acknowledged, the end too."""
        return not self.out and (self.end is None or self.base > self.end)


class ParleyLinger:
    """Says Closed again."""

    def __init__(self, routes: frozenset[Hashable], until: float, last_word: bytes) -> None:
        self.routes, self.until = routes, until
        self._last_word, self._left = last_word, LAST_WORDS

    def reply(self, datagram: memoryview, path: PathId, now: float) -> bytes | None:
        if not self._left or datagram[0] & 0xFE != 0xF0:
            return None
        self._left -= 1
        return self._last_word


class ParleyStack(DatagramToy):
    """Streams over a parley."""

    def __init__(self, handshake: ParleyHandshake, ids: Ids, *, client: bool, seed: bytes = b"") -> None:
        super().__init__(handshake, ToyRecord(ids, 0xF0, 1), client=client)
        self._ids = ids
        self._client = client
        self._seed = seed
        self._flows: dict[FlowId, _Flow] = {0: _Flow(0)}
        self._done: dict[FlowId, bytes] = {}  # how flows that are over were acknowledged
        self._next_flow = 2 if client else 1
        self._received: dict[FlowId, Received] = {}
        self._to_acknowledge: dict[FlowId, None] = {}
        self._closing = False
        self._tries = 0
        self._last_word = b""

    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        super().start(path, facts, now)
        if self._seed:
            if not facts.validated:
                self._credit[path] = 3 * len(self._seed)
            self._guard(lambda: self._feed_seed(now), now)

    def _feed_seed(self, now: float) -> None:
        from .record import PLAINTEXT

        self._feed(PLAINTEXT, 0, memoryview(self._seed), now)

    # -- receiving ------------------------------------------------------------------------------------------------
    def _take_data(self, plaintext: memoryview, now: float) -> None:
        if len(plaintext) < FRAME:
            raise PeerMisbehaved("a frame without a head", reason=Reason.MALFORMED)
        number, flags = int.from_bytes(plaintext[:2], "big"), plaintext[2]
        offset, octets = int.from_bytes(plaintext[3:FRAME], "big"), plaintext[FRAME:]
        if number in self._done:
            self._control(Control.ACK, self._done[number], now)  # the peer did not hear that we have it all
            return
        flow = self._flows.get(number) or self._open_by_peer(number, now)
        if flow is None:
            return
        self._to_acknowledge[number] = None
        new = flow.received - offset
        if new < 0 or offset + len(octets) > flow.consumed + WINDOW or flow.peer_over:
            return  # a gap, or more than we take: it comes again
        received = self._received.setdefault(number, Received(number, []))
        if len(octets) > new:
            if not flow.closing:
                received.chunks.append(bytes(octets[new:]))
            flow.received = offset + len(octets)
        if flags & END and flow.received == offset + len(octets):
            received.end = flow.peer_over = True
        if flow.closing:
            flow.consumed, received.end = flow.received, False

    def _open_by_peer(self, number: FlowId, now: float) -> _Flow | None:
        if number & 1 == int(not self._client):
            self._control(Control.RESET, number.to_bytes(2, "big"), now)  # ours, and over
            return None
        if number > 2 * FLOWS:
            raise PeerMisbehaved(f"flow {number}: at most {FLOWS} are allowed", reason=Reason.OVERLOADED)
        self.events.append(FlowOpened(number, FlowKind.STREAM))
        flow = self._flows[number] = _Flow(number)
        return flow

    def _taken(self, now: float) -> None:
        for number, received in self._received.items():
            if received.chunks or received.end:
                self.events.append(received)
            self._close_if_over(self._flows[number])
        self._received.clear()
        if not self.ended:
            for number in self._to_acknowledge:
                self._acknowledge(number, now)
        self._to_acknowledge.clear()

    def _acknowledge(self, number: FlowId, now: float) -> None:
        flow = self._flows.get(number)
        body = self._done.get(number, b"") if flow is None else self._acknowledgement(flow)
        if body:
            self._control(Control.ACK, body, now)

    def _acknowledgement(self, flow: _Flow) -> bytes:
        offset = flow.received + int(flow.peer_over)  # the end counts as an octet
        limit = flow.consumed + WINDOW
        return flow.id.to_bytes(2, "big") + offset.to_bytes(6, "big") + limit.to_bytes(6, "big")

    def _control(self, kind: Control, body: bytes, now: float) -> bytes:
        return self._seal(UnitKind.CONTROL, bytes((kind,)) + body, now)

    def _take_control(self, plaintext: memoryview, now: float) -> None:
        kind, body = plaintext[0] if plaintext else 0, bytes(plaintext[1:])
        if kind == Control.ACK and len(body) == 14:
            self._acknowledged(body, now)
        elif kind == Control.PING:
            self._to_acknowledge.update(dict.fromkeys(self._flows))
        elif kind == Control.CLOSE:
            self._last_word = self._control(Control.CLOSED, b"", now)
            for flow in self._flows.values():
                if not flow.peer_over:
                    self._received.setdefault(flow.id, Received(flow.id, [])).end = True
            self._taken(now)
            self._terminate(CloseKind.CLEAN, None)
        elif kind == Control.CLOSED and self._closing:
            self._terminate(CloseKind.CLEAN, None)
        elif kind == Control.ERROR:
            code = int.from_bytes(body, "big")
            self._terminate(CloseKind.ABORTED, PeerAborted(f"the peer gave up: {code}", code=code))
        elif kind == Control.RESET and (flow := self._flows.pop(int.from_bytes(body[:2], "big"), None)) is not None:
            self.events.append(FlowClosed(flow.id, CloseKind.RESET))

    def _acknowledged(self, body: bytes, now: float) -> None:
        number, offset = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:8], "big")
        flow = self._flows.get(number)
        if flow is None:
            return
        flow.limit = max(flow.limit, int.from_bytes(body[8:], "big"))
        if not flow.base <= offset <= flow.highest:
            return
        if offset == flow.base:
            flow.again += 1
            if flow.again == 3 and flow.next > flow.base:  # three times the same: what followed was lost
                flow.next, flow.end_sent = flow.base, False
            return
        flow.again = self._tries = 0
        del flow.out[: offset - flow.base]
        flow.base = offset
        flow.next = max(flow.next, offset)
        while flow.tokens and flow.tokens[0][0] <= offset:
            self.events.append(FlowSent(number, flow.tokens.popleft()[1]))
        if flow.blocked and len(flow.out) < LOW:
            flow.blocked = False
            self.events.append(FlowWritable(number))
        self._watch(now)
        self._close_if_over(flow)
        self._say_close(now)

    def _close_if_over(self, flow: _Flow) -> None:
        if flow.peer_over and flow.end is not None and flow.idle and flow.id in self._flows:
            del self._flows[flow.id]
            self._done[flow.id] = self._acknowledgement(flow)
            self.events.append(FlowClosed(flow.id, CloseKind.CLEAN))

    # -- sending --------------------------------------------------------------------------------------------------
    def open_flow(self, kind: FlowKind, remote: object, now: float) -> FlowId | None:
        self._require_established("open_flow()")
        if kind is not FlowKind.STREAM:
            raise LocalError("a parley has streams only", reason=Reason.NOT_SUPPORTED)
        if self._next_flow > 2 * FLOWS:
            return None
        number, self._next_flow = self._next_flow, self._next_flow + 2
        self._flows[number] = _Flow(number)
        return number

    def send(self, flow: FlowId, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        if self.ended or self._closing or flow not in self._flows:
            raise LocalError("send(): nothing can be sent any more")
        state = self._flows[flow]
        if state.end is not None:
            raise LocalError("send(): this flow was ended")
        if len(state.out) > HIGH and not options.end:
            state.blocked = True
            return 0
        for chunk in chunks:
            state.out += chunk
        if options.end:
            state.end = state.final
        if options.token:
            state.tokens.append((state.final, options.token))
        self._settle(now)
        return sum(map(len, chunks))

    def message_limit(self, flow: FlowId) -> int:
        return 0

    def consumed(self, flow: FlowId, octets: int, now: float) -> None:
        state = self._flows.get(flow)
        if state is None or self.ended:
            return
        closed = state.received >= state.consumed + WINDOW // 2
        state.consumed += octets
        if closed:
            self._acknowledge(flow, now)
            self._settle(now)

    def close_flow(self, flow: FlowId, now: float) -> None:
        state = self._flows.get(flow)
        if state is None or state.closing or self.ended:
            return
        state.closing = True
        if state.end is None:
            state.end = state.final
        self.consumed(flow, state.received - state.consumed, now)
        self._close_if_over(state)
        self._deadlines.set("flow", now + CLOSE_WAIT)
        self._settle(now)

    def _give_up_flows(self, now: float) -> None:
        """The peer had its time to end the flows that we have closed."""
        for flow in [flow for flow in self._flows.values() if flow.closing]:
            if flow.idle:
                del self._flows[flow.id]
                self._control(Control.RESET, flow.id.to_bytes(2, "big"), now)
                self.events.append(FlowClosed(flow.id, CloseKind.CLEAN))
            else:
                self._deadlines.set("flow", now + CLOSE_WAIT)

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        if self._flows.pop(flow, None) is not None and not self.ended:
            self._control(Control.RESET, flow.to_bytes(2, "big"), now)
            self.events.append(FlowClosed(flow, CloseKind.RESET, code))
            self._settle(now)

    def _waiting(self) -> int:
        return sum(flow.sendable for flow in self._flows.values())

    def _transmit_data(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        key = self._send_key
        flow = next((flow for flow in self._flows.values() if flow.sendable), None)
        if flow is None or key is None:
            return None
        overhead = self._record.overhead(key)
        stride = self._datagram_size()
        room = stride - overhead - FRAME
        count = min(datagrams, len(slab.view) // stride)
        while count and not self._spend(self.path, stride * min(count, -(-flow.sendable // room))):
            count -= 1
        frames: list[bytes] = []
        while len(frames) < count and flow.sendable:
            frames.append(self._frame(flow, room))
            if len(frames[-1]) < room + FRAME:
                break
        if not frames:
            return None
        before = self._record.headroom(key)
        for number, frame in enumerate(frames):
            start = number * stride + before
            slab.view[start : start + len(frame)] = frame
        self._record.seal(key, UnitKind.APPLICATION, slab, stride, len(frames), len(frames[-1]), now)
        if "stream" not in self._deadlines:
            self._deadlines.set("stream", now + WAIT)
        length = (len(frames) - 1) * stride + overhead + len(frames[-1])
        return self._out(self.path, length, stride if len(frames) > 1 else 0)

    def _frame(self, flow: _Flow, room: int) -> bytes:
        start = flow.next - flow.base
        size = min(room, flow.sendable, len(flow.out) - start)
        octets = flow.out[start : start + size]
        head = flow.id.to_bytes(2, "big")
        offset = flow.next.to_bytes(6, "big")
        flow.next += size
        last = flow.end is not None and flow.next == flow.end
        flow.end_sent = flow.end_sent or last
        return head + bytes((END if last else 0,)) + offset + octets

    def _watch(self, now: float) -> None:
        """Wait for acknowledgements as long as there is something to acknowledge."""
        if all(flow.idle for flow in self._flows.values()):
            self._deadlines.clear("stream")
        else:
            self._deadlines.set("stream", now + WAIT * 2**self._tries)

    # -- deadlines and ends ---------------------------------------------------------------------------------------
    def _data_due(self, name: str, now: float) -> None:
        if name == "flow":
            self._give_up_flows(now)
            return
        self._tries += 1
        if name == "close":
            if self._tries > TRIES:
                self._terminate(CloseKind.CLEAN, None)  # all was acknowledged; the peer went without a word
            else:
                self._control(Control.CLOSE, b"", now)
                self._deadlines.set("close", now + WAIT * 2**self._tries)
            return
        if self._tries > TRIES:
            raise ConnectionLost("the peer acknowledges nothing", reason=Reason.TIMEOUT)
        for flow in self._flows.values():
            flow.next, flow.end_sent = flow.base, False
            if not flow.sendable and flow.out:
                self._control(Control.PING, b"", now)  # its window is closed: is it really
        self._watch(now)

    def _route_key_ready(self, event: KeyReady, now: float) -> None:
        super()._route_key_ready(event, now)
        if event.direction is Direction.SEND and event.key.generation:
            self._control(Control.PING, b"", now)  # the peer is to see the new phase

    def migrate(self, path: PathId, now: float) -> None:
        self._require_established("migrate()")
        if path not in self._facts:
            raise LocalError(f"migrate(): there is no path {path}")
        self._former, self.path = self.path, path
        self._control(Control.PING, b"", now)
        self._settle(now)

    def close(self, now: float) -> None:
        if not self.complete:
            self.abort(None, now)
        elif not self.ended and not self._closing:
            self._closing = True
            self._say_close(now)
            self._settle(now)

    def _say_close(self, now: float) -> None:
        if self._closing and "close" not in self._deadlines and not any(flow.out for flow in self._flows.values()):
            self._tries = 0
            self._control(Control.CLOSE, b"", now)
            self._deadlines.clear("stream")
            self._deadlines.set("close", now + WAIT)

    def _say_failure(self, error: Exception, now: float) -> None:
        if self._send_key is not None:
            code = 2 if isinstance(error, LocalError) else 1
            try:
                self._control(Control.ERROR, code.to_bytes(2, "big"), now)
            except TapsError:
                return  # a key past its hard limit cannot even say that

    def _terminate(self, how: CloseKind, error: Exception | None) -> None:
        if not self.ended:
            for flow in self._flows.values():
                for _, token in flow.tokens:
                    lost = error or LocalError("ended before this was acknowledged", reason=Reason.CONNECTION_ABORTED)
                    self.events.append(FlowSent(flow.id, token, lost))
                flow.tokens.clear()
        super()._terminate(how, error)

    def retire(self, now: float) -> ParleyLinger | None:
        if not self._last_word:
            return None
        routes = frozenset((KIND, number) for number in self._ids.mine)
        return ParleyLinger(routes, now + LINGER, self._last_word)
