"""What a TLS 1.3 client says once it knows the server, and the sessions that it keeps (RFC 8446 §4.4, §4.6.1).

    Certificate*, CertificateVerify*     where the server asked: Ask(ChooseIdentity), Ask(Sign)
    Finished                             application keys, HandshakeComplete
    NewSessionTicket -> SessionReady

May live here: making messages, what the application requires of the outcome. Must not: states; `client` has them.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from taps_security.stack.asks import ChooseIdentity, Refused, Sign
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    KeyReady,
    PeerAuthenticated,
    SessionReady,
)
from taps_security.stack.frozen import frozen

from .authentication import CLIENT_CONTEXT, choose_scheme, own_failure, own_signature, signed_content
from .extensions import ExtensionType, parse_authorities_untrusted, parse_u16_vector_untrusted
from .handshake import (
    HANDSHAKE_KEY,
    HANDSHAKE_RECEIVING_OVER,
    HANDSHAKE_SENDING_OVER,
    TlsHandshake,
    application_key,
    illegal,
    incompatible,
)
from .keys import resumption_psk
from .limits import MAX_INNER_PLAINTEXT, MAX_SESSIONS_PER_CONNECTION
from .psk import PskPeer
from .reasons import Reason
from .summary import summarise
from .tickets import Session
from .wire import (
    Certificate,
    CertificateVerify,
    HandshakeType,
    encode_certificate,
    encode_message,
    parse_new_session_ticket,
)

if TYPE_CHECKING:
    from enum import Enum

    from taps_security.crypto.certificates import Identity
    from taps_security.crypto.signature import SignatureScheme
    from taps_security.stack.errors import PeerIncompatible

    from .keys import CipherSuite, HandshakeSecret, MainSecret, TrafficSecret, Transcript
    from .offer import ClientOffer
    from .options import ClientConfiguration
    from .psk import OfferedPsk
    from .wire import CertificateRequest

__all__ = ["ClientFlight", "Retry", "Run"]

# Extensions that we know and that have no business there (RFC 8446 §4.2).
NOT_IN_TICKETS: Final = frozenset(ExtensionType) - {ExtensionType.EARLY_DATA}


class Retry(NamedTuple):
    """A HelloRetryRequest that was answered."""

    suite: CipherSuite
    group: int | None
    transcript: Transcript  # ends with the second ClientHello


@frozen
class _Resumption:
    """What the sessions of this connection have in common."""

    secret: bytes = field(repr=False)
    alpn: str | None
    peer_chain: tuple[bytes, ...]
    peer_psk: bytes
    authenticated_at: float | None  # None: in this handshake
    mutual: bool


class Run:
    """What only an unfinished handshake needs."""

    __slots__ = (
        "alpn",
        "chain",
        "client_handshake",
        "group",
        "handshake_secret",
        "identity",
        "limited",
        "main_secret",
        "offer",
        "own_identity",
        "psk",
        "request",
        "retry",
        "scheme",
        "send_limit",
        "server_handshake",
        "server_scheme",
        "transcript",
        "verified",
    )

    def __init__(self, offer: ClientOffer) -> None:
        self.offer = offer
        self.retry: Retry | None = None
        self.group = 0
        self.psk: OfferedPsk | None = None
        self.transcript: Transcript
        self.handshake_secret: HandshakeSecret
        self.main_secret: MainSecret
        self.client_handshake: TrafficSecret
        self.server_handshake: TrafficSecret
        self.alpn: str | None = None
        self.send_limit = MAX_INNER_PLAINTEXT
        self.limited = False  # whether record_size_limit was negotiated
        self.request: CertificateRequest | None = None
        self.chain: tuple[bytes, ...] = ()
        self.server_scheme = 0
        self.verified = False
        self.identity: object = None
        self.own_identity: Identity | None = None
        self.scheme: SignatureScheme | None = None

    @property
    def mutual(self) -> bool:
        """Whether we proved who we are: by a certificate, a pre-shared key, or in the session's first handshake."""
        if self.psk is None:
            return self.own_identity is not None
        return self.psk.session.mutual if isinstance(self.psk.session, Session) else True


def _not_mutual(why: str) -> PeerIncompatible:
    text = f"{why}, and mutual_authentication is required (RFC 9622 §4.2)"
    return incompatible(Reason.NO_MUTUAL_AUTHENTICATION, text, "4.3.2")


