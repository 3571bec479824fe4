"""IP packets: there and back, cut, and with each field wrong."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.inner.ip import (
    WHOLE,
    PacketRefused,
    ip_header,
    is_multicast,
    is_unicast,
    parse_packet_untrusted,
)
from tests.inner.support import OURS, OURS6, THEIRS, THEIRS6, ipv4, ipv6, pack, slow_checksum


def refused(octets: bytes) -> str:
    with pytest.raises(PacketRefused) as caught:
        parse_packet_untrusted(octets)
    return caught.value.why


@pytest.mark.parametrize(("source", "to"), [(THEIRS, OURS), (THEIRS6, OURS6)])
@given(payload=st.binary(max_size=1500), protocol=st.integers(0, 255), padding=st.integers(0, 15))
def test_there_and_back(source: str, to: str, payload: bytes, protocol: int, padding: int) -> None:
    header = ip_header(pack(source), pack(to), protocol, len(payload))
    packet = parse_packet_untrusted(header + payload + bytes(padding))
    assert packet.octets == header + payload
    assert packet.payload == payload
    assert (packet.source, packet.destination, packet.protocol) == (pack(source), pack(to), protocol)
    assert packet.hops == 64
    assert packet.fragment == (packet.version == 6 and protocol == 44)


def test_what_we_send_may_not_be_fragmented_and_has_no_marks() -> None:
    """RFC 6864 §4.1: an atomic datagram's identification says nothing; a DSCP and an ECN of 0."""
    header = ip_header(pack(OURS), pack(THEIRS), 17, 100)
    assert header[:2] == b"\x45\0"
    assert header[4:8] == b"\0\0\x40\0"
    assert slow_checksum(header) == 0
    assert ip_header(pack(OURS6), pack(THEIRS6), 17, 100)[:4] == b"\x60\0\0\0"


@pytest.mark.parametrize(
    "packet", [ipv4(b"octets"), ipv4(b"octets", options=b"\x01\x44\x04\x05\0\0\0\0"), ipv6(b"octets")]
)
def test_cut_at_every_length(packet: bytes) -> None:
    for length in range(len(packet)):
        assert refused(packet[:length]) in {"empty packet", "short packet", "packet length"}
    assert parse_packet_untrusted(packet).payload == b"octets"


@pytest.mark.parametrize("bit", range(4, 160))
def test_every_bit_of_an_ipv4_header_behind_the_version_is_covered(bit: int) -> None:
    packet = bytearray(ipv4(b"octets" * 20))
    packet[bit // 8] ^= 0x80 >> bit % 8
    assert refused(bytes(packet)) in {"packet length", "header checksum"}


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "empty packet"),
        (b"\x50" + bytes(40), "no IP version"),
        (ipv4(b"", total=19), "packet length"),
        (ipv4(b"octets", total=27), "packet length"),
        (b"\x44" + ipv4(b"octets")[1:], "packet length"),
        (ipv4(b"octets", checksum=0x1234), "header checksum"),
        (ipv6(b"octets", length=7), "packet length"),
        (ipv4(b"octets", options=b"\x07\x01\0\0"), "packet options"),  # shorter than itself
        (ipv4(b"octets", options=b"\x07\x05\0\0"), "packet options"),  # longer than the header
        (ipv4(b"octets", options=b"\x01\x01\x01\x07"), "packet options"),  # without a length
        (ipv4(b"octets", options=b"\x83\x03\x04\0"), "packet options"),  # a loose source route
        (ipv4(b"octets", options=b"\x89\x03\x04\0"), "packet options"),  # a strict one
    ],
)
def test_what_is_not_sound_is_refused(packet: bytes, why: str) -> None:
    assert refused(packet) == why


@pytest.mark.parametrize("options", [b"\x01\x01\x01\0", b"\x07\x04\x04\0", b"\0\x83\x03\x04", b"\x94\x04\0\0" * 10])
def test_options_are_walked_over(options: bytes) -> None:
    packet = parse_packet_untrusted(ipv4(b"octets", options=options))
    assert packet.header == 20 + len(options)
    assert packet.payload == b"octets"


@pytest.mark.parametrize(
    ("flags", "fragment"), [(0, False), (0x4000, False), (0x2000, True), (1, True), (0x1FFF, True)]
)
def test_fragments_are_seen(flags: int, fragment: bool) -> None:
    assert parse_packet_untrusted(ipv4(b"octets", flags=flags)).fragment is fragment


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x45", b"\x4f", b"\x60"]))
def test_anything_is_refused_or_has_its_lengths_right(octets: bytes, first: bytes) -> None:
    octets = first + octets
    try:
        packet = parse_packet_untrusted(octets)
    except PacketRefused:
        return
    assert 20 <= packet.header <= len(packet.octets) <= len(octets)
    assert octets.startswith(bytes(packet.octets))


@pytest.mark.parametrize(
    ("host", "unicast", "multicast"),
    [
        ("10.0.0.1", True, False),
        ("0.0.0.0", False, False),
        ("127.0.0.1", False, False),
        ("224.0.0.1", False, True),
        ("255.255.255.255", False, True),
        ("240.0.0.1", False, False),
        ("fd00::1", True, False),
        ("fe80::1", True, False),
        ("::", False, False),
        ("::1", False, False),
        ("::ffff:10.0.0.1", False, False),
        ("ff02::1", False, True),
    ],
)
def test_addresses_of_one_host_and_of_many(host: str, unicast: bool, multicast: bool) -> None:
    assert is_unicast(pack(host)) is unicast
    assert is_multicast(pack(host)) is multicast


# -- whole packets -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_whole_packets_are_filled_up_with_zeros(kind: type) -> None:
    slab = memoryview(bytearray(b"\xaa" * 100))
    WHOLE.write_all([kind(b"packet one"), kind(b"packet two")], slab, 5, 40, 16)
    assert bytes(slab[5:21]) == b"packet one" + bytes(6)
    assert bytes(slab[45:61]) == b"packet two" + bytes(6)
    assert {*slab[:5], *slab[21:45], *slab[61:]} == {0xAA}
    with pytest.raises(struct.error, match="at least"):
        WHOLE.write_all([kind(bytes(90))], slab, 20, 40, 96)
