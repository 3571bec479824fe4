"""The receiving half of a stream: blocks in any order become octets in order, and ranges to acknowledge.

    block --in order--> chunks          --ahead--> pieces, until the gap is filled
                                        --behind the window, or too many pieces--> dropped, and not acknowledged

What was acknowledged once stays so. Flow control is that: what does not fit is dropped, and the peer sends it again.
"""

from __future__ import annotations

from ...parts.ranges import Ranges
from ...stack.events import Buffer
from .limits import ACK_RANGES, MAX_PIECES, MAX_POSITION, RECEIVE_WINDOW, UNREAD
from .wire import FAILURE, NO_RANGES, Span, encode_ranges

_MOST = 0xFFFF  # of a range behind the first, and of a gap behind the second
_BEHIND = ACK_RANGES - 1


class ReceiveStream:
    """One direction's stream, as its receiver knows it. What fits, `limits.RECEIVE_WINDOW` and `UNREAD` say."""

    __slots__ = ("_ahead", "_consumed", "_news", "_pieces", "end", "next", "refused", "total")

    def __init__(self) -> None:
        self.next = 0  # everything before it was delivered
        self.total: int | None = None  # where the stream ends, once that is known
        self.end = 0  # SUCCESS or FAILURE, with `total`
        self.refused = False  # something did not fit
        self._consumed = 0  # what the application took
        self._ahead: Ranges | None = None
        self._pieces: dict[int, bytes] | None = None  # by position; no two overlap
        self._news: Ranges | None = None  # of `_ahead`: not acknowledged yet

    @property
    def over(self) -> bool:
        """Everything was delivered, up to the end."""
        return self.next == self.total

    @property
    def gaps(self) -> bool:
        """Something is missing in front of what came."""
        return self._ahead is not None

    @property
    def failed(self) -> bool:
        """The peer ended its stream with a failure."""
        return bool(self.end & FAILURE)

    @property
    def unread(self) -> int:
        """Octets that the application has not taken."""
        return self.next - self._consumed

    def consumed(self, octets: int) -> bool:
        """The application took so many octets. Whether the peer should be told that there is room again."""
        self._consumed += octets
        if not self.refused or self.unread > UNREAD // 2:
            return False
        self.refused = False
        return True

    def take(self, position: int, data: memoryview, end: int, chunks: list[Buffer]) -> bool:
        """A block. Octets that are in order now go behind `chunks`. False: it was dropped, and is not acknowledged."""
        stop = position + len(data)
        if position == self.next and not (end or self.end or self._pieces) and position - self._consumed < UNREAD:
            self.next = stop  # nearly always
            chunks.append(data)
            return True
        if end and not self._ends_at(stop, end):
            return False
        if self.end & FAILURE:
            return True
        if self.total is not None and stop > self.total:
            return False
        if stop > self.next + RECEIVE_WINDOW or (stop > self.next and self.unread >= UNREAD):
            self.refused = True
            return False
        if position <= self.next:
            if stop > self.next:
                chunks.append(data[self.next - position :] if position < self.next else data)
                self.next = stop
                if self._pieces is not None:
                    self._fill(chunks)
            return True
        return not data or self._keep(position, stop, data)

    def _ends_at(self, stop: int, end: int) -> bool:
        """The stream ends there. A second end must be the same one, and nothing lies behind it.

        A failure counts wherever it stands: it takes back what is not delivered yet, and an end that was told.
        """
        if end & FAILURE:
            self.end |= FAILURE
            return True
        if self.total is not None:
            return self.total == stop
        if stop < self.next or stop > MAX_POSITION or (self._ahead and self._ahead[len(self._ahead) - 1][1] > stop):
            return False
        self.total, self.end = stop, end
        return True

    def _keep(self, position: int, stop: int, data: memoryview) -> bool:
        if self._ahead is None or self._pieces is None or self._news is None:
            self._ahead, self._pieces, self._news = Ranges(), {}, Ranges()
        if len(self._pieces) >= MAX_PIECES:
            self.refused = True
            return False
        for low, high in self._ahead.missing(position, stop):
            self._pieces[low] = bytes(data[low - position : high - position])
        self._ahead.add(position, stop)
        self._news.add(position, stop)
        return True

    def _fill(self, chunks: list[Buffer]) -> None:
        """What was kept is in order now, or was overtaken."""
        ahead, pieces, news = self._ahead, self._pieces, self._news
        assert ahead is not None
        assert pieces is not None
        assert news is not None
        while ahead and ahead[0][0] <= self.next:
            start, stop = ahead[0]
            position = start
            while position < stop:
                piece = pieces.pop(position)
                position += len(piece)
                if position > self.next:
                    chunks.append(piece[self.next - position :] if position - len(piece) < self.next else piece)
                    self.next = position
            ahead.remove(start, stop)
        news.remove(0, self.next)
        if not ahead:
            self._ahead = self._pieces = self._news = None

    # -- acknowledgements -----------------------------------------------------------------------------------------
    def acknowledgements(self) -> list[bytes]:
        """The range fields of as many messages as it takes to tell all that is new; at least one."""
        base = self.next + (1 if self.over and self.total is not None else 0)
        first: tuple[Span, ...] = ((0, base),) if base else ()
        if self._ahead is None or self._news is None:
            return [encode_ranges(first) if base else NO_RANGES]
        told: list[bytes] = []
        while self._news:
            spans = self._newest_spans(self._news[len(self._news) - 1][1])
            for start, stop in spans:
                self._news.remove(start, stop)
            told.append(encode_ranges((*first, *spans)))
        if not told:
            told.append(encode_ranges((*first, *self._newest_spans(self._ahead[len(self._ahead) - 1][1]))))
        return told

    def _newest_spans(self, stop: int) -> list[Span]:
        """At most five ranges that end at `stop`, and go down from there as far as the fields can say."""
        ahead = self._ahead
        assert ahead is not None
        spans: list[Span] = []
        index = ahead.index_of(stop - 1)
        while index >= 0 and len(spans) < _BEHIND:
            start = ahead[index][0]
            if spans and spans[-1][0] - stop > _MOST:
                break
            low = max(start, stop - _MOST)
            spans.append((low, stop))
            if low > start:
                stop = low
                continue
            index -= 1
            if index >= 0:
                stop = ahead[index][1]
        spans.reverse()
        return spans
