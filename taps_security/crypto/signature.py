"""Signatures by scheme (RFC 8446 §4.2.3)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

__all__ = ["PrivateKey", "PublicKey", "SignatureError", "SignatureScheme", "schemes_for", "sign", "verify"]

PrivateKey: TypeAlias = "RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey"
PublicKey: TypeAlias = "RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey"


class SignatureError(ValueError):
    """The signature does not verify, or the scheme does not fit the key."""


class SignatureScheme(IntEnum):
    """A signature scheme; the value is its TLS code point (RFC 8446 §4.2.3)."""

    RSA_PKCS1_SHA256 = 0x0401
    RSA_PKCS1_SHA384 = 0x0501
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    ECDSA_SECP521R1_SHA512 = 0x0603
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807
    ED448 = 0x0808
    RSA_PSS_PSS_SHA256 = 0x0809
    RSA_PSS_PSS_SHA384 = 0x080A
    RSA_PSS_PSS_SHA512 = 0x080B


def schemes_for(key: PrivateKey | PublicKey) -> tuple[SignatureScheme, ...]:
    """The schemes `key` can sign or verify with, preferred first."""
    ...  # type: ignore[empty-body]


def sign(private_key: PrivateKey, scheme: SignatureScheme, data: bytes) -> bytes:
    """The signature of `data`; SignatureError if the scheme does not fit the key."""
    ...  # type: ignore[empty-body]


def verify(public_key: PublicKey, scheme: SignatureScheme, signature: bytes, data: bytes) -> None:
    """Return if `signature` is one of `data` under `public_key`, raise SignatureError otherwise."""
