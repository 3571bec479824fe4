"""Certificates and keys: reading them, asking them for keys and names, and the identity that we show.

What the application gives (files) and what a peer sends both come through here; either raises CredentialError and
nothing else. Parses are cached, as a peer's certificate is asked several times in one handshake.
`cryptography.x509` costs 25 ms to import, so it is imported on first use.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.exceptions import InternalError, UnsupportedAlgorithm

from taps_security.crypto.signature import PrivateKey, PublicKey, SignatureScheme, schemes_for
from taps_security.stack.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from cryptography import x509

__all__ = [
    "CredentialError",
    "Identity",
    "Names",
    "certificate_pem",
    "fingerprint",
    "load_certificates",
    "load_private_key",
    "load_public_key",
    "names_of",
    "parse_certificate_untrusted",
    "private_key_pem",
    "public_key_from_spki",
    "public_key_of",
    "schemes_of",
    "spki_of",
    "subject_text",
]

MAX_CERTIFICATE = 65_536  # bytes of DER; our choice, far above what real chains have
_RSASSA_PSS = "1.2.840.113549.1.1.10"  # RFC 8017 §A.2.3
_S = SignatureScheme
_PSS: tuple[SignatureScheme, ...] = tuple(scheme for scheme in _S if scheme.name.startswith("RSA_PSS"))
_UNNAMED = -1  # a signature for which TLS 1.3 has no name
_SIGNED_BY: dict[str, tuple[SignatureScheme, ...]] = {  # by OID: RFC 8017 §A.2, RFC 5758 §3.2, RFC 8410 §3
    "1.2.840.113549.1.1.11": (_S.RSA_PKCS1_SHA256,),
    "1.2.840.113549.1.1.12": (_S.RSA_PKCS1_SHA384,),
    "1.2.840.113549.1.1.13": (_S.RSA_PKCS1_SHA512,),
    _RSASSA_PSS: _PSS,
    "1.2.840.10045.4.3.2": (_S.ECDSA_SECP256R1_SHA256,),
    "1.2.840.10045.4.3.3": (_S.ECDSA_SECP384R1_SHA384,),
    "1.2.840.10045.4.3.4": (_S.ECDSA_SECP521R1_SHA512,),
    "1.3.101.112": (_S.ED25519,),
    "1.3.101.113": (_S.ED448,),
}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n(.*?)-----END \1-----", re.DOTALL)


class CredentialError(ValueError):
    """A certificate or key cannot be read, or does not fit. The text names the source and what was expected."""


@frozen
class Names:
    """Subject alternative names: DNS names in lower case, IP addresses in their usual text."""

    dns: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()

    def matches(self, server_name: str) -> bool:
        """Whether a host name (A-labels) or IP address is one of these; `*` is the leftmost label (RFC 9525)."""
        address = _address(server_name)
        if address is not None:
            return address in self.ip
        wanted = server_name.lower().removesuffix(".")
        _, _, parent = wanted.partition(".")
        return wanted in self.dns or ("." in parent and f"*.{parent}" in self.dns)

    def __str__(self) -> str:
        shown = [*self.dns, *self.ip]
        return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "") or "no name"


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


@frozen
class Identity:
    """Who we are: a certificate chain (DER, leaf first) or only a raw public key, and the key or the wish for a signer.

    `private_key` None means that somebody else signs (an Ask). `schemes`: what the key signs with, preferred first.
    `raw_public_key`: SubjectPublicKeyInfo as RFC 7250 sends it. The repr never shows the key.
    """

    chain: tuple[bytes, ...]
    raw_public_key: bytes
    schemes: tuple[SignatureScheme, ...]
    private_key: PrivateKey | None = field(default=None, compare=False)

    @classmethod
    def of(cls, chain: tuple[bytes, ...], private_key: PrivateKey | None, *, source: str = "identity") -> Identity:
        """A chain with its key, or with None where an external signer holds it; CredentialError if they do not fit."""
        if not chain:
            raise CredentialError(f"{source}: no certificate; for a raw public key use Identity.from_key")
        public = public_key_of(chain[0])
        if private_key is not None and private_key.public_key() != public:
            raise CredentialError(f"{source}: the private key is not that of the first certificate")
        return cls(chain, spki_of(public), schemes_of(chain[0]), private_key)

    @classmethod
    def from_pem(
        cls, chain_pem: bytes, key_pem: bytes, *, password: bytes | None = None, source: str = "identity"
    ) -> Identity:
        """A PEM chain (leaf first) and its PEM key; CredentialError names `source` and what is wrong."""
        chain = load_certificates(chain_pem, source=source)
        return cls.of(chain, load_private_key(key_pem, password=password, source=source), source=source)

    @classmethod
    def external(cls, chain: tuple[bytes, ...]) -> Identity:
        """A chain whose key an external signer holds (HSM, another process)."""
        return cls.of(chain, None)

    @classmethod
    def from_key(cls, private_key: PrivateKey) -> Identity:
        """A raw public key (RFC 7250): no certificate."""
        return cls((), spki_of(private_key), schemes_for(private_key), private_key)

    @property
    def names(self) -> Names:
        """The leaf's subject alternative names, for choosing by SNI; empty for a raw public key."""
        return names_of(self.chain[0]) if self.chain else Names()

    @property
    def subject(self) -> str:
        """The leaf's subject, or the raw public key's SHA-256."""
        return (
            subject_text(self.chain[0])
            if self.chain
            else f"raw public key {hashlib.sha256(self.raw_public_key).hexdigest()}"
        )

    def suits(self, certificate_algorithms: Collection[int], authorities: Collection[bytes]) -> tuple[bool, bool]:
        """Whether the chain is signed in these ways only, and whether one of these names (DER) issued a part of it.

        Empty: the peer did not say, and anything suits (RFC 8446 §4.4.2.2).
        """
        links = [_link(der) for der in self.chain]
        signed = [not ways or any(way in certificate_algorithms for way in ways) for ways, _ in links]
        issued = [issuer in authorities for _, issuer in links]
        return not certificate_algorithms or all(signed), not authorities or any(issued)

    def __repr__(self) -> str:
        return f"<Identity {self.subject}{'' if self.private_key is not None else ', external signer'}>"


