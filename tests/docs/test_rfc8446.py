"""The table of RFC 8446's rules names places and tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "rfc8446.md").read_text()
PLACES = sorted(set(re.findall(r"`([a-z_/]+\.py):([A-Za-z_]+)`", PAGE)))
TESTS = sorted(set(re.findall(r"`([a-z0-9_/]+\.py)::(test_\w+)`", PAGE)))


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def whole(path: str) -> str:
    return path.replace("tls/", "protocols/tls/", 1) if path.startswith("tls/") else path


def test_the_tables_are_there() -> None:
    assert len(PLACES) > 50
    assert len(TESTS) > 80
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "rule" not in line]
    assert all("::" in row and "`" in row for row in rows)


@pytest.mark.parametrize(("path", "function"), PLACES)
def test_each_place_exists(path: str, function: str) -> None:
    assert function in functions(ROOT / "taps_security" / whole(path))


@pytest.mark.parametrize(("path", "test"), TESTS)
def test_each_test_exists(path: str, test: str) -> None:
    assert test in functions(ROOT / "tests" / whole(path))
