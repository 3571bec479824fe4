"""docs/adding-a-protocol.md tells the truth: its blocks make a protocol that passes the conformance suite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = "docs/adding-a-protocol.md"
ROOM = "taps_security/protocols/pebble"
REGISTRY = "taps_security/protocols/registry.py"
FURNITURE = {"__init__.py", "handshake.py", "keys.py", "limits.py", "record.py", "wire.py"}
_TITLED = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_ROOMS_END = re.compile(r"^(_ROOMS: dict\[str, str\] = \{\n.*?)^\}$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of the tests that are needed, with the protocol of the page in it."""
    there = tmp_path_factory.mktemp("stranger")
    without = shutil.ignore_patterns("__pycache__", "vectors", "interop", "cli", "fuzz")
    for folder in ("taps_security", "tests"):
        shutil.copytree(project / folder, there / folder, ignore=without)
    shutil.copy(project / "pyproject.toml", there)
    for title, text in _TITLED.findall((project / PAGE).read_text(encoding="utf-8")):
        path = there / title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(with_line(path, text) if title == REGISTRY else text, encoding="utf-8")
    (there / "tests/protocols/pebble/__init__.py").touch()
    return there


def with_line(registry: Path, line: str) -> str:
    """The registry with one line more in its table."""
    text, changed = _ROOMS_END.subn(lambda found: f"{found[1]}{line}}}", registry.read_text(encoding="utf-8"))
    assert changed == 1, "the registry's table has moved"
    return text


def run(copy: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    ran = subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_page_has_the_whole_room(copy: Path) -> None:
    assert {path.name for path in (copy / ROOM).glob("*.py")} == FURNITURE
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (copy / ROOM).glob("*.py"))
    assert lines < 600  # a small protocol is small


def test_its_first_program_works(copy: Path) -> None:
    assert run(copy, "-W", "error", "pebble_demo.py") == "b'hello' pebble b'somebody'\n"


def test_it_passes_the_conformance_suite_and_its_own_tests(copy: Path) -> None:
    arguments = ("-q", "-p", "no:cacheprovider", "-n", "0", "-k", "pebble")
    said = run(copy, "-m", "pytest", "tests/conformance", "tests/protocols/pebble", *arguments)
    passed = re.search(r"(\d+) passed", said)
    assert passed, said
    assert int(passed[1]) > 100, said
    where = run(copy, "-c", "import taps_security; print(taps_security.__file__)")
    assert Path(where.strip()).is_relative_to(copy)  # and it was the copy that was tested


def test_it_keeps_the_style(copy: Path) -> None:
    run(copy, "-m", "ruff", "check", "--no-cache", ROOM, "tests/protocols/pebble")
    run(copy, "-m", "ruff", "format", "--no-cache", "--check", ROOM, "tests/protocols/pebble")
