"""Tables and bars, as text."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import RenderableType

from taps_security.cli.pictures import (
    ago,
    bar,
    console,
    declared_table,
    events_table,
    keys_table,
    octets,
    peers_table,
    race_chart,
    race_table,
    stacks_table,
    tunnel_text,
)

GLYPHS = {"connect": ("c", ""), "handshake": ("h", "")}


def phase(name: str, start: float, end: float) -> dict[str, Any]:
    return {"name": name, "start": start, "end": end}


def candidate(outcome: str, *phases: dict[str, Any], version: str = "1.3") -> dict[str, Any]:
    place = "127.0.0.1:4433"
    return {
        "stack": "tls",
        "version": version,
        "endpoint": place,
        "outcome": outcome,
        "reason": "why",
        "phases": phases,
    }


def drawn(picture: RenderableType) -> str:
    """As on something that is no terminal."""
    file = io.StringIO()
    console(file).print(picture)
    return file.getvalue()


def cells(*phases: dict[str, Any], last: float = 1.0, width: int = 10) -> str:
    return "".join(glyph for glyph, _ in bar(phases, last, width, GLYPHS))


def test_a_bar_is_to_scale() -> None:
    assert cells(phase("connect", 0.0, 0.5), phase("handshake", 0.5, 1.0)) == "ccccchhhhh"
    assert cells(phase("connect", 0.2, 0.4), phase("handshake", 0.4, 0.6)) == "  cchh    "


def test_short_phases_have_a_cell_each() -> None:
    assert cells(phase("connect", 0.5, 0.501), phase("handshake", 0.501, 0.502)) == "     ch   "
    assert cells(phase("connect", 1.0, 1.0)) == "         c"
    assert cells(phase("connect", 0.0, 0.0), last=0.0) == "c         "
    assert len(cells(*[phase("connect", 1.0, 1.0)] * 20)) == 10


def test_the_chart_has_a_row_for_each_candidate() -> None:
    silent = candidate("lost", phase("connect", 0.0, 0.001), phase("handshake", 0.001, 0.26))
    won = candidate("won", phase("connect", 0.25, 0.255), phase("handshake", 0.255, 0.26))
    never = candidate("lost", version="")
    lines = drawn(race_chart([silent, won, never], 120)).splitlines()
    assert lines[0].startswith("tls/1.3 127.0.0.1:4433  ░▓▓▓")
    assert lines[0].endswith("· 260.0 ms")
    assert "✓ 260.0 ms" in lines[1]
    assert lines[2].startswith("tls 127.0.0.1:4433")
    assert "never started" in lines[2]
    assert lines[3].split() == ["0", "260.0", "ms"]
    assert lines[4].split() == ["░░", "connect", "▓▓", "handshake"]


def test_the_chart_fits_where_there_is_little_room() -> None:
    won = candidate("won", phase("connect", 0.0, 0.1))
    assert max(map(len, drawn(race_chart([won], 60)).splitlines())) <= 60


def test_the_chart_can_be_plain() -> None:
    candidates = [candidate("failed", phase("resolve", 0.0, 0.1)), candidate("won", phase("connect", 0.0, 0.1))]
    drawn(race_chart(candidates, 80, plain=True)).encode("ascii")


def test_the_table_of_a_race() -> None:
    text = drawn(race_table([candidate("won"), candidate("failed")]))
    assert "won" in text
    assert "✗" in text
    assert "why" in text


def test_markup_of_peers_is_only_text() -> None:
    evil = {**candidate("failed"), "reason": "[red]not a colour[/red] [/]"}
    assert "[red]not a colour[/red] [/]" in drawn(race_table([evil]))


def test_stacks() -> None:
    reasons = [
        {"property": "zero_rtt", "preference": "require", "provides": False, "effect": "dropped", "why": "none"},
        {"property": "key_update", "preference": "prefer", "provides": True, "effect": "ranked up", "why": ""},
        {"property": "credentials", "preference": "require", "provides": False, "effect": "dropped", "why": "trust"},
    ]
    dropped = {"stack": "tls", "version": "1.3", "kept": False, "rank": None, "reasons": reasons}
    kept = {"stack": "toy", "version": "", "kept": True, "rank": 0, "reasons": reasons[1:2]}
    plain = {"stack": "one", "version": "1", "kept": True, "rank": 1, "reasons": []}
    text = drawn(stacks_table([kept, plain, dropped]))
    assert "ranked up: provides key_update (prefer)" in text
    assert "dropped: does not provide zero_rtt (require: none)" in text
    assert "lacks a credential: trust" in text
    assert "meets what was declared" in text


def test_what_was_declared() -> None:
    text = drawn(declared_table({"require": ["a", "b"], "avoid": [], "transport": {"c": "prefer"}, "server_name": "n"}))
    assert "a, b" in text
    assert "c: prefer" in text
    assert "server name" in text
    assert "avoid" not in text


def test_keys_and_events() -> None:
    limits = [{"kind": "packets", "soft": 17794924, "hard": 23726566}, {"kind": "seconds", "soft": 120, "hard": 180}]
    key = {
        "time": 0.25,
        "event": "ready",
        "stage": "application",
        "generation": 1,
        "direction": "send",
        "limits": limits,
    }
    confirmed = {**key, "event": "confirmed", "direction": None, "limits": []}
    text = drawn(keys_table([key, confirmed]))
    assert "application 1" in text
    assert "17.8 million packets (at most 23.7 million); 120 seconds" in text
    assert "250.0 ms" in text
    limits[0] |= {"soft": 1 << 60, "hard": (1 << 64) - (1 << 13) - 1}
    assert "2^60 packets (at most 2^64)" in drawn(keys_table([key]))
    assert "KeyReady" in drawn(events_table([{"time": 0.0, "event": "KeyReady", "detail": "x"}]))


def test_peers() -> None:
    key = {"stage": "application", "generation": 2, "direction": "send", "age": 61.4}
    peer = {"remote": "a:1", "stack": "tls", "version": "1.3", "peer": None, "age": 2.0, "received": 2048, "sent": 3}
    text = drawn(peers_table([{**peer, "keys": [key]}]))
    assert "application 2 send 61 s" in text
    assert "2.0 KiB" in text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")]
)
def test_octets(number: int, text: str) -> None:
    assert octets(number) == text


PEER = {
    "public_key": "AQEB=",
    "preshared_key": True,
    "endpoint": "[2001:db8::1]:51820",
    "allowed_ips": ["10.88.0.2/32", "fd00::2/128"],
    "latest_handshake": 1000.0,
    "transfer": {"received": 2048, "sent": 100},
    "persistent_keepalive": 25,
    "flows": 2,
    "dropped": {"source not allowed": 3},
    "keys": [{"stage": "application", "generation": 3, "direction": "send", "age": 12.3, "limits": []}],
}


def test_a_tunnel_is_shown_as_wg_shows_it() -> None:
    fresh: dict[str, Any] = {**PEER, "public_key": "AgIC=", "preshared_key": False, "endpoint": None, "allowed_ips": []}
    fresh |= {"latest_handshake": 0, "transfer": {"received": 0, "sent": 0}, "persistent_keepalive": 0}
    fresh |= {"flows": 0, "keys": [], "dropped": {}}
    tunnel = {"stack": "wireguard", "port": 51820, "addresses": ["10.88.0.1", "fd00::1"], "peers": [PEER, fresh]}
    lines = drawn(tunnel_text(tunnel, 1063.5)).split("\n")
    assert [line.rstrip() for line in lines if line.strip()] == [
        "tunnel: wireguard",
        "  addresses: 10.88.0.1, fd00::1",
        "  listening port: 51820",
        "peer: AQEB=",
        "  preshared key: (hidden)",
        "  endpoint: [2001:db8::1]:51820",
        "  allowed ips: 10.88.0.2/32, fd00::2/128",
        "  latest handshake: 1 minute, 3 seconds ago",
        "  transfer: 2.0 KiB received, 100 B sent",
        "  persistent keepalive: every 25 seconds",
        "  flows: 2",
        "  dropped: 3 source not allowed",
        "  keys: 3 send 12 s",
        "peer: AgIC=",
        "  allowed ips: (none)",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "now"),
        (0.9, "now"),
        (1, "1 second ago"),
        (3600, "1 hour ago"),
        (2 * 86_400 + 3661, "2 days, 1 hour, 1 minute, 1 second ago"),
    ],
)
def test_how_long_ago(seconds: float, words: str) -> None:
    assert ago(seconds) == words
