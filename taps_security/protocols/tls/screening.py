"""What a TLS listener shares between its connections, and how it knows that one is TLS."""

from __future__ import annotations

from ...properties.security import ClientAuthentication as Asked
from ...properties.security import Role
from ...stack.screening import Match
from ..registry import ServerRequest
from .delivery import TlsStack, assemble
from .descriptor import certified, configured_options, keyed
from .options import ClientAuthentication, ServerConfiguration
from .record import HANDSHAKE
from .server import ServerHandshake
from .tickets import TicketKeys

__all__ = ["TlsScreener"]

_ASKED = {
    Asked.NONE: ClientAuthentication.NONE,
    Asked.REQUEST: ClientAuthentication.REQUEST,
    Asked.REQUIRE: ClientAuthentication.REQUIRE,
}


class TlsScreener:
    """Accepts TLS connections of one listener, which share ticket keys."""

    def __init__(self, request: ServerRequest) -> None:
        security, environment = request.security, request.environment
        self._options = configured_options(security, Role.SERVER)
        resumes = security.preference("session_resumption", Role.SERVER) >= 0 and self._options.tickets > 0
        stateful = resumes and security.session_cache is not None
        lifetime = self._options.ticket_lifetime  # a key is kept no longer than the tickets that it made
        keys = TicketKeys(environment.random, environment.wall_clock, lifetime=lifetime) if resumes else None
        self._configuration = ServerConfiguration(
            alpn=security.alpn,
            options=self._options,
            client_authentication=_ASKED[security.asks_clients],
            ticket_keys=None if stateful else keys,
            stateful_sessions=stateful,
            external_psks=keyed(security, Role.SERVER),
            certificates=certified(security, Role.SERVER),
            random=environment.random,
            wall_clock=environment.wall_clock,
            key_log=environment.key_log,
        )

    def recognise(self, head: memoryview) -> Match:
        """A handshake record of TLS: 22, 3."""
        if len(head) < 2:
            return Match.MORE if not len(head) or head[0] == HANDSHAKE else Match.NO
        return Match.YES if head[0] == HANDSHAKE and head[1] == 3 else Match.NO

    def accept(self, now: float) -> TlsStack:
        """A server's stack, not yet started."""
        return assemble(ServerHandshake(self._configuration), self._options)
