"""Groups of streams, by the public API, over the parley: streams, changing ids and key phases, the shape of QUIC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import taps_security as taps
from taps_security import simulation
from taps_security.connection.multistream import IDLE, StreamFlow
from taps_security.protocols import registry
from taps_security.simulation import Nat, Network
from tests.conformance.subject import SERVER_NAME
from tests.conformance.toys import PARLEY, ToyOptions
from tests.support.leaks import other_tasks
from tests.support.pki import Pki
from tests.toys.parley_stack import CLOSE_WAIT, FLOWS, LINGER, WINDOW

DELAY, PORT = 0.01, 4433


class Ends:
    """Both ends of one stack."""

    def __init__(
        self, network: Network, listener: taps.Listener, first: taps.Connection, theirs: taps.Connection
    ) -> None:
        self.network, self.listener, self.first, self.theirs = network, listener, first, theirs

    @property
    def sockets(self) -> int:
        return len(self.network.open_sockets())

    async def further(self, data: bytes = b"new") -> tuple[taps.Connection, taps.Connection]:
        """A clone of the first flow, and the listener's end of it."""
        ours = await self.first.clone()
        await ours.send(data)
        theirs = await self.listener.accept()
        assert (await theirs.receive()).data == data
        return ours, theirs


def play(pki: Pki, scenario: Callable[[Ends], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a scenario on a pair, and look for what it leaves behind."""

    async def main(network: Network) -> None:
        before = other_tasks()
        network.host("client", "192.0.2.1")
        network.host("server", "192.0.2.2")
        network.connect("client", "server", delay=DELAY)
        anything = taps.TransportProperties(reliability="require")
        toy_options = {"parley": ToyOptions(**options)}
        with network.host("server"):
            serving = taps.SecurityParameters(
                stacks=["parley"], identity=taps.Identity(pki.leaf()), options=toy_options
            )
            listener = await taps.Preconnection(
                [taps.LocalEndpoint(port=PORT)], transport_properties=anything, security_parameters=serving
            ).listen()
        trust = taps.Trust.file(str(pki.trust_file))
        with network.host("client"):
            first = await taps.Preconnection(
                remote_endpoints=[taps.RemoteEndpoint(host_name="server", port=PORT)],
                transport_properties=anything,
                security_parameters=taps.SecurityParameters(
                    stacks=["parley"], trust=trust, server_name=SERVER_NAME, options=toy_options
                ),
            ).initiate(timeout=5)
        await first.send(b"first")
        theirs = await listener.accept()
        assert (await theirs.receive()).data == b"first"
        ends = Ends(network, listener, first, theirs)
        async with listener:
            await scenario(ends)
        await asyncio.sleep(CLOSE_WAIT + IDLE + LINGER + 1)
        for connection in (first, theirs):
            assert connection.state is taps.ConnectionState.CLOSED
        assert network.open_sockets() == []
        assert other_tasks() == before

    with registry.register(PARLEY):
        simulation.run(main, seed=3)


async def echo(one: taps.Connection, other: taps.Connection, data: bytes = b"there and back") -> None:
    """Through two ends of a flow."""
    await one.send(data)
    assert (await other.receive(min_incomplete_length=len(data))).data == data
    await other.send(data)
    assert (await one.receive(min_incomplete_length=len(data))).data == data


async def close(*connections: taps.Connection) -> None:
    await asyncio.gather(*(connection.close() for connection in connections))


# --------------------------------------------------------------------------------------------------------- opening
def test_clone_opens_a_further_stream_of_the_same_stack(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        sockets, sent = ends.sockets, len(ends.network.trace)
        cloned = await ends.first.clone()
        assert isinstance(cloned, StreamFlow)
        assert cloned.state is taps.ConnectionState.ESTABLISHED
        assert len(ends.network.trace) == sent  # the peer learns of it by its first octets
        await cloned.send(b"new")
        theirs = await ends.listener.accept()
        assert (await theirs.receive()).data == b"new"
        assert ends.sockets == sockets
        assert (cloned.flow, theirs.flow, ends.first.flow) == (2, 2, 0)
        assert cloned.driver is ends.first.driver
        assert cloned.remote_endpoint == ends.first.remote_endpoint
        assert theirs.remote_endpoint == ends.theirs.remote_endpoint
        assert cloned.security.peer == ends.first.security.peer is not None
        assert cloned.properties is ends.first.properties
        await echo(cloned, theirs)
        await echo(ends.first, ends.theirs)
        await close(cloned, theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_streams_do_not_wait_for_each_other(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        full = asyncio.ensure_future(ours.send(bytes(4 * WINDOW)))  # nobody reads it
        await asyncio.sleep(1)
        await echo(ends.first, ends.theirs)
        octets = 0
        while octets < 4 * WINDOW:
            octets += len((await theirs.receive()).data)
        await full
        await close(ours, theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_the_accepting_side_opens_streams_too_and_an_initiator_has_nobody_for_them(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        opened = await ends.theirs.clone()
        assert opened.flow == 1
        await opened.send(b"for whom")
        with pytest.raises(taps.ConnectionLost) as caught:
            await opened.receive()
        assert caught.value.reason is taps.Reason.RESET
        await echo(ends.first, ends.theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_a_listener_that_takes_no_more_resets_what_the_peer_opens(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ends.listener.set_new_connection_limit(0)
        refused = await ends.first.clone()
        await refused.send(b"x")
        with pytest.raises(taps.ConnectionLost):
            await refused.receive()
        ends.listener.set_new_connection_limit(None)
        ours, theirs = await ends.further()
        await close(ours, theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_the_peers_limit_of_streams(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        clones = [await ends.first.clone() for _ in range(FLOWS)]
        with pytest.raises(taps.LocalError) as caught:
            await ends.first.clone()
        assert caught.value.reason is taps.Reason.OVERLOADED
        await close(*clones)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


# ------------------------------------------------------------------------------------------------------------ ends
@pytest.mark.parametrize("first", [True, False])
def test_closing_one_leaves_the_other(pki: Pki, first: bool) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        pairs = [(ends.first, ends.theirs), (ours, theirs)]
        (gone, gone_there), (left, left_there) = pairs if first else pairs[::-1]
        await gone.send(b"last words")
        await close(gone, gone_there)
        assert gone.state is gone_there.state is taps.ConnectionState.CLOSED
        assert gone.error is gone_there.error is None
        await echo(left, left_there)
        cloned = await left.clone()  # whichever is left
        await cloned.send(b"x")
        assert (await (await ends.listener.accept()).receive()).data == b"x"
        with pytest.raises(taps.LocalError):
            await gone.send(b"too late")
        with pytest.raises(taps.LocalError):
            await gone.update_keys()
        await close(cloned)
        await close(left, left_there)

    play(pki, scenario)


def test_half_close_of_one_stream(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        await ours.send(b"question", final=True)
        got = await theirs.receive(min_incomplete_length=8)
        assert got.data == b"question"
        assert got.end_of_message or (await theirs.receive()).end_of_message
        await theirs.send(b"answer")
        assert (await ours.receive()).data == b"answer"
        await theirs.send(b"", final=True)
        assert (await ours.receive()).end_of_message
        await asyncio.sleep(1)
        assert ours.state is theirs.state is taps.ConnectionState.CLOSED  # both sides have ended
        await echo(ends.first, ends.theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_the_last_one_closes_the_stack(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        await close(ends.first, ends.theirs)
        assert not ends.first.driver.stack.ended
        await ours.send(b"the end")
        await ours.close()
        assert ours.driver.stack.ended
        assert (await theirs.receive()).data == b"the end"
        assert (await theirs.receive()).end_of_message
        assert theirs.driver.stack.ended
        assert (ours.error, theirs.error) == (None, None)
        with pytest.raises(taps.LocalError) as caught:
            await ours.clone()
        assert caught.value.reason is taps.Reason.NOT_CLONEABLE

    play(pki, scenario)


def test_who_accepted_waits_for_streams_that_nobody_spoke_on_yet(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours = await ends.first.clone()  # the server does not know of it
        await close(ends.first, ends.theirs)
        await asyncio.sleep(IDLE / 2)
        await ours.send(b"still here")
        theirs = await ends.listener.accept()
        await asyncio.sleep(2 * IDLE)
        await theirs.send(b"and I")
        assert (await ours.receive()).data == b"and I"
        await close(ours, theirs)

    play(pki, scenario)


def test_who_accepted_ends_a_stack_without_streams(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours = await ends.first.clone()
        await close(ends.first, ends.theirs)
        await asyncio.sleep(IDLE + 1)
        assert ends.theirs.driver.stack.ended
        assert ours.state is taps.ConnectionState.CLOSED

    play(pki, scenario)


def test_an_abort_ends_one_stream_and_the_last_one_all(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        ours.abort()
        with pytest.raises(taps.ConnectionLost):
            await theirs.receive()
        assert isinstance(ours.error, taps.LocalError)
        await echo(ends.first, ends.theirs)
        ends.first.abort()
        with pytest.raises(taps.PeerAborted):
            await ends.theirs.receive()
        assert ends.first.driver.stack.ended

    play(pki, scenario)


def test_a_peer_that_never_ends_its_stream_is_waited_for_five_seconds(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await ours.close()
        assert CLOSE_WAIT <= loop.time() - began < CLOSE_WAIT + 1
        assert ours.error is None
        assert (await theirs.receive()).end_of_message
        await asyncio.sleep(1)
        assert isinstance(theirs.error, taps.ConnectionLost)
        await echo(ends.first, ends.theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_what_ends_the_stack_ends_every_stream(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        await ours.send(b"into the void")
        ends.network.partition("client", "server")
        for connection in (ours, ends.first):
            with pytest.raises(taps.ConnectionLost) as caught:
                await connection.receive()
            assert caught.value.reason is taps.Reason.TIMEOUT
        ends.network.heal()
        for connection in (theirs, ends.theirs):
            connection.abort()

    play(pki, scenario)


# ------------------------------------------------------------------------------------------------- keys, ids, paths
def test_key_phases_and_ids_change_under_all_streams(pki: Pki) -> None:
    """Each stream goes on; the group's events are told to all connections, and stand once in the one log."""

    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        heard: dict[str, list[str]] = {"first": [], "second": []}
        for name, connection in (("first", ends.first), ("second", ours)):
            note = heard[name]
            connection.callbacks.on_security_event = lambda _, event, note=note: note.append(type(event).__name__)
        nat = ends.network.host("client").nat = Nat("203.0.113.7")
        before = ends.theirs.remote_endpoint
        for turn in range(1, 4):
            await ours.update_keys()
            await asyncio.gather(echo(ends.first, ends.theirs), echo(ours, theirs))
            assert ends.first.security.epoch == ours.security.epoch
            assert ours.security.epoch[0] == turn
            nat.rebind()
        assert heard["first"] == heard["second"]
        assert heard["first"].count("KeyReady") == 6
        ready = [record for record in ours.security.as_json()["keys"] if record["event"] == "ready"]
        names = [(record["stage"], record["generation"], record["direction"]) for record in ready]
        assert len(names) == len(set(names))  # told to two connections, noted once
        await echo(ours, theirs)
        await asyncio.sleep(1)
        assert theirs.remote_endpoint == ends.theirs.remote_endpoint != before
        later, later_there = await ends.further()
        assert later_there.remote_endpoint == theirs.remote_endpoint
        assert {type(event).__name__ for event in ends.theirs.security_events} >= {"PeerMoved", "PathValidated"}
        await close(later, later_there)
        await close(ours, theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario)


def test_a_soft_limit_of_the_keys_under_two_streams(pki: Pki) -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = await ends.further()
        for _ in range(20):
            await asyncio.gather(echo(ends.first, ends.theirs), echo(ours, theirs))
        assert min(ours.security.epoch) >= 2
        assert ours.export_secret("two", length=16) == theirs.export_secret("two", length=16)
        await close(ours, theirs)
        await close(ends.first, ends.theirs)

    play(pki, scenario, records_per_key=12)


# ------------------------------------------------------------------------------------------------------------ losers
def test_an_initiator_that_gives_up_leaves_nothing(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.host("server").silent = True
        trust = taps.Trust.file(str(pki.trust_file))
        with network.host("client"), pytest.raises(taps.EstablishmentError):
            await taps.Preconnection(
                remote_endpoints=[taps.RemoteEndpoint(host_name="server", port=PORT)],
                security_parameters=taps.SecurityParameters(stacks=["parley"], trust=trust, server_name=SERVER_NAME),
            ).initiate(timeout=1)
        await asyncio.sleep(1)
        assert network.open_sockets() == []

    with registry.register(PARLEY):
        simulation.run(main)
