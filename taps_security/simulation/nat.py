"""A network address translator between one host and all others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..transport.network import Address
from .sockets import canonical, family_of

FIRST_PORT = 20000  # external ports count up from here, so that a trace is easy to read


class Nat:
    """Translates the source of what its host sends, and the destination of what comes back.

    Mappings are endpoint-independent (RFC 4787 §4.1): one external port for each internal address and port, whoever
    the peer is. What comes to an external port without a mapping is dropped.
    """

    def __init__(self, *external: str, timeout: float | None = None) -> None:
        """`external`: one address per family that is translated. `timeout`: seconds without traffic from inside after
        which a mapping is lost, and the next packet gets a new one; None: never."""
        self._external = {family_of(address): canonical(address) for address in external}
        self._timeout = timeout
        self._ports: Iterator[int] = itertools.count(FIRST_PORT)
        self._outward: dict[tuple[str, Address], tuple[Address, float]] = {}  # (protocol, internal) -> external, used
        self._inward: dict[tuple[str, Address], Address] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """The external addresses."""
        return tuple(self._external.values())

    def outward(self, protocol: str, internal: Address, now: float) -> Address:
        """The external address and port of what leaves; a new mapping if there is none."""
        address = self._external.get(family_of(internal[0]))
        if address is None:
            return internal  # this family is not translated
        key = (protocol, internal)
        external, used = self._outward.get(key, (None, 0.0))
        if external is not None and self._timeout is not None and now - used > self._timeout:
            self._inward.pop((protocol, external), None)
            external = None
        if external is None:
            external = (address, next(self._ports))
            self._inward[protocol, external] = internal
        self._outward[key] = (external, now)
        return external

    def inward(self, protocol: str, external: Address) -> Address | None:
        """The internal address and port of what arrives; None: no mapping, drop it."""
        if external[0] not in self._external.values():
            return external
        return self._inward.get((protocol, external))

    def mapping(self, protocol: str, internal: Address) -> Address | None:
        """The external address and port that `internal` has now. `protocol`: "udp" or "tcp"."""
        found = self._outward.get((protocol, internal))
        return None if found is None else found[0]

    def rebind(self) -> None:
        """Lose every mapping: whatever is sent next comes from a new external port, and the old ones are dead.

        TCP does not survive it: the peer answers RST to the port that it does not know.
        """
        self._outward.clear()
        self._inward.clear()

    def move(self, address: str) -> str:
        """Like rebind(), and the external address of that family is another from now on. Returns the old one."""
        family = family_of(address)
        old = self._external[family]
        self._external[family] = canonical(address)
        self.rebind()
        return old
