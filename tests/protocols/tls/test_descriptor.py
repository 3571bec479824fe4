"""What TLS says of itself, which credentials it wants, and how requests become stacks."""

from __future__ import annotations

from typing import Any

import pytest

from taps_security.crypto.agreement import Group
from taps_security.properties.credentials import Identity, PreSharedKey
from taps_security.properties.endpoints import RemoteEndpoint
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.properties.trust import Trust
from taps_security.protocols.registry import ClientRequest, Environment, Provided
from taps_security.protocols.tls.delivery import TlsStack
from taps_security.protocols.tls.descriptor import DESCRIPTOR, HIDING_BLOCK
from taps_security.protocols.tls.options import ClientConfiguration, TlsOptions
from taps_security.protocols.tls.tickets import Session
from taps_security.stack.errors import ConfigurationError

from .pair import Clock, Pair, Randomness, identity
from .test_server import ticket_keys

TRANSPORT = TransportProperties()
ENVIRONMENT = Environment(random=Randomness(b"descriptor"), wall_clock=Clock())
KEY = PreSharedKey("me", bytes(16))
PINNED = Trust.pins("sha256:" + "00" * 32)


def ours() -> Identity:
    return Identity(identity())


def provides(name: str, role: Role = Role.CLIENT, **declared: Any) -> Provided:
    return DESCRIPTOR.provides("1.3", SecurityParameters(**declared), TRANSPORT, role)[name]


def configured(session: object = None, **declared: Any) -> ClientConfiguration:
    request = ClientRequest(
        version="1.3",
        security=SecurityParameters(**declared),
        transport=TRANSPORT,
        endpoint=RemoteEndpoint(host_name="server.example", port=443),
        server_name="server.example",
        environment=ENVIRONMENT,
        session=session,
    )
    stack = DESCRIPTOR.client(request)
    assert isinstance(stack, TlsStack)
    return stack._handshake._configuration  # type: ignore[attr-defined, no-any-return]


# ------------------------------------------------------------------------------------------------------- properties
@pytest.mark.parametrize(
    ("name", "role", "declared", "value"),
    [
        ("forward_secrecy", Role.CLIENT, {}, True),
        ("zero_rtt", Role.CLIENT, {}, False),
        ("multistreaming", Role.CLIENT, {}, False),
        ("pre_shared_key", Role.CLIENT, {}, False),
        ("pre_shared_key", Role.CLIENT, {"psk": KEY}, True),
        ("pre_shared_key", Role.CLIENT, {"psk_callback": lambda name: None}, False),
        ("pre_shared_key", Role.SERVER, {"psk_callback": lambda name: None}, True),
        ("mutual_authentication", Role.CLIENT, {}, False),
        ("mutual_authentication", Role.CLIENT, {"psk": KEY}, True),
        ("mutual_authentication", Role.SERVER, {"psk": KEY}, True),
        ("mutual_authentication", Role.SERVER, {"client_authentication": "request"}, False),
        ("mutual_authentication", Role.SERVER, {"client_authentication": "require"}, True),
        ("mutual_authentication", Role.SERVER, {"require": {"mutual_authentication"}}, True),
        ("identity_protection", Role.CLIENT, {}, True),
        ("identity_protection", Role.CLIENT, {"psk": KEY}, False),
        ("session_resumption", Role.CLIENT, {}, True),
        ("session_resumption", Role.CLIENT, {"avoid": {"session_resumption"}}, False),
        ("length_hiding", Role.CLIENT, {}, False),
        ("length_hiding", Role.CLIENT, {"prefer": {"length_hiding"}}, True),
        ("length_hiding", Role.CLIENT, {"options": {"tls": TlsOptions(padding=64)}}, True),
        ("post_quantum", Role.CLIENT, {}, False),
        ("post_quantum", Role.CLIENT, {"require": {"post_quantum"}}, True),
        ("post_quantum", Role.CLIENT, {"options": {"tls": TlsOptions(groups=(Group.X25519MLKEM768,))}}, True),
    ],
)
def test_what_a_configuration_provides(name: str, role: Role, declared: dict[str, Any], value: bool) -> None:
    found = provides(name, role, **declared)
    assert found.value is value
    assert value or found.reason


