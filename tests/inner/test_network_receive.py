"""What comes from a peer: for flows, for listeners, for nobody. Nothing raises; what is dropped is counted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.inner.icmp import Echo, Kind, Problem, build_problem, parse_icmp_untrusted
from taps_security.inner.ip import parse_packet_untrusted
from taps_security.inner.udp import parse_datagram_untrusted
from taps_security.stack.errors import ConnectionLost, Reason
from taps_security.stack.events import FlowKind, FlowOpened
from taps_security.stack.tunnel import FlowAddress
from tests.inner.support import (
    ALL_HOSTS,
    OURS,
    OURS6,
    THEIRS,
    THEIRS6,
    Peer,
    datagram,
    host,
    icmp,
    ipv4,
    ipv6,
    pack,
    udp,
)

FAMILIES = [4, 6]


# -- flows and listeners -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verify", [True, False])
@given(payloads=st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 2), st.sampled_from(FAMILIES)), max_size=12))
def test_messages_arrive_in_order_at_their_flows(verify: bool, payloads: list[tuple[bytes, int, int]]) -> None:
    """Two peers through a tunnel, six flows, one batch: payloads of whatever lengths between packets of others."""
    theirs = Peer(host(1420, f"{THEIRS}/24", f"{THEIRS6}/64"), verify=verify)
    ours = Peer()
    flows, sent, expected = {}, [], {}
    for family in FAMILIES:
        for number in range(3):
            theirs.host.listen(THEIRS if family == 4 else THEIRS6, 50 + number)
            flows[number, family] = ours.open((THEIRS if family == 4 else THEIRS6, 50 + number))
    for payload, number, family in payloads:
        flow = flows[number, family]
        sent.append(ours.say(flow, payload))
        expected.setdefault(ours.flows.address(flow), []).append(payload)
    heard = theirs.hear(*sent)
    seen = {event.flow: event.remote for event in theirs.flows.opened}
    assert {FlowAddress(seen[flow].local, seen[flow].remote): chunks for flow, chunks in heard.items()} == expected
    assert not theirs.flows.dropped
    assert theirs.hear(*sent) == heard  # now all of them are known
    assert len(theirs.flows.opened) == len(expected)


@given(
    odd=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 27), st.integers(1, 255)), max_size=2),
    cut=st.integers(0, 12),
)
def test_a_run_is_taken_as_its_packets_are_one_by_one(odd: list[tuple[int, int, int]], cut: int) -> None:
    """Six datagrams of one flow and one length, in some of which an octet of the headers is another, the last cut."""
    run = [bytearray(udp(bytes([number]) * 40, (53, 4000))) for number in range(6)]
    for number, at, mask in odd:
        run[number][at] ^= mask
    packets = [bytes(packet) for packet in (*run[:-1], run[-1][: len(run[-1]) - cut])]
    together, apart = Peer(verify=False), Peer(verify=False)
    for peer in (together, apart):
        peer.open((THEIRS, 53), ("", 4000))
    together.flows.receive([memoryview(packet) for packet in packets], 0.0)
    for packet in packets:
        apart.flows.receive([memoryview(packet)], 0.0)
    assert together.flows.received == apart.flows.received
    assert together.flows.dropped == apart.flows.dropped
    assert together.flows.replies == apart.flows.replies


def test_payloads_are_views_into_what_came() -> None:
    """One slice for each packet, and no copy."""
    peer = Peer()
    flow = peer.open((THEIRS, 53), ("", 4000))
    buffer = bytearray(udp(b"octets", (53, 4000)))
    peer.flows.receive([memoryview(buffer)], 0.0)
    (chunk,) = peer.flows.received[flow]
    buffer[-6:] = b"OCTETS"
    assert bytes(chunk) == b"OCTETS"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_listener_gets_a_flow_for_each_remote(family: int) -> None:
    peer = Peer()
    peer.host.listen("", 53)
    ours, theirs = (OURS, THEIRS) if family == 4 else (OURS6, THEIRS6)
    first, second = udp(b"a", (7000, 53), family=family), udp(b"b", (7001, 53), family=family)
    assert peer.hear(first, second, first) == {1: [b"a", b"a"], 2: [b"b"]}
    assert peer.flows.opened == [
        FlowOpened(1, FlowKind.DATAGRAM, FlowAddress((theirs, 7000), (ours, 53))),
        FlowOpened(2, FlowKind.DATAGRAM, FlowAddress((theirs, 7001), (ours, 53))),
    ]
    answer = parse_datagram_untrusted(parse_packet_untrusted(peer.say(2, b"answer")))
    assert (answer.source, answer.destination, answer.payload) == (53, 7001, b"answer")
    peer.flows.close(1)
    assert peer.hear(first, second) == {2: [b"b"], 3: [b"a"]}
    peer.host.unlisten(("", 53))
    assert peer.hear(first) == {3: [b"a"]}
    assert peer.why(udp(b"c", (7002, 53), family=family)) == "no listener"


def test_an_empty_message_is_one() -> None:
    peer = Peer()
    peer.host.listen("", 53)
    for _ in range(2):
        assert peer.hear(udp(b""), udp(b"", family=6)) == {1: [b""], 2: [b""]}


def test_a_listener_at_one_address_hears_nothing_of_the_other() -> None:
    peer = Peer()
    peer.host.listen(OURS6, 53)
    assert peer.why(udp(b"octets")) == "no listener"
    assert peer.hear(udp(b"octets", family=6)) == {1: [b"octets"]}


def test_options_are_no_reason_to_drop() -> None:
    peer = Peer()
    peer.host.listen("", 53)
    packet = ipv4(datagram(b"octets", THEIRS, OURS, (7000, 53)), options=b"\x01\x01\x01\0")
    assert peer.hear(packet, packet, udp(b"more")) == {1: [b"octets", b"octets", b"more"]}


def test_a_peer_opens_so_many_flows_and_no_more() -> None:
    peer = Peer()
    peer.host.listen("", 53)
    packets = [udp(b"x", (1 + port, 53)) for port in range(1024)]
    assert len(peer.hear(*packets)) == 1024
    assert peer.why(udp(b"x", (2000, 53))) == "too many flows"
    assert len(peer.hear(*packets)) == 1024  # those that are there live on
    assert peer.open((THEIRS, 9))  # ours do not count
    peer.flows.close(1)
    assert len(peer.hear(udp(b"x", (2000, 53)))) == 1
    assert len(peer.flows.opened) == 1025


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_checksums_are_looked_at_for_known_flows_and_new_ones(known: bool, family: int) -> None:
    for verify in (True, False):
        peer = Peer(verify=verify)
        peer.host.listen("", 53)
        if known:
            peer.hear(udp(b"octets", family=family))
        wrong = udp(b"octets", family=family, checksum=0x1234)
        if verify:
            assert peer.why(wrong) == "checksum"
        else:
            assert peer.hear(wrong) == {1: [b"octets"]}
        none = udp(b"octets", family=family, checksum=0)
        if family == 6:
            assert peer.why(none) == "no checksum"
        else:
            assert list(peer.hear(none).values()) == [[b"octets"]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("verify", [True, False])
def test_a_known_flow_with_wrong_lengths(family: int, verify: bool) -> None:
    peer = Peer(verify=verify)
    peer.host.listen("", 53)
    peer.hear(udp(b"octets", family=family))
    for length in (0, 7, 15, 16, 65_535):
        assert peer.why(udp(b"octets", family=family, length=length)) == "datagram length"
    payload = datagram(b"octets", THEIRS, OURS, (7000, 53)) if family == 4 else b""
    wrong = ipv4(payload, total=1000) if family == 4 else ipv6(udp(b"octets", family=6)[40:], length=1000)
    assert peer.why(wrong) == "packet length"


# -- what is dropped ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "empty packet"),
        (bytes(40), "no IP version"),
        (udp(b"octets", source="192.0.2.1"), "source not allowed"),
        (udp(b"octets", source=OURS), "source is ours"),
        (udp(b"octets", source="10.0.0.255"), "source not unicast"),
        (udp(b"octets", family=6, source="fd01::1"), "source not allowed"),
        (udp(b"octets", to=ALL_HOSTS), "destination not unicast"),
        (udp(b"octets", to="255.255.255.255"), "destination not unicast"),
        (udp(b"octets", to="10.0.0.255"), "destination not unicast"),
        (udp(b"octets", family=6, to="ff02::1"), "destination not unicast"),
        (udp(b"octets", to="10.0.0.9"), "destination not ours"),
        (udp(b"octets", family=6, to="fd00::9"), "destination not ours"),
        (ipv4(b"octets" * 4, flags=0x2000), "fragment"),
        (ipv4(b"octets" * 4, flags=0x0001), "fragment"),
        (ipv6(bytes(8) + b"octets", protocol=44), "fragment"),
        (ipv6(bytes(8) + b"octets", protocol=0), "extension header"),
        (ipv6(bytes(8) + b"octets", protocol=60), "extension header"),
        (ipv6(b"", protocol=59), "protocol"),
        (ipv4(b"octets" * 4, protocol=6), "protocol"),
        (ipv6(b"octets" * 4, protocol=1), "protocol"),  # ICMP of the other family
        (ipv4(b"octets" * 4, protocol=58), "protocol"),
        (ipv4(b"octets" * 4, options=b"\x83\x03\x04\0"), "packet options"),
        (ipv4(b"octets"), "short datagram"),
        (udp(b"octets", length=3), "datagram length"),
        (udp(b"octets", checksum=3), "checksum"),
        (udp(b"octets"), "no listener"),
        (udp(b"octets", (0, 99)), "no source port"),
        (icmp(0, 0, b"\0\1\0\1ping"), "echo reply"),
        (icmp(13, 0, bytes(16)), "icmp type"),
        (icmp(8, 0, b"\0\1\0\1ping", wrong=1), "icmp checksum"),
        (icmp(8, 0, bytes(1420)), "echo size"),
        (icmp(3, 3, bytes(4) + udp(b"octets", source=OURS, to=THEIRS)), "icmp of no flow"),
    ],
)
def test_what_is_dropped_and_why(packet: bytes, why: str) -> None:
    peer = Peer()
    peer.host.listen("", 99)
    assert peer.why(packet) == why
    assert len(peer.flows.replies) == (why == "no listener")
    assert not peer.flows.opened
    assert not peer.flows.errors


def test_sources_that_cannot_be_even_if_everything_is_allowed() -> None:
    peer = Peer()
    peer.flows = type(peer.flows)(peer.host, lambda source: True)
    peer.host.listen("", 53)
    for source in ("0.0.0.0", "127.0.0.1", ALL_HOSTS, "255.255.255.255", "::1", "::", "ff02::1", "::ffff:10.0.0.9"):
        family = 6 if ":" in source else 4
        assert peer.why(udp(b"octets", family=family, source=source)) == "source not unicast"


@pytest.mark.parametrize("packet", [udp(b"octets"), udp(b"octets", family=6), icmp(8, 0, b"\0\1\0\1ping")])
@pytest.mark.parametrize("known", [True, False])
def test_cut_at_every_length(packet: bytes, known: bool) -> None:
    """Unpadded: a packet that ends early is dropped, whatever is open."""
    peer = Peer()
    peer.host.listen("", 53)
    if known:
        peer.hear(udp(b"octets"), udp(b"octets", family=6))
    for length in range(len(packet)):
        peer.flows.receive([memoryview(packet[:length])], 0.0)
    assert not peer.flows.received
    assert peer.flows.dropped.total() == len(packet)
    assert not peer.flows.replies


def test_random_octets_of_every_length() -> None:
    generator = random.Random(20)
    peer = Peer()
    peer.host.listen("", 53)
    peer.open()
    peer.hear(udp(b"octets"), udp(b"octets", family=6))
    before = len(peer.flows.opened)
    for first in (b"", b"\x45\0", b"\x60", b"\x46", udp(b"octets")[:24], udp(b"octets", family=6)[:44]):
        packets = [(first + generator.randbytes(length))[:length] for length in range(2001)]
        peer.flows.dropped.clear()
        peer.flows.receive([memoryview(each) for each in packets], 0.0)
        assert not peer.flows.received
        assert peer.flows.dropped.total() == len(packets)
    assert len(peer.flows.opened) == before
    assert not peer.flows.replies


SAMPLES = [
    udp(b"octets"),
    udp(b"octets", family=6),
    udp(b"", checksum=0),
    icmp(8, 0, b"\0\1\0\1ping"),
    icmp(128, 0, b"\0\1\0\1ping", family=6),
    icmp(3, 4, b"\0\0\x02\x80" + udp(bytes(1000), (4000, 53), source=OURS, to=THEIRS)[:28]),
    icmp(2, 0, b"\0\0\x05\0" + udp(bytes(1300), (4000, 53), family=6, source=OURS6, to=THEIRS6), family=6),
]


@given(
    st.lists(
        st.tuples(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 255)), max_size=3)),
        max_size=8,
    ),
    st.booleans(),
    st.booleans(),
)
def test_every_packet_is_delivered_answered_applied_or_counted(
    changed: list[tuple[bytes, list[tuple[int, int]]]], verify: bool, whole: bool
) -> None:
    peer = Peer(verify=verify)
    peer.host.listen("", 53)
    flows = [peer.open((THEIRS, 53), ("", 4000)), peer.open((THEIRS6, 53), ("", 4000))]
    if whole:
        flows.append(peer.flows.open(FlowKind.PACKET))
    packets = []
    for sample, edits in changed:
        packet = bytearray(sample)
        for place, value in edits:
            packet[place % len(packet)] = value
        packets.append(bytes(packet))
    heard = peer.hear(*packets)
    limits = [peer.flows.message_limit(flow) for flow in flows]
    assert sum(map(len, heard.values())) + peer.flows.dropped.total() <= len(packets)
    assert set(heard) <= {*flows, *(each.flow for each in peer.flows.opened)}
    assert limits[0] >= 576 - 28
    assert limits[1] >= 1280 - 48
    for reply in peer.flows.replies:
        parse_icmp_untrusted(parse_packet_untrusted(reply))


# -- what is answered --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES)
def test_an_echo_is_answered(family: int) -> None:
    peer = Peer()
    peer.hear(icmp(8 if family == 4 else 128, 0, b"\0\1\0\2" + b"ping" * 10, family=family))
    (reply,) = (parse_packet_untrusted(each) for each in peer.flows.replies)
    assert parse_icmp_untrusted(reply) == Echo(False, memoryview(b"\0\1\0\2" + b"ping" * 10))
    ours, theirs = (OURS, THEIRS) if family == 4 else (OURS6, THEIRS6)
    assert (reply.source, reply.destination) == (pack(ours), pack(theirs))
    assert not peer.flows.dropped


@pytest.mark.parametrize("family", FAMILIES)
def test_a_port_without_a_listener_is_reported(family: int) -> None:
    peer = Peer()
    packet = udp(b"octets", (7000, 53), family=family)
    assert peer.why(packet) == "no listener"
    (reply,) = (parse_packet_untrusted(each) for each in peer.flows.replies)
    problem = parse_icmp_untrusted(reply)
    assert isinstance(problem, Problem)
    assert (problem.kind, problem.source_port, problem.destination_port) == (Kind.PORT, 7000, 53)
    assert reply.destination == problem.source == pack(THEIRS if family == 4 else THEIRS6)


def test_answers_have_a_limit_that_time_lifts() -> None:
    peer = Peer()
    packets = [udp(b"octets")] * 100
    peer.hear(*packets, now=5.0)
    assert len(peer.flows.replies) == 16
    assert peer.flows.dropped["no listener"] == 100
    peer.flows.replies.clear()
    peer.hear(*packets, now=5.045)
    assert len(peer.flows.replies) == 4  # 100 in a second
    peer.flows.replies.clear()
    peer.hear(*packets, now=4.0)  # a clock that went back gives nothing
    assert not peer.flows.replies
    peer.hear(*[icmp(8, 0, b"\0\1\0\1ping")] * 100, now=5.0)
    assert len(peer.flows.replies) == 64
    assert peer.flows.dropped["echo limit"] == 36
    peer.flows.replies.clear()
    peer.hear(*packets, now=1000.0)
    assert len(peer.flows.replies) == 16  # what was saved up is bounded too


# -- errors about our packets ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Kind.PORT, Reason.REFUSED),
        (Kind.UNREACHABLE, Reason.UNREACHABLE),
        (Kind.PROHIBITED, Reason.UNREACHABLE),
    ],
)
def test_an_error_about_a_packet_of_a_flow_reaches_it(family: int, kind: Kind, reason: Reason) -> None:
    peer = Peer()
    other, flow = (peer.open((THEIRS if family == 4 else THEIRS6, port)) for port in (52, 53))
    error = build_problem(parse_packet_untrusted(peer.say(flow, bytes(1000))), kind)
    assert not peer.hear(error)
    ((number, said),) = peer.flows.errors
    assert number == flow != other
    assert isinstance(said, ConnectionLost)
    assert said.reason is reason
    assert kind.value in str(said)
    assert "port 53" in str(said)
    assert not peer.flows.dropped
    assert peer.say(flow, b"it lives on")


@pytest.mark.parametrize(("family", "least"), [(4, 576), (6, 1280)])
def test_too_big_makes_a_flows_messages_smaller(family: int, least: int) -> None:
    peer = Peer()
    remote = THEIRS if family == 4 else THEIRS6
    flow, other = peer.open((remote, 53)), peer.open((remote, 54))
    limit, overhead = peer.flows.message_limit(flow), peer.flows.overhead(flow)
    packet = parse_packet_untrusted(peer.say(flow, bytes(limit)))
    for reported, mtu in ((1400, 1400), (1300, 1300), (1350, 1300), (least, least)):
        peer.hear(build_problem(packet, Kind.TOO_BIG, mtu=reported))
        assert peer.flows.message_limit(flow) == mtu - overhead
    assert peer.flows.message_limit(other) == limit
    assert not peer.flows.errors
    assert not peer.flows.dropped


def test_no_report_makes_packets_smaller_than_every_host_must_take() -> None:
    peer = Peer()
    flow, flow6 = peer.open((THEIRS, 53)), peer.open((THEIRS6, 53))
    packet = parse_packet_untrusted(peer.say(flow, bytes(1392)))
    peer.hear(build_problem(packet, Kind.TOO_BIG, mtu=68))
    assert peer.flows.message_limit(flow) == 576 - 28
    packet = parse_packet_untrusted(peer.say(flow6, bytes(1372)))
    assert peer.why(build_problem(packet, Kind.TOO_BIG, mtu=1279)) == "icmp mtu"  # RFC 8201 §4
    assert peer.flows.message_limit(flow6) == 1372


def test_a_report_about_a_packet_that_would_have_fitted_is_none() -> None:
    peer = Peer()
    flow = peer.open()
    packet = parse_packet_untrusted(peer.say(flow, bytes(1000)))
    assert peer.why(build_problem(packet, Kind.TOO_BIG, mtu=1028)) == "icmp mtu"
    assert peer.flows.message_limit(flow) == 1392


@pytest.mark.parametrize(
    "quoted",
    [
        udp(b"octets", (4001, 53), source=OURS, to=THEIRS),
        udp(b"octets", (4000, 54), source=OURS, to=THEIRS),
        udp(b"octets", (4000, 53), source=OURS, to="10.0.0.3"),
        udp(b"octets", (4000, 53), source="10.0.0.3", to=THEIRS),
        ipv4(datagram(b"octets", OURS, THEIRS, (4000, 53)), OURS, THEIRS, 6),
    ],
)
def test_an_error_must_quote_a_packet_of_an_open_flow(quoted: bytes) -> None:
    peer = Peer()
    flow = peer.open((THEIRS, 53), ("", 4000))
    for code in (3, 4):
        assert peer.why(icmp(3, code, bytes(4) + quoted)) == "icmp of no flow"
    assert not peer.flows.errors
    assert peer.flows.message_limit(flow) == 1392


def test_errors_of_no_use_are_counted() -> None:
    peer = Peer()
    flow = peer.open()
    assert peer.why(icmp(11, 0, bytes(4) + peer.say(flow, b"octets"))) == "icmp of no use"
    assert not peer.flows.errors


def test_two_ends_tell_each_other_that_nobody_listens() -> None:
    """The whole way: a message, a port unreachable, an error for the flow; and no error about the error."""
    ours, theirs = Peer(), Peer(host(1420, f"{THEIRS}/24", f"{THEIRS6}/64"))
    for remote in (THEIRS, THEIRS6):
        flow = ours.open((remote, 53))
        theirs.hear(ours.say(flow, b"anybody there?"))
        ours.hear(*theirs.flows.replies)
        assert ours.flows.errors[-1][0] == flow
        theirs.flows.replies.clear()
    assert not ours.flows.replies
    closed = ours.flows.errors[0][0]
    ours.flows.close(closed)
    theirs.hear(udp(b"again", (4000, 53), source=OURS, to=THEIRS))
    ours.hear(*theirs.flows.replies)
    assert ours.flows.dropped == {"icmp of no flow": 1}
    assert not ours.flows.replies
