"""Authenticated encryption (RFC 5116): the three AEADs of RFC 8446 §B.4 with 12 byte nonces and 16 byte tags.

`new_aead` returns the cipher object of `cryptography` itself: there is no wrapper on the fast path. What it promises,
held by tests for each cipher:

- `encrypt_into(nonce, data, aad, buf)` writes ciphertext and tag, `decrypt_into(nonce, data, aad, buf)` the plaintext;
  both return the number of bytes written, and `buf` must have exactly that length.
- `buf` may be the same memory as `data` (in place), and may begin before it (shifted, for instance to close the gap
  that a record header leaves). It must not begin inside `data`, after its first byte.
- After `AuthenticationFailure` the content of `buf` is garbage and must not be shown to anyone.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag as AuthenticationFailure
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ..stack.frozen import frozen

if TYPE_CHECKING:
    from cryptography.utils import Buffer

__all__ = [
    "AES_128_GCM",
    "AES_256_GCM",
    "CHACHA20_POLY1305",
    "Aead",
    "AeadAlgorithm",
    "AuthenticationFailure",
    "KeyInUse",
    "new_aead",
]


class Aead(Protocol):
    """A keyed AEAD. `data`, `associated_data` and `buf` are anything with the buffer protocol."""

    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def decrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes: ...

    def encrypt_into(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer) -> int: ...

    def decrypt_into(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None, buf: Buffer) -> int: ...


@frozen
class AeadAlgorithm:
    """Names and sizes (bytes) of an AEAD, and how much one key may protect.

    `confidentiality_limit`: full-size TLS records (2^14 bytes) one key may seal, None if only the record number limits
    it (RFC 8446 §5.5). `integrity_limit`: failed openings after which the key must go (RFC 9147 §4.5.3).
    """

    name: str
    key_size: int
    confidentiality_limit: int | None
    integrity_limit: int
    nonce_size: int = 12
    tag_size: int = 16


_GCM_RECORDS = 23_726_566  # 2^24.5

AES_128_GCM = AeadAlgorithm("AES_128_GCM", 16, _GCM_RECORDS, 1 << 36)
AES_256_GCM = AeadAlgorithm("AES_256_GCM", 32, _GCM_RECORDS, 1 << 36)
CHACHA20_POLY1305 = AeadAlgorithm("CHACHA20_POLY1305", 32, None, 1 << 36)


def new_aead(algorithm: AeadAlgorithm, key: Buffer) -> Aead:
    """The cipher object for `key` (exactly `algorithm.key_size` bytes, else ValueError)."""
    if memoryview(key).nbytes != algorithm.key_size:
        raise ValueError(f"{algorithm.name} wants a key of {algorithm.key_size} bytes")
    if algorithm is CHACHA20_POLY1305:
        return ChaCha20Poly1305(key)
    return AESGCM(key)


RESIDENT = 128  # keys of the process that keep their cipher; making one takes 1 µs
_resident: deque[KeyInUse] = deque()  # oldest first


class KeyInUse:
    """A key and its cipher. The cipher is 2.5 KiB, an idle key 0.1: of all keys the latest users keep theirs.

    `aead` is None where it was dropped: take `cipher()` then.
    """

    __slots__ = ("_algorithm", "_octets", "aead")

    def __init__(self, algorithm: AeadAlgorithm, octets: bytes) -> None:
        self._algorithm = algorithm
        self._octets = octets
        self.aead: Aead | None = None

    def cipher(self) -> Aead:
        """The cipher, made anew: the key that made its own longest ago loses it."""
        aead = self.aead = new_aead(self._algorithm, self._octets)
        _resident.append(self)
        if len(_resident) > RESIDENT:
            _resident.popleft().aead = None
        return aead

    def forget(self) -> None:
        """Drop the key and its cipher."""
        self._octets = b""
        self.aead = None
