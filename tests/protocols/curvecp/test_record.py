"""Sealing and opening in place: the golden trace, long headers, windows, moving, and what does not open."""

from __future__ import annotations

import os
import random

import pytest

from taps_security.protocols.curvecp.handshake import FIRST_PACKETS, STREAM
from taps_security.protocols.curvecp.keys import StreamKey
from taps_security.protocols.curvecp.limits import MAX_NUMBER
from taps_security.protocols.curvecp.record import CurveCpRecord
from taps_security.stack.errors import HardLimitReached, LocalError
from taps_security.stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyReady,
    LimitKind,
    PeerMoved,
)
from taps_security.stack.layers import Opened, Slab, UnitKind

from .trace import PACKETS, key

SHORT = key("precomp_client_short_server_short")
OURS, THEIRS = key("client_extension"), key("server_extension")
PUBLIC = key("client_shortterm_pk")
COOKIE = PACKETS[1].plaintext[32:]


def number_of(packet) -> int:
    at = {"Initiate": 168, "ClientMessage": 72, "ServerMessage": 40}[packet.type]
    return int.from_bytes(packet.data[at : at + 8], "little")


def client(number: int = 1, *, long_header: bool = False, secret: bytes = SHORT) -> CurveCpRecord:
    record = CurveCpRecord(client=True, public=PUBLIC, extension=OURS, peer_extension=THEIRS)
    extra = (COOKIE, PACKETS[2].plaintext[:352]) if long_header else ()
    record.import_key(KeyReady(STREAM, Direction.RECEIVE, StreamKey(secret, -1)), 0.0)
    record.import_key(KeyReady(STREAM, Direction.SEND, StreamKey(secret, number, *extra)), 0.0)
    return record


def server(number: int = 1, first: int = -1, secret: bytes = SHORT) -> CurveCpRecord:
    record = CurveCpRecord(client=False, public=PUBLIC, extension=THEIRS, peer_extension=OURS)
    record.import_key(KeyReady(STREAM, Direction.RECEIVE, StreamKey(secret, first)), 0.0)
    record.import_key(KeyReady(STREAM, Direction.SEND, StreamKey(secret, number)), 0.0)
    return record


def open_all(record: CurveCpRecord, datagrams: list[bytes], path: int = 1) -> tuple[list[bytes], Opened, int]:
    """Plaintexts of a run of equal datagrams."""
    opened = Opened()
    data = memoryview(bytearray(b"".join(datagrams)))
    consumed = record.open(data, len(datagrams[0]) if len(datagrams) > 1 else 0, path, opened, 0.0)
    return [bytes(each) for each in opened.plaintexts], opened, consumed


def seal_all(record: CurveCpRecord, messages: list[bytes]) -> list[bytes]:
    """Sealed as one run in a slab that held something else."""
    overhead, size = record.overhead(STREAM), max(map(len, messages))
    stride = overhead + size
    buffer = bytearray(os.urandom(stride * len(messages) + 100))
    view = memoryview(buffer)
    for index, message in enumerate(messages):
        start = index * stride + record.headroom(STREAM)
        view[start : start + len(message)] = message
    record.seal(STREAM, UnitKind.APPLICATION, Slab(buffer, view), stride, len(messages), len(messages[-1]), 0.0)
    ends = [stride] * (len(messages) - 1) + [overhead + len(messages[-1])]
    return [bytes(view[index * stride : index * stride + end]) for index, end in enumerate(ends)]


def events(record: CurveCpRecord) -> list[object]:
    found = []
    while record.has_events:
        found.append(record.next_event())
    assert record.next_event() is None
    return found


# ------------------------------------------------------------------------------------------------- the golden trace
@pytest.mark.parametrize("packet", PACKETS[2:], ids=repr)
def test_the_traces_packets_are_sealed_octet_by_octet(packet) -> None:
    number = number_of(packet)
    if packet.type == "ServerMessage":
        record, message = server(number), packet.plaintext
    else:
        record = client(number, long_header=packet.type == "Initiate")
        message = packet.plaintext[352:] if packet.type == "Initiate" else packet.plaintext
    assert seal_all(record, [message]) == [packet.data]
    assert record.number == number + 1


def test_the_traces_packets_open_in_their_order() -> None:
    opened_client, opened_server = client(), server()
    for packet in PACKETS[2:]:
        record = opened_client if packet.type == "ServerMessage" else opened_server
        expected = packet.plaintext[352:] if packet.type == "Initiate" else packet.plaintext
        plaintexts, _, consumed = open_all(record, [packet.data])
        assert plaintexts == [expected]
        assert consumed == len(packet.data)
        assert open_all(record, [packet.data])[0] == []  # once
    assert opened_client.replayed + opened_server.replayed == len(PACKETS) - 2


