"""The three parts of a stack. They never meet each other: the stack routes events between them (`layered`)."""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

from .asks import Ask, AskId, AskWithdrawn
from .events import (
    Buffer,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    PathId,
    PathValidated,
    PeerAuthenticated,
    PeerMoved,
    RouteIssued,
    RouteRetired,
    SessionReady,
)
from .frozen import slotted


# ------------------------------------------------------------------------------------------------------ handshake
@slotted
class PathFacts:
    """What a transport knows of a path when it hands it to a stack."""

    local: tuple[str, int]  # the real one, never the wildcard
    remote: tuple[str, int]
    mtu: int = 0  # octets of one datagram's payload; 0 on byte streams
    reliable: bool = False  # byte streams: no handshake retransmission
    validated: bool = False  # the screener saw a good cookie from this address


class HandshakeMessage(NamedTuple):
    """One whole handshake message to send, without record framing."""

    key: KeyId  # under which it goes
    data: bytes
    exchange: int = 0  # which flight, post-handshake exchange or message id
    last: bool = False  # the end of its flight


HandshakeOutput: TypeAlias = (
    HandshakeMessage
    | KeyReady
    | KeyDiscarded
    | PathValidated
    | PeerAuthenticated
    | SessionReady
    | HandshakeComplete
    | HandshakeConfirmed
    | Ask
    | AskWithdrawn
    | RouteIssued
    | RouteRetired
)


class Handshake(Protocol):
    """Agrees keys. Sees whole messages, in order, once. Owns no timer and no wire. Lives as long as its stack.

    Input that breaks the specification raises a RemoteError; the stack turns it into the protocol's own words.
    """

    def start(self, facts: PathFacts, now: float) -> None:
        """There is a path to the peer. A client makes its first message."""

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        """One whole message that came under `key`."""

    def next_output(self) -> HandshakeOutput | None:
        """One ordered door: KeyReady stands before the first message under its key."""

    def unanswered(self, exchange: int, now: float) -> bool:
        """No answer came in time. True: a fresh message was made. False: repeat the same octets."""

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        """The record opened the first unit under a key, or saw it acknowledged."""

    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        """A limit was reached: start a rekey if the protocol has one."""

    def peer_moved(self, event: PeerMoved, now: float) -> None:
        """The record saw the peer at another path: start validation if the protocol has one."""

    def update_keys(self, now: float) -> None:
        """The application wants fresh keys. Raises LocalError where the protocol has no such thing."""

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """The answer to an Ask, or `Refused`."""

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """`length` octets bound to this connection. Raises LocalError where the protocol has no exporter."""


# --------------------------------------------------------------------------------------------------------- record
class UnitKind(IntEnum):
    """What a record carried."""

    APPLICATION = 0
    HANDSHAKE = 1
    CONTROL = 2  # the protocol's own ends and errors: alerts, close flags
    NOTHING = 3  # to be ignored: padding, compatibility records
    KEY_MISSING = 4  # the unit behind this point wants a key that is not installed; it was not consumed


@slotted
class StreamOpened:
    """What a StreamRecord's open() found, made by the caller once and set anew by each open().

    First a run of application records, whose octets lie side by side in the buffer (None: there was none); then at
    most one other unit, behind which open() stopped (`kind` None: there was none). `empty`: of a run without any
    octet, how many records it had.
    """

    application: memoryview | None = None
    empty: int = 1
    kind: UnitKind | None = None
    key: KeyId | None = None
    unit: memoryview | None = None

    def clear(self) -> None:
        """Forget everything, so that no view into a lent buffer stays."""
        self.application = self.kind = self.key = self.unit = None


@slotted
class Opened:
    """What a DatagramRecord's open() found, made by the caller once and set anew by each open().

    First the plaintexts of application data, one of each datagram; then at most one other unit, behind which open()
    stopped (`kind` None: there was none), with its key and its record number.
    """

    plaintexts: list[memoryview] = field(default_factory=list)
    kind: UnitKind | None = None
    key: KeyId | None = None
    number: int = 0
    unit: memoryview | None = None
    failed: int = 0  # datagrams that did not open

    def clear(self) -> None:
        """Forget everything, so that no view into a lent buffer stays."""
        if self.plaintexts:
            self.plaintexts = []  # the old list may be with the application
        self.kind = self.key = self.unit = None
        self.failed = 0


class Record(Protocol):
    """Protects and opens units under installed keys. No sockets, no retransmission, no streams."""

    deadline: float | None  # when a time limit of a key ends, or None
    has_events: bool  # next_event() has something

    def import_key(self, ready: KeyReady, now: float) -> None:
        """Install a key. A SEND key becomes the one of its stage and association. Time limits count from now."""

    def discard_key(self, event: KeyDiscarded) -> None:
        """Forget a key."""

    def next_event(self) -> KeyConfirmed | KeyExpiring | PeerMoved | None:
        """What the handshake must hear."""

    def deadline_reached(self, now: float) -> None:
        """A time limit may be over: report KeyExpiring."""


