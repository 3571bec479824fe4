"""Sessions for resumption, in memory."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

from ..properties.words import seconds, whole

PER_KEY = 4  # sessions kept under one key: as many connections may resume at the same time


class SessionCache:
    """Keeps sessions for later connections (RFC 9622 §6.3.6). Share one between Preconnections that trust alike.

    `max_sessions` in all, the least recently kept go first. `lifetime`: seconds; None: as long as the protocol says.
    `clock` gives seconds. ConfigurationError for other values.
    """

    def __init__(
        self, max_sessions: int = 1024, lifetime: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max = whole("SessionCache.max_sessions", max_sessions, 1, 1 << 24)
        self._lifetime = seconds("SessionCache.lifetime", lifetime)
        self._clock = clock
        self._kept: OrderedDict[Hashable, deque[tuple[float, object]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<SessionCache of {self._size} sessions>"

    def take(self, key: Hashable) -> object | None:
        """The newest session under `key`, which is given out once; None if there is none."""
        kept = self._kept.get(key)
        while kept:
            since, session = kept.pop()
            self._size -= 1
            if not kept:
                del self._kept[key]
            if self._lifetime is None or self._clock() - since < self._lifetime:
                return session
        return None

    def remember(self, key: Hashable, session: object) -> None:
        """Keep a session."""
        kept = self._kept.setdefault(key, deque())
        kept.append((self._clock(), session))
        self._size += 1
        self._kept.move_to_end(key)
        if len(kept) > PER_KEY:
            kept.popleft()
            self._size -= 1
        while self._size > self._max:
            oldest = next(iter(self._kept))
            self._kept[oldest].popleft()
            self._size -= 1
            if not self._kept[oldest]:
                del self._kept[oldest]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._size = 0
