from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.parts.codec import MalformedMessage, Reader, vector8, vector16, vector24
from taps_security.stack.errors import PeerMisbehaved, Reason


def test_integers_are_big_endian() -> None:
    reader = Reader(bytes(range(1, 19)))
    assert (reader.u8(), reader.u16(), reader.u24(), reader.u32()) == (1, 0x0203, 0x040506, 0x0708090A)
    assert reader.u64() == 0x0B0C0D0E0F101112
    assert reader.remaining == 0
    reader.check_end()


@pytest.mark.parametrize("method", ["u8", "u16", "u24", "u32", "u64", "vector8", "vector16", "vector24", "u16_vector"])
def test_an_end_that_comes_too_early(method: str) -> None:
    with pytest.raises(MalformedMessage):
        getattr(Reader(b""), method)()


@given(st.binary(max_size=255), st.binary(max_size=300))
def test_vectors_round_trip(first: bytes, second: bytes) -> None:
    reader = Reader(memoryview(vector8(first) + vector16(second) + vector24(first)))
    assert (reader.vector8(), reader.vector16(), reader.vector24()) == (first, second, first)
    reader.check_end()


@given(st.integers(0, 255), st.binary(max_size=20))
def test_a_vector_longer_than_its_message_takes_nothing(length: int, octets: bytes) -> None:
    reader = Reader(bytes((length,)) + octets)
    if length > len(octets):
        with pytest.raises(MalformedMessage):
            reader.vector8()
    else:
        assert reader.vector8() == octets[:length]


def test_bounds_of_vectors() -> None:
    with pytest.raises(MalformedMessage, match="1 to 3"):
        Reader(b"\x00").vector8(1, 3)
    with pytest.raises(MalformedMessage, match="1 to 3"):
        Reader(b"\x04abcd").vector8(1, 3)


def test_u16_vectors() -> None:
    assert Reader(b"\x00\x04\x13\x01\x13\x02").u16_vector() == (0x1301, 0x1302)
    with pytest.raises(MalformedMessage, match="odd"):
        Reader(b"\x00\x03abc").u16_vector()


def test_what_is_left_behind_the_end() -> None:
    reader = Reader(b"abc")
    reader.take(1)
    with pytest.raises(MalformedMessage, match="2 octets are left"):
        reader.check_end()
    assert reader.rest() == b"bc"
    reader.check_end()


def test_the_error_is_the_peers() -> None:
    with pytest.raises(PeerMisbehaved) as caught:
        Reader(b"").u8()
    assert caught.value.reason is Reason.MALFORMED


def test_octets_that_do_not_fit_their_length() -> None:
    with pytest.raises(OverflowError):
        vector8(bytes(256))
    with pytest.raises(OverflowError):
        vector16(bytes(65_536))
