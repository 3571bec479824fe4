"""Standard input and output beside a Connection, as netcat has them: binary-safe, with back-pressure both ways.

Descriptors keep their flags, because other processes share them: nothing is set non-blocking. Input is read when the
loop says that there is some; output that can make us wait (pipes, terminals, sockets) takes pieces of at most
PIPE_BUF, which never block once the descriptor was reported writable. Files are read and written at once.

Connections that keep messages have no end of their own: there a side is over when nothing has come for a while.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeGuard

from ..connection.connection import Connection
from ..connection.messages import MessageConnection
from ..connection.state import ConnectionState
from ..stack.events import Buffer

PIECE = 64 * 1024  # octets per read: larger ones cost an allocation from the system each time
MAX_LINE = 1024 * 1024  # octets of a line that has no end; then it goes as it is
QUIET = 1.0  # seconds without a message after which one that has sent everything ends, unless told otherwise
_PIPE_SIZE = 1024 * 1024  # what a pipe may hold, where the system lets us say so


def may_wait(descriptor: int) -> bool:
    """Whether reading or writing can wait for somebody: pipes, sockets and terminals."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _widen(descriptor: int) -> None:
    """Let a pipe hold more, so that both sides are woken less often."""
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with suppress(ImportError, AttributeError, OSError):
            import fcntl  # noqa: PLC0415 -- not on every platform

            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


class Input:
    """Standard input in pieces; an empty one is the end."""

    def __init__(self, descriptor: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._waiting: asyncio.Future[None] | None = None
        self._finishing = False
        self._poll: Any = None
        self._ended = False
        try:
            if may_wait(descriptor):
                _widen(descriptor)
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLIN)
        except OSError:
            self._ended = True  # there is no standard input

    async def read(self) -> bytes:
        """The next piece. Cancelling loses nothing."""
        while not self._ended:
            if self._poll is None or self._poll.poll(0):
                piece = os.read(self._descriptor, PIECE)
                self._ended = not piece
                return piece
            if self._finishing:
                self._ended = True
            else:
                await _ready(self._loop, self._descriptor, self._loop.add_reader, self._loop.remove_reader, self)
        return b""

    def finish(self) -> None:
        """Wait for nothing more: what is there already is still read, then comes the end."""
        self._finishing = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def waits(self, future: asyncio.Future[None] | None) -> None:
        """What `finish` wakes."""
        self._waiting = future


class Output:
    """Standard output."""

    def __init__(self, descriptor: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._poll: Any = None
        if may_wait(descriptor):
            _widen(descriptor)
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLOUT)

    async def write(self, chunks: Iterable[Buffer]) -> None:
        """Write all of it. BrokenPipeError if nobody reads any more."""
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                if self._poll is None:
                    view = view[os.write(self._descriptor, view) :]
                elif self._poll.poll(0):
                    view = view[os.write(self._descriptor, view[: select.PIPE_BUF]) :]
                else:
                    await _ready(self._loop, self._descriptor, self._loop.add_writer, self._loop.remove_writer)


async def _ready(
    loop: asyncio.AbstractEventLoop,
    descriptor: int,
    add: Callable[..., Any],
    remove: Callable[[int], Any],
    waiter: Input | None = None,
) -> None:
    """Until the loop says that the descriptor is ready, or `waiter.finish()`."""
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    add(descriptor, ready)
    if waiter is not None:
        waiter.waits(future)
    try:
        await future
    finally:
        remove(descriptor)
        if waiter is not None:
            waiter.waits(None)


