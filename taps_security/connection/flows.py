"""Connections that share one stack: what the members of a Connection Group have in common (RFC 9622 §7.4).

    stack --> driver --> Flows --Received, FlowWritable, FlowSent, FlowClosed--> the Connection of that flow
                           |  --security events, Terminated--> all of them, and once into the one log
                           +----FlowOpened--> a new Connection, for whoever takes it

Closing one Connection leaves the others as they are. What becomes of the stack when the last has gone, and whose the
flows are that the peer opens, differs: group.py has messages in tunnels, multistream.py has streams.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..observe.security import SecurityLog
from ..stack.asks import Ask, AskWithdrawn
from ..stack.errors import ConnectionLost, LocalError, Reason
from ..stack.events import (
    CloseKind,
    FlowClosed,
    FlowId,
    FlowKind,
    FlowOpened,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    Received,
    SecurityEvent,
    SoftError,
    StackEvent,
    Terminated,
)
from ..stack.stack import SecurityStack
from .asks import Answerer
from .connection import Connection
from .driver import Driver
from .establish import wait_ready
from .state import ConnectionState

_OF_ONE_FLOW = frozenset({FlowWritable, FlowSent, FlowClosed, SoftError})
_ENDED_BADLY = {CloseKind.RESET, CloseKind.TRUNCATED, CloseKind.ABORTED}


class Grouped(Connection):
    """One flow among several of a stack. Ready at once when its stack is."""

    __slots__ = ()

    _group: Flows[Any]

    async def close(self) -> None:
        """Send what is queued on this flow and end it; the group's other connections go on. Never raises."""
        if self.state in {ConnectionState.ESTABLISHING, ConnectionState.ESTABLISHED}:
            self.state = ConnectionState.CLOSING
            self._chunks.clear()
            self._size = 0
            self._stack.close_flow(self._flow, self._loop.time())
            self._driver.pump()
        await self.wait_closed()

    def abort(self, error: Exception | None = None) -> None:
        """End this flow at once; what is queued on it is dropped."""
        if self.state is not ConnectionState.CLOSED:
            self.state = ConnectionState.CLOSING
            self._error = error
            self._stack.reset_flow(self._flow, 0, self._loop.time())
            self._driver.pump()

    async def clone(self, *, timeout: float | None = None) -> Connection:
        """A further flow to the same place through the same stack, ready when that is (RFC 9622 §7.4).

        `timeout`: seconds to wait for that. Raises LocalError once the stack has ended, and what ended it meanwhile.
        """
        flow: Connection = self._group.clone(self)
        if flow.state is ConnectionState.ESTABLISHING:
            try:
                async with asyncio.timeout(timeout):
                    await wait_ready(flow)
            except TimeoutError:
                raise ConnectionLost("the handshake took too long", reason=Reason.TIMEOUT) from None
        return flow

    async def update_keys(self) -> None:
        """Fresh keys for all connections of the group. Raises LocalError where the protocol has no key update."""
        self._require_open("update_keys()")
        await super().update_keys()

    def export_secret(self, label: str | bytes, context: bytes | None = None, length: int = 32) -> bytes:
        """Octets that only the two ends of the stack can derive. Raises LocalError where it has no exporter."""
        self._require_open("export_secret()")
        return super().export_secret(label, context, length)

    def _require_open(self, what: str) -> None:
        if self.state is ConnectionState.CLOSED:
            raise LocalError(f"{what}: the connection has ended")

    def _handle_security(self, event: SecurityEvent) -> None:
        """The group has noted it already."""
        if self._callbacks is not None:
            self._callbacks.security(event)

    def _handle_complete(self, event: HandshakeComplete) -> None:
        if self.state is ConnectionState.ESTABLISHING:
            super()._handle_complete(event)
        else:
            self._handle_security(event)  # it is being closed already

    def _handle_flow_closed(self, event: FlowClosed) -> None:
        error = self._error
        if error is None and event.how in _ENDED_BADLY:
            if self.state is ConnectionState.CLOSING:
                error = LocalError("the connection was aborted", reason=Reason.CONNECTION_ABORTED)
            else:
                error = ConnectionLost("the flow has ended: its peer may not have it any more", reason=Reason.RESET)
        self._group.forget(self)
        self._over(error)

    def _handle_terminated(self, event: Terminated) -> None:
        self._handle_security(event)
        error = self._error or event.error
        if error is None and event.how in _ENDED_BADLY:
            error = LocalError("the connection was aborted", reason=Reason.CONNECTION_ABORTED)
        self._over(error)


_F = TypeVar("_F", bound=Grouped)


