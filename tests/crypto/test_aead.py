"""AEADs: Wycheproof, and what the fast paths rely on: work in place, also shifted, in both directions."""

import pytest

from taps_security.crypto.aead import (
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    RESIDENT,
    AeadAlgorithm,
    AuthenticationFailure,
    KeyInUse,
    new_aead,
)
from tests.crypto.wycheproof import cases

ALGORITHMS = [AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305]
NONCE = bytes(range(12))


@pytest.fixture(params=ALGORITHMS, ids=lambda algorithm: algorithm.name)
def algorithm(request: pytest.FixtureRequest) -> AeadAlgorithm:
    return request.param


@pytest.mark.parametrize(
    ("file", "choices"),
    [("aes_gcm", (AES_128_GCM, AES_256_GCM)), ("chacha20_poly1305", (CHACHA20_POLY1305,))],
)
def test_wycheproof(file, choices):
    by_size = {algorithm.key_size: algorithm for algorithm in choices}
    tried = 0
    for case in cases(file):
        algorithm = by_size.get(len(case.key))
        if algorithm is None or case.group["ivSize"] != 96 or case.group["tagSize"] != 128:
            continue
        tried += 1
        aead = new_aead(algorithm, case.key)
        sealed = case.ct + case.tag
        plain = bytearray(len(case.ct))
        if case.result == "valid":
            assert aead.encrypt(case.iv, case.msg, case.aad) == sealed, case
            assert aead.decrypt_into(case.iv, sealed, case.aad, plain) == len(case.msg)
            assert plain == case.msg, case
        else:
            with pytest.raises(AuthenticationFailure):
                aead.decrypt_into(case.iv, sealed, case.aad, plain)
    assert tried > 100


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1350, 16_384])
@pytest.mark.parametrize("gap", [0, 1, 5, 13, 16, 47, 2000])
def test_in_place_and_shifted(algorithm, size, gap):
    """The output may begin `gap` bytes before the input, in the same memory, in both directions."""
    aead = new_aead(algorithm, bytes(algorithm.key_size))
    plain = bytes(index * 7 & 0xFF for index in range(size))
    expected = aead.encrypt(NONCE, plain, b"aad")
    memory = bytearray(gap + size + 16)
    view = memoryview(memory)
    view[gap : gap + size] = plain
    assert aead.encrypt_into(NONCE, view[gap : gap + size], b"aad", view[: size + 16]) == size + 16
    assert memory[: size + 16] == expected
    memory[gap:] = expected
    assert aead.decrypt_into(NONCE, view[gap:], b"aad", view[:size]) == size
    assert memory[:size] == plain


def test_wrong_output_length_is_refused(algorithm):
    aead = new_aead(algorithm, bytes(algorithm.key_size))
    with pytest.raises(ValueError, match="buffer"):
        aead.encrypt_into(NONCE, b"hello", b"", bytearray(20))
    with pytest.raises(ValueError, match="buffer"):
        aead.decrypt_into(NONCE, bytes(21), b"", bytearray(6))


@pytest.mark.parametrize("size", range(16))
def test_input_shorter_than_a_tag_fails_to_authenticate(algorithm, size):
    with pytest.raises(AuthenticationFailure):
        new_aead(algorithm, bytes(algorithm.key_size)).decrypt(NONCE, bytes(size), b"")


def test_key_of_another_size_is_refused(algorithm):
    for size in {0, 16, 24, 32, 33} - {algorithm.key_size}:
        with pytest.raises(ValueError, match=algorithm.name):
            new_aead(algorithm, bytes(size))


def test_the_keys_used_last_keep_their_cipher_and_a_forgotten_one_has_no_key() -> None:
    keys = [KeyInUse(CHACHA20_POLY1305, bytes([number]) * 32) for number in range(RESIDENT + 1)]
    nonce = bytes(12)
    sealed = [key.cipher().encrypt(nonce, b"x", None) for key in keys]
    assert keys[0].aead is None  # made longest ago
    assert keys[-1].aead is not None
    assert keys[0].cipher().decrypt(nonce, sealed[0], None) == b"x"
    assert keys[1].aead is None
    keys[0].forget()
    assert keys[0].aead is None
    with pytest.raises(ValueError, match="wants a key"):
        keys[0].cipher()
