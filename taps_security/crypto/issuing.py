"""Making keys and certificates, for `taps keygen x509` and for tests.

What it makes passes `cryptography.x509.verification`: names in subjectAltName, authority and subject key identifiers,
keyUsage in authorities (RFC 5280 §4.2.1). An Ed25519 or Ed448 authority passes only `trust`'s own path; leaves of
these kinds pass everywhere. Randomness and the wall clock are given, except that RSA keys and ECDSA and RSA
signatures draw theirs inside OpenSSL.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from taps_security.crypto.agreement import Group, RandomBytes, derive_ec_private_key
from taps_security.crypto.certificates import CredentialError, Identity, parse_certificate_untrusted, utc
from taps_security.crypto.signature import PrivateKey, PublicKey

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "CertificateUsage",
    "KeyAlgorithm",
    "generate_private_key",
    "issue_certificate",
    "make_certificate_authority",
    "self_signed",
]

KeyAlgorithm: TypeAlias = Literal["p256", "p384", "p521", "ed25519", "ed448", "rsa2048"]
CertificateUsage: TypeAlias = Literal["server", "client", "both", "ca"]

_DAY = 86_400
_BACKDATED = 3_600  # seconds: our choice, so that a peer whose clock is behind accepts a new certificate
_GROUPS = {"p256": Group.SECP256R1, "p384": Group.SECP384R1, "p521": Group.SECP521R1}


def generate_private_key(algorithm: KeyAlgorithm, random: RandomBytes) -> PrivateKey:
    """A fresh key that can sign; `random` is not used for RSA."""
    if algorithm in _GROUPS:
        return derive_ec_private_key(_GROUPS[algorithm], random)
    if algorithm == "ed25519":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return Ed25519PrivateKey.from_private_bytes(random(32))
    if algorithm == "ed448":
        from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey  # noqa: PLC0415

        return Ed448PrivateKey.from_private_bytes(random(57))
    if algorithm == "rsa2048":
        from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa  # noqa: PLC0415

        return generate_rsa(65537, 2048)
    raise CredentialError(f"unknown key algorithm {algorithm!r}: expected p256, p384, p521, ed25519, ed448 or rsa2048")


def make_certificate_authority(
    name: str, *, algorithm: KeyAlgorithm = "p256", at: float, random: RandomBytes, days: float = 3650
) -> Identity:
    """A self-signed authority called `name`, valid for `days` from `at` (unix seconds) on."""
    key = generate_private_key(algorithm, random)
    subject = _common_name(name)
    builder = _builder(subject, subject, key.public_key(), key.public_key(), at, days, random)
    return Identity.of((_sign(_as_authority(builder), key),), key)


def issue_certificate(
    authority: Identity,
    names: Sequence[str],
    *,
    algorithm: KeyAlgorithm = "p256",
    at: float,
    random: RandomBytes,
    days: float = 397,
    usage: CertificateUsage = "both",
) -> Identity:
    """A certificate under `authority` with a fresh key, valid for `days` from `at` (unix seconds) on.

    `names` are DNS names (A-labels, `*.` allowed) or IP addresses; the first is the common name too. With `usage`
    "ca" it becomes an intermediate authority called `names[0]`. The chain holds the intermediates, not the root.
    """
    if authority.private_key is None or not authority.chain:
        raise CredentialError("an authority needs its certificate and its private key")
    if not names:
        raise CredentialError("a certificate needs at least one name")
    issuer = parse_certificate_untrusted(authority.chain[0])
    key = generate_private_key(algorithm, random)
    subject = _common_name(names[0])
    issuer_public = authority.private_key.public_key()
    builder = _builder(subject, issuer.subject, key.public_key(), issuer_public, at, days, random)
    builder = _as_authority(builder) if usage == "ca" else _as_leaf(builder, names, usage)
    above = () if issuer.subject == issuer.issuer else authority.chain
    return Identity.of((_sign(builder, authority.private_key), *above), key)


def self_signed(
    names: Sequence[str],
    *,
    algorithm: KeyAlgorithm = "p256",
    at: float,
    random: RandomBytes,
    days: float = 397,
) -> Identity:
    """A self-signed leaf, as pins and DTLS-SRTP fingerprints (RFC 8122) use it."""
    key = generate_private_key(algorithm, random)
    subject = _common_name(names[0])
    builder = _builder(subject, subject, key.public_key(), key.public_key(), at, days, random)
    return Identity.of((_sign(_as_leaf(builder, names, "both"), key),), key)


def _common_name(name: str) -> x509.Name:
    from cryptography import x509  # noqa: PLC0415 - 25 ms
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    # RFC 5280 §A.1: a common name has 1 to 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: PublicKey,
    issuer_public: PublicKey,
    at: float,
    days: float,
    random: RandomBytes,
) -> x509.CertificateBuilder:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(int.from_bytes(random(16), "big") >> 1 | 1)
        .not_valid_before(utc(at - _BACKDATED))
        .not_valid_after(utc(at + days * _DAY))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return builder.add_extension(constraints, critical=True).add_extension(_key_usage(signs="certificates"), True)


def _as_leaf(
    builder: x509.CertificateBuilder, names: Sequence[str], usage: CertificateUsage
) -> x509.CertificateBuilder:
    from cryptography import x509  # noqa: PLC0415 - 25 ms
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

    purposes = []
    if usage != "client":
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    if usage != "server":
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    try:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    except ValueError:
        raise CredentialError("names must be ASCII (A-labels) DNS names or IP addresses") from None
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs="handshakes"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(alternatives, critical=False)
    )


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(signs: Literal["certificates", "handshakes"]) -> x509.KeyUsage:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    authority = signs == "certificates"
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: x509.CertificateBuilder, key: PrivateKey) -> bytes:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - with x509 only
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    size = getattr(key, "key_size", 0)
    is_curve = hasattr(key, "curve")
    algorithm: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None
    if not size:
        algorithm = None  # Ed25519 and Ed448 hash by themselves
    elif is_curve and size > 256:
        algorithm = hashes.SHA384() if size == 384 else hashes.SHA512()
    else:
        algorithm = hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)
