"""What we use of libsodium: X25519 (RFC 7748), the verification of Ed25519 (RFC 8032), and (X)ChaCha20-Poly1305 for
single messages (RFC 8439, draft-irtf-cfrg-xchacha): for a key that protects one message no cipher object is made.

PyNaCl's own door to the library is taken: `nacl.bindings` loads seventeen modules, 2.5 ms of a process's start.
Octets of a wrong length raise ValueError here, as the library itself would read behind their end.
"""

from __future__ import annotations

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # it is the compiled half

__all__ = [
    "BadSignature",
    "Unauthentic",
    "chacha20_open",
    "chacha20_seal",
    "ed25519_verify",
    "scalarmult",
    "scalarmult_base",
    "xchacha20_open",
    "xchacha20_seal",
]

TAG = 16  # octets that sealing adds

if lib.sodium_init() < 0:
    raise ImportError("libsodium cannot be used on this machine")


class BadSignature(ValueError):
    """The signature is not one of these data under this key."""


class Unauthentic(ValueError):
    """What was to be opened is not what was sealed under this key, nonce and associated data."""


def scalarmult_base(scalar: bytes) -> bytes:
    """The public value of a private one, 32 octets each."""
    _check(scalar, 32)
    public = ffi.new("unsigned char[32]")
    lib.crypto_scalarmult_base(public, scalar)
    return bytes(ffi.buffer(public))


def scalarmult(scalar: bytes, point: bytes) -> bytes:
    """The shared secret, 32 octets; all zero for a point of small order."""
    _check(scalar, 32)
    _check(point, 32)
    shared = ffi.new("unsigned char[32]")
    return bytes(32) if lib.crypto_scalarmult(shared, scalar, point) else bytes(ffi.buffer(shared))


def ed25519_verify(key: bytes, signature: bytes, data: bytes) -> None:
    """Return if the signature (64 octets) is one of `data` under the key (32 octets); raise BadSignature otherwise."""
    _check(key, 32)
    _check(signature, 64)
    signed = signature + data
    opened = ffi.new("unsigned char[]", len(signed))
    if lib.crypto_sign_open(opened, ffi.new("unsigned long long *"), signed, len(signed), key):
        raise BadSignature("the Ed25519 signature does not verify")


def chacha20_seal(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 (RFC 8439 §2.8): ciphertext and tag. `key`: 32 octets, `nonce`: 12."""
    _check(key, 32)
    _check(nonce, 12)
    sealed = ffi.new("unsigned char[]", len(data) + TAG)
    lib.crypto_aead_chacha20poly1305_ietf_encrypt(
        sealed, ffi.NULL, data, len(data), associated, len(associated), ffi.NULL, nonce, key
    )
    return bytes(ffi.buffer(sealed))


def chacha20_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The data of chacha20_seal(); raises Unauthentic."""
    _check(key, 32)
    _check(nonce, 12)
    size = len(sealed) - TAG
    data = ffi.new("unsigned char[]", max(size, 1))  # an empty message has no octets, but its buffer has an address
    if size < 0 or lib.crypto_aead_chacha20poly1305_ietf_decrypt(
        data, ffi.NULL, ffi.NULL, sealed, len(sealed), associated, len(associated), nonce, key
    ):
        raise Unauthentic("the message does not open")
    return bytes(ffi.buffer(data, size))


def xchacha20_seal(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha §2): ciphertext and tag. `key`: 32 octets, `nonce`: 24."""
    _check(key, 32)
    _check(nonce, 24)
    sealed = ffi.new("unsigned char[]", len(data) + TAG)
    lib.crypto_aead_xchacha20poly1305_ietf_encrypt(
        sealed, ffi.NULL, data, len(data), associated, len(associated), ffi.NULL, nonce, key
    )
    return bytes(ffi.buffer(sealed))


def xchacha20_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """The data of xchacha20_seal(); raises Unauthentic."""
    _check(key, 32)
    _check(nonce, 24)
    size = len(sealed) - TAG
    data = ffi.new("unsigned char[]", max(size, 1))
    if size < 0 or lib.crypto_aead_xchacha20poly1305_ietf_decrypt(
        data, ffi.NULL, ffi.NULL, sealed, len(sealed), associated, len(associated), nonce, key
    ):
        raise Unauthentic("the message does not open")
    return bytes(ffi.buffer(data, size))


def _check(octets: bytes, size: int) -> None:
    if len(octets) != size:
        raise ValueError(f"{len(octets)} octets, expected {size}")
