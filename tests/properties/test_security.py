"""Security parameters: features and their defaults, credentials, contradictions."""

from __future__ import annotations

import re

import pytest

from taps_security.properties.credentials import Identity, Pin, PreSharedKey
from taps_security.properties.features import SECURITY_FEATURES
from taps_security.properties.preference import Preference
from taps_security.properties.security import ClientAuthentication, Equivalence, Role, SecurityParameters
from taps_security.properties.trust import Trust
from taps_security.stack.errors import ConfigurationError
from tests.support.pki import Pki

CLIENT, SERVER = Role.CLIENT, Role.SERVER
PIN = "sha256:" + "ab" * 32


def test_features_of_the_survey() -> None:
    assert len(SECURITY_FEATURES) == 19
    assert all(meaning for meaning in SECURITY_FEATURES.values())


def test_defaults() -> None:
    security = SecurityParameters()
    required = {
        role: {name for name in SECURITY_FEATURES if security.preference(name, role) is Preference.REQUIRE}
        for role in Role
    }
    assert required[CLIENT] == {"forward_secrecy", "endpoint_authentication"}
    assert required[SERVER] == {"forward_secrecy", "endpoint_authentication", "source_validation"}
    rest = set(SECURITY_FEATURES) - required[SERVER]
    assert {security.preference(name, role) for name in rest for role in Role} == {Preference.NO_PREFERENCE}


@pytest.mark.parametrize("word", ["require", "prefer", "avoid", "prohibit"])
@pytest.mark.parametrize("feature", sorted(set(SECURITY_FEATURES) - {"endpoint_authentication"}))
def test_each_feature_takes_each_preference(word: str, feature: str) -> None:
    security = SecurityParameters(**{word: {feature}})  # type: ignore[arg-type]
    assert {security.preference(feature, role) for role in Role} == {Preference[word.upper()]}
    assert security.is_declared(feature)
    assert not SecurityParameters().is_declared(feature)


def test_a_store_can_load_and_save() -> None:
    class Kept:
        def load(self, key: str) -> bytes | None:
            return None

        def save(self, key: str, value: bytes) -> None:
            pass

    store = Kept()
    assert SecurityParameters(store=store).replace(alpn=["a"]).store is store
    assert SecurityParameters().store is None
    for wrong in ({}, "store.json"):
        with pytest.raises(ConfigurationError, match=r"SecurityParameters\.store: .* expected a Store with load"):
            SecurityParameters(store=wrong)  # type: ignore[arg-type]