class StreamRecord(Record, Protocol):
    """A record layer over a byte stream."""

    def seal(self, key: KeyId, kind: int, source: SendBuffer, slab: Slab, offset: int, now: float) -> int:
        """Seal octets of `source` into `slab` from `offset` on, as many records as fit; the offset behind them.

        `kind` is a UnitKind. The send buffer is read and advanced. Raises HardLimitReached.
        """

    def open(self, data: memoryview, opened: StreamOpened, now: float) -> int:
        """Open records in place; the octets consumed. An unfinished record at the end is not consumed.

        Stops behind each unit that is not application data, because its message may change the next key, and before a
        unit whose key is missing. Raises PeerMisbehaved or a failed authentication as PeerMisbehaved.
        """


class DatagramRecord(Record, Protocol):
    """A record layer over datagrams."""

    def overhead(self, key: KeyId) -> int:
        """Octets that sealing adds to one datagram."""

    def headroom(self, key: KeyId) -> int:
        """Of the overhead, the octets in front of a plaintext."""

    def seal(self, key: KeyId, kind: int, slab: Slab, stride: int, count: int, last: int, now: float) -> int:
        """Seal `count` datagrams in place, `stride` octets apart; the first record number.

        The plaintexts lie in the slab already, `headroom` behind the begin of their datagrams. All fill their stride
        but the last, which has `last` octets. Raises HardLimitReached, and then nothing was sealed.
        """

    def open(self, data: memoryview, segment: int, path: PathId, opened: Opened, now: float) -> int:
        """Open a run of datagrams of `segment` octets (the last may be shorter; 0: one datagram) in place; what of it
        was consumed.

        Noise is consumed, counted in `opened.failed`, never raised. Stops behind each unit that is not application
        data, before a datagram whose key is missing (KEY_MISSING: it is not consumed), and before one that carries
        another stack's route.
        """


class Ends(Protocol):
    """How a byte-stream protocol says that something is over: TLS's alerts, tcpcrypt's FINp."""

    def read(self, data: memoryview) -> Exception | bool:
        """A control unit of the peer. True: a clean end of its stream. False: nothing to do. An error: the end."""

    def clean(self) -> bytes:
        """The control unit that ends our stream. Empty: the transport's own end says it."""

    def failure(self, error: Exception) -> bytes:
        """The control unit that tells the peer of `error`, or of an abort. Empty: the protocol has no word for it."""


# ------------------------------------------------------------------------------------------------ buffers for output
@slotted
class Slab:
    """Memory for output, lent by the driver. `layout` belongs to the record: slices that it has made before."""

    buffer: bytearray
    view: memoryview
    layout: object = None


JOIN_ABOVE = 8  # pieces; fewer are copied one by one
JOIN_AT_MOST = 512 * 1024  # octets


class SendBuffer:
    """Octets waiting to be sealed, in order: references to what the application gave.

    Small pieces are put together into full records; a piece larger than a record is cut without copying the rest.
    A stack's send() may append to `chunks` and count `size` itself.
    """

    __slots__ = ("_head", "_offset", "chunks", "size")

    def __init__(self) -> None:
        self.chunks: list[Buffer] = []
        self._head = 0  # index of the first chunk not yet consumed
        self._offset = 0  # octets of it that are consumed
        self.size = 0  # octets waiting

    def append(self, chunk: Buffer) -> None:
        """Take a reference to `chunk`; it must not change until it was consumed."""
        size = len(chunk)
        if size:
            self.chunks.append(chunk)
            self.size += size

    def take_alone(self, limit: int) -> bytes | None:
        """All of it, if that is one untouched piece of at most `limit` octets of `bytes`; None: copy_into() it."""
        chunks = self.chunks
        if self.size > limit or self._head or len(chunks) != 1 or self._offset or type(chunks[0]) is not bytes:
            return None
        self.size = 0
        return chunks.pop()  # type: ignore[return-value]

    def copy_into(self, target: memoryview) -> int:
        """Fill `target` from the front and consume what was copied; the number of octets."""
        chunks = self.chunks
        if len(chunks) - self._head > JOIN_ABOVE and self.size <= JOIN_AT_MOST:
            self._join()
        head, offset = self._head, self._offset
        room = len(target)
        done = 0
        while done < room and head < len(chunks):
            chunk = chunks[head]
            left = len(chunk) - offset
            take = room - done
            if left <= take:
                target[done : done + left] = chunk[offset:] if offset else chunk
                done += left
                head += 1
                offset = 0
            else:
                if type(chunk) is not memoryview:
                    chunk = chunks[head] = memoryview(chunk)
                target[done:room] = chunk[offset : offset + take]
                offset += take
                done = room
        if head == len(chunks):
            chunks.clear()
            head = 0
        elif head > 64:
            del chunks[:head]
            head = 0
        self._head, self._offset = head, offset
        self.size -= done
        return done

    def _join(self) -> None:
        """Many small pieces become one: a single copy is cheaper than handling each."""
        chunks, head = self.chunks, self._head
        if self._offset:
            chunks[head] = memoryview(chunks[head])[self._offset :]
        chunks[:] = [b"".join(chunks[head:])]
        self._head = self._offset = 0

    def clear(self) -> None:
        """Drop everything."""
        self.chunks.clear()
        self._head = self._offset = self.size = 0
