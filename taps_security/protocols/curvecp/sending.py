"""The sending half of a stream: what waits, what is on its way under which number, what is lost.

    append --> waiting --take--> a number's block --acknowledged--> gone
                  ^                      | lost
                  +-------resend---------+

Octets stay where the application has them until a range of the peer's covers them. The end of the stream is a position
of its own behind the last octet. Numbers are those of messages, without end; the wire has 32 bits of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort_left
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ...parts.ranges import Ranges
from ...stack.events import Buffer
from .limits import MAX_PIECES, MAX_POSITION, SEND_WINDOW
from .wire import FAILURE, SUCCESS, Span

SMALL = 4096  # octets: pieces below it are put together
GATHERED = 32 * 1024  # up to about this
SPARE_RUNS = 64  # transmissions that need not be known any more, beside as many as are on their way
IDS = 0xFFFF_FFFF  # message ids run from 1 to this, and then from 1 again


def wire_id(number: int) -> int:
    """The id of message `number`, which is at least 1: 0 is no id."""
    return (number - 1) % IDS + 1


def wire_ids(first: int, count: int) -> Iterable[int]:
    """The ids of so many messages."""
    start = wire_id(first)
    if start + count <= IDS:
        return range(start, start + count)
    return map(wire_id, range(first, first + count))


class Piece(NamedTuple):
    """Blocks that lie side by side and went out with consecutive numbers. All are `block` long but the last."""

    start: int
    stop: int
    first: int  # the number of the block at `start`
    block: int

    def block_of(self, number: int) -> Span:
        """The positions of one of its blocks."""
        start = self.start + (number - self.first) * self.block
        return start, min(start + self.block, self.stop)

    @property
    def last(self) -> int:
        """The number of its last block."""
        return self.first + (self.stop - self.start - 1) // self.block


class SendStream:
    """One direction's stream, as its sender knows it. Positions count octets; the end counts as one."""

    __slots__ = (
        "_ahead",
        "_chunks",
        "_pieces",
        "_resend",
        "_runs",
        "_starts",
        "base",
        "end",
        "final",
        "next",
        "tokens",
    )

    def __init__(self) -> None:
        self.base = 0  # everything before it arrived
        self.next = 0  # the first position that was never sent
        self.final = 0  # behind the last octet so far
        self.end = 0  # SUCCESS or FAILURE once there comes nothing more
        self._chunks: list[memoryview | bytearray] = []  # what is small was gathered in octets of our own
        self._starts: list[int] = []  # their positions
        self._ahead: Ranges | None = None  # what arrived behind `base`
        self._resend: Ranges | None = None
        self._pieces: list[Piece] = []  # the newest transmission of each position on its way, by position
        self._runs: list[Piece] = []  # every transmission whose loss may still be told, by number
        self.tokens: deque[tuple[int, int]] | None = None  # (position that must arrive, token)

    # -- what the application says --------------------------------------------------------------------------------
    def append(self, chunk: Buffer) -> None:
        """Octets for the end of the stream. They must not change until they arrived."""
        size = len(chunk)
        if not size:
            return
        tail = self._chunks[-1] if self._chunks else None
        if size >= SMALL:
            self._chunks.append(memoryview(chunk))
        elif type(tail) is bytearray and len(tail) < GATHERED:
            tail += chunk
            self.final += size
            return
        else:
            self._chunks.append(bytearray(chunk))
        self._starts.append(self.final)
        self.final += size

    def finish(self, end: int = SUCCESS) -> None:
        """Nothing comes behind what was appended."""
        self.end = end

    def drop(self) -> None:
        """Nothing more is sent, not even again."""
        self._chunks, self._starts, self._pieces, self._runs = [], [], [], []
        self._resend = None
        self.base = self.next = self.limit

    # -- questions ------------------------------------------------------------------------------------------------
    @property
    def unsent(self) -> int:
        """Octets that were never sent."""
        return max(0, self.final - self.next)

    @property
    def unarrived(self) -> int:
        """Octets that are not known to have arrived up to them."""
        return max(0, self.final - self.base)

    @property
    def limit(self) -> int:
        """Behind the last position that there is."""
        return self.final + 1 if self.end else self.final

    @property
    def waiting(self) -> bool:
        """Something could be sent now."""
        return self.next < min(self.limit, self.base + SEND_WINDOW) or bool(self._resend)

    @property
    def outstanding(self) -> bool:
        """Something was sent and has not arrived."""
        return self.base < self.next

    @property
    def over(self) -> bool:
        """Everything arrived, and the end too."""
        return bool(self.end) and self.base > self.final

    @property
    def has_room(self) -> bool:
        """The stream is not longer than CurveCP allows."""
        return self.final < MAX_POSITION

    # -- sending --------------------------------------------------------------------------------------------------
    def next_span(self, limit: int) -> Span:
        """What should go next, at most `limit` positions: what is lost first. Nothing: an empty span."""
        if self._resend:
            start, stop = self._resend[0]
            return start, min(stop, start + limit)
        start = self.next
        if start > self.final:
            return start, start
        return start, max(start, min(self.limit, start + limit, self.base + SEND_WINDOW))

    def fresh_blocks(self, block: int) -> int:
        """How many full blocks of new octets could go, one behind the other; 0 while something is lost."""
        return 0 if self._resend else max(0, min(self.final, self.base + SEND_WINDOW) - self.next) // block

    def sent(self, span: Span, number: int, block: int) -> None:
        """The positions of `span` went out in blocks from `number` on."""
        start, stop = span
        piece = Piece(start, stop, number, block)
        self._runs.append(piece)
        if len(self._runs) > 2 * len(self._pieces) + SPARE_RUNS:
            self._forget_runs()
        if start == self.next:
            self.next = stop
            self._pieces.append(piece)
            return
        if self._resend is not None:
            self._resend.remove(start, stop)
            if not self._resend:
                self._resend = None
        self._cut(start, stop)
        insort_left(self._pieces, piece, key=_start)

    def copy(self, start: int, stop: int, view: memoryview, at: int) -> None:
        """Put the octets of [start, stop) into view[at:]."""
        starts, chunks = self._starts, self._chunks
        index = bisect_right(starts, start) - 1
        while start < stop:
            low = start - starts[index]
            part = chunks[index][low : low + stop - start]
            size = len(part)
            view[at : at + size] = part
            at += size
            start += size
            index += 1

    def copy_blocks(self, count: int, block: int, view: memoryview, at: int, stride: int) -> None:
        """The next `count` new blocks, `stride` octets apart."""
        position = self.next
        index = bisect_right(self._starts, position) - 1
        chunk, low = self._chunks[index], position - self._starts[index]
        whole = min(count, (len(chunk) - low) // block)
        for _ in range(whole):
            view[at : at + block] = chunk[low : low + block]
            low += block
            at += stride
        position += whole * block
        for _ in range(count - whole):
            self.copy(position, position + block, view, at)
            position += block
            at += stride

    def _cut(self, start: int, stop: int) -> None:
        """Blocks that lie wholly in [start, stop) are on their way no more, or in another way."""
        pieces = self._pieces
        index = self._piece_at(start)
        while index < len(pieces) and pieces[index].start < stop:
            rest = _without(pieces[index], start, stop)
            pieces[index : index + 1] = rest
            index += len(rest)

    def _forget_runs(self) -> None:
        """Transmissions of which nothing is on its way any more: to lose them would mean nothing."""
        first = sorted(piece.first for piece in self._pieces)
        needed = [run for run in self._runs[:-1] if bisect_right(first, run.last) > bisect_left(first, run.first)]
        self._runs = [*needed, self._runs[-1]]

    def _piece_at(self, position: int) -> int:
        """The index of the last piece that begins at this position or before it, or 0."""
        return max(0, bisect_right(self._pieces, position, key=_start) - 1)

    # -- what the peer says ---------------------------------------------------------------------------------------
    def acknowledge(self, spans: tuple[Span, ...]) -> list[tuple[int, int]] | None:
        """The numbers (low, high) of blocks that `spans` cover and that were not known to have arrived.

        None: the peer speaks of what was never sent, and nothing was believed.
        """
        for _, stop in spans:
            if stop > self.next:
                return None
        numbers: list[tuple[int, int]] = []
        for start, stop in spans:
            if stop <= self.base:
                continue
            if start <= self.base:
                low, high = 0, self._move_base(stop)
            else:
                if self._ahead is None:
                    self._ahead = Ranges()
                elif len(self._ahead) >= MAX_PIECES:
                    continue  # only of single octets there are so many
                low, high = self._ahead.add(start, stop)
            self._arrived(low, high, numbers)
        return numbers

    def _move_base(self, stop: int) -> int:
        """Everything before `stop` arrived: behind what is known already; the new base."""
        ahead = self._ahead
        if ahead:
            start, further = ahead[0]
            while start <= stop:
                ahead.remove(start, further)
                stop = max(stop, further)
                if not ahead:
                    self._ahead = None
                    break
                start, further = ahead[0]
        self.base = stop
        starts, chunks = self._starts, self._chunks
        done = bisect_right(starts, stop) - 1
        if done >= 0 and starts[done] + len(chunks[done]) <= stop:
            done += 1
        if done > 0:
            del chunks[:done]
            del starts[:done]
        runs = self._runs
        old = 0
        while old < len(runs) and runs[old].stop <= stop:
            old += 1
        if old:
            del runs[:old]
        return stop

    def _arrived(self, low: int, high: int, numbers: list[tuple[int, int]]) -> None:
        if self._resend is not None:
            self._resend.remove(low, high)
            if not self._resend:
                self._resend = None
        pieces = self._pieces
        first = self._piece_at(low) if low else 0
        if first < len(pieces) and pieces[first].stop <= low:
            first += 1
        index = first
        kept: list[Piece] = []
        while index < len(pieces) and pieces[index].start < high:
            piece = pieces[index]
            index += 1
            rest = _without(piece, low, high)
            inside = _inside(piece, low, high)
            if inside is not None:
                numbers.append(inside)
            kept += rest
        pieces[first:index] = kept

    def lose(self, numbers: list[int]) -> None:
        """What went out under these numbers, ascending, is to be sent again, as far as it is not known to have arrived.

        What went out again under a newer number is not.
        """
        runs = self._runs
        for low, high in consecutive(numbers):
            index = max(0, bisect_right(runs, low, key=_first) - 1)
            while index < len(runs) and runs[index].first <= high:
                run = runs[index]
                index += 1
                first, last = max(low, run.first), min(high, run.last)
                if first <= last:
                    self._lose_blocks(first, last, run.block_of(first)[0], run.block_of(last)[1])

    def _lose_blocks(self, first: int, last: int, start: int, stop: int) -> None:
        """The blocks in [start, stop) that are on their way under one of these numbers."""
        pieces = self._pieces
        index = self._piece_at(start)
        while index < len(pieces) and pieces[index].start < stop:
            piece = pieces[index]
            low, high = max(first, piece.first), min(last, piece.last)
            if low > high:
                index += 1
                continue
            lost = piece.block_of(low)[0], piece.block_of(high)[1]
            rest = _without(piece, *lost)
            pieces[index : index + 1] = rest
            index += len(rest)
            self._send_again(*lost)

    def _send_again(self, start: int, stop: int) -> None:
        """What is missing of [start, stop)."""
        start = max(start, self.base)
        missing = self._ahead.missing(start, stop) if self._ahead is not None else [(start, stop)]
        for low, high in missing:
            if low < high:
                if self._resend is None:
                    self._resend = Ranges()
                self._resend.add(low, high)

    def first_on_its_way(self) -> Span | None:
        """The first block that may still arrive; None: there is none, or something is lost and goes again anyhow."""
        if not self._pieces or self._resend:
            return None
        piece = self._pieces[0]
        return piece.block_of(piece.first)

    def resend_all(self) -> None:
        """Everything that was sent and did not arrive goes again: the peer said that it came, and never kept it."""
        self._pieces = []
        self._send_again(self.base, self.next)


def _first(piece: Piece) -> int:
    return piece.first


def _start(piece: Piece) -> int:
    return piece.start


def consecutive(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, last) of each run without a gap."""
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[start], numbers[index - 1]
            start = index


def _block_bounds(piece: Piece, low: int, high: int) -> tuple[int, int]:
    """The indices of the first block that begins in [low, high), and behind the last one that ends in it."""
    first = max(0, -(-(low - piece.start) // piece.block))
    if high >= piece.stop:
        return first, piece.last - piece.first + 1
    return first, (high - piece.start) // piece.block


def _inside(piece: Piece, low: int, high: int) -> tuple[int, int] | None:
    """The numbers of the blocks that lie wholly in [low, high)."""
    first, behind = _block_bounds(piece, low, high)
    return (piece.first + first, piece.first + behind - 1) if first < behind else None


def _without(piece: Piece, low: int, high: int) -> list[Piece]:
    """A piece without those blocks."""
    first, behind = _block_bounds(piece, low, high)
    if first >= behind:
        return [piece]
    start, stop, number, block = piece
    rest = []
    if first:
        rest.append(Piece(start, start + first * block, number, block))
    if number + behind <= piece.last:
        rest.append(Piece(start + behind * block, stop, number + behind, block))
    return rest


def failed(end: int) -> bool:
    """Whether the end of a stream is one by failure."""
    return bool(end & FAILURE)
