"""The delivery of both toys' handshake messages: requests are repeated until answered, answers when asked again.

A client's exchanges have even numbers, a server's odd ones. Plaintext is kept and sealed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from taps_security.parts.deadlines import Deadlines
from taps_security.stack.layers import HandshakeMessage

FIRST_WAIT, TRIES, ANSWERS = 0.25, 6, 8


class Incoming(Enum):
    """What a message from the peer is."""

    NEW = 0  # a request, or the answer to one of ours: for the handshake
    AGAIN = 1  # a request that was answered already
    STALE = 2  # an answer that nobody waits for


class Exchanges:
    """Who waits for whom."""

    def __init__(self, *, client: bool) -> None:
        self.deadlines: Deadlines[int] = Deadlines()
        self._ours = 0 if client else 1
        self._requests: dict[int, tuple[HandshakeMessage, int]] = {}  # with the number of tries
        self._answers: dict[int, list[HandshakeMessage]] = {}

    def queued(self, message: HandshakeMessage, now: float) -> None:
        """A message goes out for the first time."""
        if message.exchange & 1 == self._ours:
            tries = self._requests[message.exchange][1] if message.exchange in self._requests else 0
            self._requests[message.exchange] = message, tries
            self.deadlines.set(message.exchange, now + FIRST_WAIT * 2**tries)
        else:
            self._answers.setdefault(message.exchange, []).append(message)

    def incoming(self, exchange: int) -> Incoming:
        """A message of that exchange came."""
        if exchange & 1 == self._ours:
            if self._requests.pop(exchange, None) is None:
                return Incoming.STALE
            self.deadlines.clear(exchange)
            return Incoming.NEW
        if exchange in self._answers:
            return Incoming.AGAIN
        self._answers[exchange] = []
        if len(self._answers) > ANSWERS:
            del self._answers[min(self._answers)]
        return Incoming.NEW

    def answers(self, exchange: int) -> list[HandshakeMessage]:
        """What was answered."""
        return self._answers[exchange]

    def due(self, now: float) -> Iterator[int]:
        """Requests that were not answered in time."""
        return self.deadlines.reached(now)

    def again(self, exchange: int, now: float) -> HandshakeMessage | None:
        """The request, to be sent once more; None: it was sent often enough."""
        message, tries = self._requests[exchange]
        if tries + 1 >= TRIES:
            return None
        self._requests[exchange] = message, tries + 1
        self.deadlines.set(exchange, now + FIRST_WAIT * 2 ** (tries + 1))
        return message

    def over(self, exchange: int) -> None:
        """Nobody waits for an answer any more."""
        self._requests.pop(exchange, None)
        self.deadlines.clear(exchange)
