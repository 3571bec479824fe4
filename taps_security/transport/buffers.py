"""Memory that all connections of one loop share: standing receive buffers and output slabs.

Idle connections own none. A receive buffer is lent for one read; a consumer that keeps a view into it makes the next
borrower get another one. Slabs are lent to a stack's transmit() and given back when the socket has taken their octets.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from ..stack.layers import Slab
from ..stack.stack import Inbound

# Reads above 128 KiB cost nothing more per octet on a loopback TCP connection, and a consumer that keeps one small view
# keeps its whole buffer alive. A GRO run (64 KiB) fits.
RECEIVE_SIZE = 256 * 1024
RECEIVE_BUFFERS = 4  # standing ones; consumers may keep views into any number
SLAB_SIZE = 7 * (16 * 1024 + 22)  # seven full TLS records: of one to sixteen, TCP on loopback took these fastest
FREE_SLABS = 16  # kept for reuse
NOTHING = memoryview(b"")


class ReceiveBuffers:
    """Standing receive buffers of `size` octets, at most `count` of them at rest."""

    __slots__ = ("_buffers", "_count", "_size")

    def __init__(self, size: int = RECEIVE_SIZE, count: int = RECEIVE_BUFFERS) -> None:
        self._size = size
        self._count = count
        self._buffers: list[bytearray] = []  # the one used last stands at the end

    def borrow(self) -> memoryview:
        """A writable view of a whole buffer into which nobody else holds a view. Drop the view to give it back."""
        buffers = self._buffers
        for index in range(len(buffers) - 1, -1, -1):
            buffer = buffers[index]
            try:
                buffer.append(0)  # a bytearray refuses to grow while a view of it exists
            except BufferError:
                continue
            buffer.pop()
            if index != len(buffers) - 1:
                del buffers[index]
                buffers.append(buffer)
            return memoryview(buffer)
        if len(buffers) >= self._count:
            del buffers[0]  # whoever holds views into it keeps it alive
        buffer = bytearray(self._size)
        buffers.append(buffer)
        return memoryview(buffer)


class Slabs:
    """Output slabs of `size` octets; at most `free` unused ones are kept."""

    __slots__ = ("_free", "_limit", "_size")

    def __init__(self, size: int = SLAB_SIZE, free: int = FREE_SLABS) -> None:
        self._size = size
        self._limit = free
        self._free: list[Slab] = []

    def lend(self) -> Slab:
        """A slab that is nobody else's."""
        if self._free:
            return self._free.pop()
        buffer = bytearray(self._size)
        return Slab(buffer, memoryview(buffer))

    def give_back(self, slab: Slab) -> None:
        """Its octets are with the socket."""
        if len(self._free) < self._limit:
            self._free.append(slab)


class SharedBuffers:
    """One loop's memory. `inbound`: what a read of a byte stream is told in."""

    __slots__ = ("inbound", "receive", "slabs")

    def __init__(self) -> None:
        self.inbound = Inbound(NOTHING)
        self.receive = ReceiveBuffers()
        self.slabs = Slabs()


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedBuffers] = WeakKeyDictionary()


def shared_buffers(loop: asyncio.AbstractEventLoop) -> SharedBuffers:
    """The memory of `loop`: the same object for all its connections."""
    buffers = _shared.get(loop)
    if buffers is None:
        buffers = _shared[loop] = SharedBuffers()
    return buffers
