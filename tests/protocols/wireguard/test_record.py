"""The record: what it seals another opens, whatever the network does to it, and what is wrong leaves no trace."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from taps_security.crypto.aead import CHACHA20_POLY1305, RESIDENT, new_aead
from taps_security.protocols.wireguard.keys import TransportSecret
from taps_security.protocols.wireguard.limits import REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES
from taps_security.protocols.wireguard.record import (
    HEADER,
    OVERHEAD,
    WINDOW,
    WireGuardRecord,
    layout,
)
from taps_security.stack.errors import HardLimitReached
from taps_security.stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    PeerMoved,
    Stage,
)
from taps_security.stack.layers import Opened, Slab, UnitKind

KEY, NEXT, AFTER_NEXT = (KeyId(Stage.APPLICATION, number) for number in range(3))
LIMITS = (
    Limit(LimitKind.TIME, 120.0, 180.0, on_use=True),
    Limit(LimitKind.PACKETS, REKEY_AFTER_MESSAGES, REJECT_AFTER_MESSAGES),
)
INDEX = b"\x01\x02\x03\x04"


def slab_of(size: int = 1 << 16) -> Slab:
    buffer = bytearray(size)
    return Slab(buffer, memoryview(buffer))


def ready(direction: Direction, key: KeyId = KEY, index: bytes = INDEX, limits: tuple[Limit, ...] = LIMITS) -> KeyReady:
    return KeyReady(key, direction, TransportSecret(bytes((key.generation,)) * 32, index), limits)


def pair(key: KeyId = KEY, index: bytes = INDEX, limits: tuple[Limit, ...] = LIMITS):
    sender, receiver = WireGuardRecord(Counter()), WireGuardRecord(Counter())
    sender.import_key(ready(Direction.SEND, key, index, limits), 0.0)
    receiver.import_key(ready(Direction.RECEIVE, key, index, limits), 0.0)
    return sender, receiver


def sealed(record: WireGuardRecord, *plaintexts: bytes, key: KeyId = KEY, now: float = 1.0) -> bytes:
    """A run of equal plaintexts, of which the last may be shorter."""
    slab, stride = slab_of(), OVERHEAD + len(plaintexts[0])
    for number, plaintext in enumerate(plaintexts):
        at = number * stride + HEADER
        slab.view[at : at + len(plaintext)] = plaintext
    record.seal(key, UnitKind.APPLICATION, slab, stride, len(plaintexts), len(plaintexts[-1]), now)
    return bytes(slab.view[: stride * (len(plaintexts) - 1) + OVERHEAD + len(plaintexts[-1])])


def opened(record: WireGuardRecord, data: bytes, segment: int = 0, path: int = 0, now: float = 1.0) -> list[bytes]:
    """All that a record opens of a run."""
    found, view, position = Opened(), memoryview(bytearray(data)), 0
    plaintexts: list[bytes] = []
    while position < len(view):
        step = record.open(view[position:], segment, path, found, now)
        plaintexts += map(bytes, found.plaintexts)
        if not step:
            break
        position += step
    return plaintexts


def events(record: WireGuardRecord) -> list[object]:
    found: list[object] = []
    while (event := record.next_event()) is not None:
        found.append(event)
    assert not record.has_events
    return found


def number_of(datagram: bytes) -> int:
    return int.from_bytes(datagram[8:16], "little")


def set_number(record: WireGuardRecord, number: int) -> None:
    assert record._send is not None
    record._send.number = number


# ------------------------------------------------------------------------------------------------------------- format
def test_a_datagram_is_as_the_whitepaper_says() -> None:
    sender, _ = pair()
    set_number(sender, 7)
    datagram = sealed(sender, b"inner packet, 16")
    assert datagram[:16] == b"\x04\0\0\0" + INDEX + (7).to_bytes(8, "little")
    aead = new_aead(CHACHA20_POLY1305, bytes(32))
    assert aead.decrypt(bytes(4) + (7).to_bytes(8, "little"), datagram[16:], None) == b"inner packet, 16"
    assert sender.overhead(KEY) == len(datagram) - 16
    assert sender.headroom(KEY) == 16


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("last", [0, 16, 1392])
def test_runs_open_in_place(count: int, last: int) -> None:
    sender, receiver = pair()
    rng = random.Random(count * 10_000 + last)
    plaintexts = [rng.randbytes(1392) for _ in range(count - 1)] + [rng.randbytes(last)]
    if count == 1:
        plaintexts = [rng.randbytes(max(last, 16))]
    data = bytearray(sealed(sender, *plaintexts))
    found, segment = Opened(), OVERHEAD + len(plaintexts[0])
    assert receiver.open(memoryview(data), segment, 0, found, 1.0) == len(data)
    assert [bytes(one) for one in found.plaintexts] == plaintexts
    assert all(one.obj is data for one in found.plaintexts)
    assert (found.kind, found.failed) == (None, 0)
    assert opened(receiver, sealed(sender, b"more")) == [b"more"]


def test_a_slab_keeps_its_slices() -> None:
    sender, _ = pair()
    slab = slab_of()
    sender.seal(KEY, UnitKind.APPLICATION, slab, 1424, 40, 1392, 1.0)
    kept = slab.layout
    sender.seal(KEY, UnitKind.APPLICATION, slab, 1424, 30, 100, 1.0)
    assert slab.layout is kept
    assert len(layout(slab, 1424, 10)) == 40
    assert len(layout(slab, 1000, 2)) == 2
    assert slab.layout is not kept


def test_nonces_never_repeat() -> None:
    sender, _ = pair()
    numbers = []
    for count in (3, 1, 4, 1):
        data = sealed(sender, *[b"x" * 16] * count)
        numbers += [number_of(data[at : at + 48]) for at in range(0, len(data), 48)]
    assert numbers == list(range(9))


# -------------------------------------------------------------------------------------------------------- replay
def test_no_nonce_comes_again_after_sealing_failed_in_the_middle() -> None:
    sender, receiver = pair()
    assert sender._send is not None
    cipher = sender._send.cipher()
    calls = []

    class Failing:
        def encrypt_into(self, nonce: bytes, data: Any, associated: Any, into: Any) -> int:
            calls.append(nonce)
            if len(calls) == 3:
                raise MemoryError
            return cipher.encrypt_into(nonce, data, associated, into)

    sender._send.aead = Failing()  # type: ignore[assignment]
    with pytest.raises(MemoryError):
        sealed(sender, *[bytes(32)] * 5)
    datagram = sealed(sender, bytes(32))
    assert calls[-1] not in calls[:-1]
    assert number_of(datagram) == 5
    assert opened(receiver, datagram) == [bytes(32)]


def test_the_same_datagram_opens_once() -> None:
    sender, receiver = pair()
    data = [sealed(sender, bytes((number,))) for number in range(20)]
    assert [opened(receiver, one) for one in data] == [[bytes((number,))] for number in range(20)]
    assert [opened(receiver, one) for one in data] == [[]] * 20
    assert receiver.dropped == {"replayed": 20}
    assert opened(receiver, data[19] * 2, 33) == []


def test_a_datagram_twice_in_one_run_opens_once() -> None:
    sender, receiver = pair()
    one, two = sealed(sender, b"1"), sealed(sender, b"2")
    assert opened(receiver, one + one + two + one + two, 33) == [b"1", b"2"]
    assert receiver.dropped["replayed"] == 3


@pytest.mark.parametrize("seed", range(6))
def test_any_order_within_the_window(seed: int) -> None:
    sender, receiver = pair()
    rng = random.Random(seed)
    data = [sealed(sender, number.to_bytes(2, "big")) for number in range(600)]
    order = sorted(range(600), key=lambda number: number + rng.uniform(0, 10**seed))
    seen: set[bytes] = set()
    for number in order:
        run = data[number] if rng.random() < 0.7 else data[number] + data[rng.choice(order)]
        for plaintext in opened(receiver, run, 34):
            assert plaintext not in seen
            seen.add(plaintext)
    assert len(seen) == 600


def test_the_window_has_8192_numbers() -> None:
    sender, receiver = pair()
    old = []
    for number in (0, 1, 2, WINDOW, WINDOW + 1):
        set_number(sender, number)
        old.append(sealed(sender, b"%d" % number))
    assert opened(receiver, old[4])
    assert opened(receiver, old[2])  # the oldest that may still come
    assert not opened(receiver, old[1])  # one too old: WINDOW behind the newest
    assert not opened(receiver, old[0])
    assert opened(receiver, old[3])
    assert not opened(receiver, old[2])
    assert receiver.dropped == {"replayed": 3}


def test_a_long_run_moves_the_window_as_single_ones_would() -> None:
    sender, receiver = pair()
    first = sealed(sender, b"first")
    late = sealed(sender, b"late")
    assert opened(receiver, first)
    for _ in range(2):
        for _ in range(128):
            assert len(opened(receiver, sealed(sender, *[b"x"] * 64), 33)) == 64
    set_number(sender, 30_000)  # a gap: the run is committed
    assert opened(receiver, sealed(sender, b"gap"))
    assert not opened(receiver, late)
    set_number(sender, 20_000)
    assert not opened(receiver, sealed(sender, b"too old"))
    set_number(sender, 29_000)
    assert opened(receiver, sealed(sender, b"in the gap"))
    set_number(sender, 29_000)
    assert not opened(receiver, sealed(sender, b"in the gap"))


def test_what_does_not_open_moves_nothing() -> None:
    sender, receiver = pair()
    assert opened(receiver, sealed(sender, b"0"))
    events(receiver)
    forged = bytearray(sealed(sender, b"1"))
    forged[8:16] = (REJECT_AFTER_MESSAGES - 1).to_bytes(8, "little")
    assert not opened(receiver, bytes(forged), path=9)
    assert receiver.dropped == {"unauthentic": 1}
    assert events(receiver) == []
    assert opened(receiver, sealed(sender, b"2")) == [b"2"]
    for position in range(33):
        broken = bytearray(sealed(sender, b"3"))
        broken[position] ^= 1
        assert not opened(receiver, bytes(broken))
    assert opened(receiver, sealed(sender, b"4")) == [b"4"]


def test_a_broken_one_in_a_run_hides_none_of_the_others() -> None:
    sender, receiver = pair()
    data = bytearray(sealed(sender, *[b"%d" % number for number in range(5)]))
    data[33 * 2 + 20] ^= 1
    assert opened(receiver, bytes(data), 33) == [b"0", b"1", b"3", b"4"]
    assert receiver.dropped == {"unauthentic": 1}


# --------------------------------------------------------------------------------------------------------- limits
@pytest.mark.parametrize(("now", "opens"), [(179.9, True), (180.0, False), (1e6, False)])
def test_keys_are_over_after_180_seconds(now: float, opens: bool) -> None:
    sender, receiver = pair()
    data = sealed(sender, b"in time")
    assert bool(opened(receiver, data, now=now)) is opens
    assert bool(sender.sealable(now)) is opens
    if not opens:
        assert receiver.dropped == {"key expired": 1}
        with pytest.raises(HardLimitReached, match="seconds"):
            sealed(sender, b"late", now=now)


def test_the_last_counters() -> None:
    sender, receiver = pair()
    set_number(sender, REJECT_AFTER_MESSAGES - 2)
    assert sender.sealable(1.0) == 2
    with pytest.raises(HardLimitReached, match="packets"):
        sealed(sender, b"a", b"b", b"c")  # three are too many, and none is sealed
    data = sealed(sender, b"a", b"b")
    assert number_of(data[33:]) == REJECT_AFTER_MESSAGES - 1
    assert sender.sealable(1.0) == 0
    with pytest.raises(HardLimitReached):
        sealed(sender, b"c")
    assert opened(receiver, data, 33) == [b"a", b"b"]
    for number in (REJECT_AFTER_MESSAGES, (1 << 64) - 1):
        assert sender._send is not None
        aead = new_aead(CHACHA20_POLY1305, bytes(32))
        counter = number.to_bytes(8, "little")
        beyond = b"\x04\0\0\0" + INDEX + counter + aead.encrypt(bytes(4) + counter, b"beyond", None)
        assert not opened(receiver, beyond)
    assert receiver.dropped == {"counter beyond its limit": 2}


def test_a_run_over_the_last_counter_opens_up_to_it() -> None:
    limits = (Limit(LimitKind.PACKETS, 10, 1000),)
    sender, _ = pair(limits=limits)
    receiver = WireGuardRecord(Counter())
    receiver.import_key(ready(Direction.RECEIVE, limits=(Limit(LimitKind.PACKETS, 10, 3),)), 0.0)
    assert opened(receiver, sealed(sender, *[b"x"] * 5), 33) == [b"x"] * 3
    assert receiver.dropped == {"counter beyond its limit": 2}


def test_soft_limits_are_told_once_and_on_use_only() -> None:
    sender, receiver = pair()
    data = [sealed(sender, b"x") for _ in range(3)]
    assert sender.deadline is receiver.deadline is None
    sender.deadline_reached(130.0)
    assert events(sender) == []
    sealed(sender, b"x", now=119.9)
    assert events(sender) == []
    sealed(sender, b"x", now=120.0)
    sealed(sender, b"x", now=121.0)
    assert events(sender) == [KeyExpiring(KEY, Direction.SEND, LimitKind.TIME)]
    opened(receiver, data[0], now=119.9)
    opened(receiver, data[1], now=120.0)
    opened(receiver, data[2], now=130.0)
    assert events(receiver) == [KeyConfirmed(KEY), KeyExpiring(KEY, Direction.RECEIVE, LimitKind.TIME)]


def test_a_key_that_was_told_of_is_over_in_time_all_the_same() -> None:
    sender, receiver = pair()
    data = [sealed(sender, b"x") for _ in range(3)]
    opened(receiver, data[0], now=130.0)
    assert opened(receiver, data[1], now=179.9)
    assert not opened(receiver, data[2], now=180.0)
    assert receiver.dropped == {"key expired": 1}


def test_two_to_the_sixty_messages_are_a_soft_limit() -> None:
    sender, _ = pair()
    set_number(sender, REKEY_AFTER_MESSAGES - 2)
    sealed(sender, b"x")
    assert events(sender) == []
    sealed(sender, b"x")
    assert events(sender) == [KeyExpiring(KEY, Direction.SEND, LimitKind.PACKETS)]


# ----------------------------------------------------------------------------------------------------------- keys
def test_three_receiving_keys_and_one_sending_key() -> None:
    receiver, sender = WireGuardRecord(Counter()), WireGuardRecord(Counter())
    indices = {KEY: b"aaaa", NEXT: b"bbbb", AFTER_NEXT: b"cccc"}
    data = {}
    for key, index in indices.items():
        receiver.import_key(ready(Direction.RECEIVE, key, index), 0.0)
        sender.import_key(ready(Direction.SEND, key, index), 0.0)
        assert sender.send_key == key
        data[key] = [sealed(sender, b"%d%d" % (key.generation, turn), key=key) for turn in range(3)]
    with pytest.raises(KeyError):
        sealed(sender, b"x", key=KEY)
    mixed = data[KEY][0] + data[AFTER_NEXT][0] + data[NEXT][0] + data[KEY][1]
    assert opened(receiver, mixed, 34) == [b"00", b"20", b"10", b"01"]
    assert {event.key for event in events(receiver)} == {KEY, NEXT, AFTER_NEXT}
    receiver.discard_key(KeyDiscarded(NEXT, Direction.RECEIVE))
    assert opened(receiver, data[NEXT][1]) == []
    assert opened(receiver, data[AFTER_NEXT][1]) == [b"21"]
    sender.discard_key(KeyDiscarded(NEXT, Direction.SEND))  # not the one that is in use
    assert sender.send_key == AFTER_NEXT
    sender.discard_key(KeyDiscarded(AFTER_NEXT, Direction.SEND))
    assert sender.send_key is None
    assert sender.sealable(1.0) == 0


def test_many_keys_share_few_ciphers() -> None:
    pairs = [pair() for _ in range(RESIDENT)]
    datagrams = [sealed(sender, b"x") for sender, _ in pairs]
    for (_, receiver), datagram in zip(pairs, datagrams, strict=True):
        assert opened(receiver, datagram) == [b"x"]
    with_cipher = [key for sender, receiver in pairs for key in (sender._send, receiver._receive[0]) if key.aead]
    assert len(with_cipher) <= RESIDENT
    for sender, receiver in pairs:
        assert opened(receiver, sealed(sender, b"y")) == [b"y"]


# ---------------------------------------------------------------------------------------------------------- paths
def test_the_newest_datagram_says_where_the_peer_is() -> None:
    sender, receiver = pair()
    data = [sealed(sender, b"x") for _ in range(6)]
    opened(receiver, data[0], path=0)
    assert events(receiver) == [KeyConfirmed(KEY)]
    opened(receiver, data[2], path=1)
    assert events(receiver) == [PeerMoved(0, 1)]
    opened(receiver, data[1], path=0)  # older: it was on its way for long
    opened(receiver, data[2], path=0)  # replayed
    assert events(receiver) == []
    opened(receiver, data[3], path=1)
    assert events(receiver) == []
    opened(receiver, data[4], path=0)
    assert events(receiver) == [PeerMoved(1, 0)]


def test_a_key_that_was_followed_by_another_moves_nobody() -> None:
    receiver, sender = WireGuardRecord(Counter()), WireGuardRecord(Counter())
    receiver.import_key(ready(Direction.RECEIVE, KEY, b"aaaa"), 0.0)
    receiver.import_key(ready(Direction.RECEIVE, NEXT, b"bbbb"), 0.0)
    sender.import_key(ready(Direction.SEND, KEY, b"aaaa"), 0.0)
    old = [sealed(sender, b"old") for _ in range(2)]
    sender.import_key(ready(Direction.SEND, NEXT, b"bbbb"), 0.0)
    opened(receiver, old[0], path=1)
    opened(receiver, sealed(sender, b"new", key=NEXT), path=2)
    opened(receiver, old[1], path=1)
    moves = [event for event in events(receiver) if isinstance(event, PeerMoved)]
    assert moves == [PeerMoved(0, 1), PeerMoved(1, 2)]
    assert receiver.path == 2


# --------------------------------------------------------------------------------------------- what else there may be
def handshake(kind: int, size: int, index: bytes, at: int) -> bytes:
    data = bytearray(size)
    data[0] = kind
    data[at : at + 4] = index
    return bytes(data)


@pytest.mark.parametrize(("kind", "size", "at"), [(2, 92, 8), (3, 64, 4)])
def test_answers_to_our_handshake_come_out_whole(kind: int, size: int, at: int) -> None:
    _, receiver = pair()
    receiver.indices = (int.from_bytes(b"mine", "little"),)
    found = Opened()
    data = bytearray(handshake(kind, size, b"mine", at) + bytes(20))
    assert receiver.open(memoryview(data), size, 0, found, 1.0) == size
    assert (found.kind, found.key) == (UnitKind.HANDSHAKE, KeyId(Stage.INITIAL))
    assert found.unit is not None
    assert bytes(found.unit) == bytes(data[:size])
    for wrong in (handshake(kind, size, b"thei", at), handshake(kind, size - 1, b"mine", at), bytes(data[: size + 1])):
        assert receiver.open(memoryview(bytearray(wrong)), 0, 0, found, 1.0) == 0
        assert found.kind is None


def test_it_stops_before_what_is_another_s() -> None:
    sender, receiver = pair()
    other, _ = pair(index=b"else")
    found = Opened()
    ours, theirs, initiation = sealed(sender, b"x" * 116), sealed(other, b"x" * 116), handshake(1, 148, b"abcd", 4)
    for strange in (theirs, initiation, bytes(148), b"\x05" + ours[1:], b"\x04\x01" + ours[2:]):
        data = bytearray(ours + strange)
        assert receiver.open(memoryview(data), 148, 0, found, 1.0) == 148
        assert len(found.plaintexts) == 1
        assert receiver.open(memoryview(data)[148:], 148, 0, found, 1.0) == 0
        ours = sealed(sender, b"x" * 116)


def test_every_length_from_nothing_to_2000_is_dropped() -> None:
    _, receiver = pair()
    rng = random.Random(1)
    found = Opened()
    for length in range(2001):
        noise = rng.randbytes(length)
        assert receiver.open(memoryview(bytearray(noise)), 0, 0, found, 1.0) in {0, length}
        addressed = (b"\x04\0\0\0" + INDEX + noise)[: max(length, 1)]
        step = receiver.open(memoryview(bytearray(addressed)), 0, 0, found, 1.0)
        assert step == (len(addressed) if length >= 8 else 0)
        assert not found.plaintexts
        assert found.kind is None
    assert receiver.dropped["malformed"] == OVERHEAD - 8
    assert sum(receiver.dropped.values()) == 2001 - 8
    assert events(receiver) == []


def test_an_empty_plaintext_is_a_keepalive() -> None:
    sender, receiver = pair()
    slab = slab_of()
    sender.seal(KEY, UnitKind.APPLICATION, slab, OVERHEAD, 1, 0, 1.0)
    assert opened(receiver, bytes(slab.view[:32])) == [b""]
    assert all(a != b for a, b in pairwise([bytes(slab.view[:32]), sealed(sender, b"")]))
