"""Dataclasses that cost little to define: a process meets eighty of them before its first octet goes out.

`@dataclass(frozen=True, slots=True)` compiles seven functions for each class, 0.4 ms. `@frozen` and `@slotted` compile
`__init__` alone, when it is wanted often, and share the rest. To everybody else their classes are dataclasses:
`fields()`, `replace()`, `repr`, equality, hashes, copies, pickles. May live here: what defining a class needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from functools import partial
from operator import attrgetter
from types import MethodType
from typing import Any, TypeVar, cast, dataclass_transform

__all__ = ["frozen", "replace", "slotted"]

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Any = None, /, *, slots: bool = True, kw_only: bool = False) -> Any:
    """A dataclass whose fields are set once. Bases and subclasses do without `slots`, as with `@dataclass`."""

    def define(cls: Any) -> Any:
        made: Any = dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
        _complete(made, "_put(self, {0!r}, {1})", _hash)
        made.__setattr__ = _refuse_to_set
        made.__delattr__ = _refuse_to_delete
        if slots:
            made.__getstate__ = _state
            made.__setstate__ = _restore
        return made

    return define if cls is None else define(cls)


@dataclass_transform(field_specifiers=(field,))
def slotted(cls: type[_T], /) -> type[_T]:
    """A dataclass with slots, whose fields may change, and which has no hash."""
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    _complete(made, "self.{0} = {1}", None)
    return cast("type[_T]", made)


def replace(value: _T, /, **changes: Any) -> _T:
    """`dataclasses.replace`, whose types know only what `@dataclass` has made."""
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


def _complete(made: Any, put: str, hashed: Callable[[Any], int] | None) -> None:
    """Add what the class does not say itself. `put` sets a field in `__init__`."""
    compared = [entry.name for entry in made.__dataclass_fields__.values() if entry.compare]
    made._compared = attrgetter(*compared or ("__class__",))
    own = made.__dict__
    if "__init__" not in own:
        made.__init__ = _Initializer(made, put)
    if "__repr__" not in own:
        made.__repr__ = _repr
    if "__eq__" not in own:
        made.__eq__ = _equal
        made.__hash__ = hashed


class _Initializer:
    """`__init__` of a class: the first instance is filled in here, the second one has it compiled.

    Compiling takes as long as filling in fifty, and of most classes that a process meets it makes one instance or none.
    """

    __slots__ = ("_made", "_put", "_used")

    def __init__(self, made: Any, put: str) -> None:
        self._made = made
        self._put = put
        self._used = False

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        asked_by_inspect = isinstance(instance, type)  # from 3.13 on it binds what it finds to the class itself
        if instance is not None and not asked_by_inspect and not self._used:
            self._used = True
            return partial(self._fill, instance)
        init = self._made.__init__ = _compiled(self._made, self._put)
        return init if instance is None else MethodType(init, instance)

    def _fill(self, instance: Any, /, *args: Any, **given: Any) -> None:
        entries = fields(instance)
        places = [entry.name for entry in entries if entry.init and not entry.kw_only]
        values = dict(zip(places, args, strict=False)) | given
        wanted = {entry.name for entry in entries if entry.init}
        needed = {entry.name for entry in entries if entry.default is entry.default_factory is MISSING}
        if len(values) < len(args) + len(given) or not needed & wanted <= values.keys() <= wanted:
            self._made.__init__(instance, *args, **given)  # compiled, it says what is wrong with them
            return
        for entry in entries:
            name = entry.name
            if name in values:
                object.__setattr__(instance, name, values[name])
            elif entry.default is not MISSING:
                object.__setattr__(instance, name, entry.default)
            elif entry.default_factory is not MISSING:
                object.__setattr__(instance, name, entry.default_factory())
        if hasattr(instance, "__post_init__"):
            instance.__post_init__()


def _compiled(made: Any, put: str) -> Callable[..., None]:
    """`__init__`, as dataclasses would write it."""
    scope: dict[str, Any] = {"_put": object.__setattr__, "_missing": MISSING}
    positional, keywords, body = ["self"], ["*"], []
    for entry in fields(made):
        name = parameter = value = entry.name
        if entry.default is not MISSING:
            scope[f"_default_{name}"] = entry.default
            parameter = f"{name}=_default_{name}"
            value = name if entry.init else f"_default_{name}"
        elif entry.default_factory is not MISSING:
            scope[f"_make_{name}"] = entry.default_factory
            parameter = f"{name}=_missing"
            value = f"_make_{name}() if {name} is _missing else {name}" if entry.init else f"_make_{name}()"
        elif not entry.init:
            continue  # __post_init__ sets it
        if entry.init:
            (keywords if entry.kw_only else positional).append(parameter)
        body.append(put.format(name, value))
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = positional + (keywords if len(keywords) > 1 else [])
    exec(f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"]), scope)  # noqa: S102
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    init.__annotations__ = {entry.name: entry.type for entry in fields(made) if entry.init} | {"return": None}
    return init


# -- what all classes share -------------------------------------------------------------------------------------------
def _repr(self: Any) -> str:
    shown = ", ".join([f"{entry.name}={getattr(self, entry.name)!r}" for entry in fields(self) if entry.repr])
    return f"{type(self).__qualname__}({shown})"


def _equal(self: Any, other: Any) -> Any:
    if type(other) is not type(self):
        return NotImplemented
    return self._compared(self) == self._compared(other)


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _refuse_to_set(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, entry.name) for entry in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for entry, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, entry.name, value)