class Lines:
    """Cuts octets into whole lines, each with its end; the rest comes last."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: Buffer) -> list[bytes]:
        """The lines that are complete now."""
        *whole, self._held = (self._held + bytes(piece)).split(b"\n")
        lines = [line + b"\n" for line in whole]
        return lines + self.rest() if len(self._held) > MAX_LINE else lines

    def rest(self) -> list[bytes]:
        """What had no end of line."""
        held, self._held = self._held, b""
        return [held] if held else []


# ---------------------------------------------------------------------------------------------------------- messages
def keeps_messages(connection: Connection) -> TypeGuard[MessageConnection]:
    """Whether a connection carries messages, none of which is the last."""
    return isinstance(connection, MessageConnection)


async def arrivals(connection: MessageConnection, idle: float | None = None) -> AsyncIterator[list[bytes]]:
    """Messages as they come, all that are there at a time, until the peer has ended or nothing came for `idle` seconds.

    Raises what ended the connection.
    """
    while True:
        try:
            async with asyncio.timeout(idle) as patience:
                first = await anext(connection, None)
        except TimeoutError:
            if patience.expired():
                return
            raise
        if first is None:
            return
        messages = [bytes(first)]
        while (more := connection.take_received()) is not None:
            messages.append(bytes(more))
        yield messages


def cut(piece: bytes, limit: int) -> list[bytes]:
    """A piece of a stream as messages of at most `limit` octets."""
    return [piece[start : start + limit] for start in range(0, len(piece), limit)]


# ------------------------------------------------------------------------------------------------------------- relay
@dataclass(slots=True)
class Traffic:
    """Octets of the application, so far."""

    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class Manner:
    """How to relay. `lines`: one message per line. `datagrams`: one message per read of the input. Neither: a stream.

    `update_every`: new keys after so many sends; 0: never by itself. `wait`: seconds for the peer's end, once our input
    has ended; None: for ever. Where there are messages and no end: seconds without a message; None: QUIET.
    `idle`: seconds without a message after which the peer counts as gone there; None: not before the connection ends.
    """

    lines: bool = False
    datagrams: bool = False
    update_every: int = 0
    wait: float | None = None
    idle: float | None = None


async def relay(connection: Connection, source: Input, sink: Output, manner: Manner, traffic: Traffic) -> None:
    """Input to the peer, the peer's octets to output, until both have ended.

    At the end of input our side is half closed. When the peer has ended first, what can be read of the input without
    waiting is still sent. Messages are relayed until our input has ended and it is quiet. Raises what ended the
    connection, and BrokenPipeError when output is closed.
    """
    sending = asyncio.ensure_future(_send(connection, source, manner, traffic))
    receiving = asyncio.ensure_future(_receive(connection, sink, manner, traffic))
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if receiving.done() and receiving.exception() is None:
            source.finish()
            await sending
        elif sending.done():
            broken = sending.exception() is not None  # then what came before the end is still to be written
            if broken and connection.state is ConnectionState.ESTABLISHED:
                pass  # it was refused here, and the peer knows nothing of it
            elif keeps_messages(connection):
                await _quiet(receiving, traffic, 0.0 if broken else manner.wait)
            else:
                await asyncio.wait({receiving}, timeout=None if broken else manner.wait)
        for task in (receiving, sending):
            if task.done():
                task.result()
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _quiet(receiving: asyncio.Task[None], traffic: Traffic, wait: float | None) -> None:
    """Until nothing has come for `wait` seconds, or nothing will."""
    before = -1
    while not receiving.done() and traffic.received != before:
        before = traffic.received
        await asyncio.wait({receiving}, timeout=QUIET if wait is None else wait)


def _messages(piece: bytes, connection: Connection, lines: Lines, manner: Manner) -> Iterable[bytes]:
    """What of one read of the input becomes one send each."""
    if manner.lines:
        return lines.feed(piece)
    if keeps_messages(connection) and not manner.datagrams:
        return cut(piece, connection.send_msg_max_len)
    return (piece,)


async def _send(connection: Connection, source: Input, manner: Manner, traffic: Traffic) -> None:
    lines, sends = Lines(), 0
    while piece := await source.read():
        for message in _messages(piece, connection, lines, manner):
            await connection.send(message)
            traffic.sent += len(message)
            sends += 1
            if manner.update_every and not sends % manner.update_every:
                await connection.update_keys()
    for message in lines.rest():
        await connection.send(message)
        traffic.sent += len(message)
    if not keeps_messages(connection):
        await connection.send(b"", final=True)


async def _receive(connection: Connection, sink: Output, manner: Manner, traffic: Traffic) -> None:
    lines = Lines()
    if keeps_messages(connection):
        async for messages in arrivals(connection, manner.idle):
            await sink.write([_line(message) for message in messages] if manner.lines else messages)
            traffic.received += sum(map(len, messages))
        return
    while chunks := await connection.receive_views():
        traffic.received += sum(map(len, chunks))
        if manner.lines:
            await sink.write([line for chunk in chunks for line in lines.feed(chunk)])
        else:
            await sink.write(chunks)
    await sink.write(lines.rest())


def _line(message: bytes) -> bytes:
    """A message as a line of its own."""
    return message if message.endswith(b"\n") else message + b"\n"
