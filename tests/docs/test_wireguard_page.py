"""docs/protocols/wireguard.md names what there is: verbs, options, properties, timers, keys of wg-quick's files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from taps_security.properties.features import SECURITY_FEATURES
from taps_security.protocols.wireguard import limits, quick
from taps_security.protocols.wireguard.delivery import NEW_HANDSHAKE_AFTER, Timer
from taps_security.protocols.wireguard.descriptor import DESCRIPTOR
from taps_security.protocols.wireguard.options import DEFAULT_MTU, WireGuardOptions, WireGuardPeer
from tests.docs.test_tls_page import TEMPLATE, section


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / "docs" / "protocols" / "wireguard.md").read_text(encoding="utf-8")


def test_every_field_of_the_template_is_filled_in_order(page: str) -> None:
    rows = re.findall(r"^\| (\*\*.*?\*\*) \| (.+) \|$", section(page, "How the verbs map"), re.MULTILINE)
    assert all(text.strip() for _, text in rows)
    assert tuple(name for names, _ in rows for name in re.findall(r"\*\*(.*?)\*\*", names)) == TEMPLATE


def test_every_option_of_tunnels_and_of_peers_has_its_row(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(page, "Options"), re.MULTILINE)
    fields = [
        field.name for kind in (WireGuardOptions, WireGuardPeer) for field in dataclasses.fields(kind) if field.init
    ]
    assert rows == fields
    assert f"| `mtu` | {DEFAULT_MTU:,} |" in page


def test_every_security_feature_is_answered(page: str) -> None:
    assert set(SECURITY_FEATURES) <= set(re.findall(r"`(\w+)`", section(page, "What it provides")))


def test_the_figure_is_that_of_the_code(page: str, project: Path) -> None:
    room = (project / "taps_security" / "protocols" / "wireguard" / "__init__.py").read_text(encoding="utf-8")
    figure = page.split("```\n")[1]
    assert "".join(f"    {line}\n" for line in figure.splitlines()) in room


def test_every_timer_has_its_row_with_its_time(page: str) -> None:
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| ([^|]+) \|", section(page, "Timers"), re.MULTILINE))
    assert set(rows) == {timer.name for timer in Timer}
    seconds = {
        "RETRANSMIT_HANDSHAKE": limits.REKEY_TIMEOUT,
        "GIVE_UP": limits.REKEY_ATTEMPT_TIME,
        "SEND_KEEPALIVE": limits.KEEPALIVE_TIMEOUT,
        "NEW_HANDSHAKE": NEW_HANDSHAKE_AFTER,
        "ZERO_KEYS": limits.ERASE_AFTER_TIME,
    }
    for name, time in seconds.items():
        assert rows[name].startswith(f"{time:.0f} s"), name
    assert f"{limits.RETRY_JITTER * 1000:.0f} ms" in rows["RETRANSMIT_HANDSHAKE"]


def test_every_key_of_wg_quick_is_named_and_what_is_not_honoured_too(page: str) -> None:
    named = re.findall(r"`([A-Z]\w+)`", page.split("### Files of wg-quick\n")[1].split("\n### ", maxsplit=1)[0])
    known = [key for table in quick._TABLES.values() for key in table]
    assert [name for name in named if name != "WireGuardOptions"] == [*known, *quick._NOT_HONOURED]


@pytest.mark.parametrize(
    "number",
    [
        limits.STAGED,
        limits.HIGH_WATER // 1024,
        limits.LOADED_ABOVE,
        int(limits.SOURCE_RATE),
        limits.SOURCE_BURST,
        limits.MAX_SOURCES,
        int(limits.INITIATION_INTERVAL * 1000),
    ],
)
def test_limits_are_those_of_the_code(page: str, number: int) -> None:
    assert f"{number:,}" in section(page, "Limits")


def test_its_name_is_the_one_in_the_api(page: str) -> None:
    assert f"`{DESCRIPTOR.name}/{DESCRIPTOR.versions[0]}`" in page
