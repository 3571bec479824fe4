"""Peers, cryptokey routing, indices and timestamps of one local end."""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest

from taps_security.protocols.wireguard.keys import cookie_key, dh, mac1_key, responder_hash
from taps_security.protocols.wireguard.limits import TIMESTAMP_STEP
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer
from taps_security.protocols.wireguard.peers import AllowedIps, TunnelState, decode_tai64n, encode_tai64n
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.stack.errors import ConfigurationError, LocalError, PeerMisbehaved

from .ends import WALL, MemoryStore, environment, options, private_key, public_key

A, B, C = (public_key(name) for name in "abc")


class Clock:
    """A wall clock that goes as the test says."""

    def __init__(self) -> None:
        self.now = WALL

    def __call__(self) -> float:
        return self.now


def state(*peers: str, **environ: Any) -> TunnelState:
    return TunnelState(options("us", *peers or "a"), environment("us", **environ))


# -------------------------------------------------------------------------------------------------------------- peers
def test_what_is_known_of_a_peer() -> None:
    tunnel = state("a", "b")
    assert list(tunnel.peers) == [A, B]
    peer = tunnel.peers[A]
    assert peer.static_static == dh(private_key("us"), A) == dh(private_key("a"), tunnel.public_key)
    assert (peer.mac1_key, peer.cookie_key, peer.hash) == (mac1_key(A), cookie_key(A), responder_hash(A))
    assert (tunnel.mac1_key, tunnel.cookie_key) == (mac1_key(tunnel.public_key), cookie_key(tunnel.public_key))
    assert peer.preshared_key == bytes(32)


def test_peers_change_while_the_tunnel_runs() -> None:
    tunnel = state("a", "b")
    kept = tunnel.peers[B]
    kept.received = b"x" * 12
    changed = WireGuardPeer(public_key=B, preshared_key=bytes([1]) * 32, allowed_ips=["10.0.0.0/8"])
    wanted = options("us").with_peer(WireGuardPeer(public_key=C)).with_peer(changed)
    assert tunnel.apply(wanted) == (A,)
    assert set(tunnel.peers) == {B, C}
    assert tunnel.peers[B] is kept
    assert kept.received == b"x" * 12
    assert kept.config is changed
    assert kept.preshared_key == bytes([1]) * 32
    assert tunnel.allowed_ips.owner(bytes([10, 1, 2, 3])) == B
    assert tunnel.apply(wanted) == ()


def test_a_change_that_cannot_be_changes_nothing() -> None:
    store = MemoryStore()
    tunnel = state("a", store=store)
    before = dict(tunnel.peers)
    with pytest.raises(ConfigurationError, match=r"wireguard\.private_key"):
        tunnel.apply(options("somebody else", "b"))
    with pytest.raises(ConfigurationError, match=r"public_key: it gives no shared secret"):
        tunnel.apply(WireGuardOptions(private_key=private_key("us"), peers=[WireGuardPeer(public_key=bytes(32))]))
    store.error = OSError("gone")
    with pytest.raises(ConfigurationError, match="the store of timestamps cannot be read: gone"):
        tunnel.apply(options("us", "b"))
    assert tunnel.peers == before


# ---------------------------------------------------------------------------------------------------- cryptokey routing
def test_the_longest_network_has_an_address() -> None:
    table = AllowedIps(
        [
            WireGuardPeer(public_key=A, allowed_ips=["0.0.0.0/0", "10.1.2.0/24", "fd00::/8"]),
            WireGuardPeer(public_key=B, allowed_ips=["10.0.0.0/8", "10.1.2.3/32", "fd00:1::/32"]),
        ]
    )
    for address, owner in (
        ("192.0.2.1", A), ("10.9.9.9", B), ("10.1.2.9", A), ("10.1.2.3", B), ("255.255.255.255", A),
        ("fd00::1", A), ("fd00:1::1", B), ("fe80::1", None), ("::", None),
    ):  # fmt: skip
        packed = ipaddress.ip_address(address).packed
        assert table.owner(packed) == table.owner(memoryview(packed)) == owner, address


