"""Making keys and certificates, for `taps keygen x509` and for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from taps_security.crypto.certificates import Identity
from taps_security.crypto.signature import PrivateKey

__all__ = ["KeyAlgorithm", "generate_private_key", "issue_certificate", "make_certificate_authority", "self_signed"]

KeyAlgorithm: TypeAlias = Literal["p256", "p384", "p521", "ed25519", "ed448", "rsa2048"]
DAY = 86_400


def generate_private_key(algorithm: KeyAlgorithm, random: Callable[[int], bytes]) -> PrivateKey:
    """A fresh key (RSA takes no injected randomness)."""
    ...  # type: ignore[empty-body]


def make_certificate_authority(
    name: str, *, algorithm: KeyAlgorithm = "p256", at: float, random: Callable[[int], bytes], days: float = 3650
) -> Identity:
    """A self-signed CA valid from `at` (unix seconds) on."""
    ...  # type: ignore[empty-body]


def issue_certificate(
    authority: Identity,
    names: Sequence[str],
    *,
    algorithm: KeyAlgorithm = "p256",
    at: float,
    random: Callable[[int], bytes],
    days: float = 397,
    usage: Literal["server", "client", "both", "ca"] = "both",
) -> Identity:
    """A certificate for DNS names and IP addresses; the chain is (leaf, intermediates) without the root."""
    ...  # type: ignore[empty-body]


def self_signed(
    names: Sequence[str], *, algorithm: KeyAlgorithm = "p256", at: float, random: Callable[[int], bytes], days: float
) -> Identity:
    """A self-signed leaf, as pins and DTLS-SRTP fingerprints use it."""
    ...  # type: ignore[empty-body]
