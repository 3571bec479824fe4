"""Each peer program as a fixture; a missing one skips visibly, or fails where TAPS_REQUIRE_PEERS=1 says so."""

from __future__ import annotations

import pytest

from tests.interop.ours import PEERS
from tests.interop.peers import Peer, Wish
from tests.support.pki import Pki


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a peer talks to a real program."""
    for item in items:
        if "peer" in getattr(item, "fixturenames", ()):
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
