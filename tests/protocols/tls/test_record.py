from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.crypto import aead as aead_module
from taps_security.crypto.aead import RESIDENT, Aead, AeadAlgorithm, new_aead
from taps_security.protocols.tls.keys import (
    TLS_AES_128_GCM_SHA256,
    TLS_AES_256_GCM_SHA384,
    TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite,
    TrafficSecret,
)
from taps_security.protocols.tls.limits import MAX_CIPHERTEXT, MAX_INNER_PLAINTEXT, MAX_PLAINTEXT
from taps_security.protocols.tls.reasons import Reason
from taps_security.protocols.tls.record import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, TlsRecord
from taps_security.stack.errors import HardLimitReached, PeerMisbehaved
from taps_security.stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    Stage,
)
from taps_security.stack.layers import SendBuffer, Slab, StreamOpened, UnitKind
from tests.protocols.tls.rfc8448 import Trace, load

SUITES = (TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256)
INITIAL, EARLY, SHAKING, KEY, NEXT = (
    KeyId(Stage.INITIAL),
    KeyId(Stage.EARLY),
    KeyId(Stage.HANDSHAKE),
    KeyId(Stage.APPLICATION, 0),
    KeyId(Stage.APPLICATION, 1),
)
Units = list[tuple[UnitKind, bytes]]


def secret(
    suite: CipherSuite = SUITES[0], seed: int = 1, limit: int = MAX_INNER_PLAINTEXT, skip: int = 0
) -> TrafficSecret:
    return TrafficSecret(suite, bytes((seed,)) * suite.hash.size, limit, skippable_early_data=skip)


def sealer(with_secret: TrafficSecret | None = None, *limits: Limit, padding: int = 0, key: KeyId = KEY) -> TlsRecord:
    record = TlsRecord(padding=padding)
    record.import_key(KeyReady(key, Direction.SEND, with_secret or secret(), limits))
    return record


def opener(with_secret: TrafficSecret | None = None, key: KeyId = KEY) -> TlsRecord:
    record = TlsRecord()
    record.import_key(KeyReady(key, Direction.RECEIVE, with_secret or secret()))
    return record


def seal(
    record: TlsRecord, octets: bytes, kind: UnitKind = UnitKind.APPLICATION, key: KeyId = KEY, room: int = 70_000
) -> bytes:
    """Everything sealed, through slabs of `room` octets."""
    source, wire = SendBuffer(), b""
    source.append(octets)
    buffer = bytearray(room)
    slab = Slab(buffer, memoryview(buffer))
    while source.size:
        end = record.seal(key, kind, source, slab, 0, 0.0)
        assert end
        wire += bytes(slab.view[:end])
    return wire


def protect(inner: bytes, number: int = 0, suite: CipherSuite = SUITES[0], seed: int = 1) -> bytes:
    """One record made by hand, so that it may be wrong inside."""
    key, iv = secret(suite, seed).key_and_iv()
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    header = bytes((APPLICATION_DATA, 3, 3)) + (len(inner) + 16).to_bytes(2, "big")
    return header + new_aead(suite.aead, key).encrypt(nonce, inner, header)


def plain(content_type: int, octets: bytes, version: int = 0x0303) -> bytes:
    return bytes((content_type,)) + version.to_bytes(2, "big") + len(octets).to_bytes(2, "big") + octets


def units_of(record: TlsRecord, reads: Iterable[bytes], found: Units) -> bytes:
    """Open reads as a stack does, into `found`; the octets that are left. Raises what open() raises."""
    rest, opened = b"", StreamOpened()
    for read in reads:
        buffer = bytearray(rest + read)
        data, position = memoryview(buffer), 0
        while position < len(buffer):
            try:
                step = record.open(data[position:], opened, 0.0)
            finally:
                if opened.application is not None:
                    found.append((UnitKind.APPLICATION, bytes(opened.application)))
            if opened.kind is not None and opened.unit is not None:
                found.append((opened.kind, bytes(opened.unit)))
            position += step
            if opened.kind is None or opened.kind is UnitKind.KEY_MISSING:
                break
        rest = bytes(data[position:])
    return rest


