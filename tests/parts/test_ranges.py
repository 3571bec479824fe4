"""Ranges against a set of integers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.ranges import Ranges

SPANS = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(st.tuples(st.booleans(), SPANS), max_size=40), SPANS)
def test_ranges_are_a_set(steps: list[tuple[bool, tuple[int, int]]], asked: tuple[int, int]) -> None:
    ranges, model = Ranges(), set()
    for adds, (start, stop) in steps:
        if adds:
            low, high = ranges.add(start, stop)
            model |= set(range(start, stop))
            assert low <= start
            assert stop <= high
            assert (low, high) in list(ranges)
        else:
            ranges.remove(start, stop)
            model -= set(range(start, stop))
        spans = list(ranges)
        assert {one for start, stop in spans for one in range(start, stop)} == model
        assert all(start < stop for start, stop in spans)
        assert all(before[1] < behind[0] for before, behind in pairwise(spans)), "ranges that touch are one"
        assert len(ranges) == len(spans)
    missing = ranges.missing(*asked)
    assert {one for start, stop in missing for one in range(start, stop)} == set(range(*asked)) - model
    assert all(before[1] < behind[0] for before, behind in pairwise(missing))
    for position in range(90):
        assert (position in ranges) == (position in model)
        index = ranges.index_of(position)
        behind = [span for span in ranges if span[1] > position]
        assert index == len(ranges) if not behind else ranges[index] == behind[0]
    ranges.clear()
    assert not len(ranges)
    assert repr(ranges) == "<Ranges []>"
