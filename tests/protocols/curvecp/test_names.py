"""Server names in DNS form, and keys in labels."""

from __future__ import annotations

import os

import pytest

from taps_security.protocols.curvecp.names import encode_name, key_label, key_of_name, name_text
from taps_security.stack.errors import ConfigurationError

from .trace import PACKETS, SERVER_NAME


def test_the_traces_name() -> None:
    encoded = encode_name(SERVER_NAME)
    assert encoded == b"\x06server\x07example\x03org".ljust(256, b"\0")
    assert encoded == PACKETS[2].plaintext[96:352]
    assert name_text(encoded) == SERVER_NAME


def test_dots_too_many_are_skipped() -> None:
    assert encode_name("..server...example.org.") == encode_name("server.example.org")
    assert encode_name("") == bytes(256)
    assert name_text(bytes(256)) == ""


def test_names_that_cannot_be() -> None:
    encode_name("a" * 63)
    encode_name(".".join(["a" * 63] * 3 + ["a" * 61]))
    for name in ("a" * 64, ".".join(["a" * 63] * 4), "sërver.example"):
        with pytest.raises(ConfigurationError, match="CurveCP server name"):
            encode_name(name)


def test_what_is_no_name_stands_in_hex() -> None:
    assert name_text(b"\x40" + b"a" * 255) == (b"\x40" + b"a" * 255).hex()
    assert name_text(b"\x05abc") == b"\x05abc".hex()


def test_digits_are_dnscurves() -> None:
    """dnscurve.org's example: the octets 0x64 0x88 begin with the digits 4321."""
    assert key_label(b"\x64\x88" + bytes(30)).startswith("uz54321")


def test_keys_in_labels_come_back() -> None:
    for _ in range(100):
        key = os.urandom(31) + bytes((os.urandom(1)[0] & 0x7F,))
        label = key_label(key)
        assert len(label) == 54
        assert key_of_name(label) == key
        assert key_of_name(f"www.{label.upper()}.example.org") == key


def test_names_without_a_key() -> None:
    label = key_label(os.urandom(32))
    for name in ("", "server.example.org", label[:-1], label + "0", "uz6" + label[3:], label[:-1] + "a", "uz5"):
        assert key_of_name(name) is None


@pytest.mark.parametrize("octet", [0x00, 0x07, 0x1B, 0x7F, 0x9B, 0xFF])
def test_a_name_that_could_steer_a_terminal_stands_in_hex(octet: int) -> None:
    encoded = bytes((3, 0x61, octet, 0x62)).ljust(256, b"\0")
    assert name_text(encoded) == encoded.hex()
