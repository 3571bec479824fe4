"""Putting Connections together: sockets' options, sessions, credentials."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest

from taps_security.connection import assembly
from taps_security.connection.assembly import Assembly, environment_of, stream_options
from taps_security.connection.candidates import Path, choose_stacks
from taps_security.connection.racing import Candidate
from taps_security.connection.sessions import SessionCache
from taps_security.connection.stores import MemoryStore
from taps_security.properties.credentials import PreSharedKey
from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.properties.trust import Trust
from taps_security.protocols import registry
from taps_security.protocols.registry import ClientRequest, Environment, ServerRequest
from taps_security.transport.network import ResolvedAddress, StreamOptions
from tests.connection.toy import toy

PLAIN = TransportProperties()
REMOTE = RemoteEndpoint(host_name="server.example", port=443)


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (PLAIN, StreamOptions()),
        (PLAIN.require("keep_alive"), StreamOptions(keep_alive=True)),
        (TransportProperties(keep_alive_timeout=9), StreamOptions(keep_alive=True, keep_alive_seconds=9.0)),
        (TransportProperties(keep_alive="avoid", keep_alive_timeout=9), StreamOptions()),
        (TransportProperties(conn_timeout=7), StreamOptions(user_timeout_seconds=7.0)),
        (TransportProperties(tcp_user_timeout_value=5), StreamOptions()),
        (
            TransportProperties(conn_timeout=7, tcp_user_timeout_enabled=True, tcp_user_timeout_value=5),
            StreamOptions(user_timeout_seconds=5.0),
        ),
        (TransportProperties(conn_capacity_profile="capacity_seeking"), StreamOptions(no_delay=False)),
        (TransportProperties(conn_capacity_profile="scavenger"), StreamOptions(no_delay=False)),
        (TransportProperties(conn_capacity_profile="low_latency_interactive"), StreamOptions()),
    ],
)
def test_properties_become_socket_options(properties: TransportProperties, expected: StreamOptions) -> None:
    assert stream_options(properties, "") == expected
    assert stream_options(properties, "eth0").interface == "eth0"


async def test_randomness_and_clock_come_from_the_loop_if_it_has_its_own() -> None:
    log: list[str] = []
    store = MemoryStore()  # empty, and yet a store
    plain = environment_of(asyncio.get_running_loop(), log.append, store)
    assert (plain.random, plain.key_log, plain.store) == (os.urandom, log.append, store)
    own = Environment(random=bytes, wall_clock=lambda: 5.0, store=MemoryStore())
    found = environment_of(SimpleNamespace(taps_environment=own), log.append, store)  # type: ignore[arg-type]
    assert (found.random(2), found.wall_clock(), found.key_log) == (b"\0\0", 5.0, log.append)
    assert found.store is store
    assert environment_of(SimpleNamespace(taps_environment=own), None).store is own.store  # type: ignore[arg-type]


class Requests:
    """Catches what descriptors are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clients: list[ClientRequest] = []
        self.servers: list[ServerRequest] = []
        self.made: list[Any] = []
        monkeypatch.setattr(assembly, "Connection", self._connection)

    def _connection(self, loop: object, stack: object, log: Any, answerer: Any) -> Any:
        made = SimpleNamespace(stack=stack, log=log, answers=answerer._answers, on_session=None)
        made.initiated_by = lambda preconnection, on_session: setattr(made, "on_session", on_session)
        made.keep_sessions = lambda on_session: setattr(made, "on_session", on_session)
        self.made.append(made)
        return made

    def client(self, request: ClientRequest) -> Any:
        self.clients.append(request)
        return "stack"

    def screener(self, request: ServerRequest) -> Any:
        self.servers.append(request)
        return SimpleNamespace(accept=lambda now: "accepted")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    return Requests(monkeypatch)


