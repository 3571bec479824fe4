"""Boxes: each one of the golden trace is opened, and made again octet by octet from its plaintext and nonce."""

from __future__ import annotations

import os

import pytest

from taps_security.crypto.box import seal_box
from taps_security.protocols.curvecp import keys, wire
from taps_security.protocols.curvecp.keys import BoxFailure, Introduction, KeyPair, StreamKey, box_key
from taps_security.protocols.curvecp.names import encode_name

from .trace import PACKETS, SERVER_NAME, Packet, key

S, s = key("server_longterm_pk"), key("server_longterm_sk")
C, c = key("client_longterm_pk"), key("client_longterm_sk")
CLIENT, client = key("client_shortterm_pk"), key("client_shortterm_sk")  # C', c'
SERVER, server = key("server_shortterm_pk"), key("server_shortterm_sk")  # S', s'
HELLO, COOKIE, INITIATE = PACKETS[:3]
LONG, SHORT = box_key(S, client), box_key(SERVER, client)


def number_of(octets: bytes) -> int:
    return int.from_bytes(octets, "little")


def test_the_traces_pairs_and_shared_keys() -> None:
    for secret, public in ((s, S), (c, C), (client, CLIENT), (server, SERVER)):
        assert KeyPair.of(secret).public == public
    assert box_key(CLIENT, s) == LONG == key("precomp_client_short_server_long")
    assert box_key(CLIENT, server) == SHORT == key("precomp_client_short_server_short")
    assert repr(KeyPair.of(s)).count(str(s)) == 0


def test_the_traces_hello() -> None:
    packet = wire.parse_untrusted(HELLO.data)
    assert isinstance(packet, wire.Hello)
    number = number_of(packet.number)
    keys.open_hello(LONG, number, packet.box)
    box = keys.seal_hello(LONG, number)
    made = wire.Hello(key("server_extension"), key("client_extension"), CLIENT, packet.number, box)
    assert made.encode() == HELLO.data


def test_the_traces_cookie() -> None:
    packet = wire.parse_untrusted(COOKIE.data)
    assert isinstance(packet, wire.Cookie)
    short, cookie = keys.open_welcome(LONG, packet.nonce, packet.box)
    assert short == SERVER
    assert short + cookie == COOKIE.plaintext
    assert keys.open_cookie(key("minute_key"), cookie) == (CLIENT, server)
    assert keys.seal_cookie(key("minute_key"), packet.nonce, CLIENT, server) == cookie
    box = keys.seal_welcome(LONG, packet.nonce, SERVER, cookie)
    made = wire.Cookie(key("client_extension"), key("server_extension"), packet.nonce, box)
    assert made.encode() == COOKIE.data


def test_the_traces_initiate() -> None:
    packet = wire.parse_untrusted(INITIATE.data)
    assert isinstance(packet, wire.Initiate)
    number = number_of(packet.number)
    introduction, message = keys.open_initiate(SHORT, number, packet.box)
    assert introduction.encode() + message == INITIATE.plaintext
    assert introduction.client == C
    assert introduction.name == encode_name(SERVER_NAME)
    assert keys.open_vouch(box_key(C, s), introduction.vouch) == CLIENT
    vouch = keys.seal_vouch(box_key(S, c), introduction.vouch[:16], CLIENT)
    made = Introduction(C, vouch, encode_name(SERVER_NAME)).encode() + message
    box = seal_box(made, keys.short_nonce(keys.CLIENT_INITIATE, number), SHORT)
    cookie = COOKIE.plaintext[32:]
    extensions = key("server_extension"), key("client_extension")
    assert wire.Initiate(*extensions, CLIENT, cookie, packet.number, box).encode() == INITIATE.data


@pytest.mark.parametrize("packet", PACKETS[3:], ids=repr)
def test_the_traces_messages(packet: Packet) -> None:
    parsed = wire.parse_untrusted(packet.data)
    assert isinstance(parsed, wire.ClientMessage | wire.ServerMessage)
    prefix = keys.CLIENT_MESSAGE if packet.type == "ClientMessage" else keys.SERVER_MESSAGE
    box = seal_box(packet.plaintext, keys.short_nonce(prefix, number_of(parsed.number)), SHORT)
    assert box == parsed.box
    if isinstance(parsed, wire.ClientMessage):
        made: wire.Packet = wire.ClientMessage(
            key("server_extension"), key("client_extension"), CLIENT, parsed.number, box
        )
    else:
        made = wire.ServerMessage(key("client_extension"), key("server_extension"), parsed.number, box)
    assert made.encode() == packet.data


def test_boxes_open_under_their_own_key_and_nonce_only() -> None:
    minute = os.urandom(32)
    cookie = keys.seal_cookie(minute, os.urandom(16), CLIENT, server)
    vouch = keys.seal_vouch(LONG, os.urandom(16), CLIENT)
    for opens in (
        lambda: keys.open_cookie(os.urandom(32), cookie),
        lambda: keys.open_cookie(minute, os.urandom(16) + cookie[16:]),
        lambda: keys.open_vouch(SHORT, vouch),
        lambda: keys.open_vouch(LONG, vouch[:-1] + bytes((vouch[-1] ^ 1,))),
        lambda: keys.open_hello(LONG, 2, keys.seal_hello(LONG, 1)),
        lambda: keys.open_welcome(LONG, bytes(16), os.urandom(144)),
        lambda: keys.open_initiate(SHORT, 1, bytes(500)),
    ):
        with pytest.raises(BoxFailure):
            opens()


def test_a_stream_key_shows_nothing_and_can_be_wiped() -> None:
    secret = StreamKey(b"k" * 32, 7, b"c" * 96, b"i" * 352)
    assert repr(secret) == "<StreamKey>"
    secret.wipe()
    assert secret.key == secret.cookie == secret.introduction == b""
