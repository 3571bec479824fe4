"""What examples/tun_device.py joins, the kernel must take apart again into the very packets that came."""

from __future__ import annotations

import importlib.util
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from taps_security.inner.checksum import internet_checksum, pseudo_sum, word_sum

ACK, PSH, FIN = 0x10, 0x08, 0x01
SOURCE4, TARGET4 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
SOURCE6, TARGET6 = bytes(15) + b"\x01", bytes(15) + b"\x02"
STAMP = b"\x01\x01\x08\x0a" + bytes(8)


@pytest.fixture(scope="module")
def device(project: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tun_device", project / "examples" / "tun_device.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_sum(source: bytes, target: bytes, body: bytes) -> bytes:
    """A TCP segment with its checksum."""
    total = word_sum(source + target) + pseudo_sum(6, len(body))
    return body[:16] + internet_checksum(body[:16] + bytes(2) + body[18:], total) + body[18:]


def segment(
    number: int,
    data: bytes,
    flags: int = ACK,
    ident: int = 0,
    *,
    v6: bool = False,
    options: bytes = STAMP,
    port: int = 5,
) -> bytes:
    """A whole packet."""
    offset = (20 + len(options)) // 4 << 4
    body = struct.pack("!HHIIBBHHH", port, 80, number & 0xFFFFFFFF, 77, offset, flags, 500, 0, 0) + options + data
    if v6:
        head = struct.pack("!IHBB", 6 << 28, len(body), 6, 64) + SOURCE6 + TARGET6
        return head + with_sum(SOURCE6, TARGET6, body)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident & 0xFFFF, 0x4000, 64, 6, 0) + SOURCE4 + TARGET4
    head = head[:10] + internet_checksum(head) + head[12:]
    return head + with_sum(SOURCE4, TARGET4, body)


def taken_apart(pieces: Sequence[bytes | memoryview | bytearray]) -> list[bytes]:
    """What the kernel makes of one write (virtio 1.2, §5.1.6.2): the packets."""
    flags, kind, headers, size, start, offset = struct.unpack("=BBHHHH", pieces[0])
    packet = b"".join(map(bytes, pieces[1:]))
    if not kind:
        assert (flags, headers, size) == (0, 0, 0)
        return [packet]
    v6 = kind == 4
    assert (flags, offset) == (1, 16)
    assert start == (40 if v6 else 20)
    assert word_sum(packet[:20]) == 0 or v6  # the kernel drops an IPv4 header with a wrong checksum
    source, target = (packet[8:24], packet[24:40]) if v6 else (packet[12:16], packet[16:20])
    total = int.from_bytes(packet[4:6], "big") + 40 if v6 else int.from_bytes(packet[2:4], "big")
    assert total == len(packet) <= 65_535
    partial = (word_sum(source + target) + pseudo_sum(6, total - start)) % 0xFFFF
    assert int.from_bytes(packet[start + 16 : start + 18], "little") == partial
    number, ident, flags = struct.unpack_from("!I", packet, start + 4)[0], packet[4:6], packet[start + 13]
    options = packet[start + 20 : headers]
    port = int.from_bytes(packet[start : start + 2], "big")
    found = []
    for count, at in enumerate(range(headers, total, size)):
        last = at + size >= total
        found.append(
            segment(
                number + count * size,
                packet[at : at + size],
                flags if last else flags & ~(PSH | FIN),
                int.from_bytes(ident, "big") + count,
                v6=v6,
                options=options,
                port=port,
            )
        )
    return found


def writes(device: ModuleType, packets: Sequence[bytes]) -> list[list[bytes]]:
    return list(device.coalesced([memoryview(packet) for packet in packets]))


@pytest.mark.parametrize("v6", [False, True])
def test_segments_that_follow_each_other_are_one_write(device: ModuleType, v6: bool) -> None:
    rng = random.Random(1)
    sizes = [1000, 1000, 1000, 400]
    packets, number = [], 0xFFFFFF00  # across the end of sequence numbers
    for count, size in enumerate(sizes):
        packets.append(segment(number, rng.randbytes(size), ACK | (PSH if count == 3 else 0), count, v6=v6))
        number += size
    (pieces,) = writes(device, packets)
    assert taken_apart(pieces) == packets


def test_no_write_is_larger_than_a_packet_may_be(device: ModuleType) -> None:
    packets = [segment(count * 1400, bytes(1400), ident=count) for count in range(100)]
    found = writes(device, packets)
    assert len(found) == 3
    assert [packet for pieces in found for packet in taken_apart(pieces)] == packets


def test_no_write_has_more_pieces_than_the_kernel_takes(device: ModuleType) -> None:
    packets = [segment(count * 10, bytes(10), ident=count) for count in range(1500)]
    found = writes(device, packets)
    assert max(map(len, found)) <= 1024
    assert [packet for pieces in found for packet in taken_apart(pieces)] == packets


@pytest.mark.parametrize(
    "second",
    [
        segment(100, bytes(100), ACK | FIN),
        segment(100, bytes(101)),  # larger than the first
        segment(101, bytes(100)),  # a gap
        segment(0, bytes(100)),  # again
        segment(100, bytes(100), port=6),
        segment(100, bytes(100), options=b"\x01\x01\x08\x0a" + bytes(7) + b"\x01"),
        segment(100, bytes(100), v6=True),
        segment(100, b""),
        segment(100, bytes(100))[:-1],  # cut short
        segment(100, bytes(100)).replace(b"\x40\x06", b"\x40\x11", 1),  # another protocol
        b"\x45",
        b"\x60",
    ],
)
def test_what_does_not_follow_is_a_write_of_its_own(device: ModuleType, second: bytes) -> None:
    first = segment(0, bytes(100))
    found = writes(device, [first, second])
    assert [taken_apart(pieces) for pieces in found] == [[first], [second]]


@pytest.mark.parametrize("flag", [ACK | PSH, ACK])
def test_behind_a_push_or_a_short_segment_a_new_write_begins(device: ModuleType, flag: int) -> None:
    size = 100 if flag & PSH else 99
    packets = [segment(0, bytes(100)), segment(100, bytes(size), flag, 1), segment(100 + size, bytes(100), ident=2)]
    assert [len(taken_apart(pieces)) for pieces in writes(device, packets)] == [2, 1]


@pytest.mark.parametrize("seed", range(30))
def test_any_mixture_comes_out_as_it_went_in(device: ModuleType, seed: int) -> None:
    rng = random.Random(seed)
    packets = []
    number = 0
    for ident in range(200):
        size = rng.choice((0, 1, 500, 1388, 1388, 1388, 1388))
        flags = rng.choice((ACK, ACK, ACK, ACK, ACK, ACK | PSH, ACK | FIN, 2))
        number += rng.choice((0, 0, 0, 0, 0, 0, 0, 7))
        v6 = rng.random() < 0.1
        packets.append(segment(number, rng.randbytes(size), flags, ident, v6=v6, port=rng.choice((5, 5, 5, 5, 6))))
        number += size
        if rng.random() < 0.05:
            packets.append(rng.randbytes(rng.randrange(1, 100)))
    found = [packet for pieces in writes(device, packets) for packet in taken_apart(pieces)]
    assert found == packets
