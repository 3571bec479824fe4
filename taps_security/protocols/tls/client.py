"""The client of TLS 1.3 (RFC 8446 §2, App. A.1).

START -- start() --> WAIT_SERVER_HELLO                     ClientHello
WAIT_SERVER_HELLO          HelloRetryRequest               the same state; second ClientHello
                           ServerHello                     handshake receiving key
WAIT_ENCRYPTED_EXTENSIONS  EncryptedExtensions             handshake sending key
WAIT_CERTIFICATE_OR_REQUEST, WAIT_CERTIFICATE              skipped with a PSK; Ask(VerifyPeer) goes out
WAIT_CERTIFICATE_VERIFY, WAIT_FINISHED                     checked while the ask is open
WAIT_ANSWERS               VerifyPeer, ChooseIdentity, Sign
CONNECTED                  Certificate, CertificateVerify, Finished sent; application keys; HandshakeComplete
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import ClassVar

from taps_security.crypto.agreement import AgreementError, Group
from taps_security.stack.asks import Refused, VerifyPeer
from taps_security.stack.errors import LocalError
from taps_security.stack.events import (
    Direction,
    KeyReady,
    Stage,
)
from taps_security.stack.layers import PathFacts

from .authentication import (
    SERVER_CONTEXT,
    check_signature,
    peer_refused,
    read_certificate_untrusted,
    read_certificate_verify_untrusted,
    signed_content,
)
from .client_flight import ClientFlight, Retry, Run
from .extensions import (
    ExtensionType,
    parse_alpn_untrusted,
    parse_authorities_untrusted,
    parse_cookie_untrusted,
    parse_key_share_untrusted,
    parse_u16_untrusted,
    parse_u16_vector_untrusted,
)
from .handshake import HANDSHAKE_KEY, INITIAL_KEY, Handler, TlsHandshake, illegal, incompatible, misbehaved
from .keys import CipherSuite, EarlySecret, HandshakeSecret, TrafficSecret, Transcript
from .limits import (
    MAX_INNER_PLAINTEXT,
    MIN_RECORD_SIZE_LIMIT,
    TLS_1_2,
    TLS_1_3,
)
from .offer import ClientOffer
from .options import ClientConfiguration
from .psk import OfferedPsk, PskPeer
from .reasons import Reason
from .tickets import Session
from .wire import (
    Extensions,
    HandshakeType,
    ServerHello,
    parse_certificate_request_untrusted,
    parse_encrypted_extensions_untrusted,
    parse_server_hello_untrusted,
)

__all__ = ["ClientHandshake", "ClientState"]

_DOWNGRADES = (b"DOWNGRD\x00", b"DOWNGRD\x01")  # RFC 8446 §4.1.3
_IN_RETRY = frozenset({ExtensionType.SUPPORTED_VERSIONS, ExtensionType.COOKIE, ExtensionType.KEY_SHARE})
_IN_SERVER_HELLO = frozenset({ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.PRE_SHARED_KEY})
_IN_ENCRYPTED_EXTENSIONS = frozenset(
    {
        ExtensionType.SERVER_NAME,
        ExtensionType.SUPPORTED_GROUPS,
        ExtensionType.ALPN,
        ExtensionType.RECORD_SIZE_LIMIT,
    }
)
# Extensions that we know and that have no business there (RFC 9846 §4.2).
_NOT_IN_REQUESTS = frozenset(ExtensionType) - {
    ExtensionType.SERVER_NAME,
    ExtensionType.STATUS_REQUEST,
    ExtensionType.SIGNATURE_ALGORITHMS,
    ExtensionType.SIGNATURE_ALGORITHMS_CERT,
    ExtensionType.CERTIFICATE_AUTHORITIES,
}


class ClientState(Enum):
    """See the head of this file."""

    START = 0
    WAIT_SERVER_HELLO = 1
    WAIT_ENCRYPTED_EXTENSIONS = 2
    WAIT_CERTIFICATE_OR_REQUEST = 3
    WAIT_CERTIFICATE = 4
    WAIT_CERTIFICATE_VERIFY = 5
    WAIT_FINISHED = 6
    WAIT_ANSWERS = 7
    CONNECTED = 8


class ClientHandshake(ClientFlight):
    """A client handshake; what it needs comes from `ClientConfiguration`. See `stack.layers.Handshake`."""

    __slots__ = ()

    connected = ClientState.CONNECTED

    def __init__(self, configuration: ClientConfiguration) -> None:
        super().__init__(configuration, ClientState.START)

    # -- hellos ---------------------------------------------------------------------------------------------------
    def start(self, facts: PathFacts, now: float) -> None:
        """Make the ClientHello."""
        if self._state is not ClientState.START:
            raise LocalError("the handshake has begun already")
        offer = ClientOffer(self._configuration)
        self._run = Run(offer)
        self._state = ClientState.WAIT_SERVER_HELLO
        self._put(self._message(INITIAL_KEY, offer.message, last=True))

    def _receive_server_hello(self, message: bytes, now: float) -> None:
        hello = parse_server_hello_untrusted(message[4:])
        run = self._running
        if hello.is_retry:
            self._receive_retry(hello, message)
            return
        suite = self._check_hello(hello, _IN_SERVER_HELLO)
        psk = self._selected_psk(hello.extensions, suite)
        if psk is None and self._configuration.require_pre_shared_key:
            text = "the server chose no pre-shared key, and pre_shared_key is required (RFC 9622 §4.2)"
            raise incompatible(Reason.NO_PRE_SHARED_KEY, text, "4.2.11")
        body = hello.extensions.get(ExtensionType.KEY_SHARE)
        if body is None:
            if psk is not None:
                raise illegal("the server chose psk_ke, which was not offered", "4.2.11")
            raise misbehaved(Reason.MISSING_EXTENSION, "server_hello without key_share", "4.2.8")
        entry = parse_key_share_untrusted(body)
        share = run.offer.shares.get(entry.group)
        if share is None:
            raise illegal(f"the server chose group 0x{entry.group:04x}, for which it has no share", "4.2.8")
        if run.retry is not None and suite is not run.retry.suite:
            raise illegal("server_hello has another cipher suite than the hello_retry_request", "4.1.4")
        try:
            shared = share.agree(entry.key_exchange)
        except AgreementError as error:
            raise misbehaved(Reason.BAD_KEY_SHARE, f"the server's key share cannot be used: {error}", "4.2.8") from None
        early = psk.early if psk is not None else EarlySecret(suite.hash, None, self._prefix)
        if run.retry is None:
            transcript = Transcript(suite.hash, run.offer.message + message)
        else:
            transcript = run.retry.transcript.plus(message)
        self._begin_protection(suite, psk, entry.group, early.into_handshake(shared), transcript)

    def _begin_protection(
        self, suite: CipherSuite, psk: OfferedPsk | None, group: int, secret: HandshakeSecret, transcript: Transcript
    ) -> None:
        run = self._running
        digest = transcript.digest()
        client, server = secret.client_traffic(digest), secret.server_traffic(digest)
        self._suite = suite
        run.psk, run.group = psk, group
        run.handshake_secret, run.transcript = secret, transcript
        run.client_handshake = TrafficSecret(suite, client, prefix=self._prefix)
        run.server_handshake = TrafficSecret(suite, server, prefix=self._prefix)
        run.offer.shares = {}
        self._state = ClientState.WAIT_ENCRYPTED_EXTENSIONS
        self._log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", run.offer.random, client)
        self._log("SERVER_HANDSHAKE_TRAFFIC_SECRET", run.offer.random, server)
        self._put(KeyReady(HANDSHAKE_KEY, Direction.RECEIVE, run.server_handshake))
        if psk is not None:
            self._begin_psk_verification(psk)

    def _begin_psk_verification(self, psk: OfferedPsk) -> None:
        """A resumed server is judged again by the chain that it showed before: trust may have changed since."""
        run = self._running
        if isinstance(psk.session, Session):
            run.chain = psk.session.peer_chain
            run.identity = PskPeer(psk.session.peer_psk) if psk.session.peer_psk else None
        elif psk.external is not None:
            run.identity = PskPeer(psk.external.identity)
        if run.chain:
            self._ask(VerifyPeer(run.chain, self._configuration.server_name, "server"), self._peer_verified)
        else:
            run.verified = True

    def _receive_retry(self, hello: ServerHello, message: bytes) -> None:
        """RFC 8446 §4.1.4."""
        run = self._running
        if run.retry is not None:
            raise misbehaved(Reason.UNEXPECTED_MESSAGE, "a second hello_retry_request", "4.1.4")
        suite = self._check_hello(hello, _IN_RETRY)
        extensions = hello.extensions
        group: Group | None = None
        if (body := extensions.get(ExtensionType.KEY_SHARE)) is not None:
            selected = parse_u16_untrusted(body)
            group = next((group for group in self._options.groups if group == selected), None)
            if group is None or group in run.offer.shares:
                raise illegal(f"hello_retry_request for group 0x{selected:04x}", "4.2.8")
        cookie = b""
        if (body := extensions.get(ExtensionType.COOKIE)) is not None:
            cookie = parse_cookie_untrusted(body)
        if group is None and not cookie:
            raise illegal("a hello_retry_request that changes nothing", "4.1.4")
        transcript = Transcript.after_retry(suite.hash, run.offer.first, message)
        run.offer.retry(suite, group, cookie, transcript)
        transcript.update(run.offer.message)
        run.retry = Retry(suite, group, transcript)
        self._put(self._message(INITIAL_KEY, run.offer.message, last=True))

    def _check_hello(self, hello: ServerHello, allowed: frozenset[ExtensionType]) -> CipherSuite:
        """The rules of RFC 8446 §4.1.3 that a HelloRetryRequest shares."""
        extensions, offer = hello.extensions, self._running.offer
        selected = extensions.get(ExtensionType.SUPPORTED_VERSIONS)
        if selected is None or hello.legacy_version != TLS_1_2:
            if hello.random[-8:] in _DOWNGRADES:
                raise misbehaved(Reason.DOWNGRADE, "someone made the server choose an older version", "4.1.3")
            raise incompatible(Reason.NO_COMMON_VERSION, "the server does not speak TLS 1.3", "4.1.3")
        if parse_u16_untrusted(selected) != TLS_1_3:
            raise illegal("the server selected a version that was not offered", "4.2.1")
        if hello.session_id != offer.session_id:
            raise illegal("legacy_session_id_echo is not what was sent", "4.1.3")
        if hello.compression_method != 0:
            raise illegal("legacy_compression_method is not 0", "4.1.3")
        suite = self._options.suites_by_code.get(hello.cipher_suite)
        if suite is None:
            raise illegal(f"the server chose cipher suite 0x{hello.cipher_suite:04x}, which was not offered", "4.1.3")
        self._check_allowed(extensions, allowed, "server_hello")
        return suite

    def _check_allowed(self, extensions: Extensions, allowed: frozenset[ExtensionType], where: str) -> None:
        offered = self._running.offer.offered
        for kind in extensions:
            if kind in allowed and (kind in offered or kind == ExtensionType.COOKIE):
                continue
            if kind not in offered:
                raise misbehaved(Reason.UNSUPPORTED_EXTENSION, f"extension {kind} in {where} was not offered", "4.2")
            raise illegal(f"extension {kind} does not belong into {where}", "4.2")

    def _selected_psk(self, extensions: Extensions, suite: CipherSuite) -> OfferedPsk | None:
        body = extensions.get(ExtensionType.PRE_SHARED_KEY)
        if body is None:
            return None
        psks = self._running.offer.psks
        index = parse_u16_untrusted(body)
        if index >= len(psks):
            raise illegal("the server selected a PSK that was not offered", "4.2.11")
        if psks[index].hash is not suite.hash:
            raise illegal("the server selected a PSK that does not fit its cipher suite", "4.2.11")
        return psks[index]

    # -- server parameters ----------------------------------------------------------------------------------------
    def _receive_encrypted_extensions(self, message: bytes, now: float) -> None:
        extensions = parse_encrypted_extensions_untrusted(message[4:])
        run, ours = self._running, dict(self._configuration.extensions)
        self._check_allowed(
            {kind: body for kind, body in extensions.items() if kind not in ours},
            _IN_ENCRYPTED_EXTENSIONS,
            "encrypted_extensions",
        )
        if extensions.get(ExtensionType.SERVER_NAME):
            raise misbehaved(Reason.DECODE_ERROR, "server_name in encrypted_extensions is not empty", "4.2")
        alpn = self._selected_alpn(extensions.get(ExtensionType.ALPN))
        limit = extensions.get(ExtensionType.RECORD_SIZE_LIMIT)
        if limit is not None:
            size = parse_u16_untrusted(limit)
            if not MIN_RECORD_SIZE_LIMIT <= size <= MAX_INNER_PLAINTEXT:
                raise illegal(f"record_size_limit of {size} (RFC 8449 §4)", "4.2")
            run.send_limit = run.client_handshake.record_size_limit = size
            run.limited = True
        run.alpn = alpn
        run.transcript.update(message)
        self.peer_extensions = {kind: body for kind, body in extensions.items() if kind in ours}
        self._state = ClientState.WAIT_CERTIFICATE_OR_REQUEST if run.psk is None else ClientState.WAIT_FINISHED
        self._put(KeyReady(HANDSHAKE_KEY, Direction.SEND, run.client_handshake))

    def _selected_alpn(self, body: bytes | None) -> str | None:
        if body is None:
            return None
        names = parse_alpn_untrusted(body)
        for name in self._configuration.alpn:
            if names == (name.encode(),):
                return name
        raise illegal("the server selected application protocols that were not offered (RFC 7301 §3.1)", "4.2")

    def _receive_certificate_request(self, message: bytes, now: float) -> None:
        request = parse_certificate_request_untrusted(message[4:])
        if request.context:
            raise illegal("certificate_request_context is not empty in the handshake", "4.3.2")
        if misplaced := _NOT_IN_REQUESTS.intersection(request.extensions):
            raise illegal(f"extension {min(misplaced)} does not belong into certificate_request", "4.2")
        if ExtensionType.SIGNATURE_ALGORITHMS not in request.extensions:
            raise misbehaved(Reason.MISSING_EXTENSION, "certificate_request without signature_algorithms", "4.3.2")
        for kind in (ExtensionType.SIGNATURE_ALGORITHMS, ExtensionType.SIGNATURE_ALGORITHMS_CERT):
            if (body := request.extensions.get(kind)) is not None:
                parse_u16_vector_untrusted(body)
        if (body := request.extensions.get(ExtensionType.CERTIFICATE_AUTHORITIES)) is not None:
            parse_authorities_untrusted(body)
        run = self._running
        run.request = request
        run.transcript.update(message)
        self._state = ClientState.WAIT_CERTIFICATE

    # -- the server's authentication ------------------------------------------------------------------------------
    def _receive_certificate(self, message: bytes, now: float) -> None:
        certificate = read_certificate_untrusted(message[4:])
        if not certificate.chain:
            raise misbehaved(Reason.DECODE_ERROR, "the server presents no certificate", "4.4.2.4")
        run = self._running
        run.chain = certificate.chain
        run.transcript.update(message)
        self._state = ClientState.WAIT_CERTIFICATE_VERIFY
        self._ask(VerifyPeer(run.chain, self._configuration.server_name, "server"), self._peer_verified)

    def _peer_verified(self, result: object, now: float) -> None:
        if isinstance(result, Refused):
            raise peer_refused(result)
        run = self._running
        run.identity = result
        run.verified = True
        if self._state is ClientState.WAIT_ANSWERS:
            self._send_flight()

    def _receive_certificate_verify(self, message: bytes, now: float) -> None:
        verify = read_certificate_verify_untrusted(message[4:], self._options.signature_algorithms)
        run = self._running
        check_signature(run.chain[0], verify, signed_content(SERVER_CONTEXT, run.transcript.digest()))
        run.server_scheme = verify.algorithm
        run.transcript.update(message)
        self._state = ClientState.WAIT_FINISHED

    def _receive_finished(self, message: bytes, now: float) -> None:
        run = self._running
        expected = run.server_handshake.finished(run.transcript.digest())
        if not hmac.compare_digest(expected, message[4:]):
            raise misbehaved(Reason.BAD_FINISHED, "the server's finished does not verify", "4.4.4")
        run.transcript.update(message)
        run.main_secret = run.handshake_secret.into_main()
        digest = run.transcript.digest()
        client, server = run.main_secret.client_traffic(digest), run.main_secret.server_traffic(digest)
        receive_limit = self._options.record_size_limit if run.limited else MAX_INNER_PLAINTEXT
        assert self._suite is not None
        self._send = TrafficSecret(self._suite, client, run.send_limit, self._prefix)
        self._receive = TrafficSecret(self._suite, server, receive_limit, self._prefix)
        self._exporter = run.main_secret.exporter(digest)
        self._state = ClientState.WAIT_ANSWERS
        self._log("CLIENT_TRAFFIC_SECRET_0", run.offer.random, client)
        self._log("SERVER_TRAFFIC_SECRET_0", run.offer.random, server)
        self._log("EXPORTER_SECRET", run.offer.random, self._exporter)
        if run.verified:
            self._send_flight()

    table: ClassVar[Mapping[tuple[Enum, int], tuple[Stage, Handler]]] = MappingProxyType(
        {
            (ClientState.WAIT_SERVER_HELLO, HandshakeType.SERVER_HELLO): (Stage.INITIAL, _receive_server_hello),
            (ClientState.WAIT_ENCRYPTED_EXTENSIONS, HandshakeType.ENCRYPTED_EXTENSIONS): (
                Stage.HANDSHAKE,
                _receive_encrypted_extensions,
            ),
            (ClientState.WAIT_CERTIFICATE_OR_REQUEST, HandshakeType.CERTIFICATE_REQUEST): (
                Stage.HANDSHAKE,
                _receive_certificate_request,
            ),
            (ClientState.WAIT_CERTIFICATE_OR_REQUEST, HandshakeType.CERTIFICATE): (
                Stage.HANDSHAKE,
                _receive_certificate,
            ),
            (ClientState.WAIT_CERTIFICATE, HandshakeType.CERTIFICATE): (Stage.HANDSHAKE, _receive_certificate),
            (ClientState.WAIT_CERTIFICATE_VERIFY, HandshakeType.CERTIFICATE_VERIFY): (
                Stage.HANDSHAKE,
                _receive_certificate_verify,
            ),
            (ClientState.WAIT_FINISHED, HandshakeType.FINISHED): (Stage.HANDSHAKE, _receive_finished),
            (ClientState.CONNECTED, HandshakeType.NEW_SESSION_TICKET): (
                Stage.APPLICATION,
                ClientFlight._receive_new_session_ticket,
            ),
            (ClientState.CONNECTED, HandshakeType.KEY_UPDATE): (Stage.APPLICATION, TlsHandshake._receive_key_update),
        }
    )