def test_routing_agrees_with_a_slow_router() -> None:
    """Many networks in a small space, against a search through all of them."""
    draw = random.Random(4)
    for version, base, width in ((4, "10.0.0.0", 12), (6, "fd00::", 12)):
        network_type: Any = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
        start, bits = int(ipaddress.ip_address(base)), 32 if version == 4 else 128
        owners: dict[Any, bytes] = {}
        for _ in range(200):
            address = start + draw.randrange(1 << width)
            network = network_type((address, draw.randrange(bits - width - 2, bits + 1)), strict=False)
            owners.setdefault(network, draw.choice((A, B, C)))
        networks = {key: [str(net) for net, owner in owners.items() if owner == key] for key in (A, B, C)}
        table = AllowedIps([WireGuardPeer(public_key=key, allowed_ips=found) for key, found in networks.items()])
        for _ in range(1000):
            address = ipaddress.ip_address(start + draw.randrange(1 << width))
            holding = [net for net in owners if address in net]
            best = max(holding, key=lambda net: net.prefixlen, default=None)
            assert table.owner(address.packed) == (owners[best] if best is not None else None)


def test_a_network_of_two_peers_is_refused() -> None:
    table = AllowedIps([WireGuardPeer(public_key=A, allowed_ips=["10.0.0.0/8"])])
    both = [WireGuardPeer(public_key=key, allowed_ips=["10.1.0.0/16"]) for key in (A, B)]
    with pytest.raises(ConfigurationError, match=r"10\.1\.0\.0/16 belongs to another peer"):
        table.replace(both)
    assert table.owner(bytes([10, 1, 0, 0])) == A


# -------------------------------------------------------------------------------------------------------------- indices
def test_indices_are_unique() -> None:
    octets = [b"aaaa", b"aaaa", b"bbbb", b"aaaa"]
    tunnel = TunnelState(options("us", "a"), environment("us"))
    object.__setattr__(tunnel.environment, "random", lambda size: octets.pop(0))
    assert tunnel.new_index() == b"aaaa"
    assert tunnel.new_index() == b"bbbb"
    tunnel.release_index(b"aaaa")
    assert tunnel.new_index() == b"aaaa"
    object.__setattr__(tunnel.environment, "random", lambda size: b"bbbb")
    with pytest.raises(LocalError, match="2 indices are in use"):
        tunnel.new_index()


# ----------------------------------------------------------------------------------------------------------- timestamps
def test_tai64n_is_rounded_down() -> None:
    """https://cr.yp.to/libtai/tai64.html: unix second 0 is 0x400000000000000a."""
    assert encode_tai64n(0.0).hex() == "400000000000000a" + "00000000"
    assert encode_tai64n(-5.0) == encode_tai64n(0.0)
    for wall in (WALL, WALL + 0.1, WALL + 0.999999, 0.016, 2.0**32):
        stamp = encode_tai64n(wall)
        assert int.from_bytes(stamp[8:], "big") % TIMESTAMP_STEP == 0
        assert 0 <= wall - decode_tai64n(stamp) < 0.0168


def test_timestamps_rise_whatever_the_clock_does() -> None:
    clock = Clock()
    tunnel = state(clock=clock)
    peer = tunnel.peers[A]
    stamps = []
    for step in (0.0, 0.0, 0.001, -3600.0, 0.0, 0.0, -WALL, 3600.0):
        clock.now += step
        stamps.append(tunnel.next_timestamp(peer))
    assert stamps == sorted(set(stamps))
    assert decode_tai64n(stamps[-1]) - WALL < 0.02 * len(stamps)  # no further ahead than was needed
    clock.now = WALL + 10
    assert tunnel.next_timestamp(peer) == encode_tai64n(WALL + 10)


def test_timestamps_rise_over_the_end_of_a_second() -> None:
    clock = Clock()
    clock.now = 1000.99
    tunnel = state(clock=clock)
    stamps = [tunnel.next_timestamp(tunnel.peers[A]) for _ in range(130)]
    assert stamps == sorted(set(stamps))
    assert max(int.from_bytes(stamp[8:], "big") for stamp in stamps) < 10**9
    assert decode_tai64n(stamps[-1]) - 1000.99 < 130 * 0.0168 + 0.02


