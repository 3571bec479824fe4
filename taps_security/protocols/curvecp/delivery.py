"""The message layer: a stream each way over messages that may be lost, come twice, or come in any order.

    SendStream --blocks--> messages under numbers --Recovery: when, and which are lost--> record
    record --messages--> acknowledgements to SendStream and Recovery, blocks to ReceiveStream --octets--> application

Each message may carry a block and acknowledgements. A message with an id is acknowledged at once; one without is a
mere acknowledgement. A message with an id and no block only asks for one. Knows no keys and no paths.
"""

from __future__ import annotations

from ...recovery import Recovery
from ...stack.events import Buffer
from .limits import HEEDED, MAX_BLOCK, MESSAGE_HEADER, TIME_WAIT, TIME_WAIT_PROBES, UNHEARD_END
from .receiving import ReceiveStream
from .sending import IDS, SendStream, wire_id, wire_ids
from .wire import BLOCK, FAILURE, NO_RANGES, PADDED_BLOCK, SUCCESS, Span, message_size, parse_ranges, tight_size

Filled = tuple[int, int, int]  # messages, octets from one to the next, octets of the last message
_ENDS = SUCCESS | FAILURE
QUANTUM = 0.001  # seconds
BATCH = 40  # datagrams
ANSWER_AT_ONCE = 8  # messages
_STALL = 1.0  # seconds, and twice the probe timeout: see `_stalled`


