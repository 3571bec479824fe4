"""X25519 and Ed25519 of libsodium against the same of OpenSSL; the vectors stand with their users."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from taps_security.crypto.sodium import (
    BadSignature,
    Unauthentic,
    chacha20_open,
    chacha20_seal,
    ed25519_verify,
    scalarmult,
    scalarmult_base,
    xchacha20_open,
    xchacha20_seal,
)

from .wycheproof import cases

AEADS = [
    ("chacha20_poly1305", chacha20_seal, chacha20_open, 12),
    ("xchacha20_poly1305", xchacha20_seal, xchacha20_open, 24),
]


def test_x25519_gives_what_openssl_gives() -> None:
    one, other = os.urandom(32), os.urandom(32)
    key = X25519PrivateKey.from_private_bytes(one)
    assert scalarmult_base(one) == key.public_key().public_bytes_raw()
    public = scalarmult_base(other)
    assert scalarmult(one, public) == key.exchange(X25519PublicKey.from_public_bytes(public))
    assert scalarmult(other, scalarmult_base(one)) == scalarmult(one, public)


def test_a_point_of_small_order_gives_zeros() -> None:
    assert scalarmult(os.urandom(32), bytes(32)) == bytes(32)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(70_000)])
def test_ed25519_signatures_verify_or_not(data: bytes) -> None:
    private = Ed25519PrivateKey.generate()
    key, signature = private.public_key().public_bytes_raw(), private.sign(data)
    ed25519_verify(key, signature, data)
    for wrong in ((key, signature, data + b"x"), (key, bytes(64), data), (bytes(32), signature, data)):
        with pytest.raises(BadSignature):
            ed25519_verify(*wrong)


@pytest.mark.parametrize(("name", "seal", "open_", "nonce"), AEADS, ids=[entry[0] for entry in AEADS])
def test_aeads_pass_the_vectors_of_wycheproof(name: str, seal: Any, open_: Any, nonce: int) -> None:
    found = 0
    for case in cases(name):
        if len(case.iv) != nonce:
            with pytest.raises(ValueError, match="octets, expected"):
                open_(case.key, case.iv, case.ct + case.tag, case.aad)
            continue
        found += 1
        if case.result == "valid":
            assert seal(case.key, case.iv, case.msg, case.aad) == case.ct + case.tag, case
            assert open_(case.key, case.iv, case.ct + case.tag, case.aad) == case.msg, case
        else:
            with pytest.raises(Unauthentic):
                open_(case.key, case.iv, case.ct + case.tag, case.aad)
    assert found > 250


@pytest.mark.parametrize(("name", "seal", "open_", "nonce"), AEADS, ids=[entry[0] for entry in AEADS])
def test_messages_that_are_cut_or_changed_do_not_open(name: str, seal: Any, open_: Any, nonce: int) -> None:
    key, number = os.urandom(32), os.urandom(nonce)
    sealed = seal(key, number, b"cookie", b"mac")
    assert open_(key, number, sealed, b"mac") == b"cookie"
    assert open_(key, number, seal(key, number, b"", b""), b"") == b""
    wrong = [sealed[:length] for length in range(len(sealed))]
    wrong += [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for octets in wrong:
        with pytest.raises(Unauthentic):
            open_(key, number, octets, b"mac")
    with pytest.raises(Unauthentic):
        open_(key, number, sealed, b"mad")


def test_wrong_lengths_never_reach_the_library() -> None:
    for call in (
        lambda: scalarmult_base(bytes(31)),
        lambda: scalarmult(bytes(33), bytes(32)),
        lambda: scalarmult(bytes(32), bytes(31)),
        lambda: ed25519_verify(bytes(31), bytes(64), b""),
        lambda: ed25519_verify(bytes(32), bytes(63), b""),
        *(
            (lambda call=call, key=key, nonce=nonce: call(bytes(key), bytes(nonce), bytes(40), b""))
            for _, seal, open_, size in AEADS
            for call in (seal, open_)
            for key, nonce in ((31, size), (33, size), (32, size - 1), (32, size + 1))
        ),
    ):
        with pytest.raises(ValueError, match="octets, expected"):
            call()
