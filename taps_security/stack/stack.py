"""A security stack, as its driver sees it.

Inputs    start, receive, adopt, transport_ended, path_added, path_news, answer, deadline_reached
Commands  open_flow, send, consumed, close_flow, reset_flow, update_keys, migrate, close, abort, retire
Drain     `events` after each input or command; transmit() while `pending` is not 0 and the socket takes more
Questions `deadline`, `wants_input`, message_limit, export_secret, sent

The order is always: one input, then all events, then transmit, then the timer. A consumer of events may call back
into the stack; what that adds is drained in the same turn.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

from .asks import AskId
from .events import Buffer, FlowId, FlowKind, KeyReady, PathId, PathNews, StackEvent, TransportEnd
from .frozen import slotted
from .layers import PathFacts, Slab


@slotted
class Inbound:
    """One datagram, one GRO buffer of equal datagrams, or one read of a byte stream (segment 0).

    `data` is lent and writable (records open in place) until receive() is over and its events are drained.
    """

    data: memoryview
    path: PathId = 0
    segment: int = 0
    ecn: int = 0


@slotted
class Transmit:
    """slab.view[:length] goes out by `path`; `segment` is the size of each datagram but the last, 0 for a stream."""

    path: PathId
    length: int
    segment: int = 0
    ecn: int = 0


class SendOptions(NamedTuple):
    """What a send may say beside its octets. A token of 0 asks for no FlowSent."""

    token: int = 0
    end: bool = False
    expires: float = 0.0  # monotonic seconds; 0: never


DEFAULT_SEND_OPTIONS = SendOptions()


class Linger(Protocol):
    """What must outlive a stack, small: a last flight, cached responses, TIME-WAIT. The endpoint owns it."""

    routes: frozenset[Hashable]
    until: float

    def reply(self, datagram: memoryview, path: PathId, now: float) -> bytes | None:
        """The answer to a datagram that still comes, or None."""


class SecurityStack(Protocol):
    """Handshake, record and delivery, meeting in one place. See the head of this file for the order of calls."""

    events: list[StackEvent]
    pending: int  # octets or datagrams waiting to be transmitted
    deadline: float | None  # when deadline_reached() is due

    # -- inputs ---------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        """There is a first path. Clients begin the handshake."""

    def receive(self, inbound: Inbound, now: float) -> int:
        """Octets consumed. A stream's rest is put in front of its next read; a datagram run ends before the first
        datagram that belongs to another stack."""

    def transport_ended(self, path: PathId, end: TransportEnd, now: float) -> None:
        """The transport of a path ended in that way."""

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        """There is a further path to the peer, or a new remote address was seen."""

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        """What the network says of a path: its MTU, ECN marks, unreachable reports."""

    def sent(self, quoted: memoryview) -> bool:
        """Whether these octets, 64 at most, begin a datagram that this stack may have sent lately.

        Only then is a report that quotes them believed (RFC 9000 §14.2.1, RFC 8899 §4.6.1). Too few to tell: False.
        """

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """The answer to an Ask: a result, or `Refused`."""

    def adopt(self, seed: object, path: PathId, now: float) -> None:
        """What a screener opened of a datagram that came by `path` and is for this stack (HandOver)."""

    def deadline_reached(self, now: float) -> None:
        """Time has come to `deadline`."""

    # -- output ---------------------------------------------------------------------------------------------------
    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        """At most `datagrams` equal-sized datagrams, or stream octets, into `slab`. What is returned is irrevocable."""

    @property
    def wants_input(self) -> bool:
        """Byte-stream transports: False pauses reading."""

    # -- flows ----------------------------------------------------------------------------------------------------
    def open_flow(self, kind: FlowKind, remote: object, now: float) -> FlowId | None:
        """A further flow; None while the peer allows no more. Raises LocalError where there is only one."""

    def send(self, flow: FlowId, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        """Octets taken: all, or 0 above the high-water mark, and then FlowWritable says when. Keeps references.

        Where messages keep their bounds a taken call with empty ones alone counts as 1.
        """

    def message_limit(self, flow: FlowId) -> int:
        """The largest message in octets; 0: a stream, no limit."""

    def consumed(self, flow: FlowId, octets: int, now: float) -> None:
        """The application took that many octets: opens the peer's window, resumes reading."""

    def close_flow(self, flow: FlowId, now: float) -> None:
        """Send what is queued on one flow, then end it cleanly: FlowClosed says when. The others go on."""

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        """End one flow abruptly, both ways."""

    # -- keys and ends --------------------------------------------------------------------------------------------
    def update_keys(self, now: float) -> None:
        """Fresh keys now. Raises LocalError where the protocol has none."""

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Octets bound to this connection. Raises LocalError where the protocol has no exporter."""

    def import_key(self, ready: KeyReady, now: float) -> None:
        """A key from outside. Raises LocalError where the protocol agrees its own."""

    def migrate(self, path: PathId, now: float) -> None:
        """Use another path from now on. Raises LocalError where the protocol cannot."""

    def close(self, now: float) -> None:
        """Send what is queued, then end cleanly in the protocol's words."""

    def abort(self, error: Exception | None, now: float) -> None:
        """End at once: tell the peer if the protocol has a word for it, drop what is queued, discard keys."""

    def retire(self, now: float) -> Linger | None:
        """The stack is over and its driver lets go: what must outlive it, if anything."""
