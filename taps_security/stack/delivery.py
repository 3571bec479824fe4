"""Deliveries that more than one room uses. Pass-through: the transport below is reliable and ordered already."""

from __future__ import annotations

from collections.abc import Callable

from .errors import PeerMisbehaved, Reason
from .events import KeyId

_NOTHING = bytearray()  # of all that hold nothing, and never added to: an idle connection owns no buffer
Measure = Callable[[memoryview], int]  # the whole length of the message that begins so; 0: more octets are needed


class PassThrough:
    """Whole handshake messages out of the units of a reliable byte stream (TLS, tcpcrypt).

    `limit` bounds one message in octets, and so what is held of an unfinished one.
    """

    __slots__ = ("_key", "_limit", "_measure", "held")

    def __init__(self, measure: Measure, limit: int) -> None:
        self._measure = measure
        self._limit = limit
        self.held = _NOTHING  # of an unfinished message: while it waits, keys must not change
        self._key: KeyId | None = None

    def received(self, key: KeyId, unit: memoryview) -> None:
        """The octets of one unit. Raises PeerMisbehaved if a message would straddle a change of keys."""
        if not len(unit):
            raise PeerMisbehaved("an empty handshake unit", reason=Reason.UNEXPECTED, section="RFC 8446 §5.1")
        if self.held and key != self._key:
            raise PeerMisbehaved(
                "a handshake message straddles a change of keys", reason=Reason.UNEXPECTED, section="RFC 8446 §5.1"
            )
        self._key = key
        if not self.held:
            self.held = bytearray()
        self.held += unit

    def next_message(self) -> tuple[KeyId, memoryview] | None:
        """The next whole message, or None. Raises PeerMisbehaved if one is longer than the limit."""
        if not self.held or self._key is None:
            return None
        with memoryview(self.held) as view:
            length = self._measure(view)
        if length > self._limit:
            raise PeerMisbehaved(
                f"a handshake message of {length} octets; at most {self._limit} are taken",
                reason=Reason.MESSAGE_TOO_LARGE,
            )
        if not length or length > len(self.held):
            return None
        message = memoryview(bytes(self.held[:length]))
        del self.held[:length]
        if not self.held:
            self.held = _NOTHING
        return self._key, message
