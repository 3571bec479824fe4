"""The code blocks of docs/simulation.md run, in their order, and what they assert holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = "docs/simulation.md"
TESTS = (
    "an_answer_takes_three_round_trips",
    "a_forgotten_event",
    "a_bad_link_is_only_slow",
    "a_dead_address_costs_250_ms",
)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page defines."""
    text = (Path(__file__).resolve().parents[2] / PAGE).read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text[: found.start(1)].count("\n")
        exec(compile("\n" * line + found[1], PAGE, "exec"), names)
    return names


def test_all_tests_of_the_page_are_run(page: dict[str, Any]) -> None:
    assert {name for name in page if name.startswith("test_")} == {f"test_{name}" for name in TESTS}


@pytest.mark.parametrize("name", TESTS)
def test_the_page_tells_the_truth(page: dict[str, Any], name: str) -> None:
    page[f"test_{name}"]()
