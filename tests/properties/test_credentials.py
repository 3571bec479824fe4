"""Credentials: pins, pre-shared keys, identities; what they show and what they refuse."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from taps_security.crypto.certificates import certificate_pem, private_key_pem
from taps_security.properties.credentials import Identity, Pin, PreSharedKey
from taps_security.stack.errors import ConfigurationError, Reason
from tests.support.pki import Pki

DIGEST = bytes(range(32))


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:{DIGEST.hex()}",
        f"SHA-256 {DIGEST.hex(':').upper()}",
        DIGEST.hex(),
        f"sha256/{base64.b64encode(DIGEST).decode()}",
        DIGEST,
        Pin(DIGEST),
    ],
)
def test_pins_in_their_spellings(text: str) -> None:
    pin = Pin.of(text)
    assert pin == Pin(DIGEST)
    assert str(pin) == f"sha256:{DIGEST.hex()}"
    assert repr(pin) == f"<Pin sha256:{DIGEST.hex()}>"


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:zz", "sha1:" + "00" * 20, "YWJj", b"abc", 5])
def test_wrong_pins(text: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^Pin: .* was given, expected a SHA-256 fingerprint"):
        Pin.of(text)  # type: ignore[arg-type]


def test_a_pre_shared_key_does_not_show_its_key() -> None:
    key = PreSharedKey("me", b"0123456789abcdef")
    assert key.identity == b"me"
    assert repr(key) == "PreSharedKey(identity=b'me')"
    assert key == PreSharedKey(b"me", b"0123456789abcdef")
    assert PreSharedKey.parse(f"me:{base64.b64encode(key.key).decode()}") == key


@pytest.mark.parametrize(
    ("identity", "key", "text"),
    [
        ("", b"0123456789abcdef", "PreSharedKey.identity: '' was given, expected 1 to 61440 octets"),
        ("me", b"secret", "PreSharedKey.key: 6 octets was given, expected 16 to 1024 octets"),
        ("me", "secret-secret-secret", "PreSharedKey.key: str was given, expected 16 to 1024 octets"),
        (5, b"0123456789abcdef", "PreSharedKey.identity: 5 was given"),
    ],
)
def test_wrong_pre_shared_keys(identity: object, key: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}") as caught:
        PreSharedKey(identity, key)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("words", ["", "me", "me:", ":AAAA", "me:!!!"])
def test_wrong_words_for_a_pre_shared_key(words: str) -> None:
    with pytest.raises(ConfigurationError, match="psk: expected IDENTITY:BASE64"):
        PreSharedKey.parse(words)


def test_an_identity_from_files(pki: Pki) -> None:
    files = pki.files(pki.leaf())
    identity = Identity.file(files.certificate, files.key)
    assert identity.loaded.chain == pki.leaf().chain
    assert "server.example" in repr(identity)
    assert "private_key=" not in repr(identity)


def test_an_encrypted_key(pki: Pki) -> None:
    leaf = pki.leaf()
    assert leaf.private_key is not None
    chain, key = certificate_pem(*leaf.chain), private_key_pem(leaf.private_key, password=b"open")
    assert Identity.pem(chain, key, password="open").loaded.chain == leaf.chain
    with pytest.raises(ConfigurationError, match="is encrypted: give its password"):
        Identity.pem(chain, key)
    with pytest.raises(ConfigurationError, match="the password does not open the private key"):
        Identity.pem(chain, key, password="shut")


def test_what_is_wrong_with_an_identity(pki: Pki, tmp_path: Path) -> None:
    leaf, other = pki.files(pki.leaf()), pki.files(pki.client())
    with pytest.raises(ConfigurationError, match=r"Identity\.file: cannot read '.*absent\.pem': No such file"):
        Identity.file(tmp_path / "absent.pem", leaf.key)
    with pytest.raises(ConfigurationError, match="the private key is not that of the first certificate"):
        Identity.file(leaf.certificate, other.key)
    with pytest.raises(ConfigurationError, match="expected a certificate in PEM or DER, but it holds"):
        Identity.file(leaf.key, leaf.key)


def test_an_identity_whose_key_lives_elsewhere(pki: Pki) -> None:
    leaf = pki.leaf()
    chain = certificate_pem(*leaf.chain)
    identity = Identity.external(chain, lambda request: b"signature")
    assert identity.loaded.private_key is None
    assert identity.key_callback is not None
    with pytest.raises(ConfigurationError, match=r"Identity\.external: key_callback: None was given"):
        Identity.external(chain, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="expected a certificate"):
        Identity.external(b"nothing", lambda request: b"")
    with pytest.raises(ConfigurationError, match="needs a key_callback that signs") as caught:
        Identity(identity.loaded)
    assert caught.value.reason is Reason.MISSING_CREDENTIAL
