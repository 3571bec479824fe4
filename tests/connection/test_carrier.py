from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from taps_security.connection import driver as driver_module
from taps_security.connection.carrier import StreamCarrier
from taps_security.connection.driver import Driver
from taps_security.stack.asks import Ask
from taps_security.stack.errors import ConnectionLost, PeerAborted, Reason
from taps_security.stack.events import CloseKind, FlowWritable, HandshakeComplete, Received, StackEvent, Terminated
from taps_security.stack.layers import UnitKind
from taps_security.stack.stack import SendOptions
from taps_security.stack.stream import PLAINTEXT, StreamLimits, StreamStack
from taps_security.transport.buffers import shared_buffers
from tests.stack.null import ENQUIRY, FACTS, WELCOME, data, message, null_stack, send, unit

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]

LIMITS = StreamLimits(send_high=256 * 1024, send_low=64 * 1024, receive_high=64 * 1024)


RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class End:
    """A stack on a socket. `takes`: the application takes what comes at once."""

    def __init__(self, stack: StreamStack, sock: socket.socket, *, answers: object = None) -> None:
        self.events: list[StackEvent] = []
        self.octets = bytearray()
        self.takes = True
        self.stack = stack
        self.answers = answers
        loop = asyncio.get_running_loop()
        self.socket = sock
        self.driver = Driver(loop, stack, self.sink)
        self.carrier = StreamCarrier(loop, sock, self.driver, 0)
        self.driver.start(0, FACTS, self.carrier)
        self.carrier.resume()

    def sink(self, event: StackEvent) -> None:
        if isinstance(event, Received):
            size = sum(map(len, event.chunks))
            self.octets += b"".join(event.chunks)
            event.chunks.clear()
            if self.takes:
                self.stack.consumed(0, size, 0.0)
            self.events.append(Received(0, [], end=event.end))
        else:
            self.events.append(event)
        if isinstance(event, Ask) and self.answers is not None:
            self.driver.answer(event.id, self.answers)

    def send(self, octets: bytes, *, end: bool = False) -> None:
        self.stack.send(0, (octets,), SendOptions(end=end), 0.0)
        self.driver.schedule()

    def close(self) -> None:
        self.stack.close(asyncio.get_running_loop().time())
        self.driver.pump()

    def abort(self) -> None:
        self.stack.abort(None, 0.0)
        self.driver.pump()

    def saw(self, kind: type) -> bool:
        return any(isinstance(event, kind) for event in self.events)

    @property
    def end(self) -> Terminated:
        assert isinstance(self.events[-1], Terminated)
        return self.events[-1]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def sockets() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection on loopback, not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    return one, other


@pytest.fixture
async def pair() -> AsyncIterator[tuple[End, End]]:
    """A client and a server whose handshake is complete."""
    one, other = await sockets()
    client, server = End(null_stack(limits=LIMITS), one), End(null_stack(client=False, limits=LIMITS), other)
    await until(lambda: client.saw(HandshakeComplete) and server.saw(HandshakeComplete))
    yield client, server
    for end in (client, server):
        end.abort()


@pytest.fixture
async def raw() -> AsyncIterator[tuple[End, socket.socket]]:
    """A client whose handshake is complete, and the peer's socket in the test's hands."""
    one, other = await sockets()
    client = End(null_stack(limits=LIMITS), one)
    loop = asyncio.get_running_loop()
    await loop.sock_recv(other, 100)
    other.send(unit(UnitKind.HANDSHAKE, message(WELCOME), key=PLAINTEXT))
    await until(lambda: client.saw(HandshakeComplete))
    await loop.sock_recv(other, 100)
    yield client, other
    client.abort()
    other.close()


# -- octets --------------------------------------------------------------------------------------------------------
async def test_octets_cross_both_ways(pair: tuple[End, End]) -> None:
    client, server = pair
    client.send(b"question")
    await until(lambda: server.octets == b"question")
    server.send(b"answer")
    await until(lambda: client.octets == b"answer")
    for end in pair:
        assert end.carrier._rest == b""  # an idle connection owns no memory
        assert end.carrier._slab is None


