"""Where protocols keep what must survive a restart: the newest timestamps of WireGuard, and what else stops replays."""

from __future__ import annotations

from typing import Protocol


class Store(Protocol):
    """Octets under names. Both methods are called in the loop's thread, so they must be quick.

    They raise OSError or ConfigurationError where the store cannot be read or written. `connection.stores` has one in
    memory and one in a file.
    """

    def load(self, key: str) -> bytes | None:
        """What was saved last under `key`, or None."""

    def save(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, in place of what was there."""
