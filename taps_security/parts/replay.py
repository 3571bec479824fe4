"""Replay windows (RFC 4303 §3.4.3, RFC 6479, RFC 9147 §4.5.1): which record numbers were seen, in one integer.

A record asks `is_fresh` before it opens a datagram, and says what opened afterwards: once for a run of consecutive
numbers, so that a batch moves the window once.
"""

from __future__ import annotations


class ReplayWindow:
    """The newest `size` numbers. What is older counts as seen."""

    __slots__ = ("_mask", "_seen", "highest", "size")

    def __init__(self, size: int = 1024) -> None:
        if size < 1:
            raise ValueError(f"a replay window of {size} numbers; at least 1")
        self.size = size
        self.highest = -1  # -1: nothing opened yet
        self._mask = (1 << size) - 1
        self._seen = 0  # bit n: `highest - n` opened

    def is_fresh(self, number: int) -> bool:
        """Whether `number` (not negative) may still be opened: it lies in the window or before it, and was not seen."""
        behind = self.highest - number
        return behind < 0 or (behind < self.size and not self._seen >> behind & 1)

    def opened(self, first: int, last: int | None = None) -> None:
        """The authentic numbers `first` to `last` (`first` alone without it), each of which was fresh."""
        if last is None:
            last = first
        run = (1 << (last - first + 1)) - 1
        ahead = last - self.highest
        if ahead > 0:
            self.highest = last
            self._seen = (self._seen << min(ahead, self.size) | run) & self._mask
        else:
            self._seen |= run << -ahead & self._mask

    def clear(self) -> None:
        """Start again: a new key has a window of its own."""
        self.highest = -1
        self._seen = 0
