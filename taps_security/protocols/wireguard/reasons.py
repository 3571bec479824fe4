"""Why something of a peer was dropped. WireGuard tells nobody: the texts are what counters are called."""

from __future__ import annotations

from enum import Enum

__all__ = ["Reason"]


class Reason(Enum):
    """What was wrong with a datagram."""

    MALFORMED = "not a message of WireGuard"
    UNKNOWN_INDEX = "for an index that is not in use"
    BAD_MAC1 = "wrong mac1"
    TOO_FREQUENT = "too many initiations of one source"
    TOO_MANY_SOURCES = "too many sources under load"
    BAD_POINT = "a public key that gives no secret"
    UNAUTHENTIC = "does not open"
    UNKNOWN_PEER = "from nobody that we know"
    REPLAYED = "an initiation that is not newer"
    TOO_FAST = "an initiation too soon after the last"
    NOT_AWAITED = "a response that nothing waits for"
    NO_COOKIE_AWAITED = "a cookie that nothing waits for"
