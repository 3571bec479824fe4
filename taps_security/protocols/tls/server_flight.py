"""What a TLS 1.3 server says: its messages in the order of the wire, and the keys behind them (RFC 8446 §4).

    HelloRetryRequest, if needed
    ServerHello                   handshake keys
    EncryptedExtensions, CertificateRequest, Certificate*
    Finished                      application sending key
    NewSessionTicket              once the handshake is complete

May live here: making messages, deriving and announcing keys. Must not: states, decisions; `server` makes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taps_security.crypto.agreement import AgreementError
from taps_security.stack.events import Direction, KeyReady, SessionReady

from .authentication import SERVER_CONTEXT, signed_content
from .extensions import ExtensionType, encode_alpn, encode_key_share, encode_u16
from .handshake import HANDSHAKE_KEY, HANDSHAKE_SENDING_OVER, INITIAL_KEY, TlsHandshake, application_key, misbehaved
from .keys import EarlySecret, TrafficSecret, Transcript, resumption_psk
from .limits import MAX_INNER_PLAINTEXT, TLS_1_3
from .psk import PskPeer
from .reasons import Reason
from .tickets import ServerSession
from .wire import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest,
    CertificateVerify,
    Extensions,
    HandshakeType,
    NewSessionTicket,
    ServerHello,
    encode_certificate,
    encode_extensions,
    encode_message,
)

if TYPE_CHECKING:
    from enum import Enum

    from taps_security.crypto.agreement import Group
    from taps_security.crypto.certificates import Identity
    from taps_security.crypto.kdf import HashAlgorithm
    from taps_security.crypto.signature import SignatureScheme

    from .keys import CipherSuite, HandshakeSecret, MainSecret
    from .negotiation import HelloFacts
    from .options import ServerConfiguration
    from .psk import OfferedPsk

__all__ = ["STATEFUL_TICKET_SIZE", "Run", "ServerFlight"]

STATEFUL_TICKET_SIZE: Final = 32  # octets of the random name of a stored session

_SELECTED_VERSION = TLS_1_3.to_bytes(2, "big")


class Run:
    """What only an unfinished handshake needs."""

    __slots__ = (
        "alpn",
        "authenticated_at",
        "chain",
        "client_handshake",
        "client_scheme",
        "cookie",
        "facts",
        "group",
        "handshake_secret",
        "identity",
        "main_secret",
        "own_identity",
        "psk",
        "retried",
        "scheme",
        "server_handshake",
        "share",
        "suites",
        "transcript",
        "verified",
    )

    def __init__(
        self, facts: HelloFacts, suites: tuple[CipherSuite, ...], group: Group, share: bytes, alpn: str | None
    ) -> None:
        self.facts = facts
        self.suites = suites
        self.group = group
        self.share = share
        self.alpn = alpn
        self.cookie = b""
        self.retried = False
        self.transcript: Transcript | None = None  # from a HelloRetryRequest on before the ServerHello
        self.psk: OfferedPsk | None = None
        self.handshake_secret: HandshakeSecret
        self.main_secret: MainSecret
        self.client_handshake: TrafficSecret
        self.server_handshake: TrafficSecret
        self.own_identity: Identity | None = None
        self.scheme: SignatureScheme | None = None
        self.chain: tuple[bytes, ...] = ()
        self.client_scheme = 0
        self.identity: object = None
        self.verified = True
        self.authenticated_at: float | None = None

    @property
    def hashes(self) -> tuple[HashAlgorithm, ...]:
        """The hashes of the suites in common."""
        return tuple([suite.hash for suite in self.suites])

    @property
    def running(self) -> Transcript:
        """The transcript, once there is one."""
        assert self.transcript is not None
        return self.transcript


class ServerFlight(TlsHandshake):
    """The messages of one server; `server` decides which of them, and when."""

    __slots__ = ("_configuration", "_run")

    def __init__(self, configuration: ServerConfiguration, state: Enum) -> None:
        super().__init__(configuration.options, configuration.key_log, configuration.label_prefix, state)
        self._configuration = configuration
        self._run: Run | None = None
        self._exchange = 1

    @property
    def _running(self) -> Run:
        assert self._run is not None
        return self._run

    def forget(self) -> None:
        """Of a server too."""
        super().forget()
        self._run = None

    def _send_retry(self, suite: CipherSuite) -> None:
        """RFC 8446 §4.1.4. The suite is settled by it."""
        run = self._running
        extensions: Extensions = {ExtensionType.KEY_SHARE: encode_u16(run.group)}
        if self._options.retry_cookie:
            run.cookie = self._configuration.random(32)
            extensions[ExtensionType.COOKIE] = encode_u16(len(run.cookie)) + run.cookie
        extensions[ExtensionType.SUPPORTED_VERSIONS] = _SELECTED_VERSION
        session_id = run.facts.hello.session_id
        message = ServerHello(HELLO_RETRY_REQUEST_RANDOM, session_id, suite.code, extensions).encode()
        run.suites = (suite,)
        run.retried = True
        run.transcript = Transcript.after_retry(suite.hash, run.facts.message, message)
        self._put(self._message(INITIAL_KEY, message, last=True))

    # -- parameters and keys ----------------------------------------------------------------------------------------
    def _send_hello(self, suite: CipherSuite, early: EarlySecret, extensions: Extensions) -> None:
        configuration, run = self._configuration, self._running
        try:
            public, shared = configuration.respond(run.group, run.share, configuration.random)
        except AgreementError as error:
            raise misbehaved(Reason.BAD_KEY_SHARE, f"the client's key share cannot be used: {error}", "4.2.8") from None
        extensions[ExtensionType.KEY_SHARE] = encode_key_share(run.group, public)
        extensions[ExtensionType.SUPPORTED_VERSIONS] = _SELECTED_VERSION
        hello = run.facts.hello
        message = ServerHello(configuration.random(32), hello.session_id, suite.code, extensions).encode()
        transcript = run.transcript or Transcript(suite.hash)
        transcript.update(run.facts.message + message)
        digest = transcript.digest()
        secret = early.into_handshake(shared)
        client, server = secret.client_traffic(digest), secret.server_traffic(digest)
        send_limit, receive_limit = self._record_limits()
        self._suite = suite
        run.transcript, run.handshake_secret = transcript, secret
        run.server_handshake = TrafficSecret(suite, server, send_limit, self._prefix)
        run.client_handshake = TrafficSecret(suite, client, receive_limit, self._prefix, self.skip_early_data)
        self._log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", hello.random, client)
        self._log("SERVER_HANDSHAKE_TRAFFIC_SECRET", hello.random, server)
        self._put(
            self._message(INITIAL_KEY, message),
            KeyReady(HANDSHAKE_KEY, Direction.SEND, run.server_handshake),
            KeyReady(HANDSHAKE_KEY, Direction.RECEIVE, run.client_handshake),
        )

    def _record_limits(self) -> tuple[int, int]:
        """What we may send and what may come: RFC 8449 binds both sides only once the client has named a limit."""
        send_limit = self._running.facts.send_limit
        if send_limit is None:
            return MAX_INNER_PLAINTEXT, MAX_INNER_PLAINTEXT
        return send_limit, self._options.record_size_limit

    def _send_encrypted_extensions(self) -> None:
        configuration, run = self._configuration, self._running
        offered = run.facts.hello.extensions
        ours: Extensions = {}
        if run.facts.server_name and run.psk is None:
            ours[ExtensionType.SERVER_NAME] = b""
        if run.facts.send_limit is not None:
            ours[ExtensionType.RECORD_SIZE_LIMIT] = encode_u16(self._options.record_size_limit)
        if run.alpn is not None:
            ours[ExtensionType.ALPN] = encode_alpn([run.alpn.encode()])
        for kind, body in configuration.extensions:
            if kind in offered:
                ours[kind] = body
                self.peer_extensions = {**self.peer_extensions, kind: offered[kind]}
        if configuration.extension_order:
            ours = {kind: ours.pop(kind) for kind in configuration.extension_order if kind in ours} | ours
        message = encode_message(HandshakeType.ENCRYPTED_EXTENSIONS, encode_extensions(ours))
        run.running.update(message)
        self._put(self._message(HANDSHAKE_KEY, message))

    def _send_certificate_request(self) -> None:
        options, authorities = self._options, self._configuration.authorities
        extensions: Extensions = {
            ExtensionType.SIGNATURE_ALGORITHMS: options.signature_octets,
            ExtensionType.SIGNATURE_ALGORITHMS_CERT: options.certificate_signature_octets,
        }
        if authorities:
            names = b"".join([encode_u16(len(name)) + name for name in authorities])
            extensions[ExtensionType.CERTIFICATE_AUTHORITIES] = encode_u16(len(names)) + names
        message = CertificateRequest(b"", extensions).encode()
        self._running.running.update(message)
        self._put(self._message(HANDSHAKE_KEY, message))

    def _send_certificate(self, identity: Identity, scheme: SignatureScheme) -> bytes:
        """Our chain; what is to be signed for it in CertificateVerify."""
        run = self._running
        run.own_identity, run.scheme = identity, scheme
        message = encode_certificate(b"", identity.chain)
        run.running.update(message)
        self._put(self._message(HANDSHAKE_KEY, message))
        return signed_content(SERVER_CONTEXT, run.running.digest())

    def _send_certificate_verify(self, signature: bytes) -> None:
        run = self._running
        assert run.scheme is not None
        message = CertificateVerify(run.scheme, signature).encode()
        run.running.update(message)
        self._put(self._message(HANDSHAKE_KEY, message))

    def _send_finished(self) -> None:
        """Finished, and our application key: alerts go under it from now on (RFC 8446 §4.4.4)."""
        run, suite = self._running, self._suite
        assert suite is not None
        transcript = run.running
        finished = encode_message(HandshakeType.FINISHED, run.server_handshake.finished(transcript.digest()))
        transcript.update(finished)
        run.main_secret = run.handshake_secret.into_main()
        digest = transcript.digest()
        client, server = run.main_secret.client_traffic(digest), run.main_secret.server_traffic(digest)
        self._exporter = run.main_secret.exporter(digest)
        send_limit, receive_limit = self._record_limits()
        self._send = TrafficSecret(suite, server, send_limit, self._prefix)
        self._receive = TrafficSecret(suite, client, receive_limit, self._prefix)
        client_random = run.facts.hello.random
        self._log("CLIENT_TRAFFIC_SECRET_0", client_random, client)
        self._log("SERVER_TRAFFIC_SECRET_0", client_random, server)
        self._log("EXPORTER_SECRET", client_random, self._exporter)
        self._put(
            self._message(HANDSHAKE_KEY, finished, last=True),
            HANDSHAKE_SENDING_OVER,
            self._send_key(0, self._send),
        )

    # -- tickets ----------------------------------------------------------------------------------------------------
    def _send_tickets(self) -> None:
        """RFC 8446 §4.6.1: as many as the options say, after a resumption one in place of the one that is used up."""
        run, configuration, suite = self._running, self._configuration, self._suite
        count = self._options.tickets if run.psk is None else min(self._options.tickets, 1)
        if not (configuration.ticket_keys or configuration.stateful_sessions) or not run.facts.psk_dhe_ke or not count:
            return
        assert suite is not None
        resumption = run.main_secret.resumption(run.running.digest())
        at = configuration.wall_clock()
        for number in range(count):
            nonce = bytes((number,))
            session = ServerSession(
                resumption_psk(suite.hash, resumption, nonce, self._prefix),
                suite,
                at,
                self._options.ticket_lifetime,
                int.from_bytes(configuration.random(4), "big"),
                at if run.authenticated_at is None else run.authenticated_at,
                run.facts.server_name,
                run.alpn,
                run.chain,
                run.identity.identity if isinstance(run.identity, PskPeer) else b"",
            )
            if not self._send_ticket(session, nonce):
                return

    def _send_ticket(self, session: ServerSession, nonce: bytes) -> bool:
        keys = self._configuration.ticket_keys
        if keys is not None:
            ticket = keys.seal(session)
            if ticket is None:
                return False
        else:
            ticket = self._configuration.random(STATEFUL_TICKET_SIZE)
            self._put(SessionReady(session.named(ticket)))
        message = NewSessionTicket(session.lifetime, session.age_add, nonce, ticket, {}).encode()
        self._put(self._message(application_key(), message, last=True))
        return True
