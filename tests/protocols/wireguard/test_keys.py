"""The key schedule against Noise's vector of IKpsk2 and against its own rules."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taps_security.crypto.blake2s import hash256
from taps_security.crypto.sodium import chacha20_seal, scalarmult_base
from taps_security.protocols.wireguard.keys import (
    IDENTIFIER,
    INITIAL_CHAINING_KEY,
    SymmetricState,
    TransportSecret,
    cookie_key,
    dh,
    mac1_key,
    read_initiation_untrusted,
    read_payload_untrusted,
    read_response_untrusted,
    responder_hash,
    write_initiation,
    write_response,
)
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.stack.errors import PeerMisbehaved

FILE = Path(__file__).parent.parent.parent / "vectors" / "wireguard" / "noise_ikpsk2.json"
VECTOR = json.loads(FILE.read_text())["vectors"][0]


def octets(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


def message(number: int) -> tuple[bytes, bytes]:
    entry = VECTOR["messages"][number]
    return bytes.fromhex(entry["payload"]), bytes.fromhex(entry["ciphertext"])


def test_the_vector_of_noise_runs_through_both_ends() -> None:
    initiator, responder = octets("init_static"), octets("resp_static")
    public, peer = scalarmult_base(initiator), octets("init_remote_static")
    assert peer == scalarmult_base(responder)
    first, second = octets("init_ephemeral"), octets("resp_ephemeral")
    psk = bytes.fromhex(VECTOR["init_psks"][0])
    ours = SymmetricState.initialize(octets("init_prologue"), peer)
    theirs = SymmetricState.initialize(octets("resp_prologue"), peer)

    payload, sealed = message(0)
    pair = first, scalarmult_base(first)
    static, body = write_initiation(ours, pair, public, peer, dh(initiator, peer), payload)
    assert pair[1] + static + body == sealed
    assert read_initiation_untrusted(theirs, responder, pair[1], static) == public
    assert read_payload_untrusted(theirs, dh(responder, public), body) == payload

    payload, sealed = message(1)
    answer = second, scalarmult_base(second)
    body = write_response(theirs, answer, pair[1], public, psk, payload)
    assert answer[1] + body == sealed
    assert read_response_untrusted(ours, first, initiator, answer[1], psk, body) == payload
    assert ours.hash == theirs.hash == octets("handshake_hash")

    keys = ours.split()
    assert keys == theirs.split()
    for number in range(2, 6):  # transport messages, by turns
        payload, sealed = message(number)
        nonce = bytes(4) + ((number - 2) // 2).to_bytes(8, "little")
        assert chacha20_seal(keys[number % 2], nonce, payload, b"") == sealed


def test_split_leaves_nothing() -> None:
    state = SymmetricState.initialize(b"", bytes(32))
    assert state.split()[0] != state.chaining_key
    assert state.chaining_key == state.hash == b""


def test_the_prefixes_are_those_of_the_paper() -> None:
    public = os.urandom(32)
    state = SymmetricState.initialize(IDENTIFIER, public)
    assert state.hash == responder_hash(public)
    assert state.chaining_key == INITIAL_CHAINING_KEY
    assert mac1_key(public) == hash256(b"mac1----" + public)
    assert cookie_key(public) == hash256(b"cookie--" + public)


def test_copies_are_apart() -> None:
    state = SymmetricState.initialize(b"", bytes(32))
    copy = state.copy()
    copy.mix_ephemeral(bytes(32))
    assert (state.chaining_key, state.hash) == (INITIAL_CHAINING_KEY, SymmetricState.initialize(b"", bytes(32)).hash)


def test_what_does_not_open_leaves_the_hash() -> None:
    state = SymmetricState.initialize(b"", bytes(32))
    before = state.hash
    with pytest.raises(PeerMisbehaved) as caught:
        state.decrypt_and_hash(bytes(32), bytes(48))
    assert caught.value.reason is Reason.UNAUTHENTIC
    assert state.hash == before


SMALL_ORDER = [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18]  # RFC 7748 §7


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_refused(point: int) -> None:
    with pytest.raises(PeerMisbehaved) as caught:
        dh(os.urandom(32), point.to_bytes(32, "little"))
    assert caught.value.reason is Reason.BAD_POINT


def test_secrets_do_not_show() -> None:
    secret = TransportSecret(b"Z" * 32, b"\1\2\3\4")
    assert repr(secret) == "<TransportSecret for index 01020304>"
    secret.wipe()
    assert secret.key == b""
    state = SymmetricState(b"Z" * 32, b"Z" * 32)
    assert "ZZ" not in repr(state)
    assert b"Z" * 4 not in repr(state).encode()
