"""What a stream socket is told before and after it connects."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from .network import StreamOptions

if TYPE_CHECKING:
    from .network import StreamSocket

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # l_onoff, l_linger
_RESET_ON_CLOSE_WINDOWS = struct.pack("hh", 1, 0)  # u_short there
_PROBES = 3  # unanswered keep-alive probes until the connection counts as dead


def apply_options(sock: socket.socket, options: StreamOptions) -> None:
    """Set what the platform has; raises OSError only for `interface`, which nothing else can replace."""
    if options.interface:
        _bind_to_interface(sock, options.interface)
    if options.no_delay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.keep_alive:
        _keep_alive(sock, options.keep_alive_seconds)
    if options.user_timeout_seconds is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = max(1, round(options.user_timeout_seconds * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)  # RFC 5482


def _keep_alive(sock: socket.socket, seconds: float | None) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if seconds is None:
        return
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # the second is macOS's word
    if idle is not None:
        sock.setsockopt(socket.IPPROTO_TCP, idle, max(1, round(seconds)))
    if hasattr(socket, "TCP_KEEPINTVL"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(seconds / _PROBES)))
    if hasattr(socket, "TCP_KEEPCNT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def _bind_to_interface(sock: socket.socket, interface: str) -> None:
    option = getattr(socket, "SO_BINDTODEVICE", None)
    if option is None:
        raise OSError(f"this platform cannot bind a socket to the interface {interface!r}")
    sock.setsockopt(socket.SOL_SOCKET, option, interface.encode() + b"\0")


def reset(sock: StreamSocket) -> None:
    """Close with a RST: what was not sent is dropped, and the peer sees a reset."""
    windows = not hasattr(socket, "SO_REUSEPORT") and hasattr(socket, "SO_EXCLUSIVEADDRUSE")
    with suppress(OSError):  # the connection may be gone already: closing is all that is left then
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE_WINDOWS if windows else _RESET_ON_CLOSE)
    sock.close()
