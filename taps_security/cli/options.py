"""What the options and the profile say together, as properties and security parameters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from ..connection.stores import FileStore
from ..observe.keylog import KeyLogFile
from ..properties.credentials import Identity, PreSharedKey
from ..properties.endpoints import LocalEndpoint, RemoteEndpoint
from ..properties.features import SECURITY_FEATURES
from ..properties.preference import Preference
from ..properties.security import Role, SecurityParameters
from ..properties.transport import TransportProperties
from ..properties.words import closest, listed, normal, refuse
from ..protocols import registry
from ..stack.errors import ConfigurationError
from .errors import quiet_loop, say
from .profile import Profile, endpoint, load, read_static_key, trust_of

_T = TypeVar("_T")
_WORDS = ("require", "prefer", "avoid", "prohibit")
_CREDENTIALS = "Credentials"
_SELECTION = "Which stacks may serve"
_GENERAL = "Everywhere"


# ---------------------------------------------------------------------------------------------------------- options
@dataclass(slots=True)
class Credentials:
    """Who we are, and whom we trust."""

    identity: Annotated[
        list[Path], typer.Option(metavar="CERT", help="Our certificate chain (PEM).", rich_help_panel=_CREDENTIALS)
    ] = field(default_factory=list)
    key: Annotated[
        list[Path],
        typer.Option(metavar="KEY", help="Its private key; default: in the same file.", rich_help_panel=_CREDENTIALS),
    ] = field(default_factory=list)
    key_password: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            envvar="TAPS_KEY_PASSWORD",
            help="What the private key is encrypted with.",
            rich_help_panel=_CREDENTIALS,
        ),
    ] = None
    trust: Annotated[
        list[str],
        typer.Option(metavar="CA", help="A file of trusted certificates, or 'system'.", rich_help_panel=_CREDENTIALS),
    ] = field(default_factory=list)
    pin: Annotated[
        list[str],
        typer.Option(metavar="SHA256", help="The peer's certificate or public key.", rich_help_panel=_CREDENTIALS),
    ] = field(default_factory=list)
    psk: Annotated[
        list[str],
        typer.Option(metavar="IDENTITY:BASE64", help="A pre-shared key.", rich_help_panel=_CREDENTIALS),
    ] = field(default_factory=list)
    alpn: Annotated[
        list[str],
        typer.Option(metavar="P", help="Application protocols, preferred first.", rich_help_panel=_CREDENTIALS),
    ] = field(default_factory=list)
    static_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Our private key, or a folder of `taps keygen curvecp`, in place of the profile's.",
            rich_help_panel=_CREDENTIALS,
        ),
    ] = None
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep there what must survive a restart, so that nothing old is taken for new.",
            rich_help_panel=_CREDENTIALS,
        ),
    ] = None
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="All of this from a file: TOML, or as wg-quick has it (.conf).",
            rich_help_panel=_CREDENTIALS,
        ),
    ] = None


@dataclass(slots=True)
class Selection:
    """What is wanted of the stacks."""

    stack: Annotated[
        list[str],
        typer.Option(metavar="NAME[/VERSION]", help="Only this protocol.", rich_help_panel=_SELECTION),
    ] = field(default_factory=list)
    require: Annotated[
        list[str], typer.Option(metavar="P", help="A property it must have.", rich_help_panel=_SELECTION)
    ] = field(default_factory=list)
    prefer: Annotated[
        list[str], typer.Option(metavar="P", help="A property it should have.", rich_help_panel=_SELECTION)
    ] = field(default_factory=list)
    avoid: Annotated[
        list[str], typer.Option(metavar="P", help="A property it should not have.", rich_help_panel=_SELECTION)
    ] = field(default_factory=list)
    prohibit: Annotated[
        list[str], typer.Option(metavar="P", help="A property it must not have.", rich_help_panel=_SELECTION)
    ] = field(default_factory=list)

    def imply(self, name: str) -> None:
        """Require a property about which nothing was said."""
        known = TransportProperties()
        words = [each for word in _WORDS for each in getattr(self, word) if known.has(each)]
        if name not in map(TransportProperties.canonical, words):
            self.require = [*self.require, name]


@dataclass(slots=True)
class Peer:
    """Of those who connect: whom they mean."""

    server_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whom we mean, if not HOST.", rich_help_panel=_CREDENTIALS),
    ] = None
    peer_key: Annotated[
        str | None,
        typer.Option(metavar="BASE64", help="Its public key.", rich_help_panel=_CREDENTIALS),
    ] = None


@dataclass(slots=True)
class General:
    """What every command that talks has."""

    keylog: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append secrets, as Wireshark reads them.", rich_help_panel=_GENERAL),
    ] = None
    loop: Annotated[
        Literal["asyncio", "uvloop"] | None,
        typer.Option(help="The event loop; default: uvloop where it is installed.", rich_help_panel=_GENERAL),
    ] = None
    verbose: Annotated[bool, typer.Option("--verbose", help="More about errors.", rich_help_panel=_GENERAL)] = False

    def run(self, work: Callable[[], Coroutine[Any, Any, _T]], *, exact: bool = False) -> _T:
        """Run `work` on the chosen loop, with `exact` by default on the one whose clock has more than milliseconds.

        KeyboardInterrupt when the user interrupts.
        """
        choice = "asyncio" if exact and self.loop is None else self.loop
        with asyncio.Runner(loop_factory=_loop_factory(choice)) as runner:
            quiet_loop(runner.get_loop(), verbose=self.verbose)
            return runner.run(work())

    def key_log(self) -> KeyLogFile | None:
        """The key log, opened. ConfigurationError if that fails."""
        if self.keylog is None:
            return None
        try:
            return KeyLogFile(self.keylog)
        except OSError as error:
            raise ConfigurationError(f"--keylog: cannot write {str(self.keylog)!r}: {error.strerror}") from None


def _loop_factory(choice: str | None) -> Callable[[], asyncio.AbstractEventLoop]:
    if choice != "asyncio":
        try:
            from uvloop import new_event_loop  # noqa: PLC0415 -- only where it is wanted
        except ModuleNotFoundError:
            if choice is not None:
                raise ConfigurationError("--loop: uvloop is not installed: pip install uvloop") from None
        else:
            return new_event_loop
    return asyncio.new_event_loop


# ---------------------------------------------------------------------------------------------------------- meaning
@dataclass(frozen=True, slots=True)
class Declared:
    """What options and profile mean."""

    security: SecurityParameters
    transport: TransportProperties
    profile: Profile
    said: frozenset[str]  # transport properties that were named

    def as_json(self) -> dict[str, Any]:
        """`declared`, as the command prints it."""
        return declared_json(self.security, self.transport, self.said)


def declare(
    credentials: Credentials, selection: Selection, role: Role, peer: Peer | None = None, **more: Any
) -> Declared:
    """Options win over the profile. `more`: further arguments for SecurityParameters. ConfigurationError."""
    peer = peer or Peer()
    static_key = _static_key(credentials)
    profile = _profile(credentials, static_key)
    security = {**profile.security, **_credentials(credentials), **more}
    if peer.server_name is not None:
        security["server_name"] = peer.server_name
    if selection.stack:
        security["stacks"] = tuple(dict.fromkeys(selection.stack))
    _override(security, credentials, profile, static_key, peer)
    transport = dict(profile.transport)
    words: dict[str, str] = {}
    for word in _WORDS:
        for name in getattr(selection, word):
            if words.setdefault(normal(name), word) != word:
                raise ConfigurationError(f"--{word}: {name!r} was given to --{words[normal(name)]} too, expected once")
            _prefer(name, word, security, transport)
    made = SecurityParameters(**security)
    said = frozenset(transport)
    return Declared(made, relaxed(made, TransportProperties(**transport), said, role), profile, said)


def _static_key(given: Credentials) -> bytes | None:
    if given.static_key is None:
        return None
    try:
        return read_static_key(given.static_key)
    except ConfigurationError as error:
        raise ConfigurationError(f"--static-key: {error.message}") from None


def _profile(given: Credentials, static_key: bytes | None) -> Profile:
    if given.profile is None:
        return Profile()
    profile = load(given.profile, static_key)
    if profile.in_vain:
        say(f"{given.profile}: not honoured: {', '.join(profile.in_vain)}")
    return profile


def _override(security: dict[str, Any], given: Credentials, profile: Profile, key: bytes | None, peer: Peer) -> None:
    """Give what stands apart to the protocols that take it.

    A private key is for those that have options or are named; without a profile, for all.
    """
    stacks = tuple(security.get("stacks", ()))
    allowed = {protocol.name: protocol for protocol, _ in registry.allowed(stacks)}
    options = dict(security.get("options", {}))
    wanted = bool(stacks) or given.profile is None
    taken = False
    for name, protocol in allowed.items():
        if protocol.overridden is None:
            continue
        taken, own = True, options.get(name)
        apart = registry.Overrides(
            private_key=_apart(key, profile, own, wanted=wanted),
            peer_key=peer.peer_key or profile.peer_key,
            server_name=None if own is None else peer.server_name,
        )
        if any(part is not None for part in apart):
            try:
                options[name] = protocol.overridden(own, apart)
            except ConfigurationError as error:
                place = "--peer-key" if peer.peer_key is not None else f"{given.profile}: [remote] peer_key"
                raise ConfigurationError(f"{place}: {error.message.partition(': ')[2]}") from None
    if options:
        security["options"] = options
    names = listed(allowed)
    if not taken and peer.peer_key is not None:
        raise ConfigurationError(f"--peer-key: one was given, expected none for {names}")
    if not taken and key is not None and given.profile is None:
        raise ConfigurationError(f"--static-key: no --profile was given, expected the one that says what {names} needs")


def _apart(key: bytes | None, profile: Profile, own: object | None, *, wanted: bool) -> bytes | None:
    """The private key for a protocol with options of its `own`, which know the profile's key, or without."""
    if own is not None:
        return key
    if not wanted:
        return None
    return profile.static_key if key is None else key


