"""What simulated sockets have in common: a number, readiness, and an owner who must close them."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..transport.network import Address

if TYPE_CHECKING:
    from .hosts import Host

WILDCARDS = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 -- nothing real is bound
LOOPBACKS = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def os_error(number: int) -> OSError:
    """The OSError of this errno, of the right subclass, with the system's words."""
    return OSError(number, os.strerror(number))


def canonical(host: str) -> str:
    """The one spelling of a numeric address: "2001:DB8::0" becomes "2001:db8::". Raises ValueError."""
    return str(ipaddress.ip_address(host))


def family_of(host: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6, by the look of a numeric address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """127.0.0.0/8 or ::1, which never leave their host."""
    return ipaddress.ip_address(host).is_loopback


def socket_name(address: Address) -> Any:
    """An address as the system's sockets give it: IPv6 has a flow label and a scope behind."""
    return address if family_of(address[0]) is socket.AF_INET else (*address, 0, 0)


class SimulatedSocket(ABC):
    """A socket of a simulated host. The loop's add_reader and add_writer take it, or its number."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._number = -1

    def open(self) -> None:
        """Give the socket its number: from now on somebody must close it."""
        self._number = self.host.network.register(self)

    def fileno(self) -> int:
        """A number that no real descriptor has; -1 once closed."""
        return self._number

    @property
    def closed(self) -> bool:
        """True once the application closed it (or before it has it)."""
        return self._number < 0

    @property
    @abstractmethod
    def readable(self) -> bool:
        """A read would not block."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """A write would not block."""

    def changed(self) -> None:
        """Readiness may have changed."""
        if self._number >= 0:
            self.host.network.loop.touch(self)

    def forget(self) -> None:
        """The application closed it. Raises RuntimeError if the loop still watches it: on a real loop that is a bug."""
        number, self._number = self._number, -1
        self.host.network.unregister(number, self)

    def check_open(self) -> None:
        """Raises OSError (EBADF) once closed."""
        if self._number < 0:
            raise os_error(errno.EBADF)
