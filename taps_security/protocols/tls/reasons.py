"""Why a TLS handshake or connection ends, and the one table from reasons to alerts (RFC 8446 §6)."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

from taps_security.crypto.trust import CertificateReason
from taps_security.stack import errors

__all__ = ["ALERTS", "CERTIFICATE_REASONS", "AlertDescription", "Reason", "alert_for"]


class AlertDescription(IntEnum):
    """The alerts of RFC 8446 §6 and RFC 9846 §6."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    INAPPROPRIATE_FALLBACK = 86
    USER_CANCELED = 90
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    UNRECOGNIZED_NAME = 112
    BAD_CERTIFICATE_STATUS_RESPONSE = 113
    UNKNOWN_PSK_IDENTITY = 115
    CERTIFICATE_REQUIRED = 116
    GENERAL_ERROR = 117
    NO_APPLICATION_PROTOCOL = 120


class Reason(Enum):
    """What went wrong in TLS. Certificate reasons name what the trust decision found."""

    UNEXPECTED_MESSAGE = "a message that the state does not allow"
    MESSAGE_TOO_LARGE = "a handshake message above the limit"
    DECODE_ERROR = "a message that does not parse"
    ILLEGAL_PARAMETER = "a field that contradicts others"
    UNSUPPORTED_EXTENSION = "an extension that was not asked for"
    MISSING_EXTENSION = "a mandatory extension is missing"
    DOWNGRADE = "the server's random shows a downgrade"
    BAD_KEY_SHARE = "a key share that cannot be used"
    BAD_SIGNATURE = "the signature of CertificateVerify does not verify"
    BAD_FINISHED = "the Finished message does not verify"
    BAD_BINDER = "the binder of a pre-shared key does not verify"
    BAD_RECORD_MAC = "a record that cannot be opened"
    RECORD_OVERFLOW = "a record above the limit"

    NO_COMMON_VERSION = "no common version"
    NO_COMMON_CIPHERSUITE = "no common cipher suite"
    NO_COMMON_GROUP = "no common group"
    NO_COMMON_SIGNATURE_ALGORITHM = "no common signature algorithm"
    NO_COMMON_APPLICATION_PROTOCOL = "no common application protocol"
    UNRECOGNIZED_NAME = "no identity for the server name"
    NO_MUTUAL_AUTHENTICATION = "we were not asked, or not able, to prove who we are"
    NO_PRE_SHARED_KEY = "no external pre-shared key took part"

    CERTIFICATE_REQUIRED = "the client presented no certificate"
    BAD_CERTIFICATE = "a certificate that cannot be used"
    UNSUPPORTED_CERTIFICATE = "a certificate of the wrong kind"
    CERTIFICATE_EXPIRED = "a certificate outside its validity"
    CERTIFICATE_UNKNOWN = "a certificate that was refused"
    CERTIFICATE_WRONG_NAME = "a certificate for another name"
    UNKNOWN_CA = "a certificate without a trusted issuer"
    ACCESS_DENIED = "an identity that may not connect"
    UNKNOWN_PSK_IDENTITY = "a pre-shared key that nobody knows"

    NO_CREDENTIAL = "our own credential failed"


