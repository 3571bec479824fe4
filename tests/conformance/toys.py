"""The toy datagram stacks as protocols with descriptors, so that the suite treats them as any other.

parley    streams over datagrams, with a handshake, key phases and roaming of its own
satchel   messages under keys that both ends bring
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import taps_security as taps
from taps_security.properties.features import SECURITY_FEATURES
from taps_security.properties.security import Role
from taps_security.protocols.registry import (
    ClientRequest,
    Descriptor,
    Interface,
    Provided,
    Provides,
    ServerRequest,
    Shape,
)
from taps_security.stack.events import Limit, LimitKind, PathId
from taps_security.stack.layers import PathFacts
from taps_security.stack.screening import Drop, Load, Match, Verdict
from tests.toys.parley import ParleyHandshake
from tests.toys.parley_screening import ParleyScreener
from tests.toys.parley_stack import ParleyStack
from tests.toys.record import Ids
from tests.toys.satchel import SatchelStack, imported
from tests.toys.satchel import route_of as satchel_route

NEVER = 1 << 62


@dataclass(frozen=True)
class ToyOptions:
    """`records_per_key`: a soft limit; 0: none."""

    records_per_key: int = 0


def limits_of(request: ClientRequest | ServerRequest, name: str) -> tuple[Limit, ...]:
    options = request.security.options.get(name)
    if not isinstance(options, ToyOptions) or not options.records_per_key:
        return ()
    return (Limit(LimitKind.PACKETS, options.records_per_key, NEVER),)


def toy(name: str, shape: Shape, labels: set[Interface], has: set[str], needs: str, client: Any, server: Any) -> Any:
    """A descriptor. `needs`: which credentials, "certificate" or "psk"."""

    def provides(version: str, security: Any, transport: Any, role: Role) -> Provides:
        answered = {*SECURITY_FEATURES, *taps.TransportProperties.preferences()}
        return {feature: Provided(feature in has, "a toy") for feature in answered}

    def credentials(security: taps.SecurityParameters, role: Role) -> str | None:
        if needs == "psk":
            return None if security.psks else "a key"
        return None if (security.identities if role is Role.SERVER else security.trust) else "a certificate, or trust"

    return Descriptor(
        name=name,
        versions=("1",),
        shape=shape,
        carrier="udp",
        labels=frozenset(labels),
        options=ToyOptions,
        provides=provides,
        credentials=credentials,
        client=client,
        screener=server,
    )


ALWAYS = {
    "forward_secrecy",
    "endpoint_authentication",
    "source_validation",
    "replay_protection",
    "connection_mobility",
    "full_checksum_send",
    "full_checksum_recv",
    "active_read_before_send",
}


# -------------------------------------------------------------------------------------------------------------- parley
def parley_client(request: ClientRequest) -> ParleyStack:
    ids = Ids()
    handshake = ParleyHandshake(
        ids,
        client=True,
        random=request.environment.random,
        name=request.server_name,
        limits=limits_of(request, "parley"),
    )
    return ParleyStack(handshake, ids, client=True)


class Screener(ParleyScreener):
    """One that shows a certificate."""

    def __init__(self, request: ServerRequest) -> None:
        random = request.environment.random
        self._certificate = request.security.identities[0].loaded.chain[0]
        super().__init__(
            random,
            lambda kind, length: random(length),
            limits=limits_of(request, "parley"),
            wall_clock=request.environment.wall_clock,
        )

    def accept(self, seed: object, now: float) -> ParleyStack:
        stack = super().accept(seed, now)
        stack._handshake._chain = self._certificate  # type: ignore[attr-defined]
        return stack


PARLEY = toy(
    "parley",
    Shape.STREAM_TO_DATAGRAM,
    {Interface.IV, Interface.SAV, Interface.CT, Interface.KU, Interface.SSKE, Interface.KE, Interface.ME},
    {*ALWAYS, "reliability", "congestion_control", "preserve_order", "multistreaming", "key_update", "key_export"},
    "certificate",
    parley_client,
    Screener,
)


# ------------------------------------------------------------------------------------------------------------- satchel
def satchel(request: ClientRequest | ServerRequest) -> SatchelStack:
    """One end, with the keys of the first generation, which follow from the key that both ends were given."""
    client = isinstance(request, ClientRequest)
    mine, peers = (b"clie", b"serv") if client else (b"serv", b"clie")
    keys = imported(request.security.psks[0].key, 0, client=client, limits=limits_of(request, "satchel"))
    return SatchelStack(Ids(mine, peer=peers), client=client, random=request.environment.random, keys=keys)


class NoHandshake:
    """Who brings keys knows the peer already: nobody comes unexpected, and accept() makes the other end."""

    def __init__(self, request: ServerRequest) -> None:
        self._request = request

    def recognise(self, head: memoryview) -> Match:
        return Match.NO

    def route_of(self, datagram: memoryview) -> Hashable | None:
        return satchel_route(datagram)

    def screen(self, datagram: memoryview, path: PathId, facts: PathFacts, load: Load, now: float) -> Verdict:
        return Drop("nobody asked for it")

    def accept(self, seed: object, now: float) -> SatchelStack:
        return satchel(self._request)


SATCHEL = toy(
    "satchel",
    Shape.DATAGRAM_TO_DATAGRAM,
    {Interface.PSKI, Interface.KE, Interface.ME},
    {*ALWAYS, "preserve_msg_boundaries", "out_of_order_records", "key_import"},
    "psk",
    satchel,
    NoHandshake,
)
TOYS = (PARLEY, SATCHEL)
