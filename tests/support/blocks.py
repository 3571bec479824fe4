"""Code blocks out of Markdown pages."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The (language, text) of each block, in order."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> list[str]:
    """The command lines of a console block: those behind a `$`, without their comments."""
    return [line[2:].split("  #")[0].strip() for line in text.splitlines() if line.startswith("$ ")]
