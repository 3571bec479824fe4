"""matrix.toml is full and true: each cell names a test that exists, or says why there is none."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.interop.ours import PEERS

FOLDER = Path(__file__).parent
TABLES = [(peer, role) for peer in PEERS for role in ("server", "client")]


@cache
def matrix() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "matrix.toml").read_text(encoding="utf-8"))


@cache
def collected() -> frozenset[str]:
    """The ids of all tests of this folder, as `file.py::test[parameters]`."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(FOLDER)]
    ran = subprocess.run(command, cwd=FOLDER.parent.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return frozenset(line.rpartition("/")[2] for line in ran.stdout.splitlines() if "::" in line)


def cells() -> list[tuple[str, str, str, Any]]:
    return [(p, r, f, matrix().get(p, {}).get(r, {}).get(f)) for p, r in TABLES for f in matrix()["features"]]


def test_no_cell_is_blank() -> None:
    blank = [
        f"{peer}.{role}.{feature}"
        for peer, role, feature, cell in cells()
        if not (isinstance(cell, str) and cell) and not (isinstance(cell, dict) and len(cell.get("reason", "")) > 10)
    ]
    assert not blank


def test_every_id_exists() -> None:
    missing = [cell for *_, cell in cells() if isinstance(cell, str) and cell not in collected()]
    assert not missing


def test_every_cell_names_its_own_peer_and_role() -> None:
    wrong = [
        cell
        for peer, role, _, cell in cells()
        if isinstance(cell, str) and (f"test_peer_{role}s.py::" not in cell or f"[{peer}" not in cell)
    ]
    assert not wrong


def test_every_test_with_a_peer_stands_in_the_matrix() -> None:
    named = {cell for *_, cell in cells() if isinstance(cell, str)}
    forgotten = {test for test in collected() if test.startswith("test_peer_")} - named
    assert not forgotten


@pytest.mark.parametrize(("peer", "role"), TABLES)
def test_no_table_has_unknown_features(peer: str, role: str) -> None:
    assert set(matrix()[peer][role]) <= set(matrix()["features"])
