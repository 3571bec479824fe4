"""The key schedule of TLS 1.3 (RFC 8446 §7), one type per stage.

                   0
                   v
    PSK ---> HKDF-Extract = EarlySecret ----> binder_key("ext binder" | "res binder" | "imp binder")
                   | into_handshake
    (EC)DHE -> HKDF-Extract = HandshakeSecret --> client_traffic, server_traffic   (ClientHello..ServerHello)
                   | into_main
    0 -----> HKDF-Extract = MainSecret -------> client_traffic, server_traffic, exporter   (..server Finished)
                                          \\---> resumption                                  (..client Finished)

RFC 9846 calls "main" what RFC 8446 calls "master"; the labels keep the old word.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from taps_security.crypto.aead import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, AeadAlgorithm
from taps_security.crypto.kdf import HashAlgorithm, hkdf_expand, hkdf_extract, hmac_digest
from taps_security.stack.frozen import frozen

from .limits import MAX_INNER_PLAINTEXT

__all__ = [
    "CIPHER_SUITES",
    "TLS13_PREFIX",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "CipherSuite",
    "EarlySecret",
    "HandshakeSecret",
    "MainSecret",
    "TrafficSecret",
    "Transcript",
    "export",
    "finished_mac",
    "hkdf_expand_label",
    "resumption_psk",
]

TLS13_PREFIX: Final = b"tls13 "  # RFC 8446 §7.1; DTLS has its own (RFC 9147 §5.9)


@frozen
class CipherSuite:
    """RFC 8446 §B.4."""

    code: int
    name: str
    aead: AeadAlgorithm
    hash: HashAlgorithm


TLS_AES_128_GCM_SHA256: Final = CipherSuite(0x1301, "TLS_AES_128_GCM_SHA256", AES_128_GCM, HashAlgorithm.SHA256)
TLS_AES_256_GCM_SHA384: Final = CipherSuite(0x1302, "TLS_AES_256_GCM_SHA384", AES_256_GCM, HashAlgorithm.SHA384)
TLS_CHACHA20_POLY1305_SHA256: Final = CipherSuite(
    0x1303, "TLS_CHACHA20_POLY1305_SHA256", CHACHA20_POLY1305, HashAlgorithm.SHA256
)
CIPHER_SUITES: Final = {
    suite.code: suite for suite in (TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256)
}


# ------------------------------------------------------------------------------------------------------ derivation
@lru_cache(maxsize=128)
def _label_head(prefix: bytes, label: bytes, length: int, context_size: int) -> bytes:
    full = prefix + label
    return length.to_bytes(2, "big") + bytes((len(full),)) + full + bytes((context_size,))


def hkdf_expand_label(
    algorithm: HashAlgorithm, secret: bytes, label: bytes, context: bytes, length: int, prefix: bytes = TLS13_PREFIX
) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1): `length` octets."""
    info = _label_head(prefix, label, length, len(context)) + context
    if length <= algorithm.size:  # one block of HKDF-Expand, as nearly always
        return hmac_digest(algorithm, secret, info + b"\x01")[:length]
    return hkdf_expand(algorithm, secret, info, length)


@lru_cache(maxsize=16)
def _empty_hash(algorithm: HashAlgorithm) -> bytes:
    return algorithm.digest(b"")


@lru_cache(maxsize=16)
def _early_secret_without_psk(algorithm: HashAlgorithm) -> bytes:
    return hkdf_extract(algorithm, b"", bytes(algorithm.size))


@lru_cache(maxsize=16)
def _derived_without_psk(algorithm: HashAlgorithm, prefix: bytes) -> bytes:
    return _derived(algorithm, _early_secret_without_psk(algorithm), prefix)


def _derived(algorithm: HashAlgorithm, secret: bytes, prefix: bytes) -> bytes:
    return hkdf_expand_label(algorithm, secret, b"derived", _empty_hash(algorithm), algorithm.size, prefix)


