"""What comes to a listening end before any state: recognised, answered with a cookie, dropped, or opened."""

from __future__ import annotations

import os

import pytest

from taps_security.crypto.blake2s import mac128
from taps_security.protocols.wireguard.handshake import OpenedInitiation
from taps_security.protocols.wireguard.limits import LOADED_FOR, MAX_SOURCES, SOURCE_BURST
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.protocols.wireguard.screening import Cookies, LoadMeter, SourceRates
from taps_security.stack.layers import PathFacts
from taps_security.stack.screening import Create, Drop, HandOver, Load, Match, NotOurs, Reply

from .ends import FACTS, IDLE, WALL, End, both, meet

BUSY = Load(half_open=51, limit=100)


def elsewhere(host: str, port: int = 51821) -> PathFacts:
    return PathFacts(FACTS.local, (host, port), mtu=1500)


def drop(reason: Reason) -> Drop:
    return Drop(reason.value)


# --------------------------------------------------------------------------------------------------------- recognition
def test_routes_are_the_receivers_indices() -> None:
    _, responder = both()
    route_of = responder.screener.route_of
    index = b"\x11\x22\x33\x44"
    assert route_of(memoryview(b"\2\0\0\0" + bytes(4) + index + bytes(80))) == ("wireguard", index)
    assert route_of(memoryview(b"\3\0\0\0" + index + bytes(56))) == ("wireguard", index)
    assert route_of(memoryview(b"\4\0\0\0" + index + bytes(24))) == ("wireguard", index)
    assert route_of(memoryview(b"\1\0\0\0" + bytes(144))) is None
    assert route_of(memoryview(b"\4\0\0\0" + index + bytes(23))) is None
    assert route_of(memoryview(b"")) is None


