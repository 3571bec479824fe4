"""What CurveCP says of itself, and which stacks come of it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.properties.features import SECURITY_FEATURES
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols.curvecp import DESCRIPTOR
from taps_security.protocols.curvecp.descriptor import KEEP_ALIVE, client, credentials, new_recovery, provides, screener
from taps_security.protocols.curvecp.keys import KeyPair
from taps_security.protocols.curvecp.names import key_label
from taps_security.protocols.curvecp.options import CurveCpOptions
from taps_security.protocols.registry import ClientRequest, Environment, ServerRequest, Shape
from taps_security.recovery import Chicago, Cubic, NewReno
from taps_security.stack.errors import ConfigurationError, Reason

PAIR = KeyPair.generate(os.urandom)
ENVIRONMENT = Environment(random=os.urandom, wall_clock=lambda: 0.0)


def security(options: CurveCpOptions | None = None, **more: Any) -> SecurityParameters:
    return SecurityParameters(options={} if options is None else {"curvecp": options}, **more)


def request(declared: SecurityParameters, name: str = "server.example", **transport: Any) -> ClientRequest:
    return ClientRequest(
        version="1",
        security=declared,
        transport=TransportProperties(**transport),
        endpoint=RemoteEndpoint(host_name=name, port=1),
        server_name=name,
        environment=ENVIRONMENT,
    )


def test_the_room_loads_by_its_descriptor() -> None:
    assert DESCRIPTOR.name == "curvecp"
    assert DESCRIPTOR.shape is Shape.STREAM_TO_DATAGRAM
    assert DESCRIPTOR.carrier == "udp"
    assert set(DESCRIPTOR.deviations) == {"SAV", "CT"}


@pytest.mark.parametrize("role", list(Role))
def test_every_property_is_answered(role: Role) -> None:
    found = provides("1", security(), TransportProperties(), role)
    assert set(found) == {*SECURITY_FEATURES, *TransportProperties.preferences()}
    for feature in (
        "reliability",
        "forward_secrecy",
        "source_validation",
        "identity_protection",
        "connection_mobility",
    ):
        assert found[feature].value
    for feature in ("key_update", "key_export", "session_resumption", "zero_rtt", "multistreaming", "post_quantum"):
        assert not found[feature].value


def test_wishes_and_keys_change_the_answers() -> None:
    def given(feature: str, role: Role, options: CurveCpOptions | None = None, **more: Any) -> bool:
        transport = TransportProperties(**more.pop("transport", {}))
        return provides("1", security(options, **more), transport, role)[feature].value

    assert not given("length_hiding", Role.CLIENT, prohibit={"length_hiding"})
    assert given("length_hiding", Role.CLIENT)
    assert given("mutual_authentication", Role.CLIENT, CurveCpOptions(key=PAIR.secret))
    assert not given("mutual_authentication", Role.CLIENT, CurveCpOptions())
    assert given("mutual_authentication", Role.SERVER, CurveCpOptions(known_clients=[PAIR.public]))
    assert given("mutual_authentication", Role.SERVER, CurveCpOptions(), trust_callback=lambda _: None)
    assert not given("mutual_authentication", Role.SERVER, CurveCpOptions())
    assert given("keep_alive", Role.CLIENT, CurveCpOptions(keep_alive=5.0))
    assert given("keep_alive", Role.CLIENT, transport={"keep_alive": "prefer"})


def test_what_is_missing_is_said() -> None:
    server_key, ours = CurveCpOptions(server_key=PAIR.public), CurveCpOptions(key=PAIR.secret)
    assert credentials(security(server_key), Role.CLIENT) is None
    assert credentials(security(server_name=f"{key_label(PAIR.public)}.example"), Role.CLIENT) is None
    assert "server_key" in str(credentials(security(), Role.CLIENT))
    assert credentials(security(ours), Role.SERVER) is None
    assert "long-term key" in str(credentials(security(server_key), Role.SERVER))
    assert "long-term key" in str(credentials(security(), Role.SERVER))
    asks = {"require": {"mutual_authentication"}}
    assert "whom to serve" in str(credentials(security(ours, **asks), Role.SERVER))
    known = CurveCpOptions(key=PAIR.secret, known_clients=[PAIR.public])
    assert credentials(security(known, **asks), Role.SERVER) is None


def test_a_clients_stack_knows_its_server() -> None:
    made = client(request(security(CurveCpOptions()), f"{key_label(PAIR.public)}.example.org"))
    configuration = made._handshake._configuration
    assert configuration.server_key == PAIR.public
    assert configuration.name.endswith("example.org")
    assert configuration.anonymous
    made = client(request(security(CurveCpOptions(key=PAIR.secret, server_key=PAIR.public, server_name="other"))))
    assert made._handshake._configuration.name == "other"
    assert not made._handshake._configuration.anonymous
    with pytest.raises(ConfigurationError, match="server_key=") as error:
        client(request(security(CurveCpOptions())))
    assert error.value.reason is Reason.MISSING_CREDENTIAL


def test_two_anonymous_clients_have_nothing_in_common() -> None:
    declared = request(security(CurveCpOptions(server_key=PAIR.public)))
    one, other = (client(declared)._handshake for _ in range(2))
    assert one.public != other.public
    assert one._configuration.key != other._configuration.key


def test_keep_alives() -> None:
    declared = security(CurveCpOptions(server_key=PAIR.public))
    assert client(request(declared))._keep_alive is None
    assert client(request(declared, keep_alive="require"))._keep_alive == KEEP_ALIVE
    assert client(request(declared, keep_alive="require", keep_alive_timeout=7.0))._keep_alive == 7.0
    own = security(CurveCpOptions(server_key=PAIR.public, keep_alive=3.0))
    assert client(request(own))._keep_alive == 3.0


@pytest.mark.parametrize(("name", "kind"), [("cubic", Cubic), ("new-reno", NewReno), ("chicago", Chicago)])
def test_the_controller_is_a_choice(name: Any, kind: type) -> None:
    recovery = new_recovery(CurveCpOptions(congestion=name), ENVIRONMENT)
    assert type(recovery.controller) is kind
    assert recovery.controller.datagram_size == 1184
    recovery.controller.on_rtt(0.1, 1.0)


def test_a_screener_wants_a_key() -> None:
    def asked(options: CurveCpOptions | None) -> ServerRequest:
        return ServerRequest(
            versions=("1",),
            security=security(options, server_name="server.example"),
            transport=TransportProperties(),
            endpoint=LocalEndpoint(port=1),
            environment=ENVIRONMENT,
        )

    made = screener(asked(CurveCpOptions(key=PAIR.secret)))
    assert made._configuration.name == "server.example"
    assert made._configuration.known is None
    with pytest.raises(ConfigurationError, match="long-term key"):
        screener(asked(None))
