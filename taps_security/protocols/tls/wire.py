"""TLS 1.3 handshake messages <-> octets (RFC 8446 §4, App. B.3). No keys, no state.

A whole message has its four-octet header: type and length. Bodies of extensions stay octets here (`extensions`
reads and makes them), so that nothing is parsed that nobody needs. What arrives before the handshake is authenticated
is read by functions named `..._untrusted`. Everything here raises MalformedMessage for octets that do not parse.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from taps_security.parts.codec import MalformedMessage, Reader, vector8, vector16, vector24

__all__ = [
    "HELLO_RETRY_REQUEST_RANDOM",
    "Certificate",
    "CertificateRequest",
    "CertificateVerify",
    "ClientHello",
    "Extensions",
    "HandshakeType",
    "KeyUpdateRequest",
    "NewSessionTicket",
    "ServerHello",
    "encode_certificate",
    "encode_extensions",
    "encode_message",
    "parse_certificate_request_untrusted",
    "parse_certificate_untrusted",
    "parse_certificate_verify_untrusted",
    "parse_client_hello_untrusted",
    "parse_encrypted_extensions_untrusted",
    "parse_extensions_untrusted",
    "parse_key_update",
    "parse_new_session_ticket",
    "parse_server_hello_untrusted",
]

HELLO_RETRY_REQUEST_RANDOM: Final = bytes.fromhex(  # SHA-256 of "HelloRetryRequest"; RFC 8446 §4.1.3
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)

Extensions = dict[int, bytes]  # in the order of the wire

_EXTENSION = struct.Struct("!HH")


class HandshakeType(IntEnum):
    """RFC 8446 §4."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    MESSAGE_HASH = 254


class KeyUpdateRequest(IntEnum):
    """RFC 8446 §4.6.3."""

    NOT_REQUESTED = 0
    REQUESTED = 1


class DuplicateExtension(MalformedMessage):
    """Two extensions of one type in one block (RFC 8446 §4.2: illegal_parameter)."""


def encode_message(kind: HandshakeType, body: bytes) -> bytes:
    """A whole message: type, length, body."""
    return (kind << 24 | len(body)).to_bytes(4, "big") + body


# ------------------------------------------------------------------------------------------------------ extensions
def parse_extensions_untrusted(octets: bytes) -> Extensions:
    """The extensions of a block (without its length), by type; DuplicateExtension if a type comes twice."""
    found: Extensions = {}
    position, end = 0, len(octets)
    unpack = _EXTENSION.unpack_from
    while position < end:
        if position + 4 > end:
            raise MalformedMessage("an extension ends too early")
        kind, length = unpack(octets, position)
        start = position + 4
        position = start + length
        if position > end:
            raise MalformedMessage("an extension ends too early")
        if kind in found:
            raise DuplicateExtension(f"extension {kind} comes twice")
        found[kind] = octets[start:position]
    return found


def encode_extensions(extensions: Extensions) -> bytes:
    """A block of extensions with its length."""
    pack = _EXTENSION.pack
    return vector16(b"".join([pack(kind, len(body)) + body for kind, body in extensions.items()]))


# ---------------------------------------------------------------------------------------------------------- hellos
class ClientHello(NamedTuple):
    """RFC 8446 §4.1.2."""

    random: bytes
    session_id: bytes
    cipher_suites: tuple[int, ...]
    extensions: Extensions
    legacy_version: int = 0x0303
    compression_methods: bytes = b"\x00"

    def encode(self) -> bytes:
        """The whole message."""
        suites = struct.pack(f"!{len(self.cipher_suites)}H", *self.cipher_suites)
        body = (
            self.legacy_version.to_bytes(2, "big")
            + self.random
            + vector8(self.session_id)
            + vector16(suites)
            + vector8(self.compression_methods)
            + encode_extensions(self.extensions)
        )
        return encode_message(HandshakeType.CLIENT_HELLO, body)


def parse_client_hello_untrusted(body: bytes) -> ClientHello:
    """A ClientHello; one of TLS 1.2 may come without extensions."""
    reader = Reader(body)
    version = reader.u16()
    random = reader.take(32)
    session_id = reader.vector8(0, 32)
    suites = reader.u16_vector()
    compression = reader.vector8(1)
    extensions = parse_extensions_untrusted(reader.vector16()) if reader.remaining else {}
    reader.check_end()
    return ClientHello(random, session_id, suites, extensions, version, compression)


class ServerHello(NamedTuple):
    """RFC 8446 §4.1.3; a HelloRetryRequest (§4.1.4) is one with a fixed random."""

    random: bytes
    session_id: bytes
    cipher_suite: int
    extensions: Extensions
    legacy_version: int = 0x0303
    compression_method: int = 0

    @property
    def is_retry(self) -> bool:
        """Whether this is a HelloRetryRequest."""
        return self.random == HELLO_RETRY_REQUEST_RANDOM

    def encode(self) -> bytes:
        """The whole message."""
        body = (
            self.legacy_version.to_bytes(2, "big")
            + self.random
            + vector8(self.session_id)
            + self.cipher_suite.to_bytes(2, "big")
            + bytes((self.compression_method,))
            + encode_extensions(self.extensions)
        )
        return encode_message(HandshakeType.SERVER_HELLO, body)


