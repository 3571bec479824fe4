"""Whom we believe: roots, pins, both kinds of path, every reason for a refusal, and garbage."""

import os
import subprocess
import sys

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from taps_security.crypto.certificates import (
    CredentialError,
    certificate_pem,
    fingerprint,
    spki_of,
)
from taps_security.crypto.issuing import (
    generate_private_key,
    issue_certificate,
    make_certificate_authority,
    self_signed,
)
from taps_security.crypto.trust import (
    CertificateError,
    CertificateReason,
    TrustAnchors,
    default_anchor_paths,
    verify_chain,
    verify_raw_public_key,
)
from tests.crypto.forging import DAY, NOW, Forged, authority, key_usage, leaf

R = CertificateReason
NAME = "server.example"
ROOT = make_certificate_authority("Root", at=NOW, random=os.urandom)
MIDDLE = issue_certificate(ROOT, ["Middle"], at=NOW, random=os.urandom, usage="ca")
SERVER = issue_certificate(MIDDLE, [NAME, "127.0.0.1"], at=NOW, random=os.urandom)
ANCHORS = TrustAnchors(ROOT.chain)
EDWARDS = make_certificate_authority("Edwards Root", algorithm="ed25519", at=NOW, random=os.urandom)


def refusal(anchors, chain, name=NAME, at=NOW, usage="server"):
    with pytest.raises(CertificateError) as refused:
        verify_chain(anchors, chain, name, at, usage)
    return refused.value


def test_who_the_peer_is():
    peer = verify_chain(ANCHORS, SERVER.chain, NAME, NOW)
    assert peer.subject == "CN=server.example"
    assert (peer.names.dns, peer.names.ip) == ((NAME,), ("127.0.0.1",))
    assert (peer.leaf, peer.fingerprint) == (SERVER.chain[0], fingerprint(SERVER.chain[0]))
    assert not peer.pinned
    assert verify_chain(ANCHORS, [*SERVER.chain, *ROOT.chain], "127.0.0.1", NOW) == peer
    assert verify_chain(ANCHORS, SERVER.chain, NAME + ".", NOW) == peer


@pytest.mark.parametrize(
    ("chain", "options", "reason", "text"),
    [
        ((), {}, R.MISSING, "no certificate"),
        (SERVER.chain * 6, {}, R.MALFORMED, "12 certificates"),
        ((b"garbage",), {}, R.MALFORMED, "malformed"),
        (SERVER.chain, {"at": NOW + 500 * DAY}, R.EXPIRED, "CN=server.example expired at"),
        (SERVER.chain, {"at": NOW - 500 * DAY}, R.NOT_YET_VALID, "not valid before"),
        (SERVER.chain, {"name": "other.example"}, R.WRONG_NAME, "is for server.example, 127.0.0.1, not for other"),
        (SERVER.chain, {"name": "127.0.0.2"}, R.WRONG_NAME, "not for 127.0.0.2"),
        (SERVER.chain, {"name": "bücher.example"}, R.WRONG_NAME, "A-label"),
        (SERVER.chain[:1], {}, R.UNTRUSTED, "was issued by CN=Middle, which is no trust anchor"),
        (self_signed([NAME], at=NOW, random=os.urandom).chain, {}, R.UNTRUSTED, "self-signed"),
        (
            (SERVER.chain[0], make_certificate_authority("Middle", at=NOW, random=os.urandom).chain[0]),
            {},
            R.BAD_SIGNATURE,
            "does not verify under its issuer's key",
        ),
    ],
)
def test_a_refusal_says_why(chain, options, reason, text):
    refused = refusal(ANCHORS, chain, **options)
    assert text in str(refused)
    assert refused.reason is reason


def without_key_usage() -> Forged:
    return authority().but(extensions=[(x509.BasicConstraints(True, None), True)])


@pytest.mark.parametrize(
    ("server", "root", "reason", "text"),
    [
        (leaf(), authority(), R.WRONG_NAME, "no subjectAltName"),
        (leaf(NAME).but(identifiers=False), authority(), R.BAD_USAGE, "no authorityKeyIdentifier"),
        (leaf(NAME), without_key_usage(), R.BAD_USAGE, "authority without keyUsage"),
        (leaf(NAME), authority().but(end=NOW - 1), R.EXPIRED, "Forged CA expired"),
        (leaf(NAME), authority().but(extensions=[]), R.BAD_USAGE, "is no authority"),
        (
            authority("a CA").but(extensions=[*leaf(NAME).extensions, *authority().extensions]),
            authority(),
            R.BAD_USAGE,
            "is an authority and no leaf",
        ),
        (leaf(NAME, extra=((x509.BasicConstraints(True, None), True),)), authority(), R.BAD_USAGE, "no leaf"),
        (leaf(NAME, extra=((key_usage(certificates=True), True),)), authority(), R.UNTRUSTED, "keyCertSign"),
    ],
)
def test_what_the_library_wants_is_explained(server, root, reason, text):
    refused = refusal(TrustAnchors([root.made()]), [server.made(root)])
    assert text in str(refused)
    assert refused.reason is reason


