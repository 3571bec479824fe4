"""The results as a table for people, and the document for programs."""

from __future__ import annotations

import platform
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.rows import Result

if TYPE_CHECKING:
    from rich.table import Table


def verdict(row: Result) -> str:
    """The last column."""
    return {True: "met", False: "MISSED", None: ""}[row.met]


def wanted(row: Result) -> str:
    """The target as the speed table has it."""
    if row.target is None:
        return ""
    return f"{'≥' if row.sense == 'at least' else '≤'} {row.target:g}"


def as_table(rows: Iterable[Result]) -> Table:
    """One line for each row."""
    from rich.table import Table

    table = Table(title="taps_security beside its peers (medians)")
    for heading in ("work", "unit", "ours", "peer", "theirs", "ratio", "target", "", "runs", "spread"):
        table.add_column(
            heading, justify="right" if heading in {"ours", "theirs", "ratio", "runs", "spread"} else "left"
        )
    for row in rows:
        style = {True: "green", False: "red", None: "dim"}[row.met]
        cells = (row.work, row.unit, _figure(row.ours), row.peer, _figure(row.theirs), f"{row.ratio:.2f}")
        table.add_row(*cells, wanted(row), verdict(row), str(row.runs), f"{row.spread:.0%}", style=style)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "ssl": ssl.OPENSSL_VERSION,
        "cryptography": version("cryptography"),
        "uvloop": version("uvloop"),
    }


def as_document(rows: Sequence[Result], samples: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """results.json: `rows`, and for who wants more the `machine` and every single value in `samples` (SI units)."""
    return {"rows": [asdict(row) for row in rows], "machine": machine(), "samples": samples}


def missed(rows: Iterable[Result]) -> list[Result]:
    """The rows whose target was not reached."""
    return [row for row in rows if row.met is False]
