"""`taps demo`: three endpoints on loopback, of which one is good, and a real race to it.

A silent endpoint accepts TCP and says nothing. A second shows a certificate of somebody else. The third is good; where
it stands in the list decides who wins, and when.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..connection.connection import Connection
from ..connection.listener import Listener
from ..connection.preconnection import Preconnection
from ..connection.racing import Attempted, RaceReport
from ..crypto.certificates import Identity as Loaded
from ..crypto.certificates import certificate_pem
from ..crypto.issuing import issue_certificate, make_certificate_authority
from ..properties.credentials import Identity
from ..properties.endpoints import LocalEndpoint, RemoteEndpoint
from ..properties.security import SecurityParameters
from ..properties.transport import TransportProperties
from ..properties.trust import Trust
from .apps import echo
from .options import declared_json
from .race import story
from .relay import Traffic

NAME = "demo.example"
_ELSEWHERE = "elsewhere.example"
_ALPN = "taps-demo"
_HELLO = b"hello over whatever won"
_TIMEOUT = 10.0  # seconds
POSITIONS = (1, 2, 3)


async def run(good: int) -> dict[str, Any]:
    """The demo's story, with the good endpoint at position `good` (from 1). Raises what went wrong."""
    now = time.time()
    authority = make_certificate_authority("taps demo authority", at=now, random=os.urandom)
    trust = Trust.pem(certificate_pem(*authority.chain))
    async with _silent() as silent, _serving(authority, _ELSEWHERE) as wrong, _serving(authority, NAME) as right:
        others = [("silent", silent), ("wrong certificate", wrong)]
        order = [*others[: good - 1], ("good", right), *others[good - 1 :]]
        security = SecurityParameters(
            require={"forward_secrecy", "endpoint_authentication", "key_update"},
            prefer={"session_resumption", "post_quantum"},
            trust=trust,
            server_name=NAME,
            alpn=[_ALPN],
        )
        remotes = [RemoteEndpoint(ip_address="127.0.0.1", port=port) for _, port in order]
        preconnection = Preconnection(
            remote_endpoints=remotes,
            transport_properties=TransportProperties(reliability="require"),
            security_parameters=security,
        )
        began = asyncio.get_running_loop().time()
        connection = await preconnection.initiate(timeout=_TIMEOUT)
        try:
            await _talk(connection)
        finally:
            connection.abort()  # nothing, after close()
        assert preconnection.race is not None
        return _story(security, preconnection.race, connection, began, order)


def _story(
    security: SecurityParameters,
    race: RaceReport,
    connection: Connection,
    began: float,
    order: list[tuple[str, int]],
) -> dict[str, Any]:
    places = {f"127.0.0.1:{port}": label for label, port in order}
    first = race.attempts[0]
    tried = {attempt.endpoint for attempt in race.attempts}
    for place in places:
        if place not in tried:
            reason = "another was ready before its turn"
            race.attempts.append(Attempted(first.stack, first.version, place, len(race.attempts), 0, "lost", reason))
    declared = declared_json(security, TransportProperties(), frozenset({"reliability"}))
    declared["remote_endpoints"] = [f"{place} ({label})" for place, label in places.items()]
    return story(declared, race, connection.security, began)


async def _talk(connection: Connection) -> None:
    """A message there and back under the first keys, and one under new ones."""
    for turn in (1, 2):
        await connection.send(_HELLO)
        answer = await connection.receive(min_incomplete_length=len(_HELLO), timeout=_TIMEOUT)
        assert answer.data == _HELLO, "the demo's server did not echo"
        if turn == 1:
            await connection.update_keys()
    await connection.close()


@asynccontextmanager
async def _silent() -> AsyncIterator[int]:
    """The port of an endpoint on which connections are never served: the kernel alone accepts them."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@asynccontextmanager
async def _serving(authority: Loaded, name: str) -> AsyncIterator[int]:
    """The port of an echo server with a certificate for `name`."""
    loaded = issue_certificate(authority, [name], at=time.time(), random=os.urandom, days=1)
    listener = await Preconnection(
        local_endpoints=[LocalEndpoint(ip_address="127.0.0.1", port=0)],
        security_parameters=SecurityParameters(identity=Identity(loaded), alpn=[_ALPN]),
    ).listen()
    serving = asyncio.ensure_future(_serve(listener))
    try:
        yield listener.port
    finally:
        listener.stop()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _serve(listener: Listener) -> None:
    async def answer(connection: Connection) -> None:
        await echo(connection, Traffic())

    await listener.serve(answer)