def test_an_edwards_authority_inside_a_chain_is_explained():
    root, middle = authority("Root"), authority("Middle").but(key=generate_private_key("ed25519", os.urandom))
    server = leaf(NAME).but(algorithm=None)
    chain = [server.made(middle), middle.made(root)]
    assert "Ed25519 or Ed448 authority" in str(refusal(TrustAnchors([root.made()]), chain))
    assert verify_chain(TrustAnchors(pins=[fingerprint(chain[1])]), chain, NAME, NOW).pinned


def test_no_anchors_trust_nobody():
    assert "no trust anchors" in str(refusal(TrustAnchors(), SERVER.chain))
    assert "not pinned" in str(refusal(TrustAnchors(pins=[bytes(32)]), SERVER.chain))


def test_clients_need_no_name_and_no_alternative_names():
    root = authority()
    anchors = TrustAnchors([root.made()])
    chain = [leaf().made(root)]
    assert verify_chain(anchors, chain, None, NOW, "client").subject == "CN=forged leaf"
    assert refusal(anchors, chain, NAME, NOW, "client").reason is R.WRONG_NAME
    assert refusal(anchors, [leaf().made(authority())], None, NOW, "client").reason is R.BAD_SIGNATURE


@pytest.mark.parametrize("position", [0, 1, 2], ids=["leaf", "intermediate", "root"])
@pytest.mark.parametrize("kind", ["certificate", "key"])
def test_pins(position, kind):
    chain = [*SERVER.chain, *ROOT.chain]
    identity = (SERVER, MIDDLE, ROOT)[position]
    pin = fingerprint(chain[position] if kind == "certificate" else spki_of(identity.private_key))
    pins = TrustAnchors(pins=[pin])
    assert verify_chain(pins, chain, NAME, NOW).pinned
    assert refusal(pins, chain, at=NOW + 500 * DAY).reason is R.EXPIRED
    if position == 0:
        assert verify_chain(pins, chain[:1], "whatever.example", NOW).pinned
    else:
        assert refusal(pins, chain, "other.example").reason is R.WRONG_NAME
        other = issue_certificate(EDWARDS, [NAME], at=NOW, random=os.urandom).chain
        assert refusal(pins, [*other, *chain[position:]]).reason is R.UNTRUSTED
        assert refusal(pins, [*other, *chain]).reason is R.BAD_USAGE  # a leaf is no authority


def test_a_pinned_root_does_not_vouch_for_a_forged_child():
    impostor = make_certificate_authority("Root", at=NOW, random=os.urandom)
    forged = issue_certificate(impostor, [NAME], at=NOW, random=os.urandom).chain
    pins = TrustAnchors(pins=[fingerprint(ROOT.chain[0])])
    assert refusal(pins, [*forged, *ROOT.chain]).reason is R.BAD_SIGNATURE


def test_a_leaf_does_not_become_an_authority_by_a_pin():
    fake = issue_certificate(ROOT, ["x.example"], at=NOW, random=os.urandom)
    child = Forged(NAME, extensions=leaf(NAME).extensions)
    issuer = Forged("x.example", fake.private_key)
    pins = TrustAnchors(pins=[fingerprint(fake.chain[0])])
    assert refusal(pins, [child.made(issuer), *fake.chain]).reason is R.BAD_USAGE


def test_an_edwards_root_by_itself():
    anchors = TrustAnchors([*ROOT.chain, *EDWARDS.chain])
    middle = issue_certificate(EDWARDS, ["Middle"], at=NOW, random=os.urandom, usage="ca")
    for server in (issue_certificate(issuer, [NAME], at=NOW, random=os.urandom) for issuer in (EDWARDS, middle)):
        verify_chain(anchors, server.chain, NAME, NOW)
        verify_chain(anchors, [*server.chain, *EDWARDS.chain], NAME, NOW)
        assert refusal(anchors, server.chain, "other.example").reason is R.WRONG_NAME
    impostor = make_certificate_authority("Edwards Root", algorithm="ed25519", at=NOW, random=os.urandom)
    forged = issue_certificate(impostor, [NAME], at=NOW, random=os.urandom)
    assert refusal(anchors, forged.chain).reason is R.BAD_SIGNATURE
    assert refusal(anchors, [*forged.chain, *impostor.chain]).reason is R.BAD_SIGNATURE


