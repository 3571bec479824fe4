"""Transport data (whitepaper §5.4.6): seals and opens datagrams under the key pairs that are installed.

    octet   0          4                 8              16
            04 000000  receiver's index  counter (LE)   sealed inner packet, padded with zeros; tag

May live here: counters, nonces, replay windows, key limits, where the peer was seen. Must not: messages of the
handshake, timers, inner packets. Nonces cannot repeat: each key counts its own datagrams, the count only goes up, and
a key that reached its hard limit refuses.

Both directions work in place: what a datagram costs beside its cipher is two slices of memory and two packed headers.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from struct import Struct

from ...crypto.aead import CHACHA20_POLY1305, AuthenticationFailure, KeyInUse
from ...parts.replay import ReplayWindow
from ...stack.errors import HardLimitReached
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
    Stage,
)
from ...stack.layers import Opened, Slab, UnitKind
from ...stack.records import RecordEvents
from .keys import TransportSecret

HEADER, TAG = 16, 16
OVERHEAD = HEADER + TAG
INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4  # four octets, little-endian: three of them are zero
SIZES = {RESPONSE: 92, COOKIE_REPLY: 64}  # octets
WINDOW = 8192  # counters behind the newest that may still come (§5.4.6 wants a window; this is the Linux driver's)

_NEVER = float("inf")
_NO_LIMIT = 1 << 64
_HANDSHAKE_KEY = KeyId(Stage.INITIAL)
_header = Struct("<IIQ")
_nonce = Struct("<4xQ").pack  # four zeros and the counter
_read_header = _header.unpack_from
_write_header = _header.pack_into
_read_start = Struct("<II").unpack_from  # type, and sender's index in a response or receiver's in the others
_read_index = Struct("<I").unpack_from


@lru_cache(maxsize=64)
def _confirmed(key: KeyId) -> KeyConfirmed:
    """The same object for all peers."""
    return KeyConfirmed(key)


class _Key(KeyInUse):
    """One key in use: its cipher, and where its limits are. `born`: when its pair was agreed."""

    __slots__ = ("born", "hard_at", "hard_number", "index", "key", "soft_at", "soft_number")

    def __init__(self, ready: KeyReady, secret: TransportSecret, born: float) -> None:
        super().__init__(CHACHA20_POLY1305, secret.key)
        self.key = ready.key
        self.born = born
        self.index = int.from_bytes(secret.index, "little")
        self.soft_at = self.hard_at = _NEVER
        self.soft_number = self.hard_number = _NO_LIMIT
        for limit in ready.limits:
            if limit.kind is LimitKind.TIME:
                self.soft_at, self.hard_at = born + limit.soft, born + limit.hard
            elif limit.kind is LimitKind.PACKETS:
                self.soft_number, self.hard_number = int(limit.soft), int(limit.hard)


class _SendKey(_Key):
    __slots__ = ("number",)

    def __init__(self, ready: KeyReady, secret: TransportSecret, born: float) -> None:
        super().__init__(ready, secret, born)
        self.number = 0  # the next counter


class _ReceiveKey(_Key):
    """`first` to `last` opened, are the newest, and not in the window yet: it moves once per run."""

    __slots__ = ("confirmed", "first", "last", "window")

    def __init__(self, ready: KeyReady, secret: TransportSecret, born: float) -> None:
        super().__init__(ready, secret, born)
        self.confirmed = False
        self.first, self.last = 0, -1
        self.window: ReplayWindow | None = None  # once something came out of order

    def begin_run(self, number: int) -> None:
        """There is a gap before `number`, which is the newest."""
        if self.last >= self.first:
            window = self.window
            if window is None:
                window = self.window = ReplayWindow(WINDOW)
            window.opened(max(self.first, self.last - WINDOW + 1), self.last)
        self.first = self.last = number

    def is_fresh(self, number: int) -> bool:
        """Whether `number`, which is not ahead of all others, was not seen and is young enough to tell."""
        if number >= self.first or self.last - number >= WINDOW:
            return False
        return self.window is None or self.window.is_fresh(number)

    def opened_late(self, number: int) -> None:
        """A number from behind the newest was authentic."""
        if self.window is None:
            self.window = ReplayWindow(WINDOW)
        self.window.opened(number)


class Layout:
    """Slices of a slab for datagrams `stride` octets apart: where each begins, its plaintext, its sealed plaintext."""

    __slots__ = ("places", "stride")

    def __init__(self, stride: int) -> None:
        self.stride = stride
        self.places: list[tuple[int, memoryview, memoryview]] = []


def layout(slab: Slab, stride: int, count: int) -> list[tuple[int, memoryview, memoryview]]:
    """At least `count` places of the slab's layout for that stride, which is made once and kept with the slab."""
    known = slab.layout
    if type(known) is not Layout or known.stride != stride:
        known = slab.layout = Layout(stride)
    places, view = known.places, slab.view
    while len(places) < count:
        start = len(places) * stride
        end = start + stride
        places.append((start, view[start + HEADER : end - TAG], view[start + HEADER : end]))
    return places


