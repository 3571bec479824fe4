"""What the command draws: tables of stacks, candidates, keys and peers, and the bars of a race.

Everything is drawn from the words of the JSON, so that what people see is what programs get.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Words = Mapping[str, Any]

BAR_WIDTH = 56  # cells of a bar that has room enough
MIN_BAR_WIDTH = 16
_STYLES = {"won": "bold green", "lost": "yellow", "failed": "red"}
_SIGNS = {"won": "✓", "lost": "·", "failed": "✗"}
_PLAIN_SIGNS = {"won": "*", "lost": "-", "failed": "x"}
# One glyph and colour for each phase, in the order in which phases first appear.
_GLYPHS = (("░", "cyan"), ("▓", "blue"), ("█", "magenta"), ("▒", "yellow"))
_PLAIN_GLYPHS = ((".", "cyan"), ("=", "blue"), ("#", "magenta"), ("+", "yellow"))


def console(file: TextIO | None = None, *, stderr: bool = False) -> Console:
    """Where pictures go: plain text where that is no terminal, with nothing cut off."""
    made = Console(file=file, stderr=stderr, highlight=False, emoji=False)
    return made if made.is_terminal else Console(file=file, stderr=stderr, highlight=False, emoji=False, width=120)


# ------------------------------------------------------------------------------------------------------------ stacks
def stacks_table(candidates: Iterable[Words]) -> Table:
    """`explain()`: one row per stack, with the reasons that decided."""
    table = _table("rank", "stack", "", "why")
    for candidate in candidates:
        kept = candidate["kept"]
        name = _stack(candidate)
        reasons = [reason for reason in candidate["reasons"] if reason["effect"] not in _undecided(kept)]
        table.add_row(
            "" if candidate["rank"] is None else str(candidate["rank"]),
            Text(name, style="bold" if kept else "dim"),
            Text("kept", style="green") if kept else Text("dropped", style="red"),
            Text("\n".join(map(_reason, reasons)) or "meets what was declared"),
        )
    return table


def _undecided(kept: bool) -> set[str]:
    return {"none", "kept"} if kept else {"none", "kept", "ranked up", "ranked down"}


def _reason(reason: Words) -> str:
    why = f": {reason['why']}" if reason.get("why") else ""
    if reason["property"] == "credentials":
        return f"lacks a credential{why}"
    has = "provides" if reason["provides"] else "does not provide"
    return f"{reason['effect']}: {has} {reason['property']} ({reason['preference']}{why})"


# -------------------------------------------------------------------------------------------------------------- race
def declared_table(declared: Words) -> Table:
    """What was asked for."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in declared.items():
        if value:
            table.add_row(name.replace("_", " "), Text(_listed(value)))
    return table


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {wish}" for name, wish in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def race_table(candidates: Sequence[Words], *, plain: bool = False) -> Table:
    """One row per candidate."""
    table = _table("", "stack", "endpoint", "outcome", "reason")
    signs = _PLAIN_SIGNS if plain else _SIGNS
    for candidate in candidates:
        outcome = candidate["outcome"]
        style = _STYLES.get(outcome, "")
        table.add_row(
            Text(signs.get(outcome, "?"), style=style),
            _stack(candidate),
            Text(candidate["endpoint"], overflow="fold"),
            Text(outcome, style=style),
            Text(candidate["reason"], overflow="fold"),
        )
    return table


def race_chart(candidates: Sequence[Words], width: int, *, plain: bool = False) -> Text:
    """A bar per candidate over one scale of time: which phase it was in, and how it ended."""
    glyphs = _legend(candidates, plain)
    last = max((phase["end"] for candidate in candidates for phase in candidate["phases"]), default=0.0)
    labels = [f"{_stack(candidate)} {candidate['endpoint']}" for candidate in candidates]
    margin = max(map(len, labels), default=0)
    cells = max(MIN_BAR_WIDTH, min(BAR_WIDTH, width - margin - 16))
    signs = _PLAIN_SIGNS if plain else _SIGNS
    picture = Text()
    for label, candidate in zip(labels, candidates, strict=True):
        outcome = candidate["outcome"]
        style = _STYLES.get(outcome, "")
        picture.append(label.ljust(margin) + "  ", style=style)
        end = max((phase["end"] for phase in candidate["phases"]), default=None)
        for glyph, colour in bar(candidate["phases"], last, cells, glyphs):
            picture.append(glyph, style=colour)
        picture.append(f" {signs.get(outcome, '?')} ", style=style)
        picture.append("never started\n" if end is None else f"{_ms(end)}\n")
    picture.append(" " * (margin + 2) + "0" + _ms(last).rjust(cells - 1) + "\n", style="dim")
    picture.append(" " * (margin + 2))
    for name, (glyph, colour) in glyphs.items():
        picture.append(glyph * 2, style=colour)
        picture.append(f" {name}   ", style="dim")
    return picture