def opened_of(record: TlsRecord, *reads: bytes) -> Units:
    found: Units = []
    assert not units_of(record, reads, found)
    return found


def refusal(record: TlsRecord, wire: bytes) -> PeerMisbehaved:
    with pytest.raises(PeerMisbehaved) as caught:
        units_of(record, [wire], [])
    return caught.value


def application(units: Units) -> bytes:
    assert all(kind is UnitKind.APPLICATION for kind, _ in units)
    return b"".join(octets for _, octets in units)


def events(record: TlsRecord) -> list[object]:
    found = list(iter(record.next_event, None))
    assert not record.has_events
    return found


def cut(wire: bytes, sizes: list[int]) -> Iterator[bytes]:
    position = turn = 0
    while position < len(wire):
        size = sizes[turn % len(sizes)]
        yield wire[position : position + size]
        position += size
        turn += 1


# -- round trips --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(
    chunks=st.lists(st.sampled_from([1, 2, 100, 16_383, 16_384, 16_385, 40_000]), min_size=1, max_size=6),
    room=st.sampled_from([200, 16_406, 50_000, 262_144]),
    sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=5),
    padding=st.sampled_from([0, 0, 64, 512]),
    limit=st.sampled_from([64, 1000, MAX_INNER_PLAINTEXT]),
)
def test_what_was_sealed_opens_however_it_is_cut(
    suite: CipherSuite, chunks: list[int], room: int, sizes: list[int], padding: int, limit: int
) -> None:
    sender = sealer(secret(suite, limit=limit), padding=padding)
    octets = [bytes((index + 1,)) * size for index, size in enumerate(chunks)]
    if limit == 64:
        octets = [chunk[:3000] for chunk in octets]
    wire = b"".join(seal(sender, chunk, room=room) for chunk in octets)
    sizes = [max(size, len(wire) // 50) for size in sizes]
    assert application(opened_of(opener(secret(suite, limit=limit)), *cut(wire, sizes))) == b"".join(octets)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_whole_bytewise_and_with_a_tail(suite: CipherSuite) -> None:
    sender = sealer(secret(suite))
    wire = seal(sender, b"one") + seal(sender, b"two") + seal(sender, b"\x10\x20", UnitKind.CONTROL)
    expected = [(UnitKind.APPLICATION, b"onetwo"), (UnitKind.CONTROL, b"\x10\x20")]
    assert opened_of(opener(secret(suite)), wire) == expected
    single = opened_of(opener(secret(suite)), *cut(wire, [1]))
    assert single == [(UnitKind.APPLICATION, b"one"), (UnitKind.APPLICATION, b"two"), expected[1]]
    found: Units = []
    assert units_of(opener(secret(suite)), [wire + wire[:20]], found) == wire[:20]
    assert found == expected


def test_many_records_become_one_run_in_place() -> None:
    octets = b"".join(bytes((number,)) * (MAX_PLAINTEXT if number % 3 else 7) for number in range(1, 9))
    sender = sealer(padding=0)
    wire = bytearray(b"".join(seal(sender, piece) for piece in (octets[:40_000], octets[40_000:])))
    data, opened = memoryview(wire), StreamOpened()
    assert opener().open(data, opened, 0.0) == len(wire)
    assert opened.application is not None
    assert opened.application.obj is wire
    assert opened.application == octets == data[: len(octets)]  # from the front of the buffer, without a gap
    assert opened.kind is None


def test_open_keeps_no_view() -> None:
    wire = bytearray(seal(sealer(), b"octets"))
    record, opened = opener(), StreamOpened()
    with memoryview(wire) as data:
        record.open(data, opened, 0.0)
        opened.clear()
    wire.clear()  # raises BufferError if a view is left


def test_sealing_goes_on_behind_what_the_slab_holds_and_stops_where_it_ends() -> None:
    record, source, buffer = sealer(), SendBuffer(), bytearray(100)
    slab = Slab(buffer, memoryview(buffer))
    source.append(b"x" * 100)
    assert record.seal(KEY, UnitKind.APPLICATION, source, slab, 78, 0.0) == 78  # no room for one octet
    end = record.seal(KEY, UnitKind.APPLICATION, source, slab, 40, 0.0)
    assert (end, source.size) == (100, 62)
    assert buffer[:40] == bytes(40)
    assert application(opened_of(opener(), bytes(buffer[40:]))) == b"x" * 38


# -- sizes and padding --------------------------------------------------------------------------------------------
def lengths(wire: bytes) -> list[int]:
    """What the headers of a wire say."""
    found, position = [], 0
    while position < len(wire):
        found.append(int.from_bytes(wire[position + 3 : position + 5], "big"))
        position += 5 + found[-1]
    return found


def test_padding_makes_sizes_equal() -> None:
    sender = sealer(padding=128)
    wire = b"".join(seal(sender, b"x" * size) for size in (1, 100, 127, 128))
    assert lengths(wire) == [128 + 16] * 3 + [256 + 16]
    assert application(opened_of(opener(), wire)) == b"x" * 356
    full = seal(sealer(padding=1000), bytes(MAX_PLAINTEXT))
    assert lengths(full) == [MAX_INNER_PLAINTEXT + 16]  # padding never breaks the limit


def test_padded_records_of_any_type_open_among_others() -> None:
    record = opener()
    wire = protect(b"plain\x17") + protect(b"padded\x17" + bytes(50), 1) + protect(b"hs\x16\0\0", 2)
    assert opened_of(record, wire) == [(UnitKind.APPLICATION, b"plainpadded"), (UnitKind.HANDSHAKE, b"hs")]
    assert opened_of(record, protect(b"\0\0\x17\0", 3)) == [(UnitKind.APPLICATION, b"\0\0")]


@pytest.mark.parametrize(
    ("inner", "section"), [(bytes(20), "5.4"), (b"\x16", "5.4"), (b"\x15\0\0", "5.4"), (b"x\x14", "5")]
)
def test_what_must_not_stand_inside_a_record(inner: bytes, section: str) -> None:
    found: Units = []
    with pytest.raises(PeerMisbehaved) as caught:
        units_of(opener(), [protect(b"before\x17") + protect(inner, 1)], found)
    assert found == [(UnitKind.APPLICATION, b"before")]
    assert (caught.value.reason, caught.value.section) == (Reason.UNEXPECTED_MESSAGE, f"RFC 8446 §{section}")


def test_empty_application_records_are_an_empty_run() -> None:
    assert opened_of(opener(), protect(b"\x17") + protect(b"\x17", 1)) == [(UnitKind.APPLICATION, b"")]


def test_the_peers_record_size_limit_is_kept() -> None:
    for padding in (0, 100):
        wire = seal(sealer(secret(limit=64), padding=padding), bytes(200))
        assert max(lengths(wire)) == 64 + 16  # type and padding count, the tag does not
        assert application(opened_of(opener(secret(limit=64)), wire)) == bytes(200)


@pytest.mark.parametrize("limit", [64, MAX_INNER_PLAINTEXT])
def test_our_record_size_limit_is_enforced(limit: int) -> None:
    fits = protect(b"x" * (limit - 1) + b"\x17")
    assert application(opened_of(opener(secret(limit=limit)), fits)) == b"x" * (limit - 1)
    for size in (limit, MAX_CIPHERTEXT):
        error = refusal(opener(secret(limit=limit)), protect(b"x" * size + b"\x17"))
        assert (error.reason, error.section) == (Reason.RECORD_OVERFLOW, "RFC 8446 §5.2")


def test_plaintext_records_have_a_limit_and_it_is_told_by_the_header_alone() -> None:
    assert opened_of(TlsRecord(), plain(HANDSHAKE, bytes(MAX_PLAINTEXT))) == [
        (UnitKind.HANDSHAKE, bytes(MAX_PLAINTEXT))
    ]
    assert refusal(TlsRecord(), plain(HANDSHAKE, bytes(MAX_PLAINTEXT + 1))[:5]).reason is Reason.RECORD_OVERFLOW


# -- plaintext and compatibility records ------------------------------------------------------------------------------
def test_only_the_first_client_hello_says_0x0301() -> None:
    client, hello = TlsRecord(), b"\1\0\0\1x"
    first, second = (seal(client, hello, UnitKind.HANDSHAKE, INITIAL) for _ in range(2))
    assert (first, second) == (plain(HANDSHAKE, hello, 0x0301), plain(HANDSHAKE, hello))
    assert seal(TlsRecord(), b"\2\0\0\1x", UnitKind.HANDSHAKE, INITIAL)[:3] == b"\x16\3\3"


def test_long_plaintext_messages_are_cut() -> None:
    wire = seal(TlsRecord(), b"\2" + bytes(40_000), UnitKind.HANDSHAKE, INITIAL)
    assert lengths(wire) == [MAX_PLAINTEXT, MAX_PLAINTEXT, 40_001 - 2 * MAX_PLAINTEXT]


CCS = plain(CHANGE_CIPHER_SPEC, b"\1")


def test_a_compatibility_record_is_ignored_between_hello_and_finished() -> None:
    record = TlsRecord()
    assert refusal(record, CCS).reason is Reason.UNEXPECTED_MESSAGE  # before any hello
    seal(record, b"\1\0\0\0", UnitKind.HANDSHAKE, INITIAL)
    assert opened_of(record, CCS) == [(UnitKind.NOTHING, b"\1")]
    record.import_key(KeyReady(SHAKING, Direction.RECEIVE, secret()))
    assert opened_of(record, CCS + protect(b"hs\x16")) == [(UnitKind.NOTHING, b"\1"), (UnitKind.HANDSHAKE, b"hs")]
    record.import_key(KeyReady(KEY, Direction.RECEIVE, secret()))
    error = refusal(record, CCS)
    assert (error.reason, error.section) == (Reason.UNEXPECTED_MESSAGE, "RFC 8446 §5")


@pytest.mark.parametrize("octets", [b"", b"\0", b"\2", b"\1\1"])
def test_any_other_change_cipher_spec_is_refused(octets: bytes) -> None:
    record = TlsRecord()
    seal(record, b"\1\0\0\0", UnitKind.HANDSHAKE, INITIAL)
    assert refusal(record, plain(CHANGE_CIPHER_SPEC, octets)).reason is Reason.UNEXPECTED_MESSAGE


def test_a_compatibility_record_can_be_sent() -> None:
    assert seal(TlsRecord(), b"\1", UnitKind.NOTHING, INITIAL) == CCS


def test_a_plaintext_alert_counts_until_application_keys() -> None:
    alert = plain(ALERT, b"\2\x28")
    assert opened_of(TlsRecord(), alert) == [(UnitKind.CONTROL, b"\2\x28")]
    assert opened_of(opener(key=SHAKING), alert) == [(UnitKind.CONTROL, b"\2\x28")]
    assert refusal(opener(), alert).reason is Reason.UNEXPECTED_MESSAGE


def test_plaintext_is_over_once_there_was_a_key() -> None:
    record = opener(key=SHAKING)
    assert refusal(record, plain(HANDSHAKE, b"x")).reason is Reason.UNEXPECTED_MESSAGE
    record.discard_key(KeyDiscarded(SHAKING, Direction.RECEIVE))
    assert refusal(record, plain(HANDSHAKE, b"x")).reason is Reason.UNEXPECTED_MESSAGE
    found: Units = []
    wire = protect(b"x\x17")
    assert units_of(record, [wire], found) == wire
    assert found[0][0] is UnitKind.KEY_MISSING


def test_protected_data_before_a_key_is_not_consumed() -> None:
    record, wire, found = TlsRecord(), protect(b"x\x17"), []
    assert units_of(record, [wire], found) == wire
    assert found[0][0] is UnitKind.KEY_MISSING
    record.import_key(KeyReady(KEY, Direction.RECEIVE, secret()))
    assert application(opened_of(record, wire)) == b"x"


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", Reason.UNEXPECTED_MESSAGE),
        (plain(24, b"x"), Reason.UNEXPECTED_MESSAGE),
        (plain(HANDSHAKE, b""), Reason.UNEXPECTED_MESSAGE),
        (plain(ALERT, b""), Reason.UNEXPECTED_MESSAGE),
        (plain(APPLICATION_DATA, b"")[:3] + b"\xff\xff", Reason.RECORD_OVERFLOW),
    ],
)
def test_what_is_no_tls_record_is_refused(wire: bytes, reason: Reason) -> None:
    error = refusal(TlsRecord(), wire)
    assert error.reason is reason
    assert error.section.startswith("RFC 8446 §5")


