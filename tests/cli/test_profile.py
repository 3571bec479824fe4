"""Profiles: every table and key, and errors that name them."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from taps_security.cli.profile import load, read_static_key, trust_of
from taps_security.crypto.agreement import Group
from taps_security.properties.transport import TransportProperties
from taps_security.protocols import registry
from taps_security.protocols.wireguard import quick
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer, key_text
from taps_security.stack.errors import ConfigurationError
from taps_security.stack.frozen import replace
from tests.connection.toy import ToyOptions, toy
from tests.support.pki import Pki

KEY = b64encode(bytes(range(32))).decode()
OTHER = b64encode(bytes(range(32, 64))).decode()
PIN = "sha-256 " + ":".join(["AB"] * 32)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "profile.toml"


def test_a_whole_profile(profile: Path, pki: Pki) -> None:
    files = pki.files(pki.leaf())
    (profile.parent / "cert.pem").write_bytes(files.certificate.read_bytes())
    (profile.parent / "key.pem").write_bytes(files.key.read_bytes())
    profile.write_text(f"""
[local]
identity = "cert.pem"
key = "key.pem"
[remote]
host = "server.example"
port = 4433
server_name = "name.example"
trust = ["ca.pem", "system"]
fingerprint = "{PIN}"
[transport]
reliability = "require"
multipath = "active"
connTimeout = 7.5
[security]
stacks = ["tls/1.3"]
require = ["forward_secrecy"]
prefer = ["post_quantum"]
avoid = ["zero_rtt"]
prohibit = ["key_import"]
alpn = ["echo/1"]
equivalence = "identical"
client_authentication = "request"
unauthenticated = false
psk = {{ identity = "me", key = "{KEY}" }}
[tls]
groups = ["x25519", "secp256r1"]
key_shares = ["secp256r1"]
record_size_limit = 4096
""")
    found = load(profile)
    security = found.security
    assert (found.host, found.port) == ("server.example", 4433)
    assert security["identities"][0].loaded.subject == "CN=server.example"
    assert security["server_name"] == "name.example"
    assert security["trust"].files == (str(profile.parent / "ca.pem"),)
    assert security["trust"].system_roots
    assert security["pins"][0].sha256 == b"\xab" * 32
    assert found.transport == {"reliability": "require", "multipath": "active", "conn_timeout": 7.5}
    assert TransportProperties(**found.transport).conn_timeout == 7.5
    assert security["stacks"] == ["tls/1.3"]
    assert security["psks"][0].identity == b"me"
    assert security["options"]["tls"].groups == (Group.X25519, Group.SECP256R1)
    assert security["options"]["tls"].key_shares == (Group.SECP256R1,)
    assert security["options"]["tls"].record_size_limit == 4096


def test_several_keys(profile: Path) -> None:
    one, other = (f'{{ identity = "{name}", key = "{KEY}" }}' for name in "ab")
    profile.write_text(f"[security]\npsk = [{one}, {other}]\n")
    assert [key.identity for key in load(profile).security["psks"]] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[wireless]", ["[wireless]", "unknown table", "'local'", "'tls'"]),
        ("[remot]", ["[remot]", "did you mean 'remote'"]),
        ("security = 3", ["security", "expected a table"]),
        ("[security]\nrequires = []", ["[security] requires", "did you mean 'require'"]),
        ('[security]\nrequire = ["fs"]', ["[security] require", "'fs'", "'forward_secrecy'"]),
        ('[security]\nrequire = "forward_secrecy"', ["[security] require", "a set of security properties"]),
        ('[security]\nprefer = ["forward_secrey"]', ["[security] prefer", "did you mean 'forward_secrecy'"]),
        ('[security]\nstacks = ["tsl"]', ["[security] stacks", "'tsl'", "did you mean 'tls'"]),
        ('[security]\nstacks = ["tls/7"]', ["[security] stacks", "'1.3'"]),
        ('[security]\nequivalence = "maybe"', ["[security] equivalence", "'declared' or 'identical'"]),
        ('[security]\nalpn = "h2"', ["[security] alpn", "a list of strings"]),
        ('[security]\npsk = "me"', ["[security] psk", "identity", "BASE64"]),
        ('[security]\npsk = { identity = "me", key = "??" }', ["[security] psk", "base64"]),
        ('[security]\npsk = { identity = "me", key = "c2hvcnQ=" }', ["[security] psk", "5 octets", "16 to 1024"]),
        ("[remote]\nport = 0", ["[remote] port", "0 was given", "1 to 65535"]),
        ('[remote]\nport = "https"', ["[remote] port", "'https'"]),
        ('[remote]\nhost = "a b"', ["[remote] host", "'a b'"]),
        ("[remote]\nhost = 3", ["[remote] host", "3 was given", "a string"]),
        ("[remote]\nserver_name = false", ["[remote] server_name", "False was given"]),
        ('[remote]\nfingerprint = "xyz"', ["[remote] fingerprint", "'xyz'", "SHA-256"]),
        ("[remote]\ntrust = 1", ["[remote] trust", "1 was given", "a string"]),
        ('[local]\nidentity = "nothing.pem"', ["[local] identity", "nothing.pem", "No such file"]),
        ('[local]\nkey = "key.pem"', ["[local] identity", "nothing was given"]),
        ('[local]\nstatic_key = "a.key"', ["[local] static_key", "a.key", "No such file"]),
        ('[local]\nstatic_key = "profile.toml"', ["[local] static_key", "profile.toml", "base64 of 32 octets"]),
        ("[local]\nstatic_key = 3", ["[local] static_key", "3 was given"]),
        ('[transport]\nreliability = "perhaps"', ["[transport] reliability", "'perhaps'", "'require'"]),
        ("[transport]\nreliabel = 1", ["[transport] reliabel", "did you mean 'reliability'"]),
        ("[transport]\nconn_timeout = -1", ["[transport] conn_timeout", "-1", "above 0"]),
        ('[tls]\ngroups = ["x25520"]', ["[tls] groups", "x25520"]),
        ('[tls]\ngroups = ["x25519"]\nkey_shares = ["x448"]', ["[tls] key_shares", "one of tls.groups"]),
        ("[tls]\nrecord_size_limit = 1", ["[tls] record_size_limit", "1"]),
        ("[tls]\ncookie = true", ["[tls] cookie", "unknown key"]),
        ("[tls]\ngroups = 3", ["[tls]"]),
        ("[security", ["not TOML"]),
    ],
)
def test_errors_name_the_place(profile: Path, text: str, words: list[str]) -> None:
    profile.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(profile)
    message = str(refused.value)
    assert message.startswith(str(profile))
    for word in words:
        assert word in message, message
    assert "\n" not in message


def test_secrets_stay_out_of_errors(profile: Path) -> None:
    profile.write_text(f'[security]\npsk = {{ identity = "", key = "{KEY}" }}')
    with pytest.raises(ConfigurationError) as refused:
        load(profile)
    assert KEY not in str(refused.value)


def test_files_that_cannot_be_read(profile: Path) -> None:
    with pytest.raises(ConfigurationError, match="--profile: cannot read"):
        load(profile)
    profile.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no text"):
        load(profile)


# ------------------------------------------------------------------------------------- tables and files of their own
@pytest.fixture
def burrow() -> Iterator[None]:
    """A protocol whose table is not its options' fields, and which reads the files of another program."""
    described = replace(
        toy("burrow"), options=WireGuardOptions, from_table=quick.from_table, formats={".burrow": quick.read}
    )
    with registry.register(described):
        yield


