"""Which packets are out, which arrived, and which are lost (RFC 9002 §6.1): one packet number space.

What stays small: a packet is lost as soon as `packet_threshold` later ones arrived, so below the largest acknowledged
number only so many can be outstanding, and no acknowledgement is searched further back.
Packets that went out at one time share one record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import inf

PACKET_THRESHOLD = 3  # kPacketThreshold (RFC 9002 §6.1.1)
MAX_PACKET_THRESHOLD = 256  # how far late packets raise it
MAX_PATIENCE = 2.0  # how far late packets raise the time threshold, which §6.1.2 lets adapt
REMEMBERED = 256  # lost packets whose late arrival is still noticed
NONE = -1


class SentBatch:
    """What one or more packets have in common: when they left, their size in octets, and whether they count."""

    __slots__ = ("ack_eliciting", "in_flight", "sent_at", "size")

    def __init__(self, sent_at: float, size: int, ack_eliciting: bool, in_flight: bool) -> None:
        self.sent_at = sent_at
        self.size = size
        self.ack_eliciting = ack_eliciting
        self.in_flight = in_flight


class PacketSpace:
    """The packets of one number space: `sent`, `acknowledge`, `detect_lost`, in the order in which they happen.

    newest             the largest number sent, -1 before
    largest_acked      the largest number acknowledged, -1 before
    eliciting          packets outstanding whose acknowledgement is expected
    last_eliciting_at  when the newest of those was sent
    loss_time          when the next packet is lost by time (§6.1.2); None: none will be
    packet_threshold   3, more after packets came late
    patience           1, more after packets came late: by what the time threshold is multiplied

    The last `acknowledge` leaves `size`, `fresh`, `newest_sent_at`, `elicited`, `sample_sent_at`, `late_sent_at` (of a
    lost packet that arrived after all) and `undone` (all of the last loss did); the last `detect_lost` leaves
    `lost_size` and `lost_sent_at`.
    """

    __slots__ = (
        "_batch",
        "_episode",
        "_first",
        "_lost",
        "_out",
        "_path_first",
        "elicited",
        "eliciting",
        "fresh",
        "largest_acked",
        "last_eliciting_at",
        "late_sent_at",
        "loss_time",
        "lost_sent_at",
        "lost_size",
        "newest",
        "newest_sent_at",
        "packet_threshold",
        "patience",
        "sample_sent_at",
        "size",
        "undone",
    )

    def __init__(self) -> None:
        self._out: dict[int, SentBatch] = {}
        self._lost: dict[int, SentBatch] = {}
        self._episode: set[int] = set()  # lost when or since it made the window shrink, and not seen yet
        self._batch = SentBatch(-1.0, 0, False, False)
        self._first = 0  # no number below it is outstanding
        self._path_first = 0  # the first number on this path
        self.newest = NONE
        self.largest_acked = NONE
        self.eliciting = 0
        self.last_eliciting_at = 0.0
        self.loss_time: float | None = None
        self.packet_threshold = PACKET_THRESHOLD
        self.patience = 1.0
        self.size = self.fresh = 0
        self.newest_sent_at = 0.0
        self.elicited = False
        self.sample_sent_at: float | None = None
        self.undone = False
        self.late_sent_at: float | None = None
        self.lost_size = 0
        self.lost_sent_at = 0.0

    def __len__(self) -> int:
        return len(self._out)

    def __contains__(self, number: int) -> bool:
        return number in self._out

    def __iter__(self) -> Iterator[int]:
        return iter(self._out)

    def oldest(self) -> int | None:
        """The smallest number outstanding."""
        self._advance(self.newest)
        return self._first if self._first <= self.newest else None

    # -- sending ------------------------------------------------------------------------------------------------------
    def sent(
        self, number: int, size: int, now: float, ack_eliciting: bool = True, in_flight: bool = True, count: int = 1
    ) -> None:
        """`count` packets from `number` on go out, `size` octets each. ValueError: the number was used."""
        if number <= self.newest:
            raise ValueError(f"packet {number} after packet {self.newest}")
        batch = self._batch
        if (
            batch.sent_at != now
            or batch.size != size
            or batch.ack_eliciting is not ack_eliciting
            or batch.in_flight is not in_flight
        ):
            batch = self._batch = SentBatch(now, size, ack_eliciting, in_flight)
        if count == 1:
            self._out[number] = batch
        else:
            self._out.update(dict.fromkeys(range(number, number + count), batch))
        self.newest = number + count - 1
        if ack_eliciting:
            self.eliciting += count
            self.last_eliciting_at = now

    # -- acknowledgements ---------------------------------------------------------------------------------------------
    def acknowledge(self, ranges: Sequence[tuple[int, int]], since: float, sample: int | None = None) -> list[int]:
        """The numbers that `ranges` (low and high, both included) newly acknowledges, in the order of the ranges.

        `fresh` counts octets of packets sent after `since`; `sample_sent_at` is the sending time of packet `sample`,
        or of the largest number in `ranges`, if that is newly acknowledged.
        """
        out = self._out
        size = fresh = eliciting = 0
        first, newest = self._first, self.newest
        latest = -inf
        acked: list[int] = []
        if sample is None:
            sample = max([high for _, high in ranges], default=NONE)
        sampled = out.get(sample) if sample >= self._path_first else None
        for low, high in ranges:
            for number in range(low if low > first else first, (high if high < newest else newest) + 1):
                batch = out.pop(number, None)
                if batch is None:
                    continue
                acked.append(number)
                eliciting += batch.ack_eliciting
                sent_at = batch.sent_at
                if sent_at > latest:
                    latest = sent_at
                if batch.in_flight:
                    size += batch.size
                    if sent_at > since:
                        fresh += batch.size
        self.undone = False
        self.late_sent_at = None
        self.size, self.fresh, self.newest_sent_at = size, fresh, latest
        self.eliciting -= eliciting
        self.elicited = eliciting > 0
        self.sample_sent_at = None
        if acked:
            if sampled is not None and sample not in out:
                self.sample_sent_at = sampled.sent_at
            largest = max(acked)
            if largest > self.largest_acked:
                self.largest_acked = largest
            self._advance(self.largest_acked)
        if self._lost:
            self._arrived_late(ranges)
        return acked

    def _advance(self, last: int) -> None:
        """Skip what is no longer outstanding, up to `last`. Each number is passed once in its life."""
        first, out = self._first, self._out
        while first <= last and first not in out:
            first += 1
        self._first = first

    def _arrived_late(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Lost packets that were acknowledged raise the threshold, and may explain the whole of the last loss."""
        lost, episode = self._lost, self._episode
        for low, high in ranges:
            numbers: Iterable[int] = range(low, high + 1) if high - low < len(lost) else tuple(lost)
            for number in numbers:
                batch = lost.pop(number, None) if low <= number <= high else None
                if batch is not None:
                    self.late_sent_at = batch.sent_at
                    late = self.largest_acked - number + 1
                    self.packet_threshold = min(max(self.packet_threshold, late), MAX_PACKET_THRESHOLD)
                    if number in episode:
                        episode.discard(number)
                        self.undone = not episode

    def wait_longer(self, delay: float, loss_delay: float) -> None:
        """A lost packet was acknowledged `delay` seconds after it left; `loss_delay` as for `detect_lost`."""
        self.patience = min(max(self.patience, delay / loss_delay), MAX_PATIENCE)

    # -- losses -------------------------------------------------------------------------------------------------------
    def detect_lost(self, now: float, loss_delay: float) -> list[int]:
        """The numbers that are lost now, ascending, and `loss_time` for those that are not yet (§6.1, A.10)."""
        self.loss_time = None
        self.lost_size = 0
        largest = self.largest_acked
        if self._first > largest:
            return []
        out = self._out
        loss_delay *= self.patience
        if self._lost:
            self._forget(now - 4 * loss_delay)
        lost: list[int] = []
        for number in range(self._first, largest + 1):
            batch = out.get(number)
            if batch is None:
                continue
            due = batch.sent_at + loss_delay
            if due > now and largest - number < self.packet_threshold:
                self.loss_time = due  # those behind it left later, and have fewer before them
                break
            lost.append(number)
            self._lose(number, batch)
        if lost:
            self._advance(largest)
        return lost

    def _lose(self, number: int, batch: SentBatch) -> None:
        del self._out[number]
        self._lost[number] = batch
        self.eliciting -= batch.ack_eliciting
        if batch.in_flight:
            self.lost_size += batch.size
            self.lost_sent_at = batch.sent_at

    def _forget(self, before: float) -> None:
        """Lost packets that left `before` or long ago by count: what arrives of them is no news any more."""
        lost = self._lost
        spare = len(lost) - REMEMBERED
        for position, number in enumerate(tuple(lost)):
            if position >= spare and lost[number].sent_at >= before:
                break
            del lost[number]

    def new_episode(self, lost: Iterable[int] = ()) -> None:
        """The window shrank, because of `lost`: once all of those have arrived it shrank for nothing."""
        self._episode = set(lost)

    def more_of_episode(self, lost: Iterable[int]) -> None:
        """`lost` are lost too, and the window had shrunk already. Nothing to wait for if not by a loss."""
        if self._episode:
            self._episode.update(lost)

    def blackout(self, lost: Sequence[int], after: float) -> float:
        """The longest time, in seconds, between two packets of `lost` with nothing acknowledged between (§7.6.2).

        Both expect an acknowledgement and were sent later than `after`. `lost` as `detect_lost` returned it.
        """
        longest = 0.0
        start: float | None = None
        previous = NONE
        known = self._lost
        for number in lost:
            batch = known.get(number)
            if batch is None or batch.sent_at <= after:
                continue
            if number != previous + 1 and any(between not in known for between in range(previous + 1, number)):
                start = None
            previous = number
            if not batch.ack_eliciting:
                continue
            if start is None:
                start = batch.sent_at
            elif batch.sent_at - start > longest:
                longest = batch.sent_at - start
        return longest

    # -- ends ---------------------------------------------------------------------------------------------------------
    def leave_path(self) -> None:
        """A new path: what is outstanding can still be acknowledged or lost, and counts for nothing."""
        for batch in self._out.values():
            batch.in_flight = False
        self._path_first = self.newest + 1
        self._lost.clear()
        self._episode.clear()
        self._batch = SentBatch(-1.0, 0, False, False)

    def discard(self) -> int:
        """The keys are gone (§6.4): nothing is outstanding. Octets that were in flight."""
        size = sum(batch.size for batch in self._out.values() if batch.in_flight)
        self._out.clear()
        self._lost.clear()
        self._episode.clear()
        self._first = self.newest + 1
        self.eliciting = 0
        self.loss_time = None
        return size
