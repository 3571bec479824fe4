"""BLAKE2s (RFC 7693) as Noise uses it: hash, keyed hash, HMAC (RFC 2104) and the KDF over it (Noise revision 34 §4.3).

The KDF is HKDF (RFC 5869) with the chaining key as its salt and no info. HMAC is written out on two hashes, and the
inner key of a KDF is padded once for all outputs: that halves the time of `hmac.digest`.
"""

from __future__ import annotations

from hashlib import blake2s
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.utils import Buffer

__all__ = ["HASH_SIZE", "MAC_SIZE", "hash256", "hmac256", "kdf1", "kdf2", "kdf3", "mac128"]

HASH_SIZE, MAC_SIZE, BLOCK_SIZE = 32, 16, 64  # octets

_INNER = bytes(octet ^ 0x36 for octet in range(256))  # RFC 2104 §2, as translation tables
_OUTER = bytes(octet ^ 0x5C for octet in range(256))
_REST_INNER, _REST_OUTER = b"\x36" * HASH_SIZE, b"\x5c" * HASH_SIZE  # a hash as key is filled up with zeros


def hash256(data: Buffer) -> bytes:
    """The hash of `data`, 32 octets."""
    return blake2s(data).digest()


def mac128(key: Buffer, data: Buffer) -> bytes:
    """BLAKE2s keyed with at most 32 octets, 16 octets long. It is not HMAC."""
    return blake2s(data, key=key, digest_size=MAC_SIZE).digest()


def hmac256(key: bytes, data: bytes) -> bytes:
    """HMAC of `data` under `key`, 32 octets."""
    if len(key) > BLOCK_SIZE:
        key = blake2s(key).digest()
    key = key.ljust(BLOCK_SIZE, b"\0")
    return blake2s(key.translate(_OUTER) + blake2s(key.translate(_INNER) + data).digest()).digest()


def kdf1(key: bytes, data: bytes) -> bytes:
    """The first output of the KDF: 32 octets from a chaining key and input keying material."""
    extracted = hmac256(key, data)
    inner, outer = extracted.translate(_INNER) + _REST_INNER, extracted.translate(_OUTER) + _REST_OUTER
    return blake2s(outer + blake2s(inner + b"\1").digest()).digest()


def kdf2(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The first two outputs of the KDF."""
    extracted = hmac256(key, data)
    inner, outer = extracted.translate(_INNER) + _REST_INNER, extracted.translate(_OUTER) + _REST_OUTER
    first = blake2s(outer + blake2s(inner + b"\1").digest()).digest()
    return first, blake2s(outer + blake2s(inner + first + b"\2").digest()).digest()


def kdf3(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """The first three outputs of the KDF."""
    extracted = hmac256(key, data)
    inner, outer = extracted.translate(_INNER) + _REST_INNER, extracted.translate(_OUTER) + _REST_OUTER
    first = blake2s(outer + blake2s(inner + b"\1").digest()).digest()
    second = blake2s(outer + blake2s(inner + first + b"\2").digest()).digest()
    return first, second, blake2s(outer + blake2s(inner + second + b"\3").digest()).digest()
