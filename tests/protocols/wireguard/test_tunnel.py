"""The local end: who has an inner address, whose stack lives, what may change while it runs, what there is to tell."""

from __future__ import annotations

import json

import pytest

from taps_security.crypto.sodium import scalarmult_base
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer, key_text
from taps_security.protocols.wireguard.stack import WireGuardStack
from taps_security.stack.errors import ConfigurationError, LocalError, Reason
from taps_security.stack.events import CloseKind, FlowClosed, FlowKind
from taps_security.stack.layers import PathFacts
from tests.protocols.wireguard.world import INNER, INNER6, OUTER, PRIVATE, PUBLIC, WALL, World, options

THIRD = scalarmult_base(bytes([9]) * 32)


def peer(key: bytes = PUBLIC["b"], **how) -> WireGuardPeer:
    return WireGuardPeer(public_key=key, **{"allowed_ips": (f"{INNER['b']}/32",), **how})


def given(*peers: WireGuardPeer, **how) -> WireGuardOptions:
    defaults = {"private_key": PRIVATE["a"], "addresses": (f"{INNER['a']}/24", f"{INNER6['a']}/64")}
    return WireGuardOptions(**{**defaults, **how}, peers=peers)


def test_who_is_who() -> None:
    world = World()
    tunnel = world.a.tunnel
    assert tunnel.identity == PUBLIC["a"]
    assert tunnel.local == ("", 0)
    assert tunnel.inner == (INNER["a"], INNER6["a"])
    assert tunnel.peers() == (PUBLIC["b"],)
    assert tunnel.outer(PUBLIC["b"]) == OUTER["b"]
    assert tunnel.eager() == ()
    assert World(keepalive=25).a.tunnel.eager() == (PUBLIC["b"],)
    with pytest.raises(LocalError, match=key_text(THIRD).replace("+", r"\+")):
        tunnel.outer(THIRD)
    with pytest.raises(LocalError):
        tunnel.stack(THIRD, 0.0)


def test_the_longest_network_has_an_address() -> None:
    tunnel = World().a.tunnel
    tunnel.apply(given(peer(allowed_ips=("10.0.0.0/8", "::/0")), peer(THIRD, allowed_ips=("10.1.0.0/16",))))
    for host, owner in (("10.2.0.1", PUBLIC["b"]), ("10.1.2.3", THIRD), ("fd00::7", PUBLIC["b"]), ("192.0.2.1", None)):
        assert tunnel.route(host) == owner
    with pytest.raises(ConfigurationError, match="inner address"):
        tunnel.route("example.org")


def test_one_live_stack_for_each_peer() -> None:
    world = World()
    stack = world.a.begin()
    assert isinstance(stack, WireGuardStack)
    with pytest.raises(LocalError) as caught:
        world.a.tunnel.stack(PUBLIC["b"], world.now)
    assert caught.value.reason is Reason.ADDRESS_IN_USE
    stack.abort(None, world.now)
    assert world.a.tunnel.stack(PUBLIC["b"], world.now) is not stack


def test_inner_ports() -> None:
    tunnel = World().a.tunnel
    assert tunnel.listen("", 53) == ("", 53)
    with pytest.raises(LocalError) as caught:
        tunnel.listen(INNER["a"], 53)
    assert caught.value.reason is Reason.ADDRESS_IN_USE
    tunnel.unlisten(("", 53))
    assert tunnel.listen(INNER["a"], 53) == (INNER["a"], 53)
    assert tunnel.listen("", 0)[1] >= 49_152
    with pytest.raises(ConfigurationError, match=r"10\.9\.9\.9 is not ours"):
        tunnel.listen("10.9.9.9", 1)


# -------------------------------------------------------------------------------------------------------------- changes
def test_peers_come_and_go() -> None:
    tunnel = World().a.tunnel
    assert tunnel.apply(given(peer(), peer(THIRD, allowed_ips=("10.0.0.3/32",)))) == ()
    assert tunnel.peers() == (PUBLIC["b"], THIRD)
    assert tunnel.route("10.0.0.3") == THIRD
    assert tunnel.apply(given(peer(THIRD, allowed_ips=("10.0.0.2/32",)))) == (PUBLIC["b"],)
    assert tunnel.peers() == (THIRD,)
    assert tunnel.route("10.0.0.2") == THIRD
    assert tunnel.route("10.0.0.3") is None


