"""How often the inner host answers by itself: so many at once, and so many per second."""

from __future__ import annotations


class Budget:
    """A token bucket with `burst` tokens, of which `rate` come back per second."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst, self._left = rate, burst, float(burst)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether there was one left. `now`: monotonic seconds."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
