"""The bodies of TLS extensions <-> meaning (RFC 8446 §4.2; RFC 6066 §3; RFC 7301; RFC 8449). No keys, no state.

Functions raise MalformedMessage for octets that do not parse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from taps_security.parts.codec import MalformedMessage, Reader, vector8, vector16

__all__ = [
    "ExtensionType",
    "KeyShareEntry",
    "OfferedPsks",
    "PskIdentity",
    "PskKeyExchangeMode",
    "encode_alpn",
    "encode_key_share",
    "encode_key_shares",
    "encode_offered_psks",
    "encode_server_name",
    "encode_u16",
    "encode_u16_vector",
    "parse_alpn_untrusted",
    "parse_authorities_untrusted",
    "parse_cookie_untrusted",
    "parse_key_share_untrusted",
    "parse_key_shares_untrusted",
    "parse_offered_psks_untrusted",
    "parse_psk_modes_untrusted",
    "parse_server_name_untrusted",
    "parse_supported_versions_untrusted",
    "parse_u16_untrusted",
    "parse_u16_vector_untrusted",
]


class ExtensionType(IntEnum):
    """RFC 8446 §4.2 and the registry; those that this room reads, makes or must know to be misplaced."""

    SERVER_NAME = 0
    MAX_FRAGMENT_LENGTH = 1
    STATUS_REQUEST = 5
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    PADDING = 21
    RECORD_SIZE_LIMIT = 28
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    CERTIFICATE_AUTHORITIES = 47
    POST_HANDSHAKE_AUTH = 49
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51


class PskKeyExchangeMode(IntEnum):
    """RFC 8446 §4.2.9."""

    PSK_KE = 0
    PSK_DHE_KE = 1


# ------------------------------------------------------------------------------------------------ plain values
def parse_u16_untrusted(body: bytes) -> int:
    """A body of one two-octet value: selected_version, selected_group, selected_identity, record_size_limit."""
    if len(body) != 2:
        raise MalformedMessage(f"an extension of {len(body)} octets, where 2 are expected")
    return body[0] << 8 | body[1]


def encode_u16(value: int) -> bytes:
    """Two octets."""
    return value.to_bytes(2, "big")


def parse_u16_vector_untrusted(body: bytes) -> tuple[int, ...]:
    """A vector of two-octet values: supported_groups, signature_algorithms and signature_algorithms_cert."""
    length = len(body) - 2
    if length < 2 or length % 2 or body[0] << 8 | body[1] != length:
        raise MalformedMessage("a vector of two-octet values whose length is wrong")
    return struct.unpack_from(f"!{length // 2}H", body, 2)


def encode_u16_vector(values: Sequence[int]) -> bytes:
    """A vector of two-octet values with two octets of length."""
    return struct.pack(f"!{len(values) + 1}H", 2 * len(values), *values)


def parse_supported_versions_untrusted(body: bytes) -> tuple[int, ...]:
    """The versions of a ClientHello (RFC 8446 §4.2.1)."""
    length = len(body) - 1
    if length < 2 or length % 2 or body[0] != length:
        raise MalformedMessage("supported_versions whose length is wrong")
    return struct.unpack_from(f"!{length // 2}H", body, 1)


def parse_psk_modes_untrusted(body: bytes) -> bytes:
    """The modes, one octet each (RFC 8446 §4.2.9)."""
    reader = Reader(body)
    modes = reader.vector8(1)
    reader.check_end()
    return modes


def parse_cookie_untrusted(body: bytes) -> bytes:
    """The cookie (RFC 8446 §4.2.2)."""
    reader = Reader(body)
    cookie = reader.vector16(1)
    reader.check_end()
    return cookie


def parse_authorities_untrusted(body: bytes) -> tuple[bytes, ...]:
    """Distinguished names in DER (RFC 8446 §4.2.4)."""
    reader = Reader(body)
    names = Reader(reader.vector16(3))
    reader.check_end()
    found = []
    while names.remaining:
        found.append(names.vector16(1))
    return tuple(found)


# ------------------------------------------------------------------------------------------- names and protocols
def parse_server_name_untrusted(body: bytes) -> str:
    """The host name in lower case; other name types are ignored, and an empty string says that there was none."""
    reader = Reader(body)
    names = Reader(reader.vector16(1))
    reader.check_end()
    host = ""
    while names.remaining:
        kind = names.u8()
        name = names.vector16(1)
        if kind == 0:
            if host or not name.isascii() or b"\0" in name:
                raise MalformedMessage("server_name is not one host name in ASCII")
            host = name.decode("ascii").lower()
    return host


def encode_server_name(name: str) -> bytes:
    """server_name with one host name in ASCII (RFC 6066 §3)."""
    return vector16(b"\0" + vector16(name.encode("ascii")))


def parse_alpn_untrusted(body: bytes) -> tuple[bytes, ...]:
    """The protocol names (RFC 7301 §3.1)."""
    reader = Reader(body)
    names = Reader(reader.vector16(2))
    reader.check_end()
    found = []
    while names.remaining:
        found.append(names.vector8(1))
    return tuple(found)


def encode_alpn(names: Iterable[bytes]) -> bytes:
    """Protocol names, each of 1 to 255 octets."""
    return vector16(b"".join([vector8(name) for name in names]))


# ------------------------------------------------------------------------------------------------------ key shares
class KeyShareEntry(NamedTuple):
    """RFC 8446 §4.2.8."""

    group: int
    key_exchange: bytes


def parse_key_shares_untrusted(body: bytes) -> tuple[KeyShareEntry, ...]:
    """The shares of a ClientHello, which may be none."""
    reader = Reader(body)
    shares = Reader(reader.vector16())
    reader.check_end()
    found = []
    while shares.remaining:
        found.append(KeyShareEntry(shares.u16(), shares.vector16(1)))
    return tuple(found)


def encode_key_shares(shares: Iterable[tuple[int, bytes]]) -> bytes:
    """The shares of a ClientHello."""
    return vector16(b"".join([encode_key_share(group, public) for group, public in shares]))


def parse_key_share_untrusted(body: bytes) -> KeyShareEntry:
    """The share of a ServerHello."""
    reader = Reader(body)
    entry = KeyShareEntry(reader.u16(), reader.vector16(1))
    reader.check_end()
    return entry


def encode_key_share(group: int, public: bytes) -> bytes:
    """One share, as in a ServerHello."""
    return group.to_bytes(2, "big") + vector16(public)


# ------------------------------------------------------------------------------------------------- pre-shared keys
class PskIdentity(NamedTuple):
    """RFC 8446 §4.2.11."""

    identity: bytes
    obfuscated_ticket_age: int = 0


class OfferedPsks(NamedTuple):
    """RFC 8446 §4.2.11. `binders_size`: octets of the binders with their length, which Truncate() cuts off."""

    identities: tuple[PskIdentity, ...]
    binders: tuple[bytes, ...]
    binders_size: int


def parse_offered_psks_untrusted(body: bytes) -> OfferedPsks:
    """The pre_shared_key extension of a ClientHello; there are as many binders as identities."""
    reader = Reader(body)
    entries = Reader(reader.vector16(7))
    start = reader.position
    macs = Reader(reader.vector16(33))
    reader.check_end()
    identities, binders = [], []
    while entries.remaining:
        identities.append(PskIdentity(entries.vector16(1), entries.u32()))
    while macs.remaining:
        binders.append(macs.vector8(32))
    return OfferedPsks(tuple(identities), tuple(binders), len(body) - start)


def encode_offered_psks(identities: Iterable[PskIdentity], binders: Iterable[bytes]) -> bytes:
    """The pre_shared_key extension of a ClientHello."""
    entries = b"".join([vector16(name) + age.to_bytes(4, "big") for name, age in identities])
    return vector16(entries) + vector16(b"".join([vector8(binder) for binder in binders]))
