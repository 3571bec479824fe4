"""The sending half of a delivery: what may go out, what arrived, what is lost, and when to look again (RFC 9002 §6).

One `Recovery` for each path in use. It owns no packet contents: a delivery keeps those under the packet's number.

```
send:      budget(now) -> on_sent or on_sent_run -> deadline, send_at
receive:   on_acked -> (acked, lost) -> send
timer:     on_timeout -> (lost, probe, space) -> send
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .congestion import NEVER, CongestionController
from .loss import PacketSpace
from .pacing import ROUNDING, Pacer
from .rtt import RttEstimator

PERSISTENT_CONGESTION = 3  # probe timeouts, kPersistentCongestionThreshold (RFC 9002 §7.6.1)
PROBES = 2  # datagrams that a probe timeout may send (§6.2.4)
MAX_BACKOFF = 16  # doublings of the probe timeout; an idle timeout ends a connection long before


class Expired(NamedTuple):
    """What a timeout means. `probe`: nothing was heard, send one or two ack-eliciting packets in `space`."""

    lost: list[int]
    probe: bool
    space: int


class Recovery:
    """RTT, loss detection, congestion control and pacing of one path. All sizes in octets, all times in seconds.

    `rtt` is the estimator that `controller` was made with. `spaces`: 1, or 3 for QUIC, the last of which carries
    application data: only its PTO counts `max_ack_delay`, and none runs there before `confirmed`.

    pto_count       probe timeouts since the last acknowledgement
    probes          datagrams that may still leave beyond the window
    blocked         set it while an anti-amplification limit holds everything back: no timer runs (A.8)
    validated       False: the peer may not know our address yet, so the timer runs with nothing in flight (§6.2.2.1)
    confirmed       False: the handshake is not confirmed (RFC 9001 §4.1.2)
    max_ack_delay   seconds by which the peer may delay acknowledgements
    """

    __slots__ = (
        "_at",
        "_last_sent",
        "_spaces",
        "blocked",
        "confirmed",
        "controller",
        "max_ack_delay",
        "pacer",
        "probes",
        "pto_count",
        "rtt",
        "validated",
    )

    def __init__(
        self,
        rtt: RttEstimator,
        controller: CongestionController,
        pacer: Pacer | None = None,
        *,
        max_ack_delay: float = 0.0,
        spaces: int = 1,
    ) -> None:
        if spaces < 1:
            raise ValueError(f"{spaces} packet number spaces; at least 1")
        self.rtt = rtt
        self.controller = controller
        self.pacer = pacer
        self.max_ack_delay = max_ack_delay
        self.pto_count = 0
        self.probes = 0
        self.blocked = False
        self.validated = True
        self.confirmed = spaces == 1
        self._spaces = [PacketSpace() for _ in range(spaces)]
        self._last_sent = NEVER
        self._at = 0.0

    def space(self, index: int = 0) -> PacketSpace:
        """The packets of one number space: `oldest()`, `newest`, `largest_acked`, `len()`."""
        return self._spaces[index]

    # -- sending ------------------------------------------------------------------------------------------------------
    def budget(self, now: float) -> int:
        """Octets that may go out at `now`, in whole packets. Once for each flush.

        After a PTO without sending and with nothing in flight the controller restarts (RFC 5681 §4.1).
        """
        controller = self.controller
        if (
            not controller.in_flight
            and self._last_sent != NEVER
            and now - self._last_sent > self.rtt.probe_timeout(self.max_ack_delay)
        ):
            controller.on_idle(now)
            self._last_sent = NEVER
        room = controller.window - controller.in_flight
        if self.pacer is not None and room > 0:
            tokens = self.pacer.available(controller.pacing_rate, controller.burst, now) + ROUNDING
            if tokens < room:
                room = tokens
        if self.probes and room < controller.datagram_size * self.probes:
            return controller.datagram_size * self.probes
        return int(room) if room > 0 else 0

    def send_at(self, now: float) -> float | None:
        """When the pacer lets the next datagram go. None: it holds nothing back, or the window does."""
        controller = self.controller
        size = controller.datagram_size
        if self.pacer is None or controller.window - controller.in_flight < size:
            return None
        ready = self.pacer.ready_at(size)
        return ready if ready > now else None

    def on_sent(
        self, number: int, size: int, now: float, ack_eliciting: bool = True, in_flight: bool = True, space: int = 0
    ) -> None:
        """Packet `number` goes out. ValueError: its number is not larger than those before it."""
        self._spaces[space].sent(number, size, now, ack_eliciting, in_flight)
        if in_flight:
            self._flies(size, 1, now)

    def on_sent_run(self, first: int, count: int, size: int, now: float, space: int = 0) -> None:
        """`count` ack-eliciting packets of `size` octets each go out together, numbered from `first` on."""
        if count > 0:
            self._spaces[space].sent(first, size, now, count=count)
            self._flies(size * count, count, now)

    def _flies(self, size: int, count: int, now: float) -> None:
        self.controller.on_sent(size, now)
        if self.pacer is not None:
            self.pacer.sent(size)
        self._last_sent = self._at = now
        if self.probes:
            self.probes = self.probes - count if self.probes > count else 0

    # -- acknowledgements ---------------------------------------------------------------------------------------------
    def on_acked(
        self,
        ranges: Sequence[tuple[int, int]],
        now: float,
        ack_delay: float = 0.0,
        sample: int | None = None,
        congested: bool = False,
        space: int = 0,
    ) -> tuple[list[int], list[int]]:
        """The packets of `ranges` (low and high, both included) arrived: those newly so, and those that are lost now.

        `sample` names the packet whose round trip this acknowledgement measures; without it, it is the largest of
        `ranges`. `ack_delay`: seconds the peer says it waited. `congested`: the peer's count of CE marks rose, and is
        valid (`EcnValidation`). Numbers that were never sent or are known already are passed over.
        """
        packets, controller = self._spaces[space], self.controller
        recovery_start = controller.recovery_start
        acked = packets.acknowledge(ranges, recovery_start, sample)
        if packets.late_sent_at is not None:
            packets.wait_longer(now - packets.late_sent_at, self.rtt.loss_delay())
            if packets.undone:
                controller.on_spurious_loss(now)
        if not acked:
            return acked, []
        self._at = now
        left = packets.sample_sent_at
        if left is not None and packets.elicited:
            if self.confirmed and ack_delay > self.max_ack_delay:
                ack_delay = self.max_ack_delay
            rtt = now - left
            self.rtt.update(rtt, now, ack_delay)
            controller.on_rtt(rtt, now)
        self.probes = 0
        sent_at = packets.newest_sent_at
        if congested:
            controller.on_congestion_event(sent_at, now)
            self._forgive_nothing()
        lost = packets.detect_lost(now, self.rtt.loss_delay())
        if lost:
            self._on_lost(packets, lost, now)
        if packets.size:
            unchanged = controller.recovery_start == recovery_start
            controller.on_acked(packets.size, packets.fresh if unchanged else 0, sent_at, now)
        if self.validated:
            self.pto_count = 0
        return acked, lost

    def _on_lost(self, packets: PacketSpace, lost: list[int], now: float) -> None:
        controller = self.controller
        if not packets.lost_size:
            return
        before = controller.recovery_start
        controller.on_lost(packets.lost_size, packets.lost_sent_at, now)
        if controller.recovery_start != before:
            self._forgive_nothing()
            packets.new_episode(lost)
            self.probes = max(self.probes, 1)  # one packet more speeds recovery up (§7.3.2)
        else:
            packets.more_of_episode(lost)
        since = self.rtt.first_sample_at
        if since is None or len(lost) < 2:
            return
        if packets.blackout(lost, since) > self.rtt.probe_timeout(self.max_ack_delay) * PERSISTENT_CONGESTION:
            controller.on_persistent_congestion(now)
            self._forgive_nothing()

    def _forgive_nothing(self) -> None:
        for packets in self._spaces:
            packets.new_episode()

    # -- the timer ----------------------------------------------------------------------------------------------------
    @property
    def deadline(self) -> float | None:
        """When `on_timeout` is due (A.8): the next loss by time, or the probe timeout. None: nothing is awaited."""
        earliest = self._loss_time()
        if earliest is not None:
            return earliest
        return None if self.blocked else self._probe_time()[0]

    def on_timeout(self, now: float) -> Expired:
        """`deadline` has come (A.9); nothing happens when it has not.

        Lost packets are told by number. A probe leaves room for two datagrams whatever the window is: new data, or the
        oldest again (§6.2.4).
        """
        earliest = self._loss_time()
        if earliest is not None:
            return self._lost_by_time(now) if earliest <= now else Expired([], False, 0)
        due, space = self._probe_time()
        if self.blocked or due is None or due > now:
            return Expired([], False, space)
        self._at = now
        self.pto_count = min(self.pto_count + 1, MAX_BACKOFF)
        self.probes = PROBES
        self.controller.on_timeout(now)
        return Expired([], True, space)

    def _lost_by_time(self, now: float) -> Expired:
        for index, packets in enumerate(self._spaces):
            if packets.loss_time is not None and packets.loss_time <= now:
                lost = packets.detect_lost(now, self.rtt.loss_delay())
                if lost:
                    self._on_lost(packets, lost, now)
                    return Expired(lost, False, index)
        return Expired([], False, 0)

    def _loss_time(self) -> float | None:
        earliest: float | None = None
        for packets in self._spaces:
            at = packets.loss_time
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def _probe_time(self) -> tuple[float | None, int]:
        """When the probe timeout is, and where its probes belong (GetPtoTimeAndSpace of A.8)."""
        backoff: int = 1 << self.pto_count
        plain = self.rtt.probe_timeout() * backoff
        last = len(self._spaces) - 1
        earliest: float | None = None
        where = 0
        awaited = False
        for index, packets in enumerate(self._spaces):
            if not packets.eliciting:
                continue
            awaited = True
            if index == last and not self.confirmed:
                break
            due = packets.last_eliciting_at + plain + (self.max_ack_delay * backoff if index == last else 0.0)
            if earliest is None or due < earliest:
                earliest, where = due, index
        if not awaited and not self.validated:
            return self._at + plain, 1 if last and self._spaces[1].newest >= 0 else 0
        return earliest, where

    # -- changes ------------------------------------------------------------------------------------------------------
    def path_changed(self, now: float) -> None:
        """A new path (RFC 9000 §9.4): estimator, controller and pacer start again; packets of the old one count not."""
        self.controller.reset()
        self.rtt.reset()
        if self.pacer is not None:
            self.pacer.reset()
        for packets in self._spaces:
            packets.leave_path()
        self.pto_count = self.probes = 0
        self._at = now
        self._last_sent = NEVER

    def discard(self, space: int) -> None:
        """The keys of `space` are gone (§6.4): its packets are neither acknowledged nor lost any more."""
        self.controller.on_discarded(self._spaces[space].discard())
        self.pto_count = 0
