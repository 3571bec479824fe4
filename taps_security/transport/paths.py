"""Names for paths: one PathId per (local, remote, kind), never used twice in the life of an endpoint."""

from __future__ import annotations

from ..stack.events import PathId
from ..stack.layers import PathFacts
from .network import Address

PathKey = tuple[Address, Address, str]


class PathTable:
    """The paths of one endpoint. `kind` tells apart what shares addresses: "udp", "tcp", "udp-encapsulated" ..."""

    __slots__ = ("_facts", "_keys", "_next", "_to")

    def __init__(self, first: PathId = 1) -> None:
        self._next = first
        self._keys: dict[PathKey, PathId] = {}
        self._facts: dict[PathId, tuple[PathKey, PathFacts]] = {}
        self._to: dict[Address, list[PathId]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, local: Address, remote: Address, kind: str = "udp") -> PathId | None:
        """The name of a path that has one."""
        return self._keys.get((local, remote, kind))

    def name(self, facts: PathFacts, kind: str = "udp") -> PathId:
        """The path's name: the one it has, or a new one for as long as it is not forgotten."""
        key = (facts.local, facts.remote, kind)
        path = self._keys.get(key)
        if path is None:
            path = self._next
            self._next += 1
            self._keys[key] = path
            self._facts[path] = (key, facts)
            self._to.setdefault(facts.remote, []).append(path)
        return path

    def facts(self, path: PathId) -> PathFacts:
        """What is known of a path. Raises KeyError if it was forgotten."""
        return self._facts[path][1]

    def to(self, remote: Address) -> list[PathId]:
        """Every path to a remote address."""
        return list(self._to.get(remote, ()))

    def forget(self, path: PathId) -> None:
        """Nobody uses it any more. Its number is not used again; the same addresses get another."""
        known = self._facts.pop(path, None)
        if known is not None:
            key = known[0]
            del self._keys[key]
            paths = self._to[key[1]]
            paths.remove(path)
            if not paths:
                del self._to[key[1]]
