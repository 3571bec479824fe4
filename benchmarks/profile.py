"""Where a work's time goes: `python -m benchmarks.profile GROUP` writes benchmarks/profiles/two files.

One pair of our processes runs the group's work under cProfile, which makes every call dearer: read shares, not times.
With --candidate NAME another candidate of the group is profiled. Commit the files when a target is missed.
"""

from __future__ import annotations

import argparse
import io
import pstats
import tempfile
from pathlib import Path

from benchmarks import rows
from benchmarks.credentials import write_credentials
from benchmarks.harness import measure

PROFILES = Path(__file__).resolve().parent / "profiles"
ROOT = str(Path(__file__).resolve().parent.parent) + "/"
LINES = 45


def readable(dump: Path) -> str:
    """The functions that took most time of their own, without this machine's paths."""
    text = io.StringIO()
    stats = pstats.Stats(str(dump), stream=text)
    stats.sort_stats("tottime").print_stats(LINES)
    lines = [line.replace(ROOT, "").rstrip() for line in text.getvalue().splitlines()]
    shown = [_without_folders(line) for line in lines if str(dump) not in line]
    return "\n".join(shown).strip() + "\n"


def _without_folders(line: str) -> str:
    """Of an absolute path only what stands behind lib/pythonX.Y/ or site-packages/."""
    for mark in ("/site-packages/", "/lib/python"):
        before, found, after = line.partition(mark)
        if found:
            figures = before.rpartition(" ")[0]
            return f"{figures} {after if mark == '/site-packages/' else after.partition('/')[2]}"
    return line


def main() -> None:
    """Profile each candidate that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("group", choices=[group.name for group in rows.all_groups()])
    parser.add_argument("--candidate", help="its name in the table; default: ours, the first")
    options = parser.parse_args()
    group = next(group for group in rows.all_groups() if group.name == options.group)
    wanted = options.candidate or group.candidates[0].name
    job = next(candidate.job for candidate in group.candidates if candidate.name == wanted)
    PROFILES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        write_credentials(Path(folder))
        value = measure(job.on(credentials=folder, profile=str(Path(folder) / "dump")))
        for role in ("client", "server"):
            head = f"{group.name}, {wanted}, {role}: {value * group.scale:,.4g} {group.unit} under cProfile\n\n"
            dump = Path(folder) / f"dump-{role}"
            (PROFILES / f"{group.name}-{role}.txt").write_text(head + readable(dump))
            print(head + readable(dump))


if __name__ == "__main__":
    main()
