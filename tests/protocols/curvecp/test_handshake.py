"""Hello and Cookie, and what an opened Initiate means, with time by hand."""

from __future__ import annotations

import os

import pytest

from taps_security.protocols.curvecp import keys, wire
from taps_security.protocols.curvecp.handshake import (
    FIRST_PACKETS,
    ClientConfiguration,
    ClientHandshake,
    OpenedInitiate,
    ServerHandshake,
    first_number,
)
from taps_security.protocols.curvecp.keys import KeyPair, box_key
from taps_security.stack.asks import Ask, ClaimOnce, Refused, VerifyKey
from taps_security.stack.errors import AuthenticationFailed, LocalError, PeerMisbehaved
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyReady,
    PeerAuthenticated,
)
from taps_security.stack.layers import HandshakeMessage

from .pair import FACTS

S, C = KeyPair.generate(os.urandom), KeyPair.generate(os.urandom)
OURS, THEIRS = b"c" * 16, b"s" * 16


def client(server_key: bytes = S.public) -> ClientHandshake:
    return ClientHandshake(
        ClientConfiguration(
            key=C,
            server_key=server_key,
            name="server.example.org",
            extension=OURS,
            server_extension=THEIRS,
            anonymous=False,
            random=os.urandom,
        )
    )


def outputs(handshake: ClientHandshake | ServerHandshake) -> list[object]:
    found = []
    while (output := handshake.next_output()) is not None:
        found.append(output)
    return found


def hello_of(handshake: ClientHandshake) -> wire.Hello:
    (message,) = outputs(handshake)
    assert isinstance(message, HandshakeMessage)
    packet = wire.parse_untrusted(message.data)
    assert isinstance(packet, wire.Hello)
    return packet


def cookie_for(hello: wire.Hello, short: KeyPair, secret: bytes = S.secret, **changes: bytes) -> bytes:
    nonce = os.urandom(16)
    box = keys.seal_welcome(box_key(hello.client_key, secret), nonce, short.public, b"K" * 96)
    fields = {"client_extension": OURS, "server_extension": THEIRS, "nonce": nonce, "box": box} | changes
    return wire.Cookie(**fields).encode()


def test_a_client_says_hello_with_a_fresh_number_each_time() -> None:
    handshake = client()
    handshake.start(FACTS, 0.0)
    first = hello_of(handshake)
    assert handshake.unanswered(0, 1.0)
    second = hello_of(handshake)
    for hello in (first, second):
        keys.open_hello(box_key(hello.client_key, S.secret), int.from_bytes(hello.number, "little"), hello.box)
        assert (hello.server_extension, hello.client_extension) == (THEIRS, OURS)
    assert first.client_key == second.client_key == handshake.public
    assert int.from_bytes(second.number, "little") == int.from_bytes(first.number, "little") + 1


def test_a_cookie_gives_keys_an_identity_and_the_long_header() -> None:
    handshake, short = client(), KeyPair.generate(os.urandom)
    handshake.start(FACTS, 0.0)
    hello = hello_of(handshake)
    handshake.receive(FIRST_PACKETS, memoryview(cookie_for(hello, short)), 0, 0.1)
    receive, send, identity, complete = outputs(handshake)
    assert isinstance(receive, KeyReady)
    assert isinstance(send, KeyReady)
    assert (receive.direction, send.direction) == (Direction.RECEIVE, Direction.SEND)
    assert isinstance(identity, PeerAuthenticated)
    assert isinstance(complete, HandshakeComplete)
    secret = send.secret
    assert isinstance(secret, keys.StreamKey)
    assert secret.key == box_key(hello.client_key, short.secret)
    assert secret.number == int.from_bytes(hello.number, "little") + 1  # one counter for all that it sends
    assert secret.cookie == b"K" * 96
    introduction = keys.Introduction.of(secret.introduction)
    assert introduction.client == C.public
    assert keys.open_vouch(box_key(C.public, S.secret), introduction.vouch) == hello.client_key
    handshake.receive(FIRST_PACKETS, memoryview(cookie_for(hello, short)), 0, 0.2)  # it comes twice
    assert not outputs(handshake)
    assert handshake.unanswered(0, 0.3)
    assert not outputs(handshake)
    handshake.key_confirmed(KeyConfirmed(send.key), 0.4)
    assert outputs(handshake) == [HandshakeConfirmed()]


