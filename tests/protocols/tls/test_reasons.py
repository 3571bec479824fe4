from __future__ import annotations

import pytest

from taps_security.crypto.trust import CertificateReason
from taps_security.protocols.tls.reasons import ALERTS, CERTIFICATE_REASONS, AlertDescription, Reason, alert_for
from taps_security.stack import errors


def test_each_reason_has_its_alert() -> None:
    assert set(Reason) <= set(ALERTS)
    assert set(CERTIFICATE_REASONS) == set(CertificateReason)


@pytest.mark.parametrize(
    ("error", "alert"),
    [
        (errors.PeerMisbehaved("x", reason=Reason.BAD_FINISHED), AlertDescription.DECRYPT_ERROR),
        (errors.PeerMisbehaved("x", reason=errors.Reason.MALFORMED), AlertDescription.DECODE_ERROR),
        (errors.AuthenticationFailed("x"), AlertDescription.ACCESS_DENIED),
        (errors.LocalError("x"), AlertDescription.INTERNAL_ERROR),
        (ValueError("x"), AlertDescription.INTERNAL_ERROR),
    ],
)
def test_alerts(error: Exception, alert: AlertDescription) -> None:
    assert alert_for(error) is alert
