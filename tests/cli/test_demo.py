"""`taps demo` is real: who wins depends on where the good endpoint stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taps_security.cli.demo import run as run_demo
from tests.cli.processes import run

SILENT, WRONG, GOOD = "silent", "wrong certificate", "good"


def outcomes(told: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, outcome) of each endpoint, in the order of their positions."""
    labels = dict(entry.removesuffix(")").split(" (") for entry in told["declared"]["remote_endpoints"])
    became = {candidate["endpoint"]: candidate["outcome"] for candidate in told["candidates"]}
    return [(label, became[place]) for place, label in labels.items()]


@pytest.mark.both_loops
@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize(
    ("good", "expected"),
    [
        (1, [(GOOD, "won"), (SILENT, "lost"), (WRONG, "lost")]),
        (2, [(SILENT, "lost"), (GOOD, "won"), (WRONG, "lost")]),
        (3, [(SILENT, "lost"), (WRONG, "failed"), (GOOD, "won")]),
    ],
)
async def test_the_good_endpoint_wins_wherever_it_stands(good: int, expected: list[tuple[str, str]]) -> None:
    told = await run_demo(good)
    assert outcomes(told) == expected
    place, _, label = told["declared"]["remote_endpoints"][good - 1].partition(" ")
    assert (told["winner"]["endpoint"], label) == (place, "(good)")
    ends = max(phase["end"] for phase in told["winner"]["phases"])
    assert (ends > 0.24) == (good > 1)  # behind a silent endpoint the second attempt starts after 250 ms


def test_the_words_of_the_json() -> None:
    ran = run("demo", "--json")
    assert (ran.returncode, ran.stderr) == (0, b"")
    told = json.loads(ran.stdout)
    assert list(told) == ["declared", "candidates", "winner", "keys", "events"]
    failed = next(candidate for candidate in told["candidates"] if candidate["outcome"] == "failed")
    assert "elsewhere.example" in failed["reason"]
    for candidate in told["candidates"]:
        assert {"stack", "version", "endpoint", "outcome", "reason", "phases"} <= set(candidate)
        assert all(set(phase) == {"name", "start", "end"} for phase in candidate["phases"])
    ready = [key for key in told["keys"] if key["event"] == "ready" and key["stage"] == "application"]
    assert {(key["generation"], key["direction"]) for key in ready} == {
        (generation, direction) for generation in (0, 1) for direction in ("send", "receive")
    }


def test_the_picture() -> None:
    ran = run("demo", "--good", "2")
    assert (ran.returncode, ran.stderr) == (0, b"")
    text = ran.stdout.decode()
    for word in ("declared", "forward_secrecy", "candidates", "race", "winner: tls/1.3", "never started", "keys"):
        assert word in text
