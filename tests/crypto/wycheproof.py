"""Reads Wycheproof's vector files (see tests/vectors/wycheproof/SOURCES.md)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "vectors" / "wycheproof"
_HEX = ("key", "iv", "aad", "msg", "ct", "tag", "ikm", "salt", "info", "okm", "private", "public", "shared", "sig")
_HEX_KEM = ("seed", "ek", "c", "K")


class Case:
    """One test: `group` as it stands in the file, and the test's own fields, hex already turned into bytes."""

    def __init__(self, group: dict[str, Any], fields: dict[str, Any]) -> None:
        self.group = group
        self.id: int = fields["tcId"]
        self.flags: list[str] = fields["flags"]
        self.result: str = fields["result"]
        self.size: int = fields.get("size", 0)
        self._bytes = {name: bytes.fromhex(fields[name]) for name in (*_HEX, *_HEX_KEM) if name in fields}

    def __getattr__(self, name: str) -> bytes:
        try:
            return self._bytes[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        return f"case {self.id} ({self.result}, {self.flags})"


def cases(name: str) -> Iterator[Case]:
    """Every case of `name`_test.json."""
    document = json.loads((_FOLDER / f"{name}_test.json").read_text())
    for group in document["testGroups"]:
        for fields in group["tests"]:
            yield Case(group, fields)
