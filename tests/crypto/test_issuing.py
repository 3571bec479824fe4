"""What we issue: accepted by cryptography's verifier and by OpenSSL's `ssl`, and made from the given randomness."""

import os
import ssl
import time
from contextlib import suppress

import pytest

from taps_security.crypto.certificates import (
    CredentialError,
    certificate_pem,
    fingerprint,
    names_of,
    private_key_pem,
    public_key_of,
    subject_text,
)
from taps_security.crypto.issuing import (
    generate_private_key,
    issue_certificate,
    make_certificate_authority,
    self_signed,
)
from taps_security.crypto.trust import CertificateError, CertificateReason, TrustAnchors, verify_chain

NOW = 1_800_000_000
DAY = 86_400
ALGORITHMS = ["p256", "p384", "p521", "ed25519", "ed448", "rsa2048"]


@pytest.fixture(params=ALGORITHMS)
def algorithm(request):
    return request.param


def test_a_chain_of_two_and_of_three_is_accepted(algorithm):
    root = make_certificate_authority("Root", algorithm=algorithm, at=NOW, random=os.urandom)
    middle = issue_certificate(root, ["Middle"], algorithm=algorithm, at=NOW, random=os.urandom, usage="ca")
    anchors = TrustAnchors(root.chain)
    names = ["server.example", "*.wild.example", "127.0.0.1", "::1"]
    for authority, length in ((root, 1), (middle, 2)):
        leaf = issue_certificate(authority, names, algorithm=algorithm, at=NOW, random=os.urandom)
        assert len(leaf.chain) == length
        for name in ("server.example", "SERVER.example", "a.wild.example", "127.0.0.1", "::1"):
            assert verify_chain(anchors, leaf.chain, name, NOW).subject == "CN=server.example"
        verify_chain(anchors, leaf.chain, None, NOW, "client")
        verify_chain(anchors, leaf.chain, None, NOW)


def test_openssl_accepts_it_too(algorithm, tmp_path):
    at = time.time()
    root = make_certificate_authority("Root", algorithm=algorithm, at=at, random=os.urandom)
    leaf = issue_certificate(root, ["server.example"], algorithm=algorithm, at=at, random=os.urandom)
    file = tmp_path / "server.pem"
    file.write_bytes(private_key_pem(leaf.private_key) + certificate_pem(*leaf.chain))
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server_context.load_cert_chain(file)
    client_context.load_verify_locations(cadata=certificate_pem(*root.chain).decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    upstream, downstream = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(downstream, upstream, server_hostname="server.example")
    server = server_context.wrap_bio(upstream, downstream, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.getpeercert(binary_form=True) == leaf.chain[0]


@pytest.mark.parametrize(("usage", "other"), [("server", "client"), ("client", "server")])
def test_a_certificate_for_one_use_is_refused_in_the_other(usage, other):
    root = make_certificate_authority("Root", at=NOW, random=os.urandom)
    leaf = issue_certificate(root, ["a.example"], at=NOW, random=os.urandom, usage=usage)
    verify_chain(TrustAnchors(root.chain), leaf.chain, "a.example", NOW, usage)
    with pytest.raises(CertificateError) as refused:
        verify_chain(TrustAnchors(root.chain), leaf.chain, "a.example", NOW, other)
    assert refused.value.reason is CertificateReason.BAD_USAGE


def test_validity_is_what_was_asked_for():
    root = make_certificate_authority("Root", at=NOW, random=os.urandom)
    leaf = issue_certificate(root, ["a.example"], at=NOW, random=os.urandom, days=2)
    anchors = TrustAnchors(root.chain)
    verify_chain(anchors, leaf.chain, "a.example", NOW + 2 * DAY - 1)
    with pytest.raises(CertificateError, match="expired"):
        verify_chain(anchors, leaf.chain, "a.example", NOW + 2 * DAY + 2)


def test_keys_come_from_the_given_randomness(algorithm):
    if algorithm == "rsa2048":
        return
    first, second = (generate_private_key(algorithm, lambda size: b"\x05" * size) for _ in range(2))
    assert first.public_key() == second.public_key()


def test_a_self_signed_leaf_goes_by_its_pin(algorithm):
    identity = self_signed(["peer.example"], algorithm=algorithm, at=NOW, random=os.urandom)
    pins = TrustAnchors(pins=[fingerprint(identity.chain[0])])
    assert verify_chain(pins, identity.chain, None, NOW).pinned
    assert str(names_of(identity.chain[0])) == "peer.example"
    assert public_key_of(identity.chain[0]) == identity.private_key.public_key()


def test_long_names_do_not_break_the_common_name():
    name = ".".join(["a" * 50, "b" * 50, "example"])
    identity = self_signed([name], at=NOW, random=os.urandom)
    assert identity.names.matches(name)
    assert subject_text(identity.chain[0]) == f"CN={name[:64]}"


def test_what_cannot_be_issued_says_why():
    root = make_certificate_authority("Root", at=NOW, random=os.urandom)
    with pytest.raises(CredentialError, match="at least one name"):
        issue_certificate(root, [], at=NOW, random=os.urandom)
    with pytest.raises(CredentialError, match="ASCII"):
        issue_certificate(root, ["bücher.example"], at=NOW, random=os.urandom)
    with pytest.raises(CredentialError, match="p256"):
        generate_private_key("dsa", os.urandom)
    with pytest.raises(CredentialError, match="private key"):
        issue_certificate(type(root).external(root.chain), ["a.example"], at=NOW, random=os.urandom)
