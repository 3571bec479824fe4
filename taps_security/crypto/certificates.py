"""Certificates, keys and identities: loading, naming, asking."""

from __future__ import annotations

from dataclasses import dataclass, field

from taps_security.crypto.signature import PrivateKey, PublicKey, SignatureScheme

__all__ = [
    "CredentialError",
    "Identity",
    "Names",
    "certificate_pem",
    "fingerprint",
    "load_certificates",
    "load_private_key",
    "names_of",
    "private_key_pem",
    "public_key_from_spki",
    "public_key_of",
    "spki_of",
    "subject_text",
]


class CredentialError(ValueError):
    """A certificate or key given by the application, or a peer's certificate, cannot be read or does not fit."""


@dataclass(frozen=True, slots=True)
class Names:
    """Subject alternative names: DNS names in lower case, IP addresses in text."""

    dns: tuple[str, ...]
    ip: tuple[str, ...]

    def matches(self, server_name: str) -> bool:
        """Whether an SNI host name or address is one of these (RFC 9525 wildcards)."""
        ...  # type: ignore[empty-body]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: a certificate chain (DER, leaf first) or a raw public key, and the key or the wish for a signer.

    `private_key` None means that an external signer makes the signatures (an Ask). `schemes`: what the key can sign
    with, preferred first. `raw_public_key`: SubjectPublicKeyInfo DER for RFC 7250, always there.
    """

    chain: tuple[bytes, ...]
    raw_public_key: bytes
    schemes: tuple[SignatureScheme, ...]
    private_key: PrivateKey | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_pem(
        cls, chain_pem: bytes, key_pem: bytes, *, password: bytes | None = None, source: str = "identity"
    ) -> Identity:
        """From a PEM chain and its key."""
        ...  # type: ignore[empty-body]

    @classmethod
    def external(cls, chain: tuple[bytes, ...]) -> Identity:
        """A chain whose key is elsewhere."""
        ...  # type: ignore[empty-body]

    @classmethod
    def from_key(cls, private_key: PrivateKey) -> Identity:
        """A raw public key identity (RFC 7250): no certificate."""
        ...  # type: ignore[empty-body]

    @property
    def names(self) -> Names:
        """The leaf's subject alternative names."""
        ...  # type: ignore[empty-body]


def load_certificates(data: bytes, *, source: str = "certificates") -> tuple[bytes, ...]:
    """Each certificate of a PEM file, or the one of a DER file, as DER, in the file's order; CredentialError."""
    ...  # type: ignore[empty-body]


def load_private_key(data: bytes, *, password: bytes | None = None, source: str = "private key") -> PrivateKey:
    """A PEM or DER private key; CredentialError says what is wrong."""
    ...  # type: ignore[empty-body]


def public_key_of(certificate: bytes) -> PublicKey:
    """The key of a DER certificate (cached parse); CredentialError."""
    ...  # type: ignore[empty-body]


def public_key_from_spki(spki: bytes) -> PublicKey:
    """A SubjectPublicKeyInfo's key; CredentialError."""
    ...  # type: ignore[empty-body]


def spki_of(key: PrivateKey | PublicKey) -> bytes:
    """SubjectPublicKeyInfo DER."""
    ...  # type: ignore[empty-body]


def names_of(certificate: bytes) -> Names:
    """Subject alternative names of a DER certificate; CredentialError."""
    ...  # type: ignore[empty-body]


def subject_text(certificate: bytes) -> str:
    """The subject as RFC 4514 text; CredentialError."""
    ...  # type: ignore[empty-body]


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of the DER certificate."""
    ...  # type: ignore[empty-body]


def certificate_pem(*certificates: bytes) -> bytes:
    """DER certificates as one PEM file."""
    ...  # type: ignore[empty-body]


def private_key_pem(key: PrivateKey, *, password: bytes | None = None) -> bytes:
    """PKCS #8 PEM; whoever writes it uses file mode 0600."""
    ...  # type: ignore[empty-body]
