"""One direction of a path between two hosts: delay, rate, queue, and all that can go wrong."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..transport.network import Address

CE = 3  # congestion experienced (RFC 3168 §5)
ECT = (1, 2)
UNLIMITED = math.inf


def nanoseconds(time: float) -> float:
    """The float nearest to a whole number of nanoseconds, so that 0.1 + 0.2 is 0.3."""
    return round(time, 9)


class Packet(NamedTuple):
    """What travels. `kind`: SYN, SYN-ACK, ACK, DATA, FIN, RST, UDP or ICMP. Addresses as they stand in the header."""

    kind: str
    source: Address
    destination: Address
    data: bytes = b""
    ecn: int = 0


class Copy(NamedTuple):
    """One copy of a packet on its way: when it arrives, and which bit was flipped (-1: none)."""

    arrival: float
    flipped: int = -1


class Passage(NamedTuple):
    """What a link made of a packet. No copies: `lost` says why ("loss", "queue", "filter", "too big")."""

    copies: tuple[Copy, ...]
    departure: float
    ecn: int = 0
    lost: str = ""


@dataclass
class Link:
    """Conditions from one host to another. They may be changed while the simulation runs.

    With a rate, packets leave one after the other; the queue holds what was accepted and has not left yet, the packet
    being sent included. An empty queue takes any packet; what does not fit is dropped (of streams: waits at the
    sender). A lost packet has used its share of the rate.
    """

    delay: float = 0.0  # seconds from the last bit out to the last bit in
    rate: float = UNLIMITED  # bit/s, counting payload and `overhead`
    overhead: int = 0  # octets of headers per packet that use the rate
    queue: float = UNLIMITED  # octets
    queue_packets: float = UNLIMITED
    loss: float = 0.0  # probability, as the next three
    duplicate: float = 0.0
    corrupt: float = 0.0  # one bit flips; stream segments are dropped then, as by TCP's checksum
    reorder: float = 0.0  # held back by `reorder_delay`, so that later packets overtake it
    reorder_delay: float = 0.01  # seconds
    mtu: int = 1500  # octets with IP and transport headers; more is refused at the sender (EMSGSIZE)
    hidden_mtu: int | None = None  # a narrower place on the way: more disappears there, without a word
    ecn_threshold: float = UNLIMITED  # octets in the queue above which ECN-capable datagrams are marked CE
    filter: Callable[[Packet], bool] | None = None  # False: this packet is lost

    dropped: int = field(default=0, init=False)  # packets, for any reason
    marked: int = field(default=0, init=False)
    _waiting: deque[tuple[float, int]] = field(default_factory=deque, init=False, repr=False)  # (departure, octets)
    _backlog: int = field(default=0, init=False, repr=False)
    _busy_since: float = field(default=0.0, init=False, repr=False)
    _busy_bits: float = field(default=0.0, init=False, repr=False)
    _busy_rate: float = field(default=UNLIMITED, init=False, repr=False)
    _busy_until: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "corrupt", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability from 0 to 1, not {getattr(self, name)}")
        for name in ("delay", "reorder_delay", "overhead"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} cannot be negative: {getattr(self, name)}")
        if self.rate <= 0:
            raise ValueError(f"rate is in bit/s and above 0, not {self.rate}: use partition() to stop everything")

    def copy(self) -> Link:
        """The same conditions, with nothing on the way."""
        return replace(self)

    # -- the queue ------------------------------------------------------------------------------------------------
    def _leave(self, now: float) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._backlog -= waiting.popleft()[1]

    def backlog(self, now: float) -> int:
        """Octets accepted that have not left yet."""
        self._leave(now)
        return self._backlog

    def _fits(self, octets: int, backlog: int, packets: int) -> bool:
        return not packets or (backlog + octets <= self.queue and packets < self.queue_packets)

    def room_at(self, payload: int, now: float) -> float:
        """When a packet of that size will find room in the queue; `now` if it does already."""
        self._leave(now)
        octets = payload + self.overhead
        backlog, packets = self._backlog, len(self._waiting)
        when = now
        for departure, size in self._waiting:
            if self._fits(octets, backlog, packets):
                break
            when, backlog, packets = departure, backlog - size, packets - 1
        return when

    def _depart(self, octets: int, now: float) -> float:
        """When the last bit leaves. Counted in bits since the link was idle, so that no rounding adds up."""
        if self.rate == UNLIMITED:
            return now
        if now >= self._busy_until or self._busy_rate != self.rate:
            self._busy_since, self._busy_bits, self._busy_rate = max(now, self._busy_until), 0, self.rate
        self._busy_bits += 8 * octets
        self._busy_until = nanoseconds(self._busy_since + self._busy_bits / self.rate)
        self._waiting.append((self._busy_until, octets))
        self._backlog += octets
        return self._busy_until

    # -- a packet -------------------------------------------------------------------------------------------------
    def carry(self, packet: Packet, headers: int, now: float, chance: random.Random) -> Passage:
        """Send one packet. `headers`: octets of IP and transport headers, for the MTU alone."""
        if self.filter is not None and not self.filter(packet):
            return self._lost(now, "filter")
        octets = len(packet.data) + self.overhead
        self._leave(now)
        if not self._fits(octets, self._backlog, len(self._waiting)):
            return self._lost(now, "queue")
        ecn = packet.ecn
        if ecn in ECT and self._backlog > self.ecn_threshold:
            ecn = CE
            self.marked += 1
        departure = self._depart(octets, now)
        if self.hidden_mtu is not None and len(packet.data) + headers > self.hidden_mtu:
            return self._lost(departure, "too big")
        if self.loss and chance.random() < self.loss:
            return self._lost(departure, "loss")
        copies = [self._copy(packet, departure, chance)]
        if self.duplicate and chance.random() < self.duplicate:
            copies.append(self._copy(packet, departure, chance))
        return Passage(tuple(copies), departure, ecn)

    def _copy(self, packet: Packet, departure: float, chance: random.Random) -> Copy:
        flipped = -1
        if self.corrupt and packet.data and chance.random() < self.corrupt:
            flipped = chance.randrange(8 * len(packet.data))
        delay = self.delay
        if self.reorder and chance.random() < self.reorder:
            delay += self.reorder_delay
        return Copy(nanoseconds(departure + delay), flipped)

    def _lost(self, departure: float, why: str) -> Passage:
        self.dropped += 1
        return Passage((), departure, 0, why)