TABLE = f"""
[burrow]
address = "10.88.0.1/24"
listen_port = 51820
peers = [{{ public_key = "{KEY}", allowed_ips = ["10.88.0.2/32"], persistent_keepalive = 25 }}]
"""


@pytest.mark.usefixtures("burrow")
def test_the_private_key_of_a_table_is_a_file_beside_the_profile(profile: Path) -> None:
    (profile.parent / "own.key").write_text(f"{OTHER}\n")
    profile.write_text(f'{TABLE}\n[local]\nstatic_key = "own.key"')  # the table may stand before what it wants
    (found,) = load(profile).security["options"].values()
    assert key_text(found.private_key) == OTHER
    assert (found.addresses, found.listen_port, found.mtu) == (("10.88.0.1/24",), 51820, 1420)
    assert found.peers == (WireGuardPeer(public_key=KEY, allowed_ips=["10.88.0.2/32"], persistent_keepalive=25),)
    assert load(profile, bytes(32)).security["options"]["burrow"].private_key == bytes(32)  # who asks for another


@pytest.mark.usefixtures("burrow")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TABLE, "[burrow] the private key is missing, expected static_key in [local]"),
        ("[burrow]\nadress = 1", "[burrow] adress: an unknown key was given"),
        ('[burrow]\npeers = [{ public_key = "x" }]', "[burrow] peers[0].public_key: what was given is no key"),
    ],
)
def test_errors_of_a_table_of_its_own_name_the_place(profile: Path, text: str, words: str) -> None:
    profile.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(profile, None if text is TABLE else bytes(32))
    assert str(refused.value).startswith(f"{profile}: {words}")