@pytest.mark.parametrize("size", range(201))
def test_noise_of_every_length_is_nobodys(size: int) -> None:
    _, responder = both()
    for first in (b"", b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0", b"\5\0\0\0", b"\1\0\0\1"):
        data = memoryview((first + os.urandom(200))[:size])
        recognised = responder.screener.recognise(data)
        verdict = responder.screen(bytes(data), 0.0)
        if recognised is Match.NO:
            assert isinstance(verdict, NotOurs)
        else:
            assert verdict == (drop(Reason.BAD_MAC1) if data[0] == 1 else drop(Reason.UNKNOWN_INDEX))


def test_an_initiation_is_recognised_whole_and_cut_at_no_length() -> None:
    initiator, responder = both()
    data = initiator.initiate(0.0)
    assert responder.screener.recognise(memoryview(data)) is Match.YES
    for size in range(len(data)):
        assert isinstance(responder.screen(data[:size], 0.0), NotOurs)
    assert isinstance(responder.screen(data + b"\0", 0.0), NotOurs)
    assert isinstance(responder.screen(data, 0.0), Create)


# ------------------------------------------------------------------------------------------------------------- opening
def test_a_good_initiation_is_opened_once() -> None:
    initiator, responder = both()
    verdict = responder.screen(initiator.initiate(0.0), 0.0)
    assert isinstance(verdict, Create)
    assert not verdict.validated
    assert verdict.routes == ()
    assert isinstance(verdict.seed, OpenedInitiation)
    assert verdict.seed.peer is responder.peer
    responder.screener.accept(verdict.seed, 0.0)
    responder.drain()
    initiator.take(responder.sent.pop(), 0.0)
    assert initiator.sends_to(responder) is not None


def test_screening_alone_changes_nothing() -> None:
    """Two looks at one initiation give the same: only who consumes it takes its timestamp."""
    initiator, responder = both()
    data = initiator.initiate(0.0)
    before = responder.peer.received
    for _ in range(2):
        assert isinstance(responder.screen(data, 0.0), Create)
    assert responder.peer.received == before
    assert responder.drain() == []
    assert not responder.tunnel._indices


def test_every_flipped_bit_of_an_initiation_is_dropped() -> None:
    initiator, responder = both()
    data = initiator.initiate(0.0)
    for bit in range(8 * 132):  # mac2 is not looked at without load
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        verdict = responder.screen(bytes(wrong), 0.0)
        assert verdict == drop(Reason.BAD_MAC1) or (bit < 32 and isinstance(verdict, NotOurs | Drop))
    assert isinstance(responder.screen(data, 0.0), Create)


def test_every_flipped_bit_under_a_good_mac1_is_dropped_too() -> None:
    """Everybody who knows our public key can make a mac1."""
    initiator, responder = both()
    data = initiator.initiate(0.0)
    reasons = set()
    for bit in range(8 * 4, 8 * 116):
        wrong = bytearray(data[:116])
        wrong[bit // 8] ^= 1 << bit % 8
        verdict = responder.screen(bytes(wrong) + mac128(responder.tunnel.mac1_key, wrong) + bytes(16), 0.0)
        if bit < 8 * 8:
            assert isinstance(verdict, Create)  # the sender's index is nothing that is protected
        else:
            assert isinstance(verdict, Drop)
            reasons.add(verdict.reason)
    assert reasons == {Reason.UNAUTHENTIC.value}
    point = data[:8] + bytes(32) + data[40:116]
    verdict = responder.screen(point + mac128(responder.tunnel.mac1_key, point) + bytes(16), 0.0)
    assert verdict == drop(Reason.BAD_POINT)


def test_strangers_are_dropped() -> None:
    stranger, responder = End("stranger", "responder"), End("responder", "initiator")
    assert responder.screen(stranger.initiate(0.0), 0.0) == drop(Reason.UNKNOWN_PEER)


def test_who_writes_to_another_key_is_dropped() -> None:
    initiator, other = End("initiator", "responder"), End("other", "initiator")
    assert other.screen(initiator.initiate(0.0), 0.0) == drop(Reason.BAD_MAC1)


def test_older_initiations_and_those_that_come_too_fast_are_dropped() -> None:
    walls = [WALL]
    initiator = End("initiator", "responder", clock=lambda: walls[0])
    responder = End("responder", "initiator")
    older = initiator.initiate(0.0)
    walls[0] += 1.0
    meet(initiator, responder, 1.0)
    walls[0] += 1.0
    newer = initiator.initiate(2.0)
    assert responder.screen(older, 5.0) == drop(Reason.REPLAYED)
    assert responder.screen(newer, 1.0199) == drop(Reason.TOO_FAST)
    assert isinstance(responder.screen(newer, 1.02), Create)


def test_a_peer_with_a_living_stack_gets_it_handed_over() -> None:
    initiator, responder = both()
    data = initiator.initiate(0.0)
    responder.tunnel.live[responder.peer.public_key] = object()
    verdict = responder.screen(data, 0.0)
    assert isinstance(verdict, HandOver)
    assert verdict.route == ("wireguard", responder.peer.public_key)
    del responder.tunnel.live[responder.peer.public_key]
    assert isinstance(responder.screen(data, 0.0), Create)


# ---------------------------------------------------------------------------------------------------------- under load
def test_under_load_an_initiation_costs_a_cookie() -> None:
    initiator, responder = both()
    first = initiator.initiate(0.0)
    verdict = responder.screen(first, 0.0, load=BUSY)
    assert isinstance(verdict, Reply)
    assert len(verdict.datagram) <= len(first)
    initiator.take(verdict.datagram, 0.0)
    second = initiator.initiate(5.0)
    good = responder.screen(second, 5.0, load=BUSY)
    assert isinstance(good, Create)
    assert good.validated
    for there in (elsewhere("192.0.2.3"), elsewhere("192.0.2.2", 9), elsewhere("2001:db8::1")):
        assert isinstance(responder.screen(second, 5.0, facts=there, load=BUSY), Reply)
    wrong = second[:-1] + bytes([second[-1] ^ 1])
    assert isinstance(responder.screen(wrong, 5.0, load=BUSY), Reply)
    calm = responder.screen(wrong, 5.0, load=IDLE)
    assert isinstance(calm, Create)
    assert not calm.validated


def test_a_wrong_mac1_earns_no_cookie() -> None:
    initiator, responder = both()
    data = bytearray(initiator.initiate(0.0))
    data[120] ^= 1
    assert responder.screen(bytes(data), 0.0, load=BUSY) == drop(Reason.BAD_MAC1)


def test_load_is_what_comes_with_a_good_mac1_in_a_second() -> None:
    initiator, responder = End("initiator", "responder"), End("responder", "initiator", loaded_above=10)
    data = initiator.initiate(0.0)
    bad = data[:-20] + bytes(20)
    for _ in range(50):
        responder.screen(bad, 0.0)
    for number in range(10):
        assert isinstance(responder.screen(data, 0.05 * number), Create)
    assert isinstance(responder.screen(data, 0.6), Reply)
    assert isinstance(responder.screen(data, 1.59), Reply)
    assert isinstance(responder.screen(data, 1.6), Create)


def test_the_meter_counts_by_the_second() -> None:
    meter = LoadMeter(3)
    for now in (0.0, 0.5, 0.9, 1.0, 1.1, 1.9, 2.0):
        meter.count(now)
        assert not meter.high(now)
    meter.count(2.1)
    meter.count(2.2)
    meter.count(2.3)
    assert meter.high(2.3 + LOADED_FOR - 0.01)
    assert not meter.high(2.3 + LOADED_FOR)


def test_cookies_serve_for_as_long_as_their_secret() -> None:
    cookies = Cookies(bytes(32), os.urandom)
    body = os.urandom(132)

    def shown(mac2_of: bytes, now: float) -> bool:
        return cookies.are_shown(body + mac2_of, FACTS.remote, now)

    assert not shown(bytes(16), 0.0)
    first = cookies.give(b"abcd", bytes(16), FACTS.remote, 100.0)
    assert first[:8] == b"\3\0\0\0abcd"
    mac2 = mac128(cookies._cookie(FACTS.remote), body)
    assert shown(mac2, 100.0)
    assert shown(mac2, 219.9)
    assert not shown(mac2, 220.0)
    cookies.give(b"abcd", bytes(16), FACTS.remote, 219.9)
    assert shown(mac2, 219.9)  # still the same secret
    cookies.give(b"abcd", bytes(16), FACTS.remote, 220.0)
    assert not shown(mac2, 220.0)


def test_a_cookie_survives_no_change_of_secret_but_a_new_one_is_given() -> None:
    initiator, responder = both()
    reply = responder.screen(initiator.initiate(0.0), 0.0, load=BUSY)
    initiator.take(reply.datagram, 0.0)  # type: ignore[union-attr]
    late = initiator.initiate(119.0)
    assert isinstance(responder.screen(late, 121.0, load=BUSY), Reply)


# --------------------------------------------------------------------------------------------------------------- rates
def test_a_source_has_a_burst_and_then_a_rate() -> None:
    rates = SourceRates()
    found = [rates.check("192.0.2.1", 0.0) for _ in range(SOURCE_BURST + 2)]
    assert found == [None] * SOURCE_BURST + [Reason.TOO_FREQUENT] * 2
    assert rates.check("192.0.2.2", 0.0) is None
    assert [rates.check("192.0.2.1", now) for now in (0.05, 0.06, 0.1)] == [None, Reason.TOO_FREQUENT, None]
    assert [rates.check("192.0.2.1", 100.0) for _ in range(6)] == [None] * 5 + [Reason.TOO_FREQUENT]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8:0:0:1::", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_a_source_is_an_address_or_the_network_of_an_ipv6_address(one: str, other: str, same: bool) -> None:
    rates = SourceRates()
    for _ in range(SOURCE_BURST):
        assert rates.check(one, 0.0) is None
    assert rates.check(other, 0.0) is (Reason.TOO_FREQUENT if same else None)


def test_the_memory_of_sources_has_a_bound() -> None:
    rates = SourceRates()
    for number in range(MAX_SOURCES):
        assert rates.check(f"10.0.{number >> 8}.{number & 255}", 0.0) is None
    assert rates.check("192.0.2.1", 0.0) is Reason.TOO_MANY_SOURCES
    assert rates.check("10.0.0.1", 0.0) is None  # who is known already
    assert len(rates) == MAX_SOURCES
    assert rates.check("192.0.2.1", 0.2) is None
    assert len(rates) == 1


def test_under_load_a_source_that_shows_its_cookie_has_a_rate() -> None:
    initiator, responder = both()
    reply = responder.screen(initiator.initiate(0.0), 0.0, load=BUSY)
    initiator.take(reply.datagram, 0.0)  # type: ignore[union-attr]
    data = initiator.initiate(5.0)
    for _ in range(SOURCE_BURST):
        assert isinstance(responder.screen(data, 5.0, load=BUSY), Create)
    assert responder.screen(data, 5.0, load=BUSY) == drop(Reason.TOO_FREQUENT)


def test_a_flood_of_good_mac1_from_many_addresses_leaves_no_memory() -> None:
    """A key that we do not know, with a mac1 that everybody can make, from 20,000 addresses."""
    stranger = End("stranger", "responder")
    responder = End("responder", "initiator", loaded_above=100)
    data = stranger.initiate(0.0)
    verdicts: dict[type, int] = {}
    for number in range(20_000):
        facts = elsewhere(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        verdict = responder.screen(data, number / 20_000, facts=facts)
        verdicts[type(verdict)] = verdicts.get(type(verdict), 0) + 1
    assert verdicts == {Drop: 100, Reply: 19_900}
    assert len(responder.screener._rates) == 0
    assert not responder.tunnel._indices