# ----------------------------------------------------------------------------------------------------------- batches
@pytest.mark.parametrize("last", [48, 192, 1088])
def test_runs_are_sealed_and_opened_where_they_lie(last: int) -> None:
    messages = [os.urandom(1088) for _ in range(9)] + [os.urandom(last)]
    for sender, receiver in ((client(), server()), (server(), client())):
        datagrams = seal_all(sender, messages)
        plaintexts, opened, consumed = open_all(receiver, datagrams)
        assert plaintexts == messages
        assert consumed == sum(map(len, datagrams))
        assert opened.failed == 0


def test_numbers_open_once_in_any_order_within_the_window() -> None:
    sender, receiver = server(5000), client()
    datagrams = [seal_all(sender, [b"%048d" % number])[0] for number in range(1500)]
    order = list(range(1000))
    random.Random(1).shuffle(order)
    twice = order + order
    opened = [open_all(receiver, [datagrams[number]])[0] for number in twice]
    assert [each[0] for each in opened[:1000]] == [b"%048d" % number for number in order]
    assert not any(opened[1000:])
    assert receiver.replayed == 1000
    assert open_all(receiver, datagrams[1490:1495])[0] == [b"%048d" % number for number in range(1490, 1495)]
    assert open_all(receiver, [datagrams[1490 - 1024 + 4]])[0] == []  # too old to be known


def test_a_run_with_repetitions_and_wrong_ones_gives_the_others() -> None:
    sender, receiver = client(), server()
    datagrams = seal_all(sender, [os.urandom(192) for _ in range(6)])
    wrong = datagrams[1][:-1] + bytes((datagrams[1][-1] ^ 1,))
    run = [datagrams[0], wrong, datagrams[2], datagrams[2], datagrams[0], datagrams[4], datagrams[3], datagrams[1]]
    plaintexts, opened, consumed = open_all(receiver, run)
    assert len(plaintexts) == 5
    assert consumed == 8 * len(datagrams[0])
    assert (opened.failed, receiver.replayed) == (1, 2)


def test_a_servers_window_begins_with_its_initiate() -> None:
    receiver = server(first=100)
    assert open_all(receiver, [seal_all(client(100), [bytes(192)])[0]])[0] == []
    assert open_all(receiver, [seal_all(client(99), [bytes(192)])[0]])[0] == [bytes(192)]


# ------------------------------------------------------------------------------------------------------ long headers
def test_a_client_uses_the_long_header_until_the_server_has_answered() -> None:
    sender, receiver = client(10, long_header=True), server(first=9)
    assert sender.long_header
    assert sender.overhead(STREAM) == 544
    first = seal_all(sender, [b"a" * 192, b"b" * 192])
    assert [datagram[:8] for datagram in first] == [b"QvnQ5XlI"] * 2
    assert open_all(receiver, first)[0] == [b"a" * 192, b"b" * 192]
    assert not events(sender)
    answer = seal_all(receiver, [b"c" * 192])
    assert open_all(sender, answer)[0] == [b"c" * 192]
    assert events(sender) == [KeyConfirmed(STREAM)]
    assert not sender.long_header
    assert sender.overhead(STREAM) == 96
    assert open_all(receiver, seal_all(sender, [b"d" * 1088]))[0] == [b"d" * 1088]
    assert open_all(receiver, first)[0] == []  # the Initiates again


def test_a_cookie_is_the_handshakes() -> None:
    record = CurveCpRecord(client=True, public=PUBLIC, extension=OURS, peer_extension=THEIRS)
    _, opened, consumed = open_all(record, [PACKETS[1].data])
    assert (opened.kind, opened.key) == (UnitKind.HANDSHAKE, FIRST_PACKETS)
    assert bytes(opened.unit or b"") == PACKETS[1].data
    assert consumed == 200


def test_a_client_may_change_its_extension() -> None:
    receiver = server()
    changed = CurveCpRecord(client=True, public=PUBLIC, extension=b"n" * 16, peer_extension=THEIRS)
    changed.import_key(KeyReady(STREAM, Direction.SEND, StreamKey(SHORT, 50)), 0.0)
    assert open_all(receiver, seal_all(changed, [bytes(192)]))[0] == [bytes(192)]
    assert receiver.extensions == (THEIRS, OURS)  # it may have been changed on the way
    assert open_all(receiver, seal_all(changed, [bytes(192)]))[0] == [bytes(192)]
    assert receiver.extensions == (THEIRS, b"n" * 16)
    assert seal_all(receiver, [bytes(192)])[0][8:24] == b"n" * 16
    late = client(20)  # an older datagram does not change it back
    assert open_all(receiver, seal_all(late, [bytes(192)]))[0] == [bytes(192)]
    assert receiver.extensions == (THEIRS, b"n" * 16)


