"""A token bucket."""

from __future__ import annotations

from taps_security.inner.budget import Budget


def test_so_many_at_once_and_so_many_per_second() -> None:
    budget = Budget(rate=2.0, burst=3)
    assert [budget.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.take(10.25)
    assert budget.take(10.5)
    assert not budget.take(10.5)
    assert [budget.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(rate=1.0, burst=1)
    assert budget.take(10.0)
    assert not budget.take(5.0)
    assert budget.take(6.0)
