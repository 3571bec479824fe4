"""Security parameters (RFC 9622 §6.3) and the security features that an application wants (RFC 8922)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from ..stack.errors import ConfigurationError
from ..stack.frozen import frozen
from .credentials import Identity, Pin, PreSharedKey
from .features import SECURITY_FEATURES
from .preference import Preference
from .store import Store
from .trust import Trust
from .words import boolean, closest, listed, member, refuse, strings, text

TrustCallback: TypeAlias = Callable[[Any], Awaitable[None] | None]  # what `trust` vouched for
PskCallback: TypeAlias = Callable[[bytes], PreSharedKey | Awaitable[PreSharedKey | None] | None]

_T = TypeVar("_T")
_STACK = re.compile(r"[a-z][a-z0-9-]*(/[A-Za-z0-9.]+)?")


class Role(Enum):
    """Which side of a handshake we are."""

    CLIENT = "client"
    SERVER = "server"


class Equivalence(Enum):
    """Which stacks may race each other (RFC 9621 §3.3)."""

    DECLARED = "declared"  # all that meet what the application declared
    IDENTICAL = "identical"  # only one security protocol, in one version


class ClientAuthentication(Enum):
    """Whether a listener asks its clients to prove who they are."""

    NONE = "none"
    REQUEST = "request"
    REQUIRE = "require"


class SessionKey(NamedTuple):
    """Under which a session is kept: it resumes only what was authenticated for the same purpose."""

    stack: str
    server_name: str
    port: int
    credentials: str  # SecurityParameters.session_scope: a digest of trust, identities and ALPN


class SessionStore(Protocol):
    """Where sessions are kept between connections. `connection.sessions.SessionCache` is one in memory.

    The key is a SessionKey on clients, and the octets of a stateful ticket on listeners.
    """

    def take(self, key: Hashable) -> object | None:
        """A session for `key`, or None. It is given out once: a ticket serves one handshake (RFC 8446 §C.4)."""

    def remember(self, key: Hashable, session: object) -> None:
        """Keep a session."""


@frozen(slots=False)
class SecurityParameters:
    """What an application demands of security, and the credentials it gives for it. ConfigurationError if it is wrong.

    `require`, `prefer`, `avoid`, `prohibit`: names out of SECURITY_FEATURES. `forward_secrecy` and
    `endpoint_authentication` are required unless said otherwise, and `source_validation` is by listeners.
    `unauthenticated` lets stacks in that authenticate nobody, behind those that do.

    `stacks`: allowed protocols, "tls" or "tls/1.3"; empty: all. `equivalence`: which of them may race.
    `alpn`: application protocols, preferred first. `server_name`: whom we mean, if not the endpoint's host name.

    `trust`: who vouches for peers. None: the system's roots when initiating, nobody when listening, and with a
    pre-shared key and no trust the key alone. `pins` add to `trust`. `trust_callback` gets the peer that `trust`
    vouched for (it never stands in for `trust`), and raises to refuse it; it may be an async function. `identity`,
    `identities`: who we are; a listener chooses by server name. `client_authentication` follows
    `mutual_authentication` unless it is set.
    `psk`, `psks`: external pre-shared keys; `psk_callback` looks further ones up by identity on listeners.

    `session_cache`: where sessions for resumption are kept; on a listener, what stateful tickets stand for. `store`:
    where a protocol keeps what must survive a restart; None: in memory, as long as it runs. `options`: by stack name,
    what only that stack understands; a list of them makes one candidate of each.
    """

    require: frozenset[str]
    prefer: frozenset[str]
    avoid: frozenset[str]
    prohibit: frozenset[str]
    unauthenticated: bool
    stacks: tuple[str, ...]
    equivalence: Equivalence
    alpn: tuple[str, ...]
    server_name: str | None
    trust: Trust | None
    pins: tuple[Pin, ...]
    trust_callback: TrustCallback | None
    identity: Identity | None
    identities: tuple[Identity, ...]
    client_authentication: ClientAuthentication | None
    psk: PreSharedKey | None
    psks: tuple[PreSharedKey, ...]
    psk_callback: PskCallback | None
    session_cache: SessionStore | None
    store: Store | None
    options: Mapping[str, object]

    def __init__(
        self,
        *,
        require: Iterable[str] = (),
        prefer: Iterable[str] = (),
        avoid: Iterable[str] = (),
        prohibit: Iterable[str] = (),
        unauthenticated: bool = False,
        stacks: Iterable[str] = (),
        equivalence: Equivalence | Literal["declared", "identical"] = Equivalence.DECLARED,
        alpn: Iterable[str] = (),
        server_name: str | None = None,
        trust: Trust | None = None,
        pins: Iterable[Pin | str] = (),
        trust_callback: TrustCallback | None = None,
        identity: Identity | None = None,
        identities: Iterable[Identity] = (),
        client_authentication: ClientAuthentication | Literal["none", "request", "require"] | None = None,
        psk: PreSharedKey | None = None,
        psks: Iterable[PreSharedKey] = (),
        psk_callback: PskCallback | None = None,
        session_cache: SessionStore | None = None,
        store: Store | None = None,
        options: Mapping[str, object] | None = None,
    ) -> None:
        put = partial(object.__setattr__, self)
        put("require", _features("require", require))
        put("prefer", _features("prefer", prefer))
        put("avoid", _features("avoid", avoid))
        put("prohibit", _features("prohibit", prohibit))
        put("unauthenticated", boolean("SecurityParameters.unauthenticated", unauthenticated))
        self._check_contradictions()
        put("stacks", _stacks(stacks))
        put("equivalence", member("SecurityParameters.equivalence", equivalence, Equivalence))
        put("alpn", _alpn(alpn))
        put("server_name", None if server_name is None else text("SecurityParameters.server_name", server_name))
        put("pins", _pins(pins))
        put("trust", _trust(trust, self.pins))
        put("trust_callback", _function("trust_callback", trust_callback))
        put("identity", identity)
        put("identities", _together("identities", identity, identities, Identity))
        put("client_authentication", _client_authentication(client_authentication))
        put("psk", psk)
        put("psks", _together("psks", psk, psks, PreSharedKey))
        put("psk_callback", _function("psk_callback", psk_callback))
        put("session_cache", session_cache)
        put("store", _store(store))
        put("options", _options(options or {}))
        known = [key.identity for key in self.psks]
        if len(set(known)) != len(known):
            refuse("SecurityParameters.psks", f"{len(known)} keys", "a different identity for each key")

    def _check_contradictions(self) -> None:
        seen: dict[str, str] = {}
        for word in ("require", "prefer", "avoid", "prohibit"):
            for name in getattr(self, word):
                if name in seen:
                    raise ConfigurationError(
                        f"SecurityParameters: {name!r} is in both {seen[name]} and {word}, expected in one of them"
                    )
                seen[name] = word
        said = seen.get("endpoint_authentication")
        if said == "require" and self.unauthenticated:
            raise ConfigurationError(
                "SecurityParameters.unauthenticated: True contradicts require={'endpoint_authentication'}"
            )
        if said not in {None, "require"} and not self.unauthenticated:
            raise ConfigurationError(
                f"SecurityParameters.{said}: 'endpoint_authentication' is required unless unauthenticated=True says "
                "that the peer may be anybody"
            )

    # -- questions ------------------------------------------------------------------------------------------------
    def preference(self, feature: str, role: Role) -> Preference:
        """What was said, or is implied, about a security feature in this role."""
        for word in ("require", "prefer", "avoid", "prohibit"):
            if feature in getattr(self, word):
                return Preference[word.upper()]
        if feature == "endpoint_authentication":
            return Preference.PREFER if self.unauthenticated else Preference.REQUIRE
        if feature == "forward_secrecy" or (feature == "source_validation" and role is Role.SERVER):
            return Preference.REQUIRE
        if feature not in SECURITY_FEATURES:
            refuse("security property", feature, f"one of {listed(SECURITY_FEATURES)}")
        return Preference.NO_PREFERENCE

    def is_declared(self, feature: str) -> bool:
        """Whether the application said anything about that feature itself."""
        return any(feature in getattr(self, word) for word in ("require", "prefer", "avoid", "prohibit"))

    @property
    def asks_clients(self) -> ClientAuthentication:
        """Whether a listener asks for client certificates: as set, or as `mutual_authentication` wants it."""
        if self.client_authentication is not None:
            return self.client_authentication
        wanted = self.preference("mutual_authentication", Role.SERVER)
        if wanted is Preference.REQUIRE:
            return ClientAuthentication.REQUIRE
        return ClientAuthentication.REQUEST if wanted is Preference.PREFER else ClientAuthentication.NONE

    def trust_of(self, role: Role) -> Trust | None:
        """Who vouches for certificates. None: nobody, so a peer that shows one is refused."""
        if self.trust is not None or role is Role.SERVER or self.psks:
            return self.trust
        return Trust.system()

    @property
    def session_scope(self) -> str:
        """A digest of what a session was authenticated with; sessions of another scope are not resumed."""
        import hashlib  # noqa: PLC0415 -- only where sessions are kept

        hashed = hashlib.sha256()
        trust = self.trust_of(Role.CLIENT)
        callback = self.trust_callback
        parts: list[bytes] = [trust.digest if trust else b""]
        parts += [b"%s.%s" % _where(callback)] if callback else [b""]
        parts += [b"psk", *(key.identity for key in self.psks)]
        parts += [b"\0".join(one.loaded.chain) or one.loaded.raw_public_key for one in self.identities]
        parts += [b"alpn", *(protocol.encode() for protocol in self.alpn)]
        for part in parts:
            hashed.update(hashlib.sha256(part).digest())
        return hashed.hexdigest()

    def replace(self, **changes: Any) -> SecurityParameters:
        """A copy with other values; the same checks."""
        for name in changes:
            if name not in _NAMES:
                refuse("SecurityParameters.replace", name, f"one of {listed(sorted(_NAMES))}{closest(name, _NAMES)}")
        for one, many in (("identity", "identities"), ("psk", "psks")):
            if one in changes and many not in changes:
                changes[many] = ()
            elif many in changes and one not in changes:
                changes[one] = None
        if "trust" in changes and "pins" not in changes:
            changes["pins"] = ()
        return dataclasses.replace(self, **changes)


_NAMES = frozenset(entry.name for entry in dataclasses.fields(SecurityParameters))


def _where(callback: object) -> tuple[bytes, bytes]:
    name = getattr(callback, "__qualname__", type(callback).__qualname__)
    return str(getattr(callback, "__module__", "")).encode(), name.encode()


# ---------------------------------------------------------------------------------------------------------- checking
def _features(word: str, value: Iterable[str]) -> frozenset[str]:
    name = f"SecurityParameters.{word}"
    if isinstance(value, str) or not isinstance(value, Iterable):
        refuse(name, value, "a set of security properties")
    given = list(value)
    if not all(isinstance(feature, str) for feature in given):
        refuse(name, given, "a set of security properties")
    features = frozenset(given)
    for feature in sorted(features, key=str):
        if feature not in SECURITY_FEATURES:
            hint = closest(str(feature), SECURITY_FEATURES)
            refuse(name, feature, f"one of {listed(SECURITY_FEATURES)}{hint}")
    return features


def _stacks(value: Iterable[str]) -> tuple[str, ...]:
    stacks = strings("SecurityParameters.stacks", value)
    for stack in stacks:
        if not _STACK.fullmatch(stack):
            refuse("SecurityParameters.stacks", stack, "NAME or NAME/VERSION, like 'tls' or 'tls/1.3'")
    return stacks


def _alpn(value: Iterable[str]) -> tuple[str, ...]:
    protocols = strings("SecurityParameters.alpn", value)
    for protocol in protocols:
        if len(protocol.encode()) > 255:
            refuse("SecurityParameters.alpn", protocol, "names of at most 255 octets (RFC 7301 §3.1)")
    return protocols


def _pins(value: Iterable[Pin | str]) -> tuple[Pin, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        refuse("SecurityParameters.pins", value, "a list of pins")
    return tuple(dict.fromkeys(Pin.of(pin) for pin in value))


def _trust(value: Trust | None, pins: tuple[Pin, ...]) -> Trust | None:
    if value is not None and not isinstance(value, Trust):
        refuse(
            "SecurityParameters.trust", value, "Trust.system(), Trust.file(path), Trust.pem(data) or Trust.pins(...)"
        )
    return (value or Trust()) | Trust.pins(*pins) if pins else value


def _together(name: str, first: _T | None, others: Iterable[_T], kind: type[_T]) -> tuple[_T, ...]:
    given = [] if first is None else [first]
    if not isinstance(others, Iterable):
        refuse(f"SecurityParameters.{name}", others, f"a list of {kind.__name__} objects")
    given += [item for item in others if item is not first]
    for item in given:
        if not isinstance(item, kind):
            refuse(f"SecurityParameters.{name}", item, f"{kind.__name__} objects")
    return tuple(given)


def _client_authentication(value: object) -> ClientAuthentication | None:
    if value is None:
        return None
    return member("SecurityParameters.client_authentication", value, ClientAuthentication)


def _function(name: str, value: _T) -> _T:
    if value is not None and not callable(value):
        refuse(f"SecurityParameters.{name}", value, "a function, or None")
    return value


def _store(value: Store | None) -> Store | None:
    if value is not None and not (callable(getattr(value, "load", None)) and callable(getattr(value, "save", None))):
        refuse("SecurityParameters.store", value, "a Store with load(key) and save(key, value), or None")
    return value


def _options(value: Mapping[str, object]) -> dict[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        refuse("SecurityParameters.options", value, "a mapping from stack names to their options")
    return dict(value)