class ClientFlight(TlsHandshake):
    """The client's second flight, and what comes after; `client` decides when."""

    __slots__ = ("_configuration", "_resumption", "_run", "_sessions")

    def __init__(self, configuration: ClientConfiguration, state: Enum) -> None:
        super().__init__(configuration.options, configuration.key_log, configuration.label_prefix, state)
        self._configuration = configuration
        self._run: Run | None = None
        self._resumption: _Resumption | None = None
        self._sessions = 0

    @property
    def _running(self) -> Run:
        assert self._run is not None
        return self._run

    def forget(self) -> None:
        """Of a client too, with what its sessions would come from."""
        super().forget()
        self._run = self._resumption = None

    # -- our own flight -------------------------------------------------------------------------------------------
    def _send_flight(self) -> None:
        """The server is known: our identity is shown to nobody else."""
        run = self._running
        if run.request is None:
            if self._configuration.require_mutual_authentication and not run.mutual:
                raise _not_mutual("the server asked for no certificate")
            self._complete()
            return
        extensions = run.request.extensions
        signatures = extensions[ExtensionType.SIGNATURE_ALGORITHMS]
        authorities = extensions.get(ExtensionType.CERTIFICATE_AUTHORITIES)
        self._ask(
            ChooseIdentity(
                "",
                parse_u16_vector_untrusted(signatures),
                () if authorities is None else parse_authorities_untrusted(authorities),
                parse_u16_vector_untrusted(extensions.get(ExtensionType.SIGNATURE_ALGORITHMS_CERT, signatures)),
            ),
            self._identity_chosen,
        )

    def _identity_chosen(self, result: object, now: float) -> None:
        """An identity that cannot sign for this server is none: RFC 8446 §4.4.2 lets the client go on without."""
        if isinstance(result, Refused):
            raise own_failure("no client identity", result)
        run = self._running
        assert run.request is not None
        identity = cast("Identity | None", result)
        algorithms = parse_u16_vector_untrusted(run.request.extensions[ExtensionType.SIGNATURE_ALGORITHMS])
        scheme = None
        if identity is not None and identity.chain:
            scheme = choose_scheme(identity, algorithms, self._options.signature_algorithms)
        if identity is None or scheme is None:
            if self._configuration.require_mutual_authentication:
                raise _not_mutual("we have no identity that can sign for the server")
            message = Certificate(b"", ()).encode()
            run.transcript.update(message)
            self._put(self._message(HANDSHAKE_KEY, message))
            self._complete()
            return
        message = encode_certificate(b"", identity.chain)
        run.transcript.update(message)
        run.own_identity, run.scheme = identity, scheme
        self._put(self._message(HANDSHAKE_KEY, message))
        content = signed_content(CLIENT_CONTEXT, run.transcript.digest())
        self._ask(Sign(identity, scheme, content), self._signed)

    def _signed(self, result: object, now: float) -> None:
        signature = own_signature("the client's key", result)
        run = self._running
        assert run.scheme is not None
        message = CertificateVerify(run.scheme, signature).encode()
        run.transcript.update(message)
        self._put(self._message(HANDSHAKE_KEY, message))
        self._complete()

    def _complete(self) -> None:
        run = self._running
        assert self._send is not None
        assert self._receive is not None
        finished = encode_message(HandshakeType.FINISHED, run.client_handshake.finished(run.transcript.digest()))
        run.transcript.update(finished)
        session = run.psk.session if run.psk is not None else None
        self._resumption = _Resumption(
            run.main_secret.resumption(run.transcript.digest()),
            run.alpn,
            run.chain,
            run.identity.identity if isinstance(run.identity, PskPeer) else b"",
            session.authenticated_at if isinstance(session, Session) else None,
            run.mutual,
        )
        self._state = self.connected
        self._put(
            self._message(HANDSHAKE_KEY, finished, last=True),
            HANDSHAKE_SENDING_OVER,
            self._send_key(0, self._send),
            HANDSHAKE_RECEIVING_OVER,
            KeyReady(application_key(), Direction.RECEIVE, self._receive),
        )
        if run.identity is not None:
            self._put(PeerAuthenticated(run.identity))
        self._put(self._complete_event())
        self._run = None

    def _complete_event(self) -> HandshakeComplete:
        run = self._running
        assert self._send is not None
        assert self._receive is not None
        return summarise(
            self._send,
            self._receive,
            group=run.group,
            peer_scheme=run.server_scheme,
            own_scheme=run.scheme,
            alpn=run.alpn,
            server_name=self._configuration.server_name,
            psk=run.psk,
            retried=run.retry is not None,
            mutual=run.mutual,
        )

    # -- afterwards -----------------------------------------------------------------------------------------------
    def _receive_new_session_ticket(self, message: bytes, now: float) -> None:
        """RFC 8446 §4.6.1. Tickets above our bound, and those that live no second, are ignored."""
        ticket = parse_new_session_ticket(message[4:])
        resumption, suite = self._resumption, self._suite
        if misplaced := NOT_IN_TICKETS.intersection(ticket.extensions):
            raise illegal(f"extension {min(misplaced)} does not belong into new_session_ticket", "4.2")
        if resumption is None or suite is None or ticket.lifetime == 0:
            return
        at = self._configuration.wall_clock()
        self._sessions += 1
        if self._sessions >= MAX_SESSIONS_PER_CONNECTION:
            self._resumption = None
        self._put(
            SessionReady(
                Session(
                    ticket.ticket,
                    resumption_psk(suite.hash, resumption.secret, ticket.nonce, self._prefix),
                    suite,
                    ticket.lifetime,
                    ticket.age_add,
                    at,
                    at if resumption.authenticated_at is None else resumption.authenticated_at,
                    self._configuration.server_name,
                    resumption.alpn,
                    resumption.peer_chain,
                    resumption.peer_psk,
                    resumption.mutual,
                )
            )
        )
