from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.crypto.kdf import HashAlgorithm
from taps_security.protocols.tls.psk import (
    ExternalPsk,
    ImportedIdentity,
    accept_external,
    import_psk,
    offer_external,
)
from taps_security.stack.errors import ConfigurationError

HASHES = (HashAlgorithm.SHA256, HashAlgorithm.SHA384)


# ------------------------------------------------- RFC 9258 once more, from its text and the standard library alone
def independent_import(key: bytes, identity: bytes, context: bytes, kdf: int, name: str) -> tuple[bytes, bytes]:
    """(ImportedIdentity, ipskx): `name` is the EPSK's own hash, `kdf` 1 for HKDF_SHA256, 2 for HKDF_SHA384."""
    length = {1: 32, 2: 48}[kdf]
    size = hashlib.new(name).digest_size
    imported = len(identity).to_bytes(2, "big") + identity + len(context).to_bytes(2, "big") + context
    imported += b"\x03\x04" + kdf.to_bytes(2, "big")
    epskx = hmac.new(bytes(size), key, name).digest()
    label = b"tls13 derived psk"
    digest = hashlib.new(name, imported).digest()
    info = length.to_bytes(2, "big") + bytes((len(label),)) + label + bytes((len(digest),)) + digest
    output, previous, counter = b"", b"", 1
    while len(output) < length:
        previous = hmac.new(epskx, previous + info + bytes((counter,)), name).digest()
        output += previous
        counter += 1
    return imported, output[:length]


def independent_binder(psk: bytes, name: str, label: bytes, transcript_hash: bytes) -> bytes:
    size = hashlib.new(name).digest_size

    def expand(secret: bytes, what: bytes, context: bytes) -> bytes:
        full = b"tls13 " + what
        info = size.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((len(context),)) + context
        return hmac.new(secret, info + b"\x01", name).digest()

    early = hmac.new(bytes(size), psk, name).digest()
    key = expand(early, label, hashlib.new(name).digest())
    return hmac.new(expand(key, b"finished", b""), transcript_hash, name).digest()


@given(
    st.binary(min_size=16, max_size=64),
    st.binary(min_size=1, max_size=40),
    st.binary(max_size=40),
    st.sampled_from(HASHES),
)
def test_the_importer_against_an_independent_derivation(
    key: bytes, identity: bytes, context: bytes, own: HashAlgorithm
) -> None:
    psk = ExternalPsk(identity=identity, key=key, context=context, hash=own)
    offers = offer_external([psk], HASHES)
    assert [offer.hash for offer in offers] == list(HASHES)
    for offer, kdf in zip(offers, (1, 2), strict=True):
        imported, expected = independent_import(key, identity, context, kdf, own.hashlib_name)
        assert offer.identity == imported
        found = ImportedIdentity.parse_untrusted(imported)
        assert found == (identity, context, 0x0304, kdf)
        assert import_psk(psk, found) == expected
        digest = bytes(offer.hash.size)
        assert offer.binder(digest) == independent_binder(expected, offer.hash.hashlib_name, b"imp binder", digest)


def test_binders_of_plain_keys() -> None:
    (offer,) = offer_external([ExternalPsk(identity=b"me", key=b"k" * 32, imported=False)], HASHES)
    assert offer.identity == b"me"
    assert offer.binder(bytes(32)) == independent_binder(b"k" * 32, "sha256", b"ext binder", bytes(32))
    assert repr(offer) == "<OfferedPsk ext binder>"


def test_plain_keys_are_for_their_hash() -> None:
    psk = ExternalPsk(identity=b"me", key=b"k" * 48, imported=False, hash=HashAlgorithm.SHA384)
    assert offer_external([psk], [HashAlgorithm.SHA256]) == []
    assert accept_external(psk, b"me", [HashAlgorithm.SHA256]) is None
    assert accept_external(psk, b"me", HASHES) is not None
    assert accept_external(psk, b"you", HASHES) is None


def test_a_server_accepts_what_a_client_offers() -> None:
    psk = ExternalPsk(identity=b"me", key=b"k" * 32, context=b"here")
    for offer in offer_external([psk], HASHES):
        accepted = accept_external(psk, offer.identity, HASHES)
        assert accepted is not None
        assert accepted.binder(bytes(offer.hash.size)) == offer.binder(bytes(offer.hash.size))
        other = ExternalPsk(identity=b"me", key=b"k" * 32, context=b"elsewhere")
        assert accept_external(other, offer.identity, HASHES) is None
    (first, second) = offer_external([psk], HASHES)
    assert accept_external(psk, second.identity, [HashAlgorithm.SHA256]) is None
    assert accept_external(psk, first.identity[:-1], HASHES) is None


@pytest.mark.parametrize(
    "identity",
    [
        b"",
        b"me",
        ImportedIdentity(b"me", b"", 0x0303, 1).encode(),  # another protocol
        ImportedIdentity(b"me", b"", 0x0304, 3).encode(),  # an unknown KDF
        ImportedIdentity(b"me", b"", 0x0304, 1).encode() + b"\0",
        b"\0\0\0\0\x03\x04\0\x01",  # an empty external identity
    ],
)
def test_identities_that_are_not_imported(identity: bytes) -> None:
    assert ImportedIdentity.parse_untrusted(identity) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"identity": b""},
        {"identity": b"x" * 62_000},
        {"key": b"short"},
        {"key": bytes(2000)},
        {"context": bytes(2000)},
        {"hash": HashAlgorithm.SHA512},
    ],
)
def test_keys_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"psk .*expected"):
        ExternalPsk(**({"identity": b"me", "key": b"k" * 32} | wrong))  # type: ignore[arg-type]


def test_keys_stay_out_of_repr() -> None:
    assert "secret" not in repr(ExternalPsk(identity=b"me", key=b"secret octets!!!"))
