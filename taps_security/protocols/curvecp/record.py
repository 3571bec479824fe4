"""The record layer: messages of the stream in boxes, sealed and opened where they lie.

    client  QvnQ5XlI server ext, client ext, C', cookie, n, Box[introduction, message]     until the server answered
            QvnQ5XlM server ext, client ext, C', n, Box[message]                           from then on
    server  RL3aNMXM client ext, server ext, n, Box[message]

An Initiate is a long header of the client's record until its key is confirmed; a server opens both. Numbers grow with
each datagram. The reference opens no number below the last one; here a window lets datagrams come in any order, once.
"""

from __future__ import annotations

from ...crypto.box import TAG, addresses, open_at, seal_at
from ...parts.replay import ReplayWindow
from ...stack.errors import HardLimitReached, LocalError
from ...stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    LimitKind,
    PathId,
    PeerMoved,
)
from ...stack.layers import Opened, Slab, UnitKind
from ...stack.records import RecordEvents
from . import keys
from .handshake import FIRST_PACKETS, STREAM
from .keys import StreamKey
from .limits import (
    CLIENT_OVERHEAD,
    COOKIE_SIZE,
    EXTENSION,
    INITIATE_OVERHEAD,
    KEY,
    MAX_INITIATE_MESSAGE,
    MAX_MESSAGE,
    MAX_NUMBER,
    MESSAGE_UNIT,
    MIN_MESSAGE,
    REPLAY_WINDOW,
    SERVER_OVERHEAD,
)
from .wire import CLIENT_MESSAGE, COOKIE, HELLO, INITIATE, SERVER_MESSAGE

_NUMBER = 8
_INTRODUCTION = 352
LATELY = 1 << 16  # numbers behind the next one: a report about an older datagram is not believed
_ENOUGH = 16  # octets of C' that nobody guesses, where a report quotes no more
SOFT_LIMIT = 1 << 63
_SHAPES = {  # overhead, where the number stands, nonce, the largest message
    INITIATE: (INITIATE_OVERHEAD, 168, keys.CLIENT_INITIATE, MAX_INITIATE_MESSAGE),
    CLIENT_MESSAGE: (CLIENT_OVERHEAD, 72, keys.CLIENT_MESSAGE, MAX_MESSAGE),
    SERVER_MESSAGE: (SERVER_OVERHEAD, 40, keys.SERVER_MESSAGE, MAX_MESSAGE),
}


