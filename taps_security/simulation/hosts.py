"""A simulated host: its addresses, its ports, and the code that runs on it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..transport.network import Address
from .nat import Nat
from .sockets import LOOPBACKS, WILDCARDS, SimulatedSocket, canonical, family_of, is_loopback, os_error

if TYPE_CHECKING:
    from .network import Network

T = TypeVar("T")
DEFAULT_HOST = "localhost"
EPHEMERAL = range(49152, 65536)  # RFC 6335 §6

_entered: ContextVar[tuple[str, ...]] = ContextVar("simulated_host", default=())


def current_host_name() -> str:
    """The host that the running code is on."""
    entered = _entered.get()
    return entered[-1] if entered else DEFAULT_HOST


class Host:
    """One host. `with host:` makes the code inside, and the tasks and callbacks that it starts, run on it.

    Every host also has 127.0.0.1 and ::1, which only it can reach.
    """

    def __init__(self, network: Network, name: str, addresses: tuple[str, ...]) -> None:
        self.network = network
        self.name = name
        self.nat: Nat | None = None  # between this host and all others
        self.silent = False  # True: it hears nothing and says nothing, as if switched off
        self.send_buffer: int | None = None  # octets of a datagram socket that may wait for the link; None: any number
        self.receive_buffer = 212_992  # octets that wait in a datagram socket; what comes on top is dropped
        self._addresses = [canonical(address) for address in addresses]
        self._bound: dict[tuple[str, int], list[tuple[str, SimulatedSocket, bool]]] = {}
        self._next_port = EPHEMERAL.start

    def __repr__(self) -> str:
        return f"<Host {self.name} {' '.join(self._addresses)}>"

    # -- who runs here --------------------------------------------------------------------------------------------
    def __enter__(self) -> Host:
        _entered.set((*_entered.get(), self.name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _entered.set(_entered.get()[:-1])

    def run(self, work: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """A task that runs on this host. Keep it, and await or cancel it, as with asyncio.create_task()."""
        with self:
            return asyncio.get_running_loop().create_task(work, name=name)

    # -- addresses ------------------------------------------------------------------------------------------------
    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, the loopback ones not among them."""
        return tuple(self._addresses)

    def add_address(self, address: str) -> None:
        """It gets a further address, as when an interface comes up."""
        self._addresses.append(canonical(address))

    def remove_address(self, address: str) -> None:
        """It loses an address. Sockets bound to it stay open, but nothing leaves or reaches them."""
        self._addresses.remove(canonical(address))

    def owns(self, address: str) -> bool:
        """The address is one of its own, or of its loopback."""
        return address in self._addresses or is_loopback(address)

    def source_for(self, destination: str) -> str:
        """The address that packets to `destination` leave from. Raises OSError (ENETUNREACH): none of that family."""
        family = family_of(destination)
        if is_loopback(destination):
            return LOOPBACKS[family]
        for address in self._addresses:
            if family_of(address) is family:
                return address
        raise os_error(errno.ENETUNREACH)

    # -- ports ----------------------------------------------------------------------------------------------------
    def bind(self, protocol: str, local: Address, sock: SimulatedSocket, *, shared: bool = False) -> Address:
        """Take an address and port (0: a free one) for a socket. Raises OSError (EADDRNOTAVAIL, EADDRINUSE)."""
        try:
            host, port = canonical(local[0]), local[1]
        except ValueError:
            raise os_error(errno.EINVAL) from None
        if host not in WILDCARDS.values() and not self.owns(host):
            raise os_error(errno.EADDRNOTAVAIL)
        if not port:
            port = self._free_port()
        elif any(not (shared and other) for other in self._conflicts(protocol, host, port)):
            raise os_error(errno.EADDRINUSE)
        self._bound.setdefault((protocol, port), []).append((host, sock, shared))
        return host, port

    def _conflicts(self, protocol: str, host: str, port: int) -> list[bool]:
        """Of each socket in the way: may it share?"""
        wildcard = WILDCARDS[family_of(host)]
        return [
            shared
            for other, _, shared in self._bound.get((protocol, port), ())
            if other == host or (family_of(other) is family_of(host) and wildcard in (host, other))
        ]

    def _free_port(self) -> int:
        taken = {port for _, port in self._bound}
        for _ in EPHEMERAL:
            port, self._next_port = self._next_port, self._next_port + 1
            if self._next_port == EPHEMERAL.stop:
                self._next_port = EPHEMERAL.start
            if port not in taken:
                return port
        raise os_error(errno.EADDRINUSE)

    def release(self, protocol: str, local: Address, sock: SimulatedSocket) -> None:
        """Give a port back."""
        left = [entry for entry in self._bound.get((protocol, local[1]), ()) if entry[1] is not sock]
        if left:
            self._bound[protocol, local[1]] = left
        else:
            self._bound.pop((protocol, local[1]), None)

    def bound(self, protocol: str, destination: Address) -> list[SimulatedSocket]:
        """The sockets that hear this address and port; those bound to the very address first."""
        host, port = destination
        wildcard = WILDCARDS[family_of(host)]
        entries = self._bound.get((protocol, port), ())
        exact = [sock for address, sock, _ in entries if address == host]
        return exact + [sock for address, sock, _ in entries if address == wildcard]
