"""UDP inside IP: there and back, cut, wrong lengths and checksums."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.inner.ip import PacketRefused, parse_packet_untrusted
from taps_security.inner.udp import Writer, parse_datagram_untrusted
from tests.inner.support import OURS, OURS6, THEIRS, THEIRS6, datagram, ipv4, ipv6, pack, udp


def refused(octets: bytes, *, verify: bool = True) -> str:
    packet = parse_packet_untrusted(octets)
    with pytest.raises(PacketRefused) as caught:
        parse_datagram_untrusted(packet, verify=verify)
    return caught.value.why


@pytest.mark.parametrize(("ours", "theirs", "overhead"), [(OURS, THEIRS, 28), (OURS6, THEIRS6, 48)])
@given(
    payloads=st.lists(st.binary(max_size=1500), min_size=1, max_size=4), ports=st.tuples(*[st.integers(0, 65_535)] * 2)
)
def test_there_and_back(ours: str, theirs: str, overhead: int, payloads: list[bytes], ports: tuple[int, int]) -> None:
    """One writer for messages of changing lengths, checked against packets that were made by hand."""
    writer = Writer((pack(ours), ports[0]), (pack(theirs), ports[1]))
    slab = memoryview(bytearray(b"\xaa" * 1600))
    for payload in (*payloads, payloads[0]):
        assert writer.write(payload, slab, 3) == overhead + len(payload)
        written = slab[3 : 3 + overhead + len(payload)]
        assert written[overhead - 8 :] == datagram(payload, ours, theirs, ports)
        found = parse_datagram_untrusted(parse_packet_untrusted(written))
        assert (found.source, found.destination, found.payload) == (*ports, payload)


def test_nothing_is_written_behind_a_packet() -> None:
    writer = Writer((pack(OURS), 1), (pack(THEIRS), 2))
    slab = memoryview(bytearray(b"\xaa" * 60))
    assert writer.write(b"octets", slab, 4) == 34
    assert bytes(slab[:4]) == b"\xaa" * 4
    assert bytes(slab[38:]) == b"\xaa" * 22
    for payload in (b"octets", memoryview(b"octets")):
        with pytest.raises(struct.error, match="at least"):
            writer.write(payload, slab[:30])


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize(("ours", "theirs", "overhead"), [(OURS, THEIRS, 28), (OURS6, THEIRS6, 48)])
def test_a_run_is_filled_up_with_zeros(ours: str, theirs: str, overhead: int, checksums: bool) -> None:
    """Each message at its place, and nothing between the places but zeros up to the size that was asked for."""
    payloads = [bytes([number]) * 21 for number in range(3)]
    size, stride, start = overhead + 32, overhead + 50, 5
    for run in (payloads, [bytearray(each) for each in payloads], [memoryview(each) for each in payloads]):
        slab = memoryview(bytearray(b"\xaa" * 400))
        Writer((pack(ours), 1), (pack(theirs), 2), checksums=checksums).write_all(run, slab, start, stride, size)
        assert bytes(slab[:start]) == b"\xaa" * start
        for number, payload in enumerate(payloads):
            place = slab[start + number * stride :][:stride]
            assert parse_datagram_untrusted(parse_packet_untrusted(place[:size])).payload == payload
            assert place[overhead + 21 :] == bytes(11) + b"\xaa" * 18
            assert place[overhead - 2 : overhead].tobytes() != bytes(2) or (not checksums and overhead == 28)


def test_without_checksums_the_field_is_zero_over_ipv4_and_right_over_ipv6() -> None:
    slab = memoryview(bytearray(100))
    writer = Writer((pack(OURS), 1000), (pack(THEIRS), 2000), checksums=False)
    for payload in (b"one", b"four", b"one"):
        length = writer.write(payload, slab)
        expected = bytearray(datagram(payload, OURS, THEIRS, (1000, 2000)))
        expected[6:8] = bytes(2)
        assert slab[20:length] == expected
    length = Writer((pack(OURS6), 1000), (pack(THEIRS6), 2000), checksums=False).write(b"one", slab)
    assert slab[40:length] == datagram(b"one", OURS6, THEIRS6, (1000, 2000))


@pytest.mark.parametrize(("ours", "theirs"), [(OURS, THEIRS), (OURS6, THEIRS6)])
def test_a_sum_of_zero_is_sent_as_all_ones(ours: str, theirs: str) -> None:
    """RFC 768: a field of zero would say that there is no checksum."""
    writer = Writer((pack(ours), 1000), (pack(theirs), 2000))
    slab = memoryview(bytearray(100))
    at = writer.overhead - 2
    writer.write(b"\0\0", slab)
    payload = bytes(slab[at : at + 2])  # with it the sum of everything is all ones
    length = writer.write(payload, slab)
    assert bytes(slab[at : at + 2]) == b"\xff\xff"
    assert parse_datagram_untrusted(parse_packet_untrusted(slab[:length])).payload == payload


@pytest.mark.parametrize("family", [4, 6])
def test_every_bit_of_a_datagram_and_its_addresses_is_covered(family: int) -> None:
    packet = udp(b"some octets", family=family)
    start = 12 if family == 4 else 8
    for bit in range(start * 8, len(packet) * 8):
        changed = bytearray(packet)
        changed[bit // 8] ^= 0x80 >> bit % 8
        if family == 4:  # the IP header has a checksum of its own, which is right again
            changed[:20] = ipv4(b"", total=len(packet))[:10] + b"\0\0" + changed[12:20]
            again = ipv4(bytes(changed[20:]), ".".join(map(str, changed[12:16])), ".".join(map(str, changed[16:20])))
        else:
            again = bytes(changed)
        assert refused(again) in {"checksum", "datagram length"}


@pytest.mark.parametrize("family", [4, 6])
def test_cut_at_every_length(family: int) -> None:
    whole = udp(b"octets", family=family)
    header = 20 if family == 4 else 40
    for length in range(header, len(whole)):
        piece = whole[header:length]
        again = ipv4(piece) if family == 4 else ipv6(piece)
        assert refused(again) in {"short datagram", "datagram length"}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("length", "why"), [(0, "datagram length"), (7, "datagram length"), (15, "datagram length")])
def test_lengths_that_cannot_be(family: int, length: int, why: str) -> None:
    assert refused(udp(b"octets", family=family, length=length)) == why


def test_octets_behind_the_datagram_are_no_part_of_it() -> None:
    payload = datagram(b"octets", THEIRS, OURS, (1, 2)) + b"more"
    assert parse_datagram_untrusted(parse_packet_untrusted(ipv4(payload))).payload == b"octets"


def test_a_checksum_may_be_left_out_over_ipv4_alone() -> None:
    packet = parse_packet_untrusted(udp(b"octets", checksum=0))
    assert parse_datagram_untrusted(packet).payload == b"octets"
    for verify in (True, False):
        assert refused(udp(b"octets", family=6, checksum=0), verify=verify) == "no checksum"


def test_a_tunnel_that_has_authenticated_the_packet_may_skip_the_sum() -> None:
    for family in (4, 6):
        wrong = udp(b"octets", family=family, checksum=0x1234)
        assert refused(wrong) == "checksum"
        assert parse_datagram_untrusted(parse_packet_untrusted(wrong), verify=False).payload == b"octets"
