"""The own walk along a path: each thing that RFC 5280 §6.1 asks of it, and its words."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from taps_security.crypto.certificate_path import CertificateError, CertificateReason, check_leaf, check_path
from taps_security.crypto.certificates import names_of
from tests.crypto.forging import DAY, NOW, Forged, authority, key_usage, leaf

R = CertificateReason
NAME = "server.example"
UNKNOWN_CRITICAL = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
CONSTRAINED = (x509.NameConstraints([x509.DNSName("other.example")], None), False)
NO_AUTHORITY = [(x509.BasicConstraints(False, None), True)]
ONLY_CLIENTS = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
ANY_PURPOSE = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)


def walk(*forged: Forged, name: str | None = NAME, at: float = NOW, usage: str = "server") -> None:
    """Each is issued by the one behind it, the last by itself."""
    made = [below.made(above) for below, above in zip(forged, [*forged[1:], None], strict=True)]
    check_path([x509.load_der_x509_certificate(der) for der in made], names_of(made[0]), name, at, usage)


def test_a_path_of_two_and_of_three_passes():
    walk(leaf(NAME), authority("Root"))
    walk(leaf(NAME), authority("Middle"), authority("Root"))
    walk(leaf(NAME), authority("Middle", depth=0), authority("Root", depth=1))
    walk(leaf(NAME, extra=(ANY_PURPOSE,)), authority("Root"))
    walk(leaf(), authority("Root"), name=None)


@pytest.mark.parametrize(
    ("forged", "reason", "text"),
    [
        ([leaf("other.example"), authority()], R.WRONG_NAME, "is for other.example, not for server.example"),
        ([leaf(), authority()], R.WRONG_NAME, "is for no name"),
        ([leaf(NAME).but(end=NOW - 1), authority()], R.EXPIRED, "forged leaf expired at 2027-01-15T07:59:59"),
        ([leaf(NAME).but(begin=NOW + 1), authority()], R.NOT_YET_VALID, "forged leaf is not valid before"),
        ([leaf(NAME), authority().but(end=NOW - DAY / 2)], R.EXPIRED, "Forged CA expired"),
        ([leaf(NAME), authority("M").but(begin=NOW + 1), authority("R")], R.NOT_YET_VALID, "CN=M is not valid before"),
        ([leaf(NAME), authority().but(extensions=[])], R.BAD_USAGE, "is no authority"),
        ([leaf(NAME), authority().but(extensions=NO_AUTHORITY)], R.BAD_USAGE, "is no authority"),
        ([leaf(NAME), leaf(NAME).but(subject="M"), authority()], R.BAD_USAGE, "CN=M is no authority"),
        ([leaf(NAME), authority("M"), authority("R", depth=0)], R.BAD_USAGE, "longer than it allows"),
        (
            [leaf(NAME), authority().but(extensions=[(x509.BasicConstraints(True, None), True), (key_usage(), True)])],
            R.BAD_USAGE,
            "may not sign certificates",
        ),
        ([leaf(NAME), authority("M", CONSTRAINED), authority("R")], R.BAD_USAGE, "name constraints"),
        ([leaf(NAME, extra=(UNKNOWN_CRITICAL,)), authority()], R.BAD_USAGE, "critical extension 1.2.3.4"),
        ([leaf(NAME), authority("M", UNKNOWN_CRITICAL), authority("R")], R.BAD_USAGE, "critical extension 1.2.3.4"),
        ([leaf(NAME, extra=(ONLY_CLIENTS,)), authority()], R.BAD_USAGE, "not for use as a server"),
        (
            [leaf(NAME, extra=((key_usage(sign=False, certificates=True), True),)), authority()],
            R.BAD_USAGE,
            "not for digital signatures",
        ),
        (
            [leaf(NAME).but(key=rsa.generate_private_key(65537, 1024)), authority()],
            R.WEAK,
            "RSA key of 1024 bits, wanted 2048",
        ),
    ],
)
def test_what_is_wrong_is_named(forged, reason, text):
    with pytest.raises(CertificateError, match=text) as refused:
        walk(*forged)
    assert refused.value.reason is reason


def test_a_sha1_signature_is_weak():
    """`cryptography` signs with SHA-1 no more, so the algorithm's name is changed behind its back."""
    root, server = authority("Root"), leaf(NAME)
    der = server.made(root)
    sha256, sha1 = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06072a8648ce3d0401")
    assert der.count(sha256) == 2
    certificate = x509.load_der_x509_certificate(der)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
    weak = x509.load_der_x509_certificate(_shrunk(der, sha256, sha1))
    with pytest.raises(CertificateError, match="signed with sha1") as refused:
        check_leaf(weak, names_of(der), NAME, NOW, "server")
    assert refused.value.reason is R.WEAK


def _shrunk(der: bytes, old: bytes, new: bytes) -> bytes:
    """Replace both algorithm identifiers (each the only element of its SEQUENCE) and mend the lengths around them."""
    small = bytes([0x30, len(new)]) + new
    large = bytes([0x30, len(old)]) + old
    changed = der.replace(large, small)
    outer = len(changed) - 4
    inner = int.from_bytes(der[6:8], "big") - 1
    return changed[:2] + outer.to_bytes(2, "big") + changed[4:6] + inner.to_bytes(2, "big") + changed[8:]


def test_a_link_must_be_signed_by_the_next():
    root, impostor = authority("Root"), authority("Root")
    server = x509.load_der_x509_certificate(leaf(NAME).made(root))
    names = names_of(leaf(NAME).made(root))
    false_root = x509.load_der_x509_certificate(impostor.made())
    with pytest.raises(CertificateError, match="is not signed by") as refused:
        check_path([server, false_root], names, NAME, NOW, "server")
    assert refused.value.reason is R.BAD_SIGNATURE
    other = x509.load_der_x509_certificate(authority("Other").made())
    with pytest.raises(CertificateError, match="was not issued by") as refused:
        check_path([server, other], names, NAME, NOW, "server")
    assert refused.value.reason is R.UNTRUSTED
