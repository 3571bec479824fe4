from __future__ import annotations

from typing import Any

from taps_security.crypto.agreement import Group
from taps_security.crypto.kdf import HashAlgorithm
from taps_security.protocols.tls.extensions import (
    ExtensionType,
    parse_key_shares_untrusted,
    parse_offered_psks_untrusted,
)
from taps_security.protocols.tls.keys import TLS_AES_128_GCM_SHA256, Transcript
from taps_security.protocols.tls.offer import ClientOffer
from taps_security.protocols.tls.options import ClientConfiguration, TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk
from taps_security.protocols.tls.tickets import Session
from taps_security.protocols.tls.wire import ClientHello, parse_client_hello_untrusted

from .pair import AT, Clock, Randomness

KEY = ExternalPsk(identity=b"me", key=b"k" * 32)
SESSION = Session(
    b"ticket", b"p" * 32, TLS_AES_128_GCM_SHA256, 7200, 7, AT - 2, AT - 2, "server.example", None, (b"der",)
)


def offer(**settings: Any) -> ClientOffer:
    settings = {"server_name": "server.example", "random": Randomness(), "wall_clock": Clock()} | settings
    return ClientOffer(ClientConfiguration(**settings))


def parsed(made: ClientOffer) -> ClientHello:
    return parse_client_hello_untrusted(made.message[4:])


def test_extensions_beside_in_place_of_and_without_ours() -> None:
    made = offer(extensions=((57, b"extra"), (10, b"\0\x02\0\x1d"), (28, None)), extension_order=(57, 51))
    extensions = parsed(made).extensions
    assert list(extensions)[:2] == [57, 51]
    assert extensions[10] == b"\0\x02\0\x1d"
    assert 28 not in extensions
    assert made.offered == frozenset(extensions)


def test_sessions_stand_before_external_keys_and_binders_verify() -> None:
    made = offer(session=SESSION, psks=(KEY,))
    hello = parsed(made)
    assert list(hello.extensions)[-1] == ExtensionType.PRE_SHARED_KEY
    psks = parse_offered_psks_untrusted(hello.extensions[ExtensionType.PRE_SHARED_KEY])
    assert psks.identities[0] == (b"ticket", 2007)
    assert [psk.hash for psk in made.psks] == [HashAlgorithm.SHA256, HashAlgorithm.SHA256, HashAlgorithm.SHA384]
    truncated = made.message[: -psks.binders_size]
    for psk, binder in zip(made.psks, psks.binders, strict=True):
        assert psk.binder(psk.hash.digest(truncated)) == binder


def test_a_retry_keeps_what_fits_and_takes_a_new_share() -> None:
    clock = Clock()
    made = offer(
        session=SESSION, psks=(KEY,), wall_clock=clock, options=TlsOptions(groups=(Group.X25519, Group.SECP256R1))
    )
    first = parsed(made)
    clock.now += 1
    transcript = Transcript.after_retry(HashAlgorithm.SHA256, made.first, b"retry")
    made.retry(TLS_AES_128_GCM_SHA256, Group.SECP256R1, b"cookie", transcript)
    second = parsed(made)
    assert made.first != made.message
    assert (first.random, first.session_id) == (second.random, second.session_id)
    (share,) = parse_key_shares_untrusted(second.extensions[ExtensionType.KEY_SHARE])
    assert share.group == Group.SECP256R1
    psks = parse_offered_psks_untrusted(second.extensions[ExtensionType.PRE_SHARED_KEY])
    assert len(psks.identities) == 2  # the SHA-384 import is gone
    assert psks.identities[0].obfuscated_ticket_age == 3007
    truncated = made.message[: -psks.binders_size]
    assert made.psks[0].binder(transcript.plus(truncated).digest()) == psks.binders[0]


def test_padding_goes_into_the_second_hello_alone() -> None:
    made = offer(retry_extensions=((21, bytes(9)),), options=TlsOptions(groups=(Group.X25519, Group.SECP256R1)))
    assert 21 not in parsed(made).extensions
    transcript = Transcript.after_retry(HashAlgorithm.SHA256, made.first, b"retry")
    made.retry(TLS_AES_128_GCM_SHA256, Group.SECP256R1, b"", transcript)
    assert parsed(made).extensions[21] == bytes(9)


def test_sessions_of_another_name_are_left_out() -> None:
    assert offer(session=SESSION, server_name="other.example").psks == []
