"""Seeded mutations: how many, and of what kinds. A number and a target's name give the same octets everywhere."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

DEFAULT = 2_000  # mutations per target
IN_CI = 100_000
CHUNK = 5_000  # mutations of one test: so that many processes share them, and each is over in time

_EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF)


def budget() -> int:
    """Mutations per target: TAPS_FUZZ_MUTATIONS (or TAPS_FUZZ), else many in CI and few elsewhere."""
    given = os.environ.get("TAPS_FUZZ_MUTATIONS") or os.environ.get("TAPS_FUZZ")
    if given:
        return int(given)
    return IN_CI if os.environ.get("CI", "").lower() == "true" else DEFAULT


def chunks() -> list[range]:
    """The numbers of all mutations of one target, in parts."""
    count = budget()
    return [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


@contextmanager
def reported(target: str, number: object) -> Iterator[None]:
    """A failure says which mutation it was, so that it can be had again and put into the corpus."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"fuzz target {target!r}, mutation {number}")
        raise


class Mutator:
    """The mutations of one number. `samples`: octets that others may be mixed with."""

    def __init__(self, target: str, number: int, samples: Sequence[bytes] = ()) -> None:
        self.random = random.Random(f"{target} {number}")
        self._samples = samples

    def octets(self, data: bytes) -> bytes:
        """One to four things done to `data`."""
        changed = bytearray(data)
        for _ in range(self.random.choice((1, 1, 1, 2, 3, 4))):
            self.random.choice(self._OPERATIONS)(self, changed)
        return bytes(changed)

    def _place(self, data: bytearray) -> int:
        return self.random.randrange(len(data)) if data else 0

    def _piece(self, data: bytearray) -> slice:
        start = self._place(data)
        return slice(start, min(len(data), start + self.random.choice((1, 2, 3, 4, 8, 32, 200))))

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] ^= 1 << self.random.randrange(8)

    def _edge(self, data: bytearray) -> None:
        if data:
            data[self._place(data)] = self.random.choice(_EDGES)

    def _length(self, data: bytearray) -> None:
        """What may be a length of one to three octets becomes a little or much larger or smaller."""
        size = self.random.choice((1, 2, 2, 3))
        if len(data) >= size:
            start = self.random.randrange(len(data) - size + 1)
            value = int.from_bytes(data[start : start + size], "big")
            top = (1 << 8 * size) - 1
            wrong = self.random.choice((value - 1, value + 1, 0, top, value * 2, value // 2, len(data)))
            data[start : start + size] = max(0, min(top, wrong)).to_bytes(size, "big")

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _remove(self, data: bytearray) -> None:
        del data[self._piece(data)]

    def _repeat(self, data: bytearray) -> None:
        piece = self._piece(data)
        data[piece.start : piece.start] = bytes(data[piece]) * self.random.choice((1, 1, 2, 20))

    def _insert(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self.random.randbytes(self.random.choice((1, 2, 4, 40)))

    def _mix(self, data: bytearray) -> None:
        if self._samples:
            other = bytearray(self.random.choice(self._samples))
            data[self._piece(data)] = other[self._piece(other)]

    _OPERATIONS: tuple[Callable[[Mutator, bytearray], None], ...] = (
        _flip,
        _flip,
        _edge,
        _length,
        _length,
        _cut,
        _remove,
        _repeat,
        _insert,
        _mix,
    )
