"""Verifying a peer's certificate chain: anchors, pins, names and dates (RFC 5280, RFC 9525)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from taps_security.crypto.certificates import Names

__all__ = [
    "CertificateError",
    "CertificateReason",
    "TrustAnchors",
    "VerifiedPeer",
    "default_anchor_paths",
    "verify_chain",
]

default_anchor_paths: tuple[str, ...] = ("/etc/ssl/certs/ca-certificates.crt",)


class CertificateReason(Enum):
    """Why a chain was refused; each maps to a TLS alert."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    WRONG_NAME = "wrong name"
    UNTRUSTED = "untrusted"
    MALFORMED = "malformed"
    BAD_USAGE = "bad usage"
    BAD_SIGNATURE = "bad signature"
    WEAK = "weak"
    MISSING = "missing"


class CertificateError(ValueError):
    """A peer's chain was refused: `reason` for machines, the text for people."""

    def __init__(self, reason: CertificateReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """Who the peer is, once its chain is verified. `fingerprint` is SHA-256 of the leaf, `pinned` that a pin matched."""

    subject: str
    names: Names
    leaf: bytes
    fingerprint: bytes
    pinned: bool


class TrustAnchors:
    """What we trust: roots (DER certificates) and pins (SHA-256 of a certificate's DER or of a SPKI)."""

    def __init__(self, roots: Iterable[bytes] = (), *, pins: Iterable[bytes] = ()) -> None: ...

    @classmethod
    def from_pem(cls, data: bytes, *, source: str = "trust anchors", pins: Iterable[bytes] = ()) -> TrustAnchors:
        """Roots of a PEM (or DER) file."""
        ...  # type: ignore[empty-body]

    @classmethod
    def from_file(cls, path: str) -> TrustAnchors:
        """Roots of a file, parsed once per path and modification time."""
        ...  # type: ignore[empty-body]

    @classmethod
    def system(cls, paths: Sequence[str] = default_anchor_paths) -> TrustAnchors:
        """The first of `paths` that exists; CredentialError if none does."""
        ...  # type: ignore[empty-body]


def verify_chain(
    anchors: TrustAnchors,
    chain: Sequence[bytes],
    server_name: str | None,
    at: float,
    usage: Literal["server", "client"] = "server",
) -> VerifiedPeer:
    """Verify `chain` (DER, leaf first) at `at` (unix seconds); raises CertificateError.

    `server_name` (DNS name or IP address) is demanded for "server"; None says on purpose that no name is checked.
    """
    ...  # type: ignore[empty-body]
