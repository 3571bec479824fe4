"""What a server reads in a ClientHello and what it selects (RFC 8446 §4.1.1, §9.2). No keys, no state."""

from __future__ import annotations

from typing import NamedTuple

from taps_security.crypto.agreement import Group

from .extensions import (
    ExtensionType,
    KeyShareEntry,
    OfferedPsks,
    PskKeyExchangeMode,
    parse_alpn_untrusted,
    parse_authorities_untrusted,
    parse_cookie_untrusted,
    parse_key_shares_untrusted,
    parse_offered_psks_untrusted,
    parse_psk_modes_untrusted,
    parse_server_name_untrusted,
    parse_supported_versions_untrusted,
    parse_u16_untrusted,
    parse_u16_vector_untrusted,
)
from .handshake import illegal, incompatible, misbehaved
from .keys import CipherSuite
from .limits import MAX_INNER_PLAINTEXT, MIN_RECORD_SIZE_LIMIT, TLS_1_2, TLS_1_3
from .options import TlsOptions
from .reasons import Reason
from .wire import ClientHello, Extensions, parse_client_hello_untrusted

__all__ = [
    "HelloFacts",
    "check_retried",
    "common_suites",
    "read_client_hello_untrusted",
    "select_alpn",
    "select_group",
]

# What we act on and what must not change between the two ClientHellos (RFC 8446 §4.1.2).
_UNCHANGED = (
    ExtensionType.SERVER_NAME,
    ExtensionType.SUPPORTED_GROUPS,
    ExtensionType.SIGNATURE_ALGORITHMS,
    ExtensionType.SIGNATURE_ALGORITHMS_CERT,
    ExtensionType.CERTIFICATE_AUTHORITIES,
    ExtensionType.ALPN,
    ExtensionType.RECORD_SIZE_LIMIT,
    ExtensionType.SUPPORTED_VERSIONS,
    ExtensionType.PSK_KEY_EXCHANGE_MODES,
)


class HelloFacts(NamedTuple):
    """A checked ClientHello. `message` is whole; `send_limit` is None where the client names no record_size_limit."""

    message: bytes
    hello: ClientHello
    server_name: str
    groups: tuple[int, ...]
    shares: tuple[KeyShareEntry, ...]
    signature_algorithms: tuple[int, ...]
    certificate_algorithms: tuple[int, ...]
    authorities: tuple[bytes, ...]
    alpn: tuple[bytes, ...]
    psk_dhe_ke: bool
    psks: OfferedPsks | None
    cookie: bytes
    send_limit: int | None

    @property
    def early_data(self) -> bool:
        """Whether early data may follow."""
        return ExtensionType.EARLY_DATA in self.hello.extensions


def read_client_hello_untrusted(message: bytes) -> HelloFacts:
    """Everything that we use of a ClientHello, held against the rules of RFC 8446 §4.1.2, §4.2 and §9.2."""
    hello = parse_client_hello_untrusted(message[4:])
    extensions = hello.extensions
    versions = extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if versions is None or TLS_1_3 not in parse_supported_versions_untrusted(versions):
        raise incompatible(Reason.NO_COMMON_VERSION, "the client does not speak TLS 1.3", "4.2.1")
    if hello.legacy_version != TLS_1_2:
        text = f"legacy_version is 0x{hello.legacy_version:04x} (RFC 9846 §4.1.2)"
        raise incompatible(Reason.NO_COMMON_VERSION, text, "4.1.2")
    if hello.compression_methods != b"\0":
        raise illegal("legacy_compression_methods is not null alone", "4.1.2")
    _check_present(extensions)
    get = extensions.get
    groups = () if (body := get(ExtensionType.SUPPORTED_GROUPS)) is None else parse_u16_vector_untrusted(body)
    shares = () if (body := get(ExtensionType.KEY_SHARE)) is None else parse_key_shares_untrusted(body)
    _check_shares(groups, shares)
    limit = get(ExtensionType.RECORD_SIZE_LIMIT)
    body = get(ExtensionType.SIGNATURE_ALGORITHMS)
    signatures = () if body is None else parse_u16_vector_untrusted(body)
    psk_dhe_ke, psks = _read_psks(extensions)
    return HelloFacts(
        message,
        hello,
        "" if (body := get(ExtensionType.SERVER_NAME)) is None else parse_server_name_untrusted(body),
        groups,
        shares,
        signatures,
        signatures
        if (body := get(ExtensionType.SIGNATURE_ALGORITHMS_CERT)) is None
        else parse_u16_vector_untrusted(body),
        () if (body := get(ExtensionType.CERTIFICATE_AUTHORITIES)) is None else parse_authorities_untrusted(body),
        () if (body := get(ExtensionType.ALPN)) is None else parse_alpn_untrusted(body),
        psk_dhe_ke,
        psks,
        b"" if (body := get(ExtensionType.COOKIE)) is None else parse_cookie_untrusted(body),
        None if limit is None else _send_limit(parse_u16_untrusted(limit)),
    )