class _Stage:
    """A secret of the left column of the figure."""

    __slots__ = ("_prefix", "_secret", "hash")

    def __init__(self, algorithm: HashAlgorithm, secret: bytes, prefix: bytes) -> None:
        self.hash = algorithm
        self._secret = secret
        self._prefix = prefix

    def _derive(self, label: bytes, transcript_hash: bytes) -> bytes:
        algorithm = self.hash
        return hkdf_expand_label(algorithm, self._secret, label, transcript_hash, algorithm.size, self._prefix)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class EarlySecret(_Stage):
    """The secret from a pre-shared key, or from none."""

    __slots__ = ("_with_psk",)

    def __init__(self, algorithm: HashAlgorithm, psk: bytes | None, prefix: bytes = TLS13_PREFIX) -> None:
        secret = _early_secret_without_psk(algorithm) if psk is None else hkdf_extract(algorithm, b"", psk)
        super().__init__(algorithm, secret, prefix)
        self._with_psk = psk is not None

    def binder_key(self, label: bytes) -> bytes:
        """`label` is b"ext binder", b"res binder", or b"imp binder" (RFC 9258 §5.2)."""
        return self._derive(label, _empty_hash(self.hash))

    def into_handshake(self, shared_secret: bytes) -> HandshakeSecret:
        """With the shared secret of the key shares."""
        algorithm, prefix = self.hash, self._prefix
        salt = _derived(algorithm, self._secret, prefix) if self._with_psk else _derived_without_psk(algorithm, prefix)
        return HandshakeSecret(algorithm, hkdf_extract(algorithm, salt, shared_secret), prefix)


class HandshakeSecret(_Stage):
    """Needs the transcript up to ServerHello."""

    __slots__ = ()

    def client_traffic(self, transcript_hash: bytes) -> bytes:
        """client_handshake_traffic_secret."""
        return self._derive(b"c hs traffic", transcript_hash)

    def server_traffic(self, transcript_hash: bytes) -> bytes:
        """server_handshake_traffic_secret."""
        return self._derive(b"s hs traffic", transcript_hash)

    def into_main(self) -> MainSecret:
        """The last extraction."""
        algorithm, prefix = self.hash, self._prefix
        salt = _derived(algorithm, self._secret, prefix)
        return MainSecret(algorithm, hkdf_extract(algorithm, salt, bytes(algorithm.size)), prefix)


class MainSecret(_Stage):
    """Needs the transcript up to the server's Finished, and for resumption up to the client's."""

    __slots__ = ()

    def client_traffic(self, transcript_hash: bytes) -> bytes:
        """client_application_traffic_secret_0."""
        return self._derive(b"c ap traffic", transcript_hash)

    def server_traffic(self, transcript_hash: bytes) -> bytes:
        """server_application_traffic_secret_0."""
        return self._derive(b"s ap traffic", transcript_hash)

    def exporter(self, transcript_hash: bytes) -> bytes:
        """exporter_secret."""
        return self._derive(b"exp master", transcript_hash)

    def resumption(self, transcript_hash: bytes) -> bytes:
        """resumption_secret."""
        return self._derive(b"res master", transcript_hash)


# --------------------------------------------------------------------------------------------------- leaf functions
def finished_mac(
    algorithm: HashAlgorithm, base_key: bytes, transcript_hash: bytes, prefix: bytes = TLS13_PREFIX
) -> bytes:
    """verify_data of Finished, and a PSK binder with the binder key as base key (RFC 8446 §4.4.4, §4.2.11.2)."""
    key = hkdf_expand_label(algorithm, base_key, b"finished", b"", algorithm.size, prefix)
    return hmac_digest(algorithm, key, transcript_hash)


def resumption_psk(
    algorithm: HashAlgorithm, resumption_secret: bytes, nonce: bytes, prefix: bytes = TLS13_PREFIX
) -> bytes:
    """The PSK of a ticket (RFC 8446 §4.6.1)."""
    return hkdf_expand_label(algorithm, resumption_secret, b"resumption", nonce, algorithm.size, prefix)


