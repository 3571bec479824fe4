"""Profiles: what the options say, in a TOML file, or in the file of another program that a protocol can read.

    [local]      identity, key, key_password, static_key
    [remote]     host, port, server_name, trust, fingerprint, peer_key
    [transport]  any property of RFC 9622
    [security]   stacks, require, prefer, avoid, prohibit, equivalence, unauthenticated, client_authentication, alpn,
                 psk = { identity, key }, or a list of them
    [PROTOCOL]   the options of one protocol, as its options type names them

Paths are relative to the profile's folder. What is wrong is told with the table, the key and what was expected.
"""

from __future__ import annotations

import dataclasses
import tomllib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ..properties.credentials import Identity, Pin, PreSharedKey
from ..properties.endpoints import RemoteEndpoint
from ..properties.security import SecurityParameters
from ..properties.transport import TransportProperties
from ..properties.trust import Trust
from ..properties.words import closest, listed, text, whole
from ..protocols import registry
from ..stack.errors import ConfigurationError, TapsError
from .keygen import SECRET_KEY

_SECURITY = (
    *("stacks", "require", "prefer", "avoid", "prohibit", "equivalence"),
    *("unauthenticated", "client_authentication", "alpn", "psk"),
)
_STATIC_KEY_SIZE = 32  # octets
_SYSTEM = "system"  # as `trust`: the system's store of roots


@dataclass(slots=True)
class Profile:
    """What a profile says: arguments for SecurityParameters and TransportProperties, and the peer's place."""

    security: dict[str, Any] = field(default_factory=dict)
    transport: dict[str, Any] = field(default_factory=dict)
    host: str | None = None
    port: int | None = None
    static_key: bytes | None = field(default=None, repr=False)
    peer_key: str | None = None
    in_vain: tuple[str, ...] = ()  # what the file says and nobody honours