class Flows(ABC, Generic[_F]):
    """The Connections of one stack, by the numbers of their flows."""

    stack: SecurityStack

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stack: SecurityStack,
        log: SecurityLog,
        answerer: Answerer,
        *,
        properties: Any = None,
    ) -> None:
        self.stack = stack
        self.log = log
        self.driver = Driver(loop, stack, self._handle)
        self.complete = False
        self.ended = False
        self._loop = loop
        self._answerer = answerer
        self._properties = properties
        self._flows: dict[FlowId, _F] = {}
        self._theirs: OrderedDict[FlowId, _F] = OrderedDict()  # opened by the peer; heard of lately stands behind

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._flows)} over {self.log.report().stack}>"

    def __len__(self) -> int:
        return len(self._flows)

    def __bool__(self) -> bool:
        return True  # with and without flows

    # -- what a group brings --------------------------------------------------------------------------------------
    @abstractmethod
    def clone(self, flow: _F) -> _F:
        """A further flow to where `flow` leads. Raises LocalError where there can be none."""

    @abstractmethod
    def _opened(self, event: FlowOpened) -> None:
        """The peer has opened a flow."""

    @abstractmethod
    def _last_gone(self) -> None:
        """There is no flow any more, and the stack lives."""

    def _stack_over(self) -> None:
        """The stack has ended, and every flow knows it."""

    # -- ends -----------------------------------------------------------------------------------------------------
    def forget(self, flow: _F) -> None:
        """A flow has ended."""
        if self._flows.get(flow.flow) is flow:
            del self._flows[flow.flow]
            self._theirs.pop(flow.flow, None)
            if not self._flows and not self.ended:
                self._last_gone()

    def close(self) -> None:
        """End the stack cleanly, and every flow with it."""
        if not self.ended:
            self.stack.close(self._loop.time())
            self.driver.pump()

    def abort(self, error: Exception | None = None) -> None:
        """End the stack at once, and every flow with it."""
        if not self.ended:
            self.stack.abort(error, self._loop.time())
            self.driver.pump()

    # -- flows ----------------------------------------------------------------------------------------------------
    def _open(self, kind: FlowKind, remote: object, make: Callable[..., _F]) -> _F:
        if self.ended:
            raise LocalError("open(): the stack behind it has ended")
        number = self.stack.open_flow(kind, remote, self._loop.time())
        if number is None:
            raise LocalError("open(): the peer allows no more flows now", reason=Reason.OVERLOADED)
        flow = self._add(number, remote, make)
        self.driver.pump()
        return flow

    def _add(self, number: FlowId, remote: object, make: Callable[..., _F]) -> _F:
        flow = make(self._loop, self.stack, self.log, self._answerer, flow=number, group=self)
        flow.properties = self._properties
        self._place(flow, remote)
        if self.complete:
            flow.state = ConnectionState.ESTABLISHED
        self._flows[number] = flow
        return flow

    @abstractmethod
    def _place(self, flow: _F, remote: object) -> None:
        """Tell a flow where its ends are. `remote`: as the stack has it."""

    # -- events of the stack --------------------------------------------------------------------------------------
    def _handle(self, event: StackEvent) -> None:
        kind = type(event)
        if kind is Received:
            flow = self._flows.get(event.flow)  # type: ignore[union-attr]
            if flow is None:
                event.chunks.clear()  # type: ignore[union-attr]
                return
            if event.flow in self._theirs:  # type: ignore[union-attr]
                self._theirs.move_to_end(event.flow)  # type: ignore[union-attr]
            flow._handle(event)
        elif kind in _OF_ONE_FLOW:
            flow = self._flows.get(event.flow)  # type: ignore[union-attr]
            if flow is not None:
                flow._handle(event)
        elif kind is FlowOpened:
            self._opened(event)  # type: ignore[arg-type]
        elif kind is Ask:
            self._answerer.ask(event, self.driver)  # type: ignore[arg-type]
        elif kind is AskWithdrawn:
            self._answerer.withdraw(event.id)  # type: ignore[union-attr]
        else:
            self._security(event)  # type: ignore[arg-type]

    def _security(self, event: SecurityEvent) -> None:
        self.log.add(self._loop.time(), event)
        if type(event) is HandshakeComplete:
            self.complete = True
        elif type(event) is Terminated:
            self.ended = True
        flows = tuple(self._flows.values())
        if self.ended:
            self._flows.clear()
            self._theirs.clear()
            self._answerer.close()
        for flow in flows:
            flow._handle(event)
        if self.ended:
            self._stack_over()