def test_the_version_of_a_plaintext_record_means_nothing() -> None:
    """RFC 8446 §5.1: legacy_record_version is ignored for all purposes."""
    for version in (0x0203, 0x0301, 0x0303, 0xFFFF):
        assert opened_of(TlsRecord(), plain(HANDSHAKE, b"x", version)) == [(UnitKind.HANDSHAKE, b"x")]


def test_an_unfinished_header_waits() -> None:
    for record in (TlsRecord(), opener()):
        assert units_of(record, [b"\x17\3\3\0"], []) == b"\x17\3\3\0"


# -- keys and limits -----------------------------------------------------------------------------------------------
def test_the_soft_limit_is_told_once_and_the_hard_limit_refuses() -> None:
    record = sealer(None, Limit(LimitKind.PACKETS, 3, 5))
    for number in range(5):
        assert seal(record, b"x")
        expected = [KeyExpiring(KEY, Direction.SEND, LimitKind.PACKETS)] if number == 2 else []
        assert events(record) == expected
    with pytest.raises(HardLimitReached):
        seal(record, b"x")
    with pytest.raises(HardLimitReached):
        seal(record, b"x", UnitKind.CONTROL)


@pytest.mark.parametrize("offset", [0, 5], ids=["from the slab's front", "behind something"])
def test_one_seal_never_crosses_the_soft_limit_nor_the_hard_one(offset: int) -> None:
    """Else one call could spend the whole key, and the key update itself could not go out under it."""
    record, source = sealer(None, Limit(LimitKind.PACKETS, 2, 5)), SendBuffer()
    source.append(bytes(7 * MAX_PLAINTEXT))
    buffer, steps = bytearray(200_000), []
    for _ in range(2):
        end = record.seal(KEY, UnitKind.APPLICATION, source, Slab(buffer, memoryview(buffer)), offset, 0.0)
        steps.append((len(lengths(bytes(buffer[offset:end]))), len(events(record))))
    assert steps == [(2, 1), (3, 0)]
    assert source.size == 2 * MAX_PLAINTEXT
    with pytest.raises(HardLimitReached):
        record.seal(KEY, UnitKind.APPLICATION, source, Slab(buffer, memoryview(buffer)), offset, 0.0)


