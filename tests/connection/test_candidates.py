"""Which stacks and paths qualify, in which order and why."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from taps_security.connection.candidates import choose_paths, choose_stacks, require_stacks
from taps_security.connection.performance import PerformanceCache
from taps_security.properties.endpoints import LocalEndpoint
from taps_security.properties.preference import Preference
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols import registry
from taps_security.stack.errors import ConfigurationError, Reason
from taps_security.stack.frozen import replace
from tests.connection.toy import ToyOptions, toy

PLAIN = TransportProperties()


@pytest.fixture
def toys() -> Iterator[None]:
    """a and b have what the defaults ask for; b moves, c moves and updates keys, d authenticates nobody."""
    protocols = (
        toy("a"),
        toy("b", "connection_mobility"),
        toy("c", "connection_mobility", "key_update", versions=("2", "1")),
        toy("d", without=("endpoint_authentication",)),
    )
    registered = [registry.register(protocol) for protocol in protocols]
    yield
    for one in registered:
        one.withdraw()


ALL = ("a", "b", "c/2", "d")


def names(security: SecurityParameters, transport: TransportProperties = PLAIN) -> list[str]:
    return [choice.name for choice in choose_stacks(security, transport, Role.CLIENT) if choice.kept]


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ({}, ["a/1", "b/1", "c/2"]),
        ({"require": {"connection_mobility"}}, ["b/1", "c/2"]),
        ({"prefer": {"connection_mobility"}}, ["b/1", "c/2", "a/1"]),
        ({"prefer": {"connection_mobility", "key_update"}}, ["c/2", "b/1", "a/1"]),
        ({"avoid": {"connection_mobility"}}, ["a/1", "b/1", "c/2"]),
        ({"prefer": {"connection_mobility"}, "avoid": {"key_update"}}, ["b/1", "c/2", "a/1"]),
        ({"prefer": {"key_update"}, "avoid": {"connection_mobility"}}, ["c/2", "a/1", "b/1"]),
        ({"prohibit": {"connection_mobility"}}, ["a/1"]),
        ({"unauthenticated": True}, ["a/1", "b/1", "c/2", "d/1"]),
        ({"unauthenticated": True, "prefer": {"endpoint_authentication"}}, ["a/1", "b/1", "c/2", "d/1"]),
        ({"equivalence": "identical"}, ["a/1"]),
        ({"equivalence": "identical", "prefer": {"key_update"}}, ["c/2"]),
    ],
)
@pytest.mark.usefixtures("toys")
def test_require_filters_prefer_sorts_avoid_breaks_ties_prohibit_purges(wish: dict, kept: list[str]) -> None:
    assert names(SecurityParameters(stacks=ALL, **wish)) == kept


@pytest.mark.usefixtures("toys")
def test_the_given_order_breaks_the_last_ties_and_a_name_means_all_versions() -> None:
    assert names(SecurityParameters(stacks=["c", "a"])) == ["c/2", "c/1", "a/1"]


@pytest.mark.usefixtures("toys")
def test_earlier_results_come_behind_preferences() -> None:
    cache = PerformanceCache(clock=lambda: 0.0)
    cache.record("", "a/1", "host", worked=False)
    cache.record("", "c/2", "host", worked=True)
    security = SecurityParameters(stacks=ALL)
    choices = choose_stacks(security, PLAIN, Role.CLIENT, cache=cache, places=[("", "host")])
    assert [choice.name for choice in choices if choice.kept] == ["c/2", "b/1", "a/1"]
    assert choices[0].reasons[-1].as_json() == {
        "property": "past_results",
        "preference": "prefer",
        "provides": True,
        "effect": "ranked up",
        "why": "it worked here lately",
    }
    preferring = SecurityParameters(stacks=("a", "b"), prefer={"connection_mobility"})
    cache.record("", "b/1", "host", worked=False)
    cache.record("", "a/1", "host", worked=True)
    choices = choose_stacks(preferring, PLAIN, Role.CLIENT, cache=cache, places=[("", "host")])
    assert [choice.name for choice in choices] == ["b/1", "a/1"]


@pytest.mark.usefixtures("toys")
def test_each_configuration_is_a_candidate() -> None:
    security = SecurityParameters(stacks=["a"], options={"a": [ToyOptions(1), ToyOptions(2)]})
    choices = choose_stacks(security, PLAIN, Role.CLIENT)
    assert [(choice.name, choice.configuration) for choice in choices] == [("a/1", 0), ("a/1", 1)]
    assert [choice.security.options["a"] for choice in choices] == [ToyOptions(1), ToyOptions(2)]
    narrow = SecurityParameters(stacks=["a"], equivalence="identical", options=security.options)
    assert len([choice for choice in choose_stacks(narrow, PLAIN, Role.CLIENT) if choice.kept]) == 2


@pytest.mark.usefixtures("toys")
def test_reasons_say_what_happened() -> None:
    security = SecurityParameters(
        stacks=["a", "b"], require={"connection_mobility"}, prefer={"key_update"}, avoid={"zero_rtt"}
    )
    dropped = next(choice for choice in choose_stacks(security, PLAIN, Role.CLIENT) if not choice.kept)
    assert (dropped.name, dropped.rank) == ("a/1", None)
    effects = {reason.property: (reason.preference, reason.provides, reason.effect) for reason in dropped.reasons}
    assert effects["reliability"] == ("require", True, "kept")
    assert effects["connection_mobility"] == ("require", False, "dropped")
    assert effects["key_update"] == ("prefer", False, "none")
    assert effects["zero_rtt"] == ("avoid", False, "none")
    assert "keep_alive" not in effects  # nobody said anything about it
    assert "source_validation" not in effects


@pytest.mark.usefixtures("toys")
def test_a_name_may_hold_the_credentials() -> None:
    protocol = replace(toy("keyed", missing="a key (key=)"), named=lambda host: host.startswith("key-"))
    with registry.register(protocol):
        security = SecurityParameters(stacks=["keyed"])

        def choice(*hosts: str) -> tuple[bool, str]:
            (found,) = choose_stacks(security, PLAIN, Role.CLIENT, hosts=hosts)
            return found.kept, found.reasons[-1].why

        assert choice() == choice("other.example") == (False, "a key (key=)")
        assert choice("other.example", "key-1.example") == (True, "the name key-1.example holds them")


def test_listeners_require_source_validation() -> None:
    with registry.register(toy("open", without=("source_validation",))):
        security = SecurityParameters(stacks=["open"])
        assert choose_stacks(security, PLAIN, Role.CLIENT)[0].kept
        listening = choose_stacks(security, PLAIN, Role.SERVER)[0]
        assert not listening.kept
        with pytest.raises(ConfigurationError, match="source_validation"):
            require_stacks([listening], "listen()")


@pytest.mark.usefixtures("toys")
def test_all_protocols_are_listed_when_asked_for() -> None:
    choices = choose_stacks(SecurityParameters(stacks=["a"]), PLAIN, Role.CLIENT, complete=True)
    rest = {choice.name: choice.as_json() for choice in choices[1:]}
    assert {"b/1", "c/2", "c/1", "d/1"} <= set(rest)
    assert rest["b/1"]["reasons"] == [
        {
            "property": "stacks",
            "preference": "require",
            "provides": False,
            "effect": "dropped",
            "why": "not among the allowed stacks",
        }
    ]


@pytest.mark.usefixtures("toys")
def test_a_refusal_names_each_stack_and_its_requirement() -> None:
    with registry.register(toy("e", "post_quantum", missing="a key (psk=)")):
        security = SecurityParameters(stacks=["a", "e"], require={"post_quantum"})
        with pytest.raises(ConfigurationError) as caught:
            require_stacks(choose_stacks(security, PLAIN, Role.CLIENT), "initiate()")
    assert str(caught.value) == (
        "initiate(): no protocol stack can do what was declared: "
        "a/1 does not provide post_quantum (require: not provided). "
        "e/1 lacks a credential: a key (psk=)"
    )
    assert caught.value.reason is Reason.NO_CANDIDATES


@pytest.mark.usefixtures("toys")
def test_a_prohibited_property_is_named() -> None:
    security = SecurityParameters(stacks=["b"])
    choices = choose_stacks(security, PLAIN.prohibit("reliability"), Role.CLIENT)
    with pytest.raises(ConfigurationError, match=re.escape("b/1 provides reliability (prohibit: TCP)")):
        require_stacks(choices, "initiate()")


def test_transport_properties_filter_too() -> None:
    with registry.register(toy("a")):
        security = SecurityParameters(stacks=["a"])
        assert not names(security, TransportProperties.reliable_message())
        assert names(security, TransportProperties.reliable_inorder_stream())
        assert not names(security, TransportProperties.unreliable_datagram())
        assert names(security, PLAIN.require("keep_alive"))
        assert names(security, PLAIN.prohibit("keep_alive"))


# ------------------------------------------------------------------------------------------------------------- paths
def interfaces(local: list[LocalEndpoint], **wishes: str) -> list[str]:
    return [path.interface for path in choose_paths(local, TransportProperties(interface=wishes))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("local", "wishes", "expected"),
    [
        ([], {}, [""]),
        ([], {"eth0": "require"}, ["eth0"]),
        ([], {"eth0": "prefer"}, ["eth0", ""]),
        ([], {"eth0": "avoid"}, [""]),
        ([], {"eth0": "prefer", "wlan0": "prohibit"}, ["eth0"]),
        ([LocalEndpoint(interface="eth0"), LocalEndpoint(interface="wlan0")], {"wlan0": "prefer"}, ["wlan0", "eth0"]),
        ([LocalEndpoint(interface="eth0"), LocalEndpoint(interface="wlan0")], {"eth0": "avoid"}, ["wlan0", "eth0"]),
        ([LocalEndpoint(interface="eth0"), LocalEndpoint(interface="wlan0")], {"eth0": "prohibit"}, ["wlan0"]),
    ],
)
def test_paths(local: list[LocalEndpoint], wishes: dict[str, str], expected: list[str]) -> None:
    assert interfaces(local, **wishes) == expected


@pytest.mark.parametrize(
    ("local", "wishes", "text"),
    [
        ([], {"wlan0": "prohibit"}, "interface: 'wlan0' was prohibited, and the system chooses among the others"),
        ([LocalEndpoint(interface="wlan0")], {"wlan0": "prohibit"}, "interface 'wlan0' is prohibited"),
        ([LocalEndpoint(interface="wlan0")], {"eth0": "require"}, "interface 'wlan0' is not the required 'eth0'"),
    ],
)
def test_no_path_is_left(local: list[LocalEndpoint], wishes: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)) as caught:
        interfaces(local, **wishes)
    assert caught.value.reason is Reason.POLICY_PROHIBITED


def test_what_no_path_can_have() -> None:
    with pytest.raises(ConfigurationError, match="pvd: 'home' was required"):
        choose_paths((), TransportProperties(pvd={"home": "require"}))
    choose_paths((), TransportProperties(pvd={"home": "prefer"}))
    with pytest.raises(ConfigurationError, match="use_temporary_local_address: 'require' was given"):
        choose_paths((), TransportProperties(use_temporary_local_address=Preference.REQUIRE))


def test_a_path_in_words() -> None:
    path = choose_paths([LocalEndpoint(ip_address="192.0.2.1", interface="eth0")], PLAIN)[0]
    assert (str(path), str(choose_paths((), PLAIN)[0])) == ("eth0 192.0.2.1", "any")
