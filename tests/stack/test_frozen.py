"""Classes of `frozen` and `slotted` are the dataclasses that `@dataclass` would have made."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field

import pytest

from taps_security.stack.frozen import frozen, replace, slotted


class Shapes:
    """The same class body, under our decorator and under the standard library's."""

    def __init__(self, ours, theirs) -> None:
        def body() -> type:
            class Example:
                number: int
                words: tuple[str, ...] = ()
                secret: bytes = field(default=b"", repr=False)
                notes: list[int] = field(default_factory=list, compare=False)
                derived: int = field(init=False, default=7)
                doubled: int = field(init=False, repr=False)

                def __post_init__(self) -> None:
                    object.__setattr__(self, "doubled", 2 * self.number)

            return Example

        self.ours, self.theirs = ours(body()), theirs(body())


PAIRS = [
    Shapes(frozen, dataclass(frozen=True, slots=True)),
    Shapes(frozen(kw_only=True), dataclass(frozen=True, slots=True, kw_only=True)),
    Shapes(frozen(slots=False), dataclass(frozen=True)),
    Shapes(slotted, dataclass(slots=True)),
]


@pytest.mark.parametrize("shapes", PAIRS)
def test_fields_signature_and_repr_are_the_same(shapes) -> None:
    ours, theirs = shapes.ours, shapes.theirs
    told = [[(entry.name, entry.type, entry.init) for entry in dataclasses.fields(kind)] for kind in (ours, theirs)]
    assert told[0] == told[1]
    names = [list(inspect.signature(kind).parameters.values()) for kind in (ours, theirs)]
    assert [(one.name, one.kind, one.annotation) for one in names[0]] == [
        (one.name, one.kind, one.annotation) for one in names[1]
    ]
    assert repr(ours(number=1, secret=b"x")) == repr(theirs(number=1, secret=b"x"))
    assert ("__slots__" in vars(ours)) == ("__slots__" in vars(theirs))
    assert hasattr(ours(number=1), "__dict__") == hasattr(theirs(number=1), "__dict__")


@pytest.mark.parametrize("shapes", PAIRS)
def test_equality_and_hashes_look_at_what_is_compared(shapes) -> None:
    ours, theirs = shapes.ours, shapes.theirs
    one = ours(number=1, words=("a",), notes=[1])
    assert one == ours(number=1, words=("a",), notes=[2])
    assert one != ours(number=2, words=("a",))
    assert one != theirs(number=1, words=("a",))
    if theirs.__hash__ is None:
        assert ours.__hash__ is None
    else:
        assert hash(one) == hash(ours(number=1, words=("a",), notes=[2]))


@pytest.mark.parametrize("shapes", PAIRS)
def test_copies_keep_what_was_set(shapes) -> None:
    one = shapes.ours(number=3, notes=[1])
    changed = replace(one, number=4)
    assert (changed.number, changed.doubled, changed.notes, changed.derived) == (4, 8, [1], 7)
    deep = copy.deepcopy(one)
    assert deep == one
    assert deep.notes == [1]
    assert deep.notes is not one.notes
    assert shapes.ours(number=1).notes is not shapes.ours(number=1).notes


@pytest.mark.parametrize("shapes", PAIRS[:3])
def test_frozen_fields_stay_as_they_are(shapes) -> None:
    one = shapes.ours(number=3)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'number'"):
        one.number = 4
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'number'"):
        del one.number


def test_slotted_fields_may_change() -> None:
    one = PAIRS[3].ours(number=3)
    one.number = 4
    assert one.number == 4
    with pytest.raises(AttributeError):
        one.other = 1


@frozen
class Kept:
    """At module level, so that pickle finds it."""

    number: int
    words: tuple[str, ...] = ()


@frozen
class Nothing:
    """No field at all."""


def test_pickles_and_classes_without_fields() -> None:
    assert pickle.loads(pickle.dumps(Kept(1, ("a",)))) == Kept(1, ("a",))
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert repr(Nothing()) == "Nothing()"


def test_what_a_class_says_itself_stays() -> None:
    @frozen
    class Named:
        name: str

        def __init__(self, name: str) -> None:
            object.__setattr__(self, "name", name.upper())

        def __repr__(self) -> str:
            return f"<{self.name}>"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Named)

        def __hash__(self) -> int:
            return 1

    assert repr(Named("a")) == "<A>"
    assert Named("a") == Named("b")
    assert hash(Named("a")) == 1


def test_subclasses_without_slots_have_all_fields() -> None:
    @frozen(slots=False, kw_only=True)
    class Base:
        port: int = 1

    @frozen(slots=False, kw_only=True)
    class Derived(Base):
        name: str

    one = Derived(name="x", port=2)
    assert repr(one).endswith("Derived(port=2, name='x')")
    assert one != Base(port=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.port = 3
