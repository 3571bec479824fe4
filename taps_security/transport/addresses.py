"""Addresses as this package writes them, (host, port), and as the socket calls want them."""

from __future__ import annotations

import errno
import socket
from typing import Any

from .network import Address

_MAPPED = "::ffff:"  # RFC 4291 §2.5.5.2: what a dual-stack socket calls an IPv4 address


def socket_address(address: Address) -> tuple[int, tuple[Any, ...]]:
    """Family and socket address of a numeric (host, port). A scope stands behind `%`: a name or a number.

    Raises OSError for a host that is no numeric address, or an interface that does not exist.
    """
    host, port = address
    if ":" not in host:
        return socket.AF_INET, (host, port)
    host, _, scope = host.partition("%")
    if not scope:
        return socket.AF_INET6, (host, port, 0, 0)
    return socket.AF_INET6, (host, port, 0, int(scope) if scope.isdigit() else socket.if_nametoindex(scope))


def mapped_address(address: Address) -> tuple[Any, ...]:
    """The socket address of `address` for a dual-stack IPv6 socket."""
    family, found = socket_address(address)
    return (_MAPPED + found[0], found[1], 0, 0) if family == socket.AF_INET else found


def plain_address(found: Any) -> Address:
    """(host, port) of what a socket call returned: mapped addresses as IPv4, scopes behind `%`."""
    host: str = found[0]
    if len(found) == 4:
        if host.startswith(_MAPPED) and "." in host:
            host = host[len(_MAPPED) :]
        elif found[3] and "%" not in host:
            host = f"{host}%{_scope(found[3])}"
    return host, found[1]


def share_port(sock: socket.socket) -> None:
    """Let other sockets that say so too have the address that `sock` is about to be bound to. Raises OSError."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise OSError(errno.ENOPROTOOPT, "this platform has no SO_REUSEPORT: one process per port")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _scope(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)
