"""The inner host: addresses, ports, listeners. Flows that we open, what they write, and how they end."""

from __future__ import annotations

import ipaddress

import pytest

from taps_security.inner.ip import parse_packet_untrusted
from taps_security.inner.network import InnerHost
from taps_security.inner.udp import parse_datagram_untrusted
from taps_security.stack.errors import ConfigurationError, LocalError, Reason
from taps_security.stack.events import FlowKind
from taps_security.stack.tunnel import FlowAddress
from tests.inner.support import OURS, OURS6, THEIRS, THEIRS6, Fixed, Peer, host, icmp, ipv4, ipv6, pack, udp


# -- the host ----------------------------------------------------------------------------------------------------------
def test_a_host_says_what_it_is() -> None:
    ours = host()
    assert ours.addresses == (OURS, OURS6)
    assert ours.networks == ("10.0.0.0/24", "fd00::/64")
    assert ours.mtu == 1420


@pytest.mark.parametrize(
    ("addresses", "mtu", "said"),
    [
        (["10.0.0.300/24"], 1420, "10.0.0.300"),
        (["10.0.0.1/33"], 1420, "10.0.0.1/33"),
        (["224.0.0.1/24"], 1420, "224.0.0.1"),
        (["::1"], 1420, "::1"),
        (["10.0.0.1/24"], 575, "576 to 65535"),
        (["fd00::1/64"], 1279, "1280 to 65535"),
        (["10.0.0.1/24"], 65_536, "576 to 65535"),
    ],
)
def test_what_a_host_cannot_be(addresses: list[str], mtu: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        InnerHost(addresses, mtu, Fixed())


def test_the_source_is_of_the_smallest_network_with_the_remote_in_it() -> None:
    ours = host(1420, "192.0.2.1/32", "10.0.0.1/8", "10.1.0.1/16", "fd00::1/64")
    assert ours.source_for(pack("10.1.2.3")) == pack("10.1.0.1")
    assert ours.source_for(pack("10.2.2.3")) == pack("10.0.0.1")
    assert ours.source_for(pack("198.51.100.1")) == pack("192.0.2.1")  # the first of its family
    assert ours.source_for(pack("2001:db8::1")) == pack("fd00::1")
    with pytest.raises(LocalError, match="no inner address") as caught:
        host(1420, "10.0.0.1/8").source_for(pack("2001:db8::1"))
    assert caught.value.reason is Reason.UNREACHABLE


def test_a_port_has_one_listener() -> None:
    ours = host()
    assert ours.listen("", 53) == ("", 53)
    assert ours.listen(OURS, 54) == (OURS, 54)
    assert ours.listen(OURS6, 54) == (OURS6, 54)
    for address, port in ((OURS, 53), ("", 53), ("", 54), (OURS, 54)):
        with pytest.raises(LocalError, match=f"inner port {port} is in use") as caught:
            ours.listen(address, port)
        assert caught.value.reason is Reason.ADDRESS_IN_USE
    ours.unlisten(("", 53))
    ours.unlisten(("", 53))  # nothing is there any more
    assert ours.listen(OURS, 53) == (OURS, 53)
    assert ours.listens(pack(OURS), 53)
    assert not ours.listens(pack(OURS6), 53)
    with pytest.raises(ConfigurationError, match=r"10\.0\.0\.9 is not ours"):
        ours.listen("10.0.0.9", 53)
    with pytest.raises(ConfigurationError, match="expected an IPv4 or IPv6 address"):
        ours.listen("localhost", 53)


def test_free_ports_differ_and_come_back() -> None:
    ours = host()
    first, second = ours.listen("", 0)[1], ours.listen("", 0)[1]
    assert first != second
    assert {first, second} < set(range(49_152, 65_536))
    ours = InnerHost(["10.0.0.1/24"], 1420, bytes)  # random octets that are all alike: the search goes on from there
    assert [ours.listen("", 0)[1] for _ in range(3)] == [49_152, 49_153, 49_154]
    ours.unlisten(("", 49_153))
    assert ours.listen("", 0)[1] == 49_153


def test_when_no_port_is_free() -> None:
    ours = host()
    for port in range(49_152, 65_536):
        ours.listen("", port)
    with pytest.raises(LocalError, match="no inner port is free") as caught:
        ours.listen("", 0)
    assert caught.value.reason is Reason.ADDRESS_IN_USE
    ours.unlisten(("", 50_000))
    assert ours.listen("", 0) == ("", 50_000)


# -- flows of ours -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ours", "theirs", "overhead"), [(OURS, THEIRS, 28), (OURS6, THEIRS6, 48)])
def test_a_flow_writes_and_hears(ours: str, theirs: str, overhead: int) -> None:
    peer = Peer()
    flow = peer.open((theirs, 53))
    address = peer.flows.address(flow)
    assert address.remote == (theirs, 53)
    assert address.local[0] == ours
    assert address.local[1] in range(49_152, 65_536)
    packet = parse_packet_untrusted(peer.say(flow, b"question"))
    assert (packet.source, packet.destination) == (pack(ours), pack(theirs))
    found = parse_datagram_untrusted(packet)
    assert (found.source, found.destination, found.payload) == (address.local[1], 53, b"question")
    assert peer.flows.overhead(flow) == overhead
    assert peer.flows.message_limit(flow) == 1420 - overhead
    answer = udp(b"answer", (53, address.local[1]), family=4 if overhead == 28 else 6)
    assert peer.hear(answer) == {flow: [b"answer"]}


def test_a_writer_serves_a_batch() -> None:
    peer = Peer()
    flow = peer.open()
    slab = memoryview(bytearray(200))
    peer.flows.writer(flow).write_all([b"one", b"two"], slab, 0, 50, 32)
    peer.flows.writer(flow).write_all([b"three"], slab, 100, 50, 48)
    payloads = [parse_datagram_untrusted(parse_packet_untrusted(slab[at : at + 50])).payload for at in (0, 50, 100)]
    assert payloads == [b"one", b"two", b"three"]


@pytest.mark.parametrize(("family", "computed"), [(4, False), (6, True)])
def test_a_host_may_leave_checksums_to_the_tunnel(family: int, computed: bool) -> None:
    """Over IPv4; over IPv6 there is no datagram without one."""
    without = InnerHost(["10.0.0.1/24", "fd00::1/64"], 1420, Fixed(), checksums=False)
    peer, theirs = Peer(without), Peer(InnerHost(["10.0.0.2/24", "fd00::2/64"], 1420, Fixed()))
    packet = peer.say(peer.open((THEIRS if family == 4 else THEIRS6, 53)), b"octets")
    overhead = 28 if family == 4 else 48
    assert any(packet[overhead - 2 : overhead]) is computed
    assert theirs.host.listen("", 53)
    assert list(theirs.hear(packet).values()) == [[b"octets"]]


def test_flows_have_numbers_and_ports_of_their_own() -> None:
    peer = Peer()
    flows = [peer.open() for _ in range(50)]
    ports = {peer.flows.address(flow).local[1] for flow in flows}
    assert len(set(flows)) == len(ports) == 50
    assert 0 not in flows


def test_a_local_port_may_be_named_and_shared_between_remotes() -> None:
    peer = Peer()
    first = peer.open((THEIRS, 53), (OURS, 4000))
    second = peer.open((THEIRS, 54), ("", 4000))
    assert peer.flows.address(second) == FlowAddress((THEIRS, 54), (OURS, 4000))
    with pytest.raises(LocalError, match="already") as caught:
        peer.open((THEIRS, 53), ("", 4000))
    assert caught.value.reason is Reason.ADDRESS_IN_USE
    assert peer.hear(udp(b"a", (53, 4000)), udp(b"b", (54, 4000))) == {first: [b"a"], second: [b"b"]}
    for flow in (first, second):
        with pytest.raises(LocalError, match="in use"):
            peer.host.listen("", 4000)
        peer.flows.close(flow)
    assert peer.host.listen("", 4000) == ("", 4000)
    with pytest.raises(LocalError, match="by a listener"):
        peer.open((THEIRS, 53), ("", 4000))


@pytest.mark.parametrize(
    ("remote", "local", "said"),
    [
        ((THEIRS, 0), ("", 0), "not another host's port"),
        ((OURS, 53), ("", 0), "not another host's port"),
        (("224.0.0.1", 53), ("", 0), "not another host's port"),
        (("192.0.2.1", 53), ("", 0), "not behind this peer"),
        (("peer.example", 53), ("", 0), "expected an IPv4 or IPv6 address"),
        ((THEIRS, 53), ("10.0.0.9", 0), "is not ours"),
        ((THEIRS, 53), (OURS6, 0), "one is IPv4, the other IPv6"),
    ],
)
def test_flows_that_cannot_be(remote: tuple[str, int], local: tuple[str, int], said: str) -> None:
    peer = Peer()
    with pytest.raises(LocalError, match=said):
        peer.open(remote, local)
    assert peer.open((THEIRS, 53), (OURS, 4000))  # nothing is left of the attempt


def test_streams_are_not_carried() -> None:
    with pytest.raises(LocalError, match="not a stream") as caught:
        Peer().flows.open(FlowKind.STREAM, FlowAddress((THEIRS, 53)))
    assert caught.value.reason is Reason.NOT_SUPPORTED


def test_a_message_must_fit() -> None:
    peer = Peer()
    flow = peer.open()
    peer.flows.check(flow, bytes(1392))
    with pytest.raises(LocalError, match="1393 octets; at most 1392") as caught:
        peer.flows.check(flow, bytes(1393))
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
    assert len(peer.say(flow, bytes(1392))) == 1420


def test_a_closed_flow_is_over() -> None:
    peer = Peer()
    flow = peer.open((THEIRS, 53), ("", 4000))
    peer.flows.close(flow)
    peer.flows.close(flow)
    assert peer.why(udp(b"late", (53, 4000))) == "no listener"
    with pytest.raises(KeyError):
        peer.say(flow, b"late")
    assert peer.open((THEIRS, 53), ("", 4000)) != flow


def test_close_all_frees_every_port() -> None:
    peer = Peer()
    peer.host.listen("", 53)
    peer.open((THEIRS, 53), ("", 4000))
    peer.flows.open(FlowKind.PACKET)
    peer.hear(udp(b"hello", (7000, 53)))
    assert len(peer.flows.opened) == 1
    peer.flows.close_all()
    other = Peer(peer.host)
    assert other.open((THEIRS, 53), ("", 4000))
    assert peer.flows.open(FlowKind.PACKET)
    assert peer.why(udp(b"octets", (7000, 54), source="192.0.2.7")) == "source not allowed"


def test_addresses_that_a_peer_loses_take_their_flows_with_them() -> None:
    peer = Peer()
    peer.host.listen("", 53)
    kept, lost = peer.open((THEIRS6, 9)), peer.open((THEIRS, 9), ("", 4000))
    peer.hear(udp(b"hello", (7000, 53)))
    opened = peer.flows.opened[0].flow
    assert peer.flows.recheck() == []
    peer.allowed = [ipaddress.ip_network("fd00::/64")]
    assert peer.flows.recheck() == [lost, opened]
    assert peer.flows.address(kept).remote == (THEIRS6, 9)
    assert peer.why(udp(b"late", (9, 4000))) == "source not allowed"
    assert peer.host.listen("", 4000) == ("", 4000)


# -- the packet flow ---------------------------------------------------------------------------------------------------
def test_there_is_one_packet_flow() -> None:
    peer = Peer()
    flow = peer.flows.open(FlowKind.PACKET, FlowAddress(("", 0)))
    with pytest.raises(LocalError, match="already") as caught:
        peer.flows.open(FlowKind.PACKET)
    assert caught.value.reason is Reason.ADDRESS_IN_USE
    assert (peer.flows.overhead(flow), peer.flows.message_limit(flow)) == (0, 1420)
    assert peer.flows.address(flow) == FlowAddress(("", 0))
    peer.flows.close(flow)
    assert peer.flows.open(FlowKind.PACKET) != flow


def test_the_packet_flow_gets_what_no_other_flow_claims() -> None:
    peer = Peer()
    flow, packets = peer.open((THEIRS, 53), ("", 4000)), peer.flows.open(FlowKind.PACKET)
    peer.host.listen("", 99)
    whole = [
        udp(b"octets", (53, 4001)),
        udp(b"", (53, 4000), checksum=0, to="10.0.0.77"),  # another host's: we may be a router
        udp(b"octets", family=6),
        ipv4(b"tcp or so", protocol=6),
        ipv6(b"extended", protocol=0),
        ipv4(b"piece", flags=0x2000),
        ipv4(b"short"),
        icmp(8, 0, b"\0\1\0\1ping"),
        icmp(8, 0, b"\0\1\0\1ping", wrong=1),
        icmp(3, 3, bytes(4) + udp(b"octets", (4001, 53), source=OURS, to=THEIRS)),
        udp(b"octets", (53, 4000), to="224.0.0.1"),
    ]
    heard = peer.hear(udp(b"for the flow", (53, 4000)), *whole, udp(b"for the listener", (7000, 99)))
    assert heard[packets] == whole
    assert heard[flow] == [b"for the flow"]
    assert [each.flow for each in peer.flows.opened] == [flow + 2]
    assert not peer.flows.replies
    assert not peer.flows.dropped


def test_the_packet_flow_gets_nothing_that_is_not_sound_or_not_allowed() -> None:
    peer = Peer()
    peer.flows.open(FlowKind.PACKET)
    peer.open((THEIRS, 53), ("", 4000))
    assert peer.why(udp(b"octets", source="192.0.2.1")) == "source not allowed"
    assert peer.why(udp(b"octets", source=OURS)) == "source is ours"
    assert peer.why(ipv4(b"octets", checksum=1)) == "header checksum"
    assert peer.why(udp(b"octets", (53, 4000), checksum=1)) == "checksum"  # a flow claims it, and refuses it


def test_errors_of_other_flows_are_told_to_them_all_the_same() -> None:
    peer = Peer()
    flow, packets = peer.open((THEIRS, 53), ("", 4000)), peer.flows.open(FlowKind.PACKET)
    error = icmp(3, 3, bytes(4) + peer.say(flow, b"octets"))
    assert packets not in peer.hear(error)
    assert [each[0] for each in peer.flows.errors] == [flow]


def test_what_the_packet_flow_sends_is_a_packet_for_that_peer() -> None:
    peer = Peer()
    flow = peer.flows.open(FlowKind.PACKET)
    packet = udp(b"octets", source=OURS, to=THEIRS)
    for form in (packet, bytearray(packet), memoryview(packet)):
        peer.flows.check(flow, form)
    assert peer.say(flow, packet) == packet
    for wrong, said in (
        (b"", "not an IP packet: empty"),
        (b"octets", "not an IP packet"),
        (packet + b"\0", "behind the end"),
        (packet[:-1], "packet length"),
        (udp(b"octets", source=OURS, to="192.0.2.1"), "not behind this peer"),
        (udp(bytes(1393), source=OURS, to=THEIRS), "1421 octets; at most 1420"),
    ):
        with pytest.raises(LocalError, match=said):
            peer.flows.check(flow, wrong)


def test_a_stream_of_tcp_goes_to_the_packet_flow_for_as_long_as_its_source_is_allowed() -> None:
    peer = Peer()
    flow, packets = peer.open((THEIRS, 53), ("", 4000)), peer.flows.open(FlowKind.PACKET)
    segments = [ipv4(bytes([number]) * 40, protocol=6) for number in range(5)]
    segments += [ipv6(bytes([number]) * 40, protocol=6) for number in range(5)]
    heard = peer.hear(*segments[:3], udp(b"between", (53, 4000)), *(packet + bytes(9) for packet in segments[3:]))
    assert heard[packets] == segments
    assert heard[flow] == [b"between"]
    short, cut = ipv4(bytes(30), protocol=6, total=20), ipv6(bytes(40), protocol=6, length=41)
    assert peer.hear(segments[0], short, segments[1])[packets] == [segments[0], short[:20], segments[1]]
    assert peer.why(cut) == "packet length"
    assert peer.why(ipv4(bytes(40), source="192.0.2.1", protocol=6)) == "source not allowed"
    peer.allowed.clear()
    peer.flows.recheck()
    assert peer.why(segments[0]) == "source not allowed"


def test_a_batch_is_taken_only_if_each_packet_is_one_for_that_peer() -> None:
    peer = Peer()
    flow = peer.flows.open(FlowKind.PACKET)
    good = [ipv4(bytes([number]) * 40, source=OURS, to=THEIRS, protocol=6) for number in range(4)]
    good += [ipv6(bytes([number]) * 40, source=OURS6, to=THEIRS6, protocol=6) for number in range(4)]
    peer.flows.check_all(flow, good)
    peer.flows.check_all(flow, [memoryview(packet) for packet in good])
    for wrong, said in (
        (b"", "not an IP packet: empty"),
        (good[0] + b"\0", "behind the end"),
        (good[4] + b"\0", "behind the end"),
        (good[0][:-1], "packet length"),
        (ipv4(bytes(40), source=OURS, to=THEIRS, protocol=6, checksum=1), "header checksum"),
        (ipv4(bytes(40), source=OURS, to="192.0.2.1", protocol=6), "not behind this peer"),
        (ipv4(bytes(1401), source=OURS, to=THEIRS, protocol=6), "1421 octets; at most 1420"),
    ):
        for at in (0, 2, 8):
            with pytest.raises(LocalError, match=said):
                peer.flows.check_all(flow, [*good[:at], wrong, *good[at:]])
    peer.allowed.clear()
    peer.flows.recheck()
    with pytest.raises(LocalError, match="not behind this peer"):
        peer.flows.check_all(flow, good)


def test_a_batch_of_messages_has_the_flows_limit() -> None:
    peer = Peer()
    flow = peer.open((THEIRS, 53))
    peer.flows.check_all(flow, [bytes(1392), b"", bytearray(5)])
    with pytest.raises(LocalError, match="1393 octets; at most 1392"):
        peer.flows.check_all(flow, [b"", bytes(1393), b""])
    with pytest.raises(KeyError):
        peer.flows.check_all(flow + 1, [b""])
