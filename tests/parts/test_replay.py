"""The replay window against a set of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.replay import ReplayWindow


def test_each_number_is_fresh_once() -> None:
    window = ReplayWindow(64)
    for number in (0, 5, 3, 70, 69, 7):
        assert window.is_fresh(number)
        window.opened(number)
        assert not window.is_fresh(number)
    assert window.highest == 70
    assert not window.is_fresh(6)  # 64 behind: out of the window
    assert window.is_fresh(8)


def test_a_run_moves_the_window_once() -> None:
    window = ReplayWindow(8)
    window.opened(0, 99)
    assert window.highest == 99
    assert not any(window.is_fresh(number) for number in range(100))
    window.opened(110, 111)
    assert [number for number in range(112) if window.is_fresh(number)] == list(range(104, 110))


def test_what_was_asked_for_and_did_not_open_stays_fresh() -> None:
    window = ReplayWindow()
    assert window.is_fresh(1 << 60)
    assert window.is_fresh(0)
    window.opened(3)
    window.clear()
    assert window.is_fresh(3)


def test_a_window_has_a_size() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ReplayWindow(0)


@given(st.integers(1, 70), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=40))
def test_it_agrees_with_a_set(size: int, runs: list[tuple[int, int]]) -> None:
    window, seen, highest = ReplayWindow(size), set(), -1
    for first, more in runs:
        fresh = [n for n in range(first, first + more + 1) if n > highest - size and n not in seen]
        assert fresh == [n for n in range(first, first + more + 1) if window.is_fresh(n)]
        if fresh and fresh == list(range(fresh[0], fresh[-1] + 1)):
            window.opened(fresh[0], fresh[-1])
            seen.update(fresh)
            highest = max(highest, fresh[-1])
    assert window.highest == highest
