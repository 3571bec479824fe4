"""X25519 and Ed25519 of libsodium against the same of OpenSSL; the vectors stand with their users."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from taps_security.crypto.sodium import BadSignature, ed25519_verify, scalarmult, scalarmult_base


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


def test_wrong_lengths_never_reach_the_library() -> None:
    for call in (
        lambda: scalarmult_base(bytes(31)),
        lambda: scalarmult(bytes(33), bytes(32)),
        lambda: scalarmult(bytes(32), bytes(31)),
        lambda: ed25519_verify(bytes(31), bytes(64), b""),
        lambda: ed25519_verify(bytes(32), bytes(63), b""),
    ):
        with pytest.raises(ValueError, match="octets, expected"):
            call()
