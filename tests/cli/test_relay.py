"""Standard input and output beside a connection: pieces, waiting, lines, ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taps_security.cli.relay import (
    MAX_LINE,
    PIECE,
    Input,
    Lines,
    Manner,
    Output,
    Traffic,
    arrivals,
    may_wait,
    relay,
)
from taps_security.connection.messages import MessageConnection
from taps_security.connection.state import ConnectionState
from taps_security.properties.messages import Message
from taps_security.stack.errors import ConnectionLost, LocalError, Reason

pytestmark = [pytest.mark.both_loops, pytest.mark.usefixtures("no_leaks")]


class Peer:
    """The other side of a relay, in place of a Connection."""

    def __init__(self, *chunks: bytes, ends: bool = True, error: Exception | None = None) -> None:
        self.sent: list[bytes] = []
        self.ended = asyncio.Event()
        self.updates = 0
        self._chunks = list(chunks)
        self._ends = ends
        self._error = error

    async def send(self, data: bytes, *, final: bool = False) -> None:
        if self._error is not None and not self._chunks:
            raise self._error
        if data:
            self.sent.append(data)
        if final:
            self.ended.set()

    async def receive_views(self) -> list[bytes]:
        if self._chunks:
            return [self._chunks.pop(0)]
        if self._error is not None:
            raise self._error
        if not self._ends:
            await asyncio.Event().wait()
        return []

    async def update_keys(self) -> None:
        self.updates += 1


class Pipe:
    """Two ends of a pipe."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def feed(self, data: bytes, *, end: bool = False) -> None:
        os.write(self.writing, data)
        if end:
            self.end()

    def end(self) -> None:
        os.close(self.writing)
        self.writing = -1

    def close(self) -> None:
        for descriptor in {self.reading, self.writing} - {-1}:
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def output() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


async def relayed(peer: Any, pipe: Pipe, output: Pipe, manner: Manner = Manner()) -> Traffic:  # noqa: B008
    traffic = Traffic()
    await relay(peer, Input(pipe.reading), Output(output.writing), manner, traffic)
    return traffic


# ------------------------------------------------------------------------------------------------------- descriptors
async def test_input_comes_in_pieces_and_ends(pipe: Pipe) -> None:
    source = Input(pipe.reading)
    pipe.feed(b"one")
    assert await source.read() == b"one"
    waiting = asyncio.ensure_future(source.read())
    await asyncio.sleep(0.01)
    pipe.feed(b"two", end=True)
    assert await waiting == b"two"
    assert await source.read() == b""
    assert await source.read() == b""


async def test_cancelled_reading_loses_nothing(pipe: Pipe) -> None:
    source = Input(pipe.reading)
    waiting = asyncio.ensure_future(source.read())
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    pipe.feed(b"here")
    assert await source.read() == b"here"


async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    data = os.urandom(PIECE + 100)
    (tmp_path / "file").write_bytes(data)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    assert not may_wait(descriptor)
    source = Input(descriptor)
    assert await source.read() + await source.read() == data
    assert await source.read() == b""
    os.close(descriptor)


async def test_no_input_at_all_is_an_empty_one() -> None:
    assert await Input(1_000_000).read() == b""
    nothing = os.open(os.devnull, os.O_RDONLY)
    assert await Input(nothing).read() == b""
    os.close(nothing)


async def test_finish_takes_what_is_there_and_waits_for_nothing(pipe: Pipe) -> None:
    source = Input(pipe.reading)
    pipe.feed(b"there")
    source.finish()
    assert await source.read() == b"there"
    assert await source.read() == b""
    other = Input(pipe.reading)
    waiting = asyncio.ensure_future(other.read())
    await asyncio.sleep(0.01)
    other.finish()
    assert await waiting == b""


async def test_descriptors_keep_their_flags(pipe: Pipe) -> None:
    Input(pipe.reading)
    Output(pipe.writing)
    assert os.get_blocking(pipe.reading)
    assert os.get_blocking(pipe.writing)


