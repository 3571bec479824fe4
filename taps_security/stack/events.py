"""The words that layers, stacks and applications share.

Security events are frozen: the same object goes to the layers (with its secret) and, with `secret=None`, to the
application. Plumbing events go from a stack to its driver; they are slotted and may be used again by their maker.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import field
from enum import Enum, IntEnum
from typing import NamedTuple, Protocol, TypeAlias

from .asks import Ask, AskWithdrawn
from .frozen import frozen, slotted

Buffer: TypeAlias = bytes | bytearray | memoryview
PathId: TypeAlias = int  # given by the endpoint, never reused in its life
FlowId: TypeAlias = int  # given by the stack; 0 is the only flow of a single-flow stack


# ---------------------------------------------------------------------------------------------------- vocabulary
class Direction(Enum):
    """Which way a key protects."""

    SEND = "send"
    RECEIVE = "receive"

    __hash__ = object.__hash__  # a member is one object: Enum's own hash is a Python function


class Stage(IntEnum):
    """How far the handshake was when a key was agreed."""

    INITIAL = 0
    EARLY = 1
    HANDSHAKE = 2
    APPLICATION = 3


class KeyId(NamedTuple):
    """The name of a key. `generation` counts rekeys; `association` is 0, or a child SA, a tunnel, an MKI."""

    stage: Stage
    generation: int = 0
    association: int = 0


class LimitKind(Enum):
    """What wears a key out."""

    TIME = "seconds"
    BYTES = "bytes"
    PACKETS = "packets"
    FAILED_OPENINGS = "failed openings"

    __hash__ = object.__hash__


@frozen
class Limit:
    """A key's limit: at `soft` the key reports KeyExpiring, at `hard` it refuses. Units as the kind says."""

    kind: LimitKind
    soft: float
    hard: float
    on_use: bool = False  # looked at only when the key is used, never a timer (WireGuard's 120 s)


class FlowKind(Enum):
    """What a flow carries."""

    STREAM = "stream"
    UNIDIRECTIONAL = "unidirectional stream"
    DATAGRAM = "datagram"
    PACKET = "packet"  # raw inner IP packets


class TransportEnd(Enum):
    """How the transport below ended, or is to end."""

    FIN = "fin"
    RESET = "reset"
    TIMEOUT = "timeout"  # the peer acknowledged nothing for too long
    ERROR = "error"  # octets of ours were lost with it


class CloseKind(Enum):
    """How a flow or a stack ended."""

    CLEAN = "clean"
    RESET = "reset"
    TRUNCATED = "truncated"
    ABORTED = "aborted"
    SILENT = "silent"  # the protocol has no close


class PathNews(Enum):
    """What the network says of a path."""

    MTU = "mtu"
    ECN = "ecn"
    UNREACHABLE = "unreachable"
    GONE = "gone"
    TAKEN = "taken"  # of a full byte-stream socket: it took some of what its carrier holds; only while a deadline runs


class Secret(Protocol):
    """An opaque secret. Its repr shows nothing; the room's record knows its shape."""

    def wipe(self) -> None:
        """Drop the reference to the key material. Python promises nothing about the memory behind it."""


# ------------------------------------------------------------------------------------------------ security events
@frozen
class KeyReady:
    """A key is installed: it may open from now on, or it is the one sending key of its stage and association."""

    key: KeyId
    direction: Direction
    secret: Secret | None = field(repr=False, default=None)
    limits: tuple[Limit, ...] = ()


@frozen
class KeyConfirmed:
    """The peer proved that it holds the key: a first opening, or an acknowledgement under it."""

    key: KeyId


@frozen
class KeyDiscarded:
    """The key is gone and opens or seals nothing any more."""

    key: KeyId
    direction: Direction


@frozen
class KeyExpiring:
    """A limit of the key was reached. `hard`: the record refuses already."""

    key: KeyId
    direction: Direction
    limit: LimitKind
    hard: bool = False


@frozen
class PeerMoved:
    """The newest authenticated packet came by another path."""

    old: PathId
    new: PathId


@frozen
class PathValidated:
    """The peer was shown to receive at that path, or failed to show it in time."""

    path: PathId
    ok: bool


@frozen
class PeerAuthenticated:
    """The peer proved an identity. Its type is the trust decision's: certificates, keys, PSK names."""

    identity: object


@frozen
class SessionReady:
    """A session that a later connection may resume."""

    session: object = field(repr=False)


@frozen
class HandshakeComplete:
    """The handshake is done on this side. `summary`: a mapping of words to what was agreed (algorithms, ALPN ...)."""

    summary: object


@frozen
class HandshakeConfirmed:
    """The peer is known to have completed too."""


@frozen
class Terminated:
    """Nothing comes after this. `error` is what the application sees; None after a clean end."""

    how: CloseKind
    error: Exception | None = None


# ------------------------------------------------------------------------------------------------ plumbing events
@slotted
class Received:
    """At most one per flow and receive(). One object per stack, used again and again: take what it holds at once.

    `chunks`: for a stream, octets in order; for datagrams, one whole message each. Chunks may be views into the
    driver's buffer, which is lent: whoever keeps them makes the driver read into another one.
    """

    flow: FlowId
    chunks: list[Buffer]
    end: bool = False
    early: bool = False


@slotted
class FlowOpened:
    """The peer opened a flow. `remote`: for packet stacks the inner protocol, address and port."""

    flow: FlowId
    kind: FlowKind
    remote: object = None


@slotted
class FlowWritable:
    """send() takes octets again."""

    flow: FlowId


@slotted
class FlowSent:
    """That send is over: the memory is free. `error`: why it was not sent (RFC 9622's Expired or SendError)."""

    flow: FlowId
    token: int
    error: Exception | None = None


@slotted
class FlowClosed:
    """Nothing more goes either way on this flow."""

    flow: FlowId
    how: CloseKind
    code: int = 0


@slotted
class SoftError:
    """The network said something of a flow, which goes on: nobody listens there, say (RFC 9622 §8.3.1)."""

    flow: FlowId
    error: Exception


@slotted
class RouteIssued:
    """The endpoint hands datagrams with this route to this stack from now on. `replace`: even if another had it."""

    route: Hashable
    replace: bool = False


@slotted
class RouteRetired:
    """The route leads nowhere from now on."""

    route: Hashable


@slotted
class CloseTransport:
    """The stack is done with a path. FIN: half close behind what is queued; RESET: at once, no lingering."""

    path: PathId
    how: TransportEnd


SecurityEvent: TypeAlias = (
    KeyReady
    | KeyConfirmed
    | KeyDiscarded
    | KeyExpiring
    | PeerMoved
    | PathValidated
    | PeerAuthenticated
    | SessionReady
    | HandshakeComplete
    | HandshakeConfirmed
    | Terminated
)

StackEvent: TypeAlias = (
    SecurityEvent
    | Received
    | FlowOpened
    | FlowWritable
    | FlowSent
    | FlowClosed
    | SoftError
    | RouteIssued
    | RouteRetired
    | CloseTransport
    | Ask
    | AskWithdrawn
)
