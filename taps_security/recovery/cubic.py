"""CUBIC (RFC 9438, after draft-ietf-tcpm-rfc8312bis): a window that grows with the cube of the time since a loss.

```
window   W_max ......___                 convex: looks for more
              .   /       --- concave: back to where the loss was, then slowly around it
      0.7 W_max /
               0          K              t since the congestion avoidance stage began
```

Windows are octets; the constants and W_cubic(t) count datagrams, as the specification's segments.
"""

from __future__ import annotations

from .congestion import WindowController
from .rtt import RttEstimator

C = 0.4  # datagrams per second cubed (§5.1)
BETA = 0.7  # multiplicative decrease (§4.6)
ALPHA = 3 * (1 - BETA) / (1 + BETA)  # additive increase that is as fast as Reno's with this decrease (§4.3)
MAX_GROWTH = 1.5  # of the window in one round trip (§4.2)


class Cubic(WindowController):
    """RFC 9438 with its Reno-friendly region (§4.3), fast convergence (§4.7), HyStart++ (§4.10) and undo (§4.9).

    `fast_convergence` SHOULD be False where a flow is alone on its path; nobody can know, so it is on.
    """

    __slots__ = ("_alpha", "_epoch", "_k", "_last_ack", "_undo", "_w_est", "_w_max", "_w_prior", "fast_convergence")

    def __init__(
        self, rtt: RttEstimator, datagram_size: int = 1200, hystart: bool = True, fast_convergence: bool = True
    ) -> None:
        self.fast_convergence = fast_convergence
        super().__init__(rtt, datagram_size, hystart)

    def reset(self) -> None:
        """See `CongestionController`."""
        super().reset()
        self._w_max = 0.0  # octets; W_max, 0 while it is undefined
        self._w_prior = 0.0  # octets; cwnd_prior
        self._w_est = 0.0  # octets; what Reno would have
        self._k = 0.0  # seconds
        self._alpha = ALPHA
        self._epoch: float | None = None  # t_epoch; None: the stage begins with the next growth
        self._last_ack = 0.0
        self._undo: tuple[float, float, float, float, float, float | None, float] | None = None

    def w_cubic(self, elapsed: float) -> float:
        """W_cubic(t) in octets, `elapsed` seconds after the stage began (§4.2)."""
        return self._w_max + C * self.datagram_size * (elapsed - self._k) ** 3

    # -- what happens -------------------------------------------------------------------------------------------------
    def on_idle(self, now: float) -> None:
        """See `CongestionController`. Time that passed idle is no time of CUBIC's (§5.8)."""
        super().on_idle(now)
        self._epoch = None

    def on_persistent_congestion(self, now: float) -> None:
        """See `CongestionController`. The stage after it starts from the window that slow start reaches (§4.8)."""
        super().on_persistent_congestion(now)
        self._epoch = None
        self._w_max = 0.0

    def on_spurious_loss(self, now: float) -> None:
        """See `CongestionController`."""
        if self._undo is None or self.window >= self._w_prior:
            return
        self.window, self._w_prior, self.ssthresh, self._w_max, self._k, self._epoch, self._w_est = self._undo
        self._undo = None

    # -- the algorithm ------------------------------------------------------------------------------------------------
    def _increase(self, fresh: int, now: float) -> None:
        window = self.window
        epoch = self._epoch
        if epoch is None:
            epoch = self._begin(now)
        self._last_ack = now
        elapsed = now - epoch
        size = self.datagram_size
        self._w_est += self._alpha * size * fresh / window
        if self._w_est >= self._w_prior:
            self._alpha = 1.0
        cube = C * size * (elapsed - self._k) ** 3 + self._w_max
        if cube < self._w_est:  # the Reno-friendly region
            if self._w_est > window:
                self.window = self._w_est
            return
        ahead = elapsed + self.rtt.smoothed - self._k
        target = C * size * ahead * ahead * ahead + self._w_max
        if target > window:
            self.window = window + (min(target, MAX_GROWTH * window) - window) * fresh / window

    def _begin(self, now: float) -> float:
        """A congestion avoidance stage begins: its epoch."""
        window = self.window
        if self._w_max > window:
            self._k = ((self._w_max - window) / (C * self.datagram_size)) ** (1 / 3)
        else:
            self._k = 0.0
            self._w_max = window
        self._w_est = window
        self._alpha = ALPHA
        self._epoch = now
        return now

    def _decrease(self, now: float) -> float:
        window = self.window
        self._undo = (window, self._w_prior, self.ssthresh, self._w_max, self._k, self._epoch, self._w_est)
        self._w_prior = window
        shrinking = self.fast_convergence and window < self._w_max
        self._w_max = window * (1 + BETA) / 2 if shrinking else window
        self._epoch = None
        return window * BETA

    def _pause(self, now: float) -> None:
        """t does not count what passes while the application limits the flow (§4.2)."""
        if self._epoch is not None:
            self._epoch += now - self._last_ack
            self._last_ack = now

    def _slow_start_left(self, now: float) -> None:
        """Without a loss W_max is undefined: the stage begins with K = 0 at the window as it is (§4.10)."""
        self._w_prior = self.window
        self._w_max = 0.0
        self._epoch = None
