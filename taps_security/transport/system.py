"""The machine's own network."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Hashable, Sequence

from .addresses import plain_address, share_port, socket_address
from .network import Address, DatagramSocket, ListeningSocket, ResolvedAddress, StreamOptions, StreamSocket
from .tcp import apply_options


class SystemNetwork:
    """Sockets of the operating system and the loop's own resolver."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def connect_stream(
        self,
        remote: Address,
        local: Address | None = None,
        options: StreamOptions = StreamOptions(),  # noqa: B008
    ) -> StreamSocket:
        """A connected, non-blocking TCP socket. Raises OSError. Cancelling leaves no socket behind."""
        family, address = socket_address(remote)
        sock = socket.socket(family, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0), socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            apply_options(sock, options)
            if local is not None:
                sock.bind(socket_address(local)[1])
            await self._loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            if error.errno is None:
                raise
            raise OSError(error.errno, os.strerror(error.errno)) from None  # asyncio and uvloop word it differently
        except BaseException:
            sock.close()
            raise
        return sock

    def listen_stream(
        self,
        local: Address,
        backlog: int = 512,
        options: StreamOptions = StreamOptions(),  # noqa: B008
        *,
        reuse_port: bool = False,
    ) -> ListeningSocket:
        """A listening TCP socket. Raises OSError, which names the address. An IPv6 socket takes IPv6 only."""
        family, address = socket_address(local)
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setblocking(False)
            if os.name == "posix":  # on Windows it would let two programs share the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                share_port(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            apply_options(sock, options)  # what it accepts inherits them
            sock.bind(address)
            sock.listen(backlog)
        except OSError as error:
            sock.close()
            raise type(error)(error.errno, f"{error.strerror}: {local[0] or '*'}:{local[1]}") from None
        except BaseException:
            sock.close()
            raise
        return sock

    def open_datagram(
        self, local: Address, remote: Address | None = None, *, reuse_port: bool = False
    ) -> DatagramSocket:
        """A bound UDP socket; with `remote`, connected. The host "" stands for every address of both families."""
        from .udp import open_udp  # noqa: PLC0415 -- who uses byte streams pays for no datagrams

        return open_udp(local, remote, reuse_port=reuse_port)

    def place(self) -> Hashable:
        """The machine."""
        return None

    async def resolve(self, host: str, port: int | str, family: int = 0) -> Sequence[ResolvedAddress]:
        """Addresses of a name from the system's resolver, in its order. Raises OSError (socket.gaierror)."""
        found = await self._loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        addresses = []
        for kind, _, _, _, address in found:
            if kind in {socket.AF_INET, socket.AF_INET6}:
                addresses.append(ResolvedAddress(*plain_address(address), kind))
        return list(dict.fromkeys(addresses))
