"""Chunks that are kept without a copy, and those that could change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taps_security.connection.chunks import COPY_BELOW, MANY, freeze, keep, take
from taps_security.stack.events import Buffer


def test_what_cannot_change_is_kept_and_what_can_is_copied() -> None:
    octets, mutable = b"octets", bytearray(b"mutable")
    view, changing = memoryview(octets)[1:], memoryview(mutable)
    kept = freeze([octets, view, mutable, changing])
    assert kept[0] is octets
    assert kept[1] is view
    mutable[0] = 0
    assert [bytes(chunk) for chunk in kept[2:]] == [b"mutable", b"mutable"]


def test_views_of_larger_items_become_views_of_octets() -> None:
    (chunk,) = freeze(memoryview(bytes(8)).cast("I"))
    assert len(chunk) == 8


def test_one_buffer_is_one_chunk() -> None:
    assert freeze(bytearray(b"one")) == (b"one",)


def test_octets_are_taken_across_chunks_and_the_rest_stays() -> None:
    chunks: list[bytes | bytearray | memoryview] = [b"abc", b"def", b"ghi"]
    assert take(chunks, 3) == b"abc"
    assert take(chunks, 4) == b"defg"
    assert take(chunks, 2) == b"hi"
    assert not chunks


class Counted(list[Buffer]):
    """Which places were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Buffer]:
        for index in range(len(self)):
            yield self[index]


def test_many_small_chunks_that_nobody_takes_become_few_and_cost_little() -> None:
    chunks, expected = Counted(), bytearray()
    for number in range(50_000):
        octets = number.to_bytes(2, "little")
        chunks.append(memoryview(octets))
        expected += octets
        keep(chunks, 1)
        assert len(chunks) <= MANY
    assert chunks.looks < 4 * 50_000
    assert not any(type(chunk) is memoryview for chunk in chunks)
    assert b"".join(chunks) == expected


def test_large_views_stay_what_they_are() -> None:
    large, small = memoryview(bytes(COPY_BELOW)), memoryview(b"small")
    chunks: list[Buffer] = [small, large, small]
    keep(chunks, 2)
    assert chunks[1] is large
    assert [type(chunks[0]), type(chunks[2])] == [bytes, bytes]
    many: list[Buffer] = [large] * (MANY + 1)
    keep(many, 1)
    assert len(many) == MANY + 1
