"""How much may be in flight, and how fast it goes out: the interface of congestion controllers.

Three implementations: `NewReno`, `Cubic` (both windows, made of `WindowController`) and `Chicago` (a rate).
Whoever calls a controller never asks which one it has. May live here: what controllers have in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf
from typing import Protocol

from .hystart import HyStart
from .rtt import RttEstimator

INITIAL_PACKETS = 10  # RFC 9002 §7.2
INITIAL_OCTETS = 14_720  # ibid.: the limit of those ten, unless two datagrams are more
MINIMUM_PACKETS = 2  # kMinimumWindow (RFC 9002 §7.2)
SLOW_START_GAIN = 2.0  # the window doubles in a round trip, and so must the rate
PACING_GAIN = 1.25  # N of RFC 9002 §7.7: a window is out before its first acknowledgement is in
NEVER = -inf


class CongestionController(Protocol):
    """What a sender tells a controller, and what it reads there. Sizes in octets, times in monotonic seconds.

    window          octets that may be in flight
    ssthresh        slow start below it; infinite while there was no congestion
    in_flight       octets sent and neither acknowledged, lost nor discarded
    recovery_start  packets sent at or before it were under way when the window last shrank (RFC 9002 §7.3.2)
    app_limited     set by the sender whenever it stops: True if it had nothing to send, or the peer takes no more,
                    False if the window or the pacer stopped it. While True no window grows (RFC 9002 §7.8)
    burst           octets that may leave back to back
    datagram_size   octets of the largest datagram, the unit of windows
    """

    window: float
    ssthresh: float
    in_flight: int
    recovery_start: float
    app_limited: bool
    burst: int
    datagram_size: int

    @property
    def pacing_rate(self) -> float:
        """Octets per second."""

    def on_rtt(self, sample: float, now: float) -> None:
        """A round trip took `sample` seconds; the estimator that the controller shares knows it already."""

    def on_sent(self, size: int, now: float) -> None:
        """`size` octets go out; those of probes too, beyond the window (RFC 9002 §7.5)."""

    def on_acked(self, size: int, fresh: int, sent_at: float, now: float) -> None:
        """`size` octets arrived, `fresh` of them sent after `recovery_start`; the newest packet left at `sent_at`."""

    def on_lost(self, size: int, sent_at: float, now: float) -> None:
        """`size` octets are lost; the newest packet of them left at `sent_at`."""

    def on_congestion_event(self, sent_at: float, now: float) -> None:
        """The peer saw new CE marks; the newest packet it acknowledged left at `sent_at` (RFC 9002 §7.1)."""

    def on_persistent_congestion(self, now: float) -> None:
        """Everything sent for three PTOs was lost (RFC 9002 §7.6). `on_lost` came first."""

    def on_timeout(self, now: float) -> None:
        """A probe timeout: nothing was heard for a PTO. Not a sign of loss to RFC 9002 (§6.2)."""

    def on_idle(self, now: float) -> None:
        """Nothing was sent for a PTO and nothing is in flight: before sending again (RFC 5681 §4.1)."""

    def on_spurious_loss(self, now: float) -> None:
        """All that was lost since the window last shrank arrived after all (RFC 9438 §4.9)."""

    def on_discarded(self, size: int) -> None:
        """`size` octets are no longer in flight, which says nothing about the path (RFC 9002 §6.4)."""

    def reset(self) -> None:
        """A new path: nothing is known and nothing counts as in flight (RFC 9000 §9.4)."""


def initial_window(datagram_size: int) -> int:
    """Octets (RFC 9002 §7.2)."""
    return min(INITIAL_PACKETS * datagram_size, max(INITIAL_OCTETS, 2 * datagram_size))


class WindowController(ABC):
    """A window: slow start, recovery periods, idle restart; `_increase` and `_decrease` are the algorithm's own.

    The window is kept through an application limited period, as RFC 9002 §7.8 allows and RFC 7661 discusses; only an
    idle one takes it back to its initial size.
    """

    __slots__ = (
        "_hystart",
        "app_limited",
        "burst",
        "datagram_size",
        "in_flight",
        "recovery_start",
        "rtt",
        "ssthresh",
        "window",
    )

    def __init__(self, rtt: RttEstimator, datagram_size: int = 1200, hystart: bool = False) -> None:
        if datagram_size < 1:
            raise ValueError(f"datagrams of {datagram_size} octets; at least 1")
        self.rtt = rtt
        self.datagram_size = datagram_size
        self._hystart: HyStart | None = HyStart() if hystart else None
        self.reset()

    def reset(self) -> None:
        """A new path: nothing is known and nothing counts as in flight (RFC 9000 §9.4)."""
        self.burst = initial_window(self.datagram_size)
        self.window: float = self.burst
        self.ssthresh = inf
        self.in_flight = 0
        self.recovery_start = NEVER
        self.app_limited = False
        if self._hystart is not None:
            self._hystart.reset()

    @property
    def minimum_window(self) -> int:
        """Octets (RFC 9002 §7.2)."""
        return MINIMUM_PACKETS * self.datagram_size

    @property
    def pacing_rate(self) -> float:
        """Octets per second: a little more than a window in each round trip (RFC 9002 §7.7)."""
        gain = SLOW_START_GAIN if self.window < self.ssthresh else PACING_GAIN
        return gain * self.window / (self.rtt.smoothed or 1e-6)

    # -- what happens -------------------------------------------------------------------------------------------------
    def on_rtt(self, sample: float, now: float) -> None:
        """See `CongestionController`."""
        if self._hystart is not None and self.window < self.ssthresh:
            self._hystart.on_rtt(sample)

    def on_sent(self, size: int, now: float) -> None:
        """See `CongestionController`."""
        self.in_flight += size

    def on_acked(self, size: int, fresh: int, sent_at: float, now: float) -> None:
        """See `CongestionController`."""
        self.in_flight -= size
        if self.app_limited:
            self._pause(now)
        elif not fresh:
            return
        elif self.window >= self.ssthresh:
            self._increase(fresh, now)
        elif self._hystart is None:
            self.window += fresh
        else:
            self.window += fresh / self._hystart.on_acked(sent_at, now)
            if self._hystart.done:
                self.ssthresh = self.window
                self._slow_start_left(now)

    def on_lost(self, size: int, sent_at: float, now: float) -> None:
        """See `CongestionController`."""
        self.in_flight -= size
        self._shrink(sent_at, now, self.minimum_window)

    def on_congestion_event(self, sent_at: float, now: float) -> None:
        """See `CongestionController`."""
        self._shrink(sent_at, now, self.minimum_window)

    def on_persistent_congestion(self, now: float) -> None:
        """See `CongestionController`."""
        self.window = self.minimum_window
        self.recovery_start = NEVER

    def on_timeout(self, now: float) -> None:  # noqa: B027
        """See `CongestionController`: a probe says nothing yet."""

    def on_idle(self, now: float) -> None:
        """See `CongestionController`."""
        self.window = min(self.window, initial_window(self.datagram_size))

    def on_spurious_loss(self, now: float) -> None:  # noqa: B027
        """See `CongestionController`."""

    def on_discarded(self, size: int) -> None:
        """See `CongestionController`."""
        self.in_flight -= size

    # -- of the algorithm ---------------------------------------------------------------------------------------------
    def _shrink(self, sent_at: float, now: float, least: int) -> None:
        """A sign of congestion: once in each recovery period (RFC 9002 §7.3.2, B.6)."""
        if sent_at <= self.recovery_start:
            return
        self.recovery_start = now
        self.ssthresh = self._decrease(now)
        self.window = max(self.ssthresh, least)
        if self._hystart is not None:
            self._hystart.done = True

    @abstractmethod
    def _increase(self, fresh: int, now: float) -> None:
        """Congestion avoidance: `fresh` octets arrived."""

    @abstractmethod
    def _decrease(self, now: float) -> float:
        """The slow start threshold after congestion; called while `window` is what it was."""

    def _pause(self, now: float) -> None:  # noqa: B027
        """An acknowledgement came while the application limited the flow."""

    def _slow_start_left(self, now: float) -> None:  # noqa: B027
        """Slow start ended without a loss."""
