"""What a server does without state: cookies, minutes, names, vouches, policies, and all that is dropped."""

from __future__ import annotations

import os

import pytest

from taps_security.protocols.curvecp import keys, wire
from taps_security.protocols.curvecp.handshake import KIND, OpenedInitiate
from taps_security.protocols.curvecp.keys import KeyPair, box_key
from taps_security.protocols.curvecp.limits import COOKIE_LIFE
from taps_security.protocols.curvecp.screening import CurveCpScreener, MinuteKeys
from taps_security.stack.errors import PeerMisbehaved
from taps_security.stack.layers import PathFacts
from taps_security.stack.screening import Create, Drop, Match, NotOurs, Reply, Verdict

from .pair import FACTS, LOAD, Pair
from .world import CLIENT, screener


def look(at: CurveCpScreener, datagram: bytes, now: float = 0.0) -> Verdict:
    return at.screen(memoryview(datagram), 1, FACTS, LOAD, now)


def first_packets(now: float = 0.0, at: CurveCpScreener | None = None, **options: object) -> tuple[bytes, bytes, bytes]:
    """A client's Hello, the Cookie for it, and its Initiate."""
    pair = Pair(now, screening=at, **options)
    (hello,) = pair.client.take()
    verdict = look(pair.screener, hello, now)
    assert isinstance(verdict, Reply)
    pair.client.receive(verdict.datagram, now)
    initiate = pair.client.take()[0]
    return hello, verdict.datagram, initiate


def test_a_hello_gets_a_smaller_cookie_and_leaves_nothing() -> None:
    at = screener()
    before = {name: getattr(at, name) for name in vars(at)}
    hello, cookie, _ = first_packets(at=at)
    assert len(cookie) == 200 < len(hello)
    assert {name: getattr(at, name) for name in vars(at)} == before
    again = look(at, hello)
    assert isinstance(again, Reply)
    assert again.datagram != cookie  # S' is fresh for each Hello


def test_an_initiate_makes_a_connection_with_its_route() -> None:
    at = screener()
    _, _, initiate = first_packets(at=at)
    verdict = look(at, initiate, 1.0)
    assert isinstance(verdict, Create)
    assert verdict.validated
    seed = verdict.seed
    assert isinstance(seed, OpenedInitiate)
    assert verdict.routes == ((KIND, seed.client_key),) == (at.route_of(memoryview(initiate)),)
    assert seed.client == CLIENT.public
    assert "message" not in repr(seed)
    assert at.accept(seed, 1.0).path == 0
    with pytest.raises(PeerMisbehaved):
        at.accept(b"something else", 1.0)


@pytest.mark.parametrize(("age", "opens"), [(0, True), (59, True), (61, True), (119, True), (121, False), (600, False)])
def test_cookies_open_for_one_or_two_minutes(age: float, opens: bool) -> None:
    at = screener()
    look(at, first_packets(at=at)[0], 0.0)
    _, _, initiate = first_packets(0.0, at)
    for second in range(10, int(age), 10):  # a busy server turns its keys in time
        look(at, first_packets(float(second), at)[0], float(second))
    assert isinstance(look(at, initiate, age), Create) is opens


def test_a_cookie_shows_the_address_that_it_was_sent_to() -> None:
    """Else whoever has one could have a server send its first window to anybody."""
    at = screener()
    _, _, initiate = first_packets(at=at)
    for remote in (("10.0.0.3", 2), ("fe80::2%eth0", 2)):
        elsewhere = PathFacts(FACTS.local, remote, mtu=FACTS.mtu)
        verdict = at.screen(memoryview(initiate), 2, elsewhere, LOAD, 0.0)
        assert verdict == Drop("curvecp: a box that does not open")
    translated = PathFacts(FACTS.local, (FACTS.remote[0], 3), mtu=FACTS.mtu)
    assert isinstance(at.screen(memoryview(initiate), 3, translated, LOAD, 0.0), Create)


def test_minute_keys_turn_and_a_long_silence_forgets_both() -> None:
    minutes = MinuteKeys(os.urandom, lambda: 0.0)
    first, _ = minutes.at(0.0)
    assert minutes.at(59.9)[0] == first
    second, previous = minutes.at(60.0)
    assert second != first == previous
    assert minutes.at(120.0)[1] == second
    third, _ = minutes.at(130.0)
    assert third not in minutes.at(400.0)


@pytest.mark.parametrize("wakes", [60.0, 61.0, 90.0, 119.9])
def test_no_cookie_opens_once_its_claim_is_forgotten(wakes: float) -> None:
    """A server that hears nothing for most of two minutes turns its keys late: they live no longer by that."""
    at = screener()
    _, _, initiate = first_packets(0.0, at)
    assert isinstance(look(at, initiate, 0.0), Create)
    look(at, first_packets(wakes, at)[0], wakes)
    assert isinstance(look(at, initiate, 119.9), Create)
    assert look(at, initiate, COOKIE_LIFE) == Drop("curvecp: a box that does not open")


