"""The key schedule: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (whitepaper §5.4, Noise revision 34 §5 and §7.5).

    IKpsk2:
      <- s
      ...
      -> e, es, s, ss, {payload}          write_initiation, read_initiation_untrusted, read_payload_untrusted
      <- e, ee, se, psk, {payload}        write_response, read_response_untrusted
                                          split

One SymmetricState runs through both messages. Each key that it derives protects one message only, so that every nonce
is zero. Prologue, payloads and the pre-shared key are the caller's, so that Noise's own vectors run through it.
"""

from __future__ import annotations

from taps_security.crypto.blake2s import hash256, kdf1, kdf2, kdf3
from taps_security.crypto.sodium import Unauthentic, chacha20_open, chacha20_seal, scalarmult
from taps_security.stack.errors import PeerMisbehaved

from .reasons import Reason

__all__ = [
    "CONSTRUCTION",
    "IDENTIFIER",
    "INITIAL_CHAINING_KEY",
    "INITIAL_HASH",
    "LABEL_COOKIE",
    "LABEL_MAC1",
    "NO_PRESHARED_KEY",
    "SymmetricState",
    "TransportSecret",
    "cookie_key",
    "dh",
    "mac1_key",
    "read_initiation_untrusted",
    "read_payload_untrusted",
    "read_response_untrusted",
    "responder_hash",
    "write_initiation",
    "write_response",
]

CONSTRUCTION = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER = b"WireGuard v1 zx2c4 Jason@zx2c4.com"  # the prologue
LABEL_MAC1, LABEL_COOKIE = b"mac1----", b"cookie--"
NO_PRESHARED_KEY = bytes(32)  # §5.2: what is mixed in without one
TAG = 16  # octets behind what is sealed

INITIAL_CHAINING_KEY = hash256(CONSTRUCTION)  # longer than a hash: Noise §5.2
INITIAL_HASH = hash256(INITIAL_CHAINING_KEY + IDENTIFIER)

_ZERO_NONCE = bytes(12)
_ZERO_SECRET = bytes(32)


def responder_hash(static_public: bytes) -> bytes:
    """The handshake's hash before the first message to the owner of that key: the same in all of them."""
    return hash256(INITIAL_HASH + static_public)


def mac1_key(static_public: bytes) -> bytes:
    """What keys the mac1 of messages to the owner of that key (§5.4.4)."""
    return hash256(LABEL_MAC1 + static_public)


def cookie_key(static_public: bytes) -> bytes:
    """What seals the cookies that the owner of that key gives (§5.4.7)."""
    return hash256(LABEL_COOKIE + static_public)


def dh(private: bytes, public: bytes) -> bytes:
    """X25519 (RFC 7748 §5). Raises PeerMisbehaved if nothing of our key is in the result: the point has small order."""
    shared = scalarmult(private, public)
    if shared == _ZERO_SECRET:
        raise PeerMisbehaved("the public key gives no shared secret", reason=Reason.BAD_POINT, section="RFC 7748 §6.1")
    return shared


class TransportSecret:
    """What a record needs of one key: the 32 octets, and the receiver's index of the datagrams that it protects.

    That is our own index with a receiving key, and the peer's with a sending one.
    """

    __slots__ = ("index", "key")

    def __init__(self, key: bytes, index: bytes) -> None:
        self.key = key
        self.index = index

    def wipe(self) -> None:
        """Drop the reference to the key material. Python promises nothing about the memory behind it."""
        self.key = b""

    def __repr__(self) -> str:
        return f"<TransportSecret for index {self.index.hex()}>"


