"""The flows of a peer inside a tunnel: a Connection Group (RFC 9622 §7.4) of messages over one packet stack.

When the last Connection has gone, whoever made the group decides what becomes of its stack. Datagrams have no end that
a peer could tell, so of the flows that it opened so many are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..observe.security import SecurityLog
from ..stack.errors import ConnectionLost, LocalError, Reason
from ..stack.events import FlowKind, FlowOpened, PeerMoved, SecurityEvent
from ..stack.tunnel import FlowAddress, PacketStack
from ..transport.network import Address
from .asks import Answerer
from .flows import Flows, Grouped
from .messages import MessageConnection

if TYPE_CHECKING:
    from .tunnel import Tunnel

FLOWS_OF_THE_PEER = 1000  # which it opened; one more ends the one that was silent the longest

WAITING_OF_THE_PEER = 64 * 1024 * 1024  # octets that wait for receive() on all of those; each has an equal share

Taker = Callable[["Flow", FlowOpened], bool]  # False: nobody wants it


class Flow(Grouped, MessageConnection):
    """One flow of messages among several of a stack."""

    __slots__ = ()

    _group: Group

    @property
    def tunnel(self) -> Tunnel:
        """The local end that this flow goes through."""
        return self._group.tunnel

    def _may_wait(self) -> int:
        return min(super()._may_wait(), self._group.share_of(self))


class Group(Flows[Flow]):
    """The Connections of one packet stack.

    `taker` gets those that the peer opens; `idle` hears when the last one has gone, `ended` when the stack is over.
    """

    stack: PacketStack

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stack: PacketStack,
        log: SecurityLog,
        answerer: Answerer,
        *,
        taker: Taker,
        idle: Callable[[Group], None],
        ended: Callable[[Group], None],
        tunnel: Tunnel,
        properties: Any = None,
    ) -> None:
        super().__init__(loop, stack, log, answerer, properties=properties)
        self.tunnel = tunnel
        self.outer: Address | None = None  # the peer's configured name and port, and where that led to
        self.place: Address | None = None
        self._taker = taker
        self._on_idle = idle
        self._on_ended = ended

    def _last_gone(self) -> None:
        self._on_idle(self)

    def _stack_over(self) -> None:
        self._on_ended(self)

    # -- flows ----------------------------------------------------------------------------------------------------
    def open(self, kind: FlowKind, remote: object, make: Callable[..., Flow] = Flow) -> Flow:
        """A further flow, made by `make`. Raises LocalError where the stack opens none like it."""
        return self._open(kind, remote, make)

    def share_of(self, flow: Flow) -> int:
        """Octets that may wait on a flow: a peer that opens many has no more than with a few."""
        theirs = self._theirs
        return WAITING_OF_THE_PEER // (len(theirs) if flow.flow in theirs else 1)

    def clone(self, flow: Flow) -> Flow:
        """A further flow to where `flow` leads."""
        remote, local = flow.remote_endpoint, flow.local_endpoint
        if self.ended or remote is None or local is None:
            raise LocalError("clone(): the connection has ended", reason=Reason.NOT_CLONEABLE)
        return self.open(FlowKind.DATAGRAM, FlowAddress(remote, (local[0], 0)))

    def _place(self, flow: Flow, remote: object) -> None:
        if isinstance(remote, FlowAddress):
            flow.remote_endpoint, flow.local_endpoint = self.stack.flow_address(flow.flow)

    def _opened(self, event: FlowOpened) -> None:
        flow = self._theirs[event.flow] = self._add(event.flow, event.remote, Flow)
        if not self._taker(flow, event):
            flow.abort()
        elif len(self._theirs) > FLOWS_OF_THE_PEER:
            silent = next(iter(self._theirs.values()))
            text = "ended for a younger flow of the same peer: it was silent the longest"
            silent.abort(ConnectionLost(text, reason=Reason.OVERLOADED))

    def _security(self, event: SecurityEvent) -> None:
        if type(event) is PeerMoved:
            self.place = None  # it is not where its name led to
        super()._security(event)
