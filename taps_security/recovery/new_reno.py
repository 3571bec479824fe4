"""NewReno as RFC 9002 §7 has it: half the window on congestion, a datagram more in each round trip without."""

from __future__ import annotations

from .congestion import WindowController
from .rtt import RttEstimator

LOSS_REDUCTION = 0.5  # kLossReductionFactor (RFC 9002 B.1)


class NewReno(WindowController):
    """RFC 9002 §7 and appendix B. `rtt` is the sender's estimator; `datagram_size` in octets."""

    __slots__ = ("_undo",)

    def __init__(self, rtt: RttEstimator, datagram_size: int = 1200, hystart: bool = False) -> None:
        super().__init__(rtt, datagram_size, hystart)
        self._undo = (0.0, 0.0)  # window and ssthresh before the last reduction

    def on_spurious_loss(self, now: float) -> None:
        """See `CongestionController`."""
        window, ssthresh = self._undo
        if self.window < window:
            self.window, self.ssthresh = window, ssthresh

    def _increase(self, fresh: int, now: float) -> None:
        self.window += self.datagram_size * fresh / self.window

    def _decrease(self, now: float) -> float:
        self._undo = (self.window, self.ssthresh)
        return self.window * LOSS_REDUCTION
