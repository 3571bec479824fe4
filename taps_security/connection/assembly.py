"""Puts a Connection together: the stack from its descriptor, what answers its asks, its log, its sessions."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..observe.security import SecurityLog
from ..properties.endpoints import LocalEndpoint
from ..properties.preference import Preference
from ..properties.security import Role, SecurityParameters, SessionKey, SessionStore
from ..properties.store import Store
from ..properties.transport import CapacityProfile, TransportProperties
from ..protocols.registry import ClientRequest, Environment, ServerRequest, Shape, TunnelRequest
from ..stack.stack import SecurityStack
from ..transport.network import StreamOptions
from .anchors import anchors_of
from .asks import Answerer, Answers
from .candidates import StackChoice
from .connection import Connection

if TYPE_CHECKING:
    from ..stack.tunnel import PacketStack, TunnelEngine
    from .group import Group
    from .preconnection import Preconnection
    from .racing import Candidate

KeyLog = Callable[[str], None]  # one line of a key log file, without its end

_BULK = {CapacityProfile.CAPACITY_SEEKING, CapacityProfile.SCAVENGER}


def environment_of(loop: asyncio.AbstractEventLoop, key_log: KeyLog | None, store: Store | None = None) -> Environment:
    """The system's randomness and clock; a loop that brings its own (a simulation) has them as `taps_environment`."""
    own: Environment | None = getattr(loop, "taps_environment", None)
    if own is None:
        return Environment(random=os.urandom, wall_clock=time.time, key_log=key_log, store=store)
    kept = own.store if store is None else store
    return Environment(random=own.random, wall_clock=own.wall_clock, key_log=key_log or own.key_log, store=kept)


def stream_options(transport: TransportProperties, interface: str) -> StreamOptions:
    """What the declared properties mean for a TCP socket."""
    wish = transport.preference("keep_alive")
    keep_alive = wish > 0 or (wish is Preference.NO_PREFERENCE and transport.keep_alive_timeout is not None)
    user_timeout = transport.conn_timeout
    if transport.tcp_user_timeout_enabled and transport.tcp_user_timeout_value is not None:
        user_timeout = float(transport.tcp_user_timeout_value)
    return StreamOptions(
        no_delay=transport.conn_capacity_profile not in _BULK,
        keep_alive=keep_alive,
        keep_alive_seconds=transport.keep_alive_timeout if keep_alive else None,
        user_timeout_seconds=user_timeout,
        interface=interface,
    )


class Acceptance(NamedTuple):
    """What a listening socket needs: who looks at what comes, and who puts a Connection around what is let in."""

    screener: Any  # StreamScreener or DatagramScreener, as the protocol's carrier has it
    wrap: Callable[[SecurityStack], Connection]


class TunnelParts(NamedTuple):
    """What a Tunnel is made of."""

    engine: TunnelEngine
    group: Callable[..., Group]
    random: Callable[[int], bytes]


