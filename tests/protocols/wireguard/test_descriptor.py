"""What WireGuard says of itself, for the options that it is given."""

from __future__ import annotations

import pytest

from taps_security.properties.preference import Preference
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols.registry import Environment, Shape, TunnelRequest
from taps_security.protocols.wireguard import DESCRIPTOR
from taps_security.protocols.wireguard.options import WireGuardOptions
from taps_security.protocols.wireguard.tunnel import WireGuardTunnel
from taps_security.stack.errors import ConfigurationError
from tests.protocols.wireguard.world import PRIVATE, PUBLIC, options


def provided(given: WireGuardOptions | None, feature: str, role: Role = Role.CLIENT) -> bool:
    security = SecurityParameters(options={} if given is None else {"wireguard": given})
    return DESCRIPTOR.provides("1", security, TransportProperties(), role)[feature].value


@pytest.mark.parametrize("role", list(Role))
def test_what_it_always_is(role: Role) -> None:
    given = options("a")
    for feature in ("forward_secrecy", "mutual_authentication", "source_validation", "connection_mobility"):
        assert provided(given, feature, role)
    for feature in ("algorithm_agility", "application_negotiation", "key_export", "zero_rtt", "reliability"):
        assert not provided(given, feature, role)
    assert DESCRIPTOR.shape is Shape.DATAGRAM_TO_DATAGRAM


def test_what_depends_on_the_peers() -> None:
    plain, keyed = options("a").peers[0], options("a", psk=True, keepalive=25).peers[0]
    assert provided(options("a", psk=True), "pre_shared_key")
    assert not provided(options("a"), "pre_shared_key")
    assert not provided(None, "pre_shared_key")
    assert provided(options("a", keepalive=25), "keep_alive")
    assert not provided(options("a"), "keep_alive")
    assert (plain.public_key, keyed.public_key) == (PUBLIC["b"], PUBLIC["b"])


def test_credentials() -> None:
    def missing(given: WireGuardOptions | None, role: Role = Role.CLIENT) -> str | None:
        return DESCRIPTOR.credentials(SecurityParameters(options={} if given is None else {"wireguard": given}), role)

    assert missing(options("a")) is None
    assert "private key" in (missing(None) or "")
    assert "addresses" in (missing(WireGuardOptions(private_key=PRIVATE["a"])) or "")
    alone = WireGuardOptions(private_key=PRIVATE["a"], addresses=("10.0.0.1/24",))
    assert "peer" in (missing(alone) or "")
    assert missing(alone, Role.SERVER) is None  # peers may be added while it runs


def test_a_tunnel() -> None:
    def request(given: dict[str, object]) -> TunnelRequest:
        return TunnelRequest(
            version="1",
            security=SecurityParameters(options=given),
            transport=TransportProperties(),
            environment=Environment(random=bytes, wall_clock=lambda: 0.0),
        )

    assert DESCRIPTOR.tunnel is not None
    made = DESCRIPTOR.tunnel(request({"wireguard": options("a")}))
    assert isinstance(made, WireGuardTunnel)
    assert made.identity == PUBLIC["a"]
    with pytest.raises(ConfigurationError, match=r"options\['wireguard'\]"):
        DESCRIPTOR.tunnel(request({}))


@pytest.mark.parametrize("wish", list(Preference))
def test_checksums_inside_are_computed_where_somebody_wants_them(wish: Preference) -> None:
    """They cover nothing that the tunnel does not, and cost more than its cipher."""
    made = DESCRIPTOR.tunnel(
        TunnelRequest(
            version="1",
            security=SecurityParameters(options={"wireguard": options("a")}),
            transport=TransportProperties(full_checksum_send=wish),
            environment=Environment(random=bytes, wall_clock=lambda: 0.0),
        )
    )
    assert made._host.checksums is (wish in {Preference.REQUIRE, Preference.PREFER})
    assert provided(options("a"), "full_checksum_send")
