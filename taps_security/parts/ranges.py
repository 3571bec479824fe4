"""Sets of positions as ascending ranges: what arrived of a stream, what is lost, what is to be acknowledged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Disjoint ranges [start, stop), ascending. Ranges that touch are one."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self._starts[index], self._stops[index]

    def __contains__(self, position: int) -> bool:
        index = bisect_right(self._starts, position) - 1
        return index >= 0 and position < self._stops[index]

    def __repr__(self) -> str:
        return f"<Ranges {list(self)}>"

    def add(self, start: int, stop: int) -> tuple[int, int]:
        """Add [start, stop), not empty; the range that it lies in now."""
        starts, stops = self._starts, self._stops
        first = bisect_left(stops, start)  # the first range that it touches or that lies behind it
        last = bisect_right(starts, stop)  # behind the last one that it touches
        if first < last:
            start = min(start, starts[first])
            stop = max(stop, stops[last - 1])
        starts[first:last] = [start]
        stops[first:last] = [stop]
        return start, stop

    def remove(self, start: int, stop: int) -> None:
        """Take [start, stop) out, whether or not it is in."""
        starts, stops = self._starts, self._stops
        first = bisect_right(stops, start)
        last = bisect_left(starts, stop)
        if first >= last or start >= stop:
            return
        left = [(starts[first], start)] if starts[first] < start else []
        right = [(stop, stops[last - 1])] if stops[last - 1] > stop else []
        starts[first:last] = [low for low, _ in left + right]
        stops[first:last] = [high for _, high in left + right]

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of [start, stop) that are not in, ascending."""
        starts, stops = self._starts, self._stops
        found = []
        index = bisect_right(stops, start)
        while start < stop:
            if index >= len(starts) or starts[index] >= stop:
                found.append((start, stop))
                break
            if starts[index] > start:
                found.append((start, starts[index]))
            start = stops[index]
            index += 1
        return found

    def index_of(self, position: int) -> int:
        """The index of the range that holds `position`, or of the first one behind it."""
        return bisect_right(self._stops, position)

    def clear(self) -> None:
        """Nothing is in."""
        self._starts.clear()
        self._stops.clear()
