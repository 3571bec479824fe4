"""What a server makes of ClientHellos: every rule of RFC 8446 §4.1.2, §4.2 and §9.2 by a hello that breaks it."""

from __future__ import annotations

from typing import Any

import pytest

from taps_security.crypto.agreement import Group
from taps_security.protocols.tls import negotiation
from taps_security.protocols.tls.extensions import (
    KeyShareEntry,
    PskIdentity,
    encode_key_shares,
    encode_offered_psks,
    encode_u16_vector,
)
from taps_security.protocols.tls.keys import TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256
from taps_security.protocols.tls.negotiation import (
    HelloFacts,
    check_retried,
    common_suites,
    read_client_hello_untrusted,
    require_certificate_offer,
    select_alpn,
    select_group,
)
from taps_security.protocols.tls.options import TlsOptions
from taps_security.protocols.tls.reasons import Reason
from taps_security.protocols.tls.wire import ClientHello, parse_client_hello_untrusted
from taps_security.stack.errors import PeerIncompatible, PeerMisbehaved, RemoteError

from .pair import Pair


def good(**settings: Any) -> ClientHello:
    pair = Pair(settings).start()
    pair.client.drain()
    return parse_client_hello_untrusted(pair.client.sent[0].data[4:])


def facts(hello: ClientHello) -> HelloFacts:
    return read_client_hello_untrusted(hello.encode())


def changed(extensions: dict[int, bytes | None] | None = None, **fields: Any) -> ClientHello:
    hello = good(alpn=("h2",))
    merged = {**hello.extensions, **(extensions or {})}
    return hello._replace(extensions={kind: body for kind, body in merged.items() if body is not None}, **fields)


ONE_PSK = encode_offered_psks([PskIdentity(b"me")], [bytes(32)])


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (changed({43: None}), Reason.NO_COMMON_VERSION),
        (changed({43: b"\x02\x03\x03"}), Reason.NO_COMMON_VERSION),
        (changed(legacy_version=0x0304), Reason.NO_COMMON_VERSION),
        (changed(compression_methods=b"\0\x01"), Reason.ILLEGAL_PARAMETER),
        (changed(compression_methods=b"\x01"), Reason.ILLEGAL_PARAMETER),
        (changed({13: None}), Reason.MISSING_EXTENSION),
        (changed({10: None}), Reason.MISSING_EXTENSION),
        (changed({51: None}), Reason.MISSING_EXTENSION),
        (changed({51: encode_key_shares([(29, b"x" * 32), (29, b"y" * 32)])}), Reason.ILLEGAL_PARAMETER),
        (changed({51: encode_key_shares([(0x0100, b"x" * 32)])}), Reason.ILLEGAL_PARAMETER),
        (changed({28: b"\0\x3f"}), Reason.ILLEGAL_PARAMETER),
        (changed({45: None, 41: ONE_PSK}), Reason.MISSING_EXTENSION),
        (changed({41: ONE_PSK, 99: b""}), Reason.ILLEGAL_PARAMETER),
        (
            changed({41: encode_offered_psks([PskIdentity(b"a"), PskIdentity(b"b")], [bytes(32)])}),
            Reason.ILLEGAL_PARAMETER,
        ),
    ],
)
def test_hellos_that_break_a_rule(hello: ClientHello, reason: Reason) -> None:
    with pytest.raises(RemoteError) as caught:
        facts(hello)
    assert caught.value.reason is reason
    assert "RFC 8446 §" in str(caught.value)


@pytest.mark.parametrize(
    "extensions",
    [
        {10: b""},
        {10: b"\0\0"},
        {13: b"\0\x01\x04"},
        {16: b"\0\x01\0"},
        {0: b""},
        {28: b"\x40"},
        {43: b"\x01\x03"},
        {44: b"\0\0"},
        {45: b"\0"},
        {47: b"\0\x01x"},
        {51: b"\0\x04\0\x1d\0\0"},
        {41: b"\0\0\0\0"},
    ],
)
def test_hellos_that_do_not_parse(extensions: dict[int, bytes]) -> None:
    with pytest.raises(PeerMisbehaved):
        facts(changed(extensions))  # type: ignore[arg-type]


