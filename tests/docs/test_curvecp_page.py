"""docs/protocols/curvecp.md names what there is: verbs, options, properties, bounds."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from taps_security.properties.features import SECURITY_FEATURES
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols.curvecp import limits
from taps_security.protocols.curvecp.descriptor import DESCRIPTOR
from taps_security.protocols.curvecp.options import CurveCpOptions
from taps_security.protocols.curvecp.table import KEYS
from tests.docs.test_tls_page import TEMPLATE, section


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / "docs" / "protocols" / "curvecp.md").read_text(encoding="utf-8")


def test_every_field_of_the_template_is_filled_in_order(page: str) -> None:
    rows = re.findall(r"^\| (\*\*.*?\*\*) \| (.+) \|$", section(page, "How the verbs map"), re.MULTILINE)
    assert all(text.strip() for _, text in rows)
    assert tuple(name for names, _ in rows for name in re.findall(r"\*\*(.*?)\*\*", names)) == TEMPLATE


def test_every_option_has_its_row(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(page, "Options"), re.MULTILINE)
    assert rows == [field.name for field in dataclasses.fields(CurveCpOptions)]
    assert {*KEYS, "server_key"} == {*rows}


def test_what_it_provides_is_what_the_descriptor_says(page: str) -> None:
    """A property stands in a row that says no exactly if no configuration has it."""
    provided: set[str] = set()
    configurations = (
        SecurityParameters(options={"curvecp": CurveCpOptions(key=bytes(32), known_clients=[b"k" * 32])}),
        SecurityParameters(options={"curvecp": CurveCpOptions(keep_alive=1.0)}),
    )
    for role in Role:
        for security in configurations:
            told = DESCRIPTOR.provides("1", security, TransportProperties(), role)
            provided |= {name for name, entry in told.items() if entry.value}
    rows = re.findall(r"^\| (.*`.*) \| (.+) \|$", section(page, "What it provides"), re.MULTILINE)
    said = {name: not text.startswith("no") for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(SECURITY_FEATURES) <= set(said)
    assert {name for name, has in said.items() if has} == provided - {"full_checksum_send", "full_checksum_recv"}


def test_the_figure_is_that_of_the_code(page: str, project: Path) -> None:
    room = (project / "taps_security" / "protocols" / "curvecp" / "__init__.py").read_text(encoding="utf-8")
    figure = page.split("```\n")[1]
    assert "".join(f"    {line}\n" for line in figure.splitlines()) in room


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("Limits", f"{limits.SEND_HIGH // 1024} KiB"),
        ("Limits", f"{limits.UNREAD >> 20} MiB"),
        ("Limits", f"{limits.RECEIVE_WINDOW >> 20} MiB"),
        ("Limits", f"{limits.MAX_PIECES:,} pieces"),
        ("Limits", f"{limits.MINUTE:.0f} to {2 * limits.MINUTE:.0f} s"),
        ("Ends", f"{limits.COOKIE_LIFE:.0f} s"),
        ("Ends", f"{limits.LAST_WORDS} times"),
        ("What it provides", f"{limits.REPLAY_WINDOW:,}"),
        ("How the verbs map", f"{limits.CLOSE_WAIT:.0f} s, and gives up"),
        ("How the verbs map", f"{limits.DRAIN:.0f} s"),
        ("How the verbs map", f"{limits.SILENCE:.0f} s"),
    ],
)
def test_bounds_are_those_of_the_code(page: str, title: str, text: str) -> None:
    assert text in section(page, title)


def test_its_name_is_the_one_in_the_api(page: str) -> None:
    assert f"`{DESCRIPTOR.name}/{DESCRIPTOR.versions[0]}`" in page
