"""The five preferences."""

from __future__ import annotations

import re

import pytest

from taps_security.properties.preference import Preference, preference
from taps_security.stack.errors import ConfigurationError


@pytest.mark.parametrize("given", ["require", "Require", "REQUIRE", Preference.REQUIRE])
def test_words_and_members(given: object) -> None:
    assert preference("reliability", given) is Preference.REQUIRE


@pytest.mark.parametrize("given", ["no_preference", "no preference", "No-Preference"])
def test_no_preference_in_all_its_spellings(given: str) -> None:
    assert preference("reliability", given) is Preference.NO_PREFERENCE


def test_numbers_of_the_rfc() -> None:
    assert [wish.value for wish in Preference] == [2, 1, 0, -1, -2]
    assert Preference.NO_PREFERENCE.word == "no_preference"


@pytest.mark.parametrize("given", ["must", 2, None, True])
def test_wrong_words(given: object) -> None:
    expected = f"reliability: {given!r} was given, expected 'require', 'prefer', 'no_preference', 'avoid' or 'prohibit'"
    with pytest.raises(ConfigurationError, match=re.escape(expected)):
        preference("reliability", given)
