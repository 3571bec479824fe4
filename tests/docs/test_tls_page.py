"""docs/protocols/tls.md names what there is: every verb of the template, every option, every property."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from taps_security.properties.features import SECURITY_FEATURES
from taps_security.protocols.tls.options import TlsOptions

TEMPLATE = (
    "Connectedness",
    "Data Unit",
    "Connection Object",
    "Initiate",
    "InitiateWithSend",
    "Ready",
    "EstablishmentError",
    "ConnectionError",
    "Listen",
    "ConnectionReceived",
    "Clone",
    "Send",
    "Receive",
    "Close",
    "Abort",
    "CloseGroup",
    "AbortGroup",
)  # RFC 9623 App. A


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / "docs" / "protocols" / "tls.md").read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n")[1].split("\n## ", maxsplit=1)[0]


def test_every_field_of_the_template_is_filled_in_order(page: str) -> None:
    rows = re.findall(r"^\| (\*\*.*?\*\*) \| (.+) \|$", section(page, "How the verbs map"), re.MULTILINE)
    assert all(text.strip() for _, text in rows)
    assert tuple(name for names, _ in rows for name in re.findall(r"\*\*(.*?)\*\*", names)) == TEMPLATE


def test_every_option_has_its_row(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(page, "Options"), re.MULTILINE)
    assert rows == [field.name for field in dataclasses.fields(TlsOptions) if field.init]


def test_every_security_feature_is_answered(page: str) -> None:
    assert set(SECURITY_FEATURES) <= set(re.findall(r"`(\w+)`", section(page, "What it provides")))


def test_the_figure_is_that_of_the_code(page: str, project: Path) -> None:
    room = (project / "taps_security" / "protocols" / "tls" / "__init__.py").read_text(encoding="utf-8")
    figure = page.split("```\n")[1]
    assert "".join(f"    {line}\n" for line in figure.splitlines()) in room
