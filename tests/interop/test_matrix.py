"""matrix.toml is full and true: each cell names a test that exists, or says why there is none."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.interop.ours import PEERS

FOLDER = Path(__file__).parent


class Table(NamedTuple):
    """One table of the matrix: of which protocol's features, with which peer, in which role of the peer."""

    protocol: str
    peer: str
    role: str


TABLES = [
    *(Table("tls", peer, role) for peer in PEERS for role in ("server", "client")),
    *(Table("wireguard", "wireguard-go", role) for role in ("responder", "initiator")),
    *(Table("curvecp", "nacl-tools", role) for role in ("server", "client")),
]
# Files whose every test with parameters stands in the matrix.
FULL = (
    "test_peer_servers.py",
    "test_peer_clients.py",
    "test_wireguard.py",
    "test_wireguard_tshark.py",
    "test_curvecp.py",
)


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


def cells() -> list[tuple[Table, str, Any]]:
    return [
        (table, feature, matrix().get(table.peer, {}).get(table.role, {}).get(feature))
        for table in TABLES
        for feature in matrix()["features"][table.protocol]
    ]


def belongs(table: Table, cell: str) -> bool:
    """Whether the test of this id is one with that peer in that role."""
    if table.protocol == "tls":
        return f"test_peer_{table.role}s.py::" in cell and f"[{table.peer}" in cell
    if table.protocol == "curvecp":
        return cell.startswith("test_curvecp.py::") and (f"[{table.role}" in cell or cell.endswith(f"_a_{table.role}"))
    only = {"responder": "test_cookie_taken", "initiator": "test_cookie_given"}
    return cell.startswith("test_wireguard") and (f"[{table.role}" in cell or cell.endswith(only[table.role]))


def test_no_cell_is_blank() -> None:
    blank = [
        f"{table.peer}.{table.role}.{feature}"
        for table, feature, cell in cells()
        if not (isinstance(cell, str) and cell) and not (isinstance(cell, dict) and len(cell.get("reason", "")) > 10)
    ]
    assert not blank


def test_every_id_exists() -> None:
    missing = [cell for *_, cell in cells() if isinstance(cell, str) and cell not in collected()]
    assert not missing


def test_every_cell_names_its_own_peer_and_role() -> None:
    wrong = [cell for table, _, cell in cells() if isinstance(cell, str) and not belongs(table, cell)]
    assert not wrong


def test_every_test_with_a_peer_stands_in_the_matrix() -> None:
    named = {cell for *_, cell in cells() if isinstance(cell, str)}
    forgotten = {test for test in collected() if test.startswith(FULL)} - named
    assert not forgotten


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.peer}.{table.role}")
def test_no_table_has_unknown_features(table: Table) -> None:
    assert set(matrix()[table.peer][table.role]) <= set(matrix()["features"][table.protocol])


def test_every_table_is_looked_at() -> None:
    written = {(peer, role) for peer in set(matrix()) - {"features"} for role in matrix()[peer]}
    assert written == {(table.peer, table.role) for table in TABLES}