class SymmetricState:
    """Chaining key and hash (Noise §5.2), by the verbs of Noise. Its repr shows nothing."""

    __slots__ = ("chaining_key", "hash")

    def __init__(self, chaining_key: bytes, handshake_hash: bytes) -> None:
        self.chaining_key = chaining_key
        self.hash = handshake_hash

    @classmethod
    def initialize(cls, prologue: bytes, responder_static: bytes) -> SymmetricState:
        """As it is before the first message, with both ends' knowledge of the responder's static key mixed in."""
        return cls(INITIAL_CHAINING_KEY, hash256(hash256(INITIAL_CHAINING_KEY + prologue) + responder_static))

    def copy(self) -> SymmetricState:
        """The same state; what becomes of either leaves the other alone."""
        return SymmetricState(self.chaining_key, self.hash)

    def mix_ephemeral(self, public: bytes) -> None:
        """The token `e`: MixHash and, because of the psk, MixKey (Noise §9.2)."""
        self.hash = hash256(self.hash + public)
        self.chaining_key = kdf1(self.chaining_key, public)

    def mix_key(self, secret: bytes) -> bytes:
        """MixKey; the key of the next message."""
        self.chaining_key, key = kdf2(self.chaining_key, secret)
        return key

    def mix_chain(self, secret: bytes) -> None:
        """MixKey where another follows before anything is sealed: the key is not needed."""
        self.chaining_key = kdf1(self.chaining_key, secret)

    def mix_key_and_hash(self, preshared_key: bytes) -> bytes:
        """The token `psk` (Noise §9.1); the key of the next message."""
        self.chaining_key, mixed, key = kdf3(self.chaining_key, preshared_key)
        self.hash = hash256(self.hash + mixed)
        return key

    def encrypt_and_hash(self, key: bytes, plaintext: bytes) -> bytes:
        """EncryptAndHash with nonce zero."""
        sealed = chacha20_seal(key, _ZERO_NONCE, plaintext, self.hash)
        self.hash = hash256(self.hash + sealed)
        return sealed

    def decrypt_and_hash(self, key: bytes, sealed: bytes) -> bytes:
        """DecryptAndHash with nonce zero. Raises PeerMisbehaved; the hash stays as it was then."""
        try:
            plaintext = chacha20_open(key, _ZERO_NONCE, sealed, self.hash)
        except Unauthentic:
            raise PeerMisbehaved("the message does not open", reason=Reason.UNAUTHENTIC) from None
        self.hash = hash256(self.hash + sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The initiator's sending key, and its receiving key. The state is empty afterwards."""
        keys = kdf2(self.chaining_key, b"")
        self.erase()
        return keys

    def erase(self) -> None:
        """Drop chaining key and hash."""
        self.chaining_key = self.hash = b""


# ----------------------------------------------------------------------------------------- the tokens of IKpsk2
def write_initiation(
    state: SymmetricState,
    ephemeral: tuple[bytes, bytes],
    own_public: bytes,
    responder_public: bytes,
    static_static: bytes,
    payload: bytes,
) -> tuple[bytes, bytes]:
    """The initiator's `e, es, s, ss`: sealed static key and payload. `ephemeral`: private and public key."""
    state.mix_ephemeral(ephemeral[1])
    static = state.encrypt_and_hash(state.mix_key(dh(ephemeral[0], responder_public)), own_public)
    return static, state.encrypt_and_hash(state.mix_key(static_static), payload)


def read_initiation_untrusted(state: SymmetricState, own_private: bytes, ephemeral: bytes, static: bytes) -> bytes:
    """The responder's `e, es, s`: whose static key was sealed. Raises PeerMisbehaved."""
    state.mix_ephemeral(ephemeral)
    return state.decrypt_and_hash(state.mix_key(dh(own_private, ephemeral)), static)


def read_payload_untrusted(state: SymmetricState, static_static: bytes, sealed: bytes) -> bytes:
    """The responder's `ss`: the payload, by which its sender proves its static key. Raises PeerMisbehaved."""
    return state.decrypt_and_hash(state.mix_key(static_static), sealed)


def write_response(
    state: SymmetricState,
    ephemeral: tuple[bytes, bytes],
    initiator_ephemeral: bytes,
    initiator_static: bytes,
    preshared_key: bytes,
    payload: bytes,
) -> bytes:
    """The responder's `e, ee, se, psk`: the sealed payload. Raises PeerMisbehaved for a bad ephemeral key."""
    state.mix_ephemeral(ephemeral[1])
    state.mix_chain(dh(ephemeral[0], initiator_ephemeral))
    state.mix_chain(dh(ephemeral[0], initiator_static))
    return state.encrypt_and_hash(state.mix_key_and_hash(preshared_key), payload)


def read_response_untrusted(
    state: SymmetricState,
    ephemeral_private: bytes,
    own_private: bytes,
    responder_ephemeral: bytes,
    preshared_key: bytes,
    sealed: bytes,
) -> bytes:
    """The initiator's `e, ee, se, psk`: the payload. Raises PeerMisbehaved; `state` is of no use then."""
    state.mix_ephemeral(responder_ephemeral)
    state.mix_chain(dh(ephemeral_private, responder_ephemeral))
    state.mix_chain(dh(own_private, responder_ephemeral))
    return state.decrypt_and_hash(state.mix_key_and_hash(preshared_key), sealed)
