"""Reading and writing big-endian fields and length-prefixed vectors (RFC 8446 §3), bounded.

A Reader never allocates more than what it was given, checks each length before it takes octets, and raises
MalformedMessage on anything that does not fit; `check_end()` closes each structure.
"""

from __future__ import annotations

import struct

from taps_security.stack.errors import PeerMisbehaved, Reason

__all__ = ["MalformedMessage", "Reader", "vector8", "vector16", "vector24"]


class MalformedMessage(PeerMisbehaved):
    """Octets of the peer do not have the form that their specification gives them."""

    default_reason = Reason.MALFORMED


class Reader:
    """Reads one structure from front to back. Integers are unsigned and big-endian."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = data if type(data) is bytes else bytes(data)
        self._end = len(self._data)
        self.position = 0

    @property
    def remaining(self) -> int:
        """Octets not yet read."""
        return self._end - self.position

    def _early_end(self, stop: int) -> MalformedMessage:
        return MalformedMessage(f"the message ends {stop - self._end} octets too early")

    def take(self, length: int) -> bytes:
        """The next `length` octets."""
        start = self.position
        stop = start + length
        if stop > self._end:
            raise self._early_end(stop)
        self.position = stop
        return self._data[start:stop]

    def u8(self) -> int:
        """One octet."""
        position = self.position
        if position >= self._end:
            raise self._early_end(position + 1)
        self.position = position + 1
        return self._data[position]

    def u16(self) -> int:
        """Two octets."""
        position = self.position
        if position + 2 > self._end:
            raise self._early_end(position + 2)
        self.position = position + 2
        return self._data[position] << 8 | self._data[position + 1]

    def u24(self) -> int:
        """Three octets."""
        return int.from_bytes(self.take(3), "big")

    def u32(self) -> int:
        """Four octets."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """Eight octets."""
        return int.from_bytes(self.take(8), "big")

    def vector8(self, minimum: int = 0, maximum: int = 0xFF) -> bytes:
        """A vector with one octet of length, which must lie between `minimum` and `maximum`."""
        return self._vector(self.u8(), minimum, maximum)

    def vector16(self, minimum: int = 0, maximum: int = 0xFFFF) -> bytes:
        """A vector with two octets of length, which must lie between `minimum` and `maximum`."""
        return self._vector(self.u16(), minimum, maximum)

    def vector24(self, minimum: int = 0, maximum: int = 0xFFFFFF) -> bytes:
        """A vector with three octets of length, which must lie between `minimum` and `maximum`."""
        return self._vector(self.u24(), minimum, maximum)

    def _vector(self, length: int, minimum: int, maximum: int) -> bytes:
        if not minimum <= length <= maximum:
            raise MalformedMessage(f"a vector of {length} octets, where {minimum} to {maximum} are allowed")
        start = self.position
        stop = start + length
        if stop > self._end:
            raise self._early_end(stop)
        self.position = stop
        return self._data[start:stop]

    def u16_vector(self) -> tuple[int, ...]:
        """A non-empty vector of two-octet values with two octets of length."""
        octets = self.vector16(2)
        if len(octets) % 2:
            raise MalformedMessage("a vector of two-octet values has an odd length")
        return struct.unpack(f"!{len(octets) // 2}H", octets)

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(self._end - self.position)

    def check_end(self) -> None:
        """Raise MalformedMessage if octets are left."""
        if self.position != self._end:
            raise MalformedMessage(f"{self._end - self.position} octets are left behind the end of the structure")


def vector8(octets: bytes) -> bytes:
    """`octets` behind one octet of length; OverflowError above 255."""
    return len(octets).to_bytes(1, "big") + octets


def vector16(octets: bytes) -> bytes:
    """`octets` behind two octets of length; OverflowError above 65,535."""
    return len(octets).to_bytes(2, "big") + octets


def vector24(octets: bytes) -> bytes:
    """`octets` behind three octets of length; OverflowError above 16,777,215."""
    return len(octets).to_bytes(3, "big") + octets
