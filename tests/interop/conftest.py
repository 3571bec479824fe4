"""Each peer program as a fixture; a missing one skips visibly, or fails where TAPS_REQUIRE_PEERS=1 says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import pytest

from tests.interop import namespaces
from tests.interop.ours import PEERS
from tests.interop.peers import Peer, Wish, require_program
from tests.support.pki import Pki


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a peer, or for a network of its own, talks to real programs."""
    for item in items:
        if {"peer", "net"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.interop)


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Peer:
    """A peer program."""
    chosen = PEERS[request.param]
    chosen.require()
    return chosen


@pytest.fixture
def wish(pki: Pki) -> Wish:
    """A peer with the good certificate of this role's usual test; it trusts nobody yet."""
    return Wish(identity=pki.files(pki.leaf()))


@pytest.fixture
def client_wish(pki: Pki) -> Wish:
    """A peer that is a client and trusts the test authority."""
    return Wish(trust=pki.trust_file)


@cache
def why_no_namespaces() -> str:
    """Asked once for all tests."""
    return namespaces.unavailable()


@pytest.fixture
def net() -> Iterator[namespaces.Network]:
    """Network namespaces with WireGuard's programs at hand; gone after the test."""
    require_program("ip", "wireguard-go", "wg")
    if reason := why_no_namespaces():
        if os.environ.get("TAPS_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with namespaces.network() as made:
        yield made
