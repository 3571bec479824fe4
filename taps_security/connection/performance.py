"""Results of earlier races, which refine the order of later ones (RFC 9623 §9.2). They never exclude anything."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum

from ..properties.words import seconds, whole


class Opinion(IntEnum):
    """What is known of a stack at a place."""

    FAILED = -1
    UNKNOWN = 0
    WORKED = 1


class PerformanceCache:
    """Remembers, for some minutes, which stack worked or failed at which host, per network.

    A network is named by the interface that was asked for; the empty name is the system's choice. Share one between
    Preconnections, or `forget()` when the machine moves. `clock` gives seconds.
    """

    def __init__(
        self, lifetime: float = 600.0, max_entries: int = 1024, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime = seconds("PerformanceCache.lifetime", lifetime) or 0.0
        self._max = whole("PerformanceCache.max_entries", max_entries, 1, 1 << 24)
        self._clock = clock
        self._results: OrderedDict[tuple[str, str, str], tuple[float, Opinion]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._results)

    def record(self, network: str, stack: str, host: str, *, worked: bool) -> None:
        """`stack` ("tls/1.3") became ready at `host` (a name or HOST:PORT), or failed there."""
        key = (network, stack, host)
        self._results[key] = (self._clock(), Opinion.WORKED if worked else Opinion.FAILED)
        self._results.move_to_end(key)
        if len(self._results) > self._max:
            self._results.popitem(last=False)

    def opinion(self, network: str, stack: str, host: str) -> Opinion:
        """The newest result, if it is young enough."""
        since, opinion = self._results.get((network, stack, host), (0.0, Opinion.UNKNOWN))
        if opinion is not Opinion.UNKNOWN and self._clock() - since > self._lifetime:
            del self._results[network, stack, host]
            return Opinion.UNKNOWN
        return opinion

    def forget(self, network: str | None = None) -> None:
        """Forget the results of one network, or of all."""
        for key in [key for key in self._results if network is None or key[0] == network]:
            del self._results[key]
