"""Which protocols there are, and what each says of itself. One line per protocol; rooms load when they are asked for.

A room's `__init__` holds `DESCRIPTOR`. Nothing above `protocols/` asks for a protocol by its name to treat it
differently: what differs stands in the descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from enum import Enum
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..properties.endpoints import LocalEndpoint, RemoteEndpoint
from ..properties.preference import Preference
from ..properties.security import Role, SecurityParameters
from ..properties.store import Store
from ..properties.transport import TransportProperties
from ..properties.words import closest, listed, refuse
from ..stack.errors import ConfigurationError
from ..stack.frozen import frozen

if TYPE_CHECKING:
    from ..stack.screening import DatagramScreener, StreamScreener
    from ..stack.stack import SecurityStack
    from ..stack.tunnel import TunnelEngine

_ROOMS: dict[str, str] = {
    "tls": "taps_security.protocols.tls",
    "wireguard": "taps_security.protocols.wireguard",
    "curvecp": "taps_security.protocols.curvecp",
}


# ------------------------------------------------------------------------------------------------------- vocabulary
class Shape(Enum):
    """What goes in and what comes out (RFC 8922 §3)."""

    STREAM_TO_STREAM = "stream to stream"
    DATAGRAM_TO_DATAGRAM = "datagram to datagram"
    STREAM_TO_DATAGRAM = "stream to datagram"


class Interface(Enum):
    """RFC 8922 §5's interfaces, by the letters of its Table 1."""

    IPK = "identities and private keys"
    ALG = "algorithms"
    EXT = "extensions"
    CM = "session cache management"
    AD = "authentication delegation"
    PSKI = "pre-shared key import"
    IV = "identity validation"
    SAV = "source address validation"
    CT = "connection termination"
    KU = "key update"
    SSKE = "shared secret key export"
    KE = "key expiration"
    ME = "mobility events"


class Provided(NamedTuple):
    """Whether a property holds, and why."""

    value: bool
    reason: str = ""


Provides: TypeAlias = Mapping[str, Provided]
Carrier: TypeAlias = Literal["tcp", "udp"]


@frozen(kw_only=True)
class Environment:
    """What engines are given instead of a clock and an entropy source of their own.

    `random`: octets of that number. `wall_clock`: unix seconds. `key_log`: takes one whole line of a key log file,
    without its end, as Wireshark reads it for that protocol. `store`: what survives a restart; None: in memory only.
    """

    random: Callable[[int], bytes] = field(repr=False)
    wall_clock: Callable[[], float] = field(repr=False)
    key_log: Callable[[str], None] | None = field(default=None, repr=False)
    store: Store | None = field(default=None, repr=False)


@frozen(kw_only=True)
class ClientRequest:
    """A stack wanted towards `endpoint` (a resolved address). `server_name`: whom we mean. `session`: one to resume."""

    version: str
    security: SecurityParameters
    transport: TransportProperties
    endpoint: RemoteEndpoint
    server_name: str
    environment: Environment
    session: object | None = field(default=None, repr=False)


@frozen(kw_only=True)
class ServerRequest:
    """A screener wanted for a listening endpoint, which speaks `versions` (preferred first)."""

    versions: tuple[str, ...]
    security: SecurityParameters
    transport: TransportProperties
    endpoint: LocalEndpoint
    environment: Environment


@frozen(kw_only=True)
class TunnelRequest:
    """The local end of packet stacks wanted. Who the peers are, and our own addresses, stand in the options."""

    version: str
    security: SecurityParameters
    transport: TransportProperties
    environment: Environment


class Overrides(NamedTuple):
    """Static keys and a name that were given apart from a protocol's options, and that take the place of theirs.

    `private_key`: ours, 32 octets. `peer_key`: the peer's public one, as it was written. None: not given.
    """

    private_key: bytes | None = None
    peer_key: str | None = None
    server_name: str | None = None


