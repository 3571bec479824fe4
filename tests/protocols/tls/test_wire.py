from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.tls import wire

extensions = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=40), max_size=8)
random32 = st.binary(min_size=32, max_size=32)


def body_of(message: bytes, kind: wire.HandshakeType) -> bytes:
    assert message[0] == kind
    assert int.from_bytes(message[1:4], "big") == len(message) - 4
    return message[4:]


client_hellos = st.builds(
    wire.ClientHello,
    random32,
    st.binary(max_size=32),
    st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=20).map(tuple),
    extensions,
    st.integers(0, 0xFFFF),
    st.binary(min_size=1, max_size=4),
)
server_hellos = st.builds(
    wire.ServerHello,
    random32,
    st.binary(max_size=32),
    st.integers(0, 0xFFFF),
    extensions,
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
)


@given(client_hellos)
def test_client_hello(hello: wire.ClientHello) -> None:
    parsed = wire.parse_client_hello_untrusted(body_of(hello.encode(), wire.HandshakeType.CLIENT_HELLO))
    assert parsed == hello
    assert list(parsed.extensions) == list(hello.extensions)


@given(server_hellos)
def test_server_hello(hello: wire.ServerHello) -> None:
    assert wire.parse_server_hello_untrusted(body_of(hello.encode(), wire.HandshakeType.SERVER_HELLO)) == hello
    assert not hello.is_retry
    assert hello._replace(random=wire.HELLO_RETRY_REQUEST_RANDOM).is_retry


@given(extensions)
def test_encrypted_extensions(block: wire.Extensions) -> None:
    assert wire.parse_encrypted_extensions_untrusted(wire.encode_extensions(block)) == block


@given(st.binary(max_size=255), extensions)
def test_certificate_request(context: bytes, block: wire.Extensions) -> None:
    request = wire.CertificateRequest(context, block)
    body = body_of(request.encode(), wire.HandshakeType.CERTIFICATE_REQUEST)
    assert wire.parse_certificate_request_untrusted(body) == request


@given(st.binary(max_size=255), st.lists(st.tuples(st.binary(min_size=1, max_size=300), extensions), max_size=4))
def test_certificate(context: bytes, entries: list[tuple[bytes, wire.Extensions]]) -> None:
    message = wire.Certificate(context, tuple(der for der, _ in entries), tuple(block for _, block in entries))
    body = body_of(message.encode(), wire.HandshakeType.CERTIFICATE)
    assert wire.parse_certificate_untrusted(body) == message


def test_a_certificate_message_is_made_once() -> None:
    chain = (b"leaf", b"issuer")
    assert wire.encode_certificate(b"", chain) is wire.encode_certificate(b"", (b"leaf", b"issuer"))
    assert wire.parse_certificate_untrusted(wire.encode_certificate(b"", chain)[4:]).chain == chain


@given(st.integers(0, 0xFFFF), st.binary(max_size=600))
def test_certificate_verify(algorithm: int, signature: bytes) -> None:
    message = wire.CertificateVerify(algorithm, signature)
    body = body_of(message.encode(), wire.HandshakeType.CERTIFICATE_VERIFY)
    assert wire.parse_certificate_verify_untrusted(body) == message


@given(
    st.builds(
        wire.NewSessionTicket,
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFFFFF),
        st.binary(max_size=255),
        st.binary(min_size=1, max_size=500),
        extensions,
    )
)
def test_new_session_ticket(ticket: wire.NewSessionTicket) -> None:
    body = body_of(ticket.encode(), wire.HandshakeType.NEW_SESSION_TICKET)
    assert wire.parse_new_session_ticket(body) == ticket


def test_key_update() -> None:
    assert wire.parse_key_update(b"\x01") == wire.KeyUpdateRequest.REQUESTED
    assert wire.parse_key_update(b"\x07") == 7
    for bad in (b"", b"\x00\x00"):
        with pytest.raises(MalformedMessage):
            wire.parse_key_update(bad)


def test_hellos_of_tls_1_2_have_no_extensions() -> None:
    hello = wire.ClientHello(bytes(32), b"", (0x002F,), {}).encode()[4:-2]
    assert wire.parse_client_hello_untrusted(hello).extensions == {}
    answer = wire.ServerHello(bytes(32), b"", 0x002F, {}).encode()[4:-2]
    assert wire.parse_server_hello_untrusted(answer).extensions == {}


def test_an_extension_may_come_once() -> None:
    block = b"\x00\x0a\x00\x01a" * 2
    with pytest.raises(wire.DuplicateExtension, match="extension 10 comes twice"):
        wire.parse_extensions_untrusted(block)


SAMPLES: list[tuple[Callable[[bytes], object], bytes]] = [
    (
        wire.parse_client_hello_untrusted,
        wire.ClientHello(bytes(32), b"s" * 32, (1, 2), {1: b"a", 2: b""}).encode()[4:],
    ),
    (wire.parse_server_hello_untrusted, wire.ServerHello(bytes(32), b"s" * 32, 1, {1: b"a", 2: b""}).encode()[4:]),
    (wire.parse_encrypted_extensions_untrusted, wire.encode_extensions({1: b"a", 2: b"bc"})),
    (wire.parse_certificate_request_untrusted, wire.CertificateRequest(b"c", {13: b"ab"}).encode()[4:]),
    (wire.parse_certificate_untrusted, wire.Certificate(b"c", (b"der", b"der2"), ({}, {5: b"x"})).encode()[4:]),
    (wire.parse_certificate_verify_untrusted, wire.CertificateVerify(0x0403, b"signature").encode()[4:]),
    (wire.parse_new_session_ticket, wire.NewSessionTicket(1, 2, b"n", b"ticket", {42: b"abcd"}).encode()[4:]),
]


@pytest.mark.parametrize(("parse", "body"), SAMPLES)
def test_truncations_and_tails(parse: Callable[[bytes], object], body: bytes) -> None:
    parse(body)
    # Hellos may end before their extensions: TLS 1.2 had none.
    allowed = {35 + 32 + 6 + 2} if parse is wire.parse_client_hello_untrusted else {35 + 32 + 3}
    for length in range(len(body)):
        if length in allowed and "hello" in parse.__name__:
            parse(body[:length])
            continue
        with pytest.raises(MalformedMessage):
            parse(body[:length])
    with pytest.raises(MalformedMessage):
        parse(body + b"\0")


@pytest.mark.parametrize(("parse", "body"), SAMPLES)
@given(data=st.data())
def test_mutations_raise_nothing_else(parse: Callable[[bytes], object], body: bytes, data: st.DataObject) -> None:
    mutated = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        parse(bytes(mutated))
