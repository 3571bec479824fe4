"""The receiving half: any order, any boundaries, any repetition; acknowledgements that never take anything back."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taps_security.protocols.curvecp.limits import MAX_PIECES, MAX_POSITION, RECEIVE_WINDOW, UNREAD
from taps_security.protocols.curvecp.receiving import ReceiveStream
from taps_security.protocols.curvecp.wire import FAILURE, SUCCESS, parse_ranges

DATA = random.Random(3).randbytes(5000)


def take(stream: ReceiveStream, start: int, stop: int, end: int = 0) -> tuple[bool, bytes]:
    chunks: list = []
    kept = stream.take(
        start, memoryview(DATA)[start:stop] if stop <= len(DATA) else memoryview(bytes(stop - start)), end, chunks
    )
    return kept, b"".join(map(bytes, chunks))


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 1024)), max_size=60), st.randoms())
@settings(deadline=None)
def test_blocks_in_any_order_become_the_stream(blocks: list[tuple[int, int]], chance: random.Random) -> None:
    stream, got, said = ReceiveStream(), bytearray(), set()
    arrived: set[int] = set()
    whole = [(start, min(start + 500, 5000)) for start in range(0, 5000, 500)]
    spans = [(start, min(start + size, 5000)) for start, size in blocks]
    mixed = spans + whole
    chance.shuffle(mixed)
    for start, stop in mixed:
        kept, octets = take(stream, start, stop, SUCCESS if stop == 5000 else 0)
        assert kept
        got += octets
        arrived |= set(range(start, stop))
        if chance.random() < 0.5:
            for fields in stream.acknowledgements():
                ranges = parse_ranges(fields)
                assert len(ranges) <= 6
                told = {place for low, high in ranges for place in range(low, high)}
                assert told <= arrived | {5000}, "nothing is acknowledged that did not come"
                said |= told
            assert set(range(start, stop)) <= said, "what came last is told"
    assert bytes(got) == DATA
    assert stream.over
    assert [parse_ranges(fields) for fields in stream.acknowledgements()] == [((0, 5001),)]
    assert said <= arrived | {5000}


def test_more_gaps_than_one_message_tells_take_several() -> None:
    stream = ReceiveStream()
    for start in range(10, 4000, 100):
        take(stream, start, start + 10)
    told = [span for fields in stream.acknowledgements() for span in parse_ranges(fields)]
    assert set(told) == {(start, start + 10) for start in range(10, 4000, 100)}
    assert len(stream.acknowledgements()) == 1  # there is no news


def test_long_ranges_and_far_gaps_are_cut_to_what_the_fields_hold() -> None:
    stream = ReceiveStream()
    big = memoryview(bytes(1024))
    for start in range(100_000, 400_000, 1024):
        stream.take(start, big, 0, [])
    stream.take(700_000, big, 0, [])
    told = {span for fields in stream.acknowledgements() for span in parse_ranges(fields)}
    assert (700_000, 701_024) in told
    assert max(stop for _, stop in told if stop < 700_000) == 400_032  # the end of the long range, and five pieces down
    assert all(stop - start <= 0xFFFF for start, stop in told)


def test_what_does_not_fit_is_dropped_and_asked_for_again() -> None:
    stream = ReceiveStream()
    assert not stream.take(RECEIVE_WINDOW, memoryview(b"x"), 0, [])
    assert stream.refused
    assert not stream.take((1 << 64) - 1, memoryview(b"x"), 0, [])
    assert stream.acknowledgements() == [bytes(30)]
    block = memoryview(bytes(1024))
    for start in range(0, UNREAD, 1024):
        assert stream.take(start, block, 0, [])
    assert not stream.take(UNREAD, block, 0, [])
    assert stream.take(UNREAD - 1024, block, 0, [])  # again: it is acknowledged again
    assert stream.unread == UNREAD
    assert not stream.consumed(10)
    assert stream.consumed(UNREAD // 2)
    assert not stream.consumed(10)  # told once
    assert stream.take(UNREAD, block, 0, [])


def test_single_octets_with_gaps_fill_no_more_than_so_much() -> None:
    stream = ReceiveStream()
    kept = sum(stream.take(place, memoryview(b"x"), 0, []) for place in range(1, 2 * (MAX_PIECES + 100), 2))
    assert kept == MAX_PIECES
    assert stream.refused
    chunks: list = []
    assert stream.take(0, memoryview(b"0"), 0, chunks)
    assert b"".join(map(bytes, chunks)) == b"0x"


@pytest.mark.parametrize("position", [0, 3, 10])
def test_an_end_stays_where_it_was(position: int) -> None:
    stream = ReceiveStream()
    assert take(stream, 0, 10)[0]
    assert stream.take(10, memoryview(b""), SUCCESS, [])
    assert stream.over
    assert not stream.take(11, memoryview(b""), SUCCESS, [])
    assert not stream.take(position, memoryview(b"x" * 20), 0, [])
    assert not stream.take(position, memoryview(b"x"), SUCCESS, []) or position == 9
    assert stream.total == 10
    assert stream.take(0, memoryview(b"x"), 0, [])


def test_ends_in_the_middle_of_what_came_are_none() -> None:
    stream = ReceiveStream()
    take(stream, 0, 10)
    take(stream, 50, 60)
    assert not stream.take(5, memoryview(b""), SUCCESS, [])
    assert not stream.take(55, memoryview(b""), SUCCESS, [])
    assert not stream.take(MAX_POSITION + 1, memoryview(b""), SUCCESS, [])
    assert stream.total is None
    assert stream.take(60, memoryview(b""), SUCCESS, [])
    assert not stream.over
    take(stream, 10, 50)
    assert stream.over


def test_a_failure_counts_wherever_it_stands() -> None:
    for position in (0, 7, 1 << 50):
        stream = ReceiveStream()
        take(stream, 0, 10)
        stream.take(10, memoryview(b""), SUCCESS, [])
        assert stream.take(position, memoryview(b""), FAILURE, [])
        assert stream.failed
        assert stream.take(20, memoryview(os.urandom(5)), 0, [])
        assert stream.next == 10


def test_gaps_are_known() -> None:
    stream = ReceiveStream()
    take(stream, 5, 10)
    assert stream.gaps
    take(stream, 0, 5)
    assert not stream.gaps
