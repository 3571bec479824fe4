"""What comes out of a tunnel, as fuzz targets: a packet alone, and one against flows and listeners that are open.

A peer that is authenticated may still send anything: nothing here may raise, answer without bound, or deliver octets
that are not in the packet.
"""

from __future__ import annotations

from taps_security.inner.icmp import Kind, Problem, parse_icmp_untrusted
from taps_security.inner.ip import PacketRefused, parse_packet_untrusted
from taps_security.inner.udp import parse_datagram_untrusted
from tests.inner.support import OURS, OURS6, THEIRS, THEIRS6, Peer, datagram, icmp, ipv4, ipv6, slow_checksum, udp

_OUR_PORT, _THEIR_PORT, _LISTENER = 4000, 53, 99


def samples() -> tuple[bytes, ...]:
    """Datagrams for a flow and for a listener, echoes, errors about our packets, options, a fragment."""
    about = udp(bytes(1000), (_OUR_PORT, _THEIR_PORT), source=OURS, to=THEIRS)
    about6 = udp(bytes(1300), (_OUR_PORT, _THEIR_PORT), family=6, source=OURS6, to=THEIRS6)
    return (
        udp(b"an answer", (_THEIR_PORT, _OUR_PORT)),
        udp(b"an answer", (_THEIR_PORT, _OUR_PORT), family=6),
        udp(b"a question", (7000, _LISTENER)),
        udp(b"a question", (7000, _LISTENER), family=6),
        udp(b"", (7000, _LISTENER), checksum=0),
        udp(b"nobody's", (7000, 98)),
        ipv4(datagram(b"octets", THEIRS, OURS, (7000, _LISTENER)), options=b"\x01\x94\x04\0\0\0\0\0"),
        ipv4(bytes(24), flags=0x2001),
        ipv6(bytes(24), protocol=0),
        icmp(8, 0, b"\0\1\0\1ping"),
        icmp(128, 0, b"\0\1\0\1ping", family=6),
        icmp(3, 3, bytes(4) + about[:40]),
        icmp(3, 4, b"\0\0\x03\xe8" + about[:28]),
        icmp(1, 4, bytes(4) + about6[:60], family=6),
        icmp(2, 0, b"\0\0\x05\0" + about6[:60], family=6),
    )


def inner_packet(octets: bytes) -> None:
    """Invariant: PacketRefused, or a packet, a datagram and a message that hold no more octets than were read."""
    for again in (octets, _mended(octets)):
        try:
            packet = parse_packet_untrusted(again)
        except PacketRefused:
            continue
        assert again.startswith(bytes(packet.octets))
        for verify in (True, False):
            try:
                assert len(parse_datagram_untrusted(packet, verify=verify).payload) <= len(packet.payload) - 8
            except PacketRefused:
                continue
        try:
            parse_icmp_untrusted(packet)
        except PacketRefused:
            continue


def inner_flows(octets: bytes) -> None:
    """Invariant: each packet is delivered, answered, told to a flow, counted, or makes a flow's packets smaller."""
    for again in (octets, _mended(octets)):
        for verify in (True, False):
            _against_flows(again, verify=verify)


def _against_flows(octets: bytes, *, verify: bool) -> None:
    peer = Peer(verify=verify)
    peer.host.listen("", _LISTENER)
    flow, flow6 = (peer.open((remote, _THEIR_PORT), ("", _OUR_PORT)) for remote in (THEIRS, THEIRS6))
    peer.flows.receive([memoryview(octets)], 0.0)
    chunks = [bytes(each) for flow in peer.flows.received.values() for each in flow]
    answered = 0 if peer.flows.dropped else len(peer.flows.replies)  # a port unreachable goes out for what is dropped
    outcomes = len(chunks) + peer.flows.dropped.total() + len(peer.flows.errors) + answered
    if not outcomes:
        report = parse_icmp_untrusted(parse_packet_untrusted(octets))
        assert isinstance(report, Problem)
        assert report.kind is Kind.TOO_BIG
    assert outcomes <= 1
    assert len(peer.flows.replies) <= 1
    assert all(len(reply) <= 1420 for reply in peer.flows.replies)
    assert all(chunk in octets for chunk in chunks)
    assert 576 - 28 <= peer.flows.message_limit(flow) <= 1420 - 28
    assert 1280 - 48 <= peer.flows.message_limit(flow6) <= 1420 - 48


def _mended(octets: bytes) -> bytes:
    """With the checksums made right again, so that mutations get behind them."""
    try:
        packet = bytearray(octets)
        if octets[0] >> 4 == 4:
            size = (octets[0] & 15) * 4
            packet[10:12] = b"\0\0"
            packet[10:12] = _complement(packet[:size])
            kind, addresses = octets[9], octets[12:20]
            end = min(len(octets), int.from_bytes(octets[2:4], "big"))
        else:
            size, kind, addresses = 40, octets[6], octets[8:40]
            end = min(len(octets), 40 + int.from_bytes(octets[4:6], "big"))
        place = {17: size + 6, 1: size + 2, 58: size + 2}[kind]
        if place + 2 > end:
            return bytes(packet)
        packet[place : place + 2] = b"\0\0"
        pseudo = b"" if kind == 1 else addresses + (end - size).to_bytes(4, "big") + bytes((0, 0, 0, kind))
        packet[place : place + 2] = _complement(pseudo + packet[size:end])
        return bytes(packet)
    except (IndexError, KeyError):
        return octets


def _complement(octets: bytes | bytearray) -> bytes:
    return (slow_checksum(bytes(octets)) or 0xFFFF).to_bytes(2, "big")
