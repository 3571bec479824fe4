"""`python -m benchmarks`: measure, print one table, write benchmarks/results.json.

--check     end with 1 if a target is missed
--runs N    rounds of each group (default 5)
--only WORD groups whose name contains WORD (may be given several times); results.json is left alone
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import harness, rows, table
from benchmarks.credentials import write_credentials

WIDTH = 150  # columns: a table that wraps cannot be read
RESULTS = Path(__file__).resolve().parent / "results.json"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed beside the peers, in one run.")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="rounds of each group")
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="groups whose name contains WORD")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="where the results go")
    return parser.parse_args(words)


def main() -> int:
    """Measure and report: the exit status."""
    from rich.console import Console

    options = arguments()
    console, progress = Console(), Console(stderr=True)
    console.width = max(console.width, WIDTH)
    groups = [g for g in rows.all_groups() if not options.only or any(word in g.name for word in options.only)]
    results: list[rows.Result] = []
    samples: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        write_credentials(Path(folder))
        for group in groups:
            if reason := group.unavailable():
                console.print(f"not measured: {group.name}: {reason}", highlight=False)
                continue

            def told(name: str, value: float, group: rows.Group = group) -> None:
                progress.print(f"{group.name}: {name}: {value * group.scale:,.4g} {group.unit}", highlight=False)

            found, measured = rows.run(group, folder, options.runs, told)
            results += found
            samples[group.name] = {name: sample.values for name, sample in measured.items()}
    console.print(table.as_table(results))
    target = options.json or (None if options.only else RESULTS)
    if target is not None:
        harness.write_json(target, table.as_document(results, samples))
    for row in table.missed(results):
        console.print(
            f"missed: {row.work}: {row.ratio:.2f} times {row.peer}, target {table.wanted(row)}", highlight=False
        )
    return 1 if options.check and table.missed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