def test_unauthenticated_peers_need_a_word_of_their_own() -> None:
    allowed = SecurityParameters(unauthenticated=True)
    assert allowed.preference("endpoint_authentication", CLIENT) is Preference.PREFER
    avoided = SecurityParameters(unauthenticated=True, avoid={"endpoint_authentication"})
    assert avoided.preference("endpoint_authentication", CLIENT) is Preference.AVOID
    with pytest.raises(ConfigurationError, match="is required unless unauthenticated=True"):
        SecurityParameters(prefer={"endpoint_authentication"})
    with pytest.raises(ConfigurationError, match=r"unauthenticated: True contradicts require"):
        SecurityParameters(unauthenticated=True, require={"endpoint_authentication"})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"require": {"forward_secrcy"}},
            "SecurityParameters.require: 'forward_secrcy' was given, expected one of 'forward_secrecy'",
        ),
        ({"prefer": "zero_rtt"}, "SecurityParameters.prefer: 'zero_rtt' was given, expected a set"),
        ({"avoid": 5}, "SecurityParameters.avoid: 5 was given, expected a set"),
        ({"avoid": [["zero_rtt"]]}, "SecurityParameters.avoid: [['zero_rtt']] was given, expected a set"),
        (
            {"require": {"zero_rtt"}, "prohibit": {"zero_rtt"}},
            "SecurityParameters: 'zero_rtt' is in both require and prohibit, expected in one of them",
        ),
        ({"unauthenticated": 1}, "SecurityParameters.unauthenticated: 1 was given, expected True or False"),
        ({"stacks": "tls"}, "SecurityParameters.stacks: 'tls' was given, expected a list of strings"),
        ({"stacks": ["TLS 1.3"]}, "SecurityParameters.stacks: 'TLS 1.3' was given, expected NAME or NAME/VERSION"),
        ({"equivalence": "all"}, "SecurityParameters.equivalence: 'all' was given, expected 'declared' or 'identical'"),
        ({"alpn": "h2"}, "SecurityParameters.alpn: 'h2' was given, expected a list of strings"),
        ({"alpn": ["x" * 256]}, "SecurityParameters.alpn: 'xxx"),
        ({"server_name": ""}, "SecurityParameters.server_name: '' was given"),
        ({"trust": "ca.pem"}, "SecurityParameters.trust: 'ca.pem' was given, expected Trust.system()"),
        ({"pins": PIN}, "SecurityParameters.pins: 'sha256:"),
        ({"trust_callback": 5}, "SecurityParameters.trust_callback: 5 was given, expected a function, or None"),
        ({"psk_callback": 5}, "SecurityParameters.psk_callback: 5 was given, expected a function, or None"),
        ({"identity": "cert.pem"}, "SecurityParameters.identities: 'cert.pem' was given, expected Identity objects"),
        ({"psks": 5}, "SecurityParameters.psks: 5 was given, expected a list of PreSharedKey objects"),
        (
            {"client_authentication": "maybe"},
            "SecurityParameters.client_authentication: 'maybe' was given, expected 'none', 'request' or 'require'",
        ),
        ({"options": 5}, "SecurityParameters.options: 5 was given, expected a mapping from stack names"),
        (
            {"psks": [PreSharedKey("a", b"0" * 16), PreSharedKey("a", b"1" * 16)]},
            "SecurityParameters.psks: '2 keys' was given, expected a different identity for each key",
        ),
    ],
)
def test_refusals(values: dict, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        SecurityParameters(**values)


def test_a_close_miss_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'forward_secrecy'\?$"):
        SecurityParameters(require={"forward_secrcy"})


def test_pins_add_to_trust() -> None:
    assert SecurityParameters(pins=[PIN]).trust == Trust.pins(PIN)
    both = SecurityParameters(trust=Trust.system(), pins=[PIN, Pin.of(PIN)])
    assert both.trust == Trust.system() | Trust.pins(PIN)
    assert both.replace(alpn=["a"]).trust == both.trust
    assert both.replace(trust=Trust.system()).trust == Trust.system()


def test_who_vouches_for_peers() -> None:
    assert SecurityParameters().trust_of(CLIENT) == Trust.system()
    assert SecurityParameters().trust_of(SERVER) is None
    psk = PreSharedKey("me", b"0" * 16)
    assert SecurityParameters(psk=psk).trust_of(CLIENT) is None
    assert SecurityParameters(psk=psk, trust=Trust.file("a")).trust_of(CLIENT) == Trust.file("a")


def test_client_authentication_follows_mutual_authentication() -> None:
    assert SecurityParameters().asks_clients is ClientAuthentication.NONE
    assert SecurityParameters(require={"mutual_authentication"}).asks_clients is ClientAuthentication.REQUIRE
    assert SecurityParameters(prefer={"mutual_authentication"}).asks_clients is ClientAuthentication.REQUEST
    chosen = SecurityParameters(client_authentication="request", require={"mutual_authentication"})
    assert chosen.asks_clients is ClientAuthentication.REQUEST
    assert chosen.equivalence is Equivalence.DECLARED


def test_one_and_many(pki: Pki) -> None:
    first, second = Identity(pki.leaf()), Identity(pki.client())
    security = SecurityParameters(identity=first, identities=[second])
    assert security.identities == (first, second)
    assert security.replace(alpn=["a"]).identities == (first, second)
    assert security.replace(identity=second).identities == (second,)
    assert security.replace(identities=[first]).identities == (first,)
    one, two = PreSharedKey("a", b"0" * 16), PreSharedKey("b", b"1" * 16)
    assert SecurityParameters(psk=one, psks=[two]).psks == (one, two)


def test_replacing_what_is_not_there() -> None:
    with pytest.raises(
        ConfigurationError, match=r"SecurityParameters\.replace: 'trsut' was given.*did you mean 'trust'"
    ):
        SecurityParameters().replace(trsut=None)


def test_sessions_of_one_purpose_do_not_serve_another(pki: Pki) -> None:
    kinds = [
        SecurityParameters(),
        SecurityParameters(trust=Trust.file("a")),
        SecurityParameters(alpn=["a"]),
        SecurityParameters(identity=Identity(pki.client())),
        SecurityParameters(trust_callback=lambda peer: None),
        SecurityParameters(psk=PreSharedKey("me", b"0" * 16)),
    ]
    assert len({security.session_scope for security in kinds}) == len(kinds)
    assert SecurityParameters().session_scope == SecurityParameters(trust=Trust.system()).session_scope


def test_options_are_copied_and_unknown_properties_refused() -> None:
    options: dict[str, object] = {"tls": 1}
    security = SecurityParameters(options=options)
    options["tls"] = 2
    assert security.options == {"tls": 1}
    with pytest.raises(ConfigurationError, match="security property: 'colour' was given"):
        security.preference("colour", CLIENT)


def test_secrets_do_not_show() -> None:
    security = SecurityParameters(psk=PreSharedKey("me", b"secret-secret-16"))
    assert "secret-secret" not in repr(security)
