"""Groups: the flows of one stack, their events and their ends. Over WireGuard, and on a stub where the order counts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import taps_security as taps
from taps_security.connection.group import FLOWS_OF_THE_PEER, Flow, Group
from taps_security.observe.security import SecurityLog
from taps_security.simulation import Network
from taps_security.stack.asks import Ask, AskWithdrawn, VerifyKey
from taps_security.stack.errors import ConnectionLost
from taps_security.stack.events import (
    CloseKind,
    FlowClosed,
    FlowKind,
    FlowOpened,
    FlowWritable,
    HandshakeComplete,
    KeyReady,
    Received,
    Terminated,
)
from taps_security.stack.tunnel import FlowAddress
from tests.connection.inside import SERVICE, Site, ask, inner, pair, play, take, tell
from tests.connection.test_messages import Full, fill


# ----------------------------------------------------------------------------------------------------------- on a stub
class Stack:
    """A stack that opens any flow and does what tests put into its events."""

    peer = "somebody"
    endpoint_stale = False
    pending = 0
    deadline = None
    wants_input = True

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.next = 1
        self.full = False
        self.calls: list[tuple[Any, ...]] = []

    def open_flow(self, kind: FlowKind, remote: object, now: float) -> int | None:
        if self.full:
            return None
        self.next += 1
        return self.next - 1

    def flow_address(self, flow: int) -> FlowAddress:
        return FlowAddress(("10.0.0.2", 7), ("10.0.0.1", 1000 + flow))

    def close_flow(self, flow: int, now: float) -> None:
        self.calls.append(("close", flow))

    def reset_flow(self, flow: int, code: int, now: float) -> None:
        self.calls.append(("reset", flow))
        self.events.append(FlowClosed(flow, CloseKind.RESET))

    def close(self, now: float) -> None:
        self.events.append(Terminated(CloseKind.SILENT))

    def abort(self, error: Exception | None, now: float) -> None:
        self.events.append(Terminated(CloseKind.ABORTED, error))


class Bench:
    """A group on a stub, and what it tells."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.stack, self.log = Stack(), SecurityLog("stub", "1", {})
        self.taken: list[Flow] = []
        self.told: list[str] = []
        self.asks: list[object] = []
        answerer = SimpleNamespace(
            ask=lambda ask, driver: self.asks.append(ask),
            withdraw=self.asks.append,
            close=lambda: self.asks.append("closed"),
        )
        self.wanted = wanted
        self.group = Group(
            asyncio.get_running_loop(),
            self.stack,  # type: ignore[arg-type]
            self.log,
            answerer,  # type: ignore[arg-type]
            taker=self._take,
            idle=lambda group: self.told.append("idle"),
            ended=lambda group: self.told.append("ended"),
            tunnel=None,  # type: ignore[arg-type]
        )

    def _take(self, flow: Flow, event: FlowOpened) -> bool:
        self.taken.append(flow)
        return self.wanted

    def open(self) -> Flow:
        return self.group.open(FlowKind.DATAGRAM, FlowAddress(("10.0.0.2", 7)))

    def happen(self, *events: object) -> None:
        self.stack.events += events
        self.group.driver.pump()


OPENED = FlowOpened(9, FlowKind.DATAGRAM, FlowAddress(("10.0.0.2", 9), ("10.0.0.1", 7)))


async def test_each_event_goes_to_the_flow_that_it_is_about() -> None:
    bench = Bench()
    one, other = bench.open(), bench.open()
    bench.happen(HandshakeComplete({}))
    bench.happen(Received(other.flow, [b"for the other"]), Received(99, [b"for nobody"]), FlowWritable(99))
    assert one.take_received() is None
    assert bytes(other.take_received()) == b"for the other"
    assert one.local_endpoint == ("10.0.0.1", 1000 + one.flow)
    assert one.remote_endpoint == ("10.0.0.2", 7)


async def test_a_flow_is_ready_with_its_stack_or_at_once() -> None:
    bench = Bench()
    early = bench.open()
    waiter = early.ready_waiter()
    assert early.state is taps.ConnectionState.ESTABLISHING
    bench.happen(HandshakeComplete({}))
    async with asyncio.timeout(1):
        await waiter
    assert early.state is bench.open().state is taps.ConnectionState.ESTABLISHED


