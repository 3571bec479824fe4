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
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
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


def _certificate(role: Role, place: tuple[str, int]) -> Mapping[str, Any]:
    trust, identity = _certificates()
    return {"trust": trust, "server_name": SERVER_NAME} if role is Role.CLIENT else {"identity": identity}


def _psk(role: Role, place: tuple[str, int]) -> Mapping[str, Any]:
    return {"psk": taps.PreSharedKey("conformance", bytes(range(32)))}


# What an end of a role brings; `place`: where the server is, for protocols whose credentials say so.
Credentials = Mapping[str, Callable[[Role, tuple[str, int]], Mapping[str, Any]]]
CREDENTIALS: Credentials = {"certificate": _certificate, "psk": _psk}
FIRST = b"here I am"
NOWHERE = ("192.0.2.1", 1)


def credentials_for(protocol: Descriptor) -> Credentials:
    """The usual ones, or those of the protocol's own kind: `CREDENTIALS` in tests/protocols/NAME/credentials.py."""
    home = f"tests.protocols.{protocol.name.replace('-', '_')}"
    if find_spec(home) is None or find_spec(f"{home}.credentials") is None:
        return CREDENTIALS
    own: Credentials = import_module(f"{home}.credentials").CREDENTIALS
    return own


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

    def security(self, role: Role, place: tuple[str, int] = NOWHERE, **changes: Any) -> taps.SecurityParameters:
        """What this end declares and brings."""
        stack = f"{self.descriptor.name}/{self.version}"
        brings = credentials_for(self.descriptor)[self.credentials](role, place)
        return taps.SecurityParameters(stacks=[stack], **{**brings, **changes})

    # -- pairs ----------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def serving(self, world: World, **server: Any) -> AsyncIterator[Service]:
        """A listening end; `server`: what it declares beside its credentials."""
        serve = _serving_each_other if self.provides("key_import") else _serving
        with self.registered():
            async with serve(self, world, **server) as service:
                yield service

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


# -------------------------------------------------------------------------------------------------- how they come
@asynccontextmanager
async def _serving(subject: Subject, world: World, **server: Any) -> AsyncIterator[Service]:
    inside = subject.descriptor.tunnel is not None  # then endpoints are addresses inside it
    place = (world.address, world.free_port() if inside else 0)
    with world.server:
        listener = await taps.Preconnection(
            [taps.LocalEndpoint(ip_address=None if inside else world.address, port=0)],
            transport_properties=properties(),
            security_parameters=subject.security(Role.SERVER, place, **server),
        ).listen(handshake_timeout=TIMEOUT)
    address = listener.addresses[0]
    heard_at_once = subject.provides("active_read_before_send")  # else the first message tells of the connection

    async def initiate(*, timeout: float = TIMEOUT, **client: Any) -> taps.Connection:
        with world.client:
            connection = await taps.Preconnection(
                remote_endpoints=[taps.RemoteEndpoint(ip_address=address[0], port=address[1])],
                transport_properties=properties(),
                security_parameters=subject.security(Role.CLIENT, place, **client),
            ).initiate(timeout=timeout)
        if not heard_at_once:
            await connection.send(FIRST)
        return connection

    async def accept() -> taps.Connection:
        connection = await listener.accept()
        if not heard_at_once:
            assert (await connection.receive()).data == FIRST
        return connection

    async with listener:
        yield Service(address, accept, initiate, lambda: len(listener._ready))


@asynccontextmanager
async def _serving_each_other(subject: Subject, world: World, **server: Any) -> AsyncIterator[Service]:
    listening = Datagrams(subject.descriptor, subject.version, world, subject.security(Role.SERVER, **server))

    async def initiate(*, timeout: float = TIMEOUT, **client: Any) -> taps.Connection:
        return await listening.initiate(subject.security(Role.CLIENT, **client), timeout)

    try:
        yield Service(listening.address, listening.ready.get, initiate, listening.ready.qsize)
    finally:
        listening.stop()


# ------------------------------------------------------------------------------------------------------ all subjects
def _found() -> Iterator[Subject]:
    registered = [(protocol, version) for protocol, version in registry.allowed(())]
    for protocol, version in [*registered, *((toy, toy.versions[0]) for toy in TOYS)]:
        kinds = credentials_for(protocol)
        usable = [one for name in kinds if not (one := Subject(protocol, version, name)).complaint]
        if not usable:
            why = Subject(protocol, version, next(iter(kinds))).complaint
            raise AssertionError(f"{protocol.name}/{version}: none of {', '.join(kinds)} do for it: {why}")
        yield from usable


SUBJECTS = tuple(_found())