def test_extensions_that_were_changed_on_the_way_change_nothing() -> None:
    """No box covers them."""
    sender, receiver = client(), server()
    for place in (24, 30, 39):
        (datagram,) = seal_all(sender, [bytes(192)])
        datagram = datagram[:place] + bytes((datagram[place] ^ 1,)) + datagram[place + 1 :]
        assert open_all(receiver, [datagram])[0] == [bytes(192)]
        assert receiver.extensions == (THEIRS, OURS)
    for place in (8, 23, 24, 39):
        (datagram,) = seal_all(receiver, [bytes(192)])
        datagram = datagram[:place] + bytes((datagram[place] ^ 1,)) + datagram[place + 1 :]
        assert open_all(sender, [datagram])[0] == [bytes(192)]
        assert open_all(sender, [datagram])[0] == []  # once
        assert sender.extensions == (OURS, THEIRS)


# -------------------------------------------------------------------------------------------------------------- news
def test_the_newest_datagram_says_where_the_peer_is() -> None:
    sender, receiver = client(), server()
    receiver.path = 1
    datagrams = [seal_all(sender, [bytes(192)])[0] for _ in range(4)]
    open_all(receiver, [datagrams[0]], path=1)
    open_all(receiver, [datagrams[2]], path=2)
    assert events(receiver) == [KeyConfirmed(STREAM), PeerMoved(1, 2)]
    open_all(receiver, [datagrams[1]], path=1)  # older: it was on its way
    open_all(receiver, [datagrams[3][:-1] + bytes((datagrams[3][-1] ^ 1,))], path=3)
    open_all(receiver, [datagrams[2]], path=3)
    assert not events(receiver)
    open_all(receiver, [datagrams[3]], path=3)
    assert events(receiver) == [PeerMoved(2, 3)]


def test_a_key_ends_with_its_numbers() -> None:
    sender = client((1 << 63) - 1)
    seal_all(sender, [bytes(192)])
    assert not events(sender)
    seal_all(sender, [bytes(192)])
    seal_all(sender, [bytes(192)])
    assert events(sender) == [KeyExpiring(STREAM, Direction.SEND, LimitKind.PACKETS)]
    sender = client(MAX_NUMBER)
    with pytest.raises(HardLimitReached):
        seal_all(sender, [bytes(192), bytes(192)])


def test_discarded_keys_do_nothing() -> None:
    sender, receiver = client(), server()
    datagrams = seal_all(sender, [bytes(192)])
    receiver.discard_key(KeyDiscarded(STREAM, Direction.RECEIVE))
    plaintexts, opened, consumed = open_all(receiver, datagrams)
    assert (plaintexts, opened.failed, consumed) == ([], 1, len(datagrams[0]))
    sender.discard_key(KeyDiscarded(STREAM, Direction.SEND))
    with pytest.raises(LocalError):
        seal_all(sender, [bytes(192)])
    assert sender.number == 0
    sender.deadline_reached(0.0)


# --------------------------------------------------------------------------------------------------------- bad input
def test_every_length_of_noise_is_consumed() -> None:
    at_client, at_server = client(), server()
    for size in range(1, 1401):
        noise = os.urandom(size)
        for record, magic in ((at_client, b"RL3aNMXM"), (at_client, b"RL3aNMXK"), (at_client, b"")):
            plaintexts, opened, consumed = open_all(record, [(magic + noise)[:size]])
            assert plaintexts == []
            assert consumed == size
            assert opened.failed == 1 or opened.kind is UnitKind.HANDSHAKE
        ours = b"QvnQ5XlM" + THEIRS + OURS + PUBLIC
        plaintexts, opened, consumed = open_all(at_server, [(ours + noise)[:size]])
        assert plaintexts == []
        assert consumed == (size if size >= 72 else 0)


def test_another_clients_datagram_ends_a_run() -> None:
    receiver = server()
    mine = seal_all(client(), [bytes(192), bytes(192)])
    theirs = bytearray(mine[1])
    theirs[40] ^= 1
    plaintexts, _, consumed = open_all(receiver, [mine[0], bytes(theirs), mine[1]])
    assert plaintexts == [bytes(192)]
    assert consumed == len(mine[0])
    hello = PACKETS[0].data
    assert open_all(receiver, [hello])[2] == 0


@pytest.mark.parametrize("index", [2, 3, 4])
def test_every_changed_octet_is_noticed(index: int) -> None:
    packet = PACKETS[index]
    for place in range(len(packet.data)):
        record = client() if packet.type == "ServerMessage" else server()
        changed = bytearray(packet.data)
        changed[place] ^= 1
        plaintexts, _, _ = open_all(record, [bytes(changed)])
        if (8 if packet.type == "ServerMessage" else 24) <= place < 40:
            assert len(plaintexts) == 1  # no box covers extensions, and a client's may change
        elif packet.type == "Initiate" and 72 <= place < 168:
            assert len(plaintexts) == 1  # the cookie was looked at when the connection was made
        else:
            assert plaintexts == [], place
        assert open_all(record, [packet.data])[0] != [] or plaintexts