async def test_a_flow_that_is_being_closed_is_not_ready_any_more() -> None:
    bench = Bench()
    flow = bench.open()
    closing = asyncio.ensure_future(flow.close())
    await asyncio.sleep(0)
    bench.happen(HandshakeComplete({}))
    assert flow.state is taps.ConnectionState.CLOSING
    with pytest.raises(taps.LocalError, match="closing"):
        await flow.send(b"too late")
    bench.happen(FlowClosed(flow.flow, CloseKind.CLEAN))
    async with asyncio.timeout(1):
        await closing
    assert flow.error is None
    assert bench.told == ["idle"]


async def test_security_events_are_noted_once_and_told_to_all() -> None:
    bench = Bench()
    flows = [bench.open() for _ in range(3)]
    heard: list[object] = []
    for flow in flows:
        flow.callbacks.on_security_event = lambda connection, event: heard.append(connection)
    bench.happen(HandshakeComplete({}))
    assert heard == flows
    assert [type(event) for event in flows[0].security_events] == [HandshakeComplete]
    assert KeyReady not in map(type, flows[0].security_events)


async def test_asks_are_answered_for_all_of_them() -> None:
    bench = Bench()
    ask = Ask(1, VerifyKey(b"key", "server"))
    bench.happen(ask, AskWithdrawn(1), Terminated(CloseKind.SILENT))
    assert bench.asks == [ask, 1, "closed"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_who_takes_what_the_peer_opens(wanted: bool) -> None:
    bench = Bench(wanted=wanted)
    bench.happen(HandshakeComplete({}))
    bench.happen(OPENED, Received(9, [b"its first words"]))
    (flow,) = bench.taken
    if wanted:
        assert bytes(flow.take_received()) == b"its first words"
        assert len(bench.group) == 1
    else:
        assert bench.stack.calls == [("reset", 9)]
        assert flow.state is taps.ConnectionState.CLOSED
        assert not len(bench.group)
        assert bench.told == ["idle"]


async def test_of_the_flows_that_the_peer_opened_so_many_are_kept() -> None:
    bench = Bench()
    bench.happen(HandshakeComplete({}))
    ours = bench.open()
    first, last = 1000, 1000 + FLOWS_OF_THE_PEER
    for number in range(first, last):
        bench.happen(FlowOpened(number, FlowKind.DATAGRAM, FlowAddress(("10.0.0.2", number))), Received(number, [b"x"]))
    assert not bench.stack.calls
    bench.happen(Received(first, [b"still here"]))
    bench.happen(FlowOpened(last, FlowKind.DATAGRAM, FlowAddress(("10.0.0.2", 1))))
    assert bench.stack.calls == [("reset", first + 1)]
    error = bench.taken[1].error
    assert isinstance(error, ConnectionLost)
    assert error.reason is taps.Reason.OVERLOADED
    assert len(bench.group._theirs) == FLOWS_OF_THE_PEER
    for flow in (ours, bench.taken[0], bench.taken[-1]):
        assert flow.state is taps.ConnectionState.ESTABLISHED
    for flow in bench.taken:
        flow.abort()
    assert not bench.group._theirs
    assert len(bench.group) == 1


async def test_the_end_of_the_stack_is_the_end_of_every_flow() -> None:
    bench = Bench()
    flows = [bench.open() for _ in range(2)]
    bench.happen(HandshakeComplete({}))
    lost = ConnectionLost("silence")
    waiting = asyncio.ensure_future(flows[0].receive())
    await asyncio.sleep(0)
    bench.happen(Terminated(CloseKind.ABORTED, lost))
    with pytest.raises(ConnectionLost, match="silence"):
        await waiting
    assert {flow.error for flow in flows} == {lost}
    assert bench.told == ["ended"]
    assert "0 over stub" in repr(bench.group)
    bench.group.close()
    bench.group.abort()
    assert bench.told == ["ended"]
    for attempt in (bench.open, lambda: bench.group.clone(flows[0])):
        with pytest.raises(taps.LocalError, match="ended"):
            attempt()
    for attempt in (flows[0].update_keys(), flows[0].send(b"x")):
        with pytest.raises(taps.TapsError):
            await attempt
    with pytest.raises(taps.LocalError, match="has ended"):
        flows[0].export_secret("label")


async def test_a_stack_that_is_closed_ends_its_flows_without_an_error() -> None:
    bench = Bench()
    flow = bench.open()
    bench.group.close()
    assert flow.state is taps.ConnectionState.CLOSED
    assert flow.error is None


async def test_an_aborted_flow_says_so_and_keeps_the_given_error() -> None:
    bench = Bench()
    bench.happen(HandshakeComplete({}))
    one, other, third = (bench.open() for _ in range(3))
    one.abort()
    assert isinstance(one.error, taps.LocalError)
    assert one.error.reason is taps.Reason.CONNECTION_ABORTED
    why = ValueError("mine")
    other.abort(why)
    assert other.error is why
    bench.happen(FlowClosed(third.flow, CloseKind.RESET))  # nobody here asked for that
    assert isinstance(third.error, ConnectionLost)
    one.abort()
    assert bench.stack.calls == [("reset", one.flow), ("reset", other.flow)]


async def test_a_stack_that_opens_no_more() -> None:
    bench = Bench()
    bench.stack.full = True
    with pytest.raises(taps.LocalError) as caught:
        bench.open()
    assert caught.value.reason is taps.Reason.OVERLOADED
    assert bool(bench.group)
    assert not len(bench.group)


async def test_a_clone_waits_until_the_stack_is_ready() -> None:
    bench = Bench()
    flow = bench.open()
    cloning = asyncio.ensure_future(flow.clone(timeout=60))
    await asyncio.sleep(0)
    assert not cloning.done()
    bench.happen(HandshakeComplete({}))
    async with asyncio.timeout(1):
        clone = await cloning
    assert clone.state is taps.ConnectionState.ESTABLISHED
    assert clone.flow != flow.flow


@pytest.mark.parametrize("how", ["timeout", "cancel", "end"])
async def test_a_clone_that_is_never_ready_leaves_nothing(how: str) -> None:
    bench = Bench()
    flow = bench.open()
    cloning = asyncio.ensure_future(flow.clone(timeout=0.001 if how == "timeout" else None))
    await asyncio.sleep(0)
    assert len(bench.group) == 2
    if how == "cancel":
        cloning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cloning
    elif how == "end":
        bench.happen(Terminated(CloseKind.ABORTED, ConnectionLost("silence")))
        with pytest.raises(ConnectionLost, match="silence"):
            await cloning
    else:
        with pytest.raises(ConnectionLost) as caught:
            await cloning
        assert caught.value.reason is taps.Reason.TIMEOUT
    assert len(bench.group) == (0 if how == "end" else 1)


# ------------------------------------------------------------------------------------------------------ over WireGuard
def test_a_clone_is_a_further_flow_of_the_same_stack() -> None:
    async def scenario(network: Network) -> None:
        client = Site(network, "client", "server")
        async with await Site(network, "server", "client").listen() as listener:
            one = await client.connect("server")
            handshakes = len(network.trace)
            other = await one.clone(timeout=1)
            assert other.remote_endpoint == one.remote_endpoint == (inner("server"), SERVICE)
            assert other.local_endpoint != one.local_endpoint
            assert other.properties is one.properties
            assert other.tunnel is one.tunnel
            assert len(network.trace) == handshakes
            await one.send(b"1")
            await other.send(b"2")
            theirs = {
                (await each.receive(timeout=1)).data: each for each in [await take(listener), await take(listener)]
            }
            await ask(one, theirs[b"1"])
            await ask(other, theirs[b"2"])
            assert theirs[b"1"].remote_endpoint == one.local_endpoint
            for connection in (one, other, *theirs.values()):
                await connection.close()

    play(scenario)


def test_an_accepted_connection_is_cloned_towards_who_began() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            clone = await server.clone()
            assert clone.remote_endpoint == server.remote_endpoint
            assert clone.local_endpoint[0] == inner("server")
            assert clone.local_endpoint != server.local_endpoint  # the port is the listener's
            await clone.close()
            await ask(client, server)

    play(scenario)


def test_closing_one_flow_leaves_the_others() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            further = [await client.clone() for _ in range(3)]
            await further[0].send(b"the last words")
            await further[0].close()
            assert further[0].error is None
            further[1].abort()
            with pytest.raises(taps.LocalError, match="closed"):
                await further[0].send(b"from the grave")
            await ask(client, server)
            await further[2].close()
            await further[2].close()  # of no effect
            await ask(client, server)

    play(scenario)


def test_closing_brings_what_was_sent_and_aborting_drops_it() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            other = await client.clone()
            errors: list[Any] = []
            other.callbacks.on_send_error = lambda _, context, error: errors.append((context, error))
            with Full(network):
                count = await fill(client)
                context = taps.MessageContext()
                closing = asyncio.ensure_future(client.close())
                cloned = asyncio.ensure_future(other.send(b"never sent", context))
                await asyncio.sleep(1)
                assert not closing.done()
                with pytest.raises(taps.LocalError, match="closing"):
                    await client.send(b"behind the end")
                cloned.cancel()
            async with asyncio.timeout(600):
                await closing
            for _ in range(count):
                assert len((await server.receive(timeout=5)).data) == 1000
            with Full(network):
                for _ in range(5):
                    await other.send(bytes(1000))
                    await asyncio.sleep(0)
                await other.send(b"dropped", context)
                other.abort()
            assert [context for context, _ in errors] == [context]
            assert errors[0][1].reason is taps.Reason.CONNECTION_ABORTED
            await asyncio.sleep(10)

    play(scenario)


def test_closing_that_is_cancelled_goes_on() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, _server):
            with Full(network):
                await fill(client)
                closing = asyncio.ensure_future(client.close())
                await asyncio.sleep(0)
                closing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await closing
                assert client.state is taps.ConnectionState.CLOSING
            async with asyncio.timeout(600):
                await client.wait_closed()
            assert client.error is None

    play(scenario)


