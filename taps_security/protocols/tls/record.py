"""The TLS 1.3 record protocol (RFC 8446 §5): seals and opens records under installed keys.

May live here: sequence numbers, nonces, content types, padding, record limits, key limits. Must not: messages,
alerts' meaning, timers. Nonces cannot repeat: each key counts its own records, the count only goes up, and a key
that reached its hard limit refuses.

Records open in place, and a run of application records ends up as one contiguous stretch of the read buffer: each
plaintext is written where the one before it ended, over its content type octet.
"""

from __future__ import annotations

from functools import lru_cache

from ...crypto.aead import AuthenticationFailure, KeyInUse
from ...stack.errors import HardLimitReached, PeerMisbehaved
from ...stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    LimitKind,
    Stage,
)
from ...stack.layers import SendBuffer, Slab, StreamOpened, UnitKind
from ...stack.records import RecordEvents
from .keys import TrafficSecret
from .limits import HEADER_SIZE, MAX_CIPHERTEXT, MAX_PLAINTEXT
from .reasons import Reason

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23  # ContentType, RFC 8446 §5.1
CLIENT_HELLO = 1  # HandshakeType, RFC 8446 §4

_KIND_OF_TYPE = {ALERT: UnitKind.CONTROL, HANDSHAKE: UnitKind.HANDSHAKE}
_TYPE_OF_KIND: dict[int, int] = {
    UnitKind.APPLICATION: APPLICATION_DATA,
    UnitKind.HANDSHAKE: HANDSHAKE,
    UnitKind.CONTROL: ALERT,
    UnitKind.NOTHING: CHANGE_CIPHER_SPEC,
}
_TAG = 16
_AROUND = HEADER_SIZE + 1 + _TAG
_HEADER_START = bytes((APPLICATION_DATA, 3, 3))
_TYPE_OCTET = {kind: bytes((kind,)) for kind in (CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA)}
SMALL = 1024  # octets of a message that is sealed from a copy: cheaper than slicing the slab
_FULL = MAX_PLAINTEXT + 1 + _TAG
_FULL_HEADER = bytes((APPLICATION_DATA, 3, 3, _FULL >> 8, _FULL & 255))
_PLAINTEXT_KEY = KeyId(Stage.INITIAL)


@lru_cache(maxsize=16)
def _confirmed(key: KeyId) -> KeyConfirmed:
    """The same object for all connections."""
    return KeyConfirmed(key)


@lru_cache(maxsize=16)
def _sizes(limit: int) -> tuple[int, int]:
    """Content octets of one record, as `limit` counts the type too, and octets behind a record's header."""
    return limit - 1, limit + _TAG


class _Key(KeyInUse):
    """One traffic key in use: its cipher, its next record number, and where its limits are."""

    __slots__ = (
        "hard",
        "iv",
        "key",
        "number",
        "piece",
        "skippable",
        "soft",
        "wire_limit",
    )

    def __init__(self, ready: KeyReady, secret: TrafficSecret) -> None:
        octets, iv = secret.key_and_iv()
        super().__init__(secret.suite.aead, octets)
        self.key = ready.key
        self.iv = int.from_bytes(iv, "big")
        self.number = 0
        self.piece, self.wire_limit = _sizes(secret.record_size_limit)
        self.skippable = secret.skippable_early_data
        self.soft = self.hard = 1 << 62
        for limit in ready.limits:
            if limit.kind is LimitKind.PACKETS:
                self.soft, self.hard = int(limit.soft), int(limit.hard)


