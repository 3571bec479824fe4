"""Declared trust."""

from __future__ import annotations

import re

import pytest

from taps_security.properties.credentials import Pin
from taps_security.properties.trust import Trust
from taps_security.stack.errors import ConfigurationError

PIN = "sha256:" + "ab" * 32


def test_trust_is_combined() -> None:
    both = Trust.system() | Trust.file("ca.pem") | Trust.pem(b"PEM") | Trust.pins(PIN) | Trust.file("ca.pem")
    assert both == Trust(True, ("ca.pem",), (b"PEM",), (Pin.of(PIN),))
    assert repr(both) == f"<Trust system, file 'ca.pem', 1 given in memory, {PIN}>"
    assert repr(Trust()) == "<Trust nobody>"
    assert Trust().__or__("x") is NotImplemented  # type: ignore[arg-type]


def test_text_is_pem_too() -> None:
    assert Trust.pem("PEM") == Trust.pem(b"PEM")


def test_digests_differ() -> None:
    kinds = [Trust(), Trust.system(), Trust.file("a"), Trust.file("b"), Trust.pem("a"), Trust.pins(PIN)]
    assert len({trust.digest for trust in kinds}) == len(kinds)
    assert Trust.file("x").digest == Trust.file("x").digest


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Trust.file(""), "Trust.file: '' was given"),
        (lambda: Trust.pem(b""), "Trust.pem: 0 octets was given, expected certificates in PEM or DER"),
        (Trust.pins, "Trust.pins: () was given, expected at least one pin"),
        (lambda: Trust.pins("sha256:00"), "Pin: 'sha256:00' was given, expected a SHA-256 fingerprint"),
    ],
)
def test_refusals(make: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        make()  # type: ignore[operator]
