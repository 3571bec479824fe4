"""Binding the local endpoints of a listener: one port for all carriers, in both families where none was named."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Collection, Sequence

from ..properties.endpoints import LocalEndpoint
from ..stack.errors import EstablishmentError, Reason
from ..stack.frozen import slotted
from ..transport.network import Address, ListeningSocket, StreamOptions, network_of
from .endpoint import Endpoint
from .endpoints import open_endpoint

TRIES = 8  # of finding one free port for several carriers

# EADDRINUSE: the first socket serves both families already, as some systems have it.
_NO_SECOND_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EADDRINUSE}


@slotted
class Bound:
    """What was bound."""

    streams: list[ListeningSocket]
    datagrams: list[Endpoint]

    def close(self) -> None:
        """Let go of all of it that nobody uses."""
        for sock in self.streams:
            sock.close()
        for endpoint in self.datagrams:
            endpoint.close_if_unused()


def bind(
    loop: asyncio.AbstractEventLoop,
    locals_: Sequence[LocalEndpoint],
    carriers: Collection[str],
    *,
    backlog: int,
    options: StreamOptions,
    reuse_port: bool,
) -> Bound:
    """Sockets for every local endpoint and each of `carriers`, "tcp" and "udp". EstablishmentError says what failed."""
    binder = _Binder(loop, backlog, options, reuse_port=reuse_port)
    bound = Bound([], [])
    try:
        for local in locals_:
            binder.bind(local, carriers, bound)
    except BaseException:
        bound.close()
        raise
    return bound


class _Binder:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, backlog: int, options: StreamOptions, *, reuse_port: bool
    ) -> None:
        self._loop = loop
        self._network = network_of(loop)
        self._backlog = backlog
        self._options = options
        self._reuse_port = reuse_port

    def bind(self, local: LocalEndpoint, carriers: Collection[str], bound: Bound) -> None:
        """One port for all carriers, a free one if none was named."""
        for left in reversed(range(TRIES)):
            found = Bound([], [])
            try:
                port = local.port or 0
                if "tcp" in carriers:
                    found.streams = self._streams(local, port)
                    port = found.streams[0].getsockname()[1]
                if "udp" in carriers:
                    found.datagrams = [self._datagrams(local, port)]
            except BaseException as error:
                found.close()
                in_use = isinstance(error, EstablishmentError) and error.reason is Reason.ADDRESS_IN_USE
                if not left or local.port or len(carriers) == 1 or not in_use:
                    raise
            else:
                bound.streams += found.streams
                bound.datagrams += found.datagrams
                return

    def _streams(self, local: LocalEndpoint, port: int) -> list[ListeningSocket]:
        if local.ip_address is not None:
            return [self._stream((_scoped(local), port))]
        sockets: list[ListeningSocket] = []
        for wildcard in ("0.0.0.0", "::"):  # noqa: S104 -- a listener without an address asks for all of them
            try:
                sockets.append(self._stream((wildcard, port)))
            except EstablishmentError as error:
                cause = error.__cause__
                if not sockets or not isinstance(cause, OSError) or cause.errno not in _NO_SECOND_FAMILY:
                    for sock in sockets:
                        sock.close()
                    raise
            else:
                port = sockets[0].getsockname()[1]
        return sockets

    def _stream(self, address: Address) -> ListeningSocket:
        try:
            return self._network.listen_stream(
                address, backlog=self._backlog, options=self._options, reuse_port=self._reuse_port
            )
        except OSError as error:
            raise _refused(address, error) from error

    def _datagrams(self, local: LocalEndpoint, port: int) -> Endpoint:
        address = (_scoped(local) if local.ip_address is not None else "", port)
        try:
            return open_endpoint(self._loop, address, random=os.urandom, reuse_port=self._reuse_port)
        except OSError as error:
            raise _refused(address, error) from error


def _scoped(local: LocalEndpoint) -> str:
    address = local.ip_address or ""
    if local.interface and "%" not in address and address.startswith("fe80:"):
        return f"{address}%{local.interface}"
    return address


def _refused(address: Address, error: OSError) -> EstablishmentError:
    host = address[0] or "*"
    shown = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    if error.errno == errno.EADDRINUSE:
        return EstablishmentError(
            f"listen(): {shown} is in use; choose another port, or 0 for a free one", reason=Reason.ADDRESS_IN_USE
        )
    hint = {
        errno.EACCES: "; ports below 1024 need a privilege",
        errno.EADDRNOTAVAIL: "; this machine has no such address",
    }.get(error.errno or 0, "")
    return EstablishmentError(f"listen(): cannot bind {shown}: {error.strerror or error}{hint}")
