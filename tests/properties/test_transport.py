"""Transport properties: the RFC's defaults, words, contradictions, profiles."""

from __future__ import annotations

import re

import pytest

from taps_security.properties.preference import Preference
from taps_security.properties.transport import (
    CapacityProfile,
    CommunicationDirection,
    ConnectionProperties,
    Multipath,
    TransportProperties,
)
from taps_security.stack.errors import ConfigurationError

REQUIRE, PREFER, NONE = Preference.REQUIRE, Preference.PREFER, Preference.NO_PREFERENCE

# RFC 9622 §6.2, and §8.1 for what a byte stream can honour
DEFAULTS = {
    "reliability": REQUIRE,
    "preserve_msg_boundaries": NONE,
    "per_msg_reliability": NONE,
    "preserve_order": REQUIRE,
    "zero_rtt_msg": NONE,
    "multistreaming": PREFER,
    "full_checksum_send": REQUIRE,
    "full_checksum_recv": REQUIRE,
    "congestion_control": REQUIRE,
    "keep_alive": NONE,
    "interface": {},
    "pvd": {},
    "use_temporary_local_address": None,  # by role
    "multipath": None,  # by role
    "advertises_altaddr": False,
    "direction": CommunicationDirection.BIDIRECTIONAL,
    "soft_error_notify": NONE,
    "active_read_before_send": NONE,
    "conn_priority": 100,
    "conn_timeout": None,
    "keep_alive_timeout": None,
    "conn_capacity_profile": CapacityProfile.DEFAULT,
    "isolate_session": False,
    "tcp_user_timeout_enabled": False,
    "tcp_user_timeout_value": None,
}


def test_defaults_of_the_rfc() -> None:
    properties = TransportProperties()
    assert {name: properties.get(name) for name in DEFAULTS} == DEFAULTS
    assert set(TransportProperties.names()) == set(DEFAULTS)


@pytest.mark.parametrize("name", TransportProperties.preferences())
@pytest.mark.parametrize("wish", list(Preference))
def test_each_preference_takes_each_word(name: str, wish: Preference) -> None:
    if wish is Preference.PROHIBIT and name == "reliability":
        assert TransportProperties(**{name: wish}).preference(name) is wish  # type: ignore[arg-type]
    properties = TransportProperties(**{name: wish.word})  # type: ignore[arg-type]
    assert properties.preference(name) is wish
    assert properties.replace(**{name: wish}) == properties


@pytest.mark.parametrize("name", ["preserveMsgBoundaries", "preserve_msg_boundaries", "PRESERVEMSGBOUNDARIES"])
def test_names_in_the_forms_of_the_rfc(name: str) -> None:
    properties = TransportProperties()
    assert properties.has(name)
    assert properties.get(name) is NONE
    assert properties.replace(**{name: "prefer"}).preserve_msg_boundaries is PREFER


def test_tcp_names_have_a_namespace() -> None:
    properties = TransportProperties().replace(**{"tcp.userTimeoutValue": 30, "tcp.userTimeoutEnabled": True})
    assert (properties.get("tcp.userTimeoutValue"), properties.tcp_user_timeout_enabled) == (30, True)


def test_helpers_of_appendix_b() -> None:
    properties = TransportProperties()
    assert properties.require("keep_alive", "multistreaming").multistreaming is REQUIRE
    assert properties.prefer("keepAlive").keep_alive is PREFER
    assert properties.avoid("keep_alive").keep_alive is Preference.AVOID
    assert properties.prohibit("keep_alive").keep_alive is Preference.PROHIBIT
    assert properties.no_preference("reliability").reliability is NONE
    assert properties == TransportProperties()  # a copy each time


def test_profiles_of_appendix_b() -> None:
    wanted = {
        "reliable_inorder_stream": (REQUIRE, REQUIRE, REQUIRE, NONE),
        "reliable_message": (REQUIRE, REQUIRE, REQUIRE, REQUIRE),
        "unreliable_datagram": (Preference.AVOID, Preference.AVOID, NONE, REQUIRE),
    }
    names = ("reliability", "preserve_order", "congestion_control", "preserve_msg_boundaries")
    for profile, values in wanted.items():
        made = getattr(TransportProperties, profile)()
        assert tuple(made.get(name) for name in names) == values
    assert TransportProperties.reliable_message(conn_timeout=5).conn_timeout == 5.0


def test_enumerations() -> None:
    properties = TransportProperties(
        multipath="active", direction="unidirectional_send", conn_capacity_profile="low_latency_interactive"
    )
    assert properties.multipath is Multipath.ACTIVE
    assert properties.direction is CommunicationDirection.UNIDIRECTIONAL_SEND
    assert properties.conn_capacity_profile is CapacityProfile.LOW_LATENCY_INTERACTIVE


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"reliability": "must"}, "reliability: 'must' was given, expected 'require', 'prefer'"),
        ({"multipath": "yes"}, "multipath: 'yes' was given, expected 'disabled', 'active' or 'passive'"),
        ({"direction": "up"}, "direction: 'up' was given, expected 'bidirectional'"),
        ({"advertises_altaddr": 1}, "advertises_altaddr: 1 was given, expected True or False"),
        ({"interface": ["eth0"]}, "interface: ['eth0'] was given, expected a mapping"),
        ({"interface": {"eth0": "must"}}, "interface 'eth0': 'must' was given, expected 'require'"),
        ({"interface": {"a": "require", "b": "require"}}, "interface: ['a', 'b'] was given, expected at most one"),
        ({"pvd": {"": "prefer"}}, "pvd: '' was given, expected a string that is not empty"),
        ({"conn_priority": -1}, "conn_priority: -1 was given, expected a whole number from 0"),
        ({"conn_timeout": 0}, "conn_timeout: 0 was given, expected a number of seconds above 0, or None"),
        ({"keep_alive_timeout": "1"}, "keep_alive_timeout: '1' was given, expected a number of seconds"),
        ({"conn_capacity_profile": "fast"}, "conn_capacity_profile: 'fast' was given, expected 'default', 'scavenger'"),
        ({"isolate_session": None}, "isolate_session: None was given, expected True or False"),
        ({"tcp_user_timeout_value": 0}, "tcp_user_timeout_value: 0 was given, expected a whole number from 1"),
        (
            {"reliability": "prohibit", "per_msg_reliability": "require"},
            "per_msg_reliability: 'require' contradicts reliability: 'prohibit' (RFC 9623 §3.1)",
        ),
        (
            {"keep_alive": "prohibit", "keep_alive_timeout": 5},
            "keep_alive_timeout: 5 contradicts keep_alive: 'prohibit'",
        ),
    ],
)
def test_refusals(values: dict, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        TransportProperties(**values)


def test_unknown_properties() -> None:
    with pytest.raises(ConfigurationError, match=r"property: 'relaibility' was given.*did you mean 'reliability'\?"):
        TransportProperties().get("relaibility")
    with pytest.raises(ConfigurationError, match="property: 'colour' was given"):
        TransportProperties().replace(colour=1)
    assert not TransportProperties().has("colour")
    with pytest.raises(ConfigurationError, match="require: 'direction' was given, expected one of 'reliability'"):
        TransportProperties().require("direction")
    with pytest.raises(ConfigurationError, match="preference: 'direction' was given"):
        TransportProperties().preference("direction")


def test_connection_properties_alone() -> None:
    properties = ConnectionProperties(conn_timeout=2)
    assert properties.replace(connPriority=1).conn_priority == 1
    assert not properties.has("reliability")
    assert hash(properties) == hash(ConnectionProperties(conn_timeout=2.0))
