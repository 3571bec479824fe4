"""Our own walk along a certificate path, and the words for what is wrong with a certificate.

Two users, both in `trust`: paths that end in a pin, a trusted leaf or an Ed25519 or Ed448 root are checked here in
full (`check_leaf`, `check_path`, RFC 5280 §6.1 without policies and revocation; what we do not know is refused); and
`why_refused` explains a refusal of the library's verifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from taps_security.crypto.certificates import Names, printable

if TYPE_CHECKING:
    from cryptography import x509

    _Extension = TypeVar("_Extension", bound=x509.ExtensionType)

__all__ = [
    "CertificateError",
    "CertificateReason",
    "check_leaf",
    "check_path",
    "check_signs",
    "is_edwards",
    "why_refused",
]

_SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
_ANY_PURPOSE = "2.5.29.37.0"
# Critical extensions that the walk below, or its caller, looks at: names, basicConstraints, keyUsage, extKeyUsage.
_KNOWN_CRITICAL = frozenset(("2.5.29.17", "2.5.29.19", "2.5.29.15", "2.5.29.37"))
_WEAK_HASHES = frozenset(("md5", "sha1"))


class CertificateReason(Enum):
    """Why a chain was refused; a protocol maps each to its alert or Notify."""

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
    """A peer's certificates were refused: `reason` for machines, the text for people."""

    def __init__(self, reason: CertificateReason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


_R = CertificateReason


def check_leaf(
    leaf: x509.Certificate,
    names: Names,
    server_name: str | None,
    at: float,
    usage: Literal["server", "client"],
) -> None:
    """Dates, strength, purpose and name of a leaf; raises CertificateError."""
    _check_dates(leaf, at)
    _check_strength(leaf)
    _check_critical(leaf)
    _check_purpose(leaf, usage)
    if server_name is not None and not names.matches(server_name):
        raise _wrong_name(names, server_name)


def check_path(
    path: Sequence[x509.Certificate],
    names: Names,
    server_name: str | None,
    at: float,
    usage: Literal["server", "client"],
) -> None:
    """A path from a leaf to a trusted authority (last, trusted as it is): every link; raises CertificateError."""
    check_leaf(path[0], names, server_name, at, usage)
    for depth, (certificate, issuer) in enumerate(pairwise(path)):
        _check_dates(issuer, at)
        _check_strength(issuer)
        _check_critical(issuer)
        _check_authority(issuer, path[1 : depth + 1])
        _check_link(certificate, issuer)


def why_refused(
    error: Exception,
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    names: Names,
    server_name: str | None,
    at: float,
    usage: Literal["server", "client"],
) -> CertificateError:
    """The most telling reason for which the library's verifier refused `chain`."""
    leaf = chain[0]
    try:
        for certificate in chain:
            _check_dates(certificate, at)
        if usage == "server" and not (names.dns or names.ip):
            text = f"{_called(leaf)} has no subjectAltName, and other names are not looked at (RFC 9525)"
            return CertificateError(_R.WRONG_NAME, text)
        check_leaf(leaf, names, server_name, at, usage)
        if certificate_error := _missing_issuer(chain, roots):
            return certificate_error
        _check_webpki_form(chain, roots, at)
    except CertificateError as found:
        return found
    return CertificateError(_R.UNTRUSTED, f"{_called(leaf)} was refused: {printable(str(error).split(' (enc')[0])}")


def is_edwards(certificate: x509.Certificate) -> bool:
    """Whether the certificate's key is an Ed25519 or Ed448 key."""
    return certificate.public_key_algorithm_oid.dotted_string in ("1.3.101.112", "1.3.101.113")


def _called(certificate: x509.Certificate) -> str:
    return f"certificate {printable(certificate.subject.rfc4514_string()) or '(empty subject)'}"


def _wrong_name(names: Names, server_name: str) -> CertificateError:
    return CertificateError(_R.WRONG_NAME, f"the certificate is for {names}, not for {printable(server_name)}")


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    for extension in certificate.extensions:
        if isinstance(extension.value, kind):
            return extension.value
    return None


def _check_dates(certificate: x509.Certificate, at: float) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at > end.timestamp():
        raise CertificateError(_R.EXPIRED, f"{_called(certificate)} expired at {end.isoformat()}")
    if at < begin.timestamp():
        raise CertificateError(_R.NOT_YET_VALID, f"{_called(certificate)} is not valid before {begin.isoformat()}")


def _check_strength(certificate: x509.Certificate) -> None:
    try:
        algorithm = certificate.signature_hash_algorithm
        key_size = getattr(certificate.public_key(), "key_size", 256)
    except (UnsupportedAlgorithm, ValueError):
        text = f"{_called(certificate)} has a key or signature of an unknown kind"
        raise CertificateError(_R.WEAK, text) from None
    is_root = certificate.subject == certificate.issuer  # nobody relies on a root's own signature
    if algorithm is not None and algorithm.name in _WEAK_HASHES and not is_root:
        raise CertificateError(_R.WEAK, f"{_called(certificate)} is signed with {algorithm.name}")
    if key_size < 2048 and certificate.public_key_algorithm_oid.dotted_string.startswith("1.2.840.113549.1.1."):
        raise CertificateError(_R.WEAK, f"{_called(certificate)} has an RSA key of {key_size} bits, wanted 2048")


def _check_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid.dotted_string not in _KNOWN_CRITICAL:
            text = (
                f"{_called(certificate)} has the critical extension {extension.oid.dotted_string}, not understood here"
            )
            raise CertificateError(_R.BAD_USAGE, text)


def _check_purpose(leaf: x509.Certificate, usage: Literal["server", "client"]) -> None:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    wanted = _SERVER_AUTH if usage == "server" else _CLIENT_AUTH
    if purposes is not None and not {wanted, _ANY_PURPOSE} & {purpose.dotted_string for purpose in purposes}:
        raise CertificateError(_R.BAD_USAGE, f"{_called(leaf)} is not for use as a {usage} (extended key usage)")
    check_signs(leaf)


def check_signs(leaf: x509.Certificate) -> None:
    """A key usage must have the digitalSignature bit (RFC 8446 §4.4.2.2), which the library does not ask for."""
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    key_usage = _extension(leaf, x509.KeyUsage)
    if key_usage is not None and not key_usage.digital_signature:
        raise CertificateError(_R.BAD_USAGE, f"{_called(leaf)} is not for digital signatures (key usage)")


def _check_authority(issuer: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    """RFC 5280 §6.1.4 (k) to (n). `below`: the authorities between the leaf and this one."""
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    constraints = _extension(issuer, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise CertificateError(_R.BAD_USAGE, f"{_called(issuer)} is no authority (basic constraints)")
    counted = sum(1 for certificate in below if certificate.subject != certificate.issuer)
    if constraints.path_length is not None and counted > constraints.path_length:
        raise CertificateError(_R.BAD_USAGE, f"the chain below {_called(issuer)} is longer than it allows")
    key_usage = _extension(issuer, x509.KeyUsage)
    if key_usage is not None and not key_usage.key_cert_sign:
        raise CertificateError(_R.BAD_USAGE, f"{_called(issuer)} may not sign certificates (key usage)")
    if _extension(issuer, x509.NameConstraints) is not None:
        text = f"{_called(issuer)} has name constraints, which this path does not take"
        raise CertificateError(_R.BAD_USAGE, text)


def _check_link(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        text = f"{_called(certificate)} is not signed by {_called(issuer)}"
        raise CertificateError(_R.BAD_SIGNATURE, text) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):  # another issuer's name, or a key that cannot sign
        text = f"{_called(certificate)} was not issued by {_called(issuer)}, which follows it"
        raise CertificateError(_R.UNTRUSTED, text) from None


def _missing_issuer(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> CertificateError | None:
    """Follow issuers by name and signature; an error if no root is reached."""
    candidates = [*roots, *chain[1:]]
    certificate = chain[0]
    for _ in range(len(chain) + 1):
        named = [issuer for issuer in candidates if issuer.subject == certificate.issuer]
        signers = [issuer for issuer in named if _signed_by(certificate, issuer)]
        if any(issuer in roots for issuer in signers):
            return None
        if named and not signers:
            text = f"the signature of {_called(certificate)} does not verify under its issuer's key"
            return CertificateError(_R.BAD_SIGNATURE, text)
        if not signers or signers[0] == certificate:
            break
        certificate = signers[0]
    if certificate.subject == certificate.issuer:
        text = f"{_called(certificate)} is self-signed and not among the trust anchors; trust or pin it"
        return CertificateError(_R.UNTRUSTED, text)
    issuer_text = printable(certificate.issuer.rfc4514_string())
    text = f"{_called(certificate)} was issued by {issuer_text}, which is no trust anchor of ours"
    return CertificateError(_R.UNTRUSTED, text)


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        _check_link(certificate, issuer)
    except CertificateError:
        return False
    return True


def _check_webpki_form(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], at: float) -> None:
    """What the library's profile demands beyond RFC 5280."""
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    leaf = chain[0]
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        text = f"{_called(leaf)} is an authority and no leaf (basic constraints); pin it, or trust it as it is"
        raise CertificateError(_R.BAD_USAGE, text)
    if _extension(leaf, x509.AuthorityKeyIdentifier) is None:
        text = f"{_called(leaf)} has no authorityKeyIdentifier (RFC 5280 §4.2.1.1); pin it instead"
        raise CertificateError(_R.BAD_USAGE, text)
    issuers = {certificate.issuer for certificate in chain}
    for authority in (*chain[1:], *(root for root in roots if root.subject in issuers)):
        _check_dates(authority, at)
        _check_strength(authority)
        _check_authority_form(authority)


def _check_authority_form(authority: x509.Certificate) -> None:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    constraints = _extension(authority, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise CertificateError(_R.BAD_USAGE, f"{_called(authority)} is no authority (basic constraints)")
    if is_edwards(authority):
        text = f"{_called(authority)} is an Ed25519 or Ed448 authority inside a chain; trust it as a root, or pin it"
        raise CertificateError(_R.BAD_USAGE, text)
    key_usage = _extension(authority, x509.KeyUsage)
    if key_usage is None:
        text = f"{_called(authority)} is an authority without keyUsage (RFC 5280 §4.2.1.3); pin it instead"
        raise CertificateError(_R.BAD_USAGE, text)
    if not key_usage.key_cert_sign:
        raise CertificateError(_R.BAD_USAGE, f"{_called(authority)} may not sign certificates (key usage)")
