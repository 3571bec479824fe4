"""HMAC and HKDF: Wycheproof and the appendix of RFC 5869."""

import hashlib

import pytest

from taps_security.crypto.kdf import HashAlgorithm, hkdf_expand, hkdf_extract, hmac_digest
from tests.crypto.wycheproof import cases


@pytest.fixture(params=HashAlgorithm, ids=lambda algorithm: algorithm.name)
def algorithm(request: pytest.FixtureRequest) -> HashAlgorithm:
    return request.param


def test_wycheproof_hkdf(algorithm):
    for case in cases(f"hkdf_{algorithm.value}"):
        prk = hkdf_extract(algorithm, case.salt, case.ikm)
        if case.result == "valid":
            assert hkdf_expand(algorithm, prk, case.info, case.size) == case.okm, case
        else:
            with pytest.raises(ValueError, match="HKDF"):
                hkdf_expand(algorithm, prk, case.info, case.size)


def test_wycheproof_hmac(algorithm):
    for case in cases(f"hmac_{algorithm.value}"):
        digest = hmac_digest(algorithm, case.key, case.msg)[: case.group["tagSize"] // 8]
        assert (digest == case.tag) == (case.result == "valid"), case


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "prk", "okm"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.2", "A.3"],
)
def test_rfc_5869(ikm, salt, info, prk, okm):
    expected = bytes.fromhex(okm)
    assert hkdf_extract(HashAlgorithm.SHA256, salt, ikm).hex() == prk
    assert hkdf_expand(HashAlgorithm.SHA256, bytes.fromhex(prk), info, len(expected)) == expected


def test_expand_is_a_prefix_of_longer_output_up_to_the_limit(algorithm):
    longest = hkdf_expand(algorithm, b"k" * algorithm.size, b"info", 255 * algorithm.size)
    for length in (0, 1, algorithm.size, algorithm.size + 1, 2 * algorithm.size, 100):
        assert hkdf_expand(algorithm, b"k" * algorithm.size, b"info", length) == longest[:length]
    for length in (-1, 255 * algorithm.size + 1):
        with pytest.raises(ValueError, match="HKDF"):
            hkdf_expand(algorithm, b"k", b"", length)


def test_a_hash_knows_its_sizes_and_runs(algorithm):
    assert algorithm.size == len(algorithm.digest(b"abc"))
    running = algorithm.new(b"a")
    early = running.copy()
    running.update(b"bc")
    assert running.digest() == algorithm.digest(b"abc") == hashlib.new(algorithm.value, b"abc").digest()
    assert early.digest() == algorithm.digest(b"a")