def assemble(requests: Requests, role: Role, security: SecurityParameters, sessions: Any) -> tuple[Assembly, Any]:
    with registry.register(toy("toy", client=requests.client, screener=requests.screener)):
        choices = choose_stacks(security, PLAIN, role)
    return Assembly(security, PLAIN, role, sessions, None), choices


def client(requests: Requests, security: SecurityParameters, sessions: Any, remote: RemoteEndpoint = REMOTE) -> Any:
    made, choices = assemble(requests, Role.CLIENT, security, sessions)
    candidate = Candidate(choices[0], Path(), remote, ResolvedAddress("192.0.2.1", 443, 2))
    made.client(SimpleNamespace(), candidate, None)  # type: ignore[arg-type]
    return requests.made[-1]


@pytest.mark.parametrize(
    ("remote", "given", "name"),
    [
        (REMOTE, None, "server.example"),
        (REMOTE, "other.example", "other.example"),
        (RemoteEndpoint(ip_address="192.0.2.1", port=1), None, "192.0.2.1"),
        (RemoteEndpoint(ip_address="fe80::1%eth0", port=1), None, "fe80::1"),
    ],
)
def test_whom_a_client_means(requests: Requests, remote: RemoteEndpoint, given: str | None, name: str) -> None:
    security = SecurityParameters(stacks=["toy"], trust=Trust.pins("00" * 32), server_name=given)
    client(requests, security, None, remote)
    assert requests.clients[0].server_name == name
    assert requests.clients[0].endpoint is remote


def test_sessions_serve_one_connection_each_and_their_own_purpose(requests: Requests) -> None:
    cache = SessionCache()
    security = SecurityParameters(stacks=["toy"], trust=Trust.pins("00" * 32))
    client(requests, security, cache).on_session("ticket")
    client(requests, security.replace(alpn=["other"]), cache)
    client(requests, security.replace(server_name="other.example"), cache)
    client(requests, security, cache)
    client(requests, security, cache)
    assert [request.session for request in requests.clients] == [None, None, None, "ticket", None]


def test_prohibited_resumption_keeps_nothing(requests: Requests) -> None:
    security = SecurityParameters(stacks=["toy"], trust=Trust.pins("00" * 32), prohibit={"session_resumption"})
    assert client(requests, security, SessionCache()).on_session is None


def test_engines_get_the_declared_store(requests: Requests) -> None:
    store = MemoryStore()
    security = SecurityParameters(stacks=["toy"], trust=Trust.pins("00" * 32), store=store)
    client(requests, security, None)
    made, choices = assemble(requests, Role.SERVER, security.replace(trust=None), None)
    made.server(SimpleNamespace(time=lambda: 5.0), choices, LocalEndpoint(port=1))  # type: ignore[arg-type]
    assert [request.environment.store for request in (*requests.clients, *requests.servers)] == [store, store]


def test_answers_get_what_was_declared(requests: Requests) -> None:
    key = PreSharedKey("me", b"0" * 16)
    callback = lambda identity: None  # noqa: E731
    security = SecurityParameters(stacks=["toy"], psk=key, psk_callback=callback)
    answers = client(requests, security, None).answers
    assert answers.psks == {b"me": key}
    assert answers.psk_callback is callback
    assert answers.anchors() is None


def test_a_listener_shares_its_screener_and_keeps_stateful_tickets(requests: Requests) -> None:
    cache = SessionCache()
    security = SecurityParameters(stacks=["toy"])
    made, choices = assemble(requests, Role.SERVER, security, cache)
    screener, wrap = made.server(SimpleNamespace(time=lambda: 5.0), choices, LocalEndpoint(port=1))  # type: ignore[arg-type]
    first, second = (wrap(screener.accept(5.0)) for _ in range(2))
    assert len(requests.servers) == 1
    assert requests.servers[0].versions == ("1",)
    assert (first.stack, first.properties) == ("accepted", PLAIN)
    session = SimpleNamespace(ticket=b"t")
    first.on_session(session)
    assert second.answers.sessions.find(b"t") is session
    assert second.answers.sessions.find(b"t") is None