def _credentials(given: Credentials) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if given.key and len(given.key) != len(given.identity):
        raise ConfigurationError(
            f"--key: {len(given.key)} given for {len(given.identity)} --identity, expected one for each"
        )
    if given.identity:
        pairs = zip(given.identity, given.key or given.identity, strict=True)
        found["identities"] = tuple(Identity.file(cert, key, password=given.key_password) for cert, key in pairs)
    if given.trust:
        found["trust"] = trust_of(given.trust)
    if given.pin:
        found["pins"] = given.pin
    if given.psk:
        found["psks"] = tuple(PreSharedKey.parse(words) for words in given.psk)
    if given.alpn:
        found["alpn"] = given.alpn
    if given.store is not None:
        try:
            found["store"] = FileStore(given.store)
        except ConfigurationError as error:
            raise ConfigurationError(f"--store: {error.message.removeprefix('FileStore: ')}") from None
    return found


def _prefer(name: str, word: str, security: dict[str, Any], transport: dict[str, Any]) -> None:
    """Put one `--require P` where P belongs: among the security features or the transport properties."""
    feature = normal(name)
    if feature in SECURITY_FEATURES:
        for other in _WORDS:
            if other != word:
                security[other] = frozenset(security.get(other, ())) - {feature}
        security[word] = frozenset(security.get(word, ())) | {feature}
        return
    properties = TransportProperties.preferences()
    for known in properties:
        if TransportProperties().has(name) and TransportProperties.canonical(name) == known:
            transport[known] = word
            return
    everything = [*SECURITY_FEATURES, *properties]
    refuse(f"--{word}", name, f"one of {listed(everything)}{closest(feature, everything)}")


