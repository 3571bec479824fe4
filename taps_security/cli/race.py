"""`taps race`: establishes, and shows how the race went, as data and as a picture."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from ..connection.connection import Connection
from ..connection.racing import RaceReport
from ..observe.security import SecurityReport
from .connect import Call, explain
from .pictures import console, declared_table, events_table, keys_table, race_chart, race_table, stacks_table


async def run(call: Call, *, as_words: bool) -> None:
    """Race, print what happened, close. Raises EstablishmentError when nobody won, behind the picture."""
    began = asyncio.get_running_loop().time()
    preconnection = call.preconnection()
    if call.explain:
        explain(preconnection, as_words=as_words)
    connection: Connection | None = None
    try:
        connection = await call.initiate(preconnection)
        await connection.close()
    finally:
        if connection is not None:
            connection.abort()  # nothing, after close()
        report = preconnection.race
        if report is not None and report.attempts:
            security = connection.security if connection is not None else None
            show(story(call.declared.as_json(), report, security, began), as_words=as_words)


def story(
    declared: Mapping[str, Any], race: RaceReport, security: SecurityReport | None, began: float
) -> dict[str, Any]:
    """What was declared and what came of it. Times are seconds since `began`, the beginning on the loop's clock."""
    keys = [record.as_json() for record in security.keys] if security is not None else []
    events = [record.as_json() for record in security.events] if security is not None else []
    for entry in (*keys, *events):
        entry["time"] = max(0.0, entry["time"] - began)
    return {"declared": dict(declared), **race.as_json(), "keys": keys, "events": events}


def show(told: Mapping[str, Any], *, as_words: bool, screen: Console | None = None) -> None:
    """Print a story: as one JSON object, or as tables and a chart. `stacks`, if it has them: why each qualified."""
    if as_words:
        print(json.dumps(told, indent=2), flush=True)
        return
    out = console() if screen is None else screen
    plain = out.options.ascii_only
    candidates = told["candidates"]
    out.print("declared", style="bold underline")
    out.print(declared_table(told["declared"]))
    if "stacks" in told:
        out.print("\nstacks", style="bold underline")
        out.print(stacks_table(told["stacks"]))
    out.print("\ncandidates", style="bold underline")
    out.print(race_table(candidates, plain=plain))
    out.print("\nrace", style="bold underline")
    out.print(race_chart(candidates, out.width, plain=plain))
    winner = told["winner"]
    if winner is not None:
        name = f"{winner['stack']}/{winner['version']}" if winner["version"] else winner["stack"]
        out.print(f"\nwinner: {name} to {winner['endpoint']}", style="bold green")
    for title, table, rows in (("keys", keys_table, told["keys"]), ("events", events_table, told["events"])):
        if rows:
            out.print(f"\n{title}", style="bold underline")
            out.print(table(rows))