def test_what_is_read() -> None:
    found = facts(changed({44: b"\0\x01c", 28: b"\xff\xff", 47: b"\0\x04\0\x02ab", 41: ONE_PSK}))
    assert found.server_name == "server.example"
    assert found.alpn == (b"h2",)
    assert found.psk_dhe_ke
    assert found.psks is not None
    assert found.psks.identities == ((b"me", 0),)
    assert found.cookie == b"c"
    assert found.send_limit == 16385  # RFC 8449 §4: a larger limit is for other versions
    assert found.authorities == (b"ab",)
    assert not found.early_data
    assert facts(changed({28: None})).send_limit is None
    assert facts(changed({42: b""})).early_data


def test_what_a_chain_may_be_signed_with_is_what_the_client_says_or_else_what_it_verifies_itself() -> None:
    assert facts(changed({50: b"\0\x02\x04\x01"})).certificate_algorithms == (0x0401,)
    found = facts(changed({50: None}))
    assert found.certificate_algorithms == found.signature_algorithms


def test_psks_alone_need_no_signature_algorithms() -> None:
    found = facts(changed({13: None, 41: ONE_PSK}))
    with pytest.raises(PeerMisbehaved) as caught:
        require_certificate_offer(found)
    assert caught.value.reason is Reason.MISSING_EXTENSION
    require_certificate_offer(facts(good()))


def test_psk_ke_alone_is_not_enough() -> None:
    assert not facts(changed({45: b"\x01\0", 41: ONE_PSK})).psk_dhe_ke


def test_suites_in_our_order() -> None:
    found = facts(changed(cipher_suites=(0x1303, 0x0A0A, 0x1302)))
    assert common_suites(TlsOptions(), found) == (TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256)
    with pytest.raises(PeerIncompatible):
        common_suites(TlsOptions(), facts(changed(cipher_suites=(0x1304,))))


def test_groups() -> None:
    hello = changed({10: encode_u16_vector([0x17, 0x1D, 0x2A2A]), 51: encode_key_shares([(0x1D, b"x" * 32)])})
    options = TlsOptions(groups=(Group.SECP256R1, Group.X25519))
    assert select_group(options, facts(hello)) == (Group.X25519, b"x" * 32)  # a share saves a round trip
    empty = hello._replace(extensions={**hello.extensions, 51: b"\0\0"})
    assert select_group(options, facts(empty)) == (Group.SECP256R1, None)
    with pytest.raises(PeerIncompatible):
        select_group(TlsOptions(groups=(Group.X448,)), facts(hello))


def test_alpn() -> None:
    found = facts(good(alpn=("a", "b")))
    assert select_alpn(("b", "a"), found) == "b"
    assert select_alpn((), found) is None
    assert select_alpn(("b",), facts(good())) is None
    with pytest.raises(PeerIncompatible):
        select_alpn(("c",), found)


def test_the_share_of_a_second_hello() -> None:
    first = facts(good())
    hello = first.hello
    second = facts(hello._replace(extensions={**hello.extensions, 44: b"\0\x01c"}))
    assert check_retried(first, second, Group.X25519, b"c") == first.shares[0].key_exchange
    for group, cookie in ((Group.SECP256R1, b"c"), (Group.X25519, b"d"), (Group.X25519, b"")):
        with pytest.raises(PeerMisbehaved):
            check_retried(first, second, group, cookie)


def test_a_hello_full_of_groups_and_shares_is_read_in_one_pass() -> None:
    """A search of 32,000 groups for each of 13,000 shares took seconds, before anybody was authenticated."""

    class Groups(tuple[int, ...]):
        def __contains__(self, group: object) -> bool:
            raise AssertionError("searched once more for each share")

    shares = tuple(KeyShareEntry(group, b"x") for group in range(100))
    negotiation._check_shares(Groups(range(100)), shares)
    with pytest.raises(PeerMisbehaved, match="0x0064"):
        negotiation._check_shares(Groups(range(100)), (*shares, KeyShareEntry(100, b"x")))
