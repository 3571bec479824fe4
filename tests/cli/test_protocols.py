"""`taps protocols`: who qualifies, and why the others do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taps_security.cli.main import run
from taps_security.protocols import registry


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """The candidates, from the JSON."""
    assert run(["protocols", "--json", *arguments]) == 0
    words = json.loads(capsys.readouterr().out)
    assert list(words) == ["candidates"]
    found: list[dict[str, Any]] = words["candidates"]
    return found


def of_tls(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The candidate that is TLS, which alone is allowed."""
    first, *others = asked(capsys, *arguments, "--stack", "tls")
    assert first["stack"] == "tls"
    assert not any(entry["kept"] for entry in others)
    return first


def test_every_protocol_is_listed_with_the_words_of_the_design(capsys: pytest.CaptureFixture[str]) -> None:
    candidates = asked(capsys)
    assert {entry["stack"] for entry in candidates} == set(registry.names())
    for entry in candidates:
        assert {"stack", "version", "kept", "rank", "reasons"} <= set(entry)
        for reason in entry["reasons"]:
            assert {"property", "preference", "provides", "effect"} <= set(reason)


def test_what_is_required_and_prohibited_drops(capsys: pytest.CaptureFixture[str]) -> None:
    kept = of_tls(capsys, "--require", "key_update")
    assert (kept["kept"], kept["rank"]) == (True, 0)
    dropped = of_tls(capsys, "--require", "zero_rtt")
    assert (dropped["kept"], dropped["rank"]) == (False, None)
    reason = next(entry for entry in dropped["reasons"] if entry["effect"] == "dropped")
    assert (reason["property"], reason["preference"], reason["provides"]) == ("zero_rtt", "require", False)
    dropped = of_tls(capsys, "--prohibit", "key_export")
    assert not dropped["kept"]


def test_transport_properties_are_properties_too(capsys: pytest.CaptureFixture[str]) -> None:
    dropped = of_tls(capsys, "--require", "preserveMsgBoundaries")
    assert [reason["property"] for reason in dropped["reasons"] if reason["effect"] == "dropped"] == [
        "preserve_msg_boundaries"
    ]


def test_what_is_preferred_ranks(capsys: pytest.CaptureFixture[str]) -> None:
    kept = of_tls(capsys, "--prefer", "key_update", "--avoid", "key_export")
    effects = {reason["property"]: reason["effect"] for reason in kept["reasons"]}
    assert effects["key_update"] == "ranked up"
    assert effects["key_export"] == "ranked down"


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["protocols", "--require", "zero_rtt"]) == 0
    said = capsys.readouterr().out
    assert "tls/1.3" in said
    assert "dropped: does not provide zero_rtt" in said
