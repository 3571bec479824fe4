"""How requests become the configuration of a listener, and what its connections share."""

from __future__ import annotations

from typing import Any

import pytest

from taps_security.connection.sessions import SessionCache
from taps_security.properties.endpoints import LocalEndpoint
from taps_security.properties.security import SecurityParameters
from taps_security.protocols.registry import ServerRequest
from taps_security.protocols.tls.options import ClientAuthentication, TlsOptions
from taps_security.protocols.tls.screening import TlsScreener
from taps_security.stack.screening import Match

from .test_descriptor import ENVIRONMENT, KEY, TRANSPORT, ours


def listening(**declared: Any) -> TlsScreener:
    return TlsScreener(
        ServerRequest(
            versions=("1.3",),
            security=SecurityParameters(**declared),
            transport=TRANSPORT,
            endpoint=LocalEndpoint(),
            environment=ENVIRONMENT,
        )
    )


def test_tickets_are_stateless_unless_there_is_a_store_and_none_where_they_are_unwanted() -> None:
    stateless = listening(identity=ours())._configuration
    assert stateless.ticket_keys is not None
    assert not stateless.stateful_sessions
    stored = listening(identity=ours(), session_cache=SessionCache())._configuration
    assert (stored.ticket_keys, stored.stateful_sessions) == (None, True)
    for unwanted in ({"avoid": {"session_resumption"}}, {"options": {"tls": TlsOptions(tickets=0)}}):
        none = listening(identity=ours(), session_cache=SessionCache(), **unwanted)._configuration
        assert (none.ticket_keys, none.stateful_sessions) == (None, False)


def test_a_ticket_key_is_kept_no_longer_than_its_tickets() -> None:
    keys = listening(identity=ours(), options={"tls": TlsOptions(ticket_lifetime=60)})._configuration.ticket_keys
    assert keys is not None
    assert keys._lifetime == 60


def test_who_a_listener_lets_in() -> None:
    def of(**declared: Any) -> tuple[bool, bool, ClientAuthentication]:
        found = listening(**declared)._configuration
        return found.certificates, found.external_psks, found.client_authentication

    none, required = ClientAuthentication.NONE, ClientAuthentication.REQUIRE
    assert of(identity=ours()) == (True, False, none)
    assert of(psk=KEY) == (False, True, none)
    assert of(psk_callback=lambda name: None) == (False, True, none)
    assert of(psk=KEY, identity=ours()) == (True, True, none)
    assert of(psk=KEY, identity=ours(), require={"pre_shared_key"}) == (False, True, none)
    assert of(identity=ours(), require={"mutual_authentication"}) == (True, False, required)


def test_connections_of_a_listener_share_its_configuration_and_nothing_else() -> None:
    screener = listening(identity=ours())
    one, other = screener.accept(0.0), screener.accept(0.0)
    assert one._handshake._configuration is other._handshake._configuration  # type: ignore[attr-defined]
    assert one._handshake is not other._handshake
    assert one._record is not other._record


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"", Match.MORE),
        (b"\x16", Match.MORE),
        (b"\x16\x03", Match.YES),
        (b"\x16\x03\x01\x02\x00\x01", Match.YES),
        (b"\x17", Match.NO),
        (b"\x16\x02", Match.NO),
        (b"GET / HTTP/1.1", Match.NO),
    ],
)
def test_first_octets(head: bytes, match: Match) -> None:
    assert listening(identity=ours()).recognise(memoryview(head)) is match
