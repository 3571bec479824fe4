"""`taps connect`: like netcat, over whichever stack wins."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..connection.assembly import KeyLog
from ..connection.connection import Connection
from ..connection.preconnection import HANDSHAKE_TIMEOUT, Preconnection
from ..properties.endpoints import RemoteEndpoint
from ..properties.security import Role
from .options import Declared
from .pictures import console, stacks_table
from .protocols import as_json
from .relay import Input, Manner, Output, Traffic, relay
from .sessions import SessionFile


@dataclass(frozen=True, slots=True)
class Call:
    """What to connect to, and how. `timeout`: seconds for establishing."""

    remote: RemoteEndpoint
    declared: Declared
    manner: Manner = field(default_factory=Manner)
    timeout: float | None = None
    explain: bool = False
    report: bool = False
    session_file: Path | None = None
    key_log: KeyLog | None = None

    def preconnection(self) -> Preconnection:
        """The declarations, ready to initiate. ConfigurationError."""
        security = self.declared.security
        if self.session_file is not None:
            security = security.replace(session_cache=SessionFile(self.session_file))
        return Preconnection(
            remote_endpoints=[self.remote],
            transport_properties=self.declared.transport,
            security_parameters=security,
            key_log=self.key_log,
        )

    async def initiate(self, preconnection: Preconnection) -> Connection:
        """Within the timeout, which bounds each candidate too: a long one lets slow peers take long."""
        each = max(self.timeout or 0.0, HANDSHAKE_TIMEOUT)
        return await preconnection.initiate(timeout=self.timeout, handshake_timeout=each)


async def run(call: Call) -> None:
    """Connect, relay standard input and output, close. Raises what went wrong."""
    preconnection = call.preconnection()
    if call.explain:
        explain(preconnection, as_words=call.report)
    connection = await call.initiate(preconnection)
    try:
        await relay(connection, Input(), Output(), call.manner, Traffic())
        await connection.close()
    finally:
        connection.abort()  # nothing, after close()
        if call.report:
            print(json.dumps(connection.security.as_json()), file=sys.stderr, flush=True)


def explain(preconnection: Preconnection, *, as_words: bool) -> None:
    """Which stacks qualify and why, on standard error: as JSON in one line, or as a table."""
    considered = preconnection.considered(Role.CLIENT)
    if as_words:
        print(json.dumps(as_json(considered)), file=sys.stderr, flush=True)
    else:
        console(stderr=True).print(stacks_table([choice.as_json() for choice in considered]))
