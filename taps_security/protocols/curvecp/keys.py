"""Keys, nonces and boxes of CurveCP.

    S, s    the server's long-term pair          S', s'  its short-term pair, fresh for each Hello
    C, c    the client's long-term pair          C', c'  its short-term pair, fresh for each connection
    t       the server's minute key

    Hello      Box[zeros](C' > S)                   client-H n     Cookie    Box[S' | r | SecretBox[C' | s'](t)](S > C')
    Initiate   Box[C | vouch | name | message](C' > S')            vouch     v | Box[C'](C > S)
    Message    Box[message](C' > S'), Box[message](S' > C')

Whoever has one secret key of a pair and one public key of the other makes the box's key: it is the same both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final, TypeAlias

from ...crypto.blake2s import hmac256
from ...crypto.box import BoxFailure, box_key, open_box, seal_box
from ...crypto.sodium import scalarmult_base
from ...stack.frozen import frozen
from .limits import KEY, NAME, VOUCH

__all__ = [
    "CLIENT_INITIATE",
    "CLIENT_MESSAGE",
    "SERVER_MESSAGE",
    "BoxFailure",
    "Introduction",
    "KeyPair",
    "StreamKey",
    "box_key",
    "long_nonce",
    "short_nonce",
]

CLIENT_HELLO: Final = b"CurveCP-client-H"
CLIENT_INITIATE: Final = b"CurveCP-client-I"
CLIENT_MESSAGE: Final = b"CurveCP-client-M"
SERVER_MESSAGE: Final = b"CurveCP-server-M"
SERVER_COOKIE: Final = b"CurveCPK"
CLIENT_VOUCH: Final = b"CurveCPV"
MINUTE_COOKIE: Final = b"minute-k"
_NONCE = 16  # octets of a long nonce without its prefix

Random: TypeAlias = Callable[[int], bytes]


@frozen
class KeyPair:
    """A Curve25519 pair."""

    secret: bytes = field(repr=False)
    public: bytes

    @classmethod
    def of(cls, secret: bytes) -> KeyPair:
        """The pair of a secret key of 32 octets."""
        return cls(secret, scalarmult_base(secret))

    @classmethod
    def generate(cls, random: Random) -> KeyPair:
        """A fresh one."""
        return cls.of(random(KEY))


def short_nonce(prefix: bytes, number: int) -> bytes:
    """24 octets of a prefix of 16 and a compressed nonce."""
    return prefix + number.to_bytes(8, "little")


def long_nonce(prefix: bytes, nonce: bytes) -> bytes:
    """24 octets of a prefix of 8 and a nonce of 16, which never comes twice for a long-term key."""
    return prefix + nonce


# ----------------------------------------------------------------------------------------------------------- boxes
def seal_hello(key: bytes, number: int) -> bytes:
    """80 octets; `key` of C' and S."""
    return seal_box(bytes(64), short_nonce(CLIENT_HELLO, number), key)


def open_hello(key: bytes, number: int, box: bytes) -> None:
    """Raises BoxFailure. What stands in it is not looked at."""
    open_box(box, short_nonce(CLIENT_HELLO, number), key)


def minute_key_of(minute_key: bytes, host: str) -> bytes:
    """The minute key for one numeric address: a cookie opens only for the one that it was sent to.

    The port is left out: a translator may change it. The reference's cookies open for everybody.
    """
    return hmac256(minute_key, host.encode())


def seal_cookie(minute_key: bytes, nonce: bytes, client_key: bytes, server_secret: bytes) -> bytes:
    """What the server needs again of a Hello: C' and s', 96 octets that only it opens."""
    return nonce + seal_box(client_key + server_secret, long_nonce(MINUTE_COOKIE, nonce), minute_key)


def open_cookie(minute_key: bytes, cookie: bytes) -> tuple[bytes, bytes]:
    """(C', s'). Raises BoxFailure."""
    opened = open_box(cookie[_NONCE:], long_nonce(MINUTE_COOKIE, cookie[:_NONCE]), minute_key)
    return opened[:KEY], opened[KEY:]


def seal_welcome(key: bytes, nonce: bytes, server_key: bytes, cookie: bytes) -> bytes:
    """The box of a Cookie packet, 144 octets; `key` of S and C'."""
    return seal_box(server_key + cookie, long_nonce(SERVER_COOKIE, nonce), key)


def open_welcome(key: bytes, nonce: bytes, box: bytes) -> tuple[bytes, bytes]:
    """(S', cookie). Raises BoxFailure."""
    opened = open_box(box, long_nonce(SERVER_COOKIE, nonce), key)
    return opened[:KEY], opened[KEY:]


def seal_vouch(key: bytes, nonce: bytes, client_key: bytes) -> bytes:
    """The long-term key vouches for the short-term one: 64 octets; `key` of C and S."""
    return nonce + seal_box(client_key, long_nonce(CLIENT_VOUCH, nonce), key)


def open_vouch(key: bytes, vouch: bytes) -> bytes:
    """The short-term key that is vouched for. Raises BoxFailure."""
    return open_box(vouch[_NONCE:], long_nonce(CLIENT_VOUCH, vouch[:_NONCE]), key)


@frozen
class Introduction:
    """What stands in front of the message in an Initiate's box."""

    client: bytes  # C
    vouch: bytes
    name: bytes  # the server's, 256 octets

    @classmethod
    def of(cls, opened: bytes) -> Introduction:
        """From the first 352 octets of an opened box."""
        return cls(opened[:KEY], opened[KEY : KEY + VOUCH], opened[KEY + VOUCH : KEY + VOUCH + NAME])

    def encode(self) -> bytes:
        """352 octets."""
        return self.client + self.vouch + self.name


def open_initiate(key: bytes, number: int, box: bytes) -> tuple[Introduction, bytes]:
    """Who it is, and the message. Raises BoxFailure."""
    opened = open_box(box, short_nonce(CLIENT_INITIATE, number), key)
    return Introduction.of(opened), opened[KEY + VOUCH + NAME :]


# ------------------------------------------------------------------------------------------------------ for records
class StreamKey:
    """The key of C' and S', as KeyReady carries it: both directions have the same, and numbers of their own.

    `number`: the next to be sent, or the one that the peer used last. A client's sending key has the long header of an
    Initiate in front of each message until the server has used the key: `cookie` and `introduction`, 96 and 352 octets.
    """

    __slots__ = ("cookie", "introduction", "key", "number")

    def __init__(self, key: bytes, number: int, cookie: bytes = b"", introduction: bytes = b"") -> None:
        self.key = key
        self.number = number
        self.cookie = cookie
        self.introduction = introduction

    def __repr__(self) -> str:
        return "<StreamKey>"

    def wipe(self) -> None:
        """Drop the references to the key material."""
        self.key = self.cookie = self.introduction = b""