def test_a_trusted_leaf_is_trusted_for_its_names():
    identity = self_signed([NAME], at=NOW, random=os.urandom)
    anchors = TrustAnchors(identity.chain)
    assert not verify_chain(anchors, identity.chain, NAME, NOW).pinned
    assert refusal(anchors, identity.chain, "other.example").reason is R.WRONG_NAME
    same_name = self_signed([NAME], at=NOW, random=os.urandom)
    assert refusal(anchors, same_name.chain).reason in (R.UNTRUSTED, R.BAD_SIGNATURE)


def test_raw_public_keys_go_by_pin():
    spki = spki_of(generate_private_key("ed25519", os.urandom))
    peer = verify_raw_public_key(TrustAnchors(pins=[fingerprint(spki)]), spki)
    assert (peer.leaf, peer.fingerprint, peer.pinned) == (b"", fingerprint(spki), True)
    for anchors, key, reason in ((ANCHORS, spki, R.UNTRUSTED), (ANCHORS, b"x", R.MALFORMED)):
        with pytest.raises(CertificateError) as refused:
            verify_raw_public_key(anchors, key)
        assert refused.value.reason is reason


def test_a_pin_has_32_bytes():
    with pytest.raises(CredentialError, match="32 bytes"):
        TrustAnchors(pins=[b"short"])


def test_a_bundle_is_kept_until_it_changes_and_bad_roots_cost_only_themselves(tmp_path):
    bundle = tmp_path / "roots.pem"
    zero_serial = ROOT.chain[0][:15] + bytes(16) + ROOT.chain[0][31:]
    bundle.write_bytes(certificate_pem(zero_serial, *ROOT.chain, ROOT.chain[0][:-4]))
    anchors = TrustAnchors.system([str(tmp_path / "missing.pem"), str(bundle)])
    assert anchors.roots == ROOT.chain
    assert TrustAnchors.from_file(str(bundle)) is anchors
    verify_chain(anchors, SERVER.chain, NAME, NOW)
    bundle.write_bytes(certificate_pem(*EDWARDS.chain))
    assert TrustAnchors.from_file(str(bundle)).roots == EDWARDS.chain
    with pytest.raises(CredentialError, match="certificate 1"):
        TrustAnchors.from_pem(certificate_pem(zero_serial))
    bundle.write_bytes(certificate_pem(zero_serial))
    with pytest.raises(CredentialError, match="none of its certificates"):
        TrustAnchors.from_file(str(bundle))


def test_missing_anchors_name_the_paths(tmp_path):
    path = str(tmp_path / "missing.pem")
    with pytest.raises(CredentialError, match=r"none of .*missing\.pem exists"):
        TrustAnchors.system([path])
    with pytest.raises(CredentialError, match="No such file"):
        TrustAnchors.from_file(path)


@pytest.mark.skipif(not any(map(os.path.exists, default_anchor_paths)), reason="this system has no root certificates")
def test_the_systems_roots_can_be_read():
    anchors = TrustAnchors.system()
    assert len(anchors.roots) > 10
    assert refusal(anchors, SERVER.chain).reason is R.UNTRUSTED


@given(st.integers(0, len(SERVER.chain[0]) - 1), st.integers(1, 255), st.sampled_from([0, 1]))
def test_a_changed_byte_is_refused_with_our_error(position, change, which):
    chain = [bytearray(der) for der in SERVER.chain]
    chain[which][position % len(chain[which])] ^= change
    refusal(ANCHORS, [bytes(der) for der in chain])
    refusal(TrustAnchors(pins=[fingerprint(ROOT.chain[0])]), [*map(bytes, chain), *ROOT.chain])


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_garbage_is_refused_with_our_error(chain):
    refusal(ANCHORS, chain)


def test_x509_is_imported_only_when_used():
    code = (
        "import sys, taps_security.crypto.trust as t, taps_security.crypto.issuing;"
        "t.TrustAnchors(pins=[bytes(32)]);"
        "sys.exit('cryptography.x509' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("usage", ["server", "client"])
def test_a_key_that_is_not_for_signatures_does_not_authenticate(usage):
    """RFC 8446 §4.4.2.2, on the library's path too."""
    root = authority()
    good = leaf(NAME, extra=((key_usage(), True),))
    bad = leaf(NAME, extra=((key_usage(sign=False), True),))
    anchors = TrustAnchors([root.made()])
    verify_chain(anchors, [good.made(root)], NAME, NOW, usage)
    refused = refusal(anchors, [bad.made(root)], usage=usage)
    assert (refused.reason, "digital signatures" in str(refused)) == (R.BAD_USAGE, True)
