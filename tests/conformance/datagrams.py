"""Connections over datagram stacks, put together as Preconnection puts together those over TCP: by their descriptor."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import taps_security as taps
from taps_security.connection.anchors import anchors_of
from taps_security.connection.asks import Answerer, Answers
from taps_security.connection.assembly import environment_of
from taps_security.connection.driver import Driver
from taps_security.connection.endpoint import Endpoint
from taps_security.connection.establish import wait_ready
from taps_security.observe.security import SecurityLog
from taps_security.properties.security import Role
from taps_security.protocols.registry import ClientRequest, Descriptor, ServerRequest
from taps_security.stack.layers import PathFacts
from taps_security.stack.stack import SecurityStack
from taps_security.transport.network import network_of
from tests.conformance.worlds import World


class Datagrams:
    """A listening endpoint of one protocol, and clients of it.

    A protocol with `key_import` has no listener: both ends are made for each other, on endpoints of their own.
    """

    def __init__(self, descriptor: Descriptor, version: str, world: World, security: taps.SecurityParameters) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor, self._version, self._world, self._security = descriptor, version, world, security
        self._environment = environment_of(self._loop, None)
        provided = descriptor.provides(version, security, taps.TransportProperties(), Role.SERVER)
        self._brings_keys = provided["key_import"].value
        self.ready: asyncio.Queue[taps.Connection] = asyncio.Queue()
        self._taken: set[taps.Connection] = set()
        with world.server:
            self._endpoint = self._open((world.address, 0))
        self.address = self._endpoint.local
        self._screener: Any = descriptor.screener(
            ServerRequest(
                versions=(version,),
                security=security,
                transport=taps.TransportProperties(),
                endpoint=taps.LocalEndpoint(ip_address=self.address[0], port=self.address[1]),
                environment=self._environment,
            )
        )
        self._endpoint.serve(self._screener, self._accept)

    def _open(self, local: tuple[str, int], remote: tuple[str, int] | None = None) -> Endpoint:
        return Endpoint(self._loop, network_of(self._loop).open_datagram(local, remote), random=os.urandom)

    def _connection(self, stack: SecurityStack, security: taps.SecurityParameters, role: Role) -> taps.Connection:
        answers = Answers(
            wall_clock=self._environment.wall_clock,
            anchors=anchors_of(security.trust_of(role)),
            identities=security.identities,
            psks={key.identity: key for key in security.psks},
        )
        return taps.Connection(
            self._loop, stack, SecurityLog(self._descriptor.name, self._version, {}), Answerer(answers)
        )

    # -- the server's end -----------------------------------------------------------------------------------------
    def _accept(self, stack: SecurityStack, facts: PathFacts) -> Driver:
        connection = self._connection(stack, self._security, Role.SERVER)
        connection.belong_to(self)
        return connection.driver

    def established(self, connection: taps.Connection) -> None:
        self._taken.add(connection)
        self.ready.put_nowait(connection)

    def ended(self, connection: taps.Connection) -> None:
        self._taken.discard(connection)

    def stop(self) -> None:
        """Connections that were taken live on; with none of them there is nothing to linger for."""
        self._endpoint.stop_serving(self._screener)
        while not self.ready.empty():
            self.ready.get_nowait().abort()
        if not self._taken:
            self._endpoint.close()

    # -- the client's end -----------------------------------------------------------------------------------------
    async def initiate(self, security: taps.SecurityParameters, timeout: float) -> taps.Connection:
        """A ready connection. Raises EstablishmentError."""
        stack = self._descriptor.client(
            ClientRequest(
                version=self._version,
                security=security,
                transport=taps.TransportProperties(),
                endpoint=taps.RemoteEndpoint(ip_address=self.address[0], port=self.address[1]),
                server_name=security.server_name or "",
                environment=self._environment,
            )
        )
        connection = self._connection(stack, security, Role.CLIENT)
        with self._world.client:
            endpoint = self._open((self._world.client_address, 0))
        remote = self._make_other_end(endpoint.local) if self._brings_keys else self.address
        endpoint.connect(connection.driver, remote)
        try:
            async with asyncio.timeout(timeout):
                await wait_ready(connection)
        except (TimeoutError, taps.TapsError) as error:
            failure = taps.CandidateFailure(self._descriptor.name, self._version, str(self.address), error)
            raise taps.EstablishmentError("the only candidate failed", failures=[failure]) from error
        return connection

    def _make_other_end(self, client: tuple[str, int]) -> tuple[str, int]:
        connection = self._connection(self._screener.accept(None, self._loop.time()), self._security, Role.SERVER)
        connection.belong_to(self)
        with self._world.server:
            endpoint = self._open((self._world.address, 0))
        endpoint.connect(connection.driver, client)
        return endpoint.local