def test_a_message_too_small_to_fill_a_record_waits_at_the_soft_limit() -> None:
    record, source, buffer = sealer(None, Limit(LimitKind.PACKETS, 1, 3)), SendBuffer(), bytearray(200_000)
    source.append(bytes(MAX_PLAINTEXT))
    source.append(b"small")
    slab = Slab(buffer, memoryview(buffer))
    end = record.seal(KEY, UnitKind.APPLICATION, source, slab, 0, 0.0)
    assert lengths(bytes(buffer[:end])) == [MAX_INNER_PLAINTEXT + 16]
    assert source.size == 5


def test_no_nonce_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    nonces: list[bytes] = []

    class Spy:
        def __init__(self, aead: Aead) -> None:
            self._aead = aead

        def encrypt_into(self, nonce: bytes, *rest: memoryview) -> int:
            nonces.append(nonce)
            return self._aead.encrypt_into(nonce, *rest)

    def spying(algorithm: AeadAlgorithm, key: bytes) -> Spy:
        return Spy(new_aead(algorithm, key))

    monkeypatch.setattr(aead_module, "new_aead", spying)
    record = sealer()
    for size, kind in ((50_000, UnitKind.APPLICATION), (1, UnitKind.CONTROL), (40_000, UnitKind.APPLICATION)):
        seal(record, bytes(size), kind, room=40_000)
    assert len(nonces) > 6
    base = int.from_bytes(secret().key_and_iv()[1], "big")
    assert [int.from_bytes(nonce, "big") ^ base for nonce in nonces] == list(range(len(nonces)))


