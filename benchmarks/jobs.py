"""What one process of a pair is told: its role, the work, and with which shape, loop and settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Role = Literal["server", "client"]
WorkName = Literal["bulk", "sends", "echo", "handshakes", "idle", "startup"]

SERVER_NAME = "server.example"
CLIENT_NAME = "client.example"
REPLY = b"k"  # the one octet with which a server says that it has everything


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement of one candidate. Sizes in octets.

    `warm` and `count`: units of work (octets of bulk, sends, round trips, handshakes, connections) before and within
    the measured part. `shape` and `settings` mean what the candidate's module says.
    """

    work: WorkName
    module: str
    shape: str
    loop: Literal["asyncio", "uvloop"]
    size: int
    count: int
    warm: int = 0
    connections: int = 1
    mutual: bool = False
    settings: dict[str, int] = field(default_factory=dict)
    credentials: str = ""
    core: int = -1
    port: int = 0
    server_process: int = 0
    profile: str = ""

    def to_json(self) -> str:
        """The job as one argument of a process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values)

    def on(self, **changes: Any) -> Job:
        """The same job with some fields changed."""
        return replace(self, **changes)

    def credential(self, name: str) -> str:
        """The path of one of the files that credentials.py wrote."""
        return str(Path(self.credentials) / name)