def bar(
    phases: Sequence[Words], last: float, cells: int, glyphs: Mapping[str, tuple[str, str]]
) -> list[tuple[str, str]]:
    """`cells` pairs of glyph and colour. A phase gets at least one cell, however short it was."""
    line = [(" ", "")] * cells
    scale = cells / last if last > 0 else 0.0
    end = 0
    for phase in phases:
        begin = min(max(end, int(phase["start"] * scale)), cells - 1)
        end = max(begin + 1, min(round(phase["end"] * scale), cells))
        line[begin:end] = [glyphs[phase["name"]]] * (end - begin)
    return line


def _legend(candidates: Sequence[Words], plain: bool) -> dict[str, tuple[str, str]]:
    shapes = _PLAIN_GLYPHS if plain else _GLYPHS
    legend: dict[str, tuple[str, str]] = {}
    for phase in (phase for candidate in candidates for phase in candidate["phases"]):
        legend.setdefault(phase["name"], shapes[len(legend) % len(shapes)])
    return legend


# ------------------------------------------------------------------------------------------------------------ report
def keys_table(keys: Iterable[Words]) -> Table:
    """What happened to the keys."""
    table = _table("time", "key", "", "direction", "limits")
    for key in keys:
        table.add_row(
            _ms(key["time"]),
            f"{key['stage']} {key['generation']}",
            key["event"],
            key["direction"] or "",
            Text("; ".join(map(_limit, key["limits"])), overflow="fold"),
        )
    return table


def events_table(events: Iterable[Words]) -> Table:
    """The security events."""
    table = _table("time", "event", "detail")
    for event in events:
        table.add_row(_ms(event["time"]), event["event"], Text(event["detail"], overflow="fold"))
    return table


def _limit(limit: Words) -> str:
    return f"{_count(limit['soft'])} {limit['kind']} (at most {_count(limit['hard'])})"


def _count(number: float) -> str:
    if number >= 1e15:
        return f"2^{math.log2(number):.0f}"
    return f"{number / 1e6:.3g} million" if number >= 1e6 else f"{number:g}"


def peers_table(peers: Iterable[Words]) -> Table:
    """`taps status`: one row per peer."""
    table = _table("peer", "stack", "identity", "since", "received", "sent", "keys")
    for peer in peers:
        keys = [f"{key['stage']} {key['generation']} {key['direction']} {key['age']:.0f} s" for key in peer["keys"]]
        table.add_row(
            peer["remote"],
            _stack(peer),
            Text(peer["peer"] or "", overflow="fold"),
            f"{peer['age']:.0f} s",
            octets(peer["received"]),
            octets(peer["sent"]),
            "\n".join(keys),
        )
    return table


def tunnel_text(tunnel: Words, now: float) -> Text:
    """The local end of packet stacks and its peers, as `wg show` has them. `now`: unix seconds."""
    picture = Text()
    picture.append(f"\ntunnel: {tunnel['stack']}\n", style="bold green")
    picture.append(f"  addresses: {', '.join(tunnel['addresses']) or '(none)'}\n  listening port: {tunnel['port']}\n")
    for peer in tunnel["peers"]:
        picture.append(f"\npeer: {peer['public_key']}\n", style="bold yellow")
        for name, value in _peer_words(peer, now).items():
            if value:
                picture.append(f"  {name}: {value}\n")
    return picture


def _peer_words(peer: Words, now: float) -> dict[str, str]:
    handshake, keepalive = peer["latest_handshake"], peer["persistent_keepalive"]
    received, sent = peer["transfer"]["received"], peer["transfer"]["sent"]
    return {
        "preshared key": "(hidden)" if peer["preshared_key"] else "",
        "endpoint": peer["endpoint"] or "",
        "allowed ips": ", ".join(peer["allowed_ips"]) or "(none)",
        "latest handshake": ago(now - handshake) if handshake else "",
        "transfer": f"{octets(received)} received, {octets(sent)} sent" if received or sent else "",
        "persistent keepalive": f"every {_many(keepalive, 'second')}" if keepalive else "",
        "flows": str(peer["flows"]) if peer["flows"] else "",
        "dropped": ", ".join(f"{count} {reason}" for reason, count in peer["dropped"].items()),
        "keys": ", ".join(f"{key['generation']} {key['direction']} {key['age']:.0f} s" for key in peer["keys"]),
    }


# ------------------------------------------------------------------------------------------------------------- words
def ago(seconds: float) -> str:
    """How long ago, in words: `1 hour, 2 minutes, 3 seconds ago`."""
    left, words = int(seconds), []
    if left <= 0:
        return "now"
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count, left = divmod(left, size)
        if count:
            words.append(_many(count, unit))
    return f"{', '.join(words)} ago"


def _many(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def octets(number: float) -> str:
    """A number of octets, short."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _stack(words: Words) -> str:
    return f"{words['stack']}/{words['version']}" if words["version"] else str(words["stack"])


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in {"", "rank", "stack", "outcome", "time", "key"})
    return table
