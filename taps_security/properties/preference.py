"""RFC 9622 §6.2's five preferences."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, TypeAlias

from .words import member


class Preference(IntEnum):
    """How much an application wants a property. Require and Prohibit filter, Prefer and Avoid order."""

    REQUIRE = 2
    PREFER = 1
    NO_PREFERENCE = 0
    AVOID = -1
    PROHIBIT = -2

    @property
    def word(self) -> str:
        """The preference in lower case, as the command and `explain()` show it."""
        return self.name.lower()


PreferenceWord: TypeAlias = Literal["require", "prefer", "no_preference", "avoid", "prohibit"]
AnyPreference: TypeAlias = Preference | PreferenceWord


def preference(name: str, value: object) -> Preference:
    """`value` (a Preference or its word) for the property `name`; ConfigurationError."""
    return member(name, value, Preference)
