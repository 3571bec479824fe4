"""Packets and messages to and from octets; the golden trace packet by packet."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.curvecp import wire
from taps_security.protocols.curvecp.wire import (
    NO_RANGES,
    Message,
    encode_ranges,
    message_size,
    parse_message,
    parse_ranges,
    parse_untrusted,
)

from .trace import PACKETS, STREAM, Packet

SAMPLES = [
    wire.Hello(b"s" * 16, b"c" * 16, b"C" * 32, b"n" * 8, b"b" * 80),
    wire.Cookie(b"c" * 16, b"s" * 16, b"r" * 16, b"b" * 144),
    wire.Initiate(b"s" * 16, b"c" * 16, b"C" * 32, b"K" * 96, b"n" * 8, b"b" * (368 + 192)),
    wire.ClientMessage(b"s" * 16, b"c" * 16, b"C" * 32, b"n" * 8, b"b" * (16 + 1088)),
    wire.ServerMessage(b"c" * 16, b"s" * 16, b"n" * 8, b"b" * (16 + 192)),
]


@pytest.mark.parametrize("packet", SAMPLES, ids=lambda packet: type(packet).__name__)
def test_packets_come_back_as_they_went(packet: wire.Packet) -> None:
    assert parse_untrusted(packet.encode()) == packet
    assert parse_untrusted(memoryview(packet.encode())) == packet


@pytest.mark.parametrize("packet", PACKETS, ids=repr)
def test_the_traces_packets_come_back_as_they_went(packet: Packet) -> None:
    parsed = parse_untrusted(packet.data)
    assert type(parsed).__name__ == packet.type
    assert parsed.encode() == packet.data


def test_only_exact_lengths_are_packets() -> None:
    lengths = {
        wire.HELLO: {224},
        wire.COOKIE: {200},
        wire.INITIATE: set(range(544 + 16, 544 + 641, 16)),
        wire.CLIENT_MESSAGE: set(range(96 + 16, 96 + 1089, 16)),
        wire.SERVER_MESSAGE: set(range(64 + 16, 64 + 1089, 16)),
    }
    for magic, allowed in lengths.items():
        for size in range(1401):
            datagram = (magic + os.urandom(1400))[:size]
            if size in allowed:
                parse_untrusted(datagram)
            else:
                with pytest.raises(MalformedMessage):
                    parse_untrusted(datagram)
    for size in range(1401):
        with pytest.raises(MalformedMessage):
            parse_untrusted(b"\0" + os.urandom(size))


# --------------------------------------------------------------------------------------------------- message layer
@pytest.mark.parametrize("packet", [each for each in PACKETS if each.message], ids=repr)
def test_the_traces_messages(packet: Packet) -> None:
    octets = packet.plaintext[352:] if packet.type == "Initiate" else packet.plaintext
    message = parse_message(octets)
    said = packet.message
    assert message.number == said["message_id"]
    assert message.acknowledged == said["ack_id"]
    assert message.ranges == (((0, said["ack_0_to"]),) if said["ack_0_to"] else ())
    assert (message.end, message.position) == (wire.SUCCESS if said["eof"] else 0, said["pos"])
    assert message.data == STREAM[said["pos"] : said["pos"] + said["data_len"]]
    assert message.encode() == octets
    assert len(octets) == message_size(said["data_len"])


def test_sizes_are_the_references() -> None:
    assert [message_size(data) for data in (0, 128, 129, 256, 257, 512, 513, 1024)] == [
        192,
        192,
        320,
        320,
        576,
        576,
        1088,
        1088,
    ]
    with pytest.raises(ValueError, match="at most 1024"):
        message_size(1025)


@given(st.lists(st.integers(0, 65535), min_size=11, max_size=11), st.integers(0, 1 << 60))
def test_any_ranges_octets_are_ascending_spans(sizes: list[int], first: int) -> None:
    octets = first.to_bytes(8, "little") + sizes[0].to_bytes(4, "little")
    octets += b"".join(size.to_bytes(2, "little") for size in sizes[1:10])
    spans = parse_ranges(octets)
    assert all(start < stop for start, stop in spans)
    assert all(before[1] <= behind[0] for before, behind in pairwise(spans))
    assert len(spans) <= 6


@given(st.integers(0, 1 << 60), st.lists(st.tuples(st.integers(1, 65535), st.integers(1, 65535)), max_size=5))
def test_ranges_come_back_as_they_went(first: int, behind: list[tuple[int, int]]) -> None:
    spans = [(0, first)] if first else []
    position = first
    for gap, size in behind:
        spans.append((position + gap, position + gap + size))
        position += gap + size
    assert parse_ranges(encode_ranges(spans)) == tuple(spans)


def test_ranges_that_do_not_fit() -> None:
    assert encode_ranges(()) == NO_RANGES
    far = ((0, 5), (5 + (1 << 32) - 1, 6 + (1 << 32)))
    assert parse_ranges(encode_ranges(far)) == far
    for spans in (
        [(0, 1)] + [(2 * n, 2 * n + 1) for n in range(1, 7)],
        [(0, 5), (10, 10 + 65536)],
        [(0, 5), (10, 11), (11 + 65536, 11 + 65537)],
        [(0, 1 << 64)],
    ):
        with pytest.raises(ValueError, match=r"fit|six"):
            encode_ranges(spans)


def test_what_is_no_message() -> None:
    whole = Message(7, 3, ((0, 9),), wire.SUCCESS, 100, b"x" * 26).encode()
    assert parse_message(whole).data == b"x" * 26
    for size in (*range(48), 1089, 1104):
        with pytest.raises(MalformedMessage):
            parse_message((whole * 10)[:size])
    for flags in (1025, 2047, 8192, 65535, 2048 + 1025):
        octets = bytearray(1088)
        octets[38:40] = flags.to_bytes(2, "little")
        with pytest.raises(MalformedMessage):
            parse_message(octets)
    with pytest.raises(MalformedMessage):  # more data than the message holds
        parse_message(Message(1, data=b"x" * 145).encode()[:192])
