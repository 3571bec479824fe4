"""BLAKE2s, its MACs and KDFs against published vectors and the standard library's HMAC."""

from __future__ import annotations

import hmac
import json
import os
from pathlib import Path

import pytest

from taps_security.crypto.blake2s import hash256, hmac256, kdf1, kdf2, kdf3, mac128

KDF = json.loads((Path(__file__).parent.parent / "vectors" / "wireguard" / "kdf.json").read_text())["tests"]


def test_the_hash_is_the_one_of_rfc_7693() -> None:
    """RFC 7693 Appendix B: BLAKE2s-256 of "abc"."""
    assert hash256(b"abc").hex() == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"


def test_the_keyed_hash_is_not_hmac() -> None:
    key, data = bytes(range(32)), b"data"
    assert len(mac128(key, data)) == 16
    assert mac128(key, data) != hmac256(key, data)[:16]
    assert mac128(key, data) != mac128(key, data + b"x")
    assert mac128(key, memoryview(data)) == mac128(key, data)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 200])
def test_hmac_is_the_one_of_the_standard_library(size: int) -> None:
    key = os.urandom(size)
    for data in (b"", b"data", bytes(1000)):
        assert hmac256(key, data) == hmac.digest(key, data, "blake2s")


@pytest.mark.parametrize("case", KDF, ids=range(len(KDF)))
def test_kdf_vectors(case: dict[str, str]) -> None:
    key, data = bytes.fromhex(case["key"]), bytes.fromhex(case["input"])
    outputs = tuple(bytes.fromhex(case[name]) for name in ("t0", "t1", "t2"))
    assert kdf3(key, data) == outputs
    assert kdf2(key, data) == outputs[:2]
    assert kdf1(key, data) == outputs[0]
