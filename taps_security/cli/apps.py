"""What `taps serve` does with a connection: echo (RFC 862), discard (RFC 863), chargen (RFC 864), cat.

The RFCs have a way for streams and one for messages. Messages have no end: such a connection is over when nothing has
come for `idle` seconds (None: not before its stack is).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import MappingProxyType

from ..connection.connection import Connection
from .relay import Input, Manner, Output, Traffic, arrivals, keeps_messages, relay

App = Callable[[Connection, Traffic, float | None], Awaitable[None]]

_PRINTABLE = bytes(range(32, 127))
_LINE = 72  # characters, RFC 864
DATAGRAM = 512  # characters at most, RFC 864
# Every line begins one character later; after 95 of them the pattern begins again.
PATTERN = b"".join((_PRINTABLE * 2)[start : start + _LINE] + b"\r\n" for start in range(len(_PRINTABLE)))


async def echo(connection: Connection, traffic: Traffic, idle: float | None = None) -> None:
    """Everything goes back; the peer's end is answered by ours."""
    if keeps_messages(connection):
        async for messages in arrivals(connection, idle):
            for each in messages:
                traffic.received += len(each)
                await connection.send(each)
                traffic.sent += len(each)
        return
    while True:
        message = await connection.receive()
        traffic.received += len(message.data)
        if message.data:
            await connection.send(message.data)
            traffic.sent += len(message.data)
        if message.end_of_message:
            await connection.send(b"", final=True)
            return


async def discard(connection: Connection, traffic: Traffic, idle: float | None = None) -> None:
    """Nothing goes back; the peer's end is answered by ours."""
    if keeps_messages(connection):
        async for messages in arrivals(connection, idle):
            traffic.received += sum(map(len, messages))
        return
    while chunks := await connection.receive_views():
        traffic.received += sum(map(len, chunks))
        del chunks  # lent memory
    await connection.send(b"", final=True)


async def chargen(connection: Connection, traffic: Traffic, idle: float | None = None) -> None:
    """Characters until the peer has ended; what it sends is dropped. Of messages, one for each that comes."""
    if keeps_messages(connection):
        async for messages in arrivals(connection, idle):
            traffic.received += sum(map(len, messages))
            for _ in messages:
                start = traffic.sent % len(PATTERN)
                answer = (PATTERN + PATTERN)[start : start + DATAGRAM]
                await connection.send(answer)
                traffic.sent += len(answer)
        return
    sending = asyncio.ensure_future(_generate(connection, traffic))
    try:
        listening = asyncio.ensure_future(_drop(connection, traffic))
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            await listening
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    await connection.send(b"", final=True)


async def _generate(connection: Connection, traffic: Traffic) -> None:
    while True:
        await connection.send(PATTERN)
        traffic.sent += len(PATTERN)
        await asyncio.sleep(0)


async def _drop(connection: Connection, traffic: Traffic) -> None:
    while chunks := await connection.receive_views():
        traffic.received += sum(map(len, chunks))


class Cat:
    """Standard input to the peer, the peer's octets to standard output: one peer at a time, as `nc -lk` does."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._source: Input | None = None

    async def __call__(self, connection: Connection, traffic: Traffic, idle: float | None = None) -> None:
        async with self._turn:
            if self._source is None:
                self._source = Input()
            await relay(connection, self._source, Output(), Manner(idle=idle), traffic)


# Each makes the app for one run of the command.
APPS: MappingProxyType[str, Callable[[], App]] = MappingProxyType(
    {"echo": lambda: echo, "discard": lambda: discard, "chargen": lambda: chargen, "cat": Cat}
)
