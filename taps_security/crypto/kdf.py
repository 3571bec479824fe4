"""Hashes, HMAC (RFC 2104) and HKDF (RFC 5869), on `hashlib` and `hmac.digest`."""

from __future__ import annotations

import hashlib
from enum import Enum
from hmac import digest as _hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.utils import Buffer

__all__ = ["HashAlgorithm", "hkdf_expand", "hkdf_extract", "hmac_digest"]


class HashAlgorithm(Enum):
    """A hash function. `value` is hashlib's name for it, `size` its output and `block_size` its block, in bytes."""

    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    hashlib_name: str
    size: int
    block_size: int

    def __init__(self, hashlib_name: str) -> None:
        state = hashlib.new(hashlib_name)
        self.hashlib_name = hashlib_name
        self.size = state.digest_size
        self.block_size = state.block_size

    def new(self, data: Buffer = b"") -> hashlib._Hash:
        """A running hash over `data`, with `update`, `copy` and `digest` (a transcript)."""
        return hashlib.new(self.hashlib_name, data)

    def digest(self, data: Buffer) -> bytes:
        """The hash of `data`."""
        return hashlib.new(self.hashlib_name, data).digest()


def hmac_digest(algorithm: HashAlgorithm, key: bytes, data: Buffer) -> bytes:
    """HMAC of `data` under `key`; compare results with `hmac.compare_digest`."""
    return _hmac(key, data, algorithm.hashlib_name)


def hkdf_extract(algorithm: HashAlgorithm, salt: bytes, ikm: bytes) -> bytes:
    """The pseudorandom key of `algorithm.size` bytes (RFC 5869 §2.2); an empty salt means zeros, as the RFC says."""
    return _hmac(salt, ikm, algorithm.hashlib_name)


def hkdf_expand(algorithm: HashAlgorithm, prk: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes (at most 255 hashes, else ValueError) of output keying material (RFC 5869 §2.3)."""
    name = algorithm.hashlib_name
    size = algorithm.size
    if length <= size:
        if length < 0:
            raise ValueError("HKDF cannot give a negative length")
        return _hmac(prk, info + b"\x01", name)[:length]
    if length > 255 * size:
        raise ValueError(f"HKDF with {algorithm.name} gives at most {255 * size} bytes")
    block = b""
    blocks = []
    for counter in range(1, -(-length // size) + 1):
        block = _hmac(prk, block + info + bytes((counter,)), name)
        blocks.append(block)
    return b"".join(blocks)[:length]
