"""The README shows the committed results, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import readme


def test_the_readme_shows_the_committed_results(project: Path) -> None:
    document = json.loads((project / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    page = (project / "README.md").read_text(encoding="utf-8")
    assert readme.rewritten(page, document) == page


def test_only_what_stands_between_the_marks_changes() -> None:
    row = {"work": "echo", "peer": "p", "ratio": 0.5, "sense": "at least", "target": 1.05, "met": False}
    page = f"before\n{readme.BEGIN}old\n{readme.END}\nafter\n"
    new = readme.rewritten(page, {"rows": [row]})
    assert new.startswith("before\n")
    assert new.endswith("\nafter\n")
    assert "| echo | p | 0.50 | at least 1.05 | **missed** |" in new
    assert "old" not in new
