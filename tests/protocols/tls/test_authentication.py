from __future__ import annotations

import pytest

from taps_security.crypto.certificates import Identity
from taps_security.crypto.signature import SignatureScheme, sign
from taps_security.crypto.trust import CertificateError, CertificateReason
from taps_security.protocols.tls.authentication import (
    CLIENT_CONTEXT,
    SERVER_CONTEXT,
    check_signature,
    choose_scheme,
    own_failure,
    peer_refused,
    read_certificate_untrusted,
    read_certificate_verify_untrusted,
    signed_content,
)
from taps_security.protocols.tls.reasons import Reason
from taps_security.protocols.tls.wire import Certificate, CertificateVerify
from taps_security.stack.asks import Refused
from taps_security.stack.errors import AuthenticationFailed, PeerMisbehaved

from .pair import identity

P256 = SignatureScheme.ECDSA_SECP256R1_SHA256


def test_the_signed_content_of_the_specification() -> None:
    """RFC 8446 §4.4.3 prints this one."""
    expected = "20" * 64 + "544c5320312e332c207365727665722043657274696669636174655665726966" + "79" + "00" + "01" * 32
    assert signed_content(SERVER_CONTEXT, b"\x01" * 32).hex() == expected
    assert CLIENT_CONTEXT != SERVER_CONTEXT


def test_signatures() -> None:
    ours = identity()
    assert ours.private_key is not None
    content = signed_content(SERVER_CONTEXT, bytes(32))
    good = sign(ours.private_key, P256, content)
    check_signature(ours.chain[0], CertificateVerify(P256, good), content)
    with pytest.raises(AuthenticationFailed) as caught:
        check_signature(ours.chain[0], CertificateVerify(P256, good), signed_content(CLIENT_CONTEXT, bytes(32)))
    assert caught.value.reason is Reason.BAD_SIGNATURE
    with pytest.raises(AuthenticationFailed) as caught:
        check_signature(b"no certificate", CertificateVerify(P256, good), content)
    assert caught.value.reason is Reason.BAD_CERTIFICATE


def test_rsa_keys_sign_as_their_certificate_names_them() -> None:
    """RFC 8446 §4.2.3: rsa_pss_pss is for RSASSA-PSS keys alone, though the octets of the signature are the same."""
    ours = identity("server.example", "rsa2048")
    assert ours.private_key is not None
    content = signed_content(SERVER_CONTEXT, bytes(32))
    signature = sign(ours.private_key, SignatureScheme.RSA_PSS_RSAE_SHA256, content)
    check_signature(ours.chain[0], CertificateVerify(SignatureScheme.RSA_PSS_RSAE_SHA256, signature), content)
    with pytest.raises(AuthenticationFailed) as caught:
        check_signature(ours.chain[0], CertificateVerify(SignatureScheme.RSA_PSS_PSS_SHA256, signature), content)
    assert caught.value.reason is Reason.BAD_SIGNATURE


def test_what_is_refused_in_messages() -> None:
    assert read_certificate_untrusted(Certificate(b"", (b"a", b"b")).encode()[4:]).chain == (b"a", b"b")
    for wrong, reason in (
        (Certificate(b"context", (b"a",)), Reason.ILLEGAL_PARAMETER),
        (Certificate(b"", (b"a",), ({18: b""},)), Reason.UNSUPPORTED_EXTENSION),
    ):
        with pytest.raises(PeerMisbehaved) as caught:
            read_certificate_untrusted(wrong.encode()[4:])
        assert caught.value.reason is reason
    body = CertificateVerify(P256, b"s").encode()[4:]
    assert read_certificate_verify_untrusted(body, [P256]).signature == b"s"
    with pytest.raises(PeerMisbehaved, match="0x0403 was not offered"):
        read_certificate_verify_untrusted(body, [SignatureScheme.ED25519])


def test_the_scheme_is_the_identitys_first_that_both_sides_allow() -> None:
    ours = Identity((b"der",), b"", (SignatureScheme.ED25519, P256))
    assert choose_scheme(ours, [0x0403, 0x0807], [P256, SignatureScheme.ED25519]) is SignatureScheme.ED25519
    assert choose_scheme(ours, [0x0403], [P256, SignatureScheme.ED25519]) is P256
    assert choose_scheme(ours, [0x0403], [SignatureScheme.ED25519]) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CertificateError(CertificateReason.EXPIRED, "too late"), Reason.CERTIFICATE_EXPIRED),
        (AuthenticationFailed("too late", reason=CertificateReason.WRONG_NAME), Reason.CERTIFICATE_WRONG_NAME),
        (AuthenticationFailed("too late", reason=Reason.ACCESS_DENIED), Reason.ACCESS_DENIED),
        (AuthenticationFailed("too late"), Reason.CERTIFICATE_UNKNOWN),
        (ValueError("too late"), Reason.CERTIFICATE_UNKNOWN),
    ],
)
def test_refused_peers(error: Exception, reason: Reason) -> None:
    failure = peer_refused(Refused(error))
    assert failure.reason is reason
    assert "too late" in str(failure)
    assert failure.__cause__ is error


def test_failures_of_our_own() -> None:
    failure = own_failure("the key did not sign", Refused(ValueError("no HSM")))
    assert str(failure) == "the key did not sign: no HSM"
    assert failure.reason is Reason.NO_CREDENTIAL