def test_a_key_is_confirmed_once() -> None:
    record, sender = opener(), sealer()
    for _ in range(2):
        opened_of(record, seal(sender, b"x"))
    assert events(record) == [KeyConfirmed(KEY)]
    record.import_key(KeyReady(NEXT, Direction.RECEIVE, secret(seed=2)))
    opened_of(record, seal(sealer(secret(seed=2)), b"\x18", UnitKind.HANDSHAKE))
    assert events(record) == [KeyConfirmed(NEXT)]


def test_what_does_not_open_confirms_nothing() -> None:
    record = opener()
    refusal(record, protect(b"x\x17", seed=9))
    assert not events(record)


def test_open_stops_behind_a_key_update_in_the_middle_of_a_read() -> None:
    old, new = sealer(), sealer(secret(seed=2), key=NEXT)
    before = seal(old, b"old") + seal(old, b"\x18\0\0\1\0", UnitKind.HANDSHAKE)
    wire = bytearray(before + seal(new, b"new", key=NEXT))
    record, opened, data = opener(), StreamOpened(), memoryview(wire)
    assert record.open(data, opened, 0.0) == len(before)
    assert (opened.application, opened.kind, opened.key) == (b"old", UnitKind.HANDSHAKE, KEY)
    record.import_key(KeyReady(NEXT, Direction.RECEIVE, secret(seed=2)))
    record.discard_key(KeyDiscarded(KEY, Direction.RECEIVE))  # the new one stays
    assert record.open(data[len(before) :], opened, 0.0) == len(wire) - len(before)
    assert (opened.application, opened.kind) == (b"new", None)