def test_cookies_that_are_none_change_nothing() -> None:
    handshake, short = client(), KeyPair.generate(os.urandom)
    handshake.start(FACTS, 0.0)
    hello = hello_of(handshake)
    good = cookie_for(hello, short)
    wrong = [
        cookie_for(hello, short, secret=os.urandom(32)),
        cookie_for(hello, short, client_extension=b"x" * 16),
        cookie_for(hello, short, server_extension=b"x" * 16),
        cookie_for(hello, KeyPair(b"", bytes(32))),  # a short-term key of small order
        good[:-1] + bytes((good[-1] ^ 1,)),
        good[:-1],
        b"",
        wire.ServerMessage(OURS, THEIRS, bytes(8), bytes(32)).encode(),
    ]
    for datagram in wrong:
        handshake.receive(FIRST_PACKETS, memoryview(datagram), 0, 0.1)
        assert not outputs(handshake)
    handshake.receive(FIRST_PACKETS, memoryview(good), 0, 0.2)
    assert len(outputs(handshake)) == 4


def test_a_server_key_that_is_none_is_an_error_of_ours() -> None:
    with pytest.raises(LocalError, match="cannot be a key"):
        client(bytes(32)).start(FACTS, 0.0)


SEED = OpenedInitiate(C.public, b"C" * 32, OURS, b"k" * 32, 77, b"message", 736)


def server(*, verifies: bool = False, known: bool = False) -> ServerHandshake:
    made = ServerHandshake(SEED, "server.example.org", os.urandom, lambda: 1000.0, verifies=verifies, known=known)
    made.start(FACTS, 0.0)
    return made


def test_a_server_claims_the_clients_key_first() -> None:
    handshake = server()
    (ask,) = outputs(handshake)
    assert isinstance(ask, Ask)
    assert isinstance(ask.request, ClaimOnce)
    assert ask.request.token == SEED.client_key
    assert ask.request.until >= 1000.0 + 120
    handshake.answer(99, True, 0.0)
    assert not outputs(handshake)
    handshake.answer(ask.id, True, 0.0)
    found = outputs(handshake)
    kinds = [KeyReady, KeyReady, PeerAuthenticated, HandshakeComplete, HandshakeConfirmed]
    assert [type(each) for each in found] == kinds
    assert found[0].secret.number == 77  # its window begins there
    assert found[1].secret.number <= 1 << 48
    assert not found[3].summary["provides"]["mutual_authentication"]  # anybody is served
    handshake.answer(ask.id, True, 0.0)
    assert not outputs(handshake)


def test_a_key_that_was_claimed_makes_no_connection() -> None:
    handshake = server()
    (ask,) = outputs(handshake)
    with pytest.raises(PeerMisbehaved, match="came again"):
        handshake.answer(ask.id, False, 0.0)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_callback_looks_at_the_clients_long_term_key(allowed: bool) -> None:
    handshake = server(verifies=True)
    (claim,) = outputs(handshake)
    handshake.answer(claim.id, True, 0.0)
    (ask,) = outputs(handshake)
    assert ask.request == VerifyKey(C.public, "client")
    if allowed:
        handshake.answer(ask.id, "whoever", 0.0)
        assert outputs(handshake)[3].summary["provides"]["mutual_authentication"]
    else:
        with pytest.raises(AuthenticationFailed, match="not you"):
            handshake.answer(ask.id, Refused(AuthenticationFailed("not you")), 0.0)


def test_what_curvecp_does_not_have() -> None:
    for handshake in (client(), server()):
        for call in (lambda h=handshake: h.update_keys(0.0), lambda h=handshake: h.export_secret(b"", None, 1)):
            with pytest.raises(LocalError):
                call()
    assert not server().unanswered(0, 0.0)


def test_numbers_begin_below_two_to_the_48() -> None:
    assert first_number(lambda size: b"\xff" * size) < 1 << 48
    assert len({first_number(os.urandom) for _ in range(10)}) == 10
