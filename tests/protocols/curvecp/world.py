"""A CurveCP server and its clients on the simulated network, with the application's part played by `Peer`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from taps_security import simulation
from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.properties.security import SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols.curvecp.descriptor import client as make_client
from taps_security.protocols.curvecp.descriptor import screener as make_screener
from taps_security.protocols.curvecp.keys import KeyPair
from taps_security.protocols.curvecp.options import CurveCpOptions
from taps_security.protocols.curvecp.screening import CurveCpScreener
from taps_security.protocols.curvecp.stack import CurveCpStack
from taps_security.protocols.registry import ClientRequest, Environment, ServerRequest
from taps_security.simulation import Network
from taps_security.stack.asks import Ask, ClaimOnce, VerifyKey
from taps_security.stack.layers import PathFacts
from taps_security.stack.stack import SecurityStack
from tests.toys import program
from tests.toys.program import open_endpoint

DELAY = 0.05
PORT = 4433
NAME = "server.example.org"
SERVER, CLIENT = KeyPair.generate(os.urandom), KeyPair.generate(os.urandom)


def environment(clock: Callable[[], float] = lambda: 1e9) -> Environment:
    return Environment(random=os.urandom, wall_clock=clock)


def client_stack(security: dict[str, Any] | None = None, name: str = NAME, **options: Any) -> CurveCpStack:
    options = {"key": CLIENT.secret, "server_key": SERVER.public} | options
    return make_client(
        ClientRequest(
            version="1",
            security=SecurityParameters(options={"curvecp": CurveCpOptions(**options)}, **(security or {})),
            transport=TransportProperties(),
            endpoint=RemoteEndpoint(host_name=name, port=PORT),
            server_name=name,
            environment=environment(),
        )
    )


def screener(
    security: dict[str, Any] | None = None, clock: Callable[[], float] = lambda: 1e9, **options: Any
) -> CurveCpScreener:
    options = {"key": SERVER.secret, "server_name": NAME} | options
    return make_screener(
        ServerRequest(
            versions=("1",),
            security=SecurityParameters(options={"curvecp": CurveCpOptions(**options)}, **(security or {})),
            transport=TransportProperties(),
            endpoint=LocalEndpoint(port=PORT),
            environment=environment(clock),
        )
    )


class Peer(program.Peer):
    """One end. `allows`: what is answered about a client's key."""

    allows: object = True

    def verdict(self, ask: Ask) -> object:
        if isinstance(ask.request, VerifyKey):
            return self.allows
        assert isinstance(ask.request, ClaimOnce)
        fresh = ask.request.token not in self.claimed
        self.claimed.add(ask.request.token)
        return fresh


class Server:
    """A listener: `peers` in the order in which they came."""

    def __init__(
        self, local: tuple[str, int], *, echo: bool = True, patient: bool = False, allows: object = True, **how: Any
    ) -> None:
        self.endpoint = open_endpoint(local)
        self.peers: list[Peer] = []
        self.claimed: set[bytes] = set()
        self.screener = screener(**how)
        self._echo, self._patient, self._allows = echo, patient, allows
        self.endpoint.serve(self.screener, self._make)

    def _make(self, stack: SecurityStack, facts: PathFacts) -> Any:
        peer = Peer(stack, echo=self._echo, patient=self._patient)
        peer.claimed, peer.allows = self.claimed, self._allows
        self.peers.append(peer)
        return peer.driver

    @property
    def address(self) -> tuple[str, int]:
        return self.endpoint.local


def connect(remote: tuple[str, int], stack: CurveCpStack | None = None, **how: Any) -> tuple[Any, Peer]:
    """A client on a socket of its own."""
    endpoint = open_endpoint(("0.0.0.0", 0), remote)
    peer = Peer(client_stack() if stack is None else stack, **how)
    endpoint.connect(peer.driver, remote)
    return endpoint, peer


def hosts(network: Network, serves: dict[str, Any] | None = None, **conditions: Any) -> tuple[Any, Server]:
    """Two hosts 50 ms apart, and a server that echoes on one of them."""
    network.connect("client", "server", **({"delay": DELAY} | conditions))
    host = network.host("server")
    with host:
        return network.host("client"), Server((host.addresses[0], PORT), **(serves or {}))


def run(main: Callable[[Network], Any], seed: int = 0) -> None:
    simulation.run(main, seed=seed)
