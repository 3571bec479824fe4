"""A handshake and a record that protect nothing: the smallest stack on which StreamStack can be held to its word.

A unit is kind (1), stage (1), generation (1), length (2), octets. A handshake message is type (1), length (2), body.

    client  HELLO -->                          under no key
            <-- WELCOME  server                under no key; then both have application keys 0
    client  FINISHED -->                       under application key 0

A unit of kind CORRUPT does not authenticate. ENQUIRY makes its receiver ask, UPDATE changes keys.
"""

from __future__ import annotations

from collections import deque

from taps_security.stack.asks import Ask, FindPsk, Refused, VerifyPeer
from taps_security.stack.delivery import PassThrough
from taps_security.stack.errors import HardLimitReached, PeerAborted, PeerMisbehaved, Reason
from taps_security.stack.events import (
    Buffer,
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    Received,
    StackEvent,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, PathFacts, SendBuffer, Slab, StreamOpened, UnitKind
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, Inbound
from taps_security.stack.stream import PLAINTEXT, StreamLimits, StreamStack

HELLO, WELCOME, FINISHED, UPDATE, UPDATE_REQUEST, ENQUIRY, BAD = range(1, 8)
CORRUPT = 9  # a kind of unit
APPLICATION = KeyId(Stage.APPLICATION)
FACTS = PathFacts(("127.0.0.1", 1), ("127.0.0.1", 2), reliable=True)


class NullSecret:
    """Nothing to hide."""

    def wipe(self) -> None:
        """Nothing to wipe."""


class NullHandshake:
    """Both roles of the figure at the head. `verifies`: a client asks VerifyPeer before it goes on."""

    def __init__(self, *, client: bool, verifies: bool = False, limits: tuple[Limit, ...] = ()) -> None:
        self._client = client
        self._verifies = verifies
        self._limits = limits
        self._outputs: deque[object] = deque()
        self._send = self._receive = 0
        self.expired: list[KeyExpiring] = []
        self.confirmed: list[KeyConfirmed] = []
        self.answers: list[object] = []

    def start(self, facts: PathFacts, now: float) -> None:
        if self._client:
            self._outputs.append(HandshakeMessage(PLAINTEXT, message(HELLO)))

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        kind = data[0]
        if kind == HELLO:
            self._outputs.append(HandshakeMessage(PLAINTEXT, message(WELCOME)))
            self._ready(0, 0)
        elif kind == WELCOME:
            if self._verifies:
                self._outputs.append(Ask(1, VerifyPeer((b"leaf",), "name", "server")))
            else:
                self._welcomed()
        elif kind == FINISHED:
            self._outputs.append(HandshakeComplete({"null": True}))
        elif kind in {UPDATE, UPDATE_REQUEST}:
            self._ready(None, self._receive + 1)
            if kind == UPDATE_REQUEST:
                self._update(UPDATE)
        elif kind == ENQUIRY:
            self._outputs.append(Ask(2, FindPsk(bytes(data[3:]))))
        else:
            raise PeerMisbehaved("a bad message", reason=Reason.MALFORMED)

    def _welcomed(self) -> None:
        self._ready(0, 0)
        self._outputs.append(HandshakeMessage(APPLICATION, message(FINISHED)))
        self._outputs.append(HandshakeComplete({"null": True}))

    def _ready(self, send: int | None, receive: int | None) -> None:
        for direction, generation in ((Direction.RECEIVE, receive), (Direction.SEND, send)):
            if generation is not None:
                limits = self._limits if direction is Direction.SEND else ()
                self._outputs.append(
                    KeyReady(KeyId(Stage.APPLICATION, generation), direction, NullSecret(), limits=limits)
                )
                if generation:
                    self._outputs.append(KeyDiscarded(KeyId(Stage.APPLICATION, generation - 1), direction))
        self._receive = self._receive if receive is None else receive
        self._send = self._send if send is None else send

    def _update(self, kind: int) -> None:
        self._outputs.append(HandshakeMessage(KeyId(Stage.APPLICATION, self._send), message(kind)))
        self._ready(self._send + 1, None)

    def next_output(self) -> object:
        return self._outputs.popleft() if self._outputs else None

    def unanswered(self, exchange: int, now: float) -> bool:
        return False

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        self.confirmed.append(event)

    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        self.expired.append(event)
        self._update(UPDATE)

    def peer_moved(self, event: object, now: float) -> None:
        raise AssertionError("streams do not move")

    def update_keys(self, now: float) -> None:
        self._update(UPDATE_REQUEST)

    def answer(self, ask: int, result: object, now: float) -> None:
        self.answers.append(result)
        if isinstance(result, Refused):
            raise result.error
        if ask == 1:
            self._welcomed()
        else:
            self._outputs.append(HandshakeConfirmed())

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        return (label * length)[:length]


class NullRecord:
    """Units in clear text that still want their keys installed."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._send: dict[KeyId, list[float]] = {}  # records left before the soft and the hard limit
        self._receive: KeyId | None = None
        self._events: deque[object] = deque()
        self._seen = False

    def import_key(self, ready: KeyReady, now: float = 0.0) -> None:
        assert ready.secret is not None
        if ready.direction is Direction.RECEIVE:
            self._receive, self._seen = ready.key, False
            return
        bounds = [(limit.soft, limit.hard) for limit in ready.limits if limit.kind is LimitKind.PACKETS]
        self._send[ready.key] = list(*bounds) if bounds else [float("inf"), float("inf")]

    def discard_key(self, event: KeyDiscarded) -> None:
        if event.direction is Direction.SEND:
            del self._send[event.key]
        elif self._receive == event.key:
            self._receive = None

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def next_event(self) -> object:
        return self._events.popleft() if self._events else None

    def deadline_reached(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            assert self._receive is not None
            self._events.append(KeyExpiring(self._receive, Direction.RECEIVE, LimitKind.TIME))

    def seal(self, key: KeyId, kind: int, source: SendBuffer, slab: Slab, offset: int, now: float) -> int:
        left = [float("inf"), float("inf")] if key == PLAINTEXT else self._send[key]
        if left[1] <= 0:
            raise HardLimitReached("this key has done enough")
        while source.size and len(slab.view) - offset > 5 and left[1] > 0:
            taken = source.copy_into(slab.view[offset + 5 : offset + 5 + 1000])
            slab.view[offset : offset + 5] = unit(kind, key=key, size=taken)
            offset += 5 + taken
            left[0] -= 1
            left[1] -= 1
            if not left[0]:
                self._events.append(KeyExpiring(key, Direction.SEND, LimitKind.PACKETS))
        return offset

    def open(self, data: memoryview, opened: StreamOpened, now: float) -> int:
        opened.clear()
        position = write = 0
        while len(data) - position >= 5 and opened.kind is None:
            kind, stage, generation = data[position : position + 3]
            end = position + 5 + int.from_bytes(data[position + 3 : position + 5], "big")
            if end > len(data):
                break
            key = KeyId(Stage(stage), generation)
            if kind == CORRUPT:
                raise PeerMisbehaved("does not authenticate", reason=Reason.UNAUTHENTIC)
            if key not in (PLAINTEXT, self._receive):
                opened.kind, opened.key, opened.unit = UnitKind.KEY_MISSING, key, data[:0]
                break
            if key != PLAINTEXT and not self._seen:
                self._seen = True
                self._events.append(KeyConfirmed(key))
            if kind == UnitKind.APPLICATION:
                size = end - position - 5
                data[write : write + size] = bytes(data[position + 5 : end])
                write += size
                opened.application = data[:write]
            else:
                opened.kind, opened.key, opened.unit = UnitKind(kind), key, data[position + 5 : end]
            position = end
        return position


class NullEnds:
    """One octet: 0 ends a stream, 1 is to be ignored, all else is an error. `quiet`: no word for the end."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def read(self, data: memoryview) -> Exception | bool:
        return data[0] == 0 if data[0] < 2 else PeerAborted("the peer is unhappy", code=data[0])

    def clean(self) -> bytes:
        return b"" if self._quiet else b"\0"

    def failure(self, error: Exception) -> bytes:
        return b"\x02"


def message(kind: int, body: bytes = b"") -> bytes:
    """A handshake message."""
    return bytes((kind,)) + len(body).to_bytes(2, "big") + body


def unit(kind: int, octets: bytes = b"", key: KeyId = APPLICATION, size: int | None = None) -> bytes:
    """A unit, or with `size` only the head of one."""
    length = len(octets) if size is None else size
    return bytes((kind, key.stage, key.generation)) + length.to_bytes(2, "big") + octets


def data(octets: bytes) -> bytes:
    """A unit of application octets."""
    return unit(UnitKind.APPLICATION, octets)


CLEAN_END = unit(UnitKind.CONTROL, b"\0")
PEER_ERROR = unit(UnitKind.CONTROL, b"\x07")


def null_stack(
    *,
    client: bool = True,
    verifies: bool = False,
    limits: StreamLimits | None = None,
    key_limits: tuple[Limit, ...] = (),
    quiet: bool = False,
) -> StreamStack:
    """One end. Its handshake and record are NullHandshake and NullRecord."""
    handshake = NullHandshake(client=client, verifies=verifies, limits=key_limits)
    delivery = PassThrough(lambda head: 3 + int.from_bytes(head[1:3], "big") if len(head) >= 3 else 0, 4096)
    ends = NullEnds(quiet=quiet)
    return StreamStack(handshake, NullRecord(), delivery, ends, limits or StreamLimits())  # type: ignore[arg-type]


def drain(stack: StreamStack) -> list[StackEvent]:
    """The events so far."""
    events = list(stack.events)
    stack.events.clear()
    return events


def transmit(stack: StreamStack, size: int = 65536, now: float = 0.0) -> bytes:
    """Everything that is pending, through slabs of `size` octets."""
    buffer = bytearray(size)
    slab = Slab(buffer, memoryview(buffer))
    wire = b""
    while stack.pending and (out := stack.transmit(slab, 1, now)) is not None:
        wire += bytes(slab.view[: out.length])
    return wire


def feed(stack: StreamStack, wire: bytes, now: float = 0.0) -> int:
    """One read."""
    return stack.receive(Inbound(memoryview(bytearray(wire))), now)


def exchange(one: StreamStack, other: StreamStack) -> None:
    """Octets both ways until both are silent."""
    while one.pending or other.pending:
        for sender, receiver in ((one, other), (other, one)):
            wire = transmit(sender)
            assert feed(receiver, wire) == len(wire)


def established(**arguments: object) -> tuple[StreamStack, StreamStack]:
    """A client made with `arguments`, and its server, both complete, their events drained."""
    client, server = null_stack(**arguments), null_stack(client=False)  # type: ignore[arg-type]
    client.start(0, FACTS, 0.0)
    server.start(0, FACTS, 0.0)
    exchange(client, server)
    assert client.complete
    assert server.complete
    drain(client)
    drain(server)
    return client, server


def octets_of(events: list[StackEvent]) -> bytes:
    """What the application received."""
    return b"".join(bytes(chunk) for event in events if isinstance(event, Received) for chunk in event.chunks)


def send(stack: StreamStack, *chunks: Buffer, now: float = 0.0) -> int:
    """A plain send."""
    return stack.send(0, chunks, DEFAULT_SEND_OPTIONS, now)