class WireGuardRecord(RecordEvents):
    """The DatagramRecord of one peer. `dropped` counts by reason, and may be shared by all peers of a tunnel.

    `path`: by which the newest authentic datagram came. `indices`: those of our handshakes' that wait for an answer.
    """

    __slots__ = ("_newest", "_receive", "_send", "deadline", "dropped", "indices", "path")

    def __init__(self, dropped: Counter[str]) -> None:
        super().__init__()
        self.deadline: float | None = None  # limits count on use only
        self.path: PathId = 0
        self.indices: tuple[int, ...] = ()
        self.dropped = dropped
        self._send: _SendKey | None = None
        self._receive: tuple[_ReceiveKey, ...] = ()  # previous, current and next, the newest first
        self._newest = -1  # the newest generation that opened something

    # -- keys -----------------------------------------------------------------------------------------------------
    def import_key(self, ready: KeyReady, now: float) -> None:
        """Install a key. A SEND key takes the place of the one before it; it is as old as its pair, however long it
        was withheld.
        """
        assert isinstance(ready.secret, TransportSecret)
        if ready.direction is Direction.SEND:
            if self._send is not None:
                self._send.forget()
            born = next((state.born for state in self._receive if state.key == ready.key), now)
            self._send = _SendKey(ready, ready.secret, born)
        else:
            self._receive = (_ReceiveKey(ready, ready.secret, now), *self._receive)

    def discard_key(self, event: KeyDiscarded) -> None:
        """Forget a key."""
        if event.direction is Direction.SEND:
            if self._send is not None and self._send.key == event.key:
                self._send.forget()
                self._send = None
            return
        for state in self._receive:
            if state.key == event.key:
                state.forget()
        self._receive = tuple([state for state in self._receive if state.key != event.key])

    def deadline_reached(self, now: float) -> None:
        """Nothing: a key that nobody uses asks for nothing."""

    # -- sealing --------------------------------------------------------------------------------------------------
    def overhead(self, key: KeyId) -> int:
        """Header and tag."""
        return OVERHEAD

    def headroom(self, key: KeyId) -> int:
        """The header."""
        return HEADER

    def sealable(self, now: float) -> int:
        """How many datagrams the sending key may still seal; 0 without one."""
        state = self._send
        if state is None or now >= state.hard_at:
            return 0
        return max(state.hard_number - state.number, 0)

    @property
    def send_key(self) -> KeyId | None:
        """Under which seal() works."""
        return None if self._send is None else self._send.key

    @property
    def sealable_until(self) -> float:
        """When the sending key is over, in monotonic seconds."""
        return -_NEVER if self._send is None else self._send.hard_at

    def seal(self, key: KeyId, kind: int, slab: Slab, stride: int, count: int, last: int, now: float) -> int:
        """Seal `count` datagrams in place; the first counter. See DatagramRecord.

        Raises HardLimitReached, and KeyError if `key` is not the sending key.
        """
        state = self._send
        if state is None or state.key != key:
            raise KeyError(key)
        first = number = state.number
        if now >= state.hard_at or number + count > state.hard_number:
            self._refuse(state, now)
        state.number = behind = first + count  # before anything is sealed: whatever fails, none comes again
        known = slab.layout
        if type(known) is Layout and known.stride == stride and len(known.places) >= count:
            places = known.places
        else:
            places = layout(slab, stride, count)
        buffer, index = slab.buffer, state.index
        encrypt = (state.aead or state.cipher()).encrypt_into
        full = count if last == stride - OVERHEAD else count - 1
        for start, plaintext, sealed in places if len(places) == full else places[:full]:
            _write_header(buffer, start, TRANSPORT, index, number)
            encrypt(_nonce(number), plaintext, None, sealed)
            number += 1
        if full < count:
            start = places[full][0]
            end = start + HEADER + last
            view = slab.view
            _write_header(buffer, start, TRANSPORT, index, number)
            encrypt(_nonce(number), view[start + HEADER : end], None, view[start + HEADER : end + TAG])
        if now >= state.soft_at or behind >= state.soft_number:
            kind_of_limit = LimitKind.TIME if now >= state.soft_at else LimitKind.PACKETS
            state.soft_at, state.soft_number = _NEVER, _NO_LIMIT  # told once
            self._report(KeyExpiring(key, Direction.SEND, kind_of_limit))
        return first

    def _refuse(self, state: _SendKey, now: float) -> None:
        """A hard limit."""
        limit = LimitKind.TIME if now >= state.hard_at else LimitKind.PACKETS
        raise HardLimitReached(
            f"this key may seal nothing more ({limit.value}), and there is no newer one", section="whitepaper §6.2"
        )

    def may_have_sent(self, quoted: memoryview) -> bool:
        """Whether a datagram of this peer's stack began so: transport data under the sending key, whose index its
        peer chose at random, or a message with one of our own indices.
        """
        if len(quoted) < HEADER:
            return False
        kind, index, number = _read_header(quoted)
        if kind == TRANSPORT:
            send = self._send
            return send is not None and index == send.index and number < send.number
        return kind in {INITIATION, RESPONSE} and index in self.indices

    # -- opening --------------------------------------------------------------------------------------------------
    def open(self, data: memoryview, segment: int, path: PathId, opened: Opened, now: float) -> int:
        """Open a run of datagrams in place; the octets consumed. See DatagramRecord."""
        opened.clear()
        total = len(data)
        if not segment and total >= OVERHEAD and self._receive and self._open_next(data, total, path, opened, now):
            return total
        give = opened.plaintexts.append
        step = segment or total
        position = last = 0
        state: _ReceiveKey | None = None
        index = hard = -1
        begin = expected = -1  # what came ahead of all others in this call, in one run: `begin` to `expected` - 1
        while position < total:
            end = position + step
            if end > total:  # noqa: PLR1730 -- min() takes longer
                end = total
            if end - position < OVERHEAD:
                break
            kind, receiver, number = _read_header(data, position)
            if kind != TRANSPORT:
                break
            if receiver != index:
                if state is not None:
                    self._opened_run(state, begin, expected, path, now)
                state = self._key_of(receiver)
                if state is None:
                    break
                index, last = receiver, state.last
                begin = expected = last + 1
                hard = state.hard_number if now < state.hard_at else -1
                decrypt = (state.aead or state.cipher()).decrypt_into
            plaintext = data[position + HEADER : end - TAG]
            if number == expected and number < hard:
                try:
                    decrypt(_nonce(number), data[position + HEADER : end], None, plaintext)
                except AuthenticationFailure:
                    self._drop(opened, "unauthentic")
                else:
                    expected = number + 1
                    give(plaintext)
            else:
                assert state is not None
                self._opened_run(state, begin, expected, path, now)
                if self._open_odd(state, number, data[position + HEADER : end], path, opened, now):
                    give(plaintext)
                begin = expected = state.last + 1
            position = end
        if state is not None:
            self._opened_run(state, begin, expected, path, now)
        return total if position >= total else self._end_run(data, position, step, opened)

    def _open_next(self, data: memoryview, total: int, path: PathId, opened: Opened, now: float) -> bool:
        """The usual single datagram: the next one under the newest key, with no news in it. False: it is another."""
        state = self._receive[0]
        kind, receiver, number = _read_header(data)
        if (
            kind != TRANSPORT
            or receiver != state.index
            or number != state.last + 1
            or number >= state.hard_number
            or not state.confirmed
            or path != self.path
            or now >= state.soft_at
            or now >= state.hard_at
        ):
            return False
        plaintext = data[HEADER : total - TAG]
        try:
            (state.aead or state.cipher()).decrypt_into(_nonce(number), data[HEADER:], None, plaintext)
        except AuthenticationFailure:
            self._drop(opened, "unauthentic")
        else:
            state.last = number
            opened.plaintexts.append(plaintext)
        return True

    def _key_of(self, index: int) -> _ReceiveKey | None:
        for state in self._receive:
            if state.index == index:
                return state
        return None

    def _drop(self, opened: Opened, reason: str) -> None:
        opened.failed += 1
        self.dropped[reason] += 1

    def _open_odd(
        self, state: _ReceiveKey, number: int, sealed: memoryview, path: PathId, opened: Opened, now: float
    ) -> bool:
        """A datagram that is not the next one, or under a key that is over."""
        if now >= state.hard_at:
            self._drop(opened, "key expired")
        elif number >= state.hard_number:
            self._drop(opened, "counter beyond its limit")
        elif number <= state.last and not state.is_fresh(number):
            self._drop(opened, "replayed")
        else:
            try:
                (state.aead or state.cipher()).decrypt_into(_nonce(number), sealed, None, sealed[:-TAG])
            except AuthenticationFailure:
                self._drop(opened, "unauthentic")
                return False
            if number > state.last:
                state.begin_run(number)
                self._saw(state, path, now, newest=True)
            else:
                state.opened_late(number)
                self._saw(state, path, now, newest=False)
            return True
        return False

    def _opened_run(self, state: _ReceiveKey, begin: int, end: int, path: PathId, now: float) -> None:
        """The counters `begin` to `end` - 1 opened, which follow the newest."""
        if end > begin:
            state.last = end - 1
            if path != self.path or now >= state.soft_at or not state.confirmed:
                self._saw(state, path, now, newest=True)

    def _saw(self, state: _ReceiveKey, path: PathId, now: float, *, newest: bool) -> None:
        """Something authentic came under that key."""
        generation = state.key.generation
        if not state.confirmed:
            state.confirmed = True
            self._newest = max(self._newest, generation)
            self._report(_confirmed(state.key))
        if newest and path != self.path and generation >= self._newest:
            old, self.path = self.path, path
            self._report(PeerMoved(old, path))
        if now >= state.soft_at:
            state.soft_at = _NEVER  # told once
            self._report(KeyExpiring(state.key, Direction.RECEIVE, LimitKind.TIME))

    def _end_run(self, data: memoryview, position: int, step: int, opened: Opened) -> int:
        """What stands behind the transport data of a run: an answer to our handshake, noise, or another's."""
        unit = data[position : position + step]
        size = len(unit)
        if size < 8:
            return position
        kind, index = _read_start(unit)
        if kind == RESPONSE and size == SIZES[RESPONSE]:
            (index,) = _read_index(unit, 8)
        elif kind == TRANSPORT:
            if size < OVERHEAD and self._key_of(index) is not None:
                self._drop(opened, "malformed")
                return position + size
            return position
        elif kind != COOKIE_REPLY or size != SIZES[COOKIE_REPLY]:
            return position
        if index not in self.indices:
            return position
        opened.kind, opened.key, opened.unit = UnitKind.HANDSHAKE, _HANDSHAKE_KEY, unit
        return position + size