async def test_output_waits_for_a_slow_reader(output: Pipe) -> None:
    data = os.urandom(4 * 1024 * 1024)
    writing = asyncio.ensure_future(Output(output.writing).write([data[:5], memoryview(data)[5:]]))
    await asyncio.sleep(0.02)
    assert not writing.done()
    read = bytearray()
    while len(read) < len(data):
        read += os.read(output.reading, 65536)
        await asyncio.sleep(0)
    await writing
    assert read == data


async def test_output_to_a_socket_and_to_a_file(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await Output(ours.fileno()).write([b"a", b"b"])
        assert theirs.recv(10) in {b"a", b"ab"}
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    await Output(descriptor).write([b"a" * 100_000, b"b"])
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"a" * 100_000 + b"b"


async def test_closed_output_is_told(output: Pipe) -> None:
    os.close(output.reading)
    output.reading = -1
    with pytest.raises(BrokenPipeError):
        await Output(output.writing).write([b"data"])


# ------------------------------------------------------------------------------------------------------------- lines
async def test_lines_are_whole() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == [b"one\n"]
    assert lines.feed(memoryview(b"o\r\n\nth")) == [b"two\r\n", b"\n"]
    assert lines.rest() == [b"th"]
    assert lines.rest() == []
    assert lines.feed(b"x" * (MAX_LINE + 1)) == [b"x" * (MAX_LINE + 1)]


# ------------------------------------------------------------------------------------------------------------- relay
async def test_both_ways_until_both_ended(pipe: Pipe, output: Pipe) -> None:
    peer = Peer(b"from ", b"peer")
    pipe.feed(b"to peer", end=True)
    traffic = await relayed(peer, pipe, output)
    assert peer.sent == [b"to peer"]
    assert peer.ended.is_set()
    assert os.read(output.reading, 100) == b"from peer"
    assert (traffic.sent, traffic.received) == (7, 9)


async def test_the_peers_end_ends_a_relay_whose_input_is_idle(pipe: Pipe, output: Pipe) -> None:
    peer = Peer(b"bye")
    pipe.feed(b"already there")
    await relayed(peer, pipe, output)
    assert peer.sent == [b"already there"]
    assert peer.ended.is_set()


async def test_wait_bounds_the_wait_for_the_peers_end(pipe: Pipe, output: Pipe) -> None:
    peer = Peer(ends=False)
    pipe.end()
    async with asyncio.timeout(5):
        await relayed(peer, pipe, output, Manner(wait=0.02))
    assert peer.ended.is_set()


async def test_keys_are_updated_after_every_n_messages(pipe: Pipe, output: Pipe) -> None:
    peer = Peer()
    pipe.feed(b"1\n2\n3\n4\n5", end=True)
    await relayed(peer, pipe, output, Manner(lines=True, update_every=2))
    assert peer.sent == [b"1\n", b"2\n", b"3\n", b"4\n", b"5"]
    assert peer.updates == 2


async def test_lines_come_out_whole(pipe: Pipe, output: Pipe) -> None:
    pipe.end()
    await relayed(Peer(b"a", b"b\nc", b"d\n", b"e"), pipe, output, Manner(lines=True))
    assert os.read(output.reading, 100) == b"ab\ncd\ne"


async def test_what_came_before_a_loss_is_written(pipe: Pipe, output: Pipe) -> None:
    pipe.feed(b"x")
    with pytest.raises(ConnectionLost, match="gone"):
        await relayed(Peer(b"last ", b"words", error=ConnectionLost("gone")), pipe, output)
    assert os.read(output.reading, 100) == b"last words"


async def test_closed_output_ends_a_relay(pipe: Pipe, output: Pipe) -> None:
    os.close(output.reading)
    output.reading = -1
    with pytest.raises(BrokenPipeError):
        await relayed(Peer(b"data", ends=False), pipe, output)


# ---------------------------------------------------------------------------------------------------------- messages
class Messages(MessageConnection):
    """The other side of a relay of messages: says what it is told to say, and echoes if it is asked to."""

    def __init__(self, *messages: bytes, ends: bool = False, echoes: bool = False) -> None:
        self.sent: list[bytes] = []
        self.said = asyncio.Event()
        self.ends = ends
        self.echoes = echoes
        self.messages = list(messages)
        self.state = ConnectionState.ESTABLISHED

    @property
    def send_msg_max_len(self) -> int:
        return 5

    async def send(self, data: Any, *arguments: Any, final: bool = False, **how: Any) -> None:
        assert not final, "messages have no end"
        if len(data) > self.send_msg_max_len:
            raise LocalError("send(): too large", reason=Reason.MESSAGE_TOO_LARGE)
        self.sent.append(data)
        if self.echoes:
            self.messages.append(data)
            self.said.set()

    async def __anext__(self) -> Message:
        while not self.messages:
            if self.ends:
                raise StopAsyncIteration
            self.said.clear()
            await self.said.wait()
        return Message(self.messages.pop(0), self)

    def take_received(self) -> Message | None:
        return Message(self.messages.pop(0), self) if self.messages else None


async def test_what_is_there_comes_together_until_the_end() -> None:
    assert [found async for found in arrivals(Messages(b"1", b"", b"3", ends=True))] == [[b"1", b"", b"3"]]


async def test_a_silent_peer_is_gone_after_a_while() -> None:
    async with asyncio.timeout(5):
        assert [found async for found in arrivals(Messages(b"1"), 0.01)] == [[b"1"]]


async def test_a_timeout_of_the_connection_is_no_silence() -> None:
    class Failing(Messages):
        async def __anext__(self) -> Message:
            raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await anext(arrivals(Failing(), 5))


async def test_messages_are_relayed_until_it_is_quiet(pipe: Pipe, output: Pipe) -> None:
    peer = Messages(b"first", echoes=True)
    pipe.feed(b"abc", end=True)
    async with asyncio.timeout(5):
        traffic = await relayed(peer, pipe, output, Manner(datagrams=True, wait=0.05))
    assert peer.sent == [b"abc"]
    assert os.read(output.reading, 100) == b"firstabc"
    assert (traffic.sent, traffic.received) == (3, 8)


async def test_a_stream_is_cut_into_messages(pipe: Pipe, output: Pipe) -> None:
    peer = Messages()
    pipe.feed(b"0123456789ab", end=True)
    await relayed(peer, pipe, output, Manner(wait=0))
    assert peer.sent == [b"01234", b"56789", b"ab"]


async def test_a_read_that_fits_no_message_is_told_at_once(pipe: Pipe, output: Pipe) -> None:
    pipe.feed(b"0123456789ab")
    async with asyncio.timeout(5):
        with pytest.raises(LocalError, match="too large"):
            await relayed(Messages(), pipe, output, Manner(datagrams=True))


async def test_lines_are_messages_and_messages_are_lines(pipe: Pipe, output: Pipe) -> None:
    peer = Messages(b"a", b"b\n")
    pipe.feed(b"1\n2\n3", end=True)
    await relayed(peer, pipe, output, Manner(lines=True, wait=0.01))
    assert peer.sent == [b"1\n", b"2\n", b"3"]
    assert os.read(output.reading, 100) == b"a\nb\n"


async def test_the_peers_end_ends_a_relay_of_messages(pipe: Pipe, output: Pipe) -> None:
    pipe.feed(b"there")
    peer = Messages(b"bye", ends=True)
    async with asyncio.timeout(5):
        await relayed(peer, pipe, output)
    assert peer.sent == [b"there"]
    assert os.read(output.reading, 100) == b"bye"


async def test_an_idle_peer_ends_a_relay_whose_input_goes_on(pipe: Pipe, output: Pipe) -> None:
    async with asyncio.timeout(5):
        await relayed(Messages(b"one"), pipe, output, Manner(idle=0.02))
    assert os.read(output.reading, 100) == b"one"
