"""TIME-WAIT: an end that answers for a connection that is over."""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy

from ...stack.errors import HardLimitReached
from ...stack.events import PathId
from ...stack.layers import Opened
from .handshake import KIND
from .limits import LAST_WORDS
from .record import CurveCpRecord


class CurveCpLinger:
    """Says the last message again, under a fresh number, to whoever still wants an acknowledgement.

    It keeps the connection's key for that time, and answers nothing that does not open under it, nothing twice, and
    64 times at most.
    """

    __slots__ = ("_left", "_record", "_words", "routes", "until")

    def __init__(self, record: CurveCpRecord, words: bytes, until: float) -> None:
        self._record = copy(record)
        self._words = words
        self._left = LAST_WORDS
        self.until = until
        self.routes: frozenset[Hashable] = frozenset() if record.client else frozenset({(KIND, record.public)})

    def say(self, now: float) -> bytes:
        """The last message as a datagram. Raises HardLimitReached."""
        return self._record.seal_one(self._words, now)

    def reply(self, datagram: memoryview, path: PathId, now: float) -> bytes | None:
        """The answer to a message of the peer that wants an acknowledgement, or None."""
        if not self._left:
            return None
        opened = Opened()
        with memoryview(bytearray(datagram)) as data:
            self._record.open(data, 0, path, opened, now)
            wants = any(bytes(message[:4]) != bytes(4) for message in opened.plaintexts)
            for message in opened.plaintexts:
                message.release()
        if not wants:
            return None
        self._left -= 1
        try:
            return self.say(now)
        except HardLimitReached:
            return None
