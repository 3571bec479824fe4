"""The Internet checksum against published values and against one word at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.inner.checksum import internet_checksum, pseudo_sum, word_sum, word_sums
from tests.inner.support import slow_checksum


def test_the_example_of_rfc_1071() -> None:
    """RFC 1071 §3: the sum of 0001 f203 f4f5 f6f7 is ddf2."""
    octets = bytes.fromhex("0001f203f4f5f6f7")
    assert word_sum(octets) == 0xF2DD  # little-endian
    assert internet_checksum(octets) == (~0xDDF2 & 0xFFFF).to_bytes(2, "big")


def test_the_example_of_rfc_1624() -> None:
    """RFC 1624 §4: a header whose other words sum to cd7a and one of 5555 has dd2f; with 3285 instead, 0000."""
    assert internet_checksum(bytes.fromhex("cd7a5555")) == bytes.fromhex("dd2f")
    assert internet_checksum(bytes.fromhex("cd7a3285")) == bytes.fromhex("0000")


def test_a_header_with_its_checksum_in_place_sums_to_nothing() -> None:
    """The IPv4 header of Wikipedia's article on the Internet checksum."""
    header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    assert word_sum(header) == 0
    assert internet_checksum(header[:10] + header[12:]) == bytes.fromhex("b861")


@pytest.mark.parametrize("length", [*range(40), 239, 240, 241, 242, 719, 720, 721, 1399, 1400, 1439, 1440, 1441, 2881])
@pytest.mark.parametrize("pattern", [b"\xff", b"\x00", b"\x01", b"\xff\x00\x7f", bytes(range(251))])
def test_every_fold_keeps_the_sum(length: int, pattern: bytes) -> None:
    octets = (pattern * length)[:length]
    expected = slow_checksum(octets)
    assert int.from_bytes(internet_checksum(octets), "big") in {expected, expected % 0xFFFF}


@given(st.binary(max_size=6000))
def test_it_agrees_with_one_word_at_a_time(octets: bytes) -> None:
    expected = slow_checksum(octets)
    assert int.from_bytes(internet_checksum(octets), "big") % 0xFFFF == expected % 0xFFFF
    assert word_sum(memoryview(bytearray(octets))) == word_sum(octets)


@given(st.binary(max_size=100), st.binary(max_size=1500))
def test_sums_of_parts_add_up(head: bytes, tail: bytes) -> None:
    head += bytes(len(head) % 2)  # a part that another follows is even
    assert (word_sum(head) + word_sum(tail)) % 0xFFFF == word_sum(head + tail)
    assert internet_checksum(tail, word_sum(head)) == internet_checksum(head + tail)


@given(st.integers(0, 255), st.integers(0, 65_535))
def test_a_pseudo_header_is_a_protocol_and_a_length(protocol: int, length: int) -> None:
    octets = bytes((0, protocol)) + length.to_bytes(2, "big")
    assert pseudo_sum(protocol, length) % 0xFFFF == word_sum(octets)


@pytest.mark.parametrize("length", [0, 1, 64, 719, 720, 721, 722, 1399, 1400, 1438, 1439, 1440, 1441])
def test_a_run_has_the_sums_of_its_members(length: int) -> None:
    run = [(bytes(range(start, 251)) * 10)[:length] for start in (0, 7, 100)] + [b"\xff" * length, bytes(length)]
    for kind in (bytes, bytearray, memoryview):
        assert [found % 0xFFFF for found in word_sums([kind(each) for each in run])] == [word_sum(each) for each in run]