class Delivery:
    """Both streams, and what was said about them. `block`: octets of data in a message at most.

    `pads`: messages have one of the reference's four sizes, which hide how much is in them.
    """

    __slots__ = (
        "_acks",
        "_answered",
        "_copies",
        "_heeded",
        "_hold",
        "_number",
        "_repeat",
        "_size_of",
        "_stall",
        "_turn_over",
        "_unanswered",
        "ack_due",
        "asked",
        "block",
        "incoming",
        "malformed",
        "outgoing",
        "ping_due",
        "progress",
        "recovery",
    )

    def __init__(self, recovery: Recovery, block: int, *, pads: bool = True) -> None:
        self.recovery = recovery
        self.block = block
        self._size_of = message_size if pads else tight_size
        self.outgoing = SendStream()
        self.incoming = ReceiveStream()
        self.ack_due = False
        self.ping_due = False  # something must go out that the peer acknowledges
        self.malformed = 0  # authentic messages that were no messages
        self.asked = 0.0  # since when an acknowledgement is awaited
        self.progress = 0.0  # when the peer last acknowledged something new
        self._answered = 0  # the id that the next acknowledgement names
        self._acks: list[bytes] | None = None  # range fields that wait for a message
        self._number = 1  # of the next message that wants an acknowledgement
        self._hold = 0  # octets that must be allowed before anything goes; 0: none
        self._stall: float | None = None
        self._unanswered = 0  # messages since the last acknowledgement
        self._turn_over = False  # the acknowledgement has waited long enough
        self._repeat: Span | None = None  # what a probe sends again, though nobody knows that it is lost
        self._heeded = 0  # requests that probes answered since the peer acknowledged something
        self._copies: list[tuple[int, int]] | None = None  # (number, where its octets end) of those that were sent

    # -- receiving ------------------------------------------------------------------------------------------------
    def take(self, messages: list[memoryview], chunks: list[Buffer], now: float) -> None:
        """Authentic messages. Octets that are in order go behind `chunks`."""
        incoming, unpack = self.incoming, BLOCK.unpack_from
        unanswered, answered = 0, self._answered
        for message in messages:
            size = len(message)
            if size < MESSAGE_HEADER:
                self.malformed += 1
                continue
            number, acknowledged, ranges, flags, position = unpack(message)
            if acknowledged or ranges != NO_RANGES:
                self._acknowledged(acknowledged, ranges, now)
            if not number:
                continue
            end = flags & _ENDS
            length = flags - end
            if length > MAX_BLOCK or MESSAGE_HEADER + length > size:
                self.malformed += 1
                continue
            unanswered += 1
            if length or end:
                if incoming.take(position, message[size - length :], end, chunks):
                    answered = number
            else:
                answered = number
                if self.recovery.pto_count and self._heeded < HEEDED:
                    self._heeded += 1
                    self.probe()  # the peer has room again, or is back
        if unanswered:
            self.ack_due = True
            self._unanswered += unanswered
            self._answered = answered

    def _acknowledged(self, acknowledged: int, fields: bytes, now: float) -> None:
        base = self.outgoing.base
        numbers = self.outgoing.acknowledge(parse_ranges(fields))
        if numbers is None:
            self.malformed += 1
            return
        if numbers or self.outgoing.base > base:
            self.progress = now  # ids alone are none: whoever answers those may never take an octet
        sample = None
        if acknowledged:
            number = self._number_of(acknowledged)
            if number in self.recovery.space():
                numbers.append((number, number))
                sample = number
        if self._copies:
            self._settle_copies(numbers)
        if numbers:
            self._heeded = 0
            self._repeat = None
            _, lost = self.recovery.on_acked(numbers, now, sample=sample)
            if lost:
                self.outgoing.lose(lost)

    def _settle_copies(self, numbers: list[tuple[int, int]]) -> None:
        """Copies whose octets arrived, in one way or the other, go to `numbers`.

        Not before something newer arrived, or everything: messages between a block and its copy are not late by it.
        """
        outgoing, space = self.outgoing, self.recovery.space()
        newest = max(numbers, default=(0, 0))[1] if outgoing.outstanding else self._number
        kept: list[tuple[int, int]] = []
        for number, stop in self._copies or ():
            if number not in space:
                continue
            if stop <= outgoing.base and number < newest:
                numbers.append((number, number))
            else:
                kept.append((number, stop))
        self._copies = kept or None

    def _number_of(self, message_id: int) -> int:
        """The newest number that has this id on the wire; 0 or less: it was never sent."""
        behind = (wire_id(self._number) - message_id) % IDS
        return self._number - (behind or IDS)

    # -- the path -------------------------------------------------------------------------------------------------
    def first_sample(self, round_trip: float, now: float) -> None:
        """What the handshake took, in seconds."""
        self.recovery.rtt.update(round_trip, now)
        self.recovery.controller.on_rtt(round_trip, now)

    def path_changed(self, now: float) -> int:
        """What is known of the old path does not count for the new one; the first number that goes there."""
        self.recovery.path_changed(now)
        return self._number

    # -- sending --------------------------------------------------------------------------------------------------
    @property
    def awaiting(self) -> bool:
        """The peer owes an acknowledgement."""
        return self.outgoing.outstanding or self.recovery.space().eliciting > 0

    @property
    def waiting(self) -> bool:
        """Something wants to go out at once, whether or not it may."""
        return self.ping_due or self.outgoing.waiting or self._repeat is not None or self._must_answer

    @property
    def _must_answer(self) -> bool:
        """An acknowledgement waits for the end of the turn at most: the application may answer until then.

        One of many messages does not wait, nor what says that something is missing.
        """
        if self._acks:
            return True
        return self.ack_due and (self._turn_over or self._unanswered >= ANSWER_AT_ONCE or self.incoming.gaps)

    def fill(self, view: memoryview, overhead: int, datagrams: int, now: float) -> Filled | None:
        """Messages into `view`, each `overhead` octets behind the begin of its datagram; None: nothing may go now."""
        outgoing, recovery = self.outgoing, self.recovery
        if outgoing.waiting or self.ping_due or self._repeat is not None:
            budget = recovery.budget(now)
            if budget > 0 and (budget >= self._quantum(overhead) or recovery.probes):
                self._hold = 0
                filled = self._fill_blocks(view, overhead, datagrams, budget, now)
                recovery.controller.app_limited = not outgoing.waiting
                return filled
            recovery.controller.app_limited = False
        if self._must_answer:
            return self._fill_acknowledgements(view, overhead, datagrams)
        return None

    def _quantum(self, overhead: int) -> int:
        """Octets worth a call to the socket: a bulk sender waits until so many may go, a millisecond's or a batch.

        It never waits for more than a quarter of its window, nor for more than there is.
        """
        controller = self.recovery.controller
        datagram = overhead + self._size_of(self.block)
        waits = self.outgoing.unsent
        if waits < 2 * datagram or not controller.in_flight:
            return 1
        quantum = min(int(controller.pacing_rate * QUANTUM), int(controller.window) // 4, BATCH * datagram, waits)
        self._hold = max(quantum, datagram)
        return self._hold

    def _fill_blocks(self, view: memoryview, overhead: int, datagrams: int, budget: int, now: float) -> Filled:
        """A run of full blocks; else what is lost, what is short, the end, or a message without a block."""
        if self._repeat is not None:
            return self._fill_copy(view, overhead, now)
        outgoing, block = self.outgoing, self.block
        size = self._size_of(block)
        stride = overhead + size
        most = max(1, min(datagrams, len(view) // stride, budget // stride))
        count = min(most, outgoing.fresh_blocks(block))
        if not count:
            return self._fill_pieces(view, overhead, most, now)
        self.ping_due = False
        first = self._number
        position = outgoing.next
        pack = (BLOCK if size - block == MESSAGE_HEADER else PADDED_BLOCK).pack_into
        at = overhead
        answered, fields = self._next_acknowledgement()
        for number in wire_ids(first, count):
            pack(view, at, number, answered, fields, block, position)
            if fields is not NO_RANGES:
                answered, fields = self._next_acknowledgement()
            position += block
            at += stride
        if fields is not NO_RANGES:  # no message was left for it
            self._acks = [fields, *(self._acks or ())]
        outgoing.copy_blocks(count, block, view, overhead + size - block, stride)
        outgoing.sent((outgoing.next, position), first, block)
        self._number = first + count
        self.recovery.on_sent_run(first, count, stride, now)
        return count, stride, size

    def _fill_pieces(self, view: memoryview, overhead: int, most: int, now: float) -> Filled:
        outgoing, first = self.outgoing, self._number
        spans: list[Span] = []
        number = first
        while len(spans) < most:
            span = outgoing.next_span(self.block)
            if span[0] == span[1]:
                break
            spans.append(span)
            outgoing.sent(span, number, self.block)
            number += 1
        self.ping_due = False
        if len(spans) < 2:
            return self._fill_one(view, overhead, spans[0] if spans else (outgoing.next, outgoing.next), now)
        final = outgoing.final
        sizes = [self._size_of(max(0, min(stop, final) - start)) for start, stop in spans]
        largest = max(sizes)
        stride = overhead + largest
        at = overhead
        for index, span in enumerate(spans, 1):
            size = largest if index < len(spans) else sizes[-1]
            self._write_block(view, at, size, self._number, span)
            self.recovery.on_sent(self._number, overhead + size, now)
            self._number += 1
            at += stride
        return len(spans), stride, sizes[-1]

    def _fill_one(self, view: memoryview, overhead: int, span: Span, now: float) -> Filled:
        """A single message; with an empty span only to be acknowledged.

        Those count for nothing in flight: an acknowledgement names one message and the octets of many, so one without
        octets is easily missed.
        """
        start, stop = span
        size = self._size_of(max(0, min(stop, self.outgoing.final) - start))
        self._write_block(view, overhead, size, self._number, span)
        self.recovery.on_sent(self._number, overhead + size, now, in_flight=start < stop)
        self._number += 1
        return 1, overhead + size, size

    def _fill_copy(self, view: memoryview, overhead: int, now: float) -> Filled:
        """A probe: the oldest block again, whose own number goes on counting."""
        assert self._repeat is not None
        (start, stop), self._repeat = self._repeat, None
        stop = min(stop, start + self.block)
        self._copies = [*(self._copies or ()), (self._number, stop)]
        return self._fill_one(view, overhead, (start, stop), now)

    def _write_block(self, view: memoryview, at: int, size: int, number: int, span: Span) -> None:
        """One message of `size` octets with the positions of `span`, perhaps the end, and an acknowledgement."""
        outgoing, (start, stop) = self.outgoing, span
        final = outgoing.final
        data = max(0, min(stop, final) - start)
        flags = data | (outgoing.end if stop > final else 0)
        answered, fields = self._next_acknowledgement()
        if fields is NO_RANGES and self.recovery.pto_count:
            fields = self.incoming.acknowledgements()[0]  # what was said before may be lost, too
        view[at : at + size - data] = bytes(size - data)
        BLOCK.pack_into(view, at, wire_id(number), answered, fields, flags, min(start, final))
        if data:
            outgoing.copy(start, start + data, view, at + size - data)

    def _fill_acknowledgements(self, view: memoryview, overhead: int, datagrams: int) -> Filled:
        size = self._size_of(0)
        stride = overhead + size
        at = overhead
        count = 0
        while count < datagrams and at + size <= len(view):
            answered, fields = self._next_acknowledgement()
            if count and fields is NO_RANGES:
                break
            view[at : at + size] = bytes(size)
            BLOCK.pack_into(view, at, 0, answered, fields, 0, 0)
            at += stride
            count += 1
        return count, stride, size

    def _next_acknowledgement(self) -> tuple[int, bytes]:
        """The id and the range fields for the next message; (0, NO_RANGES): there is nothing to say."""
        if self.ack_due:
            self.ack_due = self._turn_over = False
            self._unanswered = 0
            self._acks = self.incoming.acknowledgements()
            answered, self._answered = self._answered, 0
        elif self._acks:
            answered = 0
        else:
            return 0, NO_RANGES
        fields = self._acks.pop(0)
        if not self._acks:
            self._acks = None
        return answered, fields

    def last_words(self, end: int = 0) -> bytes:
        """One message that needs no answer: where we are, and perhaps that our stream failed."""
        fields = self.incoming.acknowledgements()[0]
        number = wire_id(self._number) if end else 0
        answered, self._answered = self._answered, 0
        head = BLOCK.pack(number, answered, fields, end, min(self.outgoing.next, self.outgoing.final))
        return head + bytes(self._size_of(0) - len(head))

    # -- time -----------------------------------------------------------------------------------------------------
    def deadline(self, now: float) -> float | None:
        """When something is due: a loss, a probe, or the pacer's next datagram."""
        recovery = self.recovery
        if self.ack_due and not self._turn_over:
            return now
        due = recovery.deadline
        if self.outgoing.waiting or self.ping_due or self._repeat is not None:
            ready = self._ready_at(now)
            if ready is not None and (due is None or ready < due):
                due = ready
        elif due is None and self.outgoing.outstanding:
            if self._stall is None:
                self._stall = now + _STALL + 2 * recovery.rtt.probe_timeout()
            return self._stall
        self._stall = None
        return due

    def _ready_at(self, now: float) -> float | None:
        """When the pacer lets go what is held back; None: it is not the pacer that holds it."""
        recovery, controller = self.recovery, self.recovery.controller
        if not self._hold or recovery.pacer is None:
            return recovery.send_at(now)
        if controller.window - controller.in_flight < self._hold:
            return None
        ready = recovery.pacer.ready_at(self._hold)
        return ready if ready > now else None

    def deadline_reached(self, now: float) -> None:
        """Something may be due."""
        recovery = self.recovery
        self._turn_over = self.ack_due
        if self._stall is not None and now >= self._stall:
            self._stall = None
            self.outgoing.resend_all()  # the peer answered ids, and never covered their positions
            return
        due = recovery.deadline
        if due is None or due > now:
            return
        lost, probe, _ = recovery.on_timeout(now)
        if lost:
            self.outgoing.lose(lost)
        if probe:
            self.probe()

    def probe(self) -> None:
        """Something must go out now: what is lost, the oldest block again, or a message without one.

        A block is not lost for that: if it was only late, its own number is the one that arrives.
        """
        self._repeat = self.outgoing.first_on_its_way()
        if self._repeat is None and not self.outgoing.waiting:
            self.ping_due = True
        if not self.recovery.probes:
            self.recovery.probes = 1

    @property
    def end_unheard(self) -> bool:
        """All octets arrived; only the end of our stream is not acknowledged, however often it was said."""
        outgoing = self.outgoing
        return bool(outgoing.end) and outgoing.base == outgoing.final and self.recovery.pto_count >= UNHEARD_END

    @property
    def time_wait(self) -> float:
        """Seconds in which the peer may still ask."""
        least, most = TIME_WAIT
        rtt = self.recovery.rtt
        return min(max(least, TIME_WAIT_PROBES * rtt.probe_timeout()), most) if rtt.sampled else least

    # -- what the application hears ---------------------------------------------------------------------------------
    def arrived_tokens(self) -> list[int]:
        """The tokens of sends that arrived."""
        outgoing, tokens = self.outgoing, self.outgoing.tokens
        found: list[int] = []
        while tokens and tokens[0][0] <= outgoing.base:
            found.append(tokens.popleft()[1])
        return found
