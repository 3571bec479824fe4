"""What the other examples share: throwaway certificates, and an echo service on loopback.

The certificates are made in memory and trusted by nobody else. A real program gets its own from files:
`taps.Identity.file("cert.pem", "key.pem")` and `taps.Trust.file("ca.pem")`; `taps keygen x509` writes such files.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import taps_security as taps
from taps_security.crypto.certificates import Identity, certificate_pem
from taps_security.crypto.issuing import issue_certificate, make_certificate_authority

SERVER_NAME = "server.example"


class Authority:
    """A certificate authority that lives as long as this process."""

    def __init__(self, name: str = "authority of the examples") -> None:
        self._root: Identity = make_certificate_authority(name, at=time.time(), random=os.urandom)
        self.pem: bytes = certificate_pem(*self._root.chain)  # what others must trust
        self.trust = taps.Trust.pem(self.pem)

    def identity(self, *names: str) -> taps.Identity:
        """A certificate for these host names or addresses, with its private key."""
        return taps.Identity(issue_certificate(self._root, names, at=time.time(), random=os.urandom))


async def echo(connection: taps.Connection) -> None:
    """Send everything back until the peer has finished."""
    async for message in connection:
        await connection.send(message.data)


@asynccontextmanager
async def serving(
    security: taps.SecurityParameters, handler: Callable[[taps.Connection], Awaitable[None]] = echo
) -> AsyncIterator[int]:
    """Serve on a free port of loopback for as long as the block runs. Gives the port."""
    here = taps.Preconnection([taps.LocalEndpoint(ip_address="127.0.0.1", port=0)], security_parameters=security)
    async with await here.listen() as listener:
        task = asyncio.create_task(listener.serve(handler))
        try:
            yield listener.port
        finally:
            task.cancel()  # ends what is still being served, too
            await asyncio.wait([task])


def towards(port: int, security: taps.SecurityParameters) -> taps.Preconnection:
    """What a client on the same machine declares."""
    remote = taps.RemoteEndpoint(ip_address="127.0.0.1", port=port)
    return taps.Preconnection(remote_endpoints=[remote], security_parameters=security)
