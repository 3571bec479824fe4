"""The registry, and what each protocol says of itself against RFC 8922's Table 1."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from taps_security.properties.features import SECURITY_FEATURES
from taps_security.properties.preference import Preference
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols import registry
from taps_security.protocols.registry import Provided, byte_stream_provides, optional
from taps_security.stack.errors import ConfigurationError
from tests.connection.toy import ToyOptions, toy

# RFC 8922 §5.4, Table 1, for the protocols that there are
TABLE_1 = {
    "tls": "IPK ALG EXT CM PSKI IV CT KU SSKE",
    "dtls": "IPK ALG EXT CM PSKI IV SAV CT KU SSKE ME",
    "quic": "IPK ALG EXT CM PSKI IV SAV CT KU ME",
    "tcpcrypt": "ALG CM AD PSKI CT KU SSKE",
    "minimalt": "IPK ALG CM PSKI IV CT KU SSKE ME",
    "curvecp": "IPK IV ME",
    "ikev2-esp": "IPK ALG AD PSKI IV SAV CT KU SSKE KE ME",
    "wireguard": "IPK PSKI IV SAV ME",
}


@pytest.mark.parametrize("name", [name for name in registry.names() if name in TABLE_1])
def test_labels_are_those_of_table_1_or_have_a_reason(name: str) -> None:
    protocol = registry.descriptor(name)
    labels = {label.name for label in protocol.labels}
    deviating = labels ^ set(TABLE_1[name].split())
    assert deviating == set(protocol.deviations)
    assert all(protocol.deviations.values())


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("role", list(Role))
def test_every_property_is_answered_with_a_reason_for_each_no(name: str, role: Role) -> None:
    protocol = registry.descriptor(name)
    assert protocol.name == name
    for version in protocol.versions:
        provides = protocol.provides(version, SecurityParameters(), TransportProperties(), role)
        assert set(provides) == {*SECURITY_FEATURES, *TransportProperties.preferences()}
        assert all(isinstance(entry, Provided) for entry in provides.values())


@pytest.mark.parametrize("name", registry.names())
def test_wishes_bend_what_can_be_left_out(name: str) -> None:
    protocol = registry.descriptor(name)
    version = protocol.versions[0]
    for feature in ("session_resumption", "post_quantum", "length_hiding"):
        had = protocol.provides(version, SecurityParameters(prohibit={feature}), TransportProperties(), Role.CLIENT)
        assert not had[feature].value


def test_unknown_names_and_versions() -> None:
    with pytest.raises(ConfigurationError, match=r"^stack: 'tsl' was given, expected one of .*; did you mean 'tls'\?$"):
        registry.descriptor("tsl")
    with pytest.raises(ConfigurationError, match=re.escape("stack: 'tls/9' was given, expected tls in version '1.3'")):
        list(registry.allowed(("tls/9",)))


def test_allowed_stacks() -> None:
    with registry.register(toy("two", versions=("2", "1"))):
        assert [(one.name, version) for one, version in registry.allowed(("two", "two/1"))] == [
            ("two", "2"),
            ("two", "1"),
        ]
        assert [version for _, version in registry.allowed(("two/1", "two"))] == ["1", "2"]
        assert {one.name for one, _ in registry.allowed(())} == {*registry.names()}


def test_registering_and_withdrawing() -> None:
    protocol = toy("guest")
    with registry.register(protocol) as registered:
        assert registered is protocol
        assert registry.descriptor("guest") is protocol
        with pytest.raises(ConfigurationError, match=r"register\(\): there is a protocol 'guest' already"):
            registry.register(toy("guest"))
    assert "guest" not in registry.names()
    with pytest.raises(ConfigurationError, match="'tls' already"):
        registry.register(toy("tls"))
    first = registry.register(protocol)
    first.withdraw()
    second = registry.register(toy("guest"))
    first.withdraw()  # not its own any more
    assert "guest" in registry.names()
    second.withdraw()


def test_options() -> None:
    protocol = toy("guest")
    plain = SecurityParameters()
    assert registry.configurations(protocol, plain) == (plain,)
    assert registry.options_of(protocol, plain) is None
    two = SecurityParameters(options={"guest": [ToyOptions(1), ToyOptions(2)]})
    made = registry.configurations(protocol, two)
    assert [registry.options_of(protocol, one) for one in made] == [ToyOptions(1), ToyOptions(2)]
    for wrong, text in ((5, "5 was given, expected ToyOptions"), ([], "[] was given, expected at least one")):
        with pytest.raises(ConfigurationError, match=re.escape(f"options['guest']: {text}")):
            registry.configurations(protocol, SecurityParameters(options={"guest": wrong}))


def test_what_can_be_left_out() -> None:
    assert optional(Preference.NO_PREFERENCE, "tickets") == Provided(True, "tickets")
    assert optional(Preference.AVOID) == Provided(False, "left out: avoid")


@pytest.mark.parametrize(
    ("properties", "kept_alive"),
    [
        (TransportProperties(), False),
        (TransportProperties(keep_alive="prefer"), True),
        (TransportProperties(keep_alive_timeout=5), True),
        (TransportProperties(keep_alive="avoid", keep_alive_timeout=5), False),
        (TransportProperties(keep_alive="prohibit"), False),
    ],
)
def test_byte_streams(properties: TransportProperties, kept_alive: bool) -> None:
    provides = byte_stream_provides(properties)
    assert set(provides) == set(TransportProperties.preferences())
    assert provides["keep_alive"].value is kept_alive
    assert provides["reliability"].value
    assert not provides["preserve_msg_boundaries"].value


def test_rooms_load_when_they_are_asked_for() -> None:
    code = (
        "import sys; from taps_security.protocols import registry; registry.names(); "
        "loaded = [name for name in sys.modules if name.startswith('taps_security.protocols.tls')]; print(loaded)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
