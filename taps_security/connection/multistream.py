"""Streams of one stack that has several: the Connections of a group that share keys, paths and congestion control.

    initiate() --> the first flow          clone()  --> a further one, which the peer learns of by its first octets
    Listener   --> the first flow, and those that the peer opens, as long as the Listener takes connections

Closing one leaves the others as they are. Whoever initiated closes the stack with its last Connection. Whoever accepted
waits a little first: a peer may have opened a flow and said nothing on it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..observe.security import SecurityLog
from ..stack.errors import LocalError, Reason
from ..stack.events import (
    CloseKind,
    FlowClosed,
    FlowKind,
    FlowOpened,
    PeerMoved,
    SecurityEvent,
    SessionReady,
    Terminated,
)
from ..stack.stack import SecurityStack
from ..transport.network import Address
from .asks import Answerer
from .connection import Connection
from .flows import Flows, Grouped
from .state import ConnectionState, Owner

IDLE = 5.0  # seconds that an accepted stack has no flow before it is closed


class StreamFlow(Grouped):
    """One stream among several of a stack."""

    __slots__ = ()

    _group: StreamGroup

    async def close(self) -> None:
        """Send what is queued on this flow, end it, and wait until both sides have. Never raises.

        The group's other connections go on. The last one of those who initiated closes the stack.
        """
        if self._group.ends_with(self):
            await Connection.close(self)
        else:
            await super().close()

    def abort(self, error: Exception | None = None) -> None:
        """End this flow at once; what is queued on it is dropped. The last one ends the stack."""
        if self.state is ConnectionState.ESTABLISHING or self._group.is_last(self):
            self._error = error
            Connection.abort(self, error)
        else:
            super().abort(error)

    def belong_to(self, owner: Owner) -> None:
        """`owner` hears of this flow, and is asked whether it takes those that the peer opens."""
        super().belong_to(owner)
        self._group.owner = owner

    def keep_sessions(self, on_session: Callable[[object], None]) -> None:
        """Who keeps the sessions of the stack."""
        self._group.on_session = on_session

    def initiated_by(self, preconnection: Any, on_session: Callable[[object], None] | None) -> None:
        """Who keeps the sessions of the stack; clone() needs no Preconnection."""
        self._group.on_session = on_session

    def _handle_session(self, event: SessionReady) -> None:
        self._handle_security(event)  # the group has kept it

    def _handle_moved(self, event: PeerMoved) -> None:
        self._handle_security(event)
        self.remote_endpoint = self._group.remote or self.remote_endpoint

    def _handle_flow_closed(self, event: FlowClosed) -> None:
        if event.how is CloseKind.CLEAN:
            self._ended_cleanly()
        super()._handle_flow_closed(event)

    def _handle_terminated(self, event: Terminated) -> None:
        if event.how is CloseKind.CLEAN:
            self._ended_cleanly()
        super()._handle_terminated(event)

    def _ended_cleanly(self) -> None:
        self._end_read = True


class StreamGroup(Flows[StreamFlow]):
    """The Connections of one stack with several streams. `first`: the flow that there is from the start.

    `accepted`: the peer has begun. `owner`: the Listener that gets the flows that the peer opens; without one they are
    reset. `on_session`: who keeps sessions that the peer offers.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stack: SecurityStack,
        log: SecurityLog,
        answerer: Answerer,
        *,
        accepted: bool,
        properties: Any = None,
    ) -> None:
        super().__init__(loop, stack, log, answerer, properties=properties)
        self.owner: Owner | None = None
        self.on_session: Callable[[object], None] | None = None
        self.remote: Address | None = None  # where the peer has moved to
        self._accepted = accepted
        self._closing: asyncio.TimerHandle | None = None
        self.first = self._add(0, None, StreamFlow)

    def is_last(self, flow: StreamFlow) -> bool:
        """There is no other flow."""
        return len(self._flows) == 1 and self._flows.get(flow.flow) is flow

    def ends_with(self, flow: StreamFlow) -> bool:
        """Closing that flow closes the stack."""
        return not self.complete or (not self._accepted and self.is_last(flow))

    def clone(self, flow: StreamFlow) -> StreamFlow:
        """A further stream. Raises LocalError once the stack has ended, or while the peer allows no more."""
        if self.ended:
            raise LocalError("clone(): the connection has ended", reason=Reason.NOT_CLONEABLE)
        return self._open(FlowKind.STREAM, None, StreamFlow)

    def _place(self, flow: StreamFlow, remote: object) -> None:
        if flow.flow:
            flow.local_endpoint = self.first.local_endpoint
            flow.remote_endpoint = self.remote or self.first.remote_endpoint

    def _opened(self, event: FlowOpened) -> None:
        flow = self._add(event.flow, event.remote, StreamFlow)
        if self.owner is None or not self.owner.take(flow):
            self.stack.reset_flow(event.flow, 0, self._loop.time())

    def _last_gone(self) -> None:
        if not self._accepted:
            self.close()
            return
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self._loop.call_later(IDLE, self._close_idle)

    def _close_idle(self) -> None:
        self._closing = None
        if not self._flows:
            self.close()

    def _stack_over(self) -> None:
        if self._closing is not None:
            self._closing.cancel()

    def _security(self, event: SecurityEvent) -> None:
        if type(event) is PeerMoved:
            self.remote = self.driver.remote(event.new) or self.remote
        elif type(event) is SessionReady and self.on_session is not None:
            self.on_session(event.session)
        super()._security(event)
