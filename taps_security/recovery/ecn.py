"""Whether a path carries ECN marks: validation of the peer's counts (RFC 9000 §13.4.2 and A.4).

```
testing --ten packets or three PTOs--> unknown --counts fit--> capable
   '-------- counts do not fit, or all marked packets lost --------> failed
```
"""

from __future__ import annotations

from enum import Enum

TESTING_PACKETS = 10  # §13.4.2
TESTING_TIMEOUTS = 3  # probe timeouts
ECT0 = 2  # codepoints in the IP header (RFC 3168 §5)
NOT_ECT = 0


class EcnState(Enum):
    """What is known of the path (A.4)."""

    TESTING = "testing"
    UNKNOWN = "unknown"
    CAPABLE = "capable"
    FAILED = "failed"


class EcnValidation:
    """ECT(0) on one path and in one packet number space.

    `codepoint` says what the next packet carries. Counts are those of the peer's latest acknowledgement, from 0.
    """

    __slots__ = ("_acked", "_ce", "_ect0", "_lost", "_marked", "_started", "state")

    def __init__(self) -> None:
        self.state = EcnState.TESTING
        self._started: float | None = None
        self._marked = 0  # packets sent with ECT(0)
        self._acked = 0  # of those
        self._lost = 0
        self._ect0 = self._ce = 0  # the peer's counts, last processed

    @property
    def codepoint(self) -> int:
        """The two bits for the next packet: ECT(0) while testing and when capable."""
        return ECT0 if self.state in (EcnState.TESTING, EcnState.CAPABLE) else NOT_ECT

    def on_sent(self, count: int, now: float, probe_timeout: float) -> None:
        """`count` packets go out with `codepoint`; `probe_timeout` in seconds bounds the test."""
        if self.codepoint == NOT_ECT:
            return
        if self._started is None:
            self._started = now
        self._marked += count
        if self.state is EcnState.TESTING and (
            self._marked >= TESTING_PACKETS or now - self._started >= TESTING_TIMEOUTS * probe_timeout
        ):
            self.state = EcnState.UNKNOWN

    def on_acked(self, marked: int, ect0: int | None, ect1: int = 0, ce: int = 0, newest: bool = True) -> bool:
        """`marked` packets sent with ECT(0) were newly acknowledged. Whether new CE marks tell of congestion.

        `ect0` is None if the acknowledgement has no counts. `newest`: it raised the largest acknowledged number; others
        are not judged, because acknowledgements overtake each other (§13.4.2.1).
        """
        self._acked += marked
        if not newest or self.state is EcnState.FAILED:
            return False
        if ect0 is None:
            if marked:
                self.state = EcnState.FAILED
            return False
        risen = ce - self._ce
        wrong = (
            ect1 > 0  # nothing was sent with it
            or ect0 > self._marked
            or ect0 < self._ect0
            or risen < 0
            or ect0 - self._ect0 + risen < marked
        )
        if wrong:
            self.state = EcnState.FAILED
            return False
        self._ect0, self._ce = ect0, ce
        if self.state is EcnState.UNKNOWN and self._acked:
            all_marked_ce = ce >= self._marked
            self.state = EcnState.FAILED if all_marked_ce else EcnState.CAPABLE
        return risen > 0 and self.state is not EcnState.FAILED

    def on_lost(self, marked: int) -> None:
        """`marked` packets sent with ECT(0) are lost: if all are, the path drops what is marked (§13.4.2)."""
        self._lost += marked
        if self.state is EcnState.UNKNOWN and not self._acked and self._lost >= self._marked:
            self.state = EcnState.FAILED
