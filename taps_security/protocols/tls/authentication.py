"""Certificate, CertificateVerify and Finished: what both roles check and make (RFC 8446 §4.4). No state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from taps_security.crypto.certificates import CredentialError, Identity, public_key_of, schemes_of
from taps_security.crypto.signature import SignatureError, SignatureScheme, verify
from taps_security.crypto.trust import CertificateReason
from taps_security.stack.asks import Refused
from taps_security.stack.errors import AuthenticationFailed, LocalError, PeerMisbehaved, TapsError

from .reasons import CERTIFICATE_REASONS, Reason
from .wire import Certificate, CertificateVerify, parse_certificate_untrusted, parse_certificate_verify_untrusted

if TYPE_CHECKING:
    from enum import Enum

__all__ = [
    "CLIENT_CONTEXT",
    "SERVER_CONTEXT",
    "check_signature",
    "choose_scheme",
    "own_failure",
    "own_signature",
    "peer_refused",
    "read_certificate_untrusted",
    "read_certificate_verify_untrusted",
    "signed_content",
]

SERVER_CONTEXT: Final = b" " * 64 + b"TLS 1.3, server CertificateVerify\0"  # RFC 8446 §4.4.3
CLIENT_CONTEXT: Final = b" " * 64 + b"TLS 1.3, client CertificateVerify\0"


def read_certificate_untrusted(body: bytes) -> Certificate:
    """The peer's Certificate message. We ask for no extensions of its entries; its context is empty."""
    message = parse_certificate_untrusted(body)
    if message.context:
        raise PeerMisbehaved(
            "certificate_request_context is not what was asked for",
            reason=Reason.ILLEGAL_PARAMETER,
            section="RFC 8446 §4.4.2",
        )
    for extensions in message.extensions:
        if extensions:
            raise PeerMisbehaved(
                f"certificate extension {next(iter(extensions))} was not asked for",
                reason=Reason.UNSUPPORTED_EXTENSION,
                section="RFC 8446 §4.4.2",
            )
    return message


def read_certificate_verify_untrusted(body: bytes, offered: Sequence[SignatureScheme]) -> CertificateVerify:
    """The peer's CertificateVerify, whose algorithm we must have offered."""
    message = parse_certificate_verify_untrusted(body)
    if message.algorithm not in offered:
        raise PeerMisbehaved(
            f"signature algorithm 0x{message.algorithm:04x} was not offered",
            reason=Reason.ILLEGAL_PARAMETER,
            section="RFC 8446 §4.4.3",
        )
    return message


def signed_content(context: bytes, transcript_hash: bytes) -> bytes:
    """What a CertificateVerify signs; `context` is SERVER_CONTEXT or CLIENT_CONTEXT."""
    return context + transcript_hash


def check_signature(certificate: bytes, message: CertificateVerify, content: bytes) -> None:
    """Raise AuthenticationFailed unless the key of `certificate` (DER) signed `content` in a way that is the key's own.

    RSA keys belong to rsa_pss_rsae or to rsa_pss_pss, as their certificate names them (RFC 8446 §4.2.3).
    """
    try:
        key, schemes = public_key_of(certificate), schemes_of(certificate)
    except CredentialError as error:
        raise AuthenticationFailed(
            f"the peer's certificate cannot be used: {error}", reason=Reason.BAD_CERTIFICATE, section="RFC 8446 §4.4.2"
        ) from None
    try:
        if message.algorithm not in schemes:
            raise SignatureError
        verify(key, SignatureScheme(message.algorithm), message.signature, content)
    except SignatureError:
        raise AuthenticationFailed(
            "the peer's CertificateVerify does not verify", reason=Reason.BAD_SIGNATURE, section="RFC 8446 §4.4.3"
        ) from None


def choose_scheme(identity: Identity, peer_algorithms: Sequence[int], ours: Sequence[int]) -> SignatureScheme | None:
    """The first scheme of `identity` that the peer accepts and our options allow."""
    for scheme in identity.schemes:
        if scheme in peer_algorithms and scheme in ours:
            return scheme
    return None


def peer_refused(refused: Refused) -> AuthenticationFailed:
    """The error for a chain that the trust decision refused; its reason leads to the certificate alert."""
    error = refused.error
    found = getattr(error, "reason", None)
    reason: Enum = Reason.CERTIFICATE_UNKNOWN
    if isinstance(found, CertificateReason):
        reason = CERTIFICATE_REASONS[found]
    elif isinstance(found, Reason):
        reason = found
    text = error.message if isinstance(error, TapsError) else str(error)
    section = error.section if isinstance(error, TapsError) else ""
    failure = AuthenticationFailed(f"the peer's certificate was refused: {text}", reason=reason, section=section)
    failure.__cause__ = error
    return failure


def own_failure(what: str, refused: Refused) -> LocalError:
    """The error for an answer about our own credentials that was refused."""
    failure = LocalError(f"{what}: {refused.error}", reason=Reason.NO_CREDENTIAL)
    failure.__cause__ = refused.error
    return failure


def own_signature(whose: str, result: object) -> bytes:
    """The answer to Sign, which may be an application's: octets that fit a CertificateVerify, or a LocalError."""
    if isinstance(result, Refused):
        raise own_failure(f"{whose} did not sign", result)
    if not isinstance(result, bytes) or not 1 <= len(result) <= 0xFFFF:
        expected = "1 to 65535 octets of signature are expected"
        raise LocalError(f"{whose} signed with {type(result).__name__}; {expected}", reason=Reason.NO_CREDENTIAL)
    return result