def _check_present(extensions: Extensions) -> None:
    """RFC 8446 §9.2."""
    if ExtensionType.PRE_SHARED_KEY not in extensions and not (
        ExtensionType.SIGNATURE_ALGORITHMS in extensions and ExtensionType.SUPPORTED_GROUPS in extensions
    ):
        raise misbehaved(
            Reason.MISSING_EXTENSION, "a client_hello without signature_algorithms or supported_groups", "9.2"
        )
    if (ExtensionType.SUPPORTED_GROUPS in extensions) != (ExtensionType.KEY_SHARE in extensions):
        raise misbehaved(Reason.MISSING_EXTENSION, "supported_groups and key_share come together", "9.2")


def _check_shares(groups: tuple[int, ...], shares: tuple[KeyShareEntry, ...]) -> None:
    """RFC 8446 §4.2.8. Sets: a hello has room for 13,000 shares and 32,000 groups, and nobody is authenticated yet."""
    offered, seen = frozenset(groups), set()
    for entry in shares:
        if entry.group in seen or entry.group not in offered:
            raise illegal(f"the key share for group 0x{entry.group:04x} comes twice or is not of its groups", "4.2.8")
        seen.add(entry.group)


def _send_limit(size: int) -> int:
    """RFC 8449 §4: above the protocol's own limit the client means other versions."""
    if size < MIN_RECORD_SIZE_LIMIT:
        raise illegal(f"record_size_limit of {size} (RFC 8449 §4)", "4.2")
    return min(MAX_INNER_PLAINTEXT, size)


def _read_psks(extensions: Extensions) -> tuple[bool, OfferedPsks | None]:
    modes = extensions.get(ExtensionType.PSK_KEY_EXCHANGE_MODES)
    dhe = modes is not None and PskKeyExchangeMode.PSK_DHE_KE in parse_psk_modes_untrusted(modes)
    body = extensions.get(ExtensionType.PRE_SHARED_KEY)
    if body is None:
        return dhe, None
    if modes is None:
        raise misbehaved(Reason.MISSING_EXTENSION, "pre_shared_key without psk_key_exchange_modes", "4.2.9")
    if next(reversed(extensions)) != ExtensionType.PRE_SHARED_KEY:
        raise illegal("pre_shared_key is not the last extension", "4.2.11")
    psks = parse_offered_psks_untrusted(body)
    if len(psks.identities) != len(psks.binders):
        raise illegal("pre_shared_key has not one binder for each identity", "4.2.11")
    return dhe, psks


def check_retried(first: HelloFacts, second: HelloFacts, group: int, cookie: bytes) -> bytes:
    """The client's share in its second ClientHello, if that answers our HelloRetryRequest (RFC 8446 §4.1.2)."""
    a, b = first.hello, second.hello
    if (a.random, a.session_id, a.cipher_suites) != (b.random, b.session_id, b.cipher_suites):
        raise illegal("the second client_hello differs from the first", "4.1.2")
    for kind in _UNCHANGED:
        if a.extensions.get(kind) != b.extensions.get(kind):
            raise illegal(f"extension {kind} differs in the second client_hello", "4.1.2")
    if second.early_data:
        raise illegal("early_data after a hello_retry_request", "4.2.10")
    if second.cookie != cookie:
        raise illegal("the cookie of the hello_retry_request did not come back", "4.2.2")
    if len(second.shares) != 1 or second.shares[0].group != group:
        raise illegal("the second client_hello has not the one key share that was asked for", "4.2.8")
    return second.shares[0].key_exchange


def common_suites(options: TlsOptions, facts: HelloFacts) -> tuple[CipherSuite, ...]:
    """Our cipher suites that the client offers, in our order; never empty."""
    offered = facts.hello.cipher_suites
    suites = tuple([suite for suite in options.ciphersuites if suite.code in offered])
    if not suites:
        raise incompatible(Reason.NO_COMMON_CIPHERSUITE, "the client offers none of our cipher suites", "4.1.1")
    return suites


def select_group(options: TlsOptions, facts: HelloFacts) -> tuple[Group, bytes | None]:
    """Our first group with a share of the client, or our first common group and None: it must be asked for."""
    for group in options.groups:
        for entry in facts.shares:
            if entry.group == group:
                return group, entry.key_exchange
    for group in options.groups:
        if group in facts.groups:
            return group, None
    raise incompatible(Reason.NO_COMMON_GROUP, "the client supports none of our groups", "4.1.1")


def select_alpn(ours: tuple[str, ...], facts: HelloFacts) -> str | None:
    """Our first protocol that the client offers; None where one side names none (RFC 7301 §3.2)."""
    if not ours or not facts.alpn:
        return None
    for name in ours:
        if name.encode() in facts.alpn:
            return name
    raise incompatible(
        Reason.NO_COMMON_APPLICATION_PROTOCOL, "the client offers none of our application protocols", "4.2"
    )


def require_certificate_offer(facts: HelloFacts) -> None:
    """A client that is to be shown a certificate says what signatures it can check (RFC 8446 §4.2.3)."""
    if not facts.signature_algorithms:
        raise misbehaved(Reason.MISSING_EXTENSION, "a client_hello without signature_algorithms", "4.2.3")
