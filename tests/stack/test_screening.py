from __future__ import annotations

from typing import get_args

from taps_security.stack.screening import Create, Load, Match, Verdict


def test_load_is_high_above_half() -> None:
    assert [Load(half_open, 10).high for half_open in (0, 5, 6, 10)] == [False, False, True, True]


def test_verdicts_are_frozen() -> None:
    assert all(kind.__setattr__ is not object.__setattr__ for kind in get_args(Verdict))
    assert Create("seed") == Create("seed", routes=(), validated=False)


def test_matches_are_three() -> None:
    assert [match.name for match in Match] == ["NO", "MORE", "YES"]
