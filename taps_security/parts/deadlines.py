"""Several named deadlines behind the one that a driver knows."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Deadlines(Generic[Name]):
    """When what is due: monotonic seconds by name. `earliest` is None while nothing is."""

    __slots__ = ("_due", "earliest")

    def __init__(self) -> None:
        self._due: dict[Name, float] = {}
        self.earliest: float | None = None

    def __contains__(self, name: Name) -> bool:
        return name in self._due

    def set(self, name: Name, due: float) -> None:
        """`name` is due then, and not when it was due before."""
        old = self._due.get(name)
        self._due[name] = due
        if self.earliest is None or due <= self.earliest:
            self.earliest = due
        elif old == self.earliest:
            self._look()

    def clear(self, name: Name) -> None:
        """`name` is not due any more."""
        if self._due.pop(name, None) == self.earliest:
            self._look()

    def clear_all(self) -> None:
        """Nothing is due any more."""
        self._due.clear()
        self.earliest = None

    def reached(self, now: float) -> Iterator[Name]:
        """What is due at `now`, earliest first; each is cleared before it is told, so that it can be set again."""
        while self.earliest is not None and self.earliest <= now:
            name = min(self._due, key=self._due.__getitem__)
            self.clear(name)
            yield name

    def _look(self) -> None:
        self.earliest = min(self._due.values(), default=None)