class Assembly:
    """Makes the Connections of one Preconnection in one role. ConfigurationError if the trust cannot be read."""

    def __init__(
        self,
        security: SecurityParameters,
        transport: TransportProperties,
        role: Role,
        sessions: SessionStore | None,
        key_log: KeyLog | None,
    ) -> None:
        self._security = security
        self._transport = transport
        self._key_log = key_log
        resumes = security.preference("session_resumption", role) >= 0
        self._sessions = sessions if resumes else None
        self._scope = security.session_scope if role is Role.CLIENT and self._sessions is not None else ""
        self._anchors = anchors_of(security.trust_of(role))
        self._psks = {key.identity: key for key in security.psks}

    def _answers(self, environment: Environment) -> Answers:
        return Answers(
            wall_clock=environment.wall_clock,
            anchors=self._anchors,
            identities=self._security.identities,
            psks=self._psks,
            psk_callback=self._security.psk_callback,
            sessions=None if self._sessions is None else _Tickets(self._sessions),
            trust_callback=self._security.trust_callback,
        )

    # -- clients --------------------------------------------------------------------------------------------------
    def client(
        self, loop: asyncio.AbstractEventLoop, candidate: Candidate, preconnection: Preconnection
    ) -> tuple[SecurityStack, Connection]:
        """The stack and the Connection of one candidate, whose transport is open."""
        choice, remote = candidate.choice, candidate.endpoint
        name = self._security.server_name or remote.host_name or (remote.ip_address or "").partition("%")[0]
        environment = environment_of(loop, self._key_log, self._security.store)
        key = SessionKey(choice.protocol.name, name, candidate.address.port, self._scope)
        sessions = self._sessions
        make = choice.protocol.client
        assert make is not None, "packet stacks are made by a tunnel"
        stack = make(
            ClientRequest(
                version=choice.version,
                security=choice.security,
                transport=self._transport,
                endpoint=remote,
                server_name=name,
                environment=environment,
                session=sessions.take(key) if sessions is not None else None,
            )
        )
        log = SecurityLog(choice.protocol.name, choice.version, choice.provided())
        answerer = Answerer(self._answers(environment))
        connection = first_connection(choice, accepted=False)(loop, stack, log, answerer, self._transport)
        remember = None
        if sessions is not None:
            keep = sessions

            def remember(session: object) -> None:
                keep.remember(key, session)

        connection.initiated_by(preconnection, remember)
        return stack, connection

    # -- servers --------------------------------------------------------------------------------------------------
    def server(
        self, loop: asyncio.AbstractEventLoop, choices: Sequence[StackChoice], local: LocalEndpoint
    ) -> Acceptance:
        """A screener, and what makes Connections of what it lets in. `choices`: versions of one protocol."""
        first = choices[0]
        environment = environment_of(loop, self._key_log, self._security.store)
        make = first.protocol.screener
        assert make is not None, "packet stacks are made by a tunnel"
        screener = make(
            ServerRequest(
                versions=tuple(dict.fromkeys(choice.version for choice in choices)),
                security=first.security,
                transport=self._transport,
                endpoint=local,
                environment=environment,
            )
        )
        made, answers = first_connection(first, accepted=True), self._answers(environment)
        provided = first.provided()
        sessions, transport = self._sessions, self._transport

        def wrap(stack: SecurityStack) -> Connection:
            log = SecurityLog(first.protocol.name, first.version, provided)
            connection = made(loop, stack, log, Answerer(answers), transport)
            connection.properties = transport
            if sessions is not None:
                connection.keep_sessions(_remember_ticket(sessions))
            return connection

        return Acceptance(screener, wrap)

    # -- packet stacks --------------------------------------------------------------------------------------------
    def tunnel(self, loop: asyncio.AbstractEventLoop, choice: StackChoice) -> TunnelParts:
        """The engine of a local end, and what makes the Groups of its stacks."""
        environment = environment_of(loop, self._key_log, self._security.store)
        make = choice.protocol.tunnel
        assert make is not None, "only packet stacks have tunnels"
        engine = make(
            TunnelRequest(
                version=choice.version, security=choice.security, transport=self._transport, environment=environment
            )
        )
        provided, answers = choice.provided(), self._answers(environment)

        def group(stack: PacketStack, **how: Any) -> Group:
            from .group import Group  # noqa: PLC0415 -- only packet stacks need groups

            log = SecurityLog(choice.protocol.name, choice.version, provided)
            return Group(loop, stack, log, Answerer(answers), properties=self._transport, **how)

        return TunnelParts(engine, group, environment.random)


Made = Callable[[asyncio.AbstractEventLoop, SecurityStack, SecurityLog, Answerer, TransportProperties], Connection]


def first_connection(choice: StackChoice, *, accepted: bool) -> Made:
    """What makes the Connection of a stack's first flow: a stream, one of several streams, or messages."""
    if choice.protocol.shape is Shape.DATAGRAM_TO_DATAGRAM:
        return _messages
    several = choice.provides.get("multistreaming")
    if several is None or not several.value:
        return _stream
    return partial(_one_of_several, accepted)


def _stream(
    loop: asyncio.AbstractEventLoop, stack: SecurityStack, log: SecurityLog, answerer: Answerer, _: TransportProperties
) -> Connection:
    return Connection(loop, stack, log, answerer)


def _messages(
    loop: asyncio.AbstractEventLoop, stack: SecurityStack, log: SecurityLog, answerer: Answerer, _: TransportProperties
) -> Connection:
    from .messages import MessageConnection  # noqa: PLC0415 -- byte streams need none

    return MessageConnection(loop, stack, log, answerer)


def _one_of_several(
    accepted: bool,
    loop: asyncio.AbstractEventLoop,
    stack: SecurityStack,
    log: SecurityLog,
    answerer: Answerer,
    transport: TransportProperties,
) -> Connection:
    from .multistream import StreamGroup  # noqa: PLC0415 -- single streams need none

    return StreamGroup(loop, stack, log, answerer, accepted=accepted, properties=transport).first


def _remember_ticket(store: SessionStore) -> Callable[[object], None]:
    def remember(session: Any) -> None:
        store.remember(session.ticket, session)

    return remember


class _Tickets:
    """The sessions behind a listener's stateful tickets."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    def find(self, ticket: bytes) -> object | None:
        """The session, removed: a ticket is used once."""
        return self._store.take(ticket)
