"""What once was a bug, or nearly, or what must always be there: each file of the corpus against its target.

`corpus/TARGET/NAME.hex` is octets in hex, with comments behind `#`; a file with another ending is taken as it is.
A mutation that fails prints its target and number: write its octets into a file here, and it is never forgotten.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.mutation import reported
from tests.fuzz.parsers import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FOLDERS = {name.replace(" ", "_"): name for name in TARGETS}
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())


def octets_of(path: Path) -> bytes:
    """What a file of the corpus holds."""
    if path.suffix != ".hex":
        return path.read_bytes()
    return bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(CORPUS).as_posix())
def test_corpus(path: Path) -> None:
    name = FOLDERS[path.parent.name]
    with reported(name, path.name):
        TARGETS[name].run(octets_of(path))


def test_there_is_a_corpus() -> None:
    assert len(FILES) >= 40
    assert len({path.parent for path in FILES}) >= 15
