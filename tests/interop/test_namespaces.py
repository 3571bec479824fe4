"""Namespaces, wireguard-go and the UDP programs do what the other tests count on; nothing of it stays behind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.interop import namespaces, wireguard_go
from tests.interop.namespaces import Namespace, NamespaceError, Network
from tests.interop.wireguard_go import SERVICES, Interface, Peer, interface, service


def existing() -> set[str]:
    listed = namespaces.run("ip", "netns", "list")
    return {line.split()[0] for line in listed.splitlines()}


def tunnel_of_two(net: Network) -> tuple[Namespace, Namespace]:
    left, right = net.namespace("left"), net.namespace("right")
    net.link(left, right, "10.77.0", "fd77")
    return left, right


def two_keys() -> tuple[str, str]:
    return wireguard_go.new_key(), wireguard_go.new_key()


def test_a_link_carries_both_families(net: Network) -> None:
    left, right = tunnel_of_two(net)
    with service(right, "echo", "10.77.0.2", 7), service(right, "echo", "fd77::2", 7):
        for host in ("10.77.0.2", "fd77::2"):
            told = json.loads(left.run(sys.executable, SERVICES, "swap", host, "7", "100", "1200", "10"))
            assert told["count"] == 100
            assert told["octets"] == 120_000


def test_nothing_stays_behind_and_nothing_else_goes(net: Network) -> None:
    bystander = net.namespace("bystander")
    with namespaces.network() as own:
        left, right = tunnel_of_two(own)
        assert {left.name, right.name, bystander.name} <= existing()
    assert not {left.name, right.name} & existing()
    assert bystander.name in existing()


def test_nothing_stays_behind_after_a_failure(net: Network) -> None:
    names = []

    def fail_inside() -> None:
        with namespaces.network() as own:
            left, right = tunnel_of_two(own)
            names.extend((left.name, right.name))
            left.run("no-such-program")

    with pytest.raises(NamespaceError, match="no-such-program"):
        fail_inside()
    assert len(names) == 2
    assert not set(names) & existing()


def test_a_socket_may_bind_to_each_address_of_an_owned_network(net: Network) -> None:
    left, right = tunnel_of_two(net)
    left.own_all_of("10.66.0.0/16")
    right.ip("route", "add", "10.66.0.0/16", "via", "10.77.0.1")
    with service(right, "echo", "10.77.0.2", 7):
        words = ("swap", "10.77.0.2", "7", "3", "100", "1", "10.66.201.17")
        assert json.loads(left.run(sys.executable, SERVICES, *words))["repeated"] == 0


def test_a_sink_counts_what_came(net: Network) -> None:
    left, right = tunnel_of_two(net)
    with service(right, "sink", "10.77.0.2", 9):
        told = json.loads(left.run(sys.executable, SERVICES, "pump", "10.77.0.2", "9", "50", "1000"))
        assert (told["sent"], told["count"], told["octets"]) == (50, 50, 50_000)
        told = json.loads(left.run(sys.executable, SERVICES, "pump", "10.77.0.2", "9", "10", "10"))
        assert told["count"] == 10


def test_wireguard_go_talks_to_itself(net: Network) -> None:
    left, right = tunnel_of_two(net)
    ours, theirs = two_keys()
    psk = wireguard_go.new_psk()
    inner = ("10.88.0.1/32", "fd88::1/128"), ("10.88.0.2/32", "fd88::2/128")
    listening = Peer(wireguard_go.public_key(ours), inner[0], preshared_key=psk)
    calling = Peer(wireguard_go.public_key(theirs), inner[1], "[fd77::2]:51820", preshared_key=psk)
    with (
        interface(right, [listening], addresses=inner[1], private_key=theirs, listen_port=51820) as there,
        interface(left, [calling], addresses=inner[0], private_key=ours) as here,
        service(right, "echo", "10.88.0.2", 7),
        service(right, "echo", "fd88::2", 7),
    ):
        for host in ("10.88.0.2", "fd88::2"):
            told = json.loads(left.run(sys.executable, SERVICES, "swap", host, "7", "200", "1300", "20"))
            assert told["count"] == 200
        shown = there.shown(here.public_key)
        assert shown.latest_handshake > 0
        assert shown.received > 200 * 1300
        assert shown.endpoint == f"[fd77::1]:{here.listen_port}"
        assert here.shown().endpoint == "[fd77::2]:51820"
        check_it_stops(there)


def check_it_stops(there: Interface) -> None:
    process = there.process
    assert isinstance(process, subprocess.Popen)
    there.stop()
    assert process.returncode is not None
    with pytest.raises(NamespaceError):
        there.shown()