@pytest.mark.parametrize(("slept", "opens"), [(0, True), (59, True), (119, True), (121, False), (600, False)])
def test_cookies_and_claims_grow_old_together(slept: float, opens: bool) -> None:
    """A machine that was suspended: the clock of the claims has gone on, the clock of the loop has not."""
    wall = [1e9]
    at = screener(clock=lambda: wall[0])
    _, _, initiate = first_packets(0.0, at)
    wall[0] += slept
    assert isinstance(look(at, initiate, 0.5), Create) is opens


def test_another_servers_name_and_key_are_not_answered() -> None:
    at = screener()
    verdict = look(at, first_packets(at=at, server_name="other.example.org")[2])
    assert verdict == Drop("curvecp: another server's name")
    other = KeyPair.generate(os.urandom)
    (hello,) = Pair(server_key=other.public).client.take()
    assert look(at, hello) == Drop("curvecp: a box that does not open")


def test_another_extension_is_another_servers() -> None:
    at = screener(extension=b"e" * 16)
    (hello,) = Pair().client.take()
    assert isinstance(look(at, hello), NotOurs)
    (hello,) = Pair(server_extension=b"e" * 16).client.take()
    assert isinstance(look(at, hello), Reply)


def test_only_known_clients_where_some_are_known() -> None:
    stranger = KeyPair.generate(os.urandom)
    at = screener(known_clients=[CLIENT.public])
    assert isinstance(look(at, first_packets(at=at)[2]), Create)
    assert look(at, first_packets(at=at, key=stranger.secret)[2]) == Drop("curvecp: an unknown client")
    assert look(at, first_packets(at=at, key=None)[2]) == Drop("curvecp: an unknown client")


def test_vouches_and_cookies_of_others_are_worth_nothing() -> None:
    at = screener()
    _, _, mine = first_packets(at=at)
    _, _, theirs = first_packets(at=at)
    swapped = mine[:72] + theirs[72:168] + mine[168:]
    assert look(at, swapped) == Drop("curvecp: a cookie of another client")
    packet = wire.parse_untrusted(mine)
    verdict = look(at, mine)
    assert isinstance(packet, wire.Initiate)
    assert isinstance(verdict, Create)
    seed = verdict.seed
    assert isinstance(seed, OpenedInitiate)
    number = int.from_bytes(packet.number, "little")
    introduction, message = keys.open_initiate(seed.key, number, packet.box)
    forged = keys.seal_vouch(box_key(at._configuration.key.public, CLIENT.secret), os.urandom(16), b"x" * 32)
    for vouch, reason in ((forged, "a vouch for another key"), (os.urandom(64), "a box that does not open")):
        plaintext = introduction.client + vouch + introduction.name + message
        box = keys.seal_box(plaintext, keys.short_nonce(keys.CLIENT_INITIATE, number), seed.key)
        made = wire.Initiate(
            packet.server_extension, packet.client_extension, packet.client_key, packet.cookie, packet.number, box
        )
        assert look(at, made.encode()) == Drop(f"curvecp: {reason}")


def test_every_length_of_noise_is_dropped() -> None:
    at = screener()
    for size in range(1401):
        noise = os.urandom(size)
        assert at.recognise(memoryview(noise)) is Match.NO
        for magic in (wire.HELLO, wire.INITIATE, wire.CLIENT_MESSAGE):
            datagram = (magic + noise)[: max(8, size)]
            assert at.recognise(memoryview(datagram)) is Match.YES
            at.route_of(memoryview(datagram))
            assert isinstance(look(at, datagram), Drop | NotOurs)


@pytest.mark.parametrize("which", ["hello", "initiate"])
def test_every_changed_octet_is_noticed_where_it_matters(which: str) -> None:
    at = screener()
    hello, _, initiate = first_packets(at=at)
    datagram, harmless = (
        (hello, {*range(24, 40), *range(72, 136)}) if which == "hello" else (initiate, {*range(24, 40)})
    )
    for place in range(len(datagram)):
        changed = bytearray(datagram)
        changed[place] ^= 0x20
        verdict = look(at, bytes(changed))
        if place in harmless:  # the client's extension and the padding are not authenticated
            assert isinstance(verdict, Reply | Create)
        else:
            assert isinstance(verdict, Drop | NotOurs), place
        for cut in (place, place + 1):
            if cut < len(datagram):
                assert isinstance(look(at, datagram[:cut]), Drop)


def test_messages_of_no_connection_are_dropped() -> None:
    at = screener()
    datagram = wire.ClientMessage(bytes(16), bytes(16), b"C" * 32, bytes(8), os.urandom(16 + 192)).encode()
    assert look(at, datagram) == Drop("curvecp: a message of no connection")
    assert at.route_of(memoryview(datagram)) == (KIND, b"C" * 32)
    assert at.recognise(memoryview(wire.SERVER_MESSAGE)) is Match.NO
    assert at.route_of(memoryview(b"")) is None
