"""What a client offers: its ClientHello, first and retried (RFC 8446 §4.1.2), and the shares and PSKs behind it."""

from __future__ import annotations

from collections.abc import Sequence

from taps_security.crypto.agreement import Group, PrivateShare
from taps_security.stack.errors import ConfigurationError

from .extensions import (
    ExtensionType,
    PskKeyExchangeMode,
    encode_alpn,
    encode_key_shares,
    encode_offered_psks,
    encode_server_name,
    encode_u16,
)
from .keys import CipherSuite, Transcript
from .options import ClientConfiguration, is_host_name
from .psk import BINDER_RESUMPTION, OfferedPsk, offer_external
from .tickets import Session
from .wire import ClientHello, Extensions

__all__ = ["ClientOffer"]

_VERSIONS = b"\x02\x03\x04"  # RFC 8446 §4.2.1: one version, 0x0304
_MODES = bytes((1, PskKeyExchangeMode.PSK_DHE_KE))


class ClientOffer:
    """The offer of one client handshake. `first` and `message` are the first and the newest ClientHello, whole."""

    __slots__ = ("_configuration", "first", "message", "offered", "psks", "random", "session_id", "shares")

    def __init__(self, configuration: ClientConfiguration) -> None:
        options = configuration.options
        random = configuration.random
        self._configuration = configuration
        self.random = random(32)
        self.session_id = random(32) if options.middlebox_compatibility else b""
        self.shares: dict[int, PrivateShare] = {
            group: configuration.generate_share(group, random) for group in options.key_shares
        }
        self.psks = self._collect_psks()
        self.offered: frozenset[int] = frozenset()
        self.first = self.message = self._encode(b"", None)

    def _collect_psks(self) -> list[OfferedPsk]:
        configuration = self._configuration
        prefix = configuration.label_prefix
        hashes = list(dict.fromkeys(suite.hash for suite in configuration.options.ciphersuites))
        offers: list[OfferedPsk] = []
        session = configuration.session
        at = configuration.wall_clock() if session is not None else 0.0
        if session is not None and session.suite.hash in hashes and self._may_resume(session, at):
            offers.append(
                OfferedPsk(
                    session.ticket,
                    session.psk,
                    session.suite.hash,
                    BINDER_RESUMPTION,
                    obfuscated_age=session.obfuscated_age(at),
                    session=session,
                    prefix=prefix,
                )
            )
        if configuration.psks:
            offers += offer_external(configuration.psks, hashes, prefix)
        return offers

    def _may_resume(self, session: Session, at: float) -> bool:
        """Whether the handshake behind the session was what this one has to be."""
        configuration = self._configuration
        return (
            session.usable(configuration.server_name, at)
            and (not session.peer_psk or any(psk.identity == session.peer_psk for psk in configuration.psks))
            and (bool(session.peer_psk) or not configuration.require_pre_shared_key)
            and (session.mutual or not configuration.require_mutual_authentication)
        )

    def retry(self, suite: CipherSuite, group: Group | None, cookie: bytes, transcript: Transcript) -> None:
        """Make the second ClientHello; `transcript` ends with the HelloRetryRequest (RFC 8446 §4.1.4)."""
        if group is not None:
            self.shares = {group: self._configuration.generate_share(group, self._configuration.random)}
        self.psks = [psk for psk in self.psks if psk.hash is suite.hash]
        session = self._configuration.session
        for psk in self.psks:
            if psk.session is not None and session is not None:
                psk.obfuscated_age = session.obfuscated_age(self._configuration.wall_clock())
        self.message = self._encode(cookie, transcript)

    def _extensions(self, cookie: bytes, further: Sequence[tuple[int, bytes | None]]) -> Extensions:
        configuration = self._configuration
        options = configuration.options
        ours: Extensions = {}
        if is_host_name(configuration.server_name):
            ours[ExtensionType.SERVER_NAME] = encode_server_name(configuration.server_name.rstrip("."))
        ours[ExtensionType.SUPPORTED_GROUPS] = options.groups_octets
        ours[ExtensionType.KEY_SHARE] = encode_key_shares(
            [(group, share.public) for group, share in self.shares.items()]
        )
        ours[ExtensionType.SUPPORTED_VERSIONS] = _VERSIONS
        ours[ExtensionType.SIGNATURE_ALGORITHMS] = options.signature_octets
        ours[ExtensionType.SIGNATURE_ALGORITHMS_CERT] = options.certificate_signature_octets
        ours[ExtensionType.PSK_KEY_EXCHANGE_MODES] = _MODES
        ours[ExtensionType.RECORD_SIZE_LIMIT] = encode_u16(options.record_size_limit)
        if configuration.alpn:
            ours[ExtensionType.ALPN] = encode_alpn([name.encode() for name in configuration.alpn])
        if cookie:
            ours[ExtensionType.COOKIE] = encode_u16(len(cookie)) + cookie
        for kind, body in (*configuration.extensions, *further):
            if body is None:
                ours.pop(kind, None)
            else:
                ours[kind] = body
        if configuration.extension_order:
            first = {kind: ours.pop(kind) for kind in configuration.extension_order if kind in ours}
            ours = first | ours
        return ours

    def _encode_without_binders(self, cookie: bytes, *, retried: bool) -> bytes:
        """The whole message, with zeros for binders."""
        extensions = self._extensions(cookie, self._configuration.retry_extensions if retried else ())
        psks = self.psks
        if psks:
            placeholders = [bytes(psk.hash.size) for psk in psks]
            extensions[ExtensionType.PRE_SHARED_KEY] = encode_offered_psks([psk.wire for psk in psks], placeholders)
        self.offered = frozenset(extensions)
        suites = tuple(suite.code for suite in self._configuration.options.ciphersuites)
        return ClientHello(self.random, self.session_id, suites, extensions).encode()

    def _encode(self, cookie: bytes, transcript: Transcript | None) -> bytes:
        """The whole message; binders go over the transcript so far and the message without binders."""
        psks = self.psks
        try:
            message = self._encode_without_binders(cookie, retried=transcript is not None)
        except OverflowError:
            raise ConfigurationError(
                "the ClientHello is too large: fewer names, keys or extensions are needed"
            ) from None
        if not psks:
            return message
        truncated = message[: -2 - sum(1 + psk.hash.size for psk in psks)]
        prefix = self._configuration.label_prefix
        binders = bytearray()
        for psk in psks:
            digest = psk.hash.digest(truncated) if transcript is None else transcript.plus(truncated).digest()
            binder = psk.binder(digest, prefix)
            binders += len(binder).to_bytes(1, "big") + binder
        return truncated + encode_u16(len(binders)) + bytes(binders)
