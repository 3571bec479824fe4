"""Messages and octets (whitepaper §5.4). Integers are little-endian; an index is four octets without a meaning.

    Initiation    148   01 000000 | sender | ephemeral | {static} | {timestamp} | mac1 | mac2
    Response       92   02 000000 | sender | receiver | ephemeral | {} | mac1 | mac2
    CookieReply    64   03 000000 | receiver | nonce | {cookie}
    transport  32 + n   04 000000 | receiver | counter | {inner packet, zeros}

No keys, no state. What stands in braces is sealed, with a tag of 16 octets behind it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from taps_security.parts.codec import MalformedMessage

__all__ = [
    "COOKIE_REPLY",
    "COOKIE_REPLY_SIZE",
    "INITIATION",
    "INITIATION_SIZE",
    "MAC_SIZE",
    "RESPONSE",
    "RESPONSE_SIZE",
    "TRANSPORT",
    "TRANSPORT_HEADER",
    "TRANSPORT_HEADER_SIZE",
    "TRANSPORT_MIN_SIZE",
    "CookieReply",
    "Initiation",
    "Message",
    "Response",
    "message_type_untrusted",
    "parse_untrusted",
]

INITIATION, RESPONSE, COOKIE_REPLY, TRANSPORT = 1, 2, 3, 4  # the first octet; three zeros follow
MAC_SIZE: Final = 16

_INITIATION = Struct("<I4s32s48s28s16s16s")
_RESPONSE = Struct("<I4s4s32s16s16s16s")
_COOKIE_REPLY = Struct("<I4s24s32s")
TRANSPORT_HEADER = Struct("<I4sQ")  # type, receiver, counter

INITIATION_SIZE: Final = 148
RESPONSE_SIZE: Final = 92
COOKIE_REPLY_SIZE: Final = 64
TRANSPORT_HEADER_SIZE: Final = 16
TRANSPORT_MIN_SIZE: Final = TRANSPORT_HEADER_SIZE + 16  # a keepalive: nothing but a tag


class Initiation(NamedTuple):
    """The first message (§5.4.2)."""

    sender: bytes
    ephemeral: bytes
    static: bytes  # sealed
    timestamp: bytes  # sealed
    mac1: bytes = bytes(MAC_SIZE)
    mac2: bytes = bytes(MAC_SIZE)

    def encode(self) -> bytes:
        """148 octets."""
        return _INITIATION.pack(INITIATION, *self)


class Response(NamedTuple):
    """The second message (§5.4.3)."""

    sender: bytes
    receiver: bytes
    ephemeral: bytes
    nothing: bytes  # sealed
    mac1: bytes = bytes(MAC_SIZE)
    mac2: bytes = bytes(MAC_SIZE)

    def encode(self) -> bytes:
        """92 octets."""
        return _RESPONSE.pack(RESPONSE, *self)


class CookieReply(NamedTuple):
    """What a responder under load answers (§5.4.7)."""

    receiver: bytes
    nonce: bytes
    cookie: bytes  # sealed

    def encode(self) -> bytes:
        """64 octets."""
        return _COOKIE_REPLY.pack(COOKIE_REPLY, *self)


Message: TypeAlias = Initiation | Response | CookieReply


def message_type_untrusted(data: bytes | memoryview) -> int:
    """Which message has this form: its type; 0: none. Of transport data only the header is looked at."""
    size = len(data)
    if size < COOKIE_REPLY_SIZE and (size < TRANSPORT_MIN_SIZE or data[0] != TRANSPORT):
        return 0
    kind = data[0]
    if data[1] or data[2] or data[3]:
        return 0
    if kind == TRANSPORT:
        return TRANSPORT  # of any length: zeros fill up to 16 octets, but not beyond the mtu
    return kind if _SIZES.get(kind) == size else 0


_SIZES = {INITIATION: INITIATION_SIZE, RESPONSE: RESPONSE_SIZE, COOKIE_REPLY: COOKIE_REPLY_SIZE}


def parse_untrusted(data: bytes | memoryview) -> Message:
    """A message of the handshake. Raises MalformedMessage for a wrong length or type."""
    kind = message_type_untrusted(data)
    if kind == INITIATION:
        return Initiation._make(_INITIATION.unpack(data)[1:])
    if kind == RESPONSE:
        return Response._make(_RESPONSE.unpack(data)[1:])
    if kind == COOKIE_REPLY:
        return CookieReply._make(_COOKIE_REPLY.unpack(data)[1:])
    raise MalformedMessage(f"{len(data)} octets are no handshake message of WireGuard", section="whitepaper §5.4")
