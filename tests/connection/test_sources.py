"""Where connections come from: TCP and UDP on one port number, several protocols on one UDP port, bounds."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import taps_security as taps
from taps_security import simulation
from taps_security.connection.listener import Listener
from taps_security.connection.sources import OUT_OF_DESCRIPTORS_PAUSE, StreamSource
from taps_security.protocols import registry
from taps_security.simulation import Network
from taps_security.stack.layers import PathFacts
from tests.conformance.toys import PARLEY
from tests.connection.inside import ANYTHING, ask, options, peer, take, timers
from tests.support.leaks import other_tasks
from tests.support.pki import Pki
from tests.support.service import client_security, server_security

PORT = 4433
FREE = taps.TransportProperties(
    **dict.fromkeys(("reliability", "preserve_order", "congestion_control"), "no preference")
)
LISTENS = dataclasses.replace(PARLEY, claims=(b"\xc1", b"\xf0", b"\xf1"))  # what its screener recognises


@pytest.fixture(autouse=True)
def parley() -> Iterator[None]:
    with registry.register(LISTENS):
        yield


class World:
    """Host "server" listens, others initiate."""

    def __init__(self, network: Network, pki: Pki) -> None:
        self.network, self.pki = network, pki
        self.address = network.host("server").addresses[0]

    async def listen(self, *stacks: str, address: str | None = None, port: int = PORT, **how: Any) -> taps.Listener:
        security = server_security(self.pki, stacks=stacks)
        local = taps.LocalEndpoint(ip_address=address, port=port)
        with self.network.host("server"):
            return await taps.Preconnection([local], (), FREE, security).listen(**how)

    async def connect(self, stack: str, host: str = "client", port: int = PORT, **how: Any) -> taps.Connection:
        how.setdefault("timeout", 5.0)
        remote = taps.RemoteEndpoint(ip_address=self.address, port=port)
        with self.network.host(host):
            return await taps.Preconnection((), [remote], FREE, client_security(self.pki, stacks=[stack])).initiate(
                **how
            )


def play(pki: Pki, scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main(network: Network) -> None:
        network.default_link.delay = 0.01
        async with asyncio.timeout(600):
            await scenario(World(network, pki))
        await asyncio.sleep(60)  # ends may linger
        assert not network.open_sockets()
        assert not other_tasks()
        assert not timers()

    simulation.run(main)


async def talk(one: taps.Connection, other: taps.Connection) -> None:
    """Both ways, over streams."""
    for sender, receiver in ((one, other), (other, one)):
        await sender.send(b"hello")
        assert (await receiver.receive(min_incomplete_length=5, timeout=5)).data == b"hello"


# ------------------------------------------------------------------------------------------------------ ports in common
@pytest.mark.parametrize("address", [None, "server"])
def test_streams_and_datagrams_of_one_listener_share_a_port_number(pki: Pki, address: str | None) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen("tls", "parley", address=world.address if address else None, port=0)
        port = listener.port
        hosts = [world.address] if address else ["0.0.0.0", "::"]
        assert sorted(listener.addresses) == [(host, port) for host in hosts]
        assert len(world.network.open_sockets()) == (2 if address else 3)
        for stack in ("tls", "parley"):
            ours = await world.connect(stack, port=port)
            theirs = await take(listener)
            assert ours.security.stack == theirs.security.stack == stack
            assert theirs.remote_endpoint == ours.local_endpoint
            assert theirs.local_endpoint == (world.address, port)
            await talk(ours, theirs)
            ours.abort()
            theirs.abort()
        listener.stop()

    play(pki, scenario)


def test_protocols_share_a_udp_port_with_each_other_and_with_a_tunnel(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        here = options("server", peer("client"), listen_port=PORT)
        there = options("client", peer("server", (world.address, PORT)), listen_port=PORT)
        listener = await world.listen("parley")
        inside, ours = [
            taps.Preconnection(
                local_endpoints=[taps.LocalEndpoint(port=7)] if given is here else (),
                remote_endpoints=[taps.RemoteEndpoint(ip_address="10.77.0.2", port=7)],
                transport_properties=ANYTHING,
                security_parameters=taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": given}),
            )
            for given in (here, there)
        ]
        with world.network.host("server"):
            within = await inside.listen()
        assert len(world.network.open_sockets()) == 1
        with world.network.host("client"):
            message = await ours.initiate(timeout=5)
        stream = await world.connect("parley")
        await message.send(b"x")
        got = await take(within)
        assert (await got.receive(timeout=1)).data == b"x"
        theirs = await take(listener)
        await ask(message, got)
        await talk(stream, theirs)
        listener.stop()  # the other goes on, on the same socket
        await ask(message, got)
        await talk(stream, theirs)
        for connection in (stream, theirs):
            connection.abort()
        await ask(message, got)
        within.stop()
        for connection in (message, got):
            await connection.close()

    play(pki, scenario)


def test_claims_that_overlap_are_refused_and_leave_the_first_as_it_was(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen("parley")
        greedy = dataclasses.replace(PARLEY, name="greedy")  # takes anything
        with registry.register(greedy):
            for stacks in (("parley",), ("greedy",), ("tls", "greedy")):
                with pytest.raises(taps.ConfigurationError, match=f"port {PORT}"):
                    await world.listen(*stacks)
            with pytest.raises(taps.ConfigurationError, match="would both take"):
                await world.listen("parley", "greedy", port=PORT + 1)
        assert len(world.network.open_sockets()) == 1
        ours = await world.connect("parley")
        theirs = await take(listener)
        await talk(ours, theirs)
        for connection in (ours, theirs):
            connection.abort()
        listener.stop()
        again = await world.listen("parley")
        again.stop()

    play(pki, scenario)


def test_a_stopped_listener_makes_room_for_the_next_while_connections_go_on(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        pairs = []
        for _ in range(3):
            listener = await world.listen("parley")
            ours = await world.connect("parley")
            pairs.append((ours, await take(listener)))
            listener.stop()
            assert len([sock for sock in world.network.open_sockets() if sock.host.name == "server"]) == 1
        for pair in pairs:
            await talk(*pair)
        with pytest.raises(taps.EstablishmentError):
            await world.connect("parley", timeout=3.0)  # nobody listens
        for ours, theirs in pairs:
            await asyncio.gather(ours.close(), theirs.close())

    play(pki, scenario)


def test_listeners_in_several_hands_share_a_port_if_they_ask_for_it(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        listeners = [await world.listen("tls", "parley", reuse_port=True) for _ in range(2)]
        with pytest.raises(taps.EstablishmentError) as caught:
            await world.listen("parley")
        assert caught.value.reason is taps.Reason.ADDRESS_IN_USE
        ours = [await world.connect("parley", f"client {number}") for number in range(12)]
        await asyncio.sleep(1)
        shares = [len(listener._ready) for listener in listeners]
        assert sum(shares) == 12
        assert all(shares)
        for connection in ours:
            connection.abort()
        for listener in listeners:
            listener.stop()

    play(pki, scenario)


# ------------------------------------------------------------------------------------------------------------- bounds
@pytest.mark.parametrize("stack", ["tls", "parley"])
def test_a_backlog_that_is_full_lets_nobody_in_until_somebody_is_taken(pki: Pki, stack: str) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen(stack, backlog=2)
        ours = [await world.connect(stack) for _ in range(2)]
        late = asyncio.ensure_future(world.connect(stack, timeout=30.0, handshake_timeout=30.0))
        await asyncio.sleep(2)
        assert not late.done()
        assert not listener.accepting
        theirs = [await take(listener)]
        ours.append(await late)
        theirs += [await take(listener), await take(listener)]
        for connection in (*ours, *theirs):
            connection.abort()
        listener.stop()

    play(pki, scenario)


@pytest.mark.parametrize("stack", ["tls", "parley"])
def test_a_limit_of_new_connections(pki: Pki, stack: str) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen(stack)
        listener.set_new_connection_limit(1)
        ours = await world.connect(stack)
        theirs = await take(listener)
        with pytest.raises(taps.EstablishmentError):
            await world.connect(stack, timeout=3.0)
        await talk(ours, theirs)
        listener.set_new_connection_limit(None)
        again = await world.connect(stack)
        for connection in (ours, theirs, again, await take(listener)):
            connection.abort()
        listener.stop()

    play(pki, scenario)


def test_a_limit_is_a_number_or_none(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen("parley")
        listener.set_new_connection_limit(0)
        for wrong in (-1, 1.5, "one"):
            with pytest.raises(taps.ConfigurationError, match="limit"):
                listener.set_new_connection_limit(wrong)  # type: ignore[arg-type]
        assert not listener.accepting  # as before
        listener.stop()

    play(pki, scenario)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.025, 0.03, 0.04])
def test_an_accept_that_is_cancelled_loses_nobody(pki: Pki, moment: float) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen("parley")
        accepting = asyncio.ensure_future(listener.accept())
        await asyncio.sleep(0)
        with pytest.raises(taps.LocalError, match="another accept"):
            await listener.accept()
        connecting = asyncio.ensure_future(world.connect("parley"))
        await asyncio.sleep(moment)
        accepting.cancel()
        ours = await connecting
        try:
            theirs = await accepting
        except asyncio.CancelledError:
            theirs = await take(listener)
        await talk(ours, theirs)
        for connection in (ours, theirs):
            connection.abort()
        listener.stop()
        with pytest.raises(taps.LocalError, match="stopped"):
            await listener.accept()
        assert [connection async for connection in listener] == []

    play(pki, scenario)


def test_unfinished_stacks_of_datagrams_are_bounded(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen("parley", max_establishing=3)
        ours = await world.connect("parley")
        theirs = await take(listener)
        world.network.partition("server", [f"flood {number}" for number in flood(world, 10)], one_way=True)
        silent = [asyncio.ensure_future(world.connect("parley", f"flood {n}", timeout=4.0)) for n in range(10)]
        await asyncio.sleep(1)
        assert 0 < len(listener._establishing) <= 3  # the others were asked for a cookie
        await talk(ours, theirs)
        assert len(await asyncio.gather(*silent, return_exceptions=True)) == 10
        await asyncio.sleep(20)  # the handshake's time
        assert not listener._establishing
        for connection in (ours, theirs):
            connection.abort()
        listener.stop()

    def flood(world: World, count: int) -> range:
        for number in range(count):
            world.network.host(f"flood {number}")
        return range(count)

    play(pki, scenario)


# --------------------------------------------------------------------------------------------- a socket of the kernel
class Kernel:
    """A listening socket that gives what it is told."""

    def __init__(self, *gives: Any) -> None:
        self.gives = list(gives)
        self.closed = False

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.1", 443

    def accept(self) -> tuple[Any, Any]:
        if not self.gives:
            raise BlockingIOError
        given = self.gives.pop(0)
        if isinstance(given, OSError):
            raise given
        return given, None

    def close(self) -> None:
        self.closed = True


class Gone:
    """A connected socket whose peer has gone already."""

    closed = False

    def setblocking(self, flag: bool) -> None:
        pass

    def getsockname(self) -> Any:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def close(self) -> None:
        self.closed = True


class Loop:
    """Watches one socket, and a clock that tests move."""

    taps_network = object()

    def __init__(self) -> None:
        self.reader: Callable[[], None] | None = None
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def add_reader(self, sock: Any, callback: Callable[[], None]) -> None:
        self.reader = callback

    def remove_reader(self, sock: Any) -> None:
        self.reader = None

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        entry = (self.now + delay, callback)
        self.later.append(entry)
        return SimpleNamespace(cancel=lambda: self.later.remove(entry) if entry in self.later else None)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due, self.later = self.later, []
        for _, callback in due:
            callback()


class Made:
    """A Connection that was accepted."""

    def belong_to(self, owner: object) -> None:
        pass

    def abort(self, error: object = None) -> None:
        raise AssertionError("nothing was begun")


def listening(*gives: Any) -> tuple[Loop, Kernel, Listener, list[Any]]:
    loop, kernel, made = Loop(), Kernel(*gives), []
    listener = Listener(loop, max_establishing=5, handshake_timeout=1.0, backlog=5)  # type: ignore[arg-type]

    def accept() -> Any:
        made.append(Made())
        return made[-1]

    source = StreamSource(loop, listener, kernel, accept)  # type: ignore[arg-type]
    listener._sources.append(source)
    source.resume()
    return loop, kernel, listener, made


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_it_rests_a_while(number: int) -> None:
    loop, kernel, listener, _ = listening(OSError(number, "too many"))
    assert loop.reader is not None
    loop.reader()
    assert loop.reader is None
    loop.pass_time(OUT_OF_DESCRIPTORS_PAUSE)
    assert loop.reader is not None
    kernel.gives.append(OSError(number, "still"))
    loop.reader()
    listener.stop()
    assert kernel.closed
    assert loop.reader is None
    assert not loop.later


def test_other_errors_of_accept() -> None:
    loop, kernel, _, made = listening(ConnectionAbortedError(), OSError(errno.EBADF, "a bug"))
    assert loop.reader is not None
    loop.reader()  # whoever it was is gone
    with pytest.raises(OSError, match="a bug"):
        loop.reader()
    assert not made
    assert not kernel.gives


def test_a_peer_that_was_gone_at_once_costs_nothing() -> None:
    sockets = [Gone(), Gone()]
    loop, _, listener, made = listening(*sockets)
    loop.reader()  # type: ignore[misc]
    assert [sock.closed for sock in sockets] == [True, True]
    assert len(made) == 2
    assert not listener._establishing
    listener.stop()
    assert not loop.later


def test_a_stack_that_came_while_nothing_is_accepted_is_not_begun(pki: Pki) -> None:
    async def scenario(world: World) -> None:
        listener = await world.listen("parley")
        (source,) = listener._sources
        listener.set_new_connection_limit(0)
        facts = PathFacts(("192.0.2.1", 1), ("192.0.2.2", 2))
        assert source._make(None, facts) is None  # type: ignore[attr-defined]
        with pytest.raises(taps.EstablishmentError):
            await world.connect("parley", timeout=2.0)
        assert source._endpoint.noise["no room"] > 0  # type: ignore[attr-defined]
        assert source._endpoint.stacks == 0  # type: ignore[attr-defined]
        listener.stop()

    play(pki, scenario)
