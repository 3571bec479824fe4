"""Signatures by scheme (RFC 8446 §4.2.3), apart from what any protocol signs.

Randomness of RSA-PSS salts and ECDSA nonces is drawn inside OpenSSL: neither can be injected.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from ..stack.frozen import frozen
from . import sodium

__all__ = ["PrivateKey", "PublicKey", "SignatureError", "SignatureScheme", "schemes_for", "sign", "verify"]

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

if TYPE_CHECKING:
    _AnyKey: TypeAlias = PrivateKey | PublicKey


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

    @property
    def only_in_certificates(self) -> bool:
        """Whether TLS 1.3 allows the scheme in certificates only, never in CertificateVerify (RFC 8446 §4.2.3)."""
        return (self & 0xFF) == 0x01


@frozen
class _Method:
    """What a scheme does: `key` its private and public class, then hash, and curve name or padding if there is one."""

    keys: tuple[type, type]
    hash: hashes.HashAlgorithm | None = None
    curve: str = ""
    padding: padding.AsymmetricPadding | None = None
    smallest: int = 0  # RSA modulus in bytes that holds hash, salt and frame

    def fits(self, key: object, bind_curve: bool = True) -> bool:
        if not isinstance(key, self.keys):
            return False
        if self.curve:
            return key.curve.name in _CURVES if not bind_curve else key.curve.name == self.curve  # type: ignore[attr-defined]
        return not self.smallest or key.key_size >= 8 * self.smallest  # type: ignore[attr-defined]


_EC = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
_RSA = (rsa.RSAPrivateKey, rsa.RSAPublicKey)
_CURVES = frozenset(("secp256r1", "secp384r1", "secp521r1"))
_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()


def _pss(algorithm: hashes.HashAlgorithm) -> _Method:
    size = algorithm.digest_size
    return _Method(_RSA, algorithm, padding=padding.PSS(padding.MGF1(algorithm), size), smallest=2 * size + 2)


def _pkcs1(algorithm: hashes.HashAlgorithm) -> _Method:
    return _Method(_RSA, algorithm, padding=padding.PKCS1v15(), smallest=algorithm.digest_size + 30)


_S = SignatureScheme
# In order of preference.
_METHODS = {
    _S.ED25519: _Method((ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)),
    _S.ED448: _Method((ed448.Ed448PrivateKey, ed448.Ed448PublicKey)),
    _S.ECDSA_SECP256R1_SHA256: _Method(_EC, _SHA256, "secp256r1"),
    _S.ECDSA_SECP384R1_SHA384: _Method(_EC, _SHA384, "secp384r1"),
    _S.ECDSA_SECP521R1_SHA512: _Method(_EC, _SHA512, "secp521r1"),
    _S.RSA_PSS_RSAE_SHA256: _pss(_SHA256),
    _S.RSA_PSS_RSAE_SHA384: _pss(_SHA384),
    _S.RSA_PSS_RSAE_SHA512: _pss(_SHA512),
    _S.RSA_PSS_PSS_SHA256: _pss(_SHA256),
    _S.RSA_PSS_PSS_SHA384: _pss(_SHA384),
    _S.RSA_PSS_PSS_SHA512: _pss(_SHA512),
    _S.RSA_PKCS1_SHA256: _pkcs1(_SHA256),
    _S.RSA_PKCS1_SHA384: _pkcs1(_SHA384),
    _S.RSA_PKCS1_SHA512: _pkcs1(_SHA512),
}
_PSS_PSS = frozenset((_S.RSA_PSS_PSS_SHA256, _S.RSA_PSS_PSS_SHA384, _S.RSA_PSS_PSS_SHA512))


def schemes_for(key: _AnyKey, *, rsa_pss_oid: bool = False) -> tuple[SignatureScheme, ...]:
    """The schemes `key` can sign or verify with, preferred first; empty for a key of no known scheme.

    An RSA key object does not tell whether its certificate names it rsaEncryption or RSASSA-PSS; `rsa_pss_oid` True
    says the latter, which has the rsa_pss_pss schemes and no other (`certificates.schemes_of` knows).
    """
    schemes = [scheme for scheme, method in _METHODS.items() if method.fits(key)]
    if schemes and isinstance(key, _RSA):
        return tuple(scheme for scheme in schemes if (scheme in _PSS_PSS) == rsa_pss_oid)
    return tuple(schemes)


def sign(private_key: PrivateKey, scheme: SignatureScheme, data: bytes) -> bytes:
    """The signature of `data` (ECDSA as DER); SignatureError if the scheme does not fit the key."""
    method = _METHODS[scheme]
    if not method.fits(private_key):
        raise SignatureError(f"{scheme.name} does not fit this private key")
    key: Any = private_key
    if method.hash is None:
        return bytes(key.sign(data))
    if method.curve:
        return bytes(key.sign(data, ec.ECDSA(method.hash)))
    return bytes(key.sign(data, method.padding, method.hash))


def verify(
    public_key: PublicKey, scheme: SignatureScheme, signature: bytes, data: bytes, *, bind_curve: bool = True
) -> None:
    """Return if `signature` is one of `data` under `public_key`; raise SignatureError otherwise.

    `bind_curve` False is for TLS 1.2, where an ECDSA code point names a hash but no curve (RFC 8422 §5.1.1).
    """
    method = _METHODS[scheme]
    if not method.fits(public_key, bind_curve):
        raise SignatureError(f"{scheme.name} does not fit the public key")
    key: Any = public_key
    try:
        if scheme is SignatureScheme.ED25519:
            sodium.ed25519_verify(key.public_bytes_raw(), bytes(signature), bytes(data))
        elif method.hash is None:
            key.verify(signature, data)
        elif method.curve:
            key.verify(signature, data, ec.ECDSA(method.hash))
        else:
            key.verify(signature, data, method.padding, method.hash)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"the {scheme.name} signature does not verify") from None