class CurveCpRecord(RecordEvents):
    """A DatagramRecord of one role. `public` is C'."""

    __slots__ = (
        "_confirmed",
        "_expect",
        "_extension",
        "_new_extension",
        "_overhead",
        "_peer_extension",
        "_prefix",
        "_receive",
        "_send",
        "_told",
        "_window",
        "client",
        "deadline",
        "failed",
        "path",
        "public",
        "replayed",
    )

    def __init__(self, *, client: bool, public: bytes, extension: bytes, peer_extension: bytes) -> None:
        super().__init__()
        self.deadline: float | None = None
        self.path: PathId | None = None  # by which the newest datagram came
        self.failed = 0  # datagrams that did not open
        self.replayed = 0
        self.client = client
        self.public = public  # C'
        self._extension = extension
        self._peer_extension = peer_extension
        self._new_extension = b""  # that came once
        self._send: StreamKey | None = None
        self._receive: bytes = b""
        self._confirmed = False
        self._told = False
        self._window = ReplayWindow(REPLAY_WINDOW)
        self._prefix = b""  # in front of the number of what goes out
        self._expect = b""  # the same of what comes in
        self._overhead = 0
        self._lay_out()

    def _lay_out(self) -> None:
        ours, theirs = self._extension, self._peer_extension
        if not self.client:
            self._prefix = SERVER_MESSAGE + theirs + ours
            self._expect = CLIENT_MESSAGE + ours + theirs + self.public
            self._overhead = SERVER_OVERHEAD
            return
        self._expect = SERVER_MESSAGE + ours + theirs
        if self._send is not None and self._send.cookie:
            self._prefix = INITIATE + theirs + ours + self.public + self._send.cookie
            self._overhead = INITIATE_OVERHEAD
        else:
            self._prefix = CLIENT_MESSAGE + theirs + ours + self.public
            self._overhead = CLIENT_OVERHEAD

    # -- keys -----------------------------------------------------------------------------------------------------
    def import_key(self, ready: KeyReady, now: float) -> None:
        """Install the key of one direction. A server's window begins with the Initiate that the screener opened."""
        secret = ready.secret
        assert isinstance(secret, StreamKey)
        if ready.direction is Direction.SEND:
            self._send = secret
            self._lay_out()
        else:
            self._receive = secret.key
            if secret.number >= 0:
                self._window.opened(secret.number)

    def discard_key(self, event: KeyDiscarded) -> None:
        """Forget the key of one direction."""
        if event.direction is Direction.SEND:
            self._send = None
            self._prefix = b""
        else:
            self._receive = b""

    def deadline_reached(self, now: float) -> None:
        """No key ends with time."""

    @property
    def number(self) -> int:
        """The number that goes out next; 0 without a key."""
        return self._send.number if self._send is not None else 0

    @property
    def long_header(self) -> bool:
        """Whether what goes out are Initiates."""
        return self._overhead == INITIATE_OVERHEAD

    @property
    def extensions(self) -> tuple[bytes, bytes]:
        """Ours and the peer's."""
        return self._extension, self._peer_extension

    # -- sealing --------------------------------------------------------------------------------------------------
    def overhead(self, key: KeyId) -> int:
        """Octets that sealing adds to one message."""
        return self._overhead

    def headroom(self, key: KeyId) -> int:
        """All of them stand in front."""
        return self._overhead

    def seal(self, key: KeyId, kind: int, slab: Slab, stride: int, count: int, last: int, now: float) -> int:
        """Seal `count` messages in place, `stride` octets apart; the first record number. See DatagramRecord."""
        send = self._send
        if send is None:
            raise LocalError("there is no key to send under")
        first = send.number
        if first + count > SOFT_LIMIT:
            self._look_at_limits(first + count)
        view, prefix, secret = slab.view, self._prefix, send.key
        long_header = self._overhead == INITIATE_OVERHEAD
        nonce = keys.CLIENT_INITIATE if long_header else keys.CLIENT_MESSAGE if self.client else keys.SERVER_MESSAGE
        head = len(prefix) + _NUMBER
        base = addresses(slab.buffer)
        length = stride - self._overhead
        start = 0
        for number in range(first, first + count):
            octets = number.to_bytes(8, "little")
            body = start + head
            view[start:body] = prefix + octets
            if number == first + count - 1:
                length = last
            size = length
            if long_header:
                view[body + TAG : body + TAG + _INTRODUCTION] = send.introduction
                size += _INTRODUCTION
            box = base + body
            seal_at(box, box + TAG, size, nonce + octets, secret)
            start += stride
        send.number = first + count
        return first

    def _look_at_limits(self, number: int) -> None:
        if number > MAX_NUMBER:
            raise HardLimitReached("this key has protected as much as it may")
        if not self._told:
            self._told = True
            self._report(KeyExpiring(STREAM, Direction.SEND, LimitKind.PACKETS))

    def seal_one(self, message: bytes, now: float) -> bytes:
        """One message as a datagram. Raises HardLimitReached."""
        buffer = bytearray(self._overhead + len(message))
        buffer[self._overhead :] = message
        with memoryview(buffer) as view:
            self.seal(STREAM, UnitKind.APPLICATION, Slab(buffer, view), len(buffer), 1, len(message), now)
        return bytes(buffer)

    def may_have_sent(self, quoted: bytes) -> bool:
        """Whether a datagram of this end began so. A client's have C' in front; a server's only numbers, which began at
        random: one of the last.
        """
        ours, theirs = self._extension, self._peer_extension
        if quoted[8:40] != theirs + ours:
            return False
        if self.client:
            key, ours_begin = quoted[40 : 40 + KEY], {HELLO, INITIATE, CLIENT_MESSAGE}
            return quoted[:8] in ours_begin and len(key) >= _ENOUGH and self.public.startswith(key)
        if quoted[:8] != SERVER_MESSAGE or len(quoted) < 40 + _NUMBER or self._send is None:
            return False
        number = int.from_bytes(quoted[40 : 40 + _NUMBER], "little")
        return self._send.number - LATELY <= number < self._send.number

    # -- opening --------------------------------------------------------------------------------------------------
    def open(self, data: memoryview, segment: int, path: PathId, opened: Opened, now: float) -> int:
        """Open a run of datagrams in place; the octets consumed. See DatagramRecord."""
        opened.clear()
        total = len(data)
        step = segment or total
        secret, expect, window, plaintexts = self._receive, self._expect, self._window, opened.plaintexts
        nonce = keys.SERVER_MESSAGE if self.client else keys.CLIENT_MESSAGE
        fits, head = len(expect), len(expect) + _NUMBER
        smallest, largest = head + TAG + MIN_MESSAGE, head + TAG + MAX_MESSAGE
        base = addresses(data)
        low = high = -1  # the consecutive numbers of this run that are not in the window yet
        start = 0
        while start < total:
            size = step if start + step <= total else total - start
            header = bytes(data[start : start + head])
            if header[:fits] != expect or size < smallest or size > largest or size % MESSAGE_UNIT or not secret:
                if low >= 0:
                    self._opened(low, high, path)
                    low = high = -1
                taken = self._open_other(data[start : start + size], header, path, opened)
                if not taken:
                    break
                start += size
                if opened.kind is not None:
                    break
                expect = self._expect
                continue
            octets = header[fits:]
            number = int.from_bytes(octets, "little")
            box = base + start + head
            end = start + size
            if (low <= number <= high) or not window.is_fresh(number):
                self.replayed += 1
            elif open_at(box + TAG, box, size - head, nonce + octets, secret):
                opened.failed += 1
            else:
                plaintexts.append(data[start + head + TAG : end])
                if number == high + 1 and low >= 0:
                    high = number
                else:
                    if low >= 0:
                        self._opened(low, high, path)
                    low = high = number
            start = end
        if low >= 0:
            self._opened(low, high, path)
        self.failed += opened.failed
        return start

    def _opened(self, low: int, high: int, path: PathId) -> None:
        """Authentic datagrams: what their numbers and their path mean."""
        newest = high > self._window.highest
        self._window.opened(low, high)
        if not self._confirmed:
            self._confirmed = True
            self._report(KeyConfirmed(STREAM))
            if self.client and self._send is not None:
                self._send.cookie = self._send.introduction = b""  # nobody needs the long header any more
                self._lay_out()
        if newest:
            if self.path is not None and path != self.path:
                self._report(PeerMoved(self.path, path))
            self.path = path

    def _open_other(self, datagram: memoryview, header: bytes, path: PathId, opened: Opened) -> bool:
        """What does not begin as the peer's messages do. False: it is another stack's."""
        if self.client:
            if header[:8] == COOKIE and len(datagram) == COOKIE_SIZE:
                opened.kind, opened.key, opened.unit = UnitKind.HANDSHAKE, FIRST_PACKETS, datagram
            elif header[:8] != SERVER_MESSAGE or not self._receive or not self._open_long(datagram, path, opened):
                opened.failed += 1
            return True
        if header[:8] not in {CLIENT_MESSAGE, INITIATE} or len(header) < 40 + KEY:
            return False
        if header[40 : 40 + KEY] != self.public:
            return False
        if not self._receive or header[8:24] != self._extension or not self._open_long(datagram, path, opened):
            opened.failed += 1
        return True

    def _open_long(self, datagram: memoryview, path: PathId, opened: Opened) -> bool:
        """An Initiate that comes when the connection is there already, or a Message with other extensions.

        No box covers extensions. So a client does not look at those of a message that opens, and a server believes a
        new one when it has come twice: one octet changed on the way would else end the connection, since the client
        would not know the server's messages any more, and have nothing to say that brings the right one back.
        """
        overhead, at, nonce, largest = _SHAPES[bytes(datagram[:8])]
        size = len(datagram) - overhead
        if not MIN_MESSAGE <= size <= largest or size % MESSAGE_UNIT:
            return False
        octets = bytes(datagram[at : at + _NUMBER])
        number = int.from_bytes(octets, "little")
        if not self._window.is_fresh(number):
            self.replayed += 1
            return True
        box = addresses(datagram) + at + _NUMBER
        if open_at(box + TAG, box, len(datagram) - at - _NUMBER, nonce + octets, self._receive):
            return False
        extension = bytes(datagram[24 : 24 + EXTENSION])
        if not self.client and number > self._window.highest and extension != self._peer_extension:
            if extension == self._new_extension:
                self._peer_extension = extension
                self._lay_out()
            self._new_extension = extension
        opened.plaintexts.append(datagram[overhead:])
        self._opened(number, number, path)
        return True
