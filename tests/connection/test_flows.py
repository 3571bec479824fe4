"""What groups have in common, on a stub: who hears what, and who is asked when the last one has gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import taps_security as taps
from taps_security.connection.flows import Flows, Grouped
from taps_security.observe.security import SecurityLog
from taps_security.stack.errors import ConnectionLost, LocalError, Reason
from taps_security.stack.events import (
    CloseKind,
    FlowClosed,
    FlowId,
    FlowKind,
    FlowOpened,
    HandshakeComplete,
    Received,
    Terminated,
)

COMPLETE = HandshakeComplete({"version": "1", "algorithms": {}, "alpn": None, "resumed": False, "provides": {}})


class Stack:
    """Opens flows, and says what it is told to say."""

    pending, deadline, wants_input = 0, None, True

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.allows = 2

    def open_flow(self, kind: FlowKind, remote: object, now: float) -> FlowId | None:
        self.allows -= 1
        return None if self.allows < 0 else 10 - self.allows

    def close_flow(self, flow: FlowId, now: float) -> None:
        self.events.append(FlowClosed(flow, CloseKind.CLEAN))

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        self.events.append(FlowClosed(flow, CloseKind.RESET))

    def close(self, now: float) -> None:
        self.events.append(Terminated(CloseKind.CLEAN))

    def abort(self, error: Exception | None, now: float) -> None:
        self.events.append(Terminated(CloseKind.ABORTED, error))

    def update_keys(self, now: float) -> None:
        self.events.append(COMPLETE)


class Some(Flows[Grouped]):
    """A group that notes what it is asked."""

    def __init__(self) -> None:
        self.told: list[object] = []
        answerer = SimpleNamespace(close=lambda: self.told.append("no answers"))
        loop = asyncio.get_running_loop()
        super().__init__(loop, Stack(), SecurityLog("stub", "1", {}), answerer, properties="declared")  # type: ignore[arg-type]

    def clone(self, flow: Grouped) -> Grouped:
        return self._open(FlowKind.STREAM, flow.flow, Grouped)

    def _opened(self, event: FlowOpened) -> None:
        self.told.append(event)

    def _last_gone(self) -> None:
        self.told.append("last gone")

    def _stack_over(self) -> None:
        self.told.append("over")

    def _place(self, flow: Grouped, remote: object) -> None:
        flow.remote_endpoint = (str(remote), flow.flow)

    def say(self, *events: Any) -> None:
        self.stack.events += events
        self.driver.pump()


async def group_of_two() -> tuple[Some, Grouped, Grouped]:
    group = Some()
    first = group._add(0, None, Grouped)
    return group, first, group.clone(first)


async def test_flows_are_ready_when_their_stack_is() -> None:
    group, first, second = await group_of_two()
    assert len(group) == 2
    assert (second.flow, second.remote_endpoint, second.properties) == (9, ("0", 9), "declared")
    waiting = asyncio.ensure_future(first.clone(timeout=1))
    await asyncio.sleep(0)
    group.say(COMPLETE)
    third = await waiting
    assert {flow.state for flow in (first, second, third)} == {taps.ConnectionState.ESTABLISHED}
    with pytest.raises(LocalError) as caught:
        await first.clone()
    assert caught.value.reason is Reason.OVERLOADED
    assert len(first.security_events) == 1  # heard by three, noted once


async def test_a_clone_waits_no_longer_than_it_is_told() -> None:
    _, first, _ = await group_of_two()
    with pytest.raises(ConnectionLost) as caught:
        await first.clone(timeout=0.01)
    assert caught.value.reason is Reason.TIMEOUT


async def test_octets_go_to_their_flow_and_those_of_nobody_nowhere() -> None:
    group, first, second = await group_of_two()
    stray = Received(77, [b"nobody's"])
    group.say(COMPLETE, Received(9, [b"second's"]), stray, FlowOpened(4, FlowKind.STREAM))
    group.stack.consumed = lambda *_: None  # type: ignore[method-assign]
    assert not stray.chunks
    assert second.take_received().data == b"second's"  # type: ignore[union-attr]
    assert first.take_received() is None
    assert group.told == [FlowOpened(4, FlowKind.STREAM)]


async def test_ends_of_one_and_of_all() -> None:
    group, first, second = await group_of_two()
    group.say(COMPLETE)
    await second.close()
    assert (second.state, second.error) == (taps.ConnectionState.CLOSED, None)
    assert first.state is taps.ConnectionState.ESTABLISHED
    assert group.told == []
    await first.update_keys()
    with pytest.raises(LocalError):
        await second.update_keys()
    with pytest.raises(LocalError):
        second.export_secret("x")
    mistake = ValueError("mine")
    first.abort(mistake)
    assert (first.state, first.error) == (taps.ConnectionState.CLOSED, mistake)
    assert group.told == ["last gone"]
    group.close()
    group.close()
    assert group.ended
    assert group.told == ["last gone", "no answers", "over"]
    with pytest.raises(LocalError, match="has ended"):
        group.clone(first)


@pytest.mark.parametrize(
    ("how", "error"),
    [(CloseKind.CLEAN, None), (CloseKind.SILENT, None), (CloseKind.RESET, LocalError), (CloseKind.ABORTED, LocalError)],
)
async def test_the_end_of_the_stack_is_everybodys(how: CloseKind, error: type[Exception] | None) -> None:
    group, first, second = await group_of_two()
    group.say(COMPLETE, Terminated(how))
    for flow in (first, second):
        assert flow.state is taps.ConnectionState.CLOSED
        assert type(flow.error) is (type(None) if error is None else error)
    assert len(group) == 0
    assert bool(group)
    assert "Some of 0 over stub" in repr(group)


async def test_a_flow_that_the_peer_resets_is_lost_and_one_that_we_reset_is_aborted() -> None:
    group, first, second = await group_of_two()
    group.say(COMPLETE, FlowClosed(0, CloseKind.RESET))
    second.abort()
    assert isinstance(first.error, ConnectionLost)
    assert isinstance(second.error, LocalError)
    group.abort()
    assert group.ended
