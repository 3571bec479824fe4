"""Names of paths."""

from __future__ import annotations

import pytest

from taps_security.stack.layers import PathFacts
from taps_security.transport.paths import PathTable

LOCAL, REMOTE = ("192.0.2.1", 4433), ("198.51.100.7", 5000)


def test_a_path_keeps_its_name() -> None:
    paths = PathTable()
    facts = PathFacts(LOCAL, REMOTE, mtu=1472)
    name = paths.name(facts)
    assert paths.name(PathFacts(LOCAL, REMOTE)) == name
    assert paths.facts(name) is facts
    assert paths.find(LOCAL, REMOTE) == name
    assert paths.find(LOCAL, REMOTE, "tcp") is None


def test_another_address_port_or_kind_is_another_path() -> None:
    paths = PathTable()
    names = {
        paths.name(PathFacts(LOCAL, REMOTE)),
        paths.name(PathFacts(LOCAL, (REMOTE[0], 5001))),
        paths.name(PathFacts(("192.0.2.2", 4433), REMOTE)),
        paths.name(PathFacts(LOCAL, REMOTE), "udp-encapsulated"),
    }
    assert len(names) == len(paths) == 4
    assert len(paths.to(REMOTE)) == 3


def test_names_are_never_used_twice() -> None:
    paths = PathTable()
    first = paths.name(PathFacts(LOCAL, REMOTE))
    paths.forget(first)
    paths.forget(first)
    assert paths.find(LOCAL, REMOTE) is None
    assert not len(paths)
    with pytest.raises(KeyError):
        paths.facts(first)
    assert paths.name(PathFacts(LOCAL, REMOTE)) > first
