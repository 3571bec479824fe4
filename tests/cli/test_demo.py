"""`taps demo` is real: who wins depends on where the good endpoint stands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taps_security.cli.demo import run as run_demo
from tests.cli.processes import run

SILENT, WRONG, GOOD = "silent", "wrong certificate", "good"


Became = dict[tuple[str, str], str]


def outcomes(told: dict[str, Any]) -> Became:
    """What became of each stack at each endpoint, by its label."""
    labels = dict(entry.removesuffix(")").split(" (") for entry in told["declared"]["remote_endpoints"])
    return {(one["stack"], labels[one["endpoint"]]): one["outcome"] for one in told["candidates"]}


def winner(told: dict[str, Any]) -> str:
    """The stack that won, at the good endpoint."""
    became = outcomes(told)
    assert len(told["candidates"]) == len(became) == 6
    stack: str = told["winner"]["stack"]
    assert [key for key, outcome in became.items() if outcome == "won"] == [(stack, GOOD)]
    for name in ("tls", "curvecp"):
        assert became[name, SILENT] == "lost"
    return stack


@pytest.mark.both_loops
@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("good", [1, 2, 3])
async def test_the_good_endpoint_wins_wherever_it_stands(good: int) -> None:
    told = await run_demo(good, "udp")
    assert winner(told) == "tls"
    assert outcomes(told)["tls", WRONG] in ({"failed"} if good == 3 else {"lost", "failed"})
    assert told["declared"]["remote_endpoints"][good - 1] == f"{told['winner']['endpoint']} ({GOOD})"
    if good > 1:  # behind a silent endpoint the second attempt starts after 250 ms
        assert max(phase["end"] for phase in told["winner"]["phases"]) > 0.24


@pytest.mark.parametrize("good", [1, 3])
def test_the_other_stack_wins_when_the_first_is_blocked(good: int) -> None:
    ran = run("demo", "--good", good, "--blocked", "tcp", "--json")
    assert (ran.returncode, ran.stderr) == (0, b"")
    told = json.loads(ran.stdout)
    assert winner(told) == "curvecp"
    assert outcomes(told)["tls", GOOD] == "lost"
    assert max(phase["end"] for phase in told["winner"]["phases"]) > 0.24  # it starts 250 ms behind TLS
    ready = {(key["stage"], key["generation"]) for key in told["keys"]}
    assert ready == {("application", 0)}  # no new keys for a connection


def test_the_words_of_the_json() -> None:
    ran = run("demo", "--json")
    assert (ran.returncode, ran.stderr) == (0, b"")
    told = json.loads(ran.stdout)
    assert list(told) == ["declared", "candidates", "winner", "keys", "events", "stacks"]
    assert winner(told) in {"tls", "curvecp"}
    failed = next(one for one in told["candidates"] if one["stack"] == "tls" and one["outcome"] == "failed")
    assert "elsewhere.example" in failed["reason"]
    for candidate in told["candidates"]:
        assert {"stack", "version", "endpoint", "outcome", "reason", "phases"} <= set(candidate)
        assert all(set(phase) == {"name", "start", "end"} for phase in candidate["phases"])


def test_why_each_was_a_candidate() -> None:
    told = json.loads(run("demo", "--json").stdout)
    kept = {choice["stack"]: choice for choice in told["stacks"] if choice["kept"]}
    assert set(kept) == {"tls", "curvecp"}
    for choice in kept.values():
        met = {
            reason["property"]: reason["provides"] for reason in choice["reasons"] if reason["preference"] == "require"
        }
        assert met.keys() >= {*told["declared"]["require"], "reliability"}
        assert all(met.values())
    reasons = {choice["stack"]: [reason["effect"] for reason in choice["reasons"]] for choice in told["stacks"]}
    assert "dropped" in reasons["wireguard"]


def test_the_keys_of_tls_change() -> None:
    told = json.loads(run("demo", "--blocked", "udp", "--json").stdout)
    ready = [key for key in told["keys"] if key["event"] == "ready" and key["stage"] == "application"]
    assert {(key["generation"], key["direction"]) for key in ready} == {
        (generation, direction) for generation in (0, 1) for direction in ("send", "receive")
    }


def test_the_picture() -> None:
    ran = run("demo", "--good", "2", "--blocked", "udp")
    assert (ran.returncode, ran.stderr) == (0, b"")
    text = ran.stdout.decode()
    words = ("declared", "forward_secrecy", "stacks", "meets what was declared", "candidates", "race", "winner: tls")
    for word in (*words, "never started", "keys"):
        assert word in text
