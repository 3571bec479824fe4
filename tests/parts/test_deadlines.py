"""Named deadlines against a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.deadlines import Deadlines


def test_the_earliest_is_always_known() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.earliest is None
    deadlines.set("late", 9.0)
    deadlines.set("soon", 2.0)
    assert deadlines.earliest == 2.0
    deadlines.set("soon", 20.0)
    assert deadlines.earliest == 9.0
    deadlines.clear("late")
    deadlines.clear("late")
    assert deadlines.earliest == 20.0
    assert "late" not in deadlines
    assert "soon" in deadlines
    deadlines.clear_all()
    assert deadlines.earliest is None


def test_what_is_due_is_told_in_order_and_may_be_set_again() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for name, due in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        deadlines.set(name, due)
    told = []
    for name in deadlines.reached(2.0):
        told.append(name)
        if name == "a":
            deadlines.set("a", 5.0)
    assert told == ["a", "b"]
    assert deadlines.earliest == 3.0
    assert list(deadlines.reached(9.0)) == ["c", "a"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 20))), max_size=40))
def test_it_agrees_with_a_dictionary(steps: list[tuple[str, int | None]]) -> None:
    deadlines: Deadlines[str] = Deadlines()
    model: dict[str, int] = {}
    for name, due in steps:
        if due is None:
            deadlines.clear(name)
            model.pop(name, None)
        else:
            deadlines.set(name, due)
            model[name] = due
        assert deadlines.earliest == min(model.values(), default=None)
