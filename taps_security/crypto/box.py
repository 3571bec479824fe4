"""NaCl's boxes: crypto_box_curve25519xsalsa20poly1305 and crypto_secretbox_xsalsa20poly1305, by libsodium.

A box is a tag of 16 octets and, behind it, as many octets as the plaintext has. Once the two Curve25519 keys are agreed
(`box_key`) both kinds are the same: a key of 32 octets, a nonce of 24, no associated data.

`seal_box` and `open_box` take and give octets. `seal_at` and `open_at` are the library's own functions for who seals
or opens many: (to, from, length, nonce, key), where addresses come from `addresses(buffer) + offset`, `seal_at` wants
the plaintext's length and `open_at` the box's, and both return 0 if they succeeded. In place: the plaintext lies 16
octets behind where its box begins. Nothing checks those addresses, nonces or keys: who calls has made them.
`open_at` leaves the memory as it was when the tag is wrong.
"""

from __future__ import annotations

from typing import Any

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # it is the compiled half

__all__ = ["KEY", "NONCE", "TAG", "BoxFailure", "addresses", "box_key", "open_at", "open_box", "seal_at", "seal_box"]

KEY, NONCE, TAG = 32, 24, 16  # octets

if lib.sodium_init() < 0:
    raise ImportError("libsodium cannot be used on this machine")

seal_at = lib.crypto_secretbox_easy
open_at = lib.crypto_secretbox_open_easy


class BoxFailure(ValueError):
    """The box does not open. It never says more."""


def addresses(buffer: bytes | bytearray | memoryview) -> Any:
    """Where a contiguous buffer lies. As long as this lives a bytearray cannot be resized."""
    return ffi.from_buffer("unsigned char[]", buffer)


def box_key(public: bytes, secret: bytes) -> bytes:
    """The key of the boxes between two key pairs (crypto_box_beforenm). BoxFailure: a point of small order."""
    if len(public) != KEY or len(secret) != KEY:
        raise ValueError(f"keys of {len(public)} and {len(secret)} octets, expected {KEY}")
    key = ffi.new("unsigned char[32]")
    if lib.crypto_box_beforenm(key, public, secret):
        raise BoxFailure("that public key agrees no secret")
    return bytes(ffi.buffer(key))


def seal_box(plaintext: bytes, nonce: bytes, key: bytes) -> bytes:
    """The box of `plaintext`."""
    _check(nonce, key)
    sealed = ffi.new("unsigned char[]", TAG + len(plaintext))
    seal_at(sealed, plaintext, len(plaintext), nonce, key)
    return bytes(ffi.buffer(sealed))


def open_box(box: bytes, nonce: bytes, key: bytes) -> bytes:
    """What is in a box. Raises BoxFailure."""
    _check(nonce, key)
    if len(box) < TAG:
        raise BoxFailure("the box does not open")
    plaintext = ffi.new("unsigned char[]", max(1, len(box) - TAG))
    if open_at(plaintext, box, len(box), nonce, key):
        raise BoxFailure("the box does not open")
    return bytes(ffi.buffer(plaintext)[: len(box) - TAG])


def _check(nonce: bytes, key: bytes) -> None:
    if len(nonce) != NONCE or len(key) != KEY:
        raise ValueError(f"a nonce of {len(nonce)} and a key of {len(key)} octets, expected {NONCE} and {KEY}")
