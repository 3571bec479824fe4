"""The alert protocol (RFC 8446 §6): how TLS says that something is over.

One table turns our reasons into alert numbers (`reasons`), and one turns the peer's numbers into errors here.
"""

from __future__ import annotations

from ...stack.errors import AuthenticationFailed, PeerAborted, PeerIncompatible, PeerMisbehaved, TapsError
from ...stack.errors import Reason as StackReason
from .reasons import AlertDescription, Reason, alert_for

WARNING, FATAL = 1, 2
USER_CANCELED = bytes((WARNING, AlertDescription.USER_CANCELED))
GENERAL_ERROR = bytes((FATAL, AlertDescription.GENERAL_ERROR))

_REFUSED_IDENTITY = frozenset(
    {
        AlertDescription.BAD_CERTIFICATE,
        AlertDescription.UNSUPPORTED_CERTIFICATE,
        AlertDescription.CERTIFICATE_REVOKED,
        AlertDescription.CERTIFICATE_EXPIRED,
        AlertDescription.CERTIFICATE_UNKNOWN,
        AlertDescription.UNKNOWN_CA,
        AlertDescription.ACCESS_DENIED,
        AlertDescription.DECRYPT_ERROR,
        AlertDescription.UNKNOWN_PSK_IDENTITY,
        AlertDescription.CERTIFICATE_REQUIRED,
    }
)
_NOTHING_IN_COMMON = frozenset(
    {
        AlertDescription.HANDSHAKE_FAILURE,
        AlertDescription.PROTOCOL_VERSION,
        AlertDescription.INSUFFICIENT_SECURITY,
        AlertDescription.NO_APPLICATION_PROTOCOL,
        AlertDescription.MISSING_EXTENSION,
        AlertDescription.UNSUPPORTED_EXTENSION,
        AlertDescription.UNRECOGNIZED_NAME,
    }
)


class TlsEnds:
    """close_notify and the error alerts of one connection."""

    __slots__ = ()

    def read(self, data: memoryview) -> Exception | bool:
        """True: close_notify. False: user_canceled, which close_notify follows. Else the error that ends it all."""
        if len(data) != 2:
            return PeerMisbehaved("an alert of the wrong length", reason=Reason.DECODE_ERROR, section="RFC 8446 §6")
        code = data[1]
        if code == AlertDescription.CLOSE_NOTIFY:
            return True
        if code == AlertDescription.USER_CANCELED:
            return False
        return _error_of(code)

    def clean(self) -> bytes:
        """close_notify (RFC 8446 §6.1)."""
        return bytes((WARNING, AlertDescription.CLOSE_NOTIFY))

    def failure(self, error: Exception) -> bytes:
        """The alert for `error`; USER_CANCELED for an end that is nobody's fault: an abort, a timeout."""
        if isinstance(error, PeerAborted):
            return b""
        code = alert_for(error)
        return USER_CANCELED if code is AlertDescription.USER_CANCELED else bytes((FATAL, code))


def _error_of(code: int) -> TapsError:
    """The peer's error alert, in the words of the one tree."""
    try:
        name = AlertDescription(code).name.lower()
    except ValueError:
        name = f"alert {code}"
    if code in _REFUSED_IDENTITY:
        return AuthenticationFailed(f"the peer refused our credentials: {name}", reason=StackReason.REFUSED)
    if code in _NOTHING_IN_COMMON:
        return PeerIncompatible(
            f"the peer found nothing in common with what we offer: {name}", reason=StackReason.REFUSED
        )
    return PeerAborted(f"the peer ended the connection: {name}", code=code, section="RFC 8446 §6.2")
