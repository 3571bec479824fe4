from __future__ import annotations

import pytest

from taps_security.protocols.tls.alerts import FATAL, WARNING, TlsEnds
from taps_security.protocols.tls.reasons import AlertDescription, Reason
from taps_security.stack import errors
from taps_security.stack.errors import (
    AuthenticationFailed,
    ConnectionLost,
    LocalError,
    PeerAborted,
    PeerIncompatible,
    PeerMisbehaved,
    TapsError,
)

ENDS = TlsEnds()


def read(*octets: int) -> Exception | bool:
    return ENDS.read(memoryview(bytes(octets)))


def test_close_notify_is_a_clean_end_whatever_its_level_says() -> None:
    assert read(WARNING, 0) is True
    assert read(FATAL, 0) is True
    assert ENDS.clean() == b"\1\0"
    assert ENDS.read(memoryview(ENDS.clean())) is True


def test_user_canceled_waits_for_close_notify() -> None:
    assert read(WARNING, 90) is False


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (AlertDescription.UNKNOWN_CA, AuthenticationFailed),
        (AlertDescription.CERTIFICATE_REQUIRED, AuthenticationFailed),
        (AlertDescription.HANDSHAKE_FAILURE, PeerIncompatible),
        (AlertDescription.NO_APPLICATION_PROTOCOL, PeerIncompatible),
        (AlertDescription.BAD_RECORD_MAC, PeerAborted),
        (AlertDescription.INTERNAL_ERROR, PeerAborted),
    ],
)
@pytest.mark.parametrize("level", [WARNING, FATAL, 7])
def test_every_other_alert_is_an_end_with_its_name(code: AlertDescription, kind: type[TapsError], level: int) -> None:
    error = read(level, code)
    assert type(error) is kind
    assert code.name.lower() in str(error)


def test_an_unknown_alert_is_an_end_too() -> None:
    error = read(WARNING, 200)
    assert isinstance(error, PeerAborted)
    assert error.code == 200
    assert "alert 200" in str(error)


@pytest.mark.parametrize("octets", [(), (2,), (2, 40, 0)])
def test_an_alert_of_the_wrong_length_is_misbehaviour(octets: tuple[int, ...]) -> None:
    error = read(*octets)
    assert isinstance(error, PeerMisbehaved)
    assert (error.reason, error.section) == (Reason.DECODE_ERROR, "RFC 8446 §6")


@pytest.mark.parametrize(
    ("error", "alert"),
    [
        (PeerMisbehaved("x", reason=Reason.BAD_RECORD_MAC), AlertDescription.BAD_RECORD_MAC),
        (PeerMisbehaved("x", reason=Reason.RECORD_OVERFLOW), AlertDescription.RECORD_OVERFLOW),
        (PeerMisbehaved("x", reason=errors.Reason.UNEXPECTED), AlertDescription.UNEXPECTED_MESSAGE),
        (PeerMisbehaved("x", reason=errors.Reason.MALFORMED), AlertDescription.DECODE_ERROR),
        (PeerMisbehaved("x", reason=errors.Reason.MESSAGE_TOO_LARGE), AlertDescription.ILLEGAL_PARAMETER),
        (PeerIncompatible("x", reason=Reason.NO_COMMON_CIPHERSUITE), AlertDescription.HANDSHAKE_FAILURE),
        (AuthenticationFailed("x", reason=Reason.CERTIFICATE_EXPIRED), AlertDescription.CERTIFICATE_EXPIRED),
        (LocalError("x"), AlertDescription.INTERNAL_ERROR),
        (ValueError("x"), AlertDescription.INTERNAL_ERROR),
    ],
)
def test_our_errors_are_told_by_the_alert_that_the_specification_names(error: Exception, alert: int) -> None:
    assert ENDS.failure(error) == bytes((FATAL, alert))


def test_an_abort_by_the_application_is_user_canceled() -> None:
    error = LocalError("aborted", reason=errors.Reason.CANCELLED)
    assert ENDS.failure(error) == bytes((WARNING, AlertDescription.USER_CANCELED))
    late = ConnectionLost("x", reason=errors.Reason.TIMEOUT)
    assert ENDS.failure(late) == bytes((WARNING, AlertDescription.USER_CANCELED))


def test_an_alert_is_not_answered_by_an_alert() -> None:
    assert ENDS.failure(PeerAborted("x", code=40)) == b""