def load(path: Path, static_key: bytes | None = None) -> Profile:
    """Read a profile. `static_key`: in place of the profile's own.

    A file of another program (by the end of its name, as protocols say) is for that protocol alone. ConfigurationError
    names the file, the table, the key and what was expected.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--profile: cannot read {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: this is no text: {error}") from None
    for name in registry.names():
        reader = registry.descriptor(name).formats.get(path.suffix.lower())
        if reader is not None:
            try:
                options, in_vain = reader(source, static_key)
            except ConfigurationError as error:
                raise ConfigurationError(f"{path}: {error.message}") from None
            return Profile(security={"stacks": (name,), "options": {name: options}}, in_vain=tuple(in_vain))
    try:
        tables = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: this is not TOML: {error}") from None
    return _Reader(path, static_key).read(tables)


def read_static_key(path: Path) -> bytes:
    """The key of 32 octets that `taps keygen static` or `wg genkey` wrote, or of a folder of `taps keygen curvecp`.

    ConfigurationError never shows it.
    """
    try:
        if path.is_dir():
            octets = (path / SECRET_KEY).read_bytes()
        else:
            octets = b64decode(path.read_bytes().strip(), validate=True)
    except OSError as error:
        raise ConfigurationError(f"cannot read {str(path)!r}: {error.strerror}") from None
    except (Base64Error, ValueError):
        octets = b""
    if len(octets) != _STATIC_KEY_SIZE:
        raise ConfigurationError(f"{str(path)!r} holds no static key, expected the base64 of 32 octets")
    return octets


def trust_of(words: list[str], folder: Path | None = None) -> Trust | None:
    """Files, or the word `system`, as one Trust."""
    trust: Trust | None = None
    for word in words:
        one = Trust.system() if word == _SYSTEM else Trust.file(str(folder / word if folder else word))
        trust = one if trust is None else trust | one
    return trust


class _Reader:
    """Reads the tables of one profile."""

    def __init__(self, path: Path, static_key: bytes | None = None) -> None:
        self._path = path
        self._folder = path.parent
        self._static_key = static_key
        self._profile = Profile()

    def read(self, tables: Mapping[str, Any]) -> Profile:
        known: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "local": self._local,
            "remote": self._remote,
            "transport": self._transport,
            "security": self._security,
        }
        protocols = [name for name in registry.names() if registry.descriptor(name).options is not None]
        for name, table in tables.items():
            if name not in known and name not in protocols:
                expected = f"one of the tables {listed([*known, *protocols])}{closest(name, [*known, *protocols])}"
                raise ConfigurationError(f"{self._path}: [{name}]: an unknown table was given, expected {expected}")
            if not isinstance(table, dict):
                raise ConfigurationError(f"{self._path}: {name}: {table!r} was given, expected a table [{name}]")
        for name in sorted(tables, key=protocols.__contains__):  # stable: protocols' own tables want what others say
            known.get(name, partial(self._options, name))(tables[name])
        self._profile.static_key = self._static_key
        return self._profile

    # -- tables ---------------------------------------------------------------------------------------------------
    def _local(self, table: Mapping[str, Any]) -> None:
        self._check_keys("local", table, ("identity", "key", "key_password", "static_key"))
        said = {key: self._value("local", key, text, value) for key, value in table.items()}
        static_key = said.pop("static_key", None)
        if static_key is not None and self._static_key is None:
            path = self._folder / static_key
            self._static_key = self._value("local", "static_key", lambda _, given: read_static_key(given), path)
        if not said:
            return
        if "identity" not in said:
            self._refuse("local", "identity", "nothing was given, expected the certificate that belongs to the key")
        certificate = self._folder / said["identity"]
        key = self._folder / said.get("key", said["identity"])
        try:
            identity = Identity.file(certificate, key, password=said.get("key_password"))
        except ConfigurationError as error:
            self._refuse("local", "identity", str(error))
        self._profile.security["identities"] = (identity,)

    def _remote(self, table: Mapping[str, Any]) -> None:
        self._check_keys("remote", table, ("host", "port", "server_name", "trust", "fingerprint", "peer_key"))
        profile = self._profile
        for key, value in table.items():
            if key == "port":
                profile.port = self._value("remote", key, lambda name, given: whole(name, given, 1, 65535), value)
            elif key == "host":
                profile.host = self._value("remote", key, text, value)
                self._value("remote", key, lambda _, given: endpoint(RemoteEndpoint, given, None), value)
            elif key == "server_name":
                profile.security["server_name"] = self._value("remote", key, text, value)
            elif key == "peer_key":
                profile.peer_key = self._value("remote", key, text, value)
            elif key == "trust":
                profile.security["trust"] = trust_of(self._texts("remote", key, value), self._folder)
            else:
                pins = [
                    self._value("remote", key, lambda _, given: Pin.of(given), pin)
                    for pin in self._texts("remote", key, value)
                ]
                profile.security["pins"] = tuple(pins)

    def _transport(self, table: Mapping[str, Any]) -> None:
        default = TransportProperties()
        self._check_keys("transport", [key for key in table if not default.has(key)], TransportProperties.names())
        for key, value in table.items():
            name = TransportProperties.canonical(key)
            self._value("transport", name, lambda known, given: default.replace(**{known: given}), value)
            self._profile.transport[name] = value

    def _security(self, table: Mapping[str, Any]) -> None:
        self._check_keys("security", table, _SECURITY)
        for key, value in table.items():
            if key == "psk":
                several = value if isinstance(value, list) else [value]
                self._profile.security["psks"] = tuple(self._psk(one) for one in several)
            else:
                self._profile.security[key] = self._feature(key, value)

    def _feature(self, key: str, value: Any) -> Any:
        # endpoint_authentication is required unless `unauthenticated`: alone, either would contradict the default.
        open_ = {"unauthenticated": True} if key in {"prefer", "avoid", "prohibit"} else {}
        self._value("security", key, lambda name, given: SecurityParameters(**{**open_, name: given}), value)
        if key == "stacks":
            self._value("security", key, lambda _, given: list(registry.allowed(tuple(given))), value)
        return value

    def _psk(self, value: Any) -> PreSharedKey:
        if not isinstance(value, dict) or set(value) != {"identity", "key"}:
            self._refuse("security", "psk", 'expected { identity = "NAME", key = "BASE64" }')
        try:
            octets = b64decode(text("key", value["key"]), validate=True)
            return PreSharedKey(text("identity", value["identity"]), octets)
        except ConfigurationError as error:
            self._refuse("security", "psk", error.message.removeprefix("PreSharedKey."))
        except (Base64Error, ValueError):
            self._refuse("security", "psk", "key: the base64 is broken, expected 16 to 1024 octets in base64")

    def _options(self, protocol: str, table: Mapping[str, Any]) -> None:
        described = registry.descriptor(protocol)
        beside = {key: str(self._folder / table[key]) for key in described.paths if isinstance(table.get(key), str)}
        table = {**table, **beside}
        if described.from_table is not None:
            try:
                options = described.from_table(table, self._static_key)
            except ConfigurationError as error:
                raise ConfigurationError(f"{self._path}: [{protocol}] {error.message}") from None
        else:
            options = self._fields(protocol, described.options, table)
        self._profile.security.setdefault("options", {})[protocol] = options

    def _fields(self, protocol: str, kind: Any, table: Mapping[str, Any]) -> object:
        """Options whose fields are the table's keys."""
        names = [entry.name for entry in dataclasses.fields(kind) if entry.init]
        self._check_keys(protocol, table, names)
        for key, value in table.items():
            # Some values only fit beside others (key shares beside groups); together they are checked below.
            with suppress(TypeError):
                self._value(protocol, key, lambda name, given: kind(**{**_beside(table, name), name: given}), value)
        try:
            options: object = kind(**table)
        except (TapsError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{self._path}: [{protocol}]: {error}") from None
        return options

    # -- checking -------------------------------------------------------------------------------------------------
    def _check_keys(self, table: str, given: Iterable[str], known: Any) -> None:
        for key in given:
            if key not in known:
                self._refuse(
                    table, key, f"an unknown key was given, expected one of {listed(known)}{closest(key, known)}"
                )

    def _value(self, table: str, key: str, check: Callable[[str, Any], Any], value: Any) -> Any:
        try:
            return check(key, value)
        except ConfigurationError as error:
            said = error.message.removeprefix("SecurityParameters.").removeprefix(f"{table}.")
            self._refuse(table, key, said.removeprefix(f"{key}: "))

    def _texts(self, table: str, key: str, value: Any) -> list[str]:
        several = value if isinstance(value, list) else [value]
        return [self._value(table, key, text, one) for one in several]

    def _refuse(self, table: str, key: str, what: str) -> NoReturn:
        raise ConfigurationError(f"{self._path}: [{table}] {key}: {what}")


def _beside(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What a value is checked with: all keys before it."""
    before: dict[str, Any] = {}
    for name, value in table.items():
        if name == key:
            break
        before[name] = value
    return before


def endpoint(kind: type[Any], host: str, port: int | str | None) -> Any:
    """An endpoint of `kind` for a name or an address, and a port number, a service name or None."""
    words: dict[str, Any] = {"service": port} if isinstance(port, str) else {"port": port}
    if ":" in host or host.replace(".", "").isdigit():
        return kind(ip_address=host, **words)
    return kind(host_name=host, **words)
