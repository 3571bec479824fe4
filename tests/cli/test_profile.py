"""Profiles: every table and key, and errors that name them."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from taps_security.cli.profile import load, trust_of
from taps_security.crypto.agreement import Group
from taps_security.properties.transport import TransportProperties
from taps_security.stack.errors import ConfigurationError
from tests.support.pki import Pki

KEY = b64encode(bytes(range(32))).decode()
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
        ('[local]\nstatic_key = "a"', ["[local] static_key", "unknown key"]),
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
    with pytest.raises(ConfigurationError, match="not TOML"):
        load(profile)


def test_trust_of_words() -> None:
    assert trust_of([]) is None
    trust = trust_of(["a.pem", "system", "b.pem"])
    assert trust is not None
    assert trust.files == ("a.pem", "b.pem")
    assert trust.system_roots
