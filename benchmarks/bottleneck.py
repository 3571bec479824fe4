"""A bottleneck link in virtual time, and greedy senders on it: how congestion controllers behave, without a network.

A packet waits in a queue that drops what does not fit, leaves at the link's rate, may be lost, and arrives half a round
trip later; its acknowledgement takes the other half. Nothing here reads a clock; a seed fixes every run.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from taps_security.recovery import Chicago, CongestionController, Cubic, NewReno, Pacer, Recovery, RttEstimator

PACKET = 1184  # octets: CurveCP's largest client packet, 1,024 of them data
MAX_STEPS = 50_000_000  # more is an endless loop


@dataclass
class Bottleneck:
    """One direction of a path. `rate` in bit/s, `round_trip` in seconds, `queue` in bandwidth-delay products."""

    rate: float = 100e6
    round_trip: float = 0.040
    queue: float = 1.0
    loss: float = 0.0
    reorder: float = 0.0  # of the packets, which arrive a quarter of a round trip late
    seed: int = 1
    dropped: int = 0

    def __post_init__(self) -> None:
        self._octets = self.rate / 8
        self._room = self.queue * self.product
        self._busy_until = 0.0
        self._random = random.Random(self.seed)

    @property
    def product(self) -> float:
        """The bandwidth-delay product in octets."""
        return self.rate / 8 * self.round_trip

    def backlog(self, now: float) -> float:
        """Octets in the queue."""
        return max(0.0, self._busy_until - now) * self._octets

    def carry(self, size: int, now: float) -> float | None:
        """When a packet sent at `now` arrives; None: it does not."""
        if self.backlog(now) + size > self._room + 0.5:  # the packet being sent included
            self.dropped += 1
            return None
        self._busy_until = max(now, self._busy_until) + size / self._octets
        if self.loss and self._random.random() < self.loss:
            self.dropped += 1
            return None
        late = self.round_trip / 4 if self.reorder and self._random.random() < self.reorder else 0.0
        return self._busy_until + self.round_trip / 2 + late


class Sample(NamedTuple):
    """One moment of a flow: seconds, octets, seconds, octets per second since the sample before."""

    at: float
    window: float
    rtt: float
    rate: float


@dataclass(eq=False)
class Flow:
    """A sender that always has data, and a receiver that acknowledges each `ack_every`th packet at once."""

    recovery: Recovery
    link: Bottleneck
    start: float = 0.0
    ack_every: int = 1
    samples: list[Sample] = field(default_factory=list)
    delivered: int = 0  # octets acknowledged
    lost: int = 0  # packets declared lost
    silent: Callable[[float], bool] = lambda now: False  # whether the path is dead just then

    def __post_init__(self) -> None:
        self._number = 0
        self._acks: deque[tuple[float, tuple[tuple[int, int], ...]]] = deque()
        self._held: list[int] = []
        self.next = self.start

    # -- one event ----------------------------------------------------------------------------------------------------
    def step(self, now: float) -> None:
        """All that is due at `now`; then `next` says when more is."""
        recovery = self.recovery
        while self._acks and self._acks[0][0] <= now:
            _, ranges = self._acks.popleft()
            acked, lost = recovery.on_acked(ranges, now)
            self.delivered += len(acked) * PACKET
            self.lost += len(lost)
        deadline = recovery.deadline
        if deadline is not None and deadline <= now:
            self.lost += len(recovery.on_timeout(now).lost)
        count = recovery.budget(now) // PACKET
        if count:
            recovery.on_sent_run(self._number, count, PACKET, now)
            self._transmit(count, now)
        self.next = self._next_event(now)

    def _transmit(self, count: int, now: float) -> None:
        for number in range(self._number, self._number + count):
            arrival = None if self.silent(now) else self.link.carry(PACKET, now)
            if arrival is None:
                continue
            self._held.append(number)
            if len(self._held) >= self.ack_every:
                self._acknowledge(arrival + self.link.round_trip / 2)
        self._number += count

    def _acknowledge(self, at: float) -> None:
        held = tuple((number, number) for number in self._held)
        self._held.clear()
        if self._acks and at < self._acks[-1][0]:
            self._acks.append((at, held))
            self._acks = deque(sorted(self._acks))
        else:
            self._acks.append((at, held))

    def _next_event(self, now: float) -> float:
        times = [self._acks[0][0]] if self._acks else []
        times += [at for at in (self.recovery.send_at(now), self.recovery.deadline) if at is not None]
        return max(min(times, default=inf), now)

    def sample(self, now: float, since: float, delivered: int) -> None:
        """Note how the flow stands."""
        self.samples.append(
            Sample(now, self.recovery.controller.window, self.recovery.rtt.latest, (self.delivered - delivered) / since)
        )


# -- runs -------------------------------------------------------------------------------------------------------------
CONTROLLERS = ("new_reno", "cubic", "chicago")


def controller(name: str, rtt: RttEstimator, seed: int = 1) -> CongestionController:
    """A controller by name, for packets of `PACKET` octets."""
    if name == "new_reno":
        return NewReno(rtt, PACKET)
    if name == "cubic":
        return Cubic(rtt, PACKET)
    return Chicago(rtt, random.Random(seed).randrange, PACKET)


def flow(name: str, link: Bottleneck, start: float = 0.0, ack_every: int = 1, seed: int = 1) -> Flow:
    """A greedy flow under the controller `name`, whose randomness `seed` fixes."""
    rtt = RttEstimator()
    return Flow(Recovery(rtt, controller(name, rtt, seed), Pacer()), link, start, ack_every)


def run(flows: list[Flow], until: float, every: float = 0.05) -> None:
    """Let `flows` run until then (seconds), and sample each flow each `every` seconds."""
    due = every
    before = [0] * len(flows)
    for _ in range(MAX_STEPS):
        first = min(flows, key=_next)
        while first.next > due and due <= until:
            for index, each in enumerate(flows):
                each.sample(due, every, before[index])
                before[index] = each.delivered
            due += every
        if first.next > until:
            return
        first.step(first.next)
    raise RuntimeError(f"no end after {MAX_STEPS} events")


def _next(each: Flow) -> float:
    return each.next


def rate_between(each: Flow, first: float, last: float) -> float:
    """Bit/s acknowledged from second `first` to second `last`."""
    rates = [sample.rate for sample in each.samples if first < sample.at <= last]
    return 8 * sum(rates) / len(rates)


def window_between(each: Flow, first: float, last: float) -> float:
    """The mean window in packets."""
    windows = [sample.window for sample in each.samples if first < sample.at <= last]
    return sum(windows) / len(windows) / PACKET


def jain(rates: list[float]) -> float:
    """Jain's fairness index: 1 if all are equal, 1/n if one has everything."""
    return sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))
