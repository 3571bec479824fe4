"""The two halves of one direction of a simulated byte stream: what the sender keeps, and what the receiver holds.

The model, which is simpler than TCP and exact:

- What a `send` took leaves at once, in segments of at most the link's MTU less headers, as far as the receiver's window
  and the link's queue have room. There is no slow start and no congestion window: a segment that finds no room in the
  queue waits at the sender, so a stream never overflows a queue.
- A segment that is lost is sent again one RTO later: twice the two links' delays, at least 200 ms, and twice as much
  for each further time, up to 60 s. What follows it waits at the receiver. After 900 s (or the user timeout) without
  success the sender's connection is over: ETIMEDOUT.
- Acknowledgements and window updates take the delay of the way back, use no rate, and are never lost nor logged.
- The send buffer and the receive buffer hold 256 KiB each. A sender is writable again when a third of its is free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .links import nanoseconds

if TYPE_CHECKING:
    from .streams import SimulatedStream

BUFFER = 262_144  # octets, each way
MIN_RTO = 0.2  # seconds, as the rest
MAX_RTO = 60.0
GIVE_UP = 900.0


class Reports:
    """Counters on their way to the other side: one event per instant, whatever the number of reports."""

    def __init__(self, arrive: Callable[[int], None]) -> None:
        self._arrive = arrive
        self._travelling: deque[tuple[float, int]] = deque()

    def send(self, sock: SimulatedStream, total: int) -> None:
        """Report a running total; it arrives after the delay of the link to the peer."""
        network = sock.host.network
        delay = network.route(sock.host, sock.peer[0])[1].delay
        when = nanoseconds(network.now + delay)
        travelling = self._travelling
        if travelling and travelling[-1][0] == when:
            travelling[-1] = (when, total)
        else:
            travelling.append((when, total))
            network.loop.call_at(when, self._arrived)

    def _arrived(self) -> None:
        self._arrive(self._travelling.popleft()[1])


class Outflow:
    """Sending: octets taken from the application, cut, sent, and sent again."""

    def __init__(self, sock: SimulatedStream) -> None:
        self._sock = sock
        self._unsent = bytearray()
        self._ending = False  # FIN behind what is unsent
        self._fin_sent = False
        self._fin_acknowledged = False
        self._next = 0  # number of the next segment
        self._offset = 0  # octets sent
        self._taken = 0
        self._acknowledged = 0
        self._window = BUFFER  # the octet up to which the receiver has room
        self._waiting = False  # for room in the link's queue
        self.corrupt: set[int] = set()  # offsets of octets that lose their lowest bit on the way

    @property
    def free(self) -> int:
        """Octets that the send buffer would take."""
        return BUFFER - (self._taken - self._acknowledged)

    @property
    def writable(self) -> bool:
        """A third of the send buffer is free."""
        return 3 * self.free >= BUFFER

    @property
    def delivered(self) -> bool:
        """FIN and all before it have been acknowledged."""
        return self._fin_acknowledged

    @property
    def ended(self) -> bool:
        """Nothing more is taken: shutdown() or close() was called."""
        return self._ending

    def take(self, data: memoryview) -> int:
        """Take what fits; the octets taken."""
        taken = min(self.free, data.nbytes)
        self._unsent += data[:taken]
        self._taken += taken
        self.flush()
        return taken

    def finish(self) -> None:
        """FIN behind what was taken."""
        self._ending = True
        self.flush()

    def discard(self) -> None:
        """The connection is over."""
        self._unsent.clear()
        self._ending = True

    def acknowledged(self, total: int) -> None:
        """The receiver has so many octets in order; FIN counts as one."""
        if total > self._taken:
            self._fin_acknowledged = True
            self._sock.delivered()
        self._acknowledged = max(self._acknowledged, min(total, self._taken))
        self._sock.changed()

    def widen(self, total: int) -> None:
        """The application at the other end has read so many octets."""
        self._window = max(self._window, total + BUFFER)
        self.flush()

    def flush(self) -> None:
        """Send what the window and the queue have room for."""
        sock = self._sock
        network = sock.host.network
        link = network.route(sock.host, sock.peer[0])[1]
        largest = max(1, link.mtu - network.headers("tcp", sock.peer[0]))
        while self._unsent and self._offset < self._window and not self._waiting:
            size = min(largest, len(self._unsent), self._window - self._offset)
            room = link.room_at(size, network.now)
            if room > network.now:
                self._waiting = True
                network.loop.call_at(room, self._room)
                return
            self._transmit_next(bytes(self._unsent[:size]))
            del self._unsent[:size]
        if self._ending and not self._unsent and not self._fin_sent and not sock.over:
            self._fin_sent = True
            self._transmit_next(b"")

    def _room(self) -> None:
        self._waiting = False
        self.flush()

    def _transmit_next(self, data: bytes) -> None:
        start, self._offset = self._offset, self._offset + len(data)
        number, self._next = self._next, self._next + 1
        if self.corrupt:
            data = self._corrupted(data, start)
        self._transmit(number, data, 0, self._sock.host.network.now)

    def _corrupted(self, data: bytes, start: int) -> bytes:
        wrong = bytearray(data)
        for offset in [each for each in self.corrupt if start <= each < start + len(data)]:
            wrong[offset - start] ^= 1
            self.corrupt.discard(offset)
        return bytes(wrong)

    def _transmit(self, number: int, data: bytes, attempt: int, first: float) -> None:
        sock = self._sock
        if sock.over:
            return
        if sock.transmit_segment(number, data):
            return
        network = sock.host.network
        give_up = first + (sock.options.user_timeout_seconds or GIVE_UP)
        again = nanoseconds(network.now + min(MAX_RTO, self._rto() * 2**attempt))
        if again >= give_up:
            network.loop.call_at(give_up, sock.timed_out)
        else:
            network.loop.call_at(again, self._transmit, number, data, attempt + 1, first)

    def _rto(self) -> float:
        sock = self._sock
        network = sock.host.network
        receiver, there = network.route(sock.host, sock.peer[0])
        back = there.delay if receiver is None else network.link(receiver.name, sock.host.name).delay
        return max(MIN_RTO, 2 * (there.delay + back))


class Inflow:
    """Receiving: segments put in order, and octets that wait for the application."""

    def __init__(
        self, sock: SimulatedStream, acknowledged: Callable[[int], None], widen: Callable[[int], None]
    ) -> None:
        self._sock = sock
        self._acknowledge = Reports(acknowledged)
        self._widen = Reports(widen)
        self._early: dict[int, bytes] = {}  # segments behind a gap
        self._next = 0
        self._received = 0
        self._read = 0
        self.buffer = bytearray()
        self.ended = False  # FIN

    def is_new(self, number: int) -> bool:
        """The segment was not in order here before."""
        return number >= self._next

    def segment(self, number: int, data: bytes) -> None:
        """A segment arrived; an empty one is FIN. Copies and late ones are ignored."""
        if number < self._next or self.ended:
            return
        self._early[number] = data
        while (following := self._early.pop(self._next, None)) is not None:
            self._next += 1
            if not following:
                self.ended = True
                self._received += 1
                self._early.clear()
            else:
                self.buffer += following
                self._received += len(following)
        self._acknowledge.send(self._sock, self._received)
        self._sock.changed()

    def read_into(self, buffer: memoryview) -> int:
        """Move octets to the application."""
        length = min(len(buffer), len(self.buffer))
        with memoryview(self.buffer) as held:
            buffer[:length] = held[:length]
        del self.buffer[:length]
        self._read += length
        self._widen.send(self._sock, self._read)
        return length