def load_certificates(data: bytes, *, source: str = "certificates") -> tuple[bytes, ...]:
    """Each certificate of a PEM file, in its order, or the one of a DER file, as DER; CredentialError."""
    chain = split_pem_certificates(data, source)
    for position, der in enumerate(chain, 1):
        try:
            parse_certificate_untrusted(der)
        except CredentialError as error:
            raise CredentialError(f"{source}: certificate {position}: {error}") from None
    return chain


def split_pem_certificates(data: bytes, source: str) -> tuple[bytes, ...]:
    """The certificates of a PEM or DER file, not yet parsed; CredentialError if it holds none."""
    if data[:1] == b"\x30":
        return (bytes(data),)
    blocks = [(match[1].decode("ascii"), match[2]) for match in _PEM.finditer(data)]
    bodies = [body for label, body in blocks if label in ("CERTIFICATE", "X509 CERTIFICATE")]
    if not bodies:
        found = f"it holds {blocks[0][0]}" if blocks else "it holds no PEM block"
        raise CredentialError(f"{source}: expected a certificate in PEM or DER, but {found}")
    try:
        return tuple(a2b_base64(body) for body in bodies)
    except Base64Error:
        raise CredentialError(f"{source}: a certificate's base64 is broken") from None


def load_private_key(data: bytes, *, password: bytes | None = None, source: str = "private key") -> PrivateKey:
    """A PEM or DER private key (PKCS #8, PKCS #1, SEC 1), encrypted if `password` is given; CredentialError."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - 12 ms

    is_der = data[:1] == b"\x30"
    load = serialization.load_der_private_key if is_der else serialization.load_pem_private_key
    try:
        key = load(data, password)
    except TypeError:
        wants = "is encrypted: give its password" if password is None else "is not encrypted: give no password"
        raise CredentialError(f"{source}: the private key {wants}") from None
    except (ValueError, UnsupportedAlgorithm, InternalError):  # InternalError: what OpenSSL alone found wrong
        if password is not None and b"ENCRYPTED" in data:
            raise CredentialError(f"{source}: the password does not open the private key, or it is damaged") from None
        labels = ", ".join(sorted({match[1].decode("ascii") for match in _PEM.finditer(data)}))
        found = f"it holds {labels}" if labels else "this is not one"
        raise CredentialError(f"{source}: expected a PRIVATE KEY in PEM or DER, but {found}") from None
    if not schemes_for(key):  # type: ignore[arg-type]
        raise CredentialError(f"{source}: expected an RSA, ECDSA, Ed25519 or Ed448 key that can sign")
    return key  # type: ignore[return-value]


def load_public_key(data: bytes, *, source: str = "public key") -> PublicKey:
    """A PEM or DER SubjectPublicKeyInfo file (a raw public key, RFC 7250); CredentialError."""
    if data[:1] == b"\x30":
        return public_key_from_spki(data)
    match = _PEM.search(data)
    if match is None or match[1] != b"PUBLIC KEY":
        raise CredentialError(f"{source}: expected a PUBLIC KEY in PEM or DER")
    try:
        return public_key_from_spki(a2b_base64(match[2]))
    except Base64Error:
        raise CredentialError(f"{source}: the public key's base64 is broken") from None


def parse_certificate_untrusted(der: bytes) -> x509.Certificate:
    """The parsed certificate (cached); CredentialError. Only `crypto/` itself should need the object."""
    if len(der) > MAX_CERTIFICATE:
        raise CredentialError(f"a certificate of {len(der)} bytes, at most {MAX_CERTIFICATE} are taken")
    return _parse(bytes(der))


@lru_cache(maxsize=256)
def _parse(der: bytes) -> x509.Certificate:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    if not _serial_is_positive(der):
        raise CredentialError("malformed certificate, or its serial number is not positive (RFC 5280 §4.1.2.2)")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # What is parsed only on use is used now, so that it cannot fail later.
        _ = certificate.extensions, certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return certificate
    except _parse_errors():
        raise CredentialError("malformed certificate") from None


def _parse_errors() -> tuple[type[Exception], ...]:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    # UserWarning: where an application turns warnings into errors.
    errors = (ValueError, TypeError, UnsupportedAlgorithm, UserWarning)
    return (*errors, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def _serial_is_positive(der: bytes) -> bool:
    """Look at the serial number before `cryptography` does, which warns (and will raise) where it is not positive."""
    try:
        at = _content(der, _content(der, 0))
        if der[at] == 0xA0:  # [0] version
            at = _content(der, at) + der[at + 1]
        serial = der[at + 2 : at + 2 + der[at + 1]]
        return der[at] == 0x02 and serial[0] < 0x80 and any(serial)
    except IndexError:
        return False


def _content(der: bytes, at: int) -> int:
    """Where the content of the DER element at `at` begins."""
    length = der[at + 1]
    return at + 2 + (length & 0x7F if length & 0x80 else 0)


def public_key_of(certificate: bytes) -> PublicKey:
    """The key of a DER certificate (cached); CredentialError if it is no key that can sign."""
    parse_certificate_untrusted(certificate)
    return _public_key(bytes(certificate))


@lru_cache(maxsize=256)
def _public_key(certificate: bytes) -> PublicKey:
    try:
        key = _parse(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, InternalError):
        raise CredentialError("the certificate's public key is malformed or of an unknown kind") from None
    return _signing(key)


def public_key_from_spki(spki: bytes) -> PublicKey:
    """The key of a SubjectPublicKeyInfo (DER, RFC 7250); CredentialError."""
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415 - 12 ms

    try:
        return _signing(load_der_public_key(spki))
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
        if isinstance(error, CredentialError):
            raise
        raise CredentialError("malformed public key, or one of an unknown kind") from None


def _signing(key: object) -> PublicKey:
    if not schemes_for(key):  # type: ignore[arg-type]
        raise CredentialError("expected an RSA, ECDSA (P-256, P-384, P-521), Ed25519 or Ed448 public key")
    return key  # type: ignore[return-value]


def schemes_of(certificate: bytes) -> tuple[SignatureScheme, ...]:
    """The schemes a certificate's key may be used with: rsa_pss_pss for RSASSA-PSS keys only; CredentialError."""
    parse_certificate_untrusted(certificate)
    return _schemes(bytes(certificate))


