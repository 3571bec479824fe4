"""The simulated resolver: names to addresses, late or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from .sockets import canonical, family_of


@dataclass
class Name:
    """What the resolver knows of a name. May be changed while the simulation runs."""

    addresses: tuple[str, ...]
    delays: dict[int, float] = field(default_factory=dict)  # family -> seconds
    failures: dict[int, int] = field(default_factory=dict)  # family -> socket.EAI_...


class Names:
    """All names of a network. The names of hosts are known without being added."""

    def __init__(self) -> None:
        self._names: dict[str, Name] = {}

    def add(
        self,
        name: str,
        *addresses: str,
        delay: float = 0.0,
        delays: Mapping[int, float] | None = None,
        failures: Mapping[int, int] | None = None,
    ) -> Name:
        """Make `name` resolve to `addresses`, in this order.

        `delay`: seconds for both families; `delays`: per family (AF_INET, AF_INET6). `failures`: the families whose
        query fails, and the code that socket.gaierror then has (socket.EAI_NONAME, EAI_AGAIN ...).
        """
        known = Name(
            tuple(canonical(address) for address in addresses),
            {socket.AF_INET: delay, socket.AF_INET6: delay, **(delays or {})},
            dict(failures or {}),
        )
        self._names[_key(name)] = known
        return known

    def remove(self, name: str) -> None:
        """The name does not exist any more."""
        self._names.pop(_key(name), None)

    def find(self, name: str) -> Name | None:
        """What is known of a name."""
        return self._names.get(_key(name))

    async def query(self, name: str, families: tuple[int, ...], fallback: tuple[str, ...] = ()) -> list[str]:
        """The addresses of these families, once the slowest answer is there. `fallback`: what a name that was not
        added stands for. Raises socket.gaierror if no family has an address."""
        known = self.find(name) or Name(fallback)
        await asyncio.sleep(max(known.delays.get(family, 0.0) for family in families))
        found = [
            address
            for address in known.addresses
            if family_of(address) in families and family_of(address) not in known.failures
        ]
        if not found:
            codes = [known.failures[family] for family in families if family in known.failures]
            raise resolution_error(codes[0] if codes else socket.EAI_NONAME)
        return found


WORDS = {
    socket.EAI_NONAME: "Name or service not known",
    socket.EAI_AGAIN: "Temporary failure in name resolution",
    socket.EAI_FAIL: "Non-recoverable failure in name resolution",
}


def resolution_error(code: int) -> socket.gaierror:
    """The socket.gaierror of an EAI_ code."""
    return socket.gaierror(code, WORDS.get(code, "Name resolution failed"))


def _key(name: str) -> str:
    return name.rstrip(".").lower()
