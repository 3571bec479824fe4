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
@pytest.mark.parametrize("good", [1, 2, 3])
async def test_the_good_endpoint_wins_wherever_it_stands(good: int) -> None:
    told = await run_demo(good)
    became = outcomes(told)
    assert became[good - 1] == (GOOD, "won")
    assert dict(became)[SILENT] == "lost"
    assert dict(became)[WRONG] in ({"failed"} if good == 3 else {"lost", "failed"})
    assert told["declared"]["remote_endpoints"][good - 1] == f"{told['winner']['endpoint']} ({GOOD})"
    if good > 1:  # behind a silent endpoint the second attempt starts after 250 ms
        assert max(phase["end"] for phase in told["winner"]["phases"]) > 0.24


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
