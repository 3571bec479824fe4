"""Reading certificates and keys: what fits, what does not and what it then says, and garbage."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from taps_security.crypto.certificates import (
    CredentialError,
    Identity,
    Names,
    certificate_pem,
    fingerprint,
    load_certificates,
    load_private_key,
    load_public_key,
    names_of,
    parse_certificate_untrusted,
    private_key_pem,
    public_key_from_spki,
    public_key_of,
    schemes_of,
    spki_of,
    subject_text,
)
from taps_security.crypto.issuing import (
    generate_private_key,
    issue_certificate,
    make_certificate_authority,
    self_signed,
)
from taps_security.crypto.signature import SignatureScheme
from tests.crypto.forging import NOW, Forged, leaf

ROOT = make_certificate_authority("Root", at=NOW, random=os.urandom)
SERVER = issue_certificate(ROOT, ["server.example", "127.0.0.1"], at=NOW, random=os.urandom)
KEY_PEM = private_key_pem(SERVER.private_key)


def test_pem_round_trip_in_order():
    pem = certificate_pem(*SERVER.chain, *ROOT.chain)
    assert load_certificates(b"some text before\n" + pem) == (*SERVER.chain, *ROOT.chain)
    assert load_certificates(SERVER.chain[0]) == SERVER.chain
    assert x509.load_pem_x509_certificates(pem)[0].public_bytes(form.Encoding.DER) == SERVER.chain[0]
    assert load_certificates(pem.replace(b"\n", b"\r\n")) == (*SERVER.chain, *ROOT.chain)


def test_identity_from_pem_shows_its_subject_and_no_key():
    identity = Identity.from_pem(certificate_pem(*SERVER.chain), KEY_PEM)
    assert identity == SERVER
    assert repr(identity) == "<Identity CN=server.example>"
    assert identity.schemes == (SignatureScheme.ECDSA_SECP256R1_SHA256,)
    assert identity.names == Names(("server.example",), ("127.0.0.1",))
    assert identity.raw_public_key == spki_of(SERVER.private_key)


def test_identity_with_an_external_signer():
    identity = Identity.external(SERVER.chain)
    assert identity.private_key is None
    assert identity.schemes == SERVER.schemes
    assert "external signer" in repr(identity)


def test_identity_of_a_raw_public_key():
    key = generate_private_key("ed25519", os.urandom)
    identity = Identity.from_key(key)
    assert identity.chain == ()
    assert identity.names == Names()
    assert public_key_from_spki(identity.raw_public_key) == key.public_key()
    assert fingerprint(identity.raw_public_key).hex() in repr(identity)


def test_identity_whose_parts_do_not_fit():
    with pytest.raises(CredentialError, match=r"me\.pem: the private key is not that of the first certificate"):
        Identity.from_pem(certificate_pem(*ROOT.chain), KEY_PEM, source="me.pem")
    with pytest.raises(CredentialError, match="no certificate"):
        Identity.of((), SERVER.private_key)


@pytest.mark.parametrize("algorithm", ["p256", "ed25519", "rsa2048", "ed448"])
@pytest.mark.parametrize("password", [None, b"secret"])
def test_private_keys_with_and_without_password(algorithm, password):
    key = generate_private_key(algorithm, os.urandom)
    pem = private_key_pem(key, password=password)
    assert load_private_key(pem, password=password).public_key() == key.public_key()


def test_other_forms_of_private_keys():
    key = ec.generate_private_key(ec.SECP256R1())
    traditional = form.PrivateFormat.TraditionalOpenSSL
    for encoding in (form.Encoding.PEM, form.Encoding.DER):
        data = key.private_bytes(encoding, traditional, form.NoEncryption())
        assert load_private_key(data).public_key() == key.public_key()


@pytest.mark.parametrize(
    ("data", "password", "text"),
    [
        (b"", None, "key.pem: expected a PRIVATE KEY"),
        (b"hello", None, "this is not one"),
        (b"\x30\x03\x01\x01\x00", None, "expected a PRIVATE KEY"),
        (certificate_pem(*SERVER.chain), None, "it holds CERTIFICATE"),
        (KEY_PEM, b"secret", "is not encrypted: give no password"),
        (private_key_pem(SERVER.private_key, password=b"secret"), None, "is encrypted: give its password"),
        (private_key_pem(SERVER.private_key, password=b"secret"), b"wrong", "password does not open"),
        (
            x25519.X25519PrivateKey.generate().private_bytes(
                form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
            ),
            None,
            "key that can sign",
        ),
    ],
)
def test_private_keys_that_cannot_be_used_say_why(data, password, text):
    with pytest.raises(CredentialError, match=text) as refused:
        load_private_key(data, password=password, source="key.pem")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "holds no PEM block"),
        (KEY_PEM, "it holds PRIVATE KEY"),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "certificate 1: malformed"),
        (b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n", "base64 is broken"),
        (b"\x30\x03\x01\x01\x00", "certificate 1: malformed"),
        (certificate_pem(SERVER.chain[0], ROOT.chain[0][:-9]), "certificate 2: malformed"),
    ],
)
def test_certificates_that_cannot_be_read_say_why(data, text):
    with pytest.raises(CredentialError, match=text) as refused:
        load_certificates(data, source="chain.pem")
    assert str(refused.value).startswith("chain.pem: ")


def test_public_key_files():
    spki = spki_of(SERVER.private_key)
    pem = certificate_pem(spki).replace(b"CERTIFICATE", b"PUBLIC KEY")
    assert load_public_key(pem) == load_public_key(spki) == SERVER.private_key.public_key()
    for data, text in (
        (KEY_PEM, "expected a PUBLIC KEY"),
        (b"-----BEGIN PUBLIC KEY-----\nA\n-----END PUBLIC KEY-----\n", "base64"),
        (spki[:-1], "malformed"),
        (spki_of(x25519.X25519PrivateKey.generate()), "expected an RSA"),
    ):
        with pytest.raises(CredentialError, match=text):
            load_public_key(data)


def test_a_serial_number_that_is_not_positive_is_refused_before_anything_warns():
    der = Forged("x").made()
    version_and_serial = bytes.fromhex("a003020102020107")
    assert version_and_serial in der
    for serial in (0x00, 0x80, 0xFF):
        with pytest.raises(CredentialError, match="serial number"):
            subject_text(der.replace(version_and_serial, version_and_serial[:-1] + bytes([serial]), 1))


def test_a_huge_certificate_is_refused():
    with pytest.raises(CredentialError, match="65536"):
        parse_certificate_untrusted(bytes(65_537))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("server.example", "server.example", True),
        ("server.example", "SERVER.EXAMPLE.", True),
        ("server.example", "a.server.example", False),
        ("*.server.example", "a.server.example", True),
        ("*.server.example", "a.b.server.example", False),
        ("*.server.example", "server.example", False),
        ("*.example", "server.example", False),
        ("a*.server.example", "ab.server.example", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("*.0.0.1", "127.0.0.1", False),
    ],
)
def test_dns_names_match_as_rfc_9525_says(pattern, name, matches):
    assert Names((pattern,), ()).matches(name) is matches


def test_addresses_match_in_any_spelling():
    names = Names((), ("::1", "127.0.0.1"))
    assert names.matches("0:0::1")
    assert names.matches("127.0.0.1")
    assert not names.matches("127.0.0.2")


def test_names_are_shown_shortly():
    assert str(Names()) == "no name"
    assert str(Names(tuple(f"{n}.example" for n in range(7)), ())).endswith("4.example and 2 more")


def test_names_and_subject_cannot_drive_a_terminal():
    forged = leaf("a\x1b[2J.example").but(subject="evil\x1b[2J\nname").made()
    assert names_of(forged).dns == ("a\\1B[2j.example",)
    assert subject_text(forged) == "CN=evil\\1B[2J\\0Aname"


def test_a_certificate_without_alternative_names_has_none():
    assert names_of(Forged("server.example").made()) == Names()


def test_keys_of_unknown_kinds_are_refused():
    with pytest.raises(CredentialError, match="expected an RSA"):
        public_key_of(Forged("x", ec.generate_private_key(ec.SECP256K1())).made())


def test_rsa_schemes_are_those_of_the_key_identifier():
    assert SignatureScheme.RSA_PSS_RSAE_SHA256 in schemes_of(Forged("x", rsa.generate_private_key(65537, 2048)).made())
    # Made by `openssl req -x509` with a key of `openssl genpkey -algorithm RSA-PSS`.
    file = Path(__file__).parent.parent / "vectors" / "rsassa_pss_certificate.pem"
    (der,) = load_certificates(file.read_bytes())
    assert [scheme.name for scheme in schemes_of(der)] == [f"RSA_PSS_PSS_SHA{size}" for size in (256, 384, 512)]


def test_a_chain_suits_those_who_know_its_signatures_or_its_issuer():
    """RFC 8446 §4.4.2.2."""
    ecdsa, edwards = SignatureScheme.ECDSA_SECP256R1_SHA256, SignatureScheme.ED25519
    root = make_certificate_authority("Root", algorithm="ed25519", at=NOW, random=os.urandom)
    middle = issue_certificate(root, ["Middle"], at=NOW, random=os.urandom, usage="ca")
    ours = issue_certificate(middle, ["server.example"], at=NOW, random=os.urandom)
    assert ours.suits((), ()) == (True, True)
    assert ours.suits((ecdsa, edwards), ()) == (True, True)  # the leaf is signed with one, its issuer with the other
    assert ours.suits((ecdsa,), ()) == ours.suits((edwards,), ()) == (False, True)
    names = [parse_certificate_untrusted(der).subject.public_bytes() for der in (*root.chain, *ours.chain)]
    assert [ours.suits((), (name,))[1] for name in names] == [True, False, True]
    own = self_signed(["server.example"], at=NOW, random=os.urandom)
    assert own.suits((edwards,), (b"other",)) == (True, False)  # nobody checks what a certificate says of itself


def test_signatures_by_their_names():
    issuer = Forged("issuer", rsa.generate_private_key(65537, 2048))
    for algorithm, suits in ((hashes.SHA256(), True), (hashes.SHA384(), False), (hashes.SHA3_256(), False)):
        chain = (Forged("leaf", algorithm=algorithm).made(issuer),)
        assert Identity(chain, b"", ()).suits((SignatureScheme.RSA_PKCS1_SHA256,), ())[0] is suits


def ask_everything(der: bytes) -> None:
    for ask in (public_key_of, names_of, subject_text, schemes_of):
        with suppress(CredentialError):
            ask(der)


@given(st.binary(max_size=300))
def test_garbage_raises_only_our_error(data):
    ask_everything(data)
    for load in (load_certificates, load_private_key, load_public_key, public_key_from_spki):
        with suppress(CredentialError):
            load(data)


@given(st.integers(0, len(SERVER.chain[0]) - 1), st.integers(1, 255))
def test_a_changed_byte_raises_only_our_error(position, change):
    der = bytearray(SERVER.chain[0])
    der[position] ^= change
    ask_everything(bytes(der))