def export(
    algorithm: HashAlgorithm,
    exporter_secret: bytes,
    label: bytes,
    context: bytes,
    length: int,
    prefix: bytes = TLS13_PREFIX,
) -> bytes:
    """TLS-Exporter (RFC 8446 §7.5)."""
    secret = hkdf_expand_label(algorithm, exporter_secret, label, _empty_hash(algorithm), algorithm.size, prefix)
    return hkdf_expand_label(algorithm, secret, b"exporter", algorithm.digest(context), length, prefix)


class TrafficSecret:
    """The secret behind one traffic key: what KeyReady carries to the record layer.

    `record_size_limit`: the largest TLSInnerPlaintext in octets (content, type and padding) that may be sealed, or
    that may arrive, under it (RFC 8446 §5.4, RFC 8449 §4). `skippable_early_data`: octets of records before the first
    that opens, which are early data that we refused and which are dropped (RFC 8446 §4.2.10).
    """

    __slots__ = ("_prefix", "_secret", "record_size_limit", "skippable_early_data", "suite")

    def __init__(
        self,
        suite: CipherSuite,
        secret: bytes,
        record_size_limit: int = MAX_INNER_PLAINTEXT,
        prefix: bytes = TLS13_PREFIX,
        skippable_early_data: int = 0,
    ) -> None:
        self.suite = suite
        self.record_size_limit = record_size_limit
        self.skippable_early_data = skippable_early_data
        self._secret = secret
        self._prefix = prefix

    def key_and_iv(self) -> tuple[bytes, bytes]:
        """The write key and the static IV (RFC 8446 §7.3)."""
        suite, secret, prefix = self.suite, self._secret, self._prefix
        key = hkdf_expand_label(suite.hash, secret, b"key", b"", suite.aead.key_size, prefix)
        return key, hkdf_expand_label(suite.hash, secret, b"iv", b"", suite.aead.nonce_size, prefix)

    def updated(self) -> TrafficSecret:
        """The next generation (RFC 8446 §7.2)."""
        suite = self.suite
        secret = hkdf_expand_label(suite.hash, self._secret, b"traffic upd", b"", suite.hash.size, self._prefix)
        return TrafficSecret(suite, secret, self.record_size_limit, self._prefix)

    def finished(self, transcript_hash: bytes) -> bytes:
        """verify_data with this secret as base key."""
        return finished_mac(self.suite.hash, self._secret, transcript_hash, self._prefix)

    def dangerously_reveal(self) -> bytes:
        """The secret itself, for key logs and for layers that derive their keys in their own way (RFC 9001 §5.1)."""
        return self._secret

    def wipe(self) -> None:
        """Drop the secret."""
        self._secret = b""

    def __repr__(self) -> str:
        return f"<TrafficSecret of {self.suite.name}>"


# ------------------------------------------------------------------------------------------------------- transcript
class Transcript:
    """The running hash over all handshake messages (RFC 8446 §4.4.1)."""

    __slots__ = ("_state", "algorithm")

    def __init__(self, algorithm: HashAlgorithm, messages: bytes = b"") -> None:
        self.algorithm = algorithm
        self._state = algorithm.new(messages)

    @classmethod
    def after_retry(cls, algorithm: HashAlgorithm, first_client_hello: bytes, retry: bytes) -> Transcript:
        """With the first ClientHello replaced by its hash."""
        digest = algorithm.digest(first_client_hello)
        return cls(algorithm, b"\xfe\x00\x00" + len(digest).to_bytes(1, "big") + digest + retry)

    def plus(self, message: bytes) -> Transcript:
        """A new transcript with one message more; this one stays as it is."""
        other = Transcript.__new__(Transcript)
        other.algorithm = self.algorithm
        other._state = self._state.copy()
        other._state.update(message)
        return other

    def update(self, message: bytes) -> None:
        """Add a message."""
        self._state.update(message)

    def digest(self) -> bytes:
        """Transcript-Hash of everything so far."""
        return self._state.digest()
