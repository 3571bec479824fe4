"""Signatures: Wycheproof, every scheme both ways, and keys that do not fit."""

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from taps_security.crypto.signature import SignatureError, SignatureScheme, schemes_for, sign, verify
from tests.crypto.wycheproof import cases

S = SignatureScheme
KEYS = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ed448": ed448.Ed448PrivateKey.generate(),
    "rsa": rsa.generate_private_key(65537, 2048),
}
RSAE = (S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512)
PKCS1 = (S.RSA_PKCS1_SHA256, S.RSA_PKCS1_SHA384, S.RSA_PKCS1_SHA512)
PSS_PSS = (S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512)
EXPECTED = {
    "p256": (S.ECDSA_SECP256R1_SHA256,),
    "p384": (S.ECDSA_SECP384R1_SHA384,),
    "p521": (S.ECDSA_SECP521R1_SHA512,),
    "ed25519": (S.ED25519,),
    "ed448": (S.ED448,),
    "rsa": RSAE + PKCS1,
}


@pytest.mark.parametrize(
    ("file", "schemes"),
    [
        ("ecdsa_secp256r1_sha256", [S.ECDSA_SECP256R1_SHA256]),
        ("ecdsa_secp384r1_sha384", [S.ECDSA_SECP384R1_SHA384]),
        ("ecdsa_secp521r1_sha512", [S.ECDSA_SECP521R1_SHA512]),
        ("ed25519", [S.ED25519]),
        ("ed448", [S.ED448]),
        ("rsa_pss_2048_sha256_mgf1_32", [S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_PSS_SHA256]),
        ("rsa_pss_2048_sha384_mgf1_48", [S.RSA_PSS_RSAE_SHA384]),
        ("rsa_pss_4096_sha512_mgf1_64", [S.RSA_PSS_RSAE_SHA512]),
        ("rsa_signature_2048_sha256", [S.RSA_PKCS1_SHA256]),
    ],
)
def test_wycheproof(file, schemes):
    keys = {}
    for case in cases(file):
        der = case.group["publicKeyDer"]
        key = keys.get(der) or keys.setdefault(der, load_der_public_key(bytes.fromhex(der)))
        for scheme in schemes:
            if case.result == "valid":
                verify(key, scheme, case.sig, case.msg)
            else:
                with pytest.raises(SignatureError):
                    verify(key, scheme, case.sig, case.msg)


@pytest.mark.parametrize("name", KEYS)
def test_every_scheme_of_a_key_signs_and_verifies(name):
    key = KEYS[name]
    assert schemes_for(key) == schemes_for(key.public_key()) == EXPECTED[name]
    for scheme in schemes_for(key):
        signature = sign(key, scheme, b"data")
        verify(key.public_key(), scheme, signature, b"data")
        for bad_signature, data in (
            (signature, b"datA"),
            (signature[:-1], b"data"),
            (signature + b"\0", b"data"),
            (b"", b"data"),
            (bytes([signature[0] ^ 1]) + signature[1:], b"data"),
        ):
            with pytest.raises(SignatureError):
                verify(key.public_key(), scheme, bad_signature, data)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("scheme", SignatureScheme, ids=lambda scheme: scheme.name)
def test_a_scheme_that_does_not_fit_is_refused(name, scheme):
    key = KEYS[name]
    if scheme in EXPECTED[name] or (name == "rsa" and scheme in PSS_PSS):
        return
    with pytest.raises(SignatureError, match="does not fit"):
        sign(key, scheme, b"data")
    with pytest.raises(SignatureError, match="does not fit"):
        verify(key.public_key(), scheme, b"signature", b"data")


def test_tls_1_2_binds_no_curve():
    """RFC 8422 §5.1.1: a P-384 key may sign with SHA-256 there; another kind of key still may not."""
    data = b"data"
    key = KEYS["p384"]
    from cryptography.hazmat.primitives import hashes

    signature = key.sign(data, ec.ECDSA(hashes.SHA256()))
    verify(key.public_key(), S.ECDSA_SECP256R1_SHA256, signature, data, bind_curve=False)
    with pytest.raises(SignatureError, match="does not fit"):
        verify(key.public_key(), S.ECDSA_SECP256R1_SHA256, signature, data)
    with pytest.raises(SignatureError, match="does not fit"):
        verify(KEYS["rsa"].public_key(), S.ECDSA_SECP256R1_SHA256, signature, data, bind_curve=False)


def test_keys_of_other_kinds_have_no_scheme():
    others = [
        x25519.X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
    ]
    for key in others:
        assert schemes_for(key) == schemes_for(key.public_key()) == ()
        assert schemes_for(key, rsa_pss_oid=True) == ()


def test_rsassa_pss_keys_have_their_own_schemes():
    assert schemes_for(KEYS["rsa"], rsa_pss_oid=True) == PSS_PSS


def test_a_short_rsa_key_lacks_the_schemes_that_it_cannot_hold():
    key = rsa.generate_private_key(65537, 1024)
    assert S.RSA_PSS_RSAE_SHA512 not in schemes_for(key)
    with pytest.raises(SignatureError, match="does not fit"):
        sign(key, S.RSA_PSS_RSAE_SHA512, b"data")


def test_pkcs1_is_for_certificates_only():
    assert {scheme for scheme in SignatureScheme if scheme.only_in_certificates} == set(PKCS1)


@given(st.sampled_from(sorted(KEYS)), st.binary(max_size=600), st.binary(max_size=40))
def test_garbage_raises_only_our_error(name, signature, data):
    for scheme in EXPECTED[name]:
        with pytest.raises(SignatureError):
            verify(KEYS[name].public_key(), scheme, signature, data)