class TlsRecord(RecordEvents):
    """Seals and opens the records of one connection. `padding`: inner plaintexts grow to a multiple of it (0: none)."""

    __slots__ = (
        "_compatible",
        "_padding",
        "_protected",
        "_receive",
        "_receive_seen",
        "_said_hello",
        "_send",
        "deadline",
        "skippable_early_data",
    )

    def __init__(self, *, padding: int = 0) -> None:
        super().__init__()
        self.deadline: float | None = None
        self.skippable_early_data = 0  # octets that go by unread while there is no key at all (RFC 8446 §4.2.10)
        self._padding = padding
        self._send: tuple[_Key, ...] = ()  # one, but in a handshake and while keys change
        self._receive: _Key | None = None
        self._receive_seen = False  # something opened under the receiving key
        self._protected = False  # there was a receiving key: plaintext is over
        self._said_hello = False  # we sent a record: a client its ClientHello, a server its answer to one
        self._compatible = True  # until the peer's Finished: compatibility records and plaintext alerts (RFC 8446 §5)

    # -- keys -----------------------------------------------------------------------------------------------------
    def import_key(self, ready: KeyReady, now: float = 0.0) -> None:
        """Install a key. The newest receiving key is the only one; sending keys stay until discarded."""
        assert isinstance(ready.secret, TrafficSecret)
        state = _Key(ready, ready.secret)
        if ready.direction is Direction.SEND:
            self._send = (state, *[one for one in self._send if one.key != ready.key])
        else:
            if self._receive is not None:
                self._receive.forget()
            self._receive = state
            self._receive_seen = False
            self._protected = True
            if ready.key.stage is Stage.APPLICATION:
                self._compatible = False

    def discard_key(self, event: KeyDiscarded) -> None:
        """Forget a key."""
        if event.direction is Direction.SEND:
            for state in self._send:
                if state.key == event.key:
                    state.forget()
            self._send = tuple([one for one in self._send if one.key != event.key])
        elif self._receive is not None and self._receive.key == event.key:
            self._receive.forget()
            self._receive = None

    def deadline_reached(self, now: float) -> None:
        """TLS keys do not age."""

    def sending(self, key: KeyId) -> _Key:
        """The state of a sending key. KeyError if there is none."""
        for state in self._send:
            if state.key == key:
                return state
        raise KeyError(key)

    # -- sealing --------------------------------------------------------------------------------------------------
    def seal(self, key: KeyId, kind: int, source: SendBuffer, slab: Slab, offset: int, now: float) -> int:
        """Seal from `source` into `slab` behind `offset`; the offset behind the last record.

        A call that reaches the soft limit ends there: what is left in `source` goes under the next key. Under
        KeyId(INITIAL) records are plaintext (RFC 8446 §5.1). Raises HardLimitReached.
        """
        content_type = _TYPE_OF_KIND[kind]
        if key == _PLAINTEXT_KEY:
            return self._frame(content_type, source, slab, offset)
        state = self.sending(key)
        before = state.number
        if before >= state.hard:
            raise HardLimitReached(
                "this key has protected as many records as it may; update_keys() was not answered in time",
                section="RFC 8446 §5.5",
            )
        # One call stops at the soft limit, so that a key update can still go out under this key before the hard one.
        last = state.soft if before < state.soft < state.hard else state.hard
        if source.size <= SMALL and not self._padding and before < last:
            alone = source.take_alone(min(SMALL, len(slab.view) - offset - _AROUND, state.piece))
            if alone is not None:
                return self._seal_alone(state, content_type, alone, slab.view, offset)
        whole = state.piece == MAX_PLAINTEXT and not self._padding
        if whole and source.size >= MAX_PLAINTEXT and not offset and content_type == APPLICATION_DATA:
            offset = _seal_full(state, source, slab, last)
        offset = self._seal_rest(state, content_type, source, slab, offset, last)
        if before < state.soft <= state.number:
            self._report(KeyExpiring(key, Direction.SEND, LimitKind.PACKETS))
        return offset

    def _seal_alone(self, state: _Key, content_type: int, octets: bytes, view: memoryview, offset: int) -> int:
        """One small record."""
        length = len(octets) + 1 + _TAG
        header = _HEADER_START + length.to_bytes(2, "big")
        start = offset + HEADER_SIZE
        end = start + length
        view[offset:start] = header
        number = state.number
        nonce = (state.iv ^ number).to_bytes(12, "big")
        (state.aead or state.cipher()).encrypt_into(nonce, octets + _TYPE_OCTET[content_type], header, view[start:end])
        state.number = number + 1
        if number + 1 == state.soft:
            self._report(KeyExpiring(state.key, Direction.SEND, LimitKind.PACKETS))
        return end

    def _frame(self, content_type: int, source: SendBuffer, slab: Slab, offset: int) -> int:
        view = slab.view
        while source.size and len(view) - offset > HEADER_SIZE:
            start = offset + HEADER_SIZE
            length = source.copy_into(view[start : start + MAX_PLAINTEXT])
            first_hello = not self._said_hello and content_type == HANDSHAKE and view[start] == CLIENT_HELLO
            version = 1 if first_hello else 3  # for old middleboxes (RFC 8446 §5.1)
            self._said_hello = True
            view[offset:start] = bytes((content_type, 3, version, length >> 8, length & 255))
            offset = start + length
        return offset

    def _seal_rest(self, state: _Key, content_type: int, source: SendBuffer, slab: Slab, offset: int, last: int) -> int:
        """Records of any size at any place, up to number `last`."""
        view, padding = slab.view, self._padding
        if state.number == last:
            return offset
        while source.size and state.number < last:
            start = offset + HEADER_SIZE
            room = min(len(view) - start - _TAG - 1, state.piece)
            if room <= 0:
                break
            inner = source.copy_into(view[start : start + room]) + 1
            view[start + inner - 1] = content_type
            if padding:
                padded = min(inner + -inner % padding, room + 1)
                view[start + inner : start + padded] = bytes(padded - inner)
                inner = padded
            length = inner + _TAG
            header = _HEADER_START + length.to_bytes(2, "big")
            view[offset:start] = header
            nonce = (state.iv ^ state.number).to_bytes(12, "big")
            (state.aead or state.cipher()).encrypt_into(
                nonce, view[start : start + inner], header, view[start : start + length]
            )
            state.number += 1
            offset = start + length
        return offset

    # -- opening --------------------------------------------------------------------------------------------------
    def open(self, data: memoryview, opened: StreamOpened, now: float) -> int:
        """Open records in place. Returns the octets consumed; see StreamRecord."""
        opened.application = opened.kind = opened.unit = None
        state = self._receive
        if state is None:
            return self._open_plaintext(data, opened)
        aead, iv, number, wire_limit = state.aead or state.cipher(), state.iv, state.number, state.wire_limit
        total = len(data)
        position, begun = 0, number
        run = write = -1  # where the run of application octets begins, and where it goes on
        while total - position >= HEADER_SIZE:
            length = data[position + 3] << 8 | data[position + 4]
            if data[position] != APPLICATION_DATA or length > wire_limit or length <= _TAG:
                state.number = number
                self._give_run(opened, state, data, run, write)
                return self._open_odd(data, position, length, opened)
            end = position + HEADER_SIZE + length
            if end > total:
                break
            if run < 0:
                run = write = position
            inner = write + length - _TAG
            try:
                aead.decrypt_into(
                    (iv ^ number).to_bytes(12, "big"),
                    data[position + HEADER_SIZE : end],
                    data[position : position + HEADER_SIZE],
                    data[write:inner],
                )
            except AuthenticationFailure:
                state.number = number
                if not self._skip(state, length):
                    self._give_run(opened, state, data, run, write if write > run else -1)
                    raise _bad_record("a record does not authenticate") from None
                position, run = end, -1
                continue
            number += 1
            position = end
            inner -= 1
            content_type = data[inner]
            if not content_type:
                content_type, inner = _strip_padding(data, write, inner)
            if content_type == APPLICATION_DATA:
                write = inner
                continue
            state.number = number
            self._give_run(opened, state, data, run, write if write > run else -1)
            opened.kind = _kind_of_inner(content_type, inner - write)
            opened.key = state.key
            opened.unit = data[write:inner]
            return position
        state.number = number
        if self._receive_seen and run >= 0:
            opened.application = data[run:write]
            if write == run:
                opened.empty = number - begun
        else:
            self._give_run(opened, state, data, run, write)
        return position

    def _give_run(self, opened: StreamOpened, state: _Key, data: memoryview, run: int, write: int) -> None:
        """A run that began: its octets, which may be none."""
        if run < 0:
            return
        if not self._receive_seen and state.number:
            self._receive_seen = True
            state.skippable = 0
            self._report(_confirmed(state.key))
        if write >= run:
            opened.application = data[run:write]
            opened.empty = 1

    def _skip(self, state: _Key, length: int) -> bool:
        """A refused early-data record goes by unread, up to a bound (RFC 8446 §4.2.10)."""
        if self._receive_seen or state.number or length > state.skippable:
            return False
        state.skippable -= length
        return True

    def _open_plaintext(self, data: memoryview, opened: StreamOpened) -> int:
        """Before any key: one record."""
        if len(data) < HEADER_SIZE:
            return 0
        return self._open_odd(data, 0, data[3] << 8 | data[4], opened)

    def _open_odd(self, data: memoryview, position: int, length: int, opened: StreamOpened) -> int:
        """One record that is not protected application data; octets consumed. Its version means nothing (§5.1)."""
        content_type = data[position]
        if content_type not in {CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA}:
            raise PeerMisbehaved(
                f"content type {content_type} is not of TLS", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5"
            )
        limit = MAX_PLAINTEXT if content_type != APPLICATION_DATA else MAX_CIPHERTEXT
        if self._receive is not None and content_type == APPLICATION_DATA:
            limit = self._receive.wire_limit
        if length > limit:
            raise PeerMisbehaved(
                f"a record of {length} octets; at most {limit} are allowed",
                reason=Reason.RECORD_OVERFLOW,
                section="RFC 8446 §5.2",
            )
        start = position + HEADER_SIZE
        if start + length > len(data):
            return position
        unit = data[start : start + length]
        kind = self._kind_of_odd(content_type, unit)
        opened.kind, opened.key, opened.unit = kind, _PLAINTEXT_KEY, unit
        if kind is UnitKind.KEY_MISSING:
            return position
        return start + length

    def _kind_of_odd(self, content_type: int, unit: memoryview) -> UnitKind:
        if content_type == CHANGE_CIPHER_SPEC:
            if self._compatible and self._said_hello and len(unit) == 1 and unit[0] == 1:
                return UnitKind.NOTHING
            raise PeerMisbehaved(
                "a change_cipher_spec record out of place", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5"
            )
        if content_type == APPLICATION_DATA:
            if self._receive is not None:
                raise _bad_record("a record too short to hold anything")
            if len(unit) > self.skippable_early_data or self._protected:
                return UnitKind.KEY_MISSING
            self.skippable_early_data -= len(unit)
            return UnitKind.NOTHING
        if not unit:
            raise PeerMisbehaved("an empty record", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5.1")
        if content_type == ALERT and self._compatible:
            return UnitKind.CONTROL  # a peer that failed before it had keys says so in plaintext
        if self._protected:
            raise PeerMisbehaved(
                "a plaintext record after keys were agreed", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5"
            )
        return _KIND_OF_TYPE[content_type]


def _seal_full(state: _Key, source: SendBuffer, slab: Slab, last: int) -> int:
    """Full application records from the slab's front up to number `last`, through slices made once per slab."""
    layout = slab.layout
    if type(layout) is not list:
        layout = slab.layout = _layout(slab)
    buffer, copy, iv, number = slab.buffer, source.copy_into, state.iv, state.number
    encrypt = (state.aead or state.cipher()).encrypt_into
    offset = 0
    for body, type_at, header, inner, out, end in layout:
        if source.size < MAX_PLAINTEXT or number == last:
            break
        copy(body)
        header[:] = _FULL_HEADER
        buffer[type_at] = APPLICATION_DATA
        encrypt((iv ^ number).to_bytes(12, "big"), inner, _FULL_HEADER, out)
        number += 1
        offset = end
    state.number = number
    return offset


def _layout(slab: Slab) -> list[tuple[memoryview, int, memoryview, memoryview, memoryview, int]]:
    """The slices of each full record that fits: body, where its type stands, header, inner plaintext, output, end."""
    view = slab.view
    step = HEADER_SIZE + _FULL
    return [
        (
            view[start + HEADER_SIZE : start + HEADER_SIZE + MAX_PLAINTEXT],
            start + HEADER_SIZE + MAX_PLAINTEXT,
            view[start : start + HEADER_SIZE],
            view[start + HEADER_SIZE : start + HEADER_SIZE + MAX_PLAINTEXT + 1],
            view[start + HEADER_SIZE : start + step],
            start + step,
        )
        for start in range(0, len(view) - step + 1, step)
    ]


def _bad_record(text: str) -> PeerMisbehaved:
    return PeerMisbehaved(text, reason=Reason.BAD_RECORD_MAC, section="RFC 8446 §5.2")


def _kind_of_inner(content_type: int, size: int) -> UnitKind:
    """What a protected record carries that is not application data."""
    kind = _KIND_OF_TYPE.get(content_type)
    if not content_type:
        raise PeerMisbehaved(
            "a record of nothing but padding", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5.4"
        )
    if kind is None:
        raise PeerMisbehaved(
            f"content type {content_type} inside a record", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5"
        )
    if not size:
        raise PeerMisbehaved(
            "an empty handshake or alert record", reason=Reason.UNEXPECTED_MESSAGE, section="RFC 8446 §5.4"
        )
    return kind


def _strip_padding(data: memoryview, start: int, end: int) -> tuple[int, int]:
    """The content type behind the zeros, and where it stands; 0 if there is none (RFC 8446 §5.4)."""
    inner = bytes(data[start:end]).rstrip(b"\0")
    return (inner[-1], start + len(inner) - 1) if inner else (0, start)
