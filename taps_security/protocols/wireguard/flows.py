"""The inner half of the stack: flows, the packets that come for them, and the queue of what they send.

    receive: plaintexts --> InnerFlows --> Received, FlowOpened            answers of the inner host --> queue
    send:    messages --> queue --> inner packets, written into the slab where they are to be sealed

May live here: flows, the queue, padding. Must not: keys, timers, handshakes, outer addresses.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...inner.ip import WHOLE
from ...inner.network import InnerFlows, InnerHost
from ...stack.errors import LocalError, Reason, TapsError
from ...stack.events import (
    Buffer,
    CloseKind,
    FlowClosed,
    FlowId,
    FlowKind,
    FlowSent,
    HandshakeComplete,
    Received,
    SoftError,
)
from ...stack.layered import LayeredStack
from ...stack.layers import Handshake, Opened, Record, Slab
from ...stack.stack import DEFAULT_SEND_OPTIONS, SendOptions, Transmit
from ...stack.tunnel import FlowAddress, PeerId
from .limits import HIGH_WATER, MAX_RUN, PADDING
from .record import HEADER, OVERHEAD

if TYPE_CHECKING:
    from .peers import TunnelState

NEVER = float("inf")
OURS: FlowId = 0  # of no inner flow: answers to echoes and the like; without a message: the stack ends here
_COUNTED = 32  # octets that a queued message counts for beside its own

# Messages of one flow that were sent alike, at least one; of a token the last of them tells. None: the flow ends here.
Queued = tuple[FlowId, list[Buffer] | None, SendOptions]


class Shared:
    """What the stacks of one tunnel use together, each for the length of a call."""

    __slots__ = ("dropped", "host", "opened", "received", "state", "summaries", "transfer", "transmitted")

    def __init__(self, state: TunnelState, host: InnerHost) -> None:
        self.state = state
        self.host = host
        self.dropped: Counter[str] = Counter()  # datagrams, by reason
        self.opened = Opened()
        self.received: list[Received] = []
        self.transmitted = Transmit(0, 0)
        self.summaries: dict[object, HandshakeComplete] = {}  # by whether there is a pre-shared key
        self.transfer: dict[PeerId, tuple[int, int]] = {}  # octets received and sent by stacks that are over


class InnerStack(LayeredStack):
    """Flows of inner packets over whatever seals them. `peer`: the public key of whom they go to."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_ending",
        "_inner",
        "_queue",
        "_room",
        "_shared",
        "_until",
        "_waiting",
        "peer",
    )

    def __init__(self, handshake: Handshake, record: Record, shared: Shared, peer: PeerId) -> None:
        super().__init__(handshake, record)
        self.peer = peer
        self._shared = shared
        self._inner: InnerFlows | None = None  # once there is a flow, or something came
        self._room = 0  # octets of an inner packet that the path takes; 0: as many as the inner MTU
        self._queue: deque[Queued] | None = None  # an idle peer owns none
        self._waiting = 0  # octets in it
        self._until = -NEVER  # when the sending key is over
        self._blocked: tuple[FlowId, ...] = ()
        self._ending: tuple[FlowId, ...] = ()  # take nothing more, and end behind what is queued
        self._closing = False

    # -- what the other half brings -------------------------------------------------------------------------------
    def _stage(self, now: float) -> None:
        """Something waits, and there is no key."""
        raise AssertionError("the other half brings its own")

    def _settle(self, now: float) -> None:
        """What the driver looks at: pending, deadline."""
        raise AssertionError("the other half brings its own")

    # -- receiving ------------------------------------------------------------------------------------------------
    def _take(self, plaintexts: list[memoryview], now: float) -> None:
        """Inner packets, none of them empty."""
        inner = self._inner or self._begin_inner()
        inner.receive(plaintexts, now)
        if inner.opened:
            self.events += inner.opened
            inner.opened.clear()
        received = inner.received
        if received:
            pool = self._shared.received
            while len(pool) < len(received):
                pool.append(Received(0, []))
            for number, (flow, chunks) in enumerate(received.items()):
                event = pool[number]
                if event.chunks:  # nobody has taken them yet: it is not ours to write over
                    event = pool[number] = Received(0, [])
                event.flow, event.chunks = flow, chunks
                self.events.append(event)
            received.clear()
        if inner.replies or inner.errors:
            self._answer_inner(inner, now)

    def _answer_inner(self, inner: InnerFlows, now: float) -> None:
        """What the inner host says by itself: echo replies and errors, as far as there is room."""
        for packet in inner.replies:
            if self._waiting < HIGH_WATER and now < self._until and not self._closing:
                self._enqueue(OURS, packet, DEFAULT_SEND_OPTIONS)
        inner.replies.clear()
        self.events += [SoftError(flow, error) for flow, error in inner.errors]
        inner.errors.clear()

    def _begin_inner(self) -> InnerFlows:
        state, peer = self._shared.state, self.peer
        self._inner = InnerFlows(
            self._shared.host, lambda address: state.allowed_ips.owner(address) == peer, verify=False
        )
        return self._inner

    # -- flows ----------------------------------------------------------------------------------------------------
    def open_flow(self, kind: FlowKind, remote: object, now: float) -> FlowId:
        """An inner flow: DATAGRAM to a FlowAddress, or the one PACKET flow. Raises LocalError as InnerFlows.open()."""
        if self.ended:
            raise LocalError("open_flow(): the stack has ended")
        inner = self._inner or self._begin_inner()
        return inner.open(kind, remote if isinstance(remote, FlowAddress) else None)

    def flow_address(self, flow: FlowId) -> FlowAddress:
        """Both ends of an inner flow."""
        if self._inner is None:
            raise LocalError(f"flow_address(): there is no flow {flow}")
        return self._inner.address(flow)

    def send(self, flow: FlowId, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        """Each chunk is a message: all are taken, or none (0); 1 stands for empty ones too. See SecurityStack."""
        inner = self._inner
        if inner is None or self.ended or self._closing or flow in self._ending:
            raise LocalError("send(): nothing can be sent on this flow any more")
        if self._waiting >= HIGH_WATER:
            if flow not in self._blocked:
                self._blocked += (flow,)
            return 0
        count = len(chunks)
        if count == 1:  # the usual case
            longest = taken = len(chunks[0])
        else:
            lengths = list(map(len, chunks))
            longest, taken = max(lengths), sum(lengths)
        if self._room or longest > inner.limits.get(flow, -1):
            self._check(inner, flow, chunks, longest)
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        if queue and options is DEFAULT_SEND_OPTIONS:
            last, messages, others = queue[-1]
            if last == flow and others is options and messages is not None:
                messages += chunks
            else:
                queue.append((flow, list(chunks), options))
        else:
            queue.append((flow, list(chunks), options))
        counted = taken + _COUNTED * count
        self._waiting += counted
        if now < self._until:
            self.pending += counted
        else:
            self._stage(now)
            self._settle(now)
        return taken or 1  # empty messages are taken too

    def _check(self, inner: InnerFlows, flow: FlowId, chunks: Sequence[Buffer], longest: int) -> None:
        """What is longer than a flow's messages, or goes by the packet flow, or by none, or by a narrow path."""
        try:
            inner.check_all(flow, chunks)
        except KeyError:
            raise LocalError(f"send(): there is no flow {flow}") from None
        limit = self.message_limit(flow)
        if longest > limit:
            raise LocalError(f"a message has at most {limit} octets on this path", reason=Reason.MESSAGE_TOO_LARGE)

    def message_limit(self, flow: FlowId) -> int:
        """The largest message in octets, now."""
        inner = self._inner
        if inner is None:
            return 0
        limit = inner.message_limit(flow)
        return limit if not self._room else min(limit, self._room - inner.overhead(flow))

    def consumed(self, flow: FlowId, octets: int, now: float) -> None:
        """Nothing is held back."""

    def close_flow(self, flow: FlowId, now: float) -> None:
        """End a flow behind what is queued."""
        if self.ended or flow in self._ending:
            return
        if self._queue:
            self._ending += (flow,)
            self._enqueue(flow, None, DEFAULT_SEND_OPTIONS)
        else:
            self._end_flow(flow, CloseKind.CLEAN, 0)

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        """End a flow at once; what is queued on it is dropped."""
        if not self.ended:
            self._end_flow(flow, CloseKind.RESET, code)
            self._take_ends()
            self._settle(now)

    def _end_flow(self, flow: FlowId, how: CloseKind, code: int) -> None:
        error = LocalError("the flow was ended before this was sent", reason=Reason.CONNECTION_ABORTED)
        kept: deque[Queued] = deque()
        for entry in self._queue or ():
            if entry[0] != flow:
                kept.append(entry)
            elif entry[1] is not None:
                self._waiting -= sum(map(len, entry[1])) + _COUNTED * len(entry[1])
                if entry[2].token:
                    self.events.append(FlowSent(flow, entry[2].token, error))
        if self._queue is not None:
            self._queue.clear()  # in place: whoever walks it goes on
            self._queue += kept
        self._ending = tuple([one for one in self._ending if one != flow])
        self._blocked = tuple([one for one in self._blocked if one != flow])
        if self._inner is not None:
            self._inner.close(flow)
        self.events.append(FlowClosed(flow, how, code))

    @property
    def inner_dropped(self) -> Counter[str]:
        """Inner packets that led to nothing, by reason."""
        return Counter() if self._inner is None else self._inner.dropped

    # -- sending --------------------------------------------------------------------------------------------------
    def _write_inner(self, slab: Slab, datagrams: int, now: float) -> tuple[int, int, int]:
        """Inner packets from the queue into the slab, where they are to be sealed: how many, and the octets of all but
        the last, and of the last. Padded with zeros to a multiple of 16 within the MTU (§5.4.6)."""
        queue, inner, view, mtu = self._queue, self._inner, slab.view, self._room or self._shared.host.mtu
        assert queue is not None
        count = size = last = 0
        at, stride, most = HEADER, 0, datagrams
        while queue and count < most:
            flow, messages, options = queue[0]
            if messages is None or 0 < options.expires <= now:
                if count:
                    break
                self._pass_over()
                if self.ended:
                    break
                continue
            writer = WHOLE if inner is None or flow == OURS else inner.writer(flow)
            octets = len(messages[0])
            length = octets + writer.overhead
            padded = length + -length % PADDING
            if padded > mtu:
                padded = max(mtu, length)  # the MTU is less than it was when the message was taken: let the path say so
            if not count:
                size, stride = padded, padded + OVERHEAD
                most = max(1, min(datagrams, len(view) // stride, MAX_RUN // stride))
            elif padded != size:
                if padded > size:
                    break
                most = count + 1  # only the last of a run may be shorter
            part = messages if len(messages) == 1 else _alike(messages, most - count)
            writer.write_all(part, view, at, stride, padded)
            taken = len(part)
            self._took(taken, None)
            self._waiting -= (octets + _COUNTED) * taken
            at += stride * taken
            count += taken
            last = padded
        return count, size, last

    # -- the queue ------------------------------------------------------------------------------------------------
    def _enqueue(self, flow: FlowId, message: Buffer | None, options: SendOptions) -> None:
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        queue.append((flow, None if message is None else [message], options))
        if message is not None:
            self._waiting += len(message) + _COUNTED

    def _pass_over(self) -> None:
        """The first of the queue is an end, or too late."""
        self._drop_oldest(LocalError("the message expired before it was sent", reason=Reason.TIMEOUT))

    def _take_ends(self) -> None:
        """Ends that nothing stands before any more take place."""
        while self._queue and self._queue[0][1] is None:
            self._pass_over()

    def _drop_oldest(self, error: TapsError) -> None:
        """Without the first of the queue; an end takes place."""
        assert self._queue is not None
        flow, messages, _ = self._queue[0]
        if messages is not None:
            self._waiting -= len(messages[0]) + _COUNTED
            self._took(1, error)
            return
        self._queue.popleft()
        if flow == OURS:
            self._terminate(CloseKind.SILENT, None)
        else:
            self._end_flow(flow, CloseKind.CLEAN, 0)

    def _took(self, count: int, error: TapsError | None) -> None:
        """So many messages of the queue's first entry are sent, or lost."""
        assert self._queue is not None
        flow, messages, options = self._queue[0]
        assert messages is not None
        if count < len(messages):
            del messages[:count]
            return
        self._queue.popleft()
        if options.token:
            self.events.append(FlowSent(flow, options.token, error))


def _alike(messages: list[Buffer], most: int) -> list[Buffer]:
    """The first messages, at most so many, that are as long as the first."""
    part = messages[:most]
    lengths = list(map(len, part))
    if lengths.count(lengths[0]) == len(part):
        return part
    return part[: next(at for at, length in enumerate(lengths) if length != lengths[0])]
