"""Checking what the application wrote, with one form of error: property, value, what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NoReturn, TypeVar

from ..stack.errors import ConfigurationError, Reason

_Member = TypeVar("_Member", bound=Enum)


def refuse(name: str, value: object, expected: str, *, reason: Reason = Reason.INVALID_CONFIGURATION) -> NoReturn:
    """Raise ConfigurationError: `name`: `value` was given, `expected` was expected."""
    raise ConfigurationError(f"{name}: {_shown(value)} was given, expected {expected}", reason=reason)


def _shown(value: object) -> str:
    """Short, and never the octets of anything that might be secret."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} octets"
    if _holds_octets(value):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _holds_octets(value: object) -> bool:
    """A table of whatever, or a list with octets in it."""
    if isinstance(value, list | tuple | set | frozenset):
        return any(isinstance(one, bytes | bytearray | memoryview) or _holds_octets(one) for one in value)
    return isinstance(value, Mapping)


def listed(words: Iterable[str]) -> str:
    """`'a', 'b' or 'c'`."""
    quoted = [repr(word) for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def normal(word: str) -> str:
    """RFC 9622 §4.1: names do not depend on case; spaces and hyphens count as underscores."""
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def member(name: str, value: object, kind: type[_Member]) -> _Member:
    """`value` as a member of `kind`, given as itself or by its name."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str):
        for candidate in kind:
            if candidate.name.lower() == normal(value):
                return candidate
    refuse(name, value, listed(candidate.name.lower() for candidate in kind))


def closest(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or an empty string."""
    from difflib import get_close_matches  # noqa: PLC0415 -- only when something is wrong

    found = get_close_matches(word, list(words), 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def boolean(name: str, value: object) -> bool:
    """`value`, which must be True or False."""
    if not isinstance(value, bool):
        refuse(name, value, "True or False")
    return value


def text(name: str, value: object) -> str:
    """`value`, which must be a string that is not empty."""
    if not isinstance(value, str) or not value:
        refuse(name, value, "a string that is not empty")
    return value


def seconds(name: str, value: object) -> float | None:
    """A positive number of seconds; None: disabled (RFC 9622 §8.1.3)."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        refuse(name, value, "a number of seconds above 0, or None for disabled")
    return float(value)


def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number between two bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        refuse(name, value, f"a whole number from {low} to {high}")
    return value


def strings(name: str, value: object) -> tuple[str, ...]:
    """Strings, each once; a single string is a mistake, not its letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        refuse(name, value, "a list of strings")
    found = tuple(value)
    for one in found:
        text(name, one)
    if len(set(found)) != len(found):
        refuse(name, list(found), "each string once")
    return found