async def test_units_in_pieces_are_put_together(raw: tuple[End, socket.socket]) -> None:
    client, peer = raw
    for octet in data(b"in pieces") + data(b"of one octet"):
        peer.send(bytes((octet,)))
        await asyncio.sleep(0)
    await until(lambda: client.octets == b"in piecesof one octet")


async def test_a_slow_reader_stops_the_sender_and_loses_nothing(pair: tuple[End, End]) -> None:
    client, server = pair
    server.takes = False
    octets = bytes(range(256)) * 512
    sent = refused = 0
    while refused < 10:  # until the socket, both kernels and the peer hold all they may
        if taken := send(client.stack, octets):
            sent, refused = sent + taken, 0
            client.driver.pump()
        else:
            refused += 1
            await asyncio.sleep(0.005)
    held = len(server.octets) + len(server.carrier._rest)
    assert held <= LIMITS.receive_high + 2 * 256 * 1024
    assert client.carrier.blocked
    assert not server.stack.wants_input
    client.events.clear()
    server.takes = True
    server.stack.consumed(0, len(server.octets), 0.0)
    server.driver.resume()
    await until(lambda: len(server.octets) == sent)
    assert server.octets == octets * (sent // len(octets))
    assert client.saw(FlowWritable)
    assert not client.carrier.blocked


async def test_slabs_come_back(pair: tuple[End, End]) -> None:
    client, server = pair
    for _ in range(40):
        client.send(bytes(100_000))
        await until(lambda: not client.stack.pending)
    await until(lambda: len(server.octets) == 4_000_000)
    assert len(shared_buffers(asyncio.get_running_loop()).slabs._free) <= 2


# -- asks ------------------------------------------------------------------------------------------------------------
async def test_an_answer_at_once_goes_on_in_the_same_read(raw: tuple[End, socket.socket]) -> None:
    client, peer = raw
    client.answers = "known"
    peer.send(unit(UnitKind.HANDSHAKE, message(ENQUIRY)) + data(b"behind"))
    await until(lambda: client.octets == b"behind")


async def test_input_is_held_until_a_late_answer(raw: tuple[End, socket.socket]) -> None:
    client, peer = raw
    peer.send(unit(UnitKind.HANDSHAKE, message(ENQUIRY)) + data(b"held"))
    await until(lambda: client.saw(Ask))
    peer.send(data(b" and more"))
    await asyncio.sleep(0.01)
    assert not client.octets
    client.driver.answer(2, "known")
    assert client.octets == b"held"
    await until(lambda: client.octets == b"held and more")


# -- ends ------------------------------------------------------------------------------------------------------------
async def test_a_clean_end_on_both_sides(pair: tuple[End, End]) -> None:
    client, server = pair
    client.send(b"last words")
    client.close()
    await until(lambda: any(isinstance(event, Received) and event.end for event in server.events))
    assert server.octets == b"last words"
    server.close()
    await until(lambda: client.saw(Terminated) and server.saw(Terminated))
    for end in pair:
        assert end.end == Terminated(CloseKind.CLEAN)
        assert end.socket.fileno() == -1


async def test_half_close_is_a_fin_and_the_other_half_stays(raw: tuple[End, socket.socket]) -> None:
    client, peer = raw
    client.send(b"", end=True)
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(peer, 100) == unit(UnitKind.CONTROL, b"\0")
    assert await loop.sock_recv(peer, 100) == b""
    peer.send(data(b"still here"))
    await until(lambda: client.octets == b"still here")
    assert not client.saw(Terminated)


@pytest.mark.parametrize(("reset", "how"), [(False, CloseKind.TRUNCATED), (True, CloseKind.RESET)])
async def test_truncation_and_reset_are_told_apart_behind_what_came(
    raw: tuple[End, socket.socket], reset: bool, how: CloseKind
) -> None:
    client, peer = raw
    peer.send(data(b"whole") + data(b"cut off")[:-1])
    await until(lambda: client.octets == b"whole")
    if reset:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.close()
    await until(lambda: client.saw(Terminated))
    assert client.end.how is how
    assert isinstance(client.end.error, ConnectionLost)
    assert client.octets == b"whole"


async def test_a_vanished_peer_is_a_timeout(raw: tuple[End, socket.socket]) -> None:
    client, _ = raw
    client.carrier._lost(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    assert (client.end.how, client.end.error.reason) == (CloseKind.RESET, Reason.TIMEOUT)  # type: ignore[union-attr]


@pytest.mark.parametrize("wire", [b"", data(b"last words")])
async def test_a_send_into_a_reset_is_a_reset_behind_what_came(raw: tuple[End, socket.socket], wire: bytes) -> None:
    client, peer = raw
    client.carrier._pause()  # so that the send finds out first
    peer.send(wire)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    peer.close()
    await asyncio.sleep(0.01)
    client.carrier._reading = True
    client.driver.pump()
    client.send(b"into the void")
    await until(lambda: client.saw(Terminated))
    assert (client.end.how, client.end.error.reason) == (CloseKind.RESET, Reason.RESET)  # type: ignore[union-attr]
    assert data(bytes(client.octets)) == wire or not wire


async def test_an_abort_says_so_and_resets(pair: tuple[End, End]) -> None:
    client, server = pair
    client.send(bytes(10))
    client.abort()
    assert client.socket.fileno() == -1
    assert client.end.how is CloseKind.ABORTED
    await until(lambda: server.saw(Terminated))
    assert isinstance(server.end.error, PeerAborted | ConnectionLost)
    assert not server.octets


async def test_closing_while_the_socket_is_full_sends_everything_first(pair: tuple[End, End]) -> None:
    client, server = pair
    server.takes = False
    octets = bytes(200_000)
    sent = 0
    while not client.carrier.blocked:
        sent += send(client.stack, octets)
        client.driver.pump()
    client.close()
    assert not client.saw(Terminated)
    server.takes = True
    server.stack.consumed(0, len(server.octets), 0.0)
    server.driver.resume()
    await until(lambda: len(server.octets) == sent)
    server.close()
    await until(lambda: client.saw(Terminated))
    assert client.end == Terminated(CloseKind.CLEAN)


@pytest.mark.parametrize("silent", [True, False])
async def test_a_reset_that_takes_octets_with_it_is_no_clean_end(
    raw: tuple[End, socket.socket], monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Both said goodbye, but the socket is full of what was said before: by reset, or by its patience, it is lost."""
    client, peer = raw
    client.driver.stack._limits = StreamLimits(close_timeout=0.05)  # type: ignore[attr-defined]
    monkeypatch.setattr(driver_module, "LINGER", 0.05)
    while not client.carrier.blocked:
        while not client.carrier.blocked:
            send(client.stack, bytes(50_000))
            client.driver.pump()
        await asyncio.sleep(0.5)  # a kernel may find more room after all, while it learns what the peer takes
    while client.stack.pending:  # the rest fits into the slab that waits
        client.stack._outgoing.clear()
        client.stack._sealed.clear()
        client.stack._count_pending()
    peer.send(unit(UnitKind.CONTROL, b"\0"))
    await until(lambda: any(isinstance(event, Received) and event.end for event in client.events))
    client.close()
    assert not client.saw(Terminated)
    if not silent:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        peer.close()
    await until(lambda: client.saw(Terminated))
    expected = (CloseKind.ABORTED, Reason.TIMEOUT) if silent else (CloseKind.RESET, Reason.RESET)
    assert (client.end.how, client.end.error.reason) == expected  # type: ignore[union-attr]
    assert client.socket.fileno() == -1
    assert len(shared_buffers(asyncio.get_running_loop()).slabs._free) == 1  # the one that waited came back


async def test_everything_after_the_end_is_harmless(pair: tuple[End, End]) -> None:
    client, _ = pair
    client.abort()
    client.carrier.resume()
    client.carrier.finish()
    client.carrier.close(reset=True)
    client.carrier._readable()
    client.carrier._writable()
    client.carrier._broken(OSError())
    client.driver.schedule()
    await asyncio.sleep(0)
    assert [type(event) for event in client.events].count(Terminated) == 1
