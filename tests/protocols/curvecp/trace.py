"""The golden trace: what Debian's nacl-tools said to each other, with every key and every plaintext."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parents[2] / "vectors" / "curvecp" / "nacl-reference-trace.json"
_TRACE: dict[str, Any] = json.loads(_FILE.read_text())

SERVER_NAME: str = _TRACE["server_name"]
STREAM = b"hello from curvecp client\n" + b"A" * 3000


def key(name: str) -> bytes:
    """A key or extension of the trace."""
    return bytes.fromhex(_TRACE[name])


class Packet:
    """One datagram. `type`: Hello, Cookie, Initiate, ServerMessage or ClientMessage."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.type: str = fields["type"]
        self.data = bytes.fromhex(fields["data"])
        self.plaintext = bytes.fromhex(fields["plaintext"])
        self.message: dict[str, Any] = fields.get("message", {})

    def __repr__(self) -> str:
        return f"<{self.type} of {len(self.data)} octets>"


PACKETS = [Packet(fields) for fields in _TRACE["packets"]]
