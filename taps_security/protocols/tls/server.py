"""The server of TLS 1.3 (RFC 8446 §2, App. A.2).

WAIT_CLIENT_HELLO    ClientHello                       HelloRetryRequest -> WAIT_RETRIED_HELLO, or on
WAIT_RETRIED_HELLO   second ClientHello
WAIT_ANSWERS         FindSession, FindPsk, VerifyPeer of a resumed client, ChooseIdentity, Sign
                     ServerHello .. Finished sent      handshake keys, application sending key
WAIT_CERTIFICATE, WAIT_CERTIFICATE_VERIFY              only where a certificate was asked for
WAIT_FINISHED        Finished                          Ask(VerifyPeer) may still be open: WAIT_VERIFIED
CONNECTED            application receiving key; HandshakeComplete; NewSessionTickets sent
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import ClassVar, cast

from taps_security.crypto.certificates import Identity
from taps_security.properties.credentials import PreSharedKey
from taps_security.stack.asks import ChooseIdentity, FindPsk, FindSession, Refused, Sign, VerifyPeer
from taps_security.stack.errors import RemoteError
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyReady,
    PeerAuthenticated,
    Stage,
)

from .authentication import (
    CLIENT_CONTEXT,
    check_signature,
    choose_scheme,
    own_failure,
    own_signature,
    peer_refused,
    read_certificate_untrusted,
    read_certificate_verify_untrusted,
    signed_content,
)
from .extensions import ExtensionType, encode_u16
from .handshake import HANDSHAKE_RECEIVING_OVER, Handler, TlsHandshake, application_key, incompatible, misbehaved
from .keys import EarlySecret
from .limits import MAX_PSK_IDENTITIES, MAX_SKIPPED_EARLY_DATA
from .negotiation import (
    check_retried,
    common_suites,
    read_client_hello_untrusted,
    require_certificate_offer,
    select_alpn,
    select_group,
)
from .options import ClientAuthentication, ServerConfiguration
from .psk import BINDER_RESUMPTION, ExternalPsk, ImportedIdentity, OfferedPsk, PskPeer, accept_external
from .reasons import Reason
from .server_flight import STATEFUL_TICKET_SIZE, Run, ServerFlight
from .summary import summarise
from .tickets import ServerSession
from .wire import HandshakeType

__all__ = ["ServerHandshake", "ServerState"]

_CONFIRMED = HandshakeConfirmed()


class ServerState(Enum):
    """See the head of this file."""

    WAIT_CLIENT_HELLO = 0
    WAIT_RETRIED_HELLO = 1
    WAIT_ANSWERS = 2
    WAIT_CERTIFICATE = 3
    WAIT_CERTIFICATE_VERIFY = 4
    WAIT_FINISHED = 5
    WAIT_VERIFIED = 6
    CONNECTED = 7


class ServerHandshake(ServerFlight):
    """A server handshake; what it needs comes from `ServerConfiguration`. See `stack.layers.Handshake`."""

    __slots__ = ()

    connected = ServerState.CONNECTED

    def __init__(self, configuration: ServerConfiguration) -> None:
        super().__init__(configuration, ServerState.WAIT_CLIENT_HELLO)

    # -- hellos ---------------------------------------------------------------------------------------------------
    def _receive_client_hello(self, message: bytes, now: float) -> None:
        facts = read_client_hello_untrusted(message)
        suites = common_suites(self._options, facts)
        group, share = select_group(self._options, facts)
        alpn = select_alpn(self._configuration.alpn, facts)
        self._run = Run(facts, suites, group, share or b"", alpn)
        self.skip_early_data = MAX_SKIPPED_EARLY_DATA if facts.early_data else 0
        if share is None:
            self._send_retry(suites[0])
            self._state = ServerState.WAIT_RETRIED_HELLO
            return
        self._state = ServerState.WAIT_ANSWERS
        try:
            self._consider_psk(0, now)
        except RemoteError:
            self._state = ServerState.WAIT_CLIENT_HELLO
            raise

    def _receive_retried_hello(self, message: bytes, now: float) -> None:
        run = self._running
        facts = read_client_hello_untrusted(message)
        share = check_retried(run.facts, facts, run.group, run.cookie)
        first, run.facts, run.share = run.facts, facts, share
        self.skip_early_data = 0
        self._state = ServerState.WAIT_ANSWERS
        try:
            self._consider_psk(0, now)
        except RemoteError:
            run.facts = first
            self._state = ServerState.WAIT_RETRIED_HELLO
            raise

    # -- pre-shared keys: the first identity that fits is taken, the others are not looked at -----------------------
    def _consider_psk(self, index: int, now: float) -> None:
        configuration, facts = self._configuration, self._running.facts
        psks = facts.psks
        if psks is None or not facts.psk_dhe_ke or index >= min(len(psks.identities), MAX_PSK_IDENTITIES):
            self._without_psk()
            return
        identity = psks.identities[index].identity
        if configuration.ticket_keys is not None:
            self._consider_session(index, configuration.ticket_keys.open_untrusted(identity), now)
        elif configuration.stateful_sessions and len(identity) == STATEFUL_TICKET_SIZE:
            self._ask(FindSession(identity), lambda result, now: self._consider_session(index, result, now))
        else:
            self._consider_external(index, now)

    def _consider_session(self, index: int, session: object, now: float) -> None:
        if not isinstance(session, ServerSession):
            self._consider_external(index, now)
            return
        if not self._may_resume(session):
            self._consider_psk(index + 1, now)
        elif session.peer_psk:
            # Keys are withdrawn too: who is no longer known by one has to present itself again.
            def known(result: object, now: float) -> None:
                if self._external_key(result) is None:
                    self._consider_psk(index + 1, now)
                else:
                    self._accept_session(index, session, PskPeer(session.peer_psk))

            self._ask(FindPsk(session.peer_psk), known)
        elif session.peer_chain and self._configuration.client_authentication is not ClientAuthentication.NONE:
            # Trust may have changed since: a client that is no longer trusted has to present itself again.
            def verified(result: object, now: float) -> None:
                if isinstance(result, Refused):
                    self._consider_psk(index + 1, now)
                else:
                    self._running.chain = session.peer_chain
                    self._accept_session(index, session, result)

            self._ask(VerifyPeer(session.peer_chain, "", "client"), verified)
        else:
            self._accept_session(index, session, None)

    def _may_resume(self, session: ServerSession) -> bool:
        """Whether the handshake behind the session would be allowed here: listeners may share a store of sessions."""
        run, configuration = self._running, self._configuration
        if session.peer_psk:
            allowed = configuration.external_psks
        elif configuration.client_authentication is ClientAuthentication.REQUIRE:
            allowed = configuration.certificates and bool(session.peer_chain)
        else:
            allowed = configuration.certificates
        usable = session.usable(run.facts.server_name, configuration.wall_clock())
        return allowed and usable and session.suite.hash in run.hashes

    def _accept_session(self, index: int, session: ServerSession, identity: object) -> None:
        psk = OfferedPsk(
            session.ticket, session.psk, session.suite.hash, BINDER_RESUMPTION, session=session, prefix=self._prefix
        )
        self._accept_psk(index, psk, identity)
        self._running.authenticated_at = session.authenticated_at

    def _consider_external(self, index: int, now: float) -> None:
        if not self._configuration.external_psks:
            self._consider_psk(index + 1, now)
            return
        psks = self._running.facts.psks
        assert psks is not None
        identity = psks.identities[index].identity
        imported = ImportedIdentity.parse_untrusted(identity)

        def plain(result: object, now: float) -> None:
            if not self._take_external(index, identity, result):
                self._consider_psk(index + 1, now)

        def by_import(result: object, now: float) -> None:
            if not self._take_external(index, identity, result):
                self._ask(FindPsk(identity), plain)

        if imported is None:
            self._ask(FindPsk(identity), plain)
        else:
            self._ask(FindPsk(imported.external_identity), by_import)

    def _external_key(self, result: object) -> ExternalPsk | None:
        """The answer to FindPsk, as engines or as applications give it; None: nobody knows that identity."""
        if isinstance(result, Refused):  # the lookup failed, which is not the same as an identity that nobody knows
            raise own_failure("the pre-shared key could not be looked up", result)
        if isinstance(result, PreSharedKey):
            return ExternalPsk(identity=result.identity, key=result.key, imported=self._options.import_psk)
        return result if isinstance(result, ExternalPsk) else None

    def _take_external(self, index: int, identity: bytes, result: object) -> bool:
        key = self._external_key(result)
        if key is None:
            return False
        psk = accept_external(key, identity, self._running.hashes, self._prefix)
        if psk is not None:
            self._accept_psk(index, psk, PskPeer(key.identity))
        return psk is not None

    def _accept_psk(self, index: int, psk: OfferedPsk, identity: object) -> None:
        """Check the binder, then go on with this key (RFC 8446 §4.2.11)."""
        run = self._running
        psks = run.facts.psks
        assert psks is not None
        truncated = run.facts.message[: -psks.binders_size]
        transcript = run.transcript
        digest = psk.hash.digest(truncated) if transcript is None else transcript.plus(truncated).digest()
        if not hmac.compare_digest(psk.binder(digest, self._prefix), psks.binders[index]):
            raise misbehaved(Reason.BAD_BINDER, "the binder of a pre-shared key does not verify", "4.2.11")
        suite = next(suite for suite in run.suites if suite.hash is psk.hash)
        run.psk, run.identity = psk, identity
        self._send_hello(suite, psk.early, {ExtensionType.PRE_SHARED_KEY: encode_u16(index)})
        self._send_encrypted_extensions()
        self._send_finished()
        self._state = ServerState.WAIT_FINISHED

    # -- certificates ---------------------------------------------------------------------------------------------
    def _without_psk(self) -> None:
        facts, configuration = self._running.facts, self._configuration
        if not configuration.certificates:
            raise incompatible(Reason.UNKNOWN_PSK_IDENTITY, "the client offers no pre-shared key of ours", "4.2.11")
        require_certificate_offer(facts)
        self._ask(
            ChooseIdentity(
                facts.server_name, facts.signature_algorithms, facts.authorities, facts.certificate_algorithms
            ),
            self._identity_chosen,
        )

    def _identity_chosen(self, result: object, now: float) -> None:
        if isinstance(result, Refused):
            raise own_failure("no server identity", result)
        run = self._running
        identity = cast("Identity | None", result)
        if identity is None or not identity.chain:
            if run.facts.server_name:
                text = f"no identity for the name {run.facts.server_name!r} and the client's signature algorithms"
                raise incompatible(Reason.UNRECOGNIZED_NAME, text, "4.4.2.2")
            text = "no identity for the client's signature algorithms"
            raise incompatible(Reason.NO_COMMON_SIGNATURE_ALGORITHM, text, "4.4.2.2")
        scheme = choose_scheme(identity, run.facts.signature_algorithms, self._options.signature_algorithms)
        if scheme is None:
            text = "the client accepts no signature that our key can make"
            raise incompatible(Reason.NO_COMMON_SIGNATURE_ALGORITHM, text, "4.4.2.2")
        suite = run.suites[0]
        self._send_hello(suite, EarlySecret(suite.hash, None, self._prefix), {})
        self._send_encrypted_extensions()
        if self._configuration.client_authentication is not ClientAuthentication.NONE:
            self._send_certificate_request()
        content = self._send_certificate(identity, scheme)
        self._ask(Sign(identity, scheme, content), self._signed)

    def _signed(self, result: object, now: float) -> None:
        self._send_certificate_verify(own_signature("the server's key", result))
        self._send_finished()
        if self._configuration.client_authentication is ClientAuthentication.NONE:
            self._state = ServerState.WAIT_FINISHED
        else:
            self._state = ServerState.WAIT_CERTIFICATE

    # -- the client's flight ----------------------------------------------------------------------------------------
    def _receive_certificate(self, message: bytes, now: float) -> None:
        certificate = read_certificate_untrusted(message[4:])
        run = self._running
        if not certificate.chain:
            if self._configuration.client_authentication is ClientAuthentication.REQUIRE:
                raise misbehaved(Reason.CERTIFICATE_REQUIRED, "the client presents no certificate", "4.4.2.4")
            run.running.update(message)
            self._state = ServerState.WAIT_FINISHED
            return
        run.chain = certificate.chain
        run.verified = False
        run.running.update(message)
        self._state = ServerState.WAIT_CERTIFICATE_VERIFY
        self._ask(VerifyPeer(run.chain, "", "client"), self._client_verified)

    def _client_verified(self, result: object, now: float) -> None:
        if isinstance(result, Refused):
            raise peer_refused(result)
        run = self._running
        run.identity = result
        run.verified = True
        if self._state is ServerState.WAIT_VERIFIED:
            self._complete()

    def _receive_certificate_verify(self, message: bytes, now: float) -> None:
        verify = read_certificate_verify_untrusted(message[4:], self._options.signature_algorithms)
        run = self._running
        check_signature(run.chain[0], verify, signed_content(CLIENT_CONTEXT, run.running.digest()))
        run.client_scheme = verify.algorithm
        run.running.update(message)
        self._state = ServerState.WAIT_FINISHED

    def _receive_finished(self, message: bytes, now: float) -> None:
        run = self._running
        expected = run.client_handshake.finished(run.running.digest())
        if not hmac.compare_digest(expected, message[4:]):
            raise misbehaved(Reason.BAD_FINISHED, "the client's finished does not verify", "4.4.4")
        run.running.update(message)
        self._state = ServerState.WAIT_VERIFIED
        if run.verified:
            self._complete()

    def _complete(self) -> None:
        run = self._running
        assert self._receive is not None
        self._state = ServerState.CONNECTED
        self._put(
            HANDSHAKE_RECEIVING_OVER,
            KeyReady(application_key(), Direction.RECEIVE, self._receive),
        )
        if run.identity is not None:
            self._put(PeerAuthenticated(run.identity))
        self._put(self._complete_event(), _CONFIRMED)
        self._send_tickets()
        self._run = None
        self.skip_early_data = 0

    def _complete_event(self) -> HandshakeComplete:
        run = self._running
        assert self._send is not None
        assert self._receive is not None
        return summarise(
            self._send,
            self._receive,
            group=run.group,
            peer_scheme=run.client_scheme,
            own_scheme=run.scheme,
            alpn=run.alpn,
            server_name=run.facts.server_name,
            psk=run.psk,
            retried=run.retried,
            mutual=run.identity is not None,
        )

    table: ClassVar[Mapping[tuple[Enum, int], tuple[Stage, Handler]]] = MappingProxyType(
        {
            (ServerState.WAIT_CLIENT_HELLO, HandshakeType.CLIENT_HELLO): (Stage.INITIAL, _receive_client_hello),
            (ServerState.WAIT_RETRIED_HELLO, HandshakeType.CLIENT_HELLO): (Stage.INITIAL, _receive_retried_hello),
            (ServerState.WAIT_CERTIFICATE, HandshakeType.CERTIFICATE): (Stage.HANDSHAKE, _receive_certificate),
            (ServerState.WAIT_CERTIFICATE_VERIFY, HandshakeType.CERTIFICATE_VERIFY): (
                Stage.HANDSHAKE,
                _receive_certificate_verify,
            ),
            (ServerState.WAIT_FINISHED, HandshakeType.FINISHED): (Stage.HANDSHAKE, _receive_finished),
            (ServerState.CONNECTED, HandshakeType.KEY_UPDATE): (Stage.APPLICATION, TlsHandshake._receive_key_update),
        }
    )