ALERTS: Final[dict[Enum, AlertDescription]] = {
    Reason.UNEXPECTED_MESSAGE: AlertDescription.UNEXPECTED_MESSAGE,
    Reason.MESSAGE_TOO_LARGE: AlertDescription.ILLEGAL_PARAMETER,
    Reason.DECODE_ERROR: AlertDescription.DECODE_ERROR,
    Reason.ILLEGAL_PARAMETER: AlertDescription.ILLEGAL_PARAMETER,
    Reason.UNSUPPORTED_EXTENSION: AlertDescription.UNSUPPORTED_EXTENSION,
    Reason.MISSING_EXTENSION: AlertDescription.MISSING_EXTENSION,
    Reason.DOWNGRADE: AlertDescription.ILLEGAL_PARAMETER,
    Reason.BAD_KEY_SHARE: AlertDescription.ILLEGAL_PARAMETER,
    Reason.BAD_SIGNATURE: AlertDescription.DECRYPT_ERROR,
    Reason.BAD_FINISHED: AlertDescription.DECRYPT_ERROR,
    Reason.BAD_BINDER: AlertDescription.DECRYPT_ERROR,
    Reason.BAD_RECORD_MAC: AlertDescription.BAD_RECORD_MAC,
    Reason.RECORD_OVERFLOW: AlertDescription.RECORD_OVERFLOW,
    Reason.NO_COMMON_VERSION: AlertDescription.PROTOCOL_VERSION,
    Reason.NO_COMMON_CIPHERSUITE: AlertDescription.HANDSHAKE_FAILURE,
    Reason.NO_COMMON_GROUP: AlertDescription.HANDSHAKE_FAILURE,
    Reason.NO_COMMON_SIGNATURE_ALGORITHM: AlertDescription.HANDSHAKE_FAILURE,
    Reason.NO_COMMON_APPLICATION_PROTOCOL: AlertDescription.NO_APPLICATION_PROTOCOL,
    Reason.UNRECOGNIZED_NAME: AlertDescription.UNRECOGNIZED_NAME,
    Reason.NO_MUTUAL_AUTHENTICATION: AlertDescription.HANDSHAKE_FAILURE,
    Reason.NO_PRE_SHARED_KEY: AlertDescription.HANDSHAKE_FAILURE,
    Reason.CERTIFICATE_REQUIRED: AlertDescription.CERTIFICATE_REQUIRED,
    Reason.BAD_CERTIFICATE: AlertDescription.BAD_CERTIFICATE,
    Reason.UNSUPPORTED_CERTIFICATE: AlertDescription.UNSUPPORTED_CERTIFICATE,
    Reason.CERTIFICATE_EXPIRED: AlertDescription.CERTIFICATE_EXPIRED,
    Reason.CERTIFICATE_UNKNOWN: AlertDescription.CERTIFICATE_UNKNOWN,
    Reason.CERTIFICATE_WRONG_NAME: AlertDescription.BAD_CERTIFICATE,
    Reason.UNKNOWN_CA: AlertDescription.UNKNOWN_CA,
    Reason.ACCESS_DENIED: AlertDescription.ACCESS_DENIED,
    Reason.UNKNOWN_PSK_IDENTITY: AlertDescription.UNKNOWN_PSK_IDENTITY,
    Reason.NO_CREDENTIAL: AlertDescription.INTERNAL_ERROR,
    errors.Reason.MALFORMED: AlertDescription.DECODE_ERROR,
    errors.Reason.UNEXPECTED: AlertDescription.UNEXPECTED_MESSAGE,
    errors.Reason.MESSAGE_TOO_LARGE: AlertDescription.ILLEGAL_PARAMETER,
    errors.Reason.UNAUTHENTIC: AlertDescription.ACCESS_DENIED,
    errors.Reason.TIMEOUT: AlertDescription.USER_CANCELED,
    errors.Reason.CANCELLED: AlertDescription.USER_CANCELED,
    errors.Reason.CONNECTION_ABORTED: AlertDescription.USER_CANCELED,
}

CERTIFICATE_REASONS: Final[dict[CertificateReason, Reason]] = {
    CertificateReason.EXPIRED: Reason.CERTIFICATE_EXPIRED,
    CertificateReason.NOT_YET_VALID: Reason.CERTIFICATE_EXPIRED,
    CertificateReason.WRONG_NAME: Reason.CERTIFICATE_WRONG_NAME,
    CertificateReason.UNTRUSTED: Reason.UNKNOWN_CA,
    CertificateReason.MALFORMED: Reason.BAD_CERTIFICATE,
    CertificateReason.BAD_USAGE: Reason.UNSUPPORTED_CERTIFICATE,
    CertificateReason.BAD_SIGNATURE: Reason.BAD_CERTIFICATE,
    CertificateReason.WEAK: Reason.BAD_CERTIFICATE,
    CertificateReason.MISSING: Reason.CERTIFICATE_REQUIRED,
}


def alert_for(error: Exception) -> AlertDescription:
    """The alert that tells the peer of `error`; internal_error for what the table does not know."""
    reason = getattr(error, "reason", None)
    return (
        ALERTS.get(reason, AlertDescription.INTERNAL_ERROR)
        if isinstance(reason, Enum)
        else (AlertDescription.INTERNAL_ERROR)
    )
