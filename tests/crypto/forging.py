"""Certificates as nobody should make them, straight from `cryptography`, for the tests of what is refused."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from taps_security.crypto.signature import PrivateKey

NOW = 1_800_000_000
DAY = 86_400


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def key_usage(*, sign: bool = True, certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, certificates, False, False, False)


def alternatives(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(name) for name in names])


@dataclass
class Forged:
    """A certificate to be; `extensions` are (value, critical). `made` signs it with `by`, or with itself."""

    subject: str
    key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    begin: float = NOW - DAY
    end: float = NOW + DAY
    extensions: list[tuple[x509.ExtensionType, bool]] = field(default_factory=list)
    algorithm: hashes.HashAlgorithm | None = field(default_factory=hashes.SHA256)
    identifiers: bool = True

    def made(self, by: "Forged | None" = None) -> bytes:
        by = by or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by.subject)]))
            .public_key(self.key.public_key())
            .serial_number(7)
            .not_valid_before(moment(self.begin))
            .not_valid_after(moment(self.end))
        )
        if self.identifiers:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), False
            ).add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        for value, critical in self.extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(by.key, self.algorithm).public_bytes(Encoding.DER)

    def but(self, **changes: object) -> "Forged":
        return replace(self, **changes)


def authority(subject: str = "Forged CA", *extra: tuple[x509.ExtensionType, bool], depth: int | None = None) -> Forged:
    constraints = (x509.BasicConstraints(True, depth), True)
    return Forged(subject, extensions=[constraints, (key_usage(certificates=True), True), *extra])


def leaf(*names: str, extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()) -> Forged:
    return Forged("forged leaf", extensions=[*([(alternatives(*names), False)] if names else []), *extra])
