"""ICMP and ICMPv6: echoes, errors and what they quote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.inner.icmp import (
    Echo,
    Kind,
    Problem,
    build_echo,
    build_echo_reply,
    build_problem,
    may_report,
    parse_icmp_untrusted,
)
from taps_security.inner.ip import Packet, PacketRefused, parse_packet_untrusted
from tests.inner.support import ALL_HOSTS, OURS, OURS6, THEIRS, THEIRS6, icmp, ipv4, ipv6, pack, udp

FAMILIES = [(OURS, THEIRS), (OURS6, THEIRS6)]
QUOTE = bytes(4)


def parse(octets: bytes) -> tuple[Packet, Echo | Problem]:
    packet = parse_packet_untrusted(octets)
    return packet, parse_icmp_untrusted(packet)


def refused(octets: bytes) -> str:
    with pytest.raises(PacketRefused) as caught:
        parse_icmp_untrusted(parse_packet_untrusted(octets))
    return caught.value.why


@pytest.mark.parametrize(("ours", "theirs"), FAMILIES)
@given(identifier=st.integers(0, 65_535), sequence=st.integers(0, 65_535), data=st.binary(max_size=1400))
def test_an_echo_and_its_reply(ours: str, theirs: str, identifier: int, sequence: int, data: bytes) -> None:
    request, echo = parse(build_echo(pack(ours), pack(theirs), identifier, sequence, data))
    assert isinstance(echo, Echo)
    assert echo.request
    assert echo.rest == identifier.to_bytes(2, "big") + sequence.to_bytes(2, "big") + data
    reply, answer = parse(build_echo_reply(request, echo))
    assert (reply.source, reply.destination) == (pack(theirs), pack(ours))
    assert answer == Echo(False, echo.rest)


@pytest.mark.parametrize("family", [4, 6])
def test_an_echo_is_what_others_write(family: int) -> None:
    """Against messages that were made by hand."""
    ours, theirs = (OURS, THEIRS) if family == 4 else (OURS6, THEIRS6)
    by_hand = icmp(8 if family == 4 else 128, 0, b"\0\x07\0\x01ping", family=family)
    packet, echo = parse(by_hand)
    assert isinstance(echo, Echo)
    assert packet.payload == parse_packet_untrusted(build_echo(pack(theirs), pack(ours), 7, 1, b"ping")).payload
    reply = parse_packet_untrusted(build_echo_reply(packet, echo))
    by_hand = icmp(0 if family == 4 else 129, 0, b"\0\x07\0\x01ping", family=family, source=ours, to=theirs)
    assert reply.payload == parse_packet_untrusted(by_hand).payload


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", [Kind.PORT, Kind.UNREACHABLE, Kind.PROHIBITED, Kind.TOO_BIG])
@pytest.mark.parametrize("size", [0, 3, 100, 1300])
def test_an_error_names_the_packet_that_it_is_about(family: int, kind: Kind, size: int) -> None:
    about = parse_packet_untrusted(udp(bytes(size), (7000, 53), family=family))
    octets = build_problem(about, kind, mtu=1300)
    assert len(octets) <= (576 if family == 4 else 1280)
    packet, problem = parse(octets)
    assert (packet.source, packet.destination) == (about.destination, about.source)
    mtu = 1300 if kind is Kind.TOO_BIG else 0
    assert problem == Problem(kind, mtu, 17, about.source, about.destination, 7000, 53, len(about.octets))


def test_an_error_may_come_from_a_router() -> None:
    about = parse_packet_untrusted(udp(b"octets"))
    packet = parse_packet_untrusted(build_problem(about, Kind.UNREACHABLE, source=pack("10.0.0.254")))
    assert packet.source == pack("10.0.0.254")


@pytest.mark.parametrize(
    ("family", "kind", "code", "meaning"),
    [
        (4, 3, 0, Kind.UNREACHABLE),
        (4, 3, 2, Kind.PORT),
        (4, 3, 3, Kind.PORT),
        (4, 3, 5, Kind.OTHER),
        (4, 3, 10, Kind.PROHIBITED),
        (4, 11, 0, Kind.OTHER),
        (4, 12, 0, Kind.OTHER),
        (6, 1, 0, Kind.UNREACHABLE),
        (6, 1, 4, Kind.PORT),
        (6, 1, 6, Kind.PROHIBITED),
        (6, 3, 0, Kind.OTHER),
        (6, 4, 1, Kind.OTHER),
        (6, 127, 0, Kind.OTHER),
    ],
)
def test_types_and_codes(family: int, kind: int, code: int, meaning: Kind) -> None:
    quoted = udp(b"octets", family=family)
    _, problem = parse(icmp(kind, code, QUOTE + quoted, family=family))
    assert isinstance(problem, Problem)
    assert problem.kind is meaning
    assert problem.mtu == 0


@pytest.mark.parametrize(
    ("reported", "length", "mtu"),
    [(1300, 1420, 1300), (0, 1420, 1006), (0, 1500, 1492), (0, 9000, 8166)],
)
def test_a_report_without_a_size_means_the_next_common_one(reported: int, length: int, mtu: int) -> None:
    """RFC 1191 §5: old routers leave the field 0."""
    quoted = udp(bytes(length - 28))
    _, problem = parse(icmp(3, 4, reported.to_bytes(4, "big") + quoted[:28]))
    assert isinstance(problem, Problem)
    assert (problem.mtu, problem.length) == (mtu, length)


@pytest.mark.parametrize("family", [4, 6])
def test_eight_octets_behind_the_quoted_header_are_enough_and_seven_are_not(family: int) -> None:
    quoted = udp(b"octets" * 40, family=family)
    kind, code, header = (3, 3, 20) if family == 4 else (1, 4, 40)
    for length in range(len(quoted)):
        packet = icmp(kind, code, QUOTE + quoted[:length], family=family)
        if length >= header + 8:
            problem = parse(packet)[1]
            assert isinstance(problem, Problem)
            assert (problem.source_port, problem.destination_port, problem.length) == (7000, 53, len(quoted))
        else:
            assert refused(packet) == "icmp quote"


def test_a_quoted_packet_may_have_options_and_be_of_another_protocol() -> None:
    quoted = ipv4(b"\x1b\x58\0\x35" + bytes(4), options=b"\x01\x01\x01\0")
    _, problem = parse(icmp(3, 3, QUOTE + quoted))
    assert isinstance(problem, Problem)
    assert (problem.source_port, problem.destination_port) == (7000, 53)
    _, problem = parse(icmp(3, 3, QUOTE + ipv4(b"octets and more", protocol=6)))
    assert isinstance(problem, Problem)
    assert (problem.protocol, problem.source_port, problem.destination_port) == (6, 0, 0)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (ipv4(b"", protocol=1), "short icmp"),
        (ipv4(bytes(7), protocol=1), "short icmp"),
        (ipv6(bytes(7), protocol=58), "short icmp"),
        (icmp(8, 0, bytes(8), wrong=1), "icmp checksum"),
        (icmp(128, 0, bytes(8), family=6, wrong=1), "icmp checksum"),
        (ipv6(b"\x80\0\x7f\xff" + bytes(8), protocol=58), "icmp checksum"),  # right, but for the pseudo-header
        (icmp(8, 1, bytes(8)), "icmp type"),
        (icmp(13, 0, bytes(16)), "icmp type"),  # timestamps tell a clock
        (icmp(135, 0, bytes(20), family=6), "icmp type"),  # no neighbours in a tunnel
        (icmp(3, 3, QUOTE), "icmp quote"),
        (icmp(3, 3, QUOTE + b"\x43" + bytes(60)), "icmp quote"),  # a header of 12 octets
        (icmp(3, 3, QUOTE + b"\x4f" + bytes(60)), "icmp quote"),  # one of 60, and no port behind it
        (icmp(3, 3, QUOTE + udp(b"octets", family=6)), "icmp quote"),
        (icmp(1, 4, QUOTE + udp(b"octets" * 20), family=6), "icmp quote"),
    ],
)
def test_what_is_not_sound_is_refused(packet: bytes, why: str) -> None:
    assert refused(packet) == why


@pytest.mark.parametrize(
    ("about", "allowed"),
    [
        (udp(b"octets"), True),
        (udp(b"octets", family=6), True),
        (ipv4(b"octets" * 4, protocol=6), True),
        (icmp(8, 0, bytes(8)), True),
        (icmp(128, 0, bytes(8), family=6), True),
        (icmp(3, 3, QUOTE + udp(b"")), False),  # about an error
        (icmp(5, 0, QUOTE + udp(b"")), False),
        (icmp(1, 4, QUOTE + udp(b"", family=6), family=6), False),
        (ipv4(b"", protocol=1), False),  # may have been one
        (udp(b"octets", to=ALL_HOSTS), False),
        (udp(b"octets", to="255.255.255.255"), False),
        (udp(b"octets", family=6, to="ff02::1"), False),
        (udp(b"octets", source="0.0.0.0"), False),
        (udp(b"octets", source="127.0.0.1"), False),
        (udp(b"octets", source=ALL_HOSTS), False),
        (udp(b"octets", family=6, source="::"), False),
        (ipv4(b"octets", flags=1), False),
    ],
)
def test_about_what_no_error_is_sent(about: bytes, allowed: bool) -> None:
    """RFC 1122 §3.2.2, RFC 4443 §2.4 (e)."""
    packet = parse_packet_untrusted(about)
    assert may_report(packet) is allowed
    if allowed:
        assert isinstance(parse(build_problem(packet, Kind.PORT))[1], Problem)
    else:
        with pytest.raises(ValueError, match="no ICMP error"):
            build_problem(packet, Kind.PORT)


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=120), st.sampled_from([4, 6]))
def test_anything_is_refused_or_understood(kind: int, code: int, rest: bytes, family: int) -> None:
    try:
        _, message = parse(icmp(kind, code, rest, family=family))
    except PacketRefused:
        return
    assert isinstance(message, Echo | Problem)
