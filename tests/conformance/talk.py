"""What two ends say to each other, whatever the shape: octets in order, or messages."""

from __future__ import annotations

import asyncio
import os

import taps_security as taps
from tests.conformance.subject import TIMEOUT, Pair, Subject

STREAM_PIECE = 65_536  # octets of one send on a byte stream
TRIES, PATIENCE = 5, 1.0  # of messages that may be lost; seconds
DATAGRAMS_AT_ONCE = 16  # unreliable messages under way: fewer than a socket buffers


def piece(connection: taps.Connection) -> int:
    """Octets of one send."""
    return connection.send_msg_max_len or STREAM_PIECE


async def take(connection: taps.Connection, octets: int) -> bytes:
    """That many octets, in one piece or several."""
    received = bytearray()
    async with asyncio.timeout(TIMEOUT):
        while len(received) < octets:
            received += bytes(await connection.receive(max_length=octets - len(received)))
    return bytes(received)


async def ask(pair: Pair, octets: bytes = b"are you there?") -> None:
    """A question and an answer, each said once: both ends live, in both directions."""
    await pair.client.send(octets)
    assert await take(pair.server, len(octets)) == octets
    answer = octets[::-1]
    await pair.server.send(answer)
    assert await take(pair.client, len(answer)) == answer


async def ask_until_answered(subject: Subject, pair: Pair, octets: bytes = b"are you there?") -> None:
    """The same where messages may be lost on the way: then they are said again."""
    if subject.provides("reliability"):
        await ask(pair, octets)
        return
    await tell_until_heard(pair.client, pair.server, octets)
    await tell_until_heard(pair.server, pair.client, octets[::-1])


async def tell_until_heard(sender: taps.Connection, receiver: taps.Connection, message: bytes) -> None:
    """One message, up to five times."""
    for _ in range(TRIES):
        await sender.send(message)
        try:
            while bytes(await receiver.receive(timeout=PATIENCE)) != message:
                continue  # a copy of what was said before
        except TimeoutError:
            continue
        return
    raise AssertionError(f"none of {TRIES} messages arrived")


async def transfer(subject: Subject, sender: taps.Connection, receiver: taps.Connection, octets: int) -> None:
    """So many random octets from one end to the other; they arrive as they were, once, in order."""
    data = os.urandom(octets)
    size = piece(sender)
    window = octets if subject.provides("reliability") else size * DATAGRAMS_AT_ONCE
    for start in range(0, octets, window):
        part = data[start : start + window]
        taking = asyncio.create_task(take(receiver, len(part)))
        for offset in range(0, len(part), size):
            await sender.send(part[offset : offset + size])
        assert await taking == part


async def ends_with(
    connection: taps.Connection, received: bytearray | None = None, patience: float = TIMEOUT
) -> Exception | None:
    """What ends a connection while somebody receives from it, into `received`; None: a clean end."""
    async with asyncio.timeout(patience):
        try:
            async for message in connection:
                if received is not None:
                    received += bytes(message)
        except taps.TapsError as error:
            return error
    return None
