"""Messages and octets: round trips, every length, every type."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.wireguard.wire import (
    COOKIE_REPLY,
    INITIATION,
    RESPONSE,
    TRANSPORT,
    TRANSPORT_HEADER,
    TRANSPORT_HEADER_SIZE,
    CookieReply,
    Initiation,
    Message,
    Response,
    message_type_untrusted,
    parse_untrusted,
)


def octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


MESSAGES = st.one_of(
    st.builds(Initiation, octets(4), octets(32), octets(48), octets(28), octets(16), octets(16)),
    st.builds(Response, octets(4), octets(4), octets(32), octets(16), octets(16), octets(16)),
    st.builds(CookieReply, octets(4), octets(24), octets(32)),
)
SIZES = {Initiation: (INITIATION, 148), Response: (RESPONSE, 92), CookieReply: (COOKIE_REPLY, 64)}


@given(MESSAGES)
def test_messages_come_back_as_they_were(message: Message) -> None:
    encoded = message.encode()
    kind, size = SIZES[type(message)]
    assert len(encoded) == size
    assert encoded[:4] == bytes((kind, 0, 0, 0))
    assert parse_untrusted(encoded) == message
    assert parse_untrusted(memoryview(encoded)) == message
    assert message_type_untrusted(encoded) == kind


def test_fields_stand_where_the_paper_has_them() -> None:
    fields = [bytes((number,)) * size for number, size in enumerate((4, 32, 48, 28, 16, 16), 1)]
    assert Initiation(*fields).encode() == b"\1\0\0\0" + b"".join(fields)
    fields = [bytes((number,)) * size for number, size in enumerate((4, 4, 32, 16, 16, 16), 1)]
    assert Response(*fields).encode() == b"\2\0\0\0" + b"".join(fields)
    fields = [bytes((number,)) * size for number, size in enumerate((4, 24, 32), 1)]
    assert CookieReply(*fields).encode() == b"\3\0\0\0" + b"".join(fields)
    assert TRANSPORT_HEADER.pack(TRANSPORT, b"abcd", 7) == b"\4\0\0\0abcd\7\0\0\0\0\0\0\0"
    assert TRANSPORT_HEADER.size == TRANSPORT_HEADER_SIZE


@pytest.mark.parametrize("kind", range(7))
def test_each_type_has_its_length(kind: int) -> None:
    right = {INITIATION: 148, RESPONSE: 92, COOKIE_REPLY: 64}
    for size in range(201):
        data = (bytes((kind, 0, 0, 0)) + os.urandom(200))[:size]
        fits = size == right.get(kind) or (kind == TRANSPORT and size >= 32)
        assert message_type_untrusted(data) == (kind if fits else 0)
        if not fits or kind == TRANSPORT:
            with pytest.raises(MalformedMessage):
                parse_untrusted(data)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_reserved_octets_are_zero(at: int) -> None:
    for kind, size in ((INITIATION, 148), (RESPONSE, 92), (COOKIE_REPLY, 64), (TRANSPORT, 32)):
        data = bytearray(size)
        data[0], data[at] = kind, 1
        assert message_type_untrusted(bytes(data)) == 0
        with pytest.raises(MalformedMessage):
            parse_untrusted(bytes(data))


@pytest.mark.parametrize("size", range(201))
def test_noise_of_every_length(size: int) -> None:
    for _ in range(5):
        noise = os.urandom(size)
        try:
            message = parse_untrusted(noise)
        except MalformedMessage:
            continue
        assert message.encode() == noise
