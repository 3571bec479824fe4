"""What a TLS handshake is given: options that users set, and the configuration of one client or server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from enum import Enum, IntEnum
from typing import Any, TypeVar

from taps_security.crypto import agreement
from taps_security.crypto.agreement import Group, PrivateShare
from taps_security.crypto.signature import SignatureScheme
from taps_security.stack.errors import ConfigurationError
from taps_security.stack.frozen import frozen

from .extensions import encode_u16_vector
from .keys import CIPHER_SUITES, TLS13_PREFIX, CipherSuite
from .limits import MAX_HANDSHAKE_MESSAGE, MAX_INNER_PLAINTEXT, MAX_TICKET_LIFETIME, MIN_RECORD_SIZE_LIMIT
from .psk import ExternalPsk
from .tickets import Session, TicketKeys

__all__ = [
    "ClientAuthentication",
    "ClientConfiguration",
    "KeyLog",
    "Random",
    "ServerConfiguration",
    "TlsOptions",
    "WallClock",
]

Random = Callable[[int], bytes]
WallClock = Callable[[], float]
KeyLog = Callable[[str], None]  # `LABEL CLIENT_RANDOM SECRET`, the latter two in hex (RFC 9850)

_Member = TypeVar("_Member", bound=IntEnum)

DEFAULT_GROUPS = (
    Group.X25519,
    Group.X25519MLKEM768,
    Group.SECP256R1,
    Group.SECP384R1,
    Group.SECP521R1,
    Group.X448,
)
DEFAULT_SIGNATURE_ALGORITHMS = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ED25519,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_PSS_SHA256,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.ECDSA_SECP521R1_SHA512,
    SignatureScheme.ED448,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
    SignatureScheme.RSA_PSS_PSS_SHA384,
    SignatureScheme.RSA_PSS_PSS_SHA512,
)
# What a certificate may be signed with; RSASSA-PKCS1-v1_5 counts there alone (RFC 8446 §4.2.3).
CERTIFICATE_SIGNATURES = (
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.RSA_PKCS1_SHA512,
)


class ClientAuthentication(Enum):
    """Whether a server asks its clients for a certificate."""

    NONE = "none"
    REQUEST = "request"
    REQUIRE = "require"


# ---------------------------------------------------------------------------------------------------------- checking
def _plain(name: str) -> str:
    return name.upper().replace("-", "").replace("_", "")


def _members(option: str, values: Iterable[Any], kind: type[_Member]) -> tuple[_Member, ...]:
    by_name = {_plain(member.name): member for member in kind}
    expected = f"expected names out of {', '.join(member.name for member in kind)}"
    found: list[_Member] = []
    for value in values:
        member = value if isinstance(value, kind) else by_name.get(_plain(value)) if isinstance(value, str) else None
        if member is None:
            raise ConfigurationError(f"tls.{option}: {value!r} is not known; {expected}")
        if member in found:
            raise ConfigurationError(f"tls.{option}: {member.name} comes twice")
        found.append(member)
    if not found:
        raise ConfigurationError(f"tls.{option}: it is empty; {expected}")
    return tuple(found)


def _suites(values: Iterable[Any]) -> tuple[CipherSuite, ...]:
    by_name = {_plain(suite.name): suite for suite in CIPHER_SUITES.values()}
    expected = f"expected names out of {', '.join(suite.name for suite in CIPHER_SUITES.values())}"
    found: list[CipherSuite] = []
    for value in values:
        suite = by_name.get(_plain(value)) if isinstance(value, str) else value
        suite = suite if isinstance(suite, CipherSuite) else None
        if suite is None:
            raise ConfigurationError(f"tls.ciphersuites: {value!r} is not known; {expected}")
        if suite in found:
            raise ConfigurationError(f"tls.ciphersuites: {suite.name} comes twice")
        found.append(suite)
    if not found:
        raise ConfigurationError(f"tls.ciphersuites: it is empty; {expected}")
    return tuple(found)


def _range(option: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigurationError(f"tls.{option}: a whole number from {low} to {high} is expected, not {value!r}")


# ----------------------------------------------------------------------------------------------------------- options
@frozen(kw_only=True)
class TlsOptions:
    """What users may set for TLS, for both roles. Members may be given by name. Raises ConfigurationError.

    `groups`, `ciphersuites`, `signature_algorithms`: preferred first. `key_shares`: for which groups a client sends a
    share at once; empty: the first group, and with a hybrid first the next one too. `record_size_limit`: the largest
    inner plaintext in octets that we take (RFC 8449). `padding`: inner plaintexts grow to a multiple of it; 0: none.
    `tickets`: how many a server sends after a full handshake; `ticket_lifetime` in seconds. `retry_cookie`: a server
    puts a cookie into its HelloRetryRequest; it keeps its state all the same, as TCP has shown the address already.
    `records_per_key`: update a sending key after so many records; 0: when its cipher asks for it (RFC 8446 §5.5).
    `import_psk`: external keys go through the importer (RFC 9258), which both sides must agree on.
    `max_handshake_message` in octets.
    """

    versions: tuple[str, ...] = ("1.3",)
    groups: tuple[Group, ...] = DEFAULT_GROUPS
    key_shares: tuple[Group, ...] = ()
    ciphersuites: tuple[CipherSuite, ...] = tuple(CIPHER_SUITES.values())
    signature_algorithms: tuple[SignatureScheme, ...] = DEFAULT_SIGNATURE_ALGORITHMS
    record_size_limit: int = MAX_INNER_PLAINTEXT
    padding: int = 0
    tickets: int = 2
    ticket_lifetime: int = 7200
    middlebox_compatibility: bool = True
    retry_cookie: bool = False
    records_per_key: int = 0
    import_psk: bool = True
    max_handshake_message: int = MAX_HANDSHAKE_MESSAGE
    suites_by_code: dict[int, CipherSuite] = field(init=False, repr=False, compare=False)
    groups_octets: bytes = field(init=False, repr=False, compare=False)
    signature_octets: bytes = field(init=False, repr=False, compare=False)
    certificate_signature_octets: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        if tuple(self.versions) != ("1.3",):
            raise ConfigurationError(f"tls.versions: only '1.3' is known, not {self.versions!r}")
        put(self, "groups", _members("groups", self.groups, Group))
        put(self, "ciphersuites", _suites(self.ciphersuites))
        schemes = _members("signature_algorithms", self.signature_algorithms, SignatureScheme)
        if refused := [scheme.name for scheme in schemes if scheme in CERTIFICATE_SIGNATURES]:
            raise ConfigurationError(f"tls.signature_algorithms: {refused[0]} is not for TLS 1.3 handshakes")
        put(self, "signature_algorithms", schemes)
        shares = _members("key_shares", self.key_shares, Group) if self.key_shares else self._default_shares()
        if any(group not in self.groups for group in shares):
            raise ConfigurationError("tls.key_shares: each of them must be one of tls.groups")
        put(self, "key_shares", tuple(group for group in self.groups if group in shares))
        _range("record_size_limit", self.record_size_limit, MIN_RECORD_SIZE_LIMIT, MAX_INNER_PLAINTEXT)
        _range("padding", self.padding, 0, MAX_INNER_PLAINTEXT)
        _range("tickets", self.tickets, 0, 16)
        _range("ticket_lifetime", self.ticket_lifetime, 1, MAX_TICKET_LIFETIME)
        _range("records_per_key", self.records_per_key, 0, 1 << 40)
        _range("max_handshake_message", self.max_handshake_message, 4096, (1 << 24) - 1)
        put(self, "suites_by_code", {suite.code: suite for suite in self.ciphersuites})
        put(self, "groups_octets", encode_u16_vector(self.groups))
        put(self, "signature_octets", encode_u16_vector(schemes))
        put(self, "certificate_signature_octets", encode_u16_vector((*schemes, *CERTIFICATE_SIGNATURES)))

    def _default_shares(self) -> tuple[Group, ...]:
        if self.groups[0] is Group.X25519MLKEM768:
            return self.groups[:2]
        return self.groups[:1]


DEFAULT_OPTIONS = TlsOptions()


# ----------------------------------------------------------------------------------------------------- configuration
def _check_alpn(alpn: tuple[str, ...]) -> None:
    for name in alpn:
        if not 1 <= len(name.encode()) <= 255:
            raise ConfigurationError(f"alpn: names of 1 to 255 octets are expected, not {name!r}")
    if len(alpn) > 256 or len(set(alpn)) != len(alpn):
        raise ConfigurationError("alpn: at most 256 names are expected, each once")


def is_host_name(name: str) -> bool:
    """Whether `name` may stand in server_name: addresses may not (RFC 6066 §3)."""
    letters = name.replace(".", "")
    return bool(letters) and ":" not in name and not letters.isdigit()


@frozen(kw_only=True)
class ClientConfiguration:
    """Everything that one client handshake needs.

    `server_name`: whom we mean, a host name (A-labels) or an address; empty: nobody in particular. `session`: one to
    resume. `psks`: external keys, preferred first. `extensions`: (type, body) pairs for the ClientHello beside ours,
    or in place of ours, where None leaves ours out; `retry_extensions`: pairs that only a second ClientHello has
    (padding, RFC 8446 §4.1.2); `extension_order`: types that come first. `generate_share` makes the private shares.
    `label_prefix` is that of HKDF-Expand-Label (DTLS has its own). `require_mutual_authentication`,
    `require_pre_shared_key`: the handshake ends unless we proved who we are, or unless one of `psks` took part; a
    session counts as the handshake that it comes from.
    """

    server_name: str = ""
    alpn: tuple[str, ...] = ()
    options: TlsOptions = DEFAULT_OPTIONS
    session: Session | None = None
    psks: tuple[ExternalPsk, ...] = ()
    require_mutual_authentication: bool = False
    require_pre_shared_key: bool = False
    random: Random
    wall_clock: WallClock
    key_log: KeyLog | None = None
    extensions: tuple[tuple[int, bytes | None], ...] = ()
    retry_extensions: tuple[tuple[int, bytes], ...] = ()
    extension_order: tuple[int, ...] = ()
    generate_share: Callable[[Group, Random], PrivateShare] = agreement.generate
    label_prefix: bytes = TLS13_PREFIX

    def __post_init__(self) -> None:
        _check_alpn(self.alpn)
        if not self.server_name.isascii() or len(self.server_name) > 255:
            expected = "at most 255 characters of ASCII (A-labels, 'xn--...') are expected"
            raise ConfigurationError(f"server_name: {expected}, not {self.server_name!r}")


@frozen(kw_only=True)
class ServerConfiguration:
    """Everything that the server handshakes of one listener need.

    `ticket_keys`: for stateless tickets. `stateful_sessions`: each ticket is a random name; SessionReady carries the
    ServerSession to store, and FindSession asks for it. Neither: no tickets. `external_psks`: unknown identities are
    asked for (FindPsk). `certificates`: False where only PSKs authenticate. `authorities`: distinguished names in DER
    for certificate_authorities. `extensions`: (type, body) pairs for EncryptedExtensions, sent to clients that
    offered the type. `respond` makes our share and the shared secret.
    """

    alpn: tuple[str, ...] = ()
    options: TlsOptions = DEFAULT_OPTIONS
    client_authentication: ClientAuthentication = ClientAuthentication.NONE
    authorities: tuple[bytes, ...] = ()
    ticket_keys: TicketKeys | None = None
    stateful_sessions: bool = False
    external_psks: bool = False
    certificates: bool = True
    random: Random
    wall_clock: WallClock
    key_log: KeyLog | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()
    extension_order: tuple[int, ...] = ()
    respond: Callable[[Group, bytes, Random], tuple[bytes, bytes]] = agreement.respond
    label_prefix: bytes = TLS13_PREFIX

    def __post_init__(self) -> None:
        _check_alpn(self.alpn)
        if self.ticket_keys is not None and self.stateful_sessions:
            raise ConfigurationError("tickets are stateless (ticket_keys) or stateful (stateful_sessions), not both")
        if sum(map(len, self.authorities)) > 32_768:
            raise ConfigurationError("authorities: at most 32768 octets of names are expected")
        if not self.certificates and not self.external_psks:
            raise ConfigurationError("a server needs certificates, pre-shared keys, or both")
