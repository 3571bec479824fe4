"""CurveCP's packets and its message layer, to and from octets. No keys, no state. Integers are little-endian.

Hello      c>s  QvnQ5XlH  server ext 16  client ext 16  C' 32  zeros 64  n 8  box 80
Cookie     s>c  RL3aNMXK  client ext 16  server ext 16  r 16   box 144
Initiate   c>s  QvnQ5XlI  server ext 16  client ext 16  C' 32  cookie 96  n 8  box 368 + message
Message    s>c  RL3aNMXM  client ext 16  server ext 16  n 8    box 16 + message
Message    c>s  QvnQ5XlM  server ext 16  client ext 16  C' 32  n 8  box 16 + message
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final, TypeAlias

from ...parts.codec import MalformedMessage
from ...stack.events import Buffer
from ...stack.frozen import frozen
from .limits import (
    ACK_RANGES,
    BLOCK_PADDING,
    CLIENT_OVERHEAD,
    COOKIE_SIZE,
    HELLO_SIZE,
    INITIATE_OVERHEAD,
    MAX_BLOCK,
    MAX_INITIATE_MESSAGE,
    MAX_MESSAGE,
    MESSAGE_HEADER,
    MESSAGE_SIZES,
    MESSAGE_UNIT,
    MIN_MESSAGE,
    SERVER_OVERHEAD,
)

HELLO: Final = b"QvnQ5XlH"
COOKIE: Final = b"RL3aNMXK"
INITIATE: Final = b"QvnQ5XlI"
CLIENT_MESSAGE: Final = b"QvnQ5XlM"
SERVER_MESSAGE: Final = b"RL3aNMXM"
CLIENT_MAGIC, SERVER_MAGIC = HELLO[:7], COOKIE[:7]  # the first seven octets of what a client, a server sends

SUCCESS: Final = 2048  # flags beside D: the stream ends behind this block
FAILURE: Final = 4096

_HELLO = struct.Struct("<8s16s16s32s64s8s80s")
_COOKIE = struct.Struct("<8s16s16s16s144s")
_INITIATE = struct.Struct("<8s16s16s32s96s8s")
_CLIENT = struct.Struct("<8s16s16s32s8s")
_SERVER = struct.Struct("<8s16s16s8s")

# id, acknowledged id, acknowledged ranges, D and end, position; and with the usual padding behind it
BLOCK: Final = struct.Struct("<II30sHQ")
PADDED_BLOCK: Final = struct.Struct(f"<II30sHQ{BLOCK_PADDING}x")
_RANGES = struct.Struct("<QIHHHHHHHHH")
NO_RANGES: Final = bytes(30)

Span: TypeAlias = tuple[int, int]  # positions of a stream: from, to (not included)


# --------------------------------------------------------------------------------------------------------- packets
@frozen
class Hello:
    """A client asks for a cookie. `number`: the compressed nonce of its box."""

    server_extension: bytes
    client_extension: bytes
    client_key: bytes  # C'
    number: bytes
    box: bytes

    def encode(self) -> bytes:
        """224 octets."""
        parts = (self.server_extension, self.client_extension, self.client_key, bytes(64), self.number, self.box)
        return _HELLO.pack(HELLO, *parts)


@frozen
class Cookie:
    """A server's stateless answer. `nonce`: 16 octets, the same in its box and in the cookie inside."""

    client_extension: bytes
    server_extension: bytes
    nonce: bytes
    box: bytes

    def encode(self) -> bytes:
        """200 octets."""
        return _COOKIE.pack(COOKIE, self.client_extension, self.server_extension, self.nonce, self.box)


@frozen
class Initiate:
    """A client shows the cookie and says who it is; its box holds a message of the stream, too."""

    server_extension: bytes
    client_extension: bytes
    client_key: bytes
    cookie: bytes
    number: bytes
    box: bytes

    def encode(self) -> bytes:
        """544 octets and the message."""
        parts = (self.server_extension, self.client_extension, self.client_key, self.cookie, self.number)
        return _INITIATE.pack(INITIATE, *parts) + self.box


@frozen
class ClientMessage:
    """A message of the stream from the client."""

    server_extension: bytes
    client_extension: bytes
    client_key: bytes
    number: bytes
    box: bytes

    def encode(self) -> bytes:
        """96 octets and the message."""
        parts = (self.server_extension, self.client_extension, self.client_key, self.number)
        return _CLIENT.pack(CLIENT_MESSAGE, *parts) + self.box


@frozen
class ServerMessage:
    """A message of the stream from the server."""

    client_extension: bytes
    server_extension: bytes
    number: bytes
    box: bytes

    def encode(self) -> bytes:
        """64 octets and the message."""
        return _SERVER.pack(SERVER_MESSAGE, self.client_extension, self.server_extension, self.number) + self.box


Packet: TypeAlias = Hello | Cookie | Initiate | ClientMessage | ServerMessage