@pytest.mark.parametrize(
    "change",
    [
        {"private_key": bytes([5]) * 32},
        {"addresses": ("10.0.0.9/24",)},
        {"listen_port": 7},
        {"mtu": 1400},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_change_changes_nothing(change: dict) -> None:
    tunnel = World().a.tunnel
    with pytest.raises(ConfigurationError, match=f"wireguard.{next(iter(change))}"):
        tunnel.apply(given(**change))
    assert tunnel.peers() == (PUBLIC["b"],)
    with pytest.raises(ConfigurationError, match="WireGuardOptions"):
        tunnel.apply({"peers": []})


def test_flows_to_what_a_peer_may_not_have_any_more_end() -> None:
    world = World()
    flow = world.connect()
    six = world.a.open(host=INNER6["b"])
    world.a.tunnel.apply(given(peer(endpoint=OUTER["b"])))  # without the IPv6 address
    world.a.drain()
    assert world.a.found(FlowClosed) == [FlowClosed(six, CloseKind.RESET)]
    world.a.send(flow, b"x")
    world.settle()
    assert [b"x"] in world.b.messages.values()


def test_keepalives_can_be_switched_on_and_off() -> None:
    world = World()
    world.connect()
    world.a.tunnel.apply(given(peer(endpoint=OUTER["b"], persistent_keepalive=20)))
    sent = world.sent["a"]
    world.run(100)
    assert world.sent["a"] - sent == 6  # one at once, and five more
    world.a.tunnel.apply(given(peer(endpoint=OUTER["b"])))
    world.run(20)
    sent = world.sent["a"]
    world.run(1000)
    assert world.sent["a"] == sent


def test_a_removed_peer_is_a_stranger() -> None:
    world = World()
    world.connect()
    gone = world.b.tunnel.apply(options("b", peers=()))
    assert gone == (PUBLIC["a"],)
    assert world.b.stack is not None
    world.b.stack.abort(None, world.now)
    world.b.drain()
    world.b.stack = None
    assert world.a.stack is not None
    world.run(10)
    world.a.stack.update_keys(world.now)
    world.a.drain()
    world.settle()
    assert world.b.noise == ["from nobody that we know"]
    assert world.b.stack is None


# --------------------------------------------------------------------------------------------------------------- status
def test_status_is_what_wg_shows() -> None:
    world = World(psk=True, keepalive=25)
    tunnel = world.a.tunnel
    status = tunnel.status(PUBLIC["b"], world.now)
    assert status["public_key"] == key_text(PUBLIC["b"])
    assert status["endpoint"] == "192.0.2.2:51820"
    assert status["allowed_ips"] == [f"{INNER['b']}/32", f"{INNER6['b']}/128"]
    assert (status["preshared_key"], status["persistent_keepalive"]) == (True, 25)
    assert (status["latest_handshake"], status["established"]) == (0.0, False)
    assert status["transfer"] == {"received": 0, "sent": 0}
    flow = world.connect()
    world.a.send(flow, b"x" * 100)
    world.settle()
    there, here = world.b.tunnel.status(PUBLIC["a"], world.now), tunnel.status(PUBLIC["b"], world.now)
    assert here["latest_handshake"] == WALL + world.now
    assert here["established"]
    assert here["transfer"] == {"received": 92, "sent": 148 + 32 + 32 + 128}
    assert there["transfer"] == {"received": 148 + 32 + 32 + 128, "sent": 92}
    assert json.loads(json.dumps(here)) == here
    assert "AwMDAwMD" not in json.dumps(here)  # the pre-shared key


def test_transfer_outlives_stacks() -> None:
    world = World()
    world.connect()
    before = world.a.tunnel.status(PUBLIC["b"], world.now)["transfer"]
    assert world.a.stack is not None
    world.a.stack.close(world.now)
    assert world.a.tunnel.status(PUBLIC["b"], world.now)["transfer"] == before
    assert not world.a.tunnel.status(PUBLIC["b"], world.now)["established"]


def test_of_peers_that_were_removed_nothing_is_kept() -> None:
    world = World()
    world.connect()
    stack = world.a.stack
    assert stack is not None
    world.a.tunnel.apply(given(peer(endpoint=OUTER["b"])))
    assert stack.received_octets
    world.a.tunnel.apply(given())
    stack.abort(None, world.now)
    assert not world.a.tunnel._shared.transfer
    world.a.tunnel.apply(given(peer(endpoint=OUTER["b"])))
    assert world.a.tunnel.status(PUBLIC["b"], world.now)["transfer"] == {"received": 0, "sent": 0}


def test_the_endpoint_in_use_is_shown() -> None:
    world = World()
    world.connect()
    assert world.a.stack is not None
    world.a.stack.path_added(9, PathFacts(OUTER["a"], ("2001:db8::5", 1234), mtu=1500), world.now)
    world.a.stack.migrate(9, world.now)
    assert world.a.tunnel.status(PUBLIC["b"], world.now)["endpoint"] == "[2001:db8::5]:1234"


def test_nothing_secret_in_what_is_shown() -> None:
    world = World(psk=True)
    world.connect()
    assert world.a.stack is not None
    raw = world.a.stack.open_flow(FlowKind.PACKET, None, world.now)
    assert raw
    shown = " ".join(map(repr, (world.a.tunnel, world.a.stack, *world.a.events)))
    for secret in (PRIVATE["a"], bytes([3]) * 32):
        assert repr(secret)[2:-1] not in shown
        assert key_text(secret) not in shown
