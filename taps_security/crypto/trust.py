"""Verifying a peer's certificate chain: anchors, pins, names and dates (RFC 5280 §6, RFC 9525).

    pinned certificate in the chain ---------> own path: each link's signature and authority, dates, purpose, names
    leaf itself among the roots -------------> the same, with a path of one
    Ed25519 or Ed448 root -------------------> the same, up to that root
    otherwise -------------------------------> cryptography.x509.verification (WebPKI profile)

The WebPKI profile wants subjectAltName and authorityKeyIdentifier in leaves and keyUsage in authorities, and refuses
Ed25519 and Ed448 authorities. Nothing here looks at revocation. When the library refuses a chain, `why_refused` looks
for the reason that a person can act on; only a refusal is explained, nothing is ever accepted there.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm

from taps_security.crypto.certificate_path import (
    CertificateError,
    CertificateReason,
    check_leaf,
    check_path,
    check_signs,
    is_edwards,
    why_refused,
)
from taps_security.crypto.certificates import (
    CredentialError,
    Names,
    fingerprint,
    load_certificates,
    names_of,
    parse_certificate_untrusted,
    public_key_from_spki,
    public_key_of,
    spki_of,
    split_pem_certificates,
    subject_text,
    utc,
)
from taps_security.stack.frozen import frozen

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509.verification import PolicyBuilder, Store

__all__ = [
    "CertificateError",
    "CertificateReason",
    "TrustAnchors",
    "Usage",
    "VerifiedPeer",
    "default_anchor_paths",
    "verify_chain",
    "verify_raw_public_key",
]

Usage: TypeAlias = Literal["server", "client"]

MAX_CHAIN = 10  # certificates taken from a peer; our choice

# Where common systems keep their roots: Debian and Alpine, Fedora, openSUSE, older Red Hat, FreeBSD, macOS (Homebrew).
default_anchor_paths: tuple[str, ...] = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/opt/homebrew/etc/ca-certificates/cert.pem",
)


@frozen
class VerifiedPeer:
    """Who the peer is, once verified. `leaf` is its certificate (DER), `fingerprint` SHA-256 of that.

    `pinned` says that a pin authenticated it. For a raw public key `leaf` is empty and `fingerprint` is of the key.
    """

    subject: str
    names: Names
    leaf: bytes = field(repr=False)
    fingerprint: bytes
    pinned: bool

    def __str__(self) -> str:
        """The subject, and the names that it is known by."""
        return f"{self.subject} ({self.names})"


class TrustAnchors:
    """What we trust: root certificates (DER), and pins (SHA-256 of a certificate or of a SubjectPublicKeyInfo).

    A pinned leaf is trusted as it is, whatever its names; a pinned authority for what it issues, names checked. With
    pins given, a chain without a pinned certificate is judged by the roots alone, so pins without roots refuse it.
    Parsing and the verifier's store are kept: share one object between connections.
    """

    def __init__(self, roots: Iterable[bytes] = (), *, pins: Iterable[bytes] = ()) -> None:
        self.roots = tuple(roots)
        self.pins = frozenset(pins)
        if any(len(pin) != 32 for pin in self.pins):
            raise CredentialError("a pin is a SHA-256 fingerprint of 32 bytes")
        self.parsed: tuple[x509.Certificate, ...] = tuple(map(parse_certificate_untrusted, self.roots))
        self._members = frozenset(self.roots)
        self._edwards = tuple(root for root in self.parsed if is_edwards(root))
        self._policy: PolicyBuilder | None = None

    def __repr__(self) -> str:
        return f"<TrustAnchors of {len(self.roots)} roots and {len(self.pins)} pins>"

    @classmethod
    def from_pem(cls, data: bytes, *, source: str = "trust anchors", pins: Iterable[bytes] = ()) -> TrustAnchors:
        """The roots of a PEM or DER file; CredentialError if one cannot be read."""
        return cls(load_certificates(data, source=source), pins=pins)

    @classmethod
    def from_file(cls, path: str) -> TrustAnchors:
        """The roots of a bundle, without those that cannot be read; kept until the file changes. CredentialError."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise CredentialError(f"{path}: cannot read trust anchors: {error.strerror}") from None
        return _bundle(path, status.st_mtime_ns, status.st_size)

    @classmethod
    def system(cls, paths: Sequence[str] = default_anchor_paths) -> TrustAnchors:
        """The roots of the first of `paths` that exists (a caller may put SSL_CERT_FILE in front)."""
        for path in paths:
            if os.path.isfile(path):
                return cls.from_file(path)
        raise CredentialError(f"no trust anchors: none of {', '.join(paths)} exists")

    def has_pin(self, digest: bytes) -> bool:
        """Whether a SHA-256 digest is pinned."""
        return any(hmac.compare_digest(digest, pin) for pin in self.pins)

    def holds(self, certificate: bytes) -> bool:
        """Whether exactly this certificate (DER) is among the roots."""
        return certificate in self._members

    def edwards_root_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """The Ed25519 or Ed448 root named as the issuer of `certificate`, if we have one."""
        issuer = certificate.issuer
        return next((root for root in self._edwards if root.subject == issuer), None)

    def policy(self) -> PolicyBuilder | None:
        """The library's policy over our roots (built once), or None without roots."""
        if self._policy is None and self.parsed:
            from cryptography.x509.verification import PolicyBuilder, Store  # noqa: PLC0415 - 25 ms

            store: Store = Store(list(self.parsed))
            self._policy = PolicyBuilder().store(store)
        return self._policy


