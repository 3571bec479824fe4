"""`taps demo`: three endpoints on loopback, of which one is good, and a real race of two protocols to it.

A silent endpoint accepts TCP, takes datagrams, and says nothing. A second shows a certificate of somebody else. The
third is good: one echo service with TLS over TCP and CurveCP over UDP on one port number. Where it stands in the list,
and which carrier is blocked on the way, decide who wins, and when.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..connection.candidates import StackChoice
from ..connection.connection import Connection
from ..connection.listener import Listener
from ..connection.preconnection import Preconnection
from ..connection.racing import Attempted
from ..crypto.certificates import Identity as Loaded
from ..crypto.certificates import certificate_pem
from ..crypto.issuing import issue_certificate, make_certificate_authority
from ..crypto.sodium import scalarmult_base
from ..properties.credentials import Identity
from ..properties.endpoints import LocalEndpoint, RemoteEndpoint
from ..properties.security import Role, SecurityParameters
from ..properties.transport import TransportProperties
from ..properties.trust import Trust
from ..protocols.curvecp.options import CurveCpOptions
from .apps import echo
from .options import declared_json
from .race import story
from .relay import Traffic

NAME = "demo.example"
_ELSEWHERE = "elsewhere.example"
_ALPN = "taps-demo"
_HELLO = b"hello over whatever won"
_TIMEOUT = 10.0  # seconds
_HOST = "127.0.0.1"
_CARRIERS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_OVER = {"tls": "tcp", "curvecp": "udp"}
_TRIES = 8  # of finding a port number that is free for both carriers
POSITIONS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class _Credentials:
    """Of the good service, and of the authority behind both certificates."""

    authority: Loaded
    secret: bytes

    def serves(self, name: str, stacks: Sequence[str]) -> SecurityParameters:
        """What an endpoint of that name brings."""
        loaded = issue_certificate(self.authority, [name], at=time.time(), random=os.urandom, days=1)
        own = {"curvecp": CurveCpOptions(key=self.secret, server_name=name)}
        return SecurityParameters(stacks=stacks, identity=Identity(loaded), alpn=[_ALPN], options=own)

    def wants(self) -> SecurityParameters:
        """What the client declares, and what it knows of the good service."""
        return SecurityParameters(
            require={"forward_secrecy", "endpoint_authentication", "replay_protection"},
            prefer={"session_resumption", "key_update", "post_quantum"},
            trust=Trust.pem(certificate_pem(*self.authority.chain)),
            server_name=NAME,
            alpn=[_ALPN],
            options={"curvecp": CurveCpOptions(server_key=scalarmult_base(self.secret))},
        )


async def run(good: int, blocked: str | None = None) -> dict[str, Any]:
    """The demo's story, with the good endpoint at position `good` (from 1). Raises what went wrong.

    `blocked`: "tcp" or "udp", of which nothing gets through to the good endpoint.
    """
    authority = make_certificate_authority("taps demo authority", at=time.time(), random=os.urandom)
    known = _Credentials(authority, os.urandom(32))
    open_ = [stack for stack, carrier in _OVER.items() if carrier != blocked]
    async with (
        _endpoint(None, tuple(_CARRIERS)) as silent,
        _endpoint(known.serves(_ELSEWHERE, ["tls"])) as wrong,
        _endpoint(known.serves(NAME, open_), () if blocked is None else (blocked,)) as right,
    ):
        others = [("silent", silent), ("wrong certificate", wrong)]
        order = [*others[: good - 1], ("good", right), *others[good - 1 :]]
        preconnection = Preconnection(
            remote_endpoints=[RemoteEndpoint(ip_address=_HOST, port=port) for _, port in order],
            transport_properties=TransportProperties(reliability="require"),
            security_parameters=known.wants(),
        )
        began = asyncio.get_running_loop().time()
        considered = preconnection.considered(Role.CLIENT)
        connection = await preconnection.initiate(timeout=_TIMEOUT)
        try:
            await _talk(connection)
        finally:
            connection.abort()  # nothing, after close()
        return _story(preconnection, considered, connection, began, order)


def _story(
    preconnection: Preconnection,
    considered: Sequence[StackChoice],
    connection: Connection,
    began: float,
    order: list[tuple[str, int]],
) -> dict[str, Any]:
    race = preconnection.race
    assert race is not None
    places = {f"{_HOST}:{port}": label for label, port in order}
    tried = {(attempt.stack, attempt.endpoint) for attempt in race.attempts}
    never = "another was ready before its turn"
    for choice in filter(lambda choice: choice.kept, considered):
        name, rank = choice.protocol.name, choice.rank or 0
        for place in places:
            if (name, place) not in tried:
                race.attempts.append(Attempted(name, choice.version, place, rank, 0, "lost", never))
    declared = declared_json(preconnection.security_parameters, TransportProperties(), frozenset({"reliability"}))
    declared["remote_endpoints"] = [f"{place} ({label})" for place, label in places.items()]
    told = story(declared, race, connection.security, began)
    return {**told, "stacks": [choice.as_json() for choice in considered]}


async def _talk(connection: Connection) -> None:
    """A message there and back under the first keys, and one under new ones, where there can be any."""
    for turn in (1, 2):
        await connection.send(_HELLO)
        answer = await connection.receive(min_incomplete_length=len(_HELLO), timeout=_TIMEOUT)
        assert answer.data == _HELLO, "the demo's server did not echo"
        if turn == 1 and connection.security.provides["key_update"]:
            await connection.update_keys()
    await connection.close()


# --------------------------------------------------------------------------------------------------------- endpoints
@asynccontextmanager
async def _endpoint(security: SecurityParameters | None, silent: Sequence[str] = ()) -> AsyncIterator[int]:
    """The port of an echo server, with all stacks of `security` (None: with none) and carriers that only listen."""
    listener, sockets = await _bound(security, silent)
    serving = None if listener is None else asyncio.ensure_future(_serve(listener))
    try:
        yield sockets[0].getsockname()[1] if listener is None else listener.port
    finally:
        for sock in sockets:
            sock.close()
        if listener is not None and serving is not None:
            listener.stop()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _bound(
    security: SecurityParameters | None, silent: Sequence[str]
) -> tuple[Listener | None, list[socket.socket]]:
    """A listener and silent sockets, all on one free port number."""
    for left in reversed(range(_TRIES)):
        listener, sockets = None, []
        if security is not None:
            here = [LocalEndpoint(ip_address=_HOST, port=0)]
            listener = await Preconnection(here, security_parameters=security).listen()
        port = 0 if listener is None else listener.port
        try:
            for carrier in silent:
                sock = socket.socket(socket.AF_INET, _CARRIERS[carrier])
                sockets.append(sock)
                sock.bind((_HOST, port))
                port = sock.getsockname()[1]
                if carrier == "tcp":
                    sock.listen()
            return listener, sockets
        except OSError:
            for sock in sockets:
                sock.close()
            if listener is not None:
                listener.stop()
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


async def _serve(listener: Listener) -> None:
    async def answer(connection: Connection) -> None:
        await echo(connection, Traffic())

    await listener.serve(answer)