# -------------------------------------------------------------------------------------------------------- descriptor
@frozen(kw_only=True)
class Descriptor:
    """What a protocol says of itself.

    `versions`: preferred first. `labels`: the interfaces of RFC 8922 that it exposes; `deviations`: where that differs
    from the RFC's Table 1, the reason for each. `options`: the type of `SecurityParameters.options[name]`, which in
    requests is one object or absent.

    `provides(version, security, transport, role)`: for each property of RFC 9622 §6.2 and each security feature,
    whether a stack so configured has it; what is missing is not provided. A feature that can be left out (resumption,
    say) is answered by what was asked: a prohibited one is not provided. `credentials(security, role)`: what is
    missing, in words, or None; `named(host name)`: whether a peer's name itself holds what a client misses.

    `client` and `screener` raise ConfigurationError for options that do not fit; a protocol that carries inner packets
    has `tunnel` in their place, and endpoints are addresses inside it. `claims`: what the datagrams that no route
    claims begin with; protocols whose claims do not overlap may share a port. `restore`: a client's session from the
    octets that its `serialise()` gave, ConfigurationError; None: it cannot be saved.

    `from_table(table, private key)`: options from the protocol's table in a profile, whose keys are not the fields of
    `options`; ConfigurationError begins with the key. `paths`: keys of the table whose values are names of files.
    `overridden(options, overrides)`: options, or None where there were none, with what was given apart from them;
    None: nothing can be given apart. ConfigurationError tells what was expected behind its first colon.

    `formats`: by the end of a file's name, what reads files of other programs: (text, private key) -> options, and the
    names of what the file says in vain. The private key stands apart in a file of its own; None: there is none, and
    without need of one nobody asks.
    """

    name: str
    versions: tuple[str, ...]
    shape: Shape
    carrier: Carrier
    labels: frozenset[Interface]
    provides: Callable[[str, SecurityParameters, TransportProperties, Role], Provides]
    credentials: Callable[[SecurityParameters, Role], str | None]
    client: Callable[[ClientRequest], SecurityStack] | None = None
    screener: Callable[[ServerRequest], StreamScreener | DatagramScreener] | None = None
    tunnel: Callable[[TunnelRequest], TunnelEngine] | None = None
    claims: tuple[bytes, ...] = (b"",)
    options: type | None = None
    named: Callable[[str], bool] | None = None
    restore: Callable[[bytes], object] | None = None
    from_table: Callable[[Mapping[str, Any], bytes | None], object] | None = None
    paths: frozenset[str] = frozenset()
    overridden: Callable[[Any, Overrides], object] | None = None
    formats: Mapping[str, Callable[[str, bytes | None], tuple[object, Sequence[str]]]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    deviations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def optional(wish: Preference, reason: str = "") -> Provided:
    """A property that a stack can have or leave: had unless it is avoided or prohibited."""
    if wish in {Preference.AVOID, Preference.PROHIBIT}:
        return Provided(False, f"left out: {wish.word}")
    return Provided(True, reason)


def byte_stream_provides(transport: TransportProperties) -> dict[str, Provided]:
    """The selection properties of every stack whose carrier is a TCP connection (RFC 9623 §10.1)."""
    yes, keep_alive = Provided(True, "TCP"), transport.preference("keep_alive")
    wanted = keep_alive > 0 or (keep_alive == 0 and transport.keep_alive_timeout is not None)
    return {
        "reliability": yes,
        "preserve_order": yes,
        "congestion_control": yes,
        "full_checksum_send": yes,
        "full_checksum_recv": yes,
        "keep_alive": Provided(wanted, "TCP keep-alive" if wanted else "not asked for"),
        "active_read_before_send": yes,
        "preserve_msg_boundaries": Provided(False, "a byte stream has no messages"),
        "per_msg_reliability": Provided(False, "a byte stream is reliable as a whole"),
        "multistreaming": Provided(False, "one stream per TCP connection"),
        "zero_rtt_msg": Provided(False, "no data goes before the handshake"),
        "soft_error_notify": Provided(False, "TCP tells no soft errors"),
    }


# ---------------------------------------------------------------------------------------------------------- registry
_registered: dict[str, Descriptor] = {}


class Registration:
    """A protocol that was registered at run time; leaving the `with` block, or `withdraw()`, takes it out again."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor

    def withdraw(self) -> None:
        """Take the protocol out again; once is enough."""
        if _registered.get(self.descriptor.name) is self.descriptor:
            del _registered[self.descriptor.name]

    def __enter__(self) -> Descriptor:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        self.withdraw()


def register(protocol: Descriptor) -> Registration:
    """Add a protocol from outside this package. ConfigurationError if the name is taken."""
    if protocol.name in _ROOMS or protocol.name in _registered:
        raise ConfigurationError(f"register(): there is a protocol {protocol.name!r} already")
    _registered[protocol.name] = protocol
    return Registration(protocol)


def names() -> tuple[str, ...]:
    """The names of all protocols, without loading any."""
    return (*_ROOMS, *_registered)


def descriptor(name: str) -> Descriptor:
    """What the protocol of that name says of itself. ConfigurationError if there is none."""
    if name in _registered:
        return _registered[name]
    if name not in _ROOMS:
        refuse("stack", name, f"one of {listed(names())}{closest(name, names())}")
    found: Descriptor = import_module(_ROOMS[name]).DESCRIPTOR
    return found


def allowed(stacks: tuple[str, ...]) -> Iterator[tuple[Descriptor, str]]:
    """The protocols and versions that `stacks` ("tls", "tls/1.3") lets in, in that order; all if it is empty.

    ConfigurationError for an unknown name or version.
    """
    seen: set[tuple[str, str]] = set()
    for wanted in stacks or names():
        name, slash, version = wanted.partition("/")
        found = descriptor(name)
        if slash and version not in found.versions:
            refuse("stack", wanted, f"{name} in version {listed(found.versions)}")
        for one in (version,) if slash else found.versions:
            if (name, one) not in seen:
                seen.add((name, one))
                yield found, one


def configurations(protocol: Descriptor, security: SecurityParameters) -> tuple[SecurityParameters, ...]:
    """One for each of the protocol's options that were given: a list of options makes several candidates.

    In each, `options[name]` is a single object, or absent. ConfigurationError if one is of another type.
    """
    if protocol.name not in security.options:
        return (security,)
    given = security.options[protocol.name]
    several = tuple(given) if isinstance(given, list | tuple) else (given,)
    for one in several:
        if protocol.options is None or not isinstance(one, protocol.options):
            expected = protocol.options.__name__ if protocol.options is not None else "none: it has no options"
            refuse(f"options[{protocol.name!r}]", one, expected)
    if not several:
        refuse(f"options[{protocol.name!r}]", given, "at least one")
    return tuple(security.replace(options={**security.options, protocol.name: one}) for one in several)


def options_of(protocol: Descriptor, security: SecurityParameters) -> object | None:
    """The options for a protocol in one configuration, or None where none were given."""
    return security.options.get(protocol.name)
