"""What a listening endpoint does before any state exists: one Screener per endpoint and protocol.

A screener owns rotating secrets, replay caches and rate counters, and keeps no state per unvalidated peer beyond a
stated bound. Before an address is validated, at most three times the received octets go back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import Protocol, TypeAlias

from .events import PathId
from .frozen import frozen
from .layers import PathFacts
from .stack import SecurityStack

# The endpoint's: (kind, length) -> an id for which the route (kind, id) leads nowhere in its table yet.
IssueId: TypeAlias = Callable[[str, int], bytes]


class Match(Enum):
    """Whether the first octets belong to a protocol."""

    NO = 0
    MORE = 1  # a prefix too short to tell
    YES = 2


@frozen
class Load:
    """How busy the endpoint is."""

    half_open: int
    limit: int  # of half-open stacks

    @property
    def high(self) -> bool:
        """More than half of the allowed half-open stacks exist: time to ask for cookies."""
        return self.half_open * 2 > self.limit


@frozen
class NotOurs:
    """Another protocol's datagram."""


@frozen
class Drop:
    """Noise; counted under `reason`."""

    reason: str


@frozen
class Reply:
    """A stateless answer: cookie, Retry, HelloVerifyRequest."""

    datagram: bytes


@frozen
class Create:
    """A new stack. The seed holds the datagram and what was opened of it: it is not fed again.

    `routes` lead to the stack from the start, beside the path that the datagram came by.
    """

    seed: object
    routes: tuple[Hashable, ...] = ()
    validated: bool = False


@frozen
class HandOver:
    """For a stack that exists: whoever has `route` gets the seed by adopt(). The datagram itself is not fed to it."""

    route: Hashable
    seed: object


Verdict: TypeAlias = NotOurs | Drop | Reply | Create | HandOver


class StreamScreener(Protocol):
    """Accepts byte-stream connections of one protocol."""

    def recognise(self, head: memoryview) -> Match:
        """Whether a connection that begins with `head` speaks this protocol."""

    def accept(self, now: float) -> SecurityStack:
        """A stack for one accepted connection, not yet started."""


class DatagramScreener(Protocol):
    """Looks at the datagrams that no route claims."""

    def recognise(self, head: memoryview) -> Match:
        """First octets: exact magics and lengths, or a class of first bytes (RFC 7983)."""

    def route_of(self, datagram: memoryview) -> Hashable | None:
        """The issued id that a datagram carries, stateless; None: it carries none."""

    def screen(self, datagram: memoryview, path: PathId, facts: PathFacts, load: Load, now: float) -> Verdict:
        """What is to be done with an unclaimed datagram."""

    def accept(self, seed: object, now: float) -> SecurityStack:
        """The stack of a Create verdict, already fed with the seed; the endpoint starts it on its path."""
