"""The README's code blocks work when pasted, one after the other, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.blocks import blocks, commands


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
    assert "Traceback" not in ran.stderr
    return ran.stdout


def test_blocks_run_when_pasted(project: Path, tmp_path: Path) -> None:
    printed = ""
    for number, (language, text) in enumerate(blocks(project / "README.md")):
        if language == "console":
            for command in commands(text):
                if command.startswith("taps "):
                    run(shlex.split(command), tmp_path)
        elif language == "python":
            program = tmp_path / f"program{number}.py"
            program.write_text(text, encoding="utf-8")
            printed += run([sys.executable, "-W", "error", str(program)], tmp_path)
    assert printed.startswith("b'hello'\ntls 1.3 {")


def test_the_two_commands_stand_on_the_first_screen(project: Path) -> None:
    first_screen = "\n".join((project / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    makefile = (project / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in first_screen
        assert f"\n{target}:" in makefile


def without_code(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def test_links_lead_somewhere(project: Path) -> None:
    pages = [project / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    pages += (project / "docs").rglob("*.md")
    broken = [
        f"{page.relative_to(project)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", without_code(page.read_text(encoding="utf-8")))
        if not (page.parent / target).exists()
    ]
    assert not broken
