"""The round-trip time: RFC 9002 §5 where each transmission has a number, RFC 6298 where messages are repeated."""

from __future__ import annotations

GRANULARITY = 0.001  # seconds, kGranularity (RFC 9002 §6.1.2): no timer of a loop is finer
INITIAL_RTT = 0.333  # seconds, kInitialRtt (RFC 9002 §6.2.2)


class RttEstimator:
    """`latest`, `minimum`, `smoothed` and `variation`, in seconds (RFC 9002 §5.3, A.7).

    `first_sample_at` is None while the values are guesses from `initial`.
    """

    __slots__ = ("first_sample_at", "initial", "latest", "minimum", "smoothed", "variation")

    def __init__(self, initial: float = INITIAL_RTT) -> None:
        if initial <= 0:
            raise ValueError(f"an initial round-trip time of {initial} s; it is more than 0")
        self.initial = initial
        self.reset()

    def reset(self) -> None:
        """No sample yet: at the start, and on a new path (RFC 9000 §9.4)."""
        self.latest = 0.0
        self.minimum = 0.0
        self.smoothed = self.initial
        self.variation = self.initial / 2
        self.first_sample_at: float | None = None

    @property
    def sampled(self) -> bool:
        """Whether there was a sample."""
        return self.first_sample_at is not None

    def update(self, sample: float, now: float, ack_delay: float = 0.0) -> None:
        """A round trip took `sample` seconds, `ack_delay` of them, as the peer says, before it acknowledged.

        A caller that knows the peer's max_ack_delay has limited `ack_delay` to it (§5.3).
        """
        if sample < 0:
            return  # a clock that went back says nothing
        self.latest = sample
        if self.first_sample_at is None:
            self.first_sample_at = now
            self.minimum = self.smoothed = sample
            self.variation = sample / 2
            return
        if sample < self.minimum:
            self.minimum = sample
        if sample >= self.minimum + ack_delay:
            sample -= ack_delay
        error = self.smoothed - sample
        self.variation += (abs(error) - self.variation) * 0.25
        self.smoothed -= error * 0.125

    def probe_timeout(self, max_ack_delay: float = 0.0) -> float:
        """PTO without its backoff: smoothed_rtt + max(4 * rttvar, kGranularity) + max_ack_delay (§6.2.1)."""
        spread = 4 * self.variation
        return self.smoothed + (spread if spread > GRANULARITY else GRANULARITY) + max_ack_delay

    def loss_delay(self) -> float:
        """How long after its sending a packet is lost, once a later one was acknowledged (§6.1.2)."""
        delay = 1.125 * (self.latest if self.latest > self.smoothed else self.smoothed)
        return delay if delay > GRANULARITY else GRANULARITY


class RetransmissionTimeout:
    """RFC 6298's RTO: `rto` seconds from the sending of a message to its repetition, doubled by each `back_off`.

    `granularity` is the clock's (§4), `minimum` and `maximum` bound `rto` (§2.4, §2.5).
    """

    __slots__ = ("granularity", "maximum", "minimum", "rto", "smoothed", "variation")

    def __init__(
        self, initial: float = 1.0, minimum: float = 1.0, maximum: float = 60.0, granularity: float = GRANULARITY
    ) -> None:
        self.smoothed: float | None = None
        self.variation = 0.0
        self.rto = initial
        self.minimum = minimum
        self.maximum = maximum
        self.granularity = granularity

    def sample(self, rtt: float, retransmitted: bool = False) -> None:
        """An answer came after `rtt` seconds. Karn (§3): if it was `retransmitted`, nobody knows to which copy."""
        if retransmitted or rtt < 0:
            return
        if self.smoothed is None:
            self.smoothed = rtt
            self.variation = rtt / 2
        else:
            self.variation = 0.75 * self.variation + 0.25 * abs(self.smoothed - rtt)
            self.smoothed = 0.875 * self.smoothed + 0.125 * rtt
        self.rto = self._bounded(self.smoothed + max(self.granularity, 4 * self.variation))

    def back_off(self) -> None:
        """The timer expired (§5.5). The next sample brings `rto` down again."""
        self.rto = self._bounded(2 * self.rto)

    def handshake_timed_out(self) -> None:
        """The first message was repeated under an RTO below 3 s: data starts with 3 s (§5.7)."""
        self.rto = max(self.rto, 3.0)

    def _bounded(self, rto: float) -> float:
        return min(max(rto, self.minimum), self.maximum)