@lru_cache(maxsize=256)
def _schemes(certificate: bytes) -> tuple[SignatureScheme, ...]:
    oid = _parse(certificate).public_key_algorithm_oid.dotted_string
    return schemes_for(_public_key(certificate), rsa_pss_oid=oid == _RSASSA_PSS)


@lru_cache(maxsize=64)
def _link(certificate: bytes) -> tuple[tuple[int, ...], bytes]:
    """The schemes that name a certificate's own signature (none where it is self-signed), and its issuer's name."""
    parsed = parse_certificate_untrusted(certificate)
    ways: tuple[int, ...] = _SIGNED_BY.get(parsed.signature_algorithm_oid.dotted_string, (_UNNAMED,))
    if ways is _PSS and parsed.signature_hash_algorithm is not None:
        ways = tuple(scheme for scheme in _PSS if scheme.name.endswith(parsed.signature_hash_algorithm.name.upper()))
    return () if parsed.issuer == parsed.subject else ways, parsed.issuer.public_bytes()


def spki_of(key: PrivateKey | PublicKey) -> bytes:
    """SubjectPublicKeyInfo (DER) of a key's public half."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - 12 ms

    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def names_of(certificate: bytes) -> Names:
    """Subject alternative names of a DER certificate, empty if it has none (the common name is no name: RFC 9525)."""
    parse_certificate_untrusted(certificate)
    return _names(bytes(certificate))


@lru_cache(maxsize=256)
def _names(certificate: bytes) -> Names:
    from cryptography import x509  # noqa: PLC0415 - 25 ms

    try:
        extension = _parse(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return Names()
    dns = extension.value.get_values_for_type(x509.DNSName)
    ip = extension.value.get_values_for_type(x509.IPAddress)
    return Names(tuple(printable(name.lower()) for name in dns), tuple(str(address) for address in ip))


def subject_text(certificate: bytes) -> str:
    """The subject as RFC 4514 text, fit for a terminal; CredentialError if the certificate is malformed."""
    return printable(parse_certificate_untrusted(certificate).subject.rfc4514_string()) or "(empty subject)"


def printable(text: str) -> str:
    """`text` with what a terminal might obey (control characters, bidirectional marks) as hex."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\{ord(c):02X}" for c in text)


def utc(seconds: float) -> datetime:
    """Unix seconds as the type that `cryptography.x509` speaks; reads no clock."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only with x509

    return datetime.fromtimestamp(int(seconds), UTC)


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a DER certificate (or of a SubjectPublicKeyInfo), 32 bytes."""
    return hashlib.sha256(certificate).digest()


def certificate_pem(*certificates: bytes) -> bytes:
    """DER certificates as one PEM file."""
    return b"".join(_pem_block("CERTIFICATE", der) for der in certificates)


def _pem_block(label: str, der: bytes) -> bytes:
    lines = (b2a_base64(der[at : at + 48]) for at in range(0, len(der), 48))
    return f"-----BEGIN {label}-----\n".encode() + b"".join(lines) + f"-----END {label}-----\n".encode()


def private_key_pem(key: PrivateKey, *, password: bytes | None = None) -> bytes:
    """PKCS #8 in PEM, encrypted if there is a password; whoever writes it to a file uses mode 0600."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - 12 ms

    lock = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock)
