"""What users may say of a tunnel, and what they are told when it is wrong."""

from __future__ import annotations

import dataclasses
import re
from base64 import b64encode
from pathlib import Path

import pytest

from taps_security.crypto.sodium import scalarmult_base
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer, key_text, static_key
from taps_security.stack.errors import ConfigurationError

PRIVATE = bytes(range(32))
ONE, OTHER = bytes([1]) * 32, bytes([2]) * 32
SECRET = bytes([0x5A]) * 32


def options(**changes: object) -> WireGuardOptions:
    return WireGuardOptions(**{"private_key": PRIVATE, **changes})  # type: ignore[arg-type]


def test_keys_are_octets_or_their_base64() -> None:
    text = b64encode(PRIVATE).decode()
    assert static_key(f" {text}\n") == PRIVATE
    assert key_text(PRIVATE) == text
    assert options(private_key=text).private_key == PRIVATE
    assert options().public_key == scalarmult_base(PRIVATE)
    assert WireGuardPeer(public_key=key_text(ONE), preshared_key=key_text(SECRET)).preshared_key == SECRET


@pytest.mark.parametrize("wrong", ["", "AAAA", "A" * 44, "A" * 42 + "==", "!" * 44, b"", bytes(31), bytes(33), None, 7])
def test_a_wrong_key_is_named_and_not_shown(wrong: object) -> None:
    for make, name in (
        (lambda: options(private_key=wrong), "wireguard.private_key"),
        (lambda: WireGuardPeer(public_key=wrong), "wireguard.peers.public_key"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigurationError, match=f"{re.escape(name)}: .*expected") as caught:
            make()
        assert "A" * 20 not in str(caught.value)
        assert "!!" not in str(caught.value)
    if wrong is not None:
        with pytest.raises(ConfigurationError, match=re.escape(f"wireguard.peers[{key_text(ONE)}].preshared_key")):
            WireGuardPeer(public_key=ONE, preshared_key=wrong)  # type: ignore[arg-type]


def test_no_repr_shows_a_secret() -> None:
    peer = WireGuardPeer(public_key=ONE, preshared_key=SECRET)
    for shown in (repr(peer), repr(options(peers=[peer])), str(peer)):
        for secret in ("ZZ", "Wlpa", key_text(PRIVATE), repr(PRIVATE)):
            assert secret not in shown
    assert "preshared" in repr(peer)


def test_a_preshared_key_of_zeros_is_none() -> None:
    assert WireGuardPeer(public_key=ONE, preshared_key=bytes(32)).preshared_key is None


@pytest.mark.parametrize(
    ("given", "kept", "text"),
    [
        ("192.0.2.1:51820", ("192.0.2.1", 51820), "192.0.2.1:51820"),
        ("[2001:db8::1]:1", ("2001:db8::1", 1), "[2001:db8::1]:1"),
        ("peer.example:65535", ("peer.example", 65535), "peer.example:65535"),
        (("fe80::1%eth0", 7), ("fe80::1%eth0", 7), "[fe80::1%eth0]:7"),
        (None, None, None),
    ],
)
def test_endpoints(given: object, kept: object, text: object) -> None:
    peer = WireGuardPeer(public_key=ONE, endpoint=given)  # type: ignore[arg-type]
    assert peer.endpoint == kept
    assert peer.endpoint_text == text


@pytest.mark.parametrize(
    "wrong",
    ["", "host", "host:", ":1", "host:0", "host:65536", "2001:db8::1:1", "a b:1", "h:x", "h:-1", ("h",), ("h", "1"),
     (1, 1), ("h", True), 7, ("h", 1, 2), "h:١"],
)  # fmt: skip
def test_wrong_endpoints(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=r"\.endpoint: .*expected HOST:PORT"):
        WireGuardPeer(public_key=ONE, endpoint=wrong)  # type: ignore[arg-type]


def test_networks_lose_host_bits_and_repetitions() -> None:
    peer = WireGuardPeer(public_key=ONE, allowed_ips=["10.0.0.7/24", "10.0.0.8/24", "10.9.0.1", "fd00::5/64", "::/0"])
    assert peer.allowed_ips == ("10.0.0.0/24", "10.9.0.1/32", "fd00::/64", "::/0")
    assert WireGuardPeer(public_key=ONE, allowed_ips="10.0.0.1, fd00::1").allowed_ips == ("10.0.0.1/32", "fd00::1/128")


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "x", ["10.0.0.0/24", 5], 5, b"10.0.0.1", ["10.0.0.256"]])
def test_wrong_networks(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=r"\.allowed_ips: .*expected networks"):
        WireGuardPeer(public_key=ONE, allowed_ips=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [-1, 65_536, 1.5, True, "25", None])
def test_wrong_keepalives(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match=r"persistent_keepalive: .*whole number"):
        WireGuardPeer(public_key=ONE, persistent_keepalive=wrong)  # type: ignore[arg-type]


