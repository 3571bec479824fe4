"""Hashes, HMAC (RFC 2104) and HKDF (RFC 5869), on `hashlib`.

HMAC is written out on two hashes: for the short inputs of key schedules that takes two thirds of `hmac.digest`.
"""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.utils import Buffer

__all__ = ["HashAlgorithm", "hkdf_expand", "hkdf_extract", "hmac_digest"]


_INNER = bytes(octet ^ 0x36 for octet in range(256))  # RFC 2104 §2, as translation tables
_OUTER = bytes(octet ^ 0x5C for octet in range(256))


class HashAlgorithm(Enum):
    """A hash function. `value` is hashlib's name for it, `size` its output and `block_size` its block, in bytes."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    hashlib_name: str
    constructor: Callable[[Buffer], hashlib._Hash]
    size: int
    block_size: int

    def __init__(self, hashlib_name: str) -> None:
        state = hashlib.new(hashlib_name)
        self.hashlib_name = hashlib_name
        self.constructor = getattr(hashlib, hashlib_name)
        self.size = state.digest_size
        self.block_size = state.block_size

    def new(self, data: Buffer = b"") -> hashlib._Hash:
        """A running hash over `data`, with `update`, `copy` and `digest` (a transcript)."""
        return self.constructor(data)

    def digest(self, data: Buffer) -> bytes:
        """The hash of `data`."""
        return self.constructor(data).digest()


def hmac_digest(algorithm: HashAlgorithm, key: bytes, data: Buffer) -> bytes:
    """HMAC of `data` under `key`; compare results with `hmac.compare_digest`."""
    new = algorithm.constructor
    block = algorithm.block_size
    if len(key) > block:
        key = new(key).digest()
    key = key.ljust(block, b"\0")
    return new(key.translate(_OUTER) + new(key.translate(_INNER) + data).digest()).digest()


def hkdf_extract(algorithm: HashAlgorithm, salt: bytes, ikm: bytes) -> bytes:
    """The pseudorandom key of `algorithm.size` bytes (RFC 5869 §2.2); an empty salt means zeros, as the RFC says."""
    return hmac_digest(algorithm, salt, ikm)


def hkdf_expand(algorithm: HashAlgorithm, prk: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes (at most 255 hashes, else ValueError) of output keying material (RFC 5869 §2.3)."""
    size = algorithm.size
    if length <= size:
        if length < 0:
            raise ValueError("HKDF cannot give a negative length")
        return hmac_digest(algorithm, prk, info + b"\x01")[:length]
    if length > 255 * size:
        raise ValueError(f"HKDF with {algorithm.name} gives at most {255 * size} bytes")
    block = b""
    blocks = []
    for counter in range(1, -(-length // size) + 1):
        block = hmac_digest(algorithm, prk, block + info + bytes((counter,)))
        blocks.append(block)
    return b"".join(blocks)[:length]
