from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.tls import extensions as ext

u16 = st.integers(0, 0xFFFF)


@given(u16)
def test_one_value(value: int) -> None:
    assert ext.parse_u16_untrusted(ext.encode_u16(value)) == value


@given(st.lists(u16, min_size=1, max_size=50))
def test_vectors_of_values(values: list[int]) -> None:
    assert ext.parse_u16_vector_untrusted(ext.encode_u16_vector(values)) == tuple(values)


@given(st.from_regex(r"[a-z0-9.-]{1,200}", fullmatch=True))
def test_server_name(name: str) -> None:
    assert ext.parse_server_name_untrusted(ext.encode_server_name(name)) == name


def test_server_names_that_are_none() -> None:
    assert ext.parse_server_name_untrusted(b"\x00\x05\x07\x00\x02ab") == ""  # an unknown name type
    twice = b"\x00\x08" + b"\x00\x00\x01a" * 2
    for bad in (twice, b"\x00\x04\x00\x00\x01\xff", b"\x00\x04\x00\x00\x01\x00", b"\x00\x00"):
        with pytest.raises(MalformedMessage):
            ext.parse_server_name_untrusted(bad)
    assert ext.parse_server_name_untrusted(ext.encode_server_name("EXAMPLE.org")) == "example.org"


@given(st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=5))
def test_alpn(names: list[bytes]) -> None:
    assert ext.parse_alpn_untrusted(ext.encode_alpn(names)) == tuple(names)


@given(st.lists(st.tuples(u16, st.binary(min_size=1, max_size=100)), max_size=5))
def test_key_shares(shares: list[tuple[int, bytes]]) -> None:
    assert ext.parse_key_shares_untrusted(ext.encode_key_shares(shares)) == tuple(shares)
    for group, public in shares:
        assert ext.parse_key_share_untrusted(ext.encode_key_share(group, public)) == (group, public)


identities = st.builds(ext.PskIdentity, st.binary(min_size=1, max_size=80), st.integers(0, 0xFFFFFFFF))


@given(st.lists(st.tuples(identities, st.binary(min_size=32, max_size=64)), min_size=1, max_size=4))
def test_pre_shared_keys(entries: list[tuple[ext.PskIdentity, bytes]]) -> None:
    names, binders = [name for name, _ in entries], [binder for _, binder in entries]
    body = ext.encode_offered_psks(names, binders)
    parsed = ext.parse_offered_psks_untrusted(body)
    assert parsed == (tuple(names), tuple(binders), 2 + sum(1 + len(binder) for binder in binders))
    assert body[: -parsed.binders_size] + b"" == body[: len(body) - parsed.binders_size]


def test_small_bodies() -> None:
    assert ext.parse_supported_versions_untrusted(b"\x04\x03\x04\x03\x03") == (0x0304, 0x0303)
    assert ext.parse_psk_modes_untrusted(b"\x02\x00\x01") == b"\x00\x01"
    assert ext.parse_cookie_untrusted(b"\x00\x03abc") == b"abc"
    assert ext.parse_authorities_untrusted(b"\x00\x08\x00\x02ab\x00\x02cd") == (b"ab", b"cd")


SAMPLES: list[tuple[Callable[[bytes], object], bytes]] = [
    (ext.parse_u16_untrusted, b"\x03\x04"),
    (ext.parse_u16_vector_untrusted, ext.encode_u16_vector([1, 2, 3])),
    (ext.parse_supported_versions_untrusted, b"\x04\x03\x04\x03\x03"),
    (ext.parse_psk_modes_untrusted, b"\x02\x00\x01"),
    (ext.parse_cookie_untrusted, b"\x00\x03abc"),
    (ext.parse_authorities_untrusted, b"\x00\x08\x00\x02ab\x00\x02cd"),
    (ext.parse_server_name_untrusted, ext.encode_server_name("server.example")),
    (ext.parse_alpn_untrusted, ext.encode_alpn([b"h2", b"http/1.1"])),
    (ext.parse_key_shares_untrusted, ext.encode_key_shares([(29, b"x" * 32), (23, b"y" * 65)])),
    (ext.parse_key_share_untrusted, ext.encode_key_share(29, b"x" * 32)),
    (
        ext.parse_offered_psks_untrusted,
        ext.encode_offered_psks([ext.PskIdentity(b"one", 5), ext.PskIdentity(b"two", 6)], [b"b" * 32, b"c" * 48]),
    ),
]


@pytest.mark.parametrize(("parse", "body"), SAMPLES)
def test_truncations_and_tails(parse: Callable[[bytes], object], body: bytes) -> None:
    parse(body)
    for wrong in [*(body[:length] for length in range(len(body))), body + b"\0"]:
        with pytest.raises(MalformedMessage):
            parse(wrong)


@pytest.mark.parametrize(("parse", "body"), SAMPLES)
@given(octets=st.binary(max_size=100))
def test_any_octets_raise_nothing_else(parse: Callable[[bytes], object], body: bytes, octets: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        parse(octets)
