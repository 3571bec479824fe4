"""Chunks that are kept without a copy, and those that could change."""

from __future__ import annotations

from taps_security.connection.chunks import freeze, take


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
