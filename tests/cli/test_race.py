"""`taps race`: what the JSON holds, what the picture shows, and a race that nobody wins."""

from __future__ import annotations

import io
import json
import socket

from rich.console import Console

from taps_security.cli.race import show, story
from taps_security.connection.racing import RaceReport
from tests.cli.processes import identity, one_line, run, serving, trusting
from tests.support.pki import Pki


def test_the_words_of_the_json(pki: Pki) -> None:
    with serving(*identity(pki)) as server:
        ran = run("race", server.place, *trusting(pki), "--require", "key_update", "--json")
        assert (ran.returncode, ran.stderr) == (0, b"")
        told = json.loads(ran.stdout)
        assert list(told) == ["declared", "candidates", "winner", "keys", "events"]
        assert told["declared"]["require"] == ["key_update"]
        (candidate,) = told["candidates"]
        assert candidate["endpoint"] == server.place
    assert (candidate["stack"], candidate["version"], candidate["outcome"]) == ("tls", "1.3", "won")
    assert told["winner"] == candidate
    assert [phase["name"] for phase in candidate["phases"]] == ["connect", "handshake"]
    assert all(0 <= phase["start"] <= phase["end"] < 10 for phase in candidate["phases"])
    assert set(told["keys"][0]) == {"time", "event", "stage", "generation", "direction", "limits"}
    assert all(0 <= entry["time"] < 10 for entry in told["keys"] + told["events"])
    assert "HandshakeComplete" in [event["event"] for event in told["events"]]


def test_the_picture(pki: Pki) -> None:
    with serving(*identity(pki)) as server:
        ran = run("race", server.place, *trusting(pki), "--explain")
        text = ran.stdout.decode()
        assert f"winner: tls/1.3 to {server.place}" in text
    for word in ("candidates", "won", "✓", "handshake", "keys", "HandshakeComplete"):
        assert word in text
    assert "rank" in ran.stderr.decode()


def test_nobody_wins(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    ran = run("race", place, *trusting(pki), "--json")
    assert ran.returncode == 1
    assert "refused" in one_line(ran.stderr)
    told = json.loads(ran.stdout)
    assert told["winner"] is None
    assert told["candidates"][0]["outcome"] == "failed"
    assert "refused" in told["candidates"][0]["reason"]
    assert told["keys"] == []


def test_a_race_without_candidates_shows_nothing(pki: Pki) -> None:
    ran = run("race", "127.0.0.1:1", *trusting(pki), "--require", "zero_rtt")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert "zero_rtt" in one_line(ran.stderr)


def test_a_story_can_be_shown_on_any_screen() -> None:
    file = io.StringIO()
    told = story({"require": ["a"]}, RaceReport(), None, 0.0)
    assert told == {"declared": {"require": ["a"]}, "candidates": [], "winner": None, "keys": [], "events": []}
    show(told, as_words=False, screen=Console(file=file, width=60))
    assert "require" in file.getvalue()
