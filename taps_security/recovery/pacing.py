"""Pacing (RFC 9002 §7.7): a token bucket that spreads a window over its round trip."""

from __future__ import annotations

from .rtt import GRANULARITY

BATCHES = 2  # kernel batches (GSO) in one burst, where two of them are more than the controller's burst
ROUNDING = 0.5  # octets: a timer's time, as a float, may fall short of a whole packet by less


class Pacer:
    """Octets that may leave now, refilled at the controller's rate.

    The bucket holds the controller's burst, two kernel batches of `batch` octets, or what the rate fills in one tick
    of the timers (`granularity` seconds), whichever is most: a loop that wakes once in a millisecond must still reach
    the rate. What is sent beyond the tokens is owed.
    """

    __slots__ = ("_at", "_rate", "_tokens", "batch", "granularity")

    def __init__(self, batch: int = 0, granularity: float = GRANULARITY) -> None:
        self.batch = batch
        self.granularity = granularity
        self._tokens = 0.0
        self._rate = 1.0
        self._at: float | None = None

    def reset(self) -> None:
        """A new path: the bucket is full."""
        self._at = None

    def available(self, rate: float, burst: int, now: float) -> float:
        """Octets that may leave at `now`, with `rate` octets per second and `burst` at once; may be negative."""
        capacity = rate * self.granularity
        if capacity < burst:
            capacity = burst
        if capacity < BATCHES * self.batch:
            capacity = BATCHES * self.batch
        self._rate = rate
        if self._at is None:
            self._tokens = capacity
        else:
            tokens = self._tokens + rate * (now - self._at)
            self._tokens = tokens if tokens < capacity else capacity
        self._at = now
        return self._tokens

    def sent(self, size: int) -> None:
        """`size` octets left."""
        self._tokens -= size

    def ready_at(self, size: int) -> float:
        """When `size` octets may leave, at the rate last told and no sooner than it was told."""
        if self._at is None or self._tokens >= size - ROUNDING:
            return self._at or 0.0
        return self._at + (size - self._tokens) / self._rate