def test_a_discarded_sending_key_seals_nothing() -> None:
    record = sealer()
    record.discard_key(KeyDiscarded(KEY, Direction.SEND))
    with pytest.raises(KeyError):
        seal(record, b"x")
    record.deadline_reached(1.0)
    assert record.deadline is None


# -- early data that is dropped --------------------------------------------------------------------------------------
def test_foreign_early_data_goes_by_up_to_the_bound() -> None:
    foreign = [protect(b"early data\x17", number, seed=9) for number in range(3)]
    size = len(foreign[0]) - 5
    ours = protect(b"hs\x16")
    for reads in ([b"".join(foreign) + ours], [*foreign, ours], list(cut(b"".join(foreign) + ours, [1]))):
        assert opened_of(opener(secret(skip=3 * size)), *reads) == [(UnitKind.HANDSHAKE, b"hs")]
    assert refusal(opener(secret(skip=3 * size - 1)), b"".join(foreign) + ours).reason is Reason.BAD_RECORD_MAC


def test_nothing_is_dropped_once_a_record_opened() -> None:
    for first in (b"hs\x16", b"octets\x17"):
        with pytest.raises(PeerMisbehaved, match="authenticate"):
            units_of(opener(secret(skip=1000)), [protect(first) + protect(b"x\x17", 1, seed=9)], [])


# -- what does not authenticate ----------------------------------------------------------------------------------------
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), suite=st.sampled_from(SUITES), whole=st.booleans())
def test_a_flipped_bit_never_yields_anything_but_what_stood_before(
    position: int, bit: int, suite: CipherSuite, whole: bool
) -> None:
    sender, pieces = sealer(secret(suite)), [b"first", b"second piece", b"3rd"]
    records = [seal(sender, piece) for piece in pieces]
    wire = bytearray(b"".join(records))
    position %= len(wire)
    wire[position] ^= 1 << bit
    intact = next(index for index in range(3) if position < len(b"".join(records[: index + 1])))
    found: Units = []
    with suppress(PeerMisbehaved):
        units_of(opener(secret(suite)), [bytes(wire)] if whole else cut(bytes(wire), [7]), found)
    assert application(found) == b"".join(pieces[:intact])