def test_timestamps_rise_after_a_restart() -> None:
    store, clock = MemoryStore(), Clock()
    last = []
    for _ in range(2):
        tunnel = state(store=store, clock=clock)
        last.append(tunnel.next_timestamp(tunnel.peers[A]))
    clock.now -= 86_400.0
    tunnel = state(store=store, clock=clock)
    assert tunnel.next_timestamp(tunnel.peers[A]) > last[-1] > last[0]
    assert set(store.kept) == {f"wireguard/{tunnel.public_key.hex()}/{A.hex()}/sent"}


def test_received_timestamps_must_rise_and_not_come_too_fast() -> None:
    tunnel = state()
    peer = tunnel.peers[A]
    first, second, third = (encode_tai64n(WALL + offset) for offset in (1, 2, 3))
    tunnel.check_timestamp(peer, second, 0.0)
    tunnel.accept_timestamp(peer, second, 0.0)
    for stamp, now, reason in ((first, 9.0, Reason.REPLAYED), (second, 9.0, Reason.REPLAYED),
                               (third, 0.0, Reason.TOO_FAST), (third, 0.0199, Reason.TOO_FAST)):  # fmt: skip
        with pytest.raises(PeerMisbehaved) as caught:
            tunnel.check_timestamp(peer, stamp, now)
        assert caught.value.reason is reason
    tunnel.check_timestamp(peer, third, 0.02)
    assert peer.received == second


def test_received_timestamps_are_kept_over_a_restart() -> None:
    store = MemoryStore()
    tunnel = state(store=store)
    tunnel.accept_timestamp(tunnel.peers[A], encode_tai64n(WALL), 0.0)
    again = state(store=store)
    with pytest.raises(PeerMisbehaved) as caught:
        again.check_timestamp(again.peers[A], encode_tai64n(WALL), 0.0)
    assert caught.value.reason is Reason.REPLAYED
    other = TunnelState(options("another", "a"), environment("another", store=store))
    other.check_timestamp(other.peers[A], encode_tai64n(WALL), 0.0)  # what another key of ours saw is another thing


@pytest.mark.parametrize("error", [OSError(13, "Permission denied"), ConfigurationError("not a store")])
def test_a_store_that_cannot_be_read_is_an_error_at_once(error: Exception) -> None:
    store = MemoryStore()
    store.error = error
    with pytest.raises(ConfigurationError, match=r"the store of timestamps cannot be read: .*(Permission|not a store)"):
        state(store=store)


@pytest.mark.parametrize("octets", [b"", b"x" * 11, b"x" * 13, b"\xff" * 12])
def test_a_store_with_something_else_in_it_is_an_error(octets: bytes) -> None:
    store = MemoryStore()
    name = f"wireguard/{public_key('us').hex()}/{A.hex()}/sent"
    store.kept[name] = octets
    with pytest.raises(ConfigurationError, match="the store has no timestamp under") as caught:
        state(store=store)
    assert name in str(caught.value)


def test_a_store_that_cannot_be_written_loses_nothing_in_this_process() -> None:
    store = MemoryStore()
    tunnel = state(store=store)
    peer = tunnel.peers[A]
    store.error = OSError(28, "No space left on device")
    first = tunnel.next_timestamp(peer)
    assert tunnel.store_error is store.error
    assert tunnel.next_timestamp(peer) > first
    tunnel.accept_timestamp(peer, encode_tai64n(WALL), 0.0)
    with pytest.raises(PeerMisbehaved):
        tunnel.check_timestamp(peer, encode_tai64n(WALL), 1.0)
    store.error = None
    tunnel.accept_timestamp(peer, encode_tai64n(WALL + 1), 2.0)
    assert tunnel.store_error is None
    assert store.kept[f"wireguard/{tunnel.public_key.hex()}/{A.hex()}/received"] == encode_tai64n(WALL + 1)