@lru_cache(maxsize=8)
def _bundle(path: str, _modified: int, _size: int) -> TrustAnchors:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise CredentialError(f"{path}: cannot read trust anchors: {error.strerror}") from None
    roots = []
    for der in split_pem_certificates(data, path):
        try:
            public_key_of(der)
        except CredentialError:  # some systems ship roots with serial number 0: one bad root must not cost the others
            continue
        roots.append(der)
    if not roots:
        raise CredentialError(f"{path}: none of its certificates can be read")
    return TrustAnchors(roots)


def verify_chain(
    anchors: TrustAnchors,
    chain: Sequence[bytes],
    server_name: str | None,
    at: float,
    usage: Usage = "server",
) -> VerifiedPeer:
    """Verify a peer's `chain` (DER, leaf first) at `at` (unix seconds); raises CertificateError and nothing else.

    `server_name` is a DNS name (A-labels) or IP address, looked for in the leaf's subjectAltName (RFC 9525); None says
    on purpose that no name is checked, as for clients. `usage` is the role that the peer plays.
    """
    if not chain:
        raise CertificateError(CertificateReason.MISSING, "the peer sent no certificate")
    if len(chain) > MAX_CHAIN:
        text = f"a chain of {len(chain)} certificates, at most {MAX_CHAIN} are taken"
        raise CertificateError(CertificateReason.MALFORMED, text)
    try:
        parsed = [parse_certificate_untrusted(der) for der in chain]
        public_key_of(chain[0])
    except CredentialError as error:
        raise CertificateError(CertificateReason.MALFORMED, str(error)) from None
    pinned = _pinned_position(anchors, chain) if anchors.pins else None
    leaf, names = chain[0], names_of(chain[0])
    if pinned == 0:
        check_leaf(parsed[0], names, None, at, usage)
    elif pinned is not None:
        check_path(parsed[: pinned + 1], names, server_name, at, usage)
    elif anchors.holds(leaf):
        check_leaf(parsed[0], names, server_name, at, usage)
    elif root := anchors.edwards_root_of(parsed[-1]):
        check_path([*(c for c in parsed if c != root), root], names, server_name, at, usage)
    else:
        _verify_webpki(anchors, parsed, names, server_name, at, usage)
    return VerifiedPeer(subject_text(leaf), names, leaf, fingerprint(leaf), pinned is not None)


def verify_raw_public_key(anchors: TrustAnchors, spki: bytes) -> VerifiedPeer:
    """Verify a raw public key (SubjectPublicKeyInfo, RFC 7250) by its pin; raises CertificateError."""
    try:
        public_key_from_spki(spki)
    except CredentialError as error:
        raise CertificateError(CertificateReason.MALFORMED, str(error)) from None
    digest = fingerprint(spki)
    if not anchors.has_pin(digest):
        raise CertificateError(CertificateReason.UNTRUSTED, f"no pin for the raw public key {digest.hex()}")
    return VerifiedPeer(f"raw public key {digest.hex()}", Names(), b"", digest, True)


def _pinned_position(anchors: TrustAnchors, chain: Sequence[bytes]) -> int | None:
    for position, der in enumerate(chain):
        if anchors.has_pin(fingerprint(der)):
            return position
        try:
            if anchors.has_pin(fingerprint(spki_of(public_key_of(der)))):
                return position
        except CredentialError:  # an authority with a key that we do not know
            continue
    return None


def _verify_webpki(
    anchors: TrustAnchors,
    chain: list[x509.Certificate],
    names: Names,
    server_name: str | None,
    at: float,
    usage: Usage,
) -> None:
    from cryptography.x509.verification import VerificationError  # noqa: PLC0415 - 25 ms

    policy = anchors.policy()
    if policy is None:
        what = "its certificate is not pinned" if anchors.pins else "there are no trust anchors"
        raise CertificateError(CertificateReason.UNTRUSTED, f"the peer is not trusted: {what}")
    if usage == "server" and server_name is None:
        server_name = (*(name.replace("*", "any", 1) for name in names.dns), *names.ip, "no.name.invalid")[0]
    policy = policy.time(utc(at))
    try:
        if usage == "client":
            _client_policy(policy).build_client_verifier().verify(chain[0], chain[1:])
            if server_name is not None:
                check_leaf(chain[0], names, server_name, at, usage)
        else:
            assert server_name is not None
            policy.build_server_verifier(_subject(server_name)).verify(chain[0], chain[1:])
        check_signs(chain[0])
    except VerificationError as error:
        raise why_refused(error, chain, anchors.parsed, names, server_name, at, usage) from None
    except CertificateError:
        raise
    except (ValueError, UnsupportedAlgorithm):  # forms that the library parses only while it verifies
        raise CertificateError(CertificateReason.MALFORMED, "malformed certificate in the chain") from None


@lru_cache(maxsize=64)
def _subject(server_name: str) -> x509.DNSName | x509.IPAddress:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    try:
        return x509.IPAddress(ipaddress.ip_address(server_name))
    except ValueError:
        pass
    try:
        return x509.DNSName(server_name.removesuffix("."))
    except ValueError:
        text = f"{server_name!r} is neither an ASCII (A-label) DNS name nor an IP address"
        raise CertificateError(CertificateReason.WRONG_NAME, text) from None


def _client_policy(policy: PolicyBuilder) -> PolicyBuilder:
    """As the library's default, but a client needs no subjectAltName: nobody looks it up by name."""
    from cryptography import x509  # noqa: PLC0415 - 25 ms
    from cryptography.x509.verification import Criticality, ExtensionPolicy  # noqa: PLC0415

    leaf = ExtensionPolicy.webpki_defaults_ee()
    leaf = leaf.may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    return policy.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaf)
