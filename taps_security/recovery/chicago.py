"""Chicago, CurveCP's congestion control (constants and steps of the reference implementation; times there are ns).

A rate and no window: at most one block goes out in each `nsecperblock`. The rate doubles while round trips stay short;
a queue that builds up and drains again (phases) shows where the bottleneck is; a lost block halves the rate once in
four timeouts. Where it meets the one interface:
- `pacing_rate` is block_size / nsecperblock, `burst` one block. It never goes below 32.8 us a block (250 Mbit/s of
  blocks of 1,024 octets): the rate is not doubled below 65,536 ns, nor raised below 131,072 ns.
- `window` is what that rate sends in one timeout: the reference sends a block again after it, and counts no flight.
  At least the 128 blocks that the reference may have outstanding.
- a loss found by acknowledgements is the timeout of a block: the reference has no other sign. A probe timeout is one
  if the newest block is as old as that.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from .congestion import NEVER
from .rtt import RttEstimator

SECOND = 1_000_000_000  # ns
START = SECOND  # ns per block before the first round trip, and after ten idle seconds
OUTSTANDING = 128  # blocks
DOUBLING_LIMIT = 65_535  # ns per block: not doubled at or below
INCREASE_LIMIT = 131_072  # ns per block: no additive increase below
CUBE_LIMIT = 16_777_216  # ns per block: below it N - cN^3 stands for N / (1 + cN^2)
INCREASE = 2_251_799_813_685_248.0  # 1 / c = 2^51
QUEUE = 5_000_000  # ns above the high water mark: a queue stands
ADJUSTMENT = 16  # blocks between two adjustments
IDLE = 10 * SECOND
CALM = 60 * SECOND  # after an edge the rate doubles seldom


class Chicago:
    """Chicago for blocks of `block_size` octets. `randomness(n)` gives an integer of 0 to n - 1.

    Every round trip that the sender measures must come in by `on_rtt`. All state is in ns, as in the reference.
    """

    __slots__ = (
        "_average",
        "_deviation",
        "_high",
        "_last_adjustment",
        "_last_doubling",
        "_last_edge",
        "_last_panic",
        "_last_sent",
        "_low",
        "_older_high",
        "_older_low",
        "_phase",
        "_randomness",
        "_recent_high",
        "_recent_low",
        "app_limited",
        "burst",
        "datagram_size",
        "in_flight",
        "ns_per_block",
        "recovery_start",
        "rtt",
        "ssthresh",
        "timeout",
        "window",
    )

    def __init__(self, rtt: RttEstimator, randomness: Callable[[int], int], block_size: int = 1024) -> None:
        if block_size < 1:
            raise ValueError(f"blocks of {block_size} octets; at least 1")
        self.rtt = rtt
        self.datagram_size = block_size
        self.burst = block_size
        self._randomness = randomness
        self.ssthresh = inf
        self.recovery_start = NEVER
        self.app_limited = False
        self.reset()

    def reset(self) -> None:
        """See `CongestionController`."""
        self.in_flight = 0
        self.ns_per_block: float = START
        self.timeout: float = SECOND  # ns, rtt_timeout
        self._average = self._deviation = 0.0
        self._high = self._low = 0.0
        self._recent_high = self._recent_low = self._older_high = self._older_low = False
        self._phase = 0  # 1: after a queue was seen, until it has drained
        self._last_adjustment = self._last_doubling = self._last_edge = self._last_panic = self._last_sent = NEVER
        self._set_window()

    @property
    def pacing_rate(self) -> float:
        """Octets per second: one block in `ns_per_block`."""
        return self.datagram_size * SECOND / self.ns_per_block

    # -- what happens -------------------------------------------------------------------------------------------------
    def on_rtt(self, sample: float, now: float) -> None:
        """See `CongestionController`: an acknowledgement named the block's last message."""
        at = now * SECOND
        if self._last_adjustment == NEVER:
            self._last_adjustment = at - sample * SECOND
        self._measure(sample * SECOND)
        if at >= self._last_adjustment + ADJUSTMENT * self.ns_per_block:
            self._adjust(at)
        self._double(at)
        self._set_window()

    def on_sent(self, size: int, now: float) -> None:
        """See `CongestionController`."""
        self.in_flight += size
        self._last_sent = now * SECOND

    def on_acked(self, size: int, fresh: int, sent_at: float, now: float) -> None:
        """See `CongestionController`: what arrived says nothing, only when."""
        self.in_flight -= size

    def on_lost(self, size: int, sent_at: float, now: float) -> None:
        """See `CongestionController`: a block would time out."""
        self.in_flight -= size
        self._panic(now * SECOND)

    def on_congestion_event(self, sent_at: float, now: float) -> None:
        """See `CongestionController`: a mark is a loss that cost nothing."""
        self._panic(now * SECOND)

    def on_persistent_congestion(self, now: float) -> None:
        """See `CongestionController`: its losses have come one by one."""

    def on_timeout(self, now: float) -> None:
        """See `CongestionController`: a probe may come before a block times out, eight blocks later."""
        at = now * SECOND
        if at >= self._last_sent + self.timeout:
            self._panic(at)

    def _panic(self, at: float) -> None:
        """A block timed out: half the rate, once in four timeouts."""
        if at > self._last_panic + 4 * self.timeout:
            self.ns_per_block *= 2
            self._last_panic = self._last_edge = at
            self._set_window()

    def on_idle(self, now: float) -> None:
        """See `CongestionController`: an adjustment after ten seconds without one starts slowly by itself."""

    def on_spurious_loss(self, now: float) -> None:
        """See `CongestionController`: Chicago takes nothing back."""

    def on_discarded(self, size: int) -> None:
        """See `CongestionController`."""
        self.in_flight -= size

    # -- the algorithm ------------------------------------------------------------------------------------------------
    def _measure(self, rtt: float) -> None:
        """Jacobson's timeout, and the water marks of the round trip. `rtt` in ns."""
        rtt = max(rtt, 1.0)  # the clock's step may be longer than the round trip
        if not self._average:
            self.ns_per_block = self._average = self._high = self._low = rtt
            self._deviation = rtt / 2
        error = rtt - self._average
        self._average += error / 8
        self._deviation += (abs(error) - self._deviation) / 4
        self.timeout = self._average + 4 * self._deviation + 8 * self.ns_per_block
        self._high += (rtt - self._high) / 1024
        above = rtt - self._low
        self._low += above / 8192 if above > 0 else above / 256
        if self._average > self._high + QUEUE:
            self._recent_high = True
        elif self._average < self._low:
            self._recent_low = True

    def _adjust(self, at: float) -> None:
        """Every sixteen blocks: the additive increase, and the phase."""
        per_block = self.ns_per_block
        if at - self._last_adjustment > IDLE:
            per_block = START + self._randomness(START // 8)
        self._last_adjustment = at
        if per_block >= INCREASE_LIMIT:
            if per_block < CUBE_LIMIT:
                per_block -= (per_block // INCREASE_LIMIT) ** 3  # whole steps, as the reference counts
            else:
                per_block /= 1 + per_block * per_block / INCREASE
        if self._phase == 0:
            if self._older_high:
                self._phase = 1
                self._last_edge = at
                per_block += self._randomness(int(per_block / 4) or 1)
        elif self._older_low:
            self._phase = 0
        self.ns_per_block = per_block
        self._older_high, self._older_low = self._recent_high, self._recent_low
        self._recent_high = self._recent_low = False

    def _double(self, at: float) -> None:
        """Twice the rate, soon while there was no edge, seldom after one."""
        calm = 64 * self.timeout + 5 * SECOND if at - self._last_edge < CALM else 2 * self.timeout
        if at < self._last_doubling + 4 * self.ns_per_block + calm or self.ns_per_block <= DOUBLING_LIMIT:
            return
        self.ns_per_block /= 2
        self._last_doubling = at
        if self._last_edge != NEVER:
            self._last_edge = at

    def _set_window(self) -> None:
        blocks = self.timeout / self.ns_per_block
        self.window: float = self.datagram_size * (blocks if blocks > OUTSTANDING else OUTSTANDING)
