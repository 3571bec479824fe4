"""The sending half: nothing is sent that is not needed, nothing is forgotten, nothing is believed that cannot be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taps_security.protocols.curvecp.receiving import ReceiveStream
from taps_security.protocols.curvecp.sending import IDS, Piece, SendStream, failed, wire_id
from taps_security.protocols.curvecp.wire import FAILURE, SUCCESS, parse_ranges


def stream_of(data: bytes, piece: int = 100_000) -> SendStream:
    stream = SendStream()
    for start in range(0, len(data), piece):
        stream.append(data[start : start + piece])
    return stream


def octets(stream: SendStream, start: int, stop: int) -> bytes:
    view = memoryview(bytearray(stop - start))
    stream.copy(start, stop, view, 0)
    return bytes(view)


def test_ids_skip_zero() -> None:
    assert [wire_id(number) for number in (1, 2, IDS, IDS + 1, IDS + 2)] == [1, 2, IDS, 1, 2]


@pytest.mark.parametrize("piece", [1, 7, 4095, 4096, 10_000, 100_000])
def test_octets_of_any_pieces_are_where_they_belong(piece: int) -> None:
    data = random.Random(piece).randbytes(60_000)
    stream = stream_of(data, piece)
    assert stream.final == stream.unsent == len(data)
    assert octets(stream, 0, 60_000) == data
    assert octets(stream, 33_333, 44_444) == data[33_333:44_444]
    assert stream.fresh_blocks(1024) == 58
    view = memoryview(bytearray(58 * 1100))
    stream.copy_blocks(58, 1024, view, 76, 1100)
    assert b"".join(bytes(view[at + 76 : at + 1100]) for at in range(0, 58 * 1100, 1100)) == data[: 58 * 1024]
    stream.sent((0, 30_000), 1, 1024)
    stream.acknowledge(((0, 25_000),))
    assert octets(stream, 25_000, 60_000) == data[25_000:]


def test_blocks_numbers_and_the_end() -> None:
    stream = stream_of(bytes(2500))
    stream.finish()
    assert stream.next_span(1024) == (0, 1024)
    stream.sent((0, 2048), 5, 1024)
    assert stream.next_span(1024) == (2048, 2501)  # the end is a position
    stream.sent((2048, 2501), 7, 1024)
    assert stream.next_span(1024) == (2501, 2501)
    assert not stream.waiting
    assert stream.outstanding
    assert stream.acknowledge(((0, 1024),)) == [(5, 5)]
    assert stream.acknowledge(((0, 2048),)) == [(6, 6)]
    assert stream.acknowledge(((0, 2500),)) == []
    assert stream.unarrived == 0
    assert not stream.over
    assert stream.acknowledge(((0, 2501),)) == [(7, 7)]
    assert stream.over
    assert stream.acknowledge(((0, 2501),)) == []
    assert not failed(stream.end)


def test_an_end_alone() -> None:
    stream = SendStream()
    assert not stream.waiting
    stream.finish()
    assert stream.next_span(1024) == (0, 1)
    assert stream.fresh_blocks(1024) == 0
    stream.sent((0, 1), 1, 1024)
    assert stream.fresh_blocks(1024) == 0
    stream.lose([1])
    assert stream.next_span(1024) == (0, 1)
    stream.sent((0, 1), 2, 1024)
    assert stream.acknowledge(((0, 1),)) == [(2, 2)]
    assert stream.over


@pytest.mark.parametrize(
    "spans", [((0, 1025),), ((5, 6), (2000, 2001)), ((0, 1 << 64),), ((0, 10), (1 << 60, 1 << 61))]
)
def test_what_was_never_sent_is_not_believed(spans: tuple[tuple[int, int], ...]) -> None:
    stream = stream_of(bytes(5000))
    stream.sent((0, 1024), 1, 1024)
    assert stream.acknowledge(spans) is None
    assert stream.base == 0
    assert stream.acknowledge(((0, 1024),)) == [(1, 1)]


def test_lost_blocks_go_again_as_far_as_they_did_not_arrive() -> None:
    stream = stream_of(bytes(10_240))
    stream.sent((0, 10_240), 1, 1024)
    assert stream.acknowledge(((0, 1024), (2100, 2200), (5120, 8192))) == [(1, 1), (6, 8)]
    stream.lose([2, 3, 4, 5, 6, 77])
    assert stream.waiting
    assert stream.fresh_blocks(1024) == 0
    spans = []
    number = 11
    while stream.next_span(1024)[0] < stream.next_span(1024)[1]:
        span = stream.next_span(1024)
        stream.sent(span, number, 1024)
        spans.append(span)
        number += 1
    assert spans == [(1024, 2048), (2048, 2100), (2200, 3224), (3224, 4248), (4248, 5120)]
    stream.lose([2, 3])  # they are known to be lost already
    assert not stream.waiting
    assert stream.acknowledge(((0, 8192),)) == [(11, 15)] or stream.base == 8192


def test_a_peer_that_acknowledges_single_octets_frees_whole_blocks() -> None:
    stream = stream_of(bytes(3000))
    stream.sent((0, 3000), 1, 1024)
    numbers = []
    for place in range(3001):
        numbers += stream.acknowledge(((0, place),)) or []
    assert numbers == [(1, 1), (2, 2), (3, 3)]
    stream = stream_of(bytes(3000))
    stream.sent((0, 3000), 1, 1024)
    numbers = []
    for place in random.Random(4).sample(range(3000), 3000):
        numbers += stream.acknowledge(((place, place + 1),)) or []
    assert sorted(numbers) == [(1, 1), (2, 2), (3, 3)]
    assert stream.base == 3000


def test_what_was_acknowledged_by_id_alone_goes_again_in_the_end() -> None:
    stream = stream_of(bytes(3000))
    stream.sent((0, 3000), 1, 1024)
    stream.acknowledge(((1024, 2048),))
    stream.resend_all()
    assert stream.next_span(1024) == (0, 1024)
    stream.sent((0, 1024), 4, 1024)
    assert stream.next_span(1024) == (2048, 3000)


def test_drop_ends_everything() -> None:
    stream = stream_of(bytes(100_000))
    stream.sent((0, 1024), 1, 1024)
    stream.finish(FAILURE)
    assert failed(stream.end)
    stream.drop()
    assert not stream.waiting
    assert not stream.outstanding


def test_pieces_know_their_blocks() -> None:
    piece = Piece(100, 2600, 7, 1024)
    assert piece.last == 9
    assert [piece.block_of(number) for number in (7, 8, 9)] == [(100, 1124), (1124, 2148), (2148, 2600)]


@given(st.integers(0, 2**32), st.integers(1, 9000), st.sampled_from([128, 512, 1024]))
@settings(deadline=None, max_examples=60)
def test_any_network_brings_the_whole_stream(seed: int, size: int, block: int) -> None:
    """Blocks are lost, late, twice; so are acknowledgements; losses are guessed wrongly now and then."""
    chance = random.Random(seed)
    data = chance.randbytes(size)
    sender, receiver = stream_of(data, chance.choice([100, 5000])), ReceiveStream()
    sender.finish(SUCCESS)
    flying: dict[int, tuple[int, bytes, int]] = {}
    got: list = []
    number = 1
    for _ in range(20_000):
        if sender.over:
            break
        step = chance.random()
        span = sender.next_span(block)
        if step < 0.5 and span[0] < span[1]:
            start, stop = span
            body = octets(sender, start, min(stop, size)) if start < size else b""
            sender.sent(span, number, block)
            flying[number] = (min(start, size), body, SUCCESS if stop > size else 0)
            number += 1
        elif flying:
            which = chance.choice(list(flying))
            if step < 0.65:
                sender.lose([which])
                if step < 0.6:
                    del flying[which]
            else:
                start, body, end = flying[which]
                if step < 0.9:
                    del flying[which]
                receiver.take(start, memoryview(body), end, got)
                for fields in receiver.acknowledgements():
                    if chance.random() < 0.7:
                        assert sender.acknowledge(parse_ranges(fields)) is not None
        elif not sender.waiting:
            sender.resend_all()
    assert sender.over
    assert receiver.over
    assert b"".join(map(bytes, got)) == data
    assert not sender._chunks
    assert not sender._pieces