def test_files_that_a_table_names_are_beside_the_profile(profile: Path) -> None:
    seen: list[object] = []

    def from_table(table: Mapping[str, Any], private_key: bytes | None) -> ToyOptions:
        seen.append(table)
        return ToyOptions()

    protocol = replace(toy("filed"), from_table=from_table, paths=frozenset({"folder", "number"}))
    with registry.register(protocol):
        profile.write_text('[filed]\nfolder = "keys"\nnumber = 3\nword = "as it is"')
        load(profile)
    assert seen == [{"folder": str(profile.parent / "keys"), "number": 3, "word": "as it is"}]


def test_keys_that_stand_apart_are_kept_for_whoever_takes_them(profile: Path) -> None:
    (profile.parent / "own.key").write_text(OTHER)
    profile.write_text(f'[local]\nstatic_key = "own.key"\n[remote]\npeer_key = "{KEY}"')
    found = load(profile)
    assert (found.static_key, found.peer_key) == (b64decode(OTHER), KEY)
    assert OTHER not in repr(found)
    assert str(b64decode(OTHER)) not in repr(found)


@pytest.mark.usefixtures("burrow")
def test_the_file_of_another_program_is_for_its_protocol_alone(tmp_path: Path) -> None:
    path = tmp_path / "tunnel.burrow"
    path.write_text(f"[Interface]\nPrivateKey = {KEY}\nDNS = 10.0.0.1\nMTU = 1400\n")
    found = load(path)
    assert found.security["stacks"] == ("burrow",)
    assert found.security["options"] == {"burrow": WireGuardOptions(private_key=KEY, mtu=1400)}
    assert found.in_vain == ("DNS",)
    assert load(path, bytes(32)).security["options"]["burrow"].private_key == bytes(32)
    path.write_text(f"[Interface]\nPrivateKey = {KEY}\nMTU = 1\n")
    with pytest.raises(ConfigurationError, match=r"tunnel\.burrow: line 3: \[Interface\] MTU: 1 was given"):
        load(path)


@pytest.mark.parametrize("text", ["", "x", KEY[:-4], KEY + KEY, "\xff"])
def test_what_is_no_static_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "own.key"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"own\.key' holds no static key, expected the base64 of") as refused:
        read_static_key(path)
    assert KEY[:8] not in str(refused.value)


def test_trust_of_words() -> None:
    assert trust_of([]) is None
    trust = trust_of(["a.pem", "system", "b.pem"])
    assert trust is not None
    assert trust.files == ("a.pem", "b.pem")
    assert trust.system_roots


def test_the_tunnel_of_the_design_as_toml_and_as_wg_quick_has_it(tmp_path: Path) -> None:
    """Both say the same."""
    (tmp_path / "own.key").write_text(OTHER)
    toml, conf = tmp_path / "tunnel.toml", tmp_path / "tunnel.conf"
    toml.write_text(
        f"""
[local]
static_key = "own.key"
[wireguard]
address = "10.88.0.1/24"
listen_port = 51820
mtu = 1420
peers = [{{ public_key = "{KEY}", preshared_key = "{OTHER}", endpoint = "10.77.0.2:51820",
    allowed_ips = ["10.88.0.2/32"], persistent_keepalive = 25 }}]
""".replace(",\n   ", ",")
    )
    conf.write_text(f"""
[Interface]
PrivateKey = {OTHER}
Address = 10.88.0.1/24
ListenPort = 51820
MTU = 1420
[Peer]
PublicKey = {KEY}
PresharedKey = {OTHER}
Endpoint = 10.77.0.2:51820
AllowedIPs = 10.88.0.2/32
PersistentKeepalive = 25
""")
    assert load(toml).security["options"] == load(conf).security["options"]
    assert load(conf).security["stacks"] == ("wireguard",)
    toml.write_text(f'[wireguard]\npeers = [{{ public_key = "{KEY}", allowed_ips = ["x"] }}]')
    with pytest.raises(ConfigurationError, match=r"tunnel\.toml: \[wireguard\] peers\[0\]\.allowed_ips: 'x' was given"):
        load(toml, bytes(32))
