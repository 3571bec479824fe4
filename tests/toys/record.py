"""The record layer of both toys.

    octet      first | generation       (the low bit in parley: a key phase; the low four in satchel)
    octets     receiver's id (4), record number (8), then sealed: kind (1), octets; tag (16)

Record numbers go on across generations. What begins with 0xC0 to 0xCF is a handshake message in clear text.
"""

from __future__ import annotations

from collections import deque

from taps_security.crypto.aead import CHACHA20_POLY1305, AuthenticationFailure, new_aead
from taps_security.crypto.kdf import HashAlgorithm, hkdf_expand
from taps_security.parts.replay import ReplayWindow
from taps_security.stack.errors import HardLimitReached
from taps_security.stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    LimitKind,
    PathId,
    PeerMoved,
    Stage,
)
from taps_security.stack.layers import Opened, Slab, UnitKind

HEADER, KIND, TAG = 13, 1, 16
PLAINTEXT = KeyId(Stage.INITIAL)


class ToySecret:
    """32 octets from which key and IV follow."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def wipe(self) -> None:
        self._octets = b""

    def expand(self, label: bytes, length: int) -> bytes:
        return hkdf_expand(HashAlgorithm.SHA256, self._octets, label, length)


class Ids:
    """What stands in headers. The handshake changes it, the record reads it."""

    def __init__(self, *mine: bytes, peer: bytes = b"") -> None:
        self.mine = set(mine)
        self.peer = peer
        self.hello = b""  # the id and share of a server's client: from a Hello with others comes another stack

    def concern(self, message: memoryview) -> bool:
        """A message in clear text is ours."""
        if message[0] == 0xC1:
            return bool(self.hello) and message[2:38] == self.hello
        return bytes(message[1:5]) in self.mine


class _Key:
    """A key under which something is sealed or opened, and what is left of it."""

    def __init__(self, ready: KeyReady, now: float) -> None:
        assert isinstance(ready.secret, ToySecret)
        self.id, self.direction = ready.key, ready.direction
        self.aead = new_aead(CHACHA20_POLY1305, ready.secret.expand(b"key", 32))
        self.iv = int.from_bytes(ready.secret.expand(b"iv", 12), "big")
        self.limits = {limit.kind: limit for limit in ready.limits}
        self.since = now
        self.used: dict[LimitKind, float] = dict.fromkeys(LimitKind, 0)
        self.told: set[tuple[LimitKind, bool]] = set()
        self.confirmed = False
        self.first = -1  # the lowest number that opened under it

    def nonce(self, number: int) -> bytes:
        return (self.iv ^ number).to_bytes(12, "big")

    def due(self) -> float | None:
        """When its time is over."""
        time = self.limits.get(LimitKind.TIME)
        if time is None or time.on_use:
            return None
        for bound, hard in ((time.soft, False), (time.hard, True)):
            if (LimitKind.TIME, hard) not in self.told:
                return self.since + bound
        return None

    def look(self, now: float, *, in_use: bool) -> list[KeyExpiring]:
        """What has become true of its limits."""
        self.used[LimitKind.TIME] = now - self.since
        news = []
        for kind, limit in self.limits.items():
            if limit.on_use and not in_use:
                continue
            for bound, hard in ((limit.soft, False), (limit.hard, True)):
                if self.used[kind] >= bound and (kind, hard) not in self.told:
                    self.told.add((kind, hard))
                    news.append(KeyExpiring(self.id, self.direction, kind, hard))
        return news

    def refuses(self) -> bool:
        return any(hard for _, hard in self.told)


class ToyRecord:
    """A DatagramRecord."""

    def __init__(self, ids: Ids, first: int, bits: int, window: int = 1024) -> None:
        self.deadline: float | None = None
        self.ids = ids
        self._first, self._bits = first, bits
        self._window = ReplayWindow(window)
        self._send: dict[KeyId, _Key] = {}
        self._receive: dict[int, _Key] = {}  # by generation
        self._newest = 0  # the newest generation that opened something
        self._next = 0
        self.path: PathId | None = None  # by which the newest datagram came
        self._events: deque[KeyConfirmed | KeyExpiring | PeerMoved] = deque()
        self.failed = 0
        self.replayed = 0

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def next_event(self) -> KeyConfirmed | KeyExpiring | PeerMoved | None:
        return self._events.popleft() if self._events else None

    # -- keys -----------------------------------------------------------------------------------------------------
    def import_key(self, ready: KeyReady, now: float) -> None:
        key = _Key(ready, now)
        if ready.direction is Direction.SEND:
            self._send[ready.key] = key
        else:
            self._receive[ready.key.generation] = key
        self._look_at_clock()

    def discard_key(self, event: KeyDiscarded) -> None:
        if event.direction is Direction.SEND:
            self._send.pop(event.key, None)
        else:
            self._receive.pop(event.key.generation, None)
        self._look_at_clock()

    def deadline_reached(self, now: float) -> None:
        for key in (*self._send.values(), *self._receive.values()):
            self._events.extend(key.look(now, in_use=False))
        self._look_at_clock()

    def _look_at_clock(self) -> None:
        dues = (key.due() for key in (*self._send.values(), *self._receive.values()))
        self.deadline = min((due for due in dues if due is not None), default=None)

    # -- sealing --------------------------------------------------------------------------------------------------
    def overhead(self, key: KeyId) -> int:
        return HEADER + KIND + TAG

    def headroom(self, key: KeyId) -> int:
        return HEADER + KIND

    def seal(self, key: KeyId, kind: int, slab: Slab, stride: int, count: int, last: int, now: float) -> int:
        state = self._send[key]
        full, into = stride - self.overhead(key), slab.view
        state.used[LimitKind.PACKETS] += count
        state.used[LimitKind.BYTES] += full * (count - 1) + last
        self._events.extend(state.look(now, in_use=True))
        if state.refuses():
            raise HardLimitReached("this key has protected as much as it may")
        head = bytes((self._first | key.generation & self._bits,)) + self.ids.peer
        number = first = self._next
        for index in range(count):
            start = index * stride
            header = head + number.to_bytes(8, "big")
            body = start + HEADER
            end = body + KIND + (full if index < count - 1 else last)
            into[start:body] = header
            into[body] = kind
            state.aead.encrypt_into(state.nonce(number), into[body:end], header, into[body : end + TAG])
            number += 1
        self._next = number
        return first

    def may_have_sent(self, quoted: bytes) -> bool:
        """A Hello with our id, a Welcome for the peer's, or one of the last that were sealed."""
        if quoted[:1] == b"\xc1":
            return quoted[2:6] in self.ids.mine
        if quoted[1:5] != self.ids.peer:
            return False
        sealed = quoted[0] & ~self._bits == self._first and len(quoted) >= HEADER
        return quoted[0] == 0xC3 or (sealed and int.from_bytes(quoted[5:HEADER], "big") < self._next)

    # -- opening --------------------------------------------------------------------------------------------------
    def open(self, data: memoryview, segment: int, path: PathId, opened: Opened, now: float) -> int:
        opened.clear()
        total = len(data)
        step = segment or total
        position = 0
        run: tuple[int, int] | None = None
        while position < total:
            datagram = data[position : position + step]
            head = datagram[0]
            if 0xC0 <= head <= 0xCF:
                if not self.ids.concern(datagram):
                    break
                self._stop(opened, UnitKind.HANDSHAKE, PLAINTEXT, 0, datagram)
                position += len(datagram)
                break
            if len(datagram) < HEADER + KIND + TAG or head & ~self._bits != self._first:
                opened.failed += 1
                position += len(datagram)
                continue
            if bytes(datagram[1:5]) not in self.ids.mine:
                break
            number = int.from_bytes(datagram[5:HEADER], "big")
            if not self._window.is_fresh(number) or (run is not None and run[0] <= number <= run[1]):
                self.replayed += 1
                position += len(datagram)
                continue
            key = self._key_of(head & self._bits, number)
            if key is None:
                self._stop(opened, UnitKind.KEY_MISSING, PLAINTEXT, number, datagram)
                break
            plaintext = self._open_one(key, number, datagram, opened, now)
            position += len(datagram)
            if plaintext is None:
                continue
            if run is not None and number == run[1] + 1:
                run = run[0], number
            else:
                if run is not None:
                    self._window.opened(*run)
                run = number, number
            self._saw(key, number, path, run)
            kind = UnitKind(plaintext[0]) if plaintext[0] < UnitKind.KEY_MISSING else UnitKind.NOTHING
            if kind is not UnitKind.APPLICATION:
                self._stop(opened, kind, key.id, number, plaintext[KIND:])
                break
            opened.plaintexts.append(plaintext[KIND:])
        if run is not None:
            self._window.opened(*run)
        self.failed += opened.failed
        return position

    def _open_one(self, key: _Key, number: int, datagram: memoryview, opened: Opened, now: float) -> memoryview | None:
        body = datagram[HEADER:]
        try:
            key.aead.decrypt_into(key.nonce(number), body, bytes(datagram[:HEADER]), body[:-TAG])
        except AuthenticationFailure:
            opened.failed += 1
            key.used[LimitKind.FAILED_OPENINGS] += 1
            self._events.extend(key.look(now, in_use=True))
            return None
        return body[:-TAG]

    def _key_of(self, bits: int, number: int) -> _Key | None:
        """The key of these bits: the newest that opened something, the one before it, or one ahead."""
        newest = self._newest
        for generation in (newest, newest + 1, newest - 1) if self._bits == 1 else self._receive:
            key = self._receive.get(generation)
            if key is None or generation & self._bits != bits:
                continue
            if generation == newest + 1 and self._bits == 1 and number < self._receive[newest].first:
                continue  # an old number with the other phase: the generation before
            return key
        return None

    def _saw(self, key: _Key, number: int, path: PathId, run: tuple[int, int]) -> None:
        """An authentic datagram."""
        if key.first < 0 or number < key.first:
            key.first = number
        if not key.confirmed:
            key.confirmed = True
            self._newest = max(self._newest, key.id.generation)
            self._events.append(KeyConfirmed(key.id))
        if number > self._window.highest:
            if self.path is not None and path != self.path:
                self._events.append(PeerMoved(self.path, path))
            self.path = path

    @staticmethod
    def _stop(opened: Opened, kind: UnitKind, key: KeyId, number: int, unit: memoryview) -> None:
        opened.kind, opened.key, opened.number, opened.unit = kind, key, number, unit