def test_certificates_beside_a_key_authenticate_no_client_by_themselves() -> None:
    assert not provides("mutual_authentication", Role.SERVER, psk=KEY, identity=ours()).value
    assert provides("mutual_authentication", Role.SERVER, psk=KEY, identity=ours(), require={"pre_shared_key"}).value
    assert provides("mutual_authentication", identity=ours()).value


# ------------------------------------------------------------------------------------------------------ credentials
@pytest.mark.parametrize(
    ("role", "declared", "missing"),
    [
        (Role.CLIENT, {}, None),  # the system's roots
        (Role.CLIENT, {"psk": KEY}, None),
        (Role.CLIENT, {"trust": PINNED}, None),
        (Role.SERVER, {}, "identity="),
        (Role.SERVER, {"psk": KEY}, None),
        (Role.SERVER, {"psk_callback": lambda name: None}, None),
        (Role.SERVER, {"psk": KEY, "require": {"mutual_authentication"}}, None),  # nobody is asked for a certificate
    ],
)
def test_which_credentials_are_wanted(role: Role, declared: dict[str, Any], missing: str | None) -> None:
    found = DESCRIPTOR.credentials(SecurityParameters(**declared), role)
    assert (missing in found) if missing and found else found is missing


def test_who_asks_clients_says_whom_it_trusts_and_a_callback_alone_does_not() -> None:
    security = SecurityParameters(identity=ours(), client_authentication="require")
    for lacking in (security, security.replace(trust_callback=lambda peer: None)):
        assert "trust=" in (DESCRIPTOR.credentials(lacking, Role.SERVER) or "")
    assert DESCRIPTOR.credentials(security.replace(trust=PINNED), Role.SERVER) is None


# ---------------------------------------------------------------------------------------------------------- clients
def test_a_clients_request_becomes_its_configuration() -> None:
    one = configured(alpn=["h2"], psk=KEY)
    assert (one.server_name, one.alpn, one.psks[0].identity, one.psks[0].imported) == (
        "server.example",
        ("h2",),
        b"me",
        True,
    )
    assert not one.require_mutual_authentication
    assert not one.require_pre_shared_key
    plain = configured(psk=KEY, options={"tls": TlsOptions(import_psk=False)})
    assert not plain.psks[0].imported
    strict = configured(psk=KEY, require={"mutual_authentication", "pre_shared_key"})
    assert strict.require_mutual_authentication
    assert strict.require_pre_shared_key


def test_sessions_are_used_unless_resumption_is_unwanted() -> None:
    session = Pair(server={"ticket_keys": ticket_keys()}).run().client.sessions[0]
    assert isinstance(session, Session)
    assert configured(session).session is session
    assert configured("a session of another protocol").session is None
    assert configured(session, avoid={"session_resumption"}).session is None
    assert DESCRIPTOR.restore is not None
    assert DESCRIPTOR.restore(session.serialise()) == session


def test_groups_follow_what_is_wanted_of_post_quantum() -> None:
    hybrid = Group.X25519MLKEM768
    assert configured().options.key_shares == (Group.X25519,)
    assert configured(require={"post_quantum"}).options.groups == (hybrid,)
    preferred = configured(prefer={"post_quantum"}).options
    assert preferred.groups[0] is hybrid
    assert preferred.key_shares == (hybrid, Group.X25519)
    assert hybrid not in configured(prohibit={"post_quantum"}).options.groups
    with pytest.raises(ConfigurationError, match="groups"):
        configured(prohibit={"post_quantum"}, options={"tls": TlsOptions(groups=(hybrid,))})


def test_padding_follows_length_hiding_unless_it_is_set() -> None:
    assert configured(prefer={"length_hiding"}).options.padding == HIDING_BLOCK
    set_ = {"tls": TlsOptions(padding=64)}
    assert configured(prefer={"length_hiding"}, options=set_).options.padding == 64
