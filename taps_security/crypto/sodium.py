"""What we use of libsodium: X25519 (RFC 7748) and the verification of Ed25519 (RFC 8032).

PyNaCl's own door to the library is taken: `nacl.bindings` loads seventeen modules, 2.5 ms of a process's start.
Octets of a wrong length raise ValueError here, as the library itself would read behind their end.
"""

from __future__ import annotations

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # it is the compiled half

__all__ = ["BadSignature", "ed25519_verify", "scalarmult", "scalarmult_base"]

if lib.sodium_init() < 0:
    raise ImportError("libsodium cannot be used on this machine")


class BadSignature(ValueError):
    """The signature is not one of these data under this key."""


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


def _check(octets: bytes, size: int) -> None:
    if len(octets) != size:
        raise ValueError(f"{len(octets)} octets, expected {size}")