def parse_server_hello_untrusted(body: bytes) -> ServerHello:
    """A ServerHello or HelloRetryRequest; one of TLS 1.2 may come without extensions."""
    reader = Reader(body)
    version = reader.u16()
    random = reader.take(32)
    session_id = reader.vector8(0, 32)
    suite = reader.u16()
    compression = reader.u8()
    extensions = parse_extensions_untrusted(reader.vector16()) if reader.remaining else {}
    reader.check_end()
    return ServerHello(random, session_id, suite, extensions, version, compression)


def parse_encrypted_extensions_untrusted(body: bytes) -> Extensions:
    """RFC 8446 §4.3.1."""
    reader = Reader(body)
    octets = reader.vector16()
    reader.check_end()
    return parse_extensions_untrusted(octets)


# -------------------------------------------------------------------------------------------------- authentication
class CertificateRequest(NamedTuple):
    """RFC 8446 §4.3.2."""

    context: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        return encode_message(
            HandshakeType.CERTIFICATE_REQUEST, vector8(self.context) + encode_extensions(self.extensions)
        )


def parse_certificate_request_untrusted(body: bytes) -> CertificateRequest:
    """A CertificateRequest."""
    reader = Reader(body)
    context = reader.vector8()
    octets = reader.vector16()
    reader.check_end()
    return CertificateRequest(context, parse_extensions_untrusted(octets))


class Certificate(NamedTuple):
    """RFC 8446 §4.4.2: DER certificates, leaf first, and the extensions of each."""

    context: bytes
    chain: tuple[bytes, ...]
    extensions: tuple[Extensions, ...] = ()

    def encode(self) -> bytes:
        """The whole message."""
        extensions = self.extensions or ({},) * len(self.chain)
        entries = [vector24(der) + encode_extensions(block) for der, block in zip(self.chain, extensions, strict=True)]
        return encode_message(HandshakeType.CERTIFICATE, vector8(self.context) + vector24(b"".join(entries)))


@lru_cache(maxsize=64)
def encode_certificate(context: bytes, chain: tuple[bytes, ...]) -> bytes:
    """The whole Certificate message for `chain`, kept for the next handshake."""
    return Certificate(context, chain).encode()


def parse_certificate_untrusted(body: bytes) -> Certificate:
    """A Certificate message; its list may be empty."""
    reader = Reader(body)
    context = reader.vector8()
    entries = Reader(reader.vector24())
    reader.check_end()
    chain, extensions = [], []
    while entries.remaining:
        chain.append(entries.vector24(1))
        extensions.append(parse_extensions_untrusted(entries.vector16()))
    return Certificate(context, tuple(chain), tuple(extensions))


class CertificateVerify(NamedTuple):
    """RFC 8446 §4.4.3."""

    algorithm: int
    signature: bytes

    def encode(self) -> bytes:
        """The whole message."""
        return encode_message(
            HandshakeType.CERTIFICATE_VERIFY, self.algorithm.to_bytes(2, "big") + vector16(self.signature)
        )


def parse_certificate_verify_untrusted(body: bytes) -> CertificateVerify:
    """A CertificateVerify message."""
    reader = Reader(body)
    algorithm = reader.u16()
    signature = reader.vector16()
    reader.check_end()
    return CertificateVerify(algorithm, signature)


# -------------------------------------------------------------------------------------------------- post-handshake
class NewSessionTicket(NamedTuple):
    """RFC 8446 §4.6.1. `lifetime` in seconds."""

    lifetime: int
    age_add: int
    nonce: bytes
    ticket: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        body = (
            self.lifetime.to_bytes(4, "big")
            + self.age_add.to_bytes(4, "big")
            + vector8(self.nonce)
            + vector16(self.ticket)
            + encode_extensions(self.extensions)
        )
        return encode_message(HandshakeType.NEW_SESSION_TICKET, body)


def parse_new_session_ticket(body: bytes) -> NewSessionTicket:
    """A NewSessionTicket."""
    reader = Reader(body)
    lifetime = reader.u32()
    age_add = reader.u32()
    nonce = reader.vector8()
    ticket = reader.vector16(1)
    octets = reader.vector16()
    reader.check_end()
    return NewSessionTicket(lifetime, age_add, nonce, ticket, parse_extensions_untrusted(octets))


def parse_key_update(body: bytes) -> int:
    """The request_update of a KeyUpdate, which may be a value that is none of KeyUpdateRequest."""
    reader = Reader(body)
    request = reader.u8()
    reader.check_end()
    return request
