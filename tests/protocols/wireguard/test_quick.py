"""The file format of wg-quick, both ways, and the table of a profile."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taps_security.crypto.sodium import scalarmult_base
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer, key_text
from taps_security.protocols.wireguard.quick import from_table, read, write
from taps_security.stack.errors import ConfigurationError
from tests.interop.peers import require_program

PRIVATE, SECRET = bytes(range(1, 33)), bytes([0x5A]) * 32
ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32
OURS, THEIRS, THIRD = key_text(PRIVATE), key_text(ONE), key_text(OTHER)

FILE = f"""\
# a comment
[Interface]
PrivateKey = {OURS}
Address = 10.88.0.1/24, fd00::1/64 # and another
Address=192.0.2.7
ListenPort = 51820
MTU = 1380
DNS = 10.0.0.1
PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo [done] = yes
PostUp = true
SaveConfig = true

[Peer]
PublicKey = {THEIRS}
PresharedKey = {key_text(SECRET)}
Endpoint = [2001:db8::1]:51820
AllowedIPs = 10.88.0.2/32, fd00::2/128
AllowedIPs = 0.0.0.0/0
PersistentKeepalive = 25

[peer]
  publickey   =   {THIRD}
ENDPOINT=peer.example:1
allowedips =
persistentkeepalive = OFF
"""

EXPECTED = WireGuardOptions(
    private_key=PRIVATE,
    addresses=["10.88.0.1/24", "fd00::1/64", "192.0.2.7/32"],
    listen_port=51820,
    mtu=1380,
    peers=[
        WireGuardPeer(
            public_key=ONE,
            preshared_key=SECRET,
            endpoint=("2001:db8::1", 51820),
            allowed_ips=["10.88.0.2/32", "fd00::2/128", "0.0.0.0/0"],
            persistent_keepalive=25,
        ),
        WireGuardPeer(public_key=OTHER, endpoint="peer.example:1"),
    ],
)


def interface(*lines: str) -> str:
    return "\n".join(["[Interface]", f"PrivateKey = {OURS}", *lines])


def peer(*lines: str) -> str:
    return "\n".join([interface(), "[Peer]", f"PublicKey = {THEIRS}", *lines])


# ------------------------------------------------------------------------------------------------------------- reading
def test_a_whole_file() -> None:
    found = read(FILE)
    assert found.options == EXPECTED
    assert found.not_honoured == ("DNS", "PostUp", "SaveConfig")


@pytest.mark.parametrize("ends", ["\r\n", "\n\n", " \t\n"])
def test_ends_of_lines_and_a_byte_order_mark_do_not_matter(ends: str) -> None:
    assert read("\ufeff" + FILE.replace("\n", ends)) == read(FILE)


def test_tables_may_come_in_any_order_and_the_interface_again() -> None:
    found = read(f"[Peer]\nPublicKey={THEIRS}\n[INTERFACE]\nMTU=1400\n[Interface]\nPrivateKey={OURS}\n").options
    assert (found.mtu, [one.public_key for one in found.peers]) == (1400, [ONE])


@pytest.mark.parametrize("key", ["DNS", "table", "FWMARK", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"])
def test_keys_that_are_not_honoured_are_told_and_change_nothing(key: str) -> None:
    found = read(interface(f"{key} = off"))
    assert [name.lower() for name in found.not_honoured] == [key.lower()]
    assert found.options == WireGuardOptions(private_key=PRIVATE)


def test_the_private_key_may_come_from_elsewhere() -> None:
    assert read("[Interface]\nMTU = 1400", PRIVATE).options.private_key == PRIVATE
    assert read(f"[Interface]\nPrivateKey = {key_text(SECRET)}", PRIVATE).options.private_key == PRIVATE


# -------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["[Interface]", "no such table"]),
        ("# nothing", ["[Interface]", "no such table"]),
        (f"[Peer]\nPublicKey = {THEIRS}", ["[Interface]", "no such table"]),
        ("MTU = 1400\n[Interface]", ["line 1", "before the first table", "[Interface]"]),
        ("[Interface]\nMTU = 1400", ["line 1: [Interface] PrivateKey", "is missing", "wg genkey"]),
        ("[Interface]\n[Peers]", ["line 2", "[Interface] or [Peer]"]),
        ("[Interface", ["line 1", "[Interface] or [Peer]"]),
        ("[Interface] PrivateKey = x", ["line 1", "[Interface] or [Peer]"]),
        (interface("ListenPort"), ["line 3: [Interface]", "KEY = VALUE"]),
        (interface("= 3"), ["line 3: [Interface]", "KEY = VALUE"]),
        (interface("ListenPrt = 3"), ["line 3: [Interface] ListenPrt", "unknown key", "did you mean 'ListenPort'"]),
        (interface("AllowedIPs = 10.0.0.0/8"), ["line 3: [Interface] AllowedIPs", "expected it in [Peer]"]),
        (peer("Address = 10.0.0.1"), ["line 5: [Peer] Address", "expected it in [Interface]"]),
        (peer("DNS = 10.0.0.1"), ["line 5: [Peer] DNS", "unknown key"]),
        (interface("ListenPort = 70000"), ["line 3: [Interface] ListenPort", "70000", "0 to 65535"]),
        (interface("ListenPort = -1"), ["line 3: [Interface] ListenPort", "'-1'", "0 to 65535"]),
        (interface("ListenPort = \N{ARABIC-INDIC DIGIT ONE}"), ["[Interface] ListenPort", "0 to 65535"]),
        (interface("ListenPort = " + "9" * 5000), ["[Interface] ListenPort", "0 to 65535"]),
        (interface("ListenPort ="), ["line 3: [Interface] ListenPort", "''", "0 to 65535"]),
        (interface("ListenPort = 1", "listenport = 2"), ["line 4: [Interface] ListenPort", "in line 3 too"]),
        (interface("MTU = 500"), ["line 3: [Interface] MTU", "500", "from 576"]),
        (interface("MTU = 900", "Address = fd00::1/64"), ["line 3: [Interface] MTU", "900", "from 1280"]),
        (interface("Address = 10.0.0.300/24"), ["line 3: [Interface] Address", "'10.0.0.300/24'", "prefix length"]),
        (interface("Address = 10.0.0.1", "", "Address = 10.0.0.1/8"), ["line 5: [Interface] Address", "once"]),
        (interface("[Peer]"), ["line 3: [Peer] PublicKey", "is missing", "wg pubkey"]),
        (interface("[Peer]", "PublicKey = abcd"), ["line 4: [Peer] PublicKey", "44 characters"]),
        (interface("[Peer]", f"PublicKey = {OURS}"), ["[Peer] PublicKey", "it is our private key"]),
        (interface("[Peer]", f"PublicKey = {key_text(scalarmult_base(PRIVATE))}"), ["line 4: [Peer] PublicKey", "own"]),
        (peer("[Peer]", f"PublicKey = {THEIRS}"), ["line 6: [Peer] PublicKey", "twice"]),
        (peer("PresharedKey = short"), ["line 5: [Peer] PresharedKey", "44 characters"]),
        (peer("Endpoint = 2001:db8::1:51820"), ["line 5: [Peer] Endpoint", "brackets"]),
        (peer("Endpoint = host"), ["line 5: [Peer] Endpoint", "'host'", "HOST:PORT"]),
        (peer("Endpoint = host:0"), ["line 5: [Peer] Endpoint", "HOST:PORT"]),
        (peer("Endpoint ="), ["line 5: [Peer] Endpoint", "HOST:PORT"]),
        (peer("AllowedIPs = 10.0.0.0/33"), ["line 5: [Peer] AllowedIPs", "'10.0.0.0/33'", "networks"]),
        (peer("AllowedIPs = everything"), ["line 5: [Peer] AllowedIPs", "'everything'", "networks"]),
        (peer("PersistentKeepalive = never"), ["line 5: [Peer] PersistentKeepalive", "'never'", "'off'"]),
        (peer("PersistentKeepalive = 65536"), ["line 5: [Peer] PersistentKeepalive", "65536"]),
        (
            peer("AllowedIPs = 10.1.0.0/16", "[Peer]", f"PublicKey = {THIRD}", "", "AllowedIPs = 10.1.2.3/16"),
            ["line 9: [Peer] AllowedIPs", "10.1.0.0/16", f"belongs to peer {THEIRS} too"],
        ),
    ],
)
def test_errors_name_the_place(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(text)
    for word in words:
        assert word in str(refused.value), str(refused.value)
    assert "\n" not in str(refused.value)
    assert OURS not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        f"[Interface]\nPrivateKey\n{OURS}",
        f"[Interface]\nPrivateKey {OURS}",
        f"{OURS}",
        f"[{OURS}]",
        f"[Interface]\nPrivateKy = {OURS}",
        f"[Interface]\nPrivateKey = {OURS}x",
        f"[Interface]\nPrivateKey = {OURS[:-1]}",
        f"[Interface]\nListenPort = {OURS}",
        f"[Interface]\nMTU = {OURS}",
        f"[Interface]\nAddress = {OURS}",
        f"[Interface]\nPrivateKey = {OURS}\nPrivateKey = {OURS}",
        interface("[Peer]", f"PublicKey = {OURS}"),
        interface("[Peer]", f"PublicKey = {OURS}", "[Peer]", f"PublicKey = {OURS}"),
        peer(f"Endpoint = {OURS}"),
        peer(f"Endpoint = {OURS[:-1]}"),
        peer(f"AllowedIPs = {OURS}"),
        peer(f"PersistentKeepalive = {OURS}"),
        peer(f"PresharedKey = {OURS} {OURS}"),
        peer(f"PresharedKy = {OURS}"),
    ],
)
def test_a_secret_in_the_wrong_place_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(text)
    assert OURS[:12] not in str(refused.value)
    assert OURS[-12:] not in str(refused.value)


# ------------------------------------------------------------------------------------------------------------- writing
def test_what_is_written_is_read_again() -> None:
    text = write(EXPECTED)
    assert read(text) == (EXPECTED, ())
    assert write(read(text).options) == text
    assert text.startswith(f"[Interface]\nPrivateKey = {OURS}\nAddress = 10.88.0.1/24, fd00::1/64, 192.0.2.7/32\n")
    assert "Endpoint = [2001:db8::1]:51820\n" in text
    assert "PersistentKeepalive = 25\n" in text
    assert text.count("PersistentKeepalive") == text.count("PresharedKey") == 1


keys = st.binary(min_size=32, max_size=32)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
networks = st.one_of(
    st.tuples(v4, st.integers(0, 32)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(v6, st.integers(0, 128)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,10}){0,3}", fullmatch=True)
ports = st.integers(1, 65_535)
peers = st.builds(
    lambda **values: values,
    public_key=keys,
    preshared_key=st.none() | keys,
    endpoint=st.none() | st.tuples(st.one_of(names, v4, v6), ports),
    allowed_ips=st.lists(networks, max_size=4),
    persistent_keepalive=st.integers(0, 65_535),
)
whole = st.builds(
    lambda **values: values,
    private_key=keys,
    addresses=st.lists(networks, max_size=4),
    listen_port=st.integers(0, 65_535),
    mtu=st.integers(1280, 9000),
    peers=st.lists(peers, max_size=4),
)


@given(values=whole)
def test_every_tunnel_is_read_as_it_was_written(values: dict[str, Any]) -> None:
    assume(all(one["public_key"] != values["private_key"] for one in values["peers"]))
    try:
        options = WireGuardOptions(**values)
    except ConfigurationError:
        assume(False)  # two of the same
    assert read(write(options)) == (options, ())
    table = table_of(options)
    assert from_table(table, options.private_key) == options


@given(text=st.text() | st.lists(st.sampled_from(FILE.split("\n"))).map("\n".join))
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    try:
        found = read(text, PRIVATE)
    except ConfigurationError:
        return
    assert read(write(found.options)).options == found.options


def test_wg_reads_what_we_write(tmp_path: Path) -> None:
    """`wg pubkey` of the key in the file, and `wg-quick strip` where it is there."""
    require_program("wg")
    ran = subprocess.run(["wg", "pubkey"], input=OURS + "\n", capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == key_text(EXPECTED.public_key)
    path = tmp_path / "tunnel.conf"
    path.write_text(write(EXPECTED))
    path.chmod(0o600)
    if shutil.which("wg-quick") is None:
        return
    ran = subprocess.run(["wg-quick", "strip", str(path)], capture_output=True, text=True, check=True)
    for key in (OURS, THEIRS, THIRD, key_text(SECRET)):
        assert key in ran.stdout
    assert "Address" not in ran.stdout


# --------------------------------------------------------------------------------------------------------------- table
def table_of(options: WireGuardOptions) -> dict[str, Any]:
    """The table [wireguard] of a profile that says the same."""
    peers = []
    for one in options.peers:
        entry: dict[str, Any] = {"public_key": one.name, "allowed_ips": list(one.allowed_ips)}
        if one.preshared_key is not None:
            entry["preshared_key"] = b64encode(one.preshared_key).decode()
        if one.endpoint_text is not None:
            entry["endpoint"] = one.endpoint_text
        peers.append({**entry, "persistent_keepalive": one.persistent_keepalive})
    table: dict[str, Any] = {"listen_port": options.listen_port, "mtu": options.mtu, "peers": peers}
    return {**table, "address": list(options.addresses)}


def test_the_table_of_a_profile() -> None:
    assert from_table(table_of(EXPECTED), PRIVATE) == EXPECTED
    assert from_table({"address": "10.88.0.1/24, fd00::1/64"}, PRIVATE).addresses == ("10.88.0.1/24", "fd00::1/64")
    assert from_table({}, PRIVATE) == WireGuardOptions(private_key=PRIVATE)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"adress": "10.0.0.1"}, "adress: an unknown key .* did you mean 'address'"),
        ({"private_key": OURS}, "private_key: an unknown key"),
        ({"address": "10.0.0.300"}, "address: '10.0.0.300' was given"),
        ({"address": 3}, "address: 3 was given"),
        ({"listen_port": "51820"}, "listen_port: '51820' was given"),
        ({"mtu": 10}, "mtu: 10 was given"),
        ({"mtu": True}, "mtu: True was given"),
        ({"peers": {}}, "peers: expected a list of tables"),
        ({"peers": ["x"]}, "peers: expected a list of tables"),
        ({"peers": [{}]}, r"peers\[0\]\.public_key: it is missing"),
        ({"peers": [{"public_key": 3}]}, r"peers\[0\]\.public_key: 3 was given"),
        ({"peers": [{"public_key": THEIRS}, {"public_key": "x"}]}, r"peers\[1\]\.public_key: what was given is no key"),
        ({"peers": [{"public_key": OURS}]}, r"peers\[0\]\.public_key: it is our private key"),
        ({"peers": [{"public_key": THEIRS, "preshared_key": "x"}]}, r"peers\[0\]\.preshared_key: what was given"),
        ({"peers": [{"public_key": THEIRS, "endpoint": "x"}]}, r"peers\[0\]\.endpoint: 'x' was given"),
        ({"peers": [{"public_key": THEIRS, "allowed_ips": "x"}]}, r"peers\[0\]\.allowed_ips: 'x' was given"),
        (
            {"peers": [{"public_key": THEIRS, "persistent_keepalive": "off"}]},
            r"peers\[0\]\.persistent_keepalive: 'off'",
        ),
        (
            {"peers": [{"public_key": THEIRS, "allowed_ip": []}]},
            r"peers\[0\]\.allowed_ip: .*did you mean 'allowed_ips'",
        ),
        ({"peers": [{"public_key": THEIRS}] * 2}, r"public_key: it comes twice"),
    ],
)
def test_errors_of_a_table_begin_with_the_key(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        from_table(table, PRIVATE)
    assert OURS not in str(refused.value)
    assert "wireguard." not in str(refused.value)


def test_a_table_needs_the_private_key_from_elsewhere() -> None:
    with pytest.raises(ConfigurationError, match="the private key is missing, expected static_key"):
        from_table({"address": "10.0.0.1"})