def test_addresses_keep_their_host_bits() -> None:
    assert options(addresses="10.88.0.1/24, fd00::1").addresses == ("10.88.0.1/24", "fd00::1/128")
    for wrong in (["10.88.0.1/24", "10.88.0.1/16"], ["10.88.0"], 7, [7]):
        with pytest.raises(ConfigurationError, match=r"wireguard\.addresses: "):
            options(addresses=wrong)


def test_mtu_and_port_have_bounds() -> None:
    assert (options(mtu=576).mtu, options().mtu, options(listen_port=65_535).listen_port) == (576, 1420, 65_535)
    for wrong in ({"mtu": 575}, {"mtu": 1279, "addresses": ["fd00::1"]}, {"mtu": 65_500}, {"listen_port": 65_536}):
        with pytest.raises(ConfigurationError, match=r"wireguard\.(mtu|listen_port): "):
            options(**wrong)


def test_peers_may_be_tables() -> None:
    made = options(peers=[{"public_key": key_text(ONE), "allowed_ips": ["10.0.0.2/32"], "persistent_keepalive": 25}])
    assert made.peers == (WireGuardPeer(public_key=ONE, allowed_ips=["10.0.0.2/32"], persistent_keepalive=25),)
    for wrong, said in (
        ([{"public_key": key_text(ONE), "endpont": "x"}], r"peers\[0\]: 'endpont' is not known"),
        ([{"endpoint": "h:1"}], r"peers\[0\].public_key: it is missing"),
        ([WireGuardPeer(public_key=ONE), 7], r"peers\[1\]: "),
        ("x", r"peers: .*expected a list"),
        ({"public_key": 1}, r"peers: .*expected a list"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            options(peers=wrong)


def test_peers_do_not_contradict_each_other() -> None:
    first = WireGuardPeer(public_key=ONE, allowed_ips=["10.0.0.0/24"])
    own = WireGuardPeer(public_key=scalarmult_base(PRIVATE))
    for peers, said in (
        ([first, WireGuardPeer(public_key=OTHER, allowed_ips=["10.0.0.9/24"])], "10.0.0.0/24 belongs to peer"),
        ([first, WireGuardPeer(public_key=ONE)], "it comes twice"),
        ([own], "it is our own public key"),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            options(peers=peers)
        assert f"wireguard.peers[{peers[-1].name}]" in str(caught.value)
    longer = WireGuardPeer(public_key=OTHER, allowed_ips=["10.0.0.0/25"])  # a longer prefix inside is another network
    assert options(peers=[first, longer]).peers == (first, longer)


def test_peers_are_added_replaced_and_removed() -> None:
    first, second = WireGuardPeer(public_key=ONE), WireGuardPeer(public_key=OTHER)
    both = options(addresses=["10.0.0.1/24"], listen_port=9, mtu=1400).with_peer(first).with_peer(second)
    assert both.peers == (first, second)
    changed = WireGuardPeer(public_key=ONE, persistent_keepalive=25)
    assert both.with_peer(changed).peers == (changed, second)
    assert both.without_peer(ONE).peers == (second,)
    assert both.without_peer(key_text(OTHER)).peers == (first,)
    assert both.without_peer(bytes(32)) == both
    assert dataclasses.replace(both, peers=()) == both.without_peer(ONE).without_peer(OTHER)
    with pytest.raises(ConfigurationError, match="our own"):
        both.with_peer(WireGuardPeer(public_key=both.public_key))


# --------------------------------------------------------------------------------------------------------------- files
def test_a_file_of_wg_quick(tmp_path: Path) -> None:
    wanted = options(addresses=["10.88.0.1/24"], peers=[WireGuardPeer(public_key=ONE, preshared_key=SECRET)])
    path = tmp_path / "tunnel.conf"
    path.write_text(wanted.text())
    assert WireGuardOptions.file(path) == wanted
    assert WireGuardOptions.file(str(path), private_key=key_text(OTHER)).private_key == OTHER


def test_what_a_file_says_in_vain_is_named_in_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "tunnel.conf"
    path.write_text(options().text() + "DNS = 10.0.0.1\nPostUp = true\n")
    with pytest.warns(UserWarning, match=r"tunnel\.conf: not honoured: DNS, PostUp") as told:
        WireGuardOptions.file(path)
    assert told[0].filename == __file__


def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tunnel.conf"
    with pytest.raises(ConfigurationError, match=r"cannot read '.*tunnel\.conf': No such file"):
        WireGuardOptions.file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"tunnel\.conf: this is no text"):
        WireGuardOptions.file(path)
    path.write_text(options().text() + "MTU = 3\n")
    with pytest.raises(ConfigurationError, match=r"tunnel\.conf: line 3: \[Interface\] MTU: 3 was given"):
        WireGuardOptions.file(path)