def test_a_bad_record_is_told_in_one_way() -> None:
    sender = sealer()
    first, second = seal(sender, b"x"), seal(sender, b"y")
    short = plain(APPLICATION_DATA, bytes(16))
    for wire in (second, first + first, protect(b"x\x17", seed=9), short, first[:-1] + b"\0"):
        error = refusal(opener(), wire)
        assert (error.reason, error.section) == (Reason.BAD_RECORD_MAC, "RFC 8446 §5.2")
        assert error.__cause__ is None
        assert error.__context__ is None or error.__suppress_context__


def test_records_of_another_suite_or_generation_do_not_open() -> None:
    for suite in SUITES[1:]:
        assert refusal(opener(secret(suite)), seal(sealer(), b"x")).reason is Reason.BAD_RECORD_MAC
    updated = seal(sealer(secret().updated()), b"x")
    assert application(opened_of(opener(secret().updated()), updated)) == b"x"
    assert refusal(opener(), updated).reason is Reason.BAD_RECORD_MAC


# -- RFC 8448 ---------------------------------------------------------------------------------------------------------
KIND_OF_TITLE = {
    "handshake": UnitKind.HANDSHAKE,
    "application_data": UnitKind.APPLICATION,
    "alert": UnitKind.CONTROL,
    "change_cipher_spec": UnitKind.NOTHING,
}


def sent(trace: Trace, actor: str) -> Iterator[tuple[UnitKind, KeyId, bytes, bytes]]:
    """Kind, key, payload and record of each record of one side. The first protected one is its handshake flight."""
    protected = 0
    for step in trace.steps:
        if step.actor == actor and "complete record" in step.octets:
            wire = step.octets["complete record"]
            key = INITIAL
            if wire[0] == APPLICATION_DATA:
                protected += 1
                key = SHAKING if protected == 1 else KEY
            yield KIND_OF_TITLE[step.title.split()[1]], key, step.octets["payload"], wire


@pytest.mark.parametrize("actor", ["client", "server"])
@pytest.mark.parametrize("section", [3, 5, 6, 7])
def test_the_records_of_rfc8448(section: int, actor: str) -> None:
    trace, sender, receiver = load(section), TlsRecord(), TlsRecord()
    seal(receiver, b"\1\0\0\0", UnitKind.HANDSHAKE, INITIAL)
    keys = {SHAKING: f"tls13 {actor[0]} hs traffic", KEY: f"tls13 {actor[0]} ap traffic"}
    for key, label in keys.items():
        sender.import_key(KeyReady(key, Direction.SEND, TrafficSecret(SUITES[0], trace.secret(label))))
    current = INITIAL
    for kind, key, payload, wire in sent(trace, actor):
        assert seal(sender, payload, kind, key) == wire
        if key is not current:
            traffic = TrafficSecret(SUITES[0], trace.secret(keys[key]))
            receiver.import_key(KeyReady(key, Direction.RECEIVE, traffic))
            current = key
        assert opened_of(receiver, wire) == [(kind, payload)]
    assert current is KEY


def test_idle_keys_lose_their_cipher_and_get_it_back() -> None:
    pairs = [(sealer(), opener()) for _ in range(RESIDENT)]
    for sender, receiver in pairs:
        assert opened_of(receiver, seal(sender, b"first")) == [(UnitKind.APPLICATION, b"first")]
    sender, receiver = pairs[0]
    assert receiver._receive is not None
    assert sender.sending(KEY).aead is None
    assert receiver._receive.aead is None
    assert opened_of(receiver, seal(sender, b"second")) == [(UnitKind.APPLICATION, b"second")]
    kept = sender.sending(KEY)
    sender.discard_key(KeyDiscarded(KEY, Direction.SEND))
    assert kept.aead is None