def relaxed(
    security: SecurityParameters, transport: TransportProperties, said: frozenset[str], role: Role
) -> TransportProperties:
    """A protocol that was named drops those defaults of the transport properties that contradict it.

    Only where no allowed stack has a property, and nobody named the property, is it no longer required.
    """
    if not security.stacks:
        return transport
    stacks = list(registry.allowed(security.stacks))
    dropped = []
    for name in transport.preferences():
        if name in said or transport.preference(name) is not Preference.REQUIRE:
            continue
        entries = [protocol.provides(version, security, transport, role).get(name) for protocol, version in stacks]
        if not any(entry is not None and entry.value for entry in entries):
            dropped.append(name)
    return transport.no_preference(*dropped) if dropped else transport


def declared_json(
    security: SecurityParameters, transport: TransportProperties, said: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """`declared`: security features by preference, and the transport properties that were named."""
    return {
        **{word: sorted(getattr(security, word)) for word in _WORDS},
        "transport": {name: _plain(transport.get(name)) for name in sorted(said)},
        "stacks": list(security.stacks),
        "equivalence": security.equivalence.value,
        "alpn": list(security.alpn),
        "server_name": security.server_name,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Preference):
        return value.word
    return value if isinstance(value, str | int | float | bool | None) else getattr(value, "value", str(value))


# -------------------------------------------------------------------------------------------------------- endpoints
def host_and_port(words: str, what: str) -> tuple[str, int | str]:
    """`HOST:PORT`, `[ADDRESS]:PORT` or `:PORT`; the port is a number or a service name. ConfigurationError."""
    expected = "HOST:PORT, like 'server.example:4433', '192.0.2.1:https' or '[2001:db8::1]:4433'"
    host, colon, port = words.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port or (":" in host and not bracketed):
        refuse(what, words, expected)
    host = host[1:-1] if bracketed else host
    return host, int(port) if port.isascii() and port.isdigit() else port


def remote_endpoint(words: str | None, profile: Profile) -> RemoteEndpoint:
    """Where to connect: the argument, or `[remote]` of the profile. ConfigurationError."""
    host, port = host_and_port(words, "HOST:PORT") if words is not None else (profile.host, profile.port)
    if not host or port is None:
        raise ConfigurationError("HOST:PORT: no peer was given, expected an argument, or host and port in [remote]")
    found: RemoteEndpoint = endpoint(RemoteEndpoint, host, port)
    return found


def local_endpoint(words: str) -> LocalEndpoint:
    """Where to listen; an empty host or `*` means every address. ConfigurationError."""
    host, port = host_and_port(words, "HOST:PORT")
    if host in {"", "*"}:
        return LocalEndpoint(service=port) if isinstance(port, str) else LocalEndpoint(port=port)
    found: LocalEndpoint = endpoint(LocalEndpoint, host, port)
    return found
