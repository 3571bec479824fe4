"""Puts the committed results into the README: `python -m benchmarks.readme` rewrites its speed table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.__main__ import RESULTS
from benchmarks.harness import ROOT

README = Path(ROOT) / "README.md"
BEGIN, END = "<!-- speed table: written from benchmarks/results.json -->\n", "<!-- end of the speed table -->"


def markdown(document: dict[str, Any]) -> str:
    """The rows as a table; figures as ratios, and what a missed target was."""
    lines = ["| work | beside | ratio | target | |", "|---|---|---|---|---|"]
    for row in document["rows"]:
        target = "" if row["target"] is None else f"{row['sense']} {row['target']:g}"
        verdict = "" if row["met"] is None else ("met" if row["met"] else "**missed**")
        lines.append(f"| {row['work']} | {row['peer']} | {row['ratio']:.2f} | {target} | {verdict} |")
    return "\n".join(lines) + "\n"


def rewritten(page: str, document: dict[str, Any]) -> str:
    """The page with the table of `document` between its marks."""
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{markdown(document)}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Rewrite the README: the exit status."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    README.write_text(rewritten(README.read_text(encoding="utf-8"), document), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
