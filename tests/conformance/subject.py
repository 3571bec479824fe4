"""What the suite runs over, and how it gets a connected pair of each.

A subject is a registered protocol in one version, with one kind of credentials that it can use. Nothing here or in the
suite knows a protocol: what differs is what its descriptor declares (`carrier`, `shape`, `provides`, `options`).
Protocols that only tests have are put into the registry while a test runs.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import taps_security as taps
from taps_security.connection.candidates import choose_stacks
from taps_security.crypto.certificates import certificate_pem
from taps_security.crypto.issuing import issue_certificate, make_certificate_authority
from taps_security.properties.security import Role
from taps_security.protocols import registry
from taps_security.protocols.registry import Descriptor, Shape
from tests.conformance.datagrams import Datagrams
from tests.conformance.toys import TOYS
from tests.conformance.worlds import World

SERVER_NAME = "server.example"
TIMEOUT = 10.0  # seconds for what should not take one


class Pair(NamedTuple):
    """Two ends of one connection."""

    client: taps.Connection
    server: taps.Connection


# --------------------------------------------------------------------------------------------------------- credentials
@cache
def _certificates() -> tuple[taps.Trust, taps.Identity]:
    now = time.time()
    authority = make_certificate_authority("conformance", at=now, random=os.urandom)
    leaf = issue_certificate(authority, [SERVER_NAME], at=now, random=os.urandom)
    return taps.Trust.pem(certificate_pem(*authority.chain)), taps.Identity(leaf)


def _certificate(role: Role) -> Mapping[str, Any]:
    trust, identity = _certificates()
    return {"trust": trust, "server_name": SERVER_NAME} if role is Role.CLIENT else {"identity": identity}


def _psk(role: Role) -> Mapping[str, Any]:
    return {"psk": taps.PreSharedKey("conformance", bytes(range(32)))}


CREDENTIALS: dict[str, Callable[[Role], Mapping[str, Any]]] = {"certificate": _certificate, "psk": _psk}


# ------------------------------------------------------------------------------------------------------------ subjects
@dataclass(frozen=True)
class Subject:
    """A protocol in one version, with one kind of credentials."""

    descriptor: Descriptor
    version: str
    credentials: str

    def __str__(self) -> str:
        return f"{self.descriptor.name}/{self.version}+{self.credentials}"

    # -- what it declares -----------------------------------------------------------------------------------------
    def provides(self, feature: str) -> bool:
        """Whether both ends have it."""
        found = []
        for role in Role:
            provided = self.descriptor.provides(self.version, self.security(role), taps.TransportProperties(), role)
            found.append(feature in provided and provided[feature].value)
        return all(found)

    @property
    def complaint(self) -> str:
        """What is missing for these credentials to do, in both roles, unless an application says otherwise."""
        with self.registered():
            choices = [choice for role in Role for choice in choose_stacks(self.security(role), properties(), role)]
        return "; ".join(str(why) for choice in choices for why in choice.reasons if why.effect == "dropped")

    def registered(self) -> AbstractContextManager[object]:
        """Have the protocol in the registry for as long as the block runs."""
        known = self.descriptor.name in registry.names()
        return nullcontext() if known else registry.register(self.descriptor)

    @property
    def takes_streams(self) -> bool:
        """Whether the application sees byte streams."""
        return self.descriptor.shape is not Shape.DATAGRAM_TO_DATAGRAM

    def options(self, **wanted: Any) -> dict[str, object]:
        """Options of these names, for `security()`; empty where the protocol's options lack one of them."""
        kind = self.descriptor.options
        if kind is None or not {*wanted} <= {field.name for field in dataclasses.fields(kind)}:
            return {}
        return {"options": {self.descriptor.name: kind(**wanted)}}

    def security(self, role: Role, **changes: Any) -> taps.SecurityParameters:
        """What this end declares and brings."""
        stack = f"{self.descriptor.name}/{self.version}"
        return taps.SecurityParameters(stacks=[stack], **{**CREDENTIALS[self.credentials](role), **changes})

    # -- pairs ----------------------------------------------------------------------------------------------------
    def serving(self, world: World, **server: Any) -> AbstractAsyncContextManager[Service]:
        """A listening end; `server`: what it declares beside its credentials."""
        return SERVING[self.descriptor.carrier](self, world, **server)

    @asynccontextmanager
    async def connected(self, world: World, **client: Any) -> AsyncIterator[Pair]:
        """A ready pair; `client`: what the client declares beside its credentials. Both are aborted at the end."""
        async with self.serving(world) as service:
            ours = await service.initiate(**client)
            theirs = await service.accept()
            try:
                yield Pair(ours, theirs)
            finally:
                ours.abort()
                theirs.abort()


class Service(NamedTuple):
    """A listening end."""

    address: tuple[str, int]
    accept: Callable[[], Awaitable[taps.Connection]]  # its next ready connection
    initiate: Callable[..., Awaitable[taps.Connection]]  # a further connection to it
    others: Callable[[], int]  # ready connections that nobody took


def properties() -> taps.TransportProperties:
    """Whatever the protocol gives."""
    anything = dict.fromkeys(("reliability", "preserve_order", "congestion_control"), "no preference")
    return taps.TransportProperties(**anything)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------- byte-stream carriers
@asynccontextmanager
async def _serving_streams(subject: Subject, world: World, **server: Any) -> AsyncIterator[Service]:
    with world.server:
        listener = await taps.Preconnection(
            [taps.LocalEndpoint(ip_address=world.address, port=0)],
            transport_properties=properties(),
            security_parameters=subject.security(Role.SERVER, **server),
        ).listen(handshake_timeout=TIMEOUT)
    address = (world.address, listener.port)
    async with listener:
        yield Service(
            address, listener.accept, partial(_initiate, subject, world, address), lambda: len(listener._ready)
        )


async def _initiate(
    subject: Subject, world: World, address: tuple[str, int], *, timeout: float = TIMEOUT, **client: Any
) -> taps.Connection:
    with world.client:
        return await taps.Preconnection(
            remote_endpoints=[taps.RemoteEndpoint(ip_address=address[0], port=address[1])],
            transport_properties=properties(),
            security_parameters=subject.security(Role.CLIENT, **client),
        ).initiate(timeout=timeout)


# ------------------------------------------------------------------------------------------------ datagram carriers
@asynccontextmanager
async def _serving_datagrams(subject: Subject, world: World, **server: Any) -> AsyncIterator[Service]:
    listening = Datagrams(subject.descriptor, subject.version, world, subject.security(Role.SERVER, **server))

    async def initiate(*, timeout: float = TIMEOUT, **client: Any) -> taps.Connection:
        return await listening.initiate(subject.security(Role.CLIENT, **client), timeout)

    try:
        yield Service(listening.address, listening.ready.get, initiate, listening.ready.qsize)
    finally:
        listening.stop()


SERVING: dict[str, Any] = {"tcp": _serving_streams, "udp": _serving_datagrams}


# ------------------------------------------------------------------------------------------------------ all subjects
def _found() -> Iterator[Subject]:
    registered = [(protocol, version) for protocol, version in registry.allowed(())]
    for protocol, version in [*registered, *((toy, toy.versions[0]) for toy in TOYS)]:
        usable = [one for name in CREDENTIALS if not (one := Subject(protocol, version, name)).complaint]
        if not usable:
            why = Subject(protocol, version, "psk").complaint
            raise AssertionError(f"{protocol.name}/{version}: none of {', '.join(CREDENTIALS)} do for it: {why}")
        yield from usable


SUBJECTS = tuple(_found())
