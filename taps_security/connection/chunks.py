"""Lists of octets: what applications give to send(), made safe to keep, and what receive() takes of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..stack.events import Buffer

COPY_BELOW = 64 * 1024  # views smaller than this are copied when nobody takes them at once: they would pin a buffer
MANY = 4096  # chunks that nobody takes: if they are small, they become one

_BYTES = {bytes}


def freeze(data: Buffer | Sequence[Buffer]) -> Sequence[Buffer]:
    """Immutable chunks: what could change before it is sealed is copied."""
    if isinstance(data, bytes | bytearray | memoryview):
        return (_frozen(data),)
    chunks = tuple(data)
    return chunks if {*map(type, chunks)} == _BYTES else tuple(map(_frozen, chunks))


def _frozen(chunk: Buffer) -> Buffer:
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, memoryview) and chunk.readonly and type(chunk.obj) is bytes:
        return chunk.cast("B") if chunk.format != "B" else chunk
    return bytes(chunk)


def keep(chunks: list[Buffer], newest: int) -> None:
    """Nobody took these at once, of which the last `newest` have just come. A small view would keep a large buffer from
    being used again, and each chunk of few octets costs more than they do.
    """
    for index in (0, *range(max(1, len(chunks) - newest), len(chunks))):
        chunk = chunks[index]
        if type(chunk) is memoryview and len(chunk) < COPY_BELOW:
            chunks[index] = bytes(chunk)
    if len(chunks) > MANY:
        first = len(chunks)
        while first and type(chunks[first - 1]) is not memoryview:
            first -= 1
        if first < len(chunks):
            chunks[first:] = [b"".join(chunks[first:])]


def take(chunks: list[Buffer], limit: int) -> bytes:
    """The first `limit` octets, of which there are so many, without them in `chunks`."""
    taken: list[Buffer] = []
    left = limit
    while left:
        chunk = chunks[0]
        if len(chunk) <= left:
            taken.append(chunk)
            left -= len(chunk)
            del chunks[0]
        else:
            view = memoryview(chunk)
            taken.append(view[:left])
            chunks[0] = view[left:]
            left = 0
    return b"".join(taken)