def parse_untrusted(datagram: Buffer) -> Packet:
    """A datagram as a packet, its box unopened. Raises MalformedMessage: another magic, or a length that it has not."""
    data = bytes(datagram)
    magic, size = data[:8], len(data)
    if magic == HELLO and size == HELLO_SIZE:
        _, server, client, key, _, number, box = _HELLO.unpack(data)
        return Hello(server, client, key, number, box)
    if magic == COOKIE and size == COOKIE_SIZE:
        return Cookie(*_COOKIE.unpack(data)[1:])
    if magic == INITIATE and _fits(size - INITIATE_OVERHEAD, MAX_INITIATE_MESSAGE):
        _, server, client, key, cookie, number = _INITIATE.unpack_from(data)
        return Initiate(server, client, key, cookie, number, data[_INITIATE.size :])
    if magic == CLIENT_MESSAGE and _fits(size - CLIENT_OVERHEAD, MAX_MESSAGE):
        _, server, client, key, number = _CLIENT.unpack_from(data)
        return ClientMessage(server, client, key, number, data[_CLIENT.size :])
    if magic == SERVER_MESSAGE and _fits(size - SERVER_OVERHEAD, MAX_MESSAGE):
        _, client, server, number = _SERVER.unpack_from(data)
        return ServerMessage(client, server, number, data[_SERVER.size :])
    raise MalformedMessage(f"{size} octets that are no packet of CurveCP")


def _fits(message: int, largest: int) -> bool:
    return MIN_MESSAGE <= message <= largest and message % MESSAGE_UNIT == 0


# -------------------------------------------------------------------------------------------------- message layer
@frozen
class Message:
    """One message: acknowledgements, and a block of the stream.

    `number`: 0 is a mere acknowledgement. `acknowledged`: the message that is answered, 0 for none. `ranges`: what
    arrived, [0, x) first. `end`: 0, SUCCESS or FAILURE behind `data`, which begins at `position`.
    """

    number: int = 0
    acknowledged: int = 0
    ranges: tuple[Span, ...] = ()
    end: int = 0
    position: int = 0
    data: bytes = b""

    def encode(self, size: int | None = None) -> bytes:
        """As many octets as `size`, or as the reference would send."""
        length = message_size(len(self.data)) if size is None else size
        flags = len(self.data) | self.end
        head = BLOCK.pack(self.number, self.acknowledged, encode_ranges(self.ranges), flags, self.position)
        return head + bytes(length - len(head) - len(self.data)) + self.data


def message_size(data: int) -> int:
    """The octets of a message with so much data: 64 and the data, rounded up to one of four sizes."""
    need = MESSAGE_HEADER + BLOCK_PADDING + data
    for size in MESSAGE_SIZES:
        if need <= size:
            return size
    raise ValueError(f"a block of {data} octets; at most {MAX_BLOCK}")


def tight_size(data: int) -> int:
    """The fewest octets that a message with so much data may have."""
    return -(-(MESSAGE_HEADER + data) // MESSAGE_UNIT) * MESSAGE_UNIT


def parse_message(message: Buffer) -> Message:
    """An authenticated message. Raises MalformedMessage: it has no header, or a block that it cannot hold."""
    if not MESSAGE_HEADER <= len(message) <= MAX_MESSAGE:
        raise MalformedMessage(f"a message of {len(message)} octets")
    number, acknowledged, ranges, flags, position = BLOCK.unpack_from(message)
    end = flags & (SUCCESS | FAILURE)
    length = flags - end
    if length > MAX_BLOCK or MESSAGE_HEADER + length > len(message):
        raise MalformedMessage(f"a block of {length} octets in a message of {len(message)}")
    data = bytes(message[len(message) - length :])
    return Message(number, acknowledged, parse_ranges(ranges), end, position, data)


def parse_ranges(octets: bytes) -> tuple[Span, ...]:
    """The ranges that are not empty, ascending. A first one that is empty is left out."""
    if octets[8:] == NO_RANGES[8:]:  # nearly always
        first = int.from_bytes(octets[:8], "little")
        return ((0, first),) if first else ()
    first, *rest = _RANGES.unpack(octets)
    spans = [(0, first)] if first else []
    position = first
    for gap, size in zip(rest[::2], rest[1::2], strict=True):
        position += gap
        if size:
            spans.append((position, position + size))
            position += size
    return tuple(spans)


def encode_ranges(spans: Iterable[Span]) -> bytes:
    """30 octets. The first range begins at 0; the next gap has 32 bits, other gaps and sizes have 16.

    Raises ValueError for ranges that do not fit.
    """
    fields: list[int] = []
    end = 0
    for start, stop in spans:
        if not fields:
            if start:
                fields.append(0)
            else:
                fields.append(stop)
                end = stop
                continue
        fields += [start - end, stop - start]
        end = stop
    if len(fields) > 2 * ACK_RANGES - 1:
        raise ValueError("more than six ranges")
    fields += [0] * (2 * ACK_RANGES - 1 - len(fields))
    try:
        return _RANGES.pack(*fields)
    except struct.error as error:
        raise ValueError(f"these ranges do not fit: {error}") from None