def test_fresh_keys_are_for_all_flows() -> None:
    async def scenario(network: Network) -> None:
        async with pair(network) as (client, server):
            clone = await client.clone()
            await asyncio.sleep(1)
            before = [event for event in client.security_events if isinstance(event, KeyReady)]
            await clone.update_keys()
            await asyncio.sleep(1)
            after = [event for event in client.security_events if isinstance(event, KeyReady)]
            assert len(after) == len(before) + 2
            with pytest.raises(taps.LocalError) as caught:
                client.export_secret("label")
            assert caught.value.reason is taps.Reason.NOT_SUPPORTED
            await clone.close()
            with pytest.raises(taps.LocalError, match="ended"):
                await clone.update_keys()
            await ask(client, server)

    play(scenario)


def test_a_service_whose_clients_never_say_goodbye_goes_on() -> None:
    async def scenario(network: Network) -> None:
        async def echo(connection: taps.Connection) -> None:
            async for message in connection:
                await connection.send(message.data)

        listener = await Site(network, "server", "client").listen()
        serving = asyncio.ensure_future(listener.serve(echo))
        client = Site(network, "client", "server")
        faithful = await client.connect("server")
        for number in range(FLOWS_OF_THE_PEER + 200):
            short = await client.connect("server")
            await short.send(b"%d" % number)
            assert (await short.receive(timeout=1)).data == b"%d" % number
            short.abort()
            if number % 100 == 0:
                await faithful.send(b"still here")
                assert (await faithful.receive(timeout=1)).data == b"still here"
        assert len(listener._handlers) <= FLOWS_OF_THE_PEER + 1
        await faithful.close()
        serving.cancel()
        await asyncio.wait([serving])

    play(scenario)


def test_many_flows_share_one_stack() -> None:
    async def scenario(network: Network) -> None:
        async with await Site(network, "server", "client").listen() as listener:
            client = Site(network, "client", "server")
            ours = await asyncio.gather(*(client.connect("server") for _ in range(50)))
            assert len({connection.tunnel for connection in ours}) == 1
            assert sum(entry.length == 148 for entry in network.trace) == 1  # initiations
            for number, connection in enumerate(ours):
                await connection.send(b"%d" % number)
            theirs = {}
            for _ in ours:
                connection = await take(listener)
                theirs[(await connection.receive(timeout=1)).data] = connection
            for number, connection in enumerate(ours):
                await tell(theirs[b"%d" % number], connection, b"%d" % -number)
            for connection in (*ours, *theirs.values()):
                connection.abort()

    play(scenario)
