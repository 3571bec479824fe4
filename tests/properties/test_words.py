"""One form of error for everything that was written wrongly."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

import pytest

from taps_security.properties import words
from taps_security.stack.errors import ConfigurationError, Reason


class Colour(Enum):
    """Two."""

    LIGHT_RED = 1
    BLUE = 2


def refused(text: str, function: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}") as caught:
        function(*arguments)
    assert caught.value.reason is Reason.INVALID_CONFIGURATION


def test_an_error_names_property_value_and_expectation() -> None:
    refused("port: 'http' was given, expected a number", words.refuse, "port", "http", "a number")


def test_octets_and_long_values_are_not_shown() -> None:
    refused("key: 32 octets was given", words.refuse, "key", b"x" * 32, "")
    refused("key: a dict was given", words.refuse, "key", {"private_key": "x" * 44}, "")
    refused("keys: a list was given", words.refuse, "keys", ["a", (1, b"x" * 32)], "")
    refused("pair: ('host', 70000) was given", words.refuse, "pair", ("host", 70_000), "")
    with pytest.raises(ConfigurationError) as caught:
        words.refuse("name", "x" * 1000, "less")
    assert len(str(caught.value)) < 130


def test_lists_of_words() -> None:
    assert words.listed(["a"]) == "'a'"
    assert words.listed(["a", "b", "c"]) == "'a', 'b' or 'c'"
    assert words.closest("relaibility", ["reliability", "order"]) == "; did you mean 'reliability'?"
    assert words.closest("zzz", ["reliability"]) == ""


def test_members() -> None:
    assert words.member("colour", "Light Red", Colour) is Colour.LIGHT_RED
    assert words.member("colour", Colour.BLUE, Colour) is Colour.BLUE
    refused("colour: 'green' was given, expected 'light_red' or 'blue'", words.member, "colour", "green", Colour)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "5", True])
def test_seconds(value: object) -> None:
    refused("timeout:", words.seconds, "timeout", value)
    assert words.seconds("timeout", None) is None
    assert words.seconds("timeout", 5) == 5.0


@pytest.mark.parametrize("value", [-1, 11, 1.0, "1", True])
def test_whole_numbers(value: object) -> None:
    refused("n:", words.whole, "n", value, 0, 10)
    assert words.whole("n", 10, 0, 10) == 10


def test_strings() -> None:
    assert words.strings("alpn", ["a", "b"]) == ("a", "b")
    refused("alpn: 'ab' was given, expected a list of strings", words.strings, "alpn", "ab")
    refused("alpn: '' was given, expected a string that is not empty", words.strings, "alpn", [""])
    refused("alpn: ['a', 'a'] was given, expected each string once", words.strings, "alpn", ["a", "a"])
    refused("alpn: 5 was given", words.strings, "alpn", 5)


def test_booleans_and_texts() -> None:
    assert words.boolean("x", True) is True
    refused("x: 1 was given, expected True or False", words.boolean, "x", 1)
    refused("x: None was given", words.text, "x", None)
