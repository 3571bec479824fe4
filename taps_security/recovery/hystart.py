"""HyStart++ (RFC 9406): slow start that ends when round trips get longer, before the queue overflows.

```
slow start --a round's least RTT grew--> conservative slow start --five rounds--> congestion avoidance
     ^------------- it fell again ----------------------'
```
"""

from __future__ import annotations

from math import inf

MIN_RTT_THRESH = 0.004  # seconds (RFC 9406 §4.3)
MAX_RTT_THRESH = 0.016  # seconds
MIN_RTT_DIVISOR = 8
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5
# The limit L is infinite, as §4.3 has it for senders that pace.


class HyStart:
    """The first slow start of a flow. `done`: it is over.

    A round ends with the acknowledgement of a packet that was sent after the round began (§4.2).
    """

    __slots__ = ("_baseline", "_css_rounds", "_last_minimum", "_minimum", "_round_start", "_samples", "done")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A flow begins."""
        self.done = False
        self._round_start = -inf
        self._minimum = self._last_minimum = inf  # currentRoundMinRTT, lastRoundMinRTT
        self._samples = 0
        self._baseline = inf  # cssBaselineMinRtt; finite in conservative slow start
        self._css_rounds = 0

    @property
    def conservative(self) -> bool:
        """Whether slow start grows at a quarter of its pace, to see whether the longer round trips stay."""
        return self._baseline < inf

    def on_rtt(self, sample: float) -> None:
        """A round trip took `sample` seconds. Before the acknowledgement that it came with."""
        self._samples += 1
        self._minimum = min(self._minimum, sample)

    def on_acked(self, sent_at: float, now: float) -> int:
        """The newest packet acknowledged was sent at `sent_at`: by what the growth is to be divided."""
        if self.done:  # a later slow start is a plain one
            return 1
        if self._samples >= N_RTT_SAMPLE:
            if self.conservative:
                if self._minimum < self._baseline:
                    self._baseline = inf
                    self._css_rounds = 0
            elif self._last_minimum < inf:
                threshold = max(MIN_RTT_THRESH, min(self._last_minimum / MIN_RTT_DIVISOR, MAX_RTT_THRESH))
                if self._minimum >= self._last_minimum + threshold:
                    self._baseline = self._minimum
        if sent_at > self._round_start:
            self._next_round(now)
        return CSS_GROWTH_DIVISOR if self.conservative else 1

    def _next_round(self, now: float) -> None:
        if self.conservative:
            self._css_rounds += 1
            self.done = self._css_rounds >= CSS_ROUNDS
        self._round_start = now
        self._last_minimum = self._minimum
        self._minimum = inf
        self._samples = 0
