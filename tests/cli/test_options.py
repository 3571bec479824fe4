"""Options and profile together: what is declared, where it goes, and what is refused."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taps_security.cli.options import (
    Credentials,
    Declared,
    General,
    Peer,
    Selection,
    declare,
    host_and_port,
    local_endpoint,
    remote_endpoint,
)
from taps_security.cli.profile import Profile
from taps_security.properties.preference import Preference
from taps_security.properties.security import ClientAuthentication, Role
from taps_security.protocols import registry
from taps_security.protocols.registry import Descriptor, Provided, Shape
from taps_security.protocols.wireguard import quick
from taps_security.protocols.wireguard.options import WireGuardOptions
from taps_security.stack.errors import ConfigurationError
from taps_security.stack.frozen import replace
from tests.connection.toy import toy
from tests.support.pki import Pki

KEY = b64encode(bytes(32)).decode()
OURS, THEIRS = (b64encode(letter * 32).decode() for letter in (b"o", b"t"))


def declared(credentials: Credentials | None = None, **selection: Any) -> Declared:
    return declare(credentials or Credentials(), Selection(**selection), Role.CLIENT)


# ------------------------------------------------------------------------------------------------------- preferences
def test_each_preference_goes_where_it_belongs() -> None:
    found = declared(require=["key_update", "keepAlive"], prefer=["zero-rtt"], avoid=["multistreaming"], prohibit=[])
    assert found.security.require == {"key_update"}
    assert found.security.prefer == {"zero_rtt"}
    assert found.transport.keep_alive is Preference.REQUIRE
    assert found.transport.multistreaming is Preference.AVOID
    assert found.said == {"keep_alive", "multistreaming"}
    words = found.as_json()
    assert words["require"] == ["key_update"]
    assert words["transport"] == {"keep_alive": "require", "multistreaming": "avoid"}


def test_options_win_over_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        '[security]\nrequire = ["key_update"]\navoid = ["key_export"]\nstacks = ["tls"]\nalpn = ["a"]\n'
        '[remote]\nserver_name = "profile.example"\n[transport]\nkeep_alive = "require"\nconn_timeout = 5\n'
    )
    found = declare(
        Credentials(profile=path, alpn=["b"]),
        Selection(require=["key_export"], avoid=["keep_alive"], stack=["tls/1.3"]),
        Role.CLIENT,
        server_name="option.example",
    )
    assert found.security.require == {"key_update", "key_export"}
    assert not found.security.avoid
    assert found.security.stacks == ("tls/1.3",)
    assert found.security.alpn == ("b",)
    assert found.security.server_name == "option.example"
    assert found.transport.keep_alive is Preference.AVOID
    assert found.transport.conn_timeout == 5


def test_one_property_in_two_words_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--prohibit: 'key_update' was given to --prefer too"):
        declared(prefer=["key_update"], prohibit=["key_update"])


# ------------------------------------------------------------------------------------------------------- credentials
def test_credentials(pki: Pki) -> None:
    files = pki.files(pki.leaf())
    found = declare(
        Credentials(
            identity=[files.certificate], key=[files.key], trust=[str(pki.trust_file), "system"], psk=[f"me:{KEY}"],
            pin=["sha256:" + "ab" * 32], alpn=["x", "y"],
        ),
        Selection(),
        Role.SERVER,
        client_authentication="require",
    ).security  # fmt: skip
    assert found.identities[0].loaded.subject == "CN=server.example"
    assert found.trust is not None
    assert found.trust.system_roots
    assert found.trust.files == (str(pki.trust_file),)
    assert found.trust.pinned[0].sha256 == b"\xab" * 32
    assert found.psks[0].identity == b"me"
    assert found.alpn == ("x", "y")
    assert found.client_authentication is ClientAuthentication.REQUIRE


def test_one_file_may_hold_both_certificate_and_key(pki: Pki, tmp_path: Path) -> None:
    files = pki.files(pki.leaf())
    both = tmp_path / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    assert declared(Credentials(identity=[both])).security.identities


@pytest.mark.parametrize("keys", [["a"], ["a", "b", "c"]])
def test_each_identity_has_one_key(pki: Pki, keys: list[str]) -> None:
    certificate = pki.files(pki.leaf()).certificate
    with pytest.raises(ConfigurationError, match=rf"--key: {len(keys)} given for 2 --identity"):
        declared(Credentials(identity=[certificate] * 2, key=[Path(key) for key in keys]))


# ------------------------------------------------------------------------------------------------ a stack by its name
def datagrams(name: str) -> Descriptor:
    """A protocol that is neither reliable nor ordered."""
    return Descriptor(
        name=name,
        versions=("1",),
        shape=Shape.DATAGRAM_TO_DATAGRAM,
        carrier="udp",
        labels=frozenset(),
        provides=lambda *_: {"full_checksum_send": Provided(True)},
        credentials=lambda *_: None,
        client=lambda _: pytest.fail("not built"),
        screener=lambda _: pytest.fail("not built"),
    )


def test_a_named_stack_relaxes_defaults_that_contradict_it() -> None:
    with registry.register(datagrams("toy")):
        transport = declared(stack=["toy"]).transport
        assert transport.reliability is Preference.NO_PREFERENCE
        assert transport.preserve_order is Preference.NO_PREFERENCE
        assert transport.full_checksum_send is Preference.REQUIRE


def test_what_was_named_is_never_relaxed() -> None:
    with registry.register(datagrams("toy")):
        assert declared(stack=["toy"], require=["reliability"]).transport.reliability is Preference.REQUIRE


def test_nothing_is_relaxed_while_one_stack_has_it() -> None:
    with registry.register(datagrams("toy")):
        assert declared(stack=["toy", "tls"]).transport.reliability is Preference.REQUIRE
        assert declared().transport.reliability is Preference.REQUIRE


# --------------------------------------------------------------------------------------------------------- endpoints
@pytest.mark.parametrize(
    ("words", "host", "port"),
    [
        ("server.example:443", "server.example", 443),
        ("192.0.2.1:https", "192.0.2.1", "https"),
        ("[2001:db8::1]:4433", "2001:db8::1", 4433),
        (":8080", "", 8080),
    ],
)
def test_host_and_port(words: str, host: str, port: int | str) -> None:
    assert host_and_port(words, "HOST:PORT") == (host, port)


@pytest.mark.parametrize("words", ["", "host", "host:", "::1", "2001:db8::1:443", "[::1]443"])
def test_host_and_port_refuses(words: str) -> None:
    with pytest.raises(ConfigurationError, match=r"HOST:PORT: .* was given, expected HOST:PORT"):
        host_and_port(words, "HOST:PORT")


def test_remote_endpoint() -> None:
    assert remote_endpoint("server.example:443", Profile()).host_name == "server.example"
    assert remote_endpoint("[::1]:https", Profile(host="other", port=1)).service == "https"
    assert str(remote_endpoint(None, Profile(host="192.0.2.1", port=5))) == "192.0.2.1:5"
    for profile in (Profile(), Profile(host="a"), Profile(port=1)):
        with pytest.raises(ConfigurationError, match="no peer was given"):
            remote_endpoint(None, profile)


def test_local_endpoint() -> None:
    assert local_endpoint("127.0.0.1:0").ip_address == "127.0.0.1"
    assert local_endpoint(":443").port == 443
    assert local_endpoint("*:https").service == "https"
    assert local_endpoint("localhost:1").host_name == "localhost"


# --------------------------------------------------------------------------------------------------------- the loop
@pytest.mark.parametrize("choice", ["asyncio", "uvloop"])
def test_the_loop(choice: Any) -> None:
    async def name() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert General(loop=choice).run(name).split(".")[0] == choice
    assert General(loop=choice).run(name, exact=True).split(".")[0] == choice
    assert General().run(name, exact=True).split(".")[0] == "asyncio"


def test_key_log(tmp_path: Path) -> None:
    assert General().key_log() is None
    log = General(keylog=tmp_path / "keys").key_log()
    assert log is not None
    log.close()
    with pytest.raises(ConfigurationError, match="--keylog: cannot write"):
        General(keylog=tmp_path / "nowhere" / "keys").key_log()


# -------------------------------------------------------------------------------------- static keys, foreign profiles
@pytest.fixture
def burrow() -> Iterator[None]:
    """A protocol that reads the files of another program."""
    with registry.register(replace(toy("burrow"), options=WireGuardOptions, formats={".burrow": quick.read})):
        yield


@pytest.mark.usefixtures("burrow")
def test_a_static_key_stands_in_for_the_profiles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, key = tmp_path / "tunnel.burrow", tmp_path / "own.key"
    path.write_text("[Interface]\nMTU = 1400\nPostUp = true\nDNS = 10.0.0.1\n")
    key.write_text(KEY + "\n")
    found = declared(Credentials(profile=path, static_key=key))
    assert found.security.stacks == ("burrow",)
    assert found.security.options == {"burrow": WireGuardOptions(private_key=bytes(32), mtu=1400)}
    assert capsys.readouterr().err == f"taps: {path}: not honoured: PostUp, DNS\n"
    assert declared(Credentials(profile=path, static_key=key), stack=["tls"]).security.stacks == ("tls",)


def test_static_keys_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "own.key"
    path.write_text(KEY)
    with pytest.raises(ConfigurationError, match=r"--static-key: no --profile was given, expected .* 'tls' needs"):
        declared(Credentials(static_key=path), stack=["tls"])
    path.unlink()
    profile = tmp_path / "profile.toml"
    profile.write_text("")
    with pytest.raises(ConfigurationError, match=r"--static-key: cannot read .*own\.key"):
        declared(Credentials(static_key=path, profile=profile))
    path.write_text("c2hvcnQ=")
    with pytest.raises(ConfigurationError, match=r"--static-key: .*own\.key' holds no static key"):
        declared(Credentials(static_key=path, profile=profile))


@dataclass(frozen=True)
class Told:
    """Options that remember what was given apart from them."""

    apart: tuple[object, ...] = ()


@pytest.fixture
def keyed() -> Iterator[None]:
    """A protocol that takes what stands apart from its options."""

    def overridden(own: Told | None, given: registry.Overrides) -> Told:
        if given.peer_key == "wrong":
            raise ConfigurationError("Told.key: 'wrong' was given, expected a key")
        return Told((*(() if own is None else own.apart), *given))

    with registry.register(replace(toy("keyed"), options=Told, overridden=overridden)):
        yield


@pytest.mark.usefixtures("keyed")
def test_what_stands_apart_goes_to_who_takes_it(tmp_path: Path) -> None:
    def told(peer: Peer, *, stack: tuple[str, ...] = ("keyed",), **given: Path) -> object:
        found = declare(Credentials(**given), Selection(stack=list(stack)), Role.CLIENT, peer)  # type: ignore[arg-type]
        options = found.security.options.get("keyed")
        return None if options is None else tuple(options.apart)  # type: ignore[attr-defined]

    key, profile = tmp_path / "own.key", tmp_path / "p.toml"
    key.write_text(KEY)
    profile.write_text(f'[local]\nstatic_key = "own.key"\n[remote]\npeer_key = "{THEIRS}"')
    apart, named = (bytes(32), THEIRS, None), Peer(server_name="n", peer_key=OURS)
    assert told(Peer()) is None
    assert told(named) == (None, OURS, None)
    assert told(named, static_key=key) == told(named, static_key=key, stack=()) == (bytes(32), OURS, None)
    assert told(Peer(), profile=profile) == apart
    assert told(Peer(), profile=profile, stack=()) == (None, THEIRS, None)  # the key is for whoever is named
    assert told(named, profile=profile) == (bytes(32), OURS, None)
    profile.write_text('[keyed]\napart = ["own"]')
    assert told(Peer(), profile=profile) == ("own",)
    assert told(named, profile=profile, static_key=key) == ("own", bytes(32), OURS, "n")


@pytest.mark.usefixtures("keyed")
def test_peer_keys_that_cannot_be(tmp_path: Path) -> None:
    def refused(peer_key: str | None, stack: str, profile: Path | None = None) -> str:
        with pytest.raises(ConfigurationError) as caught:
            declare(Credentials(profile=profile), Selection(stack=[stack]), Role.CLIENT, Peer(peer_key=peer_key))
        return caught.value.message

    assert refused("wrong", "keyed") == "--peer-key: 'wrong' was given, expected a key"
    assert refused("any", "tls") == "--peer-key: one was given, expected none for 'tls'"
    profile = tmp_path / "p.toml"
    profile.write_text('[remote]\npeer_key = "wrong"')
    assert refused(None, "keyed", profile) == f"{profile}: [remote] peer_key: 'wrong' was given, expected a key"


def test_what_is_implied_yields_to_what_was_said() -> None:
    selection = Selection(require=["key_update"])
    selection.imply("preserve_msg_boundaries")
    assert selection.require == ["key_update", "preserve_msg_boundaries"]
    for word in ("require", "avoid"):
        said = Selection(**{word: ["preserveMsgBoundaries"]})
        said.imply("preserve_msg_boundaries")
        assert said == Selection(**{word: ["preserveMsgBoundaries"]})


def test_a_store_is_a_file(tmp_path: Path) -> None:
    store = declared(Credentials(store=tmp_path / "store")).security.store
    assert store is not None
    store.save("a", b"1")
    again = declared(Credentials(store=tmp_path / "store")).security.store
    assert again is not None
    assert again.load("a") == b"1"
    (tmp_path / "store").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"--store: '.*store': its content was not written by"):
        declared(Credentials(store=tmp_path / "store"))
