"""Transport properties: selection (RFC 9622 §6.2), connection (§8.1) and TCP (§8.2), with the RFC's defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Any, Literal, TypeVar

from ..stack.errors import ConfigurationError
from ..stack.frozen import frozen
from .preference import AnyPreference, Preference, preference
from .words import boolean, closest, listed, member, normal, refuse, seconds, text, whole

_Self = TypeVar("_Self", bound="ConnectionProperties")


class Multipath(Enum):
    """RFC 9622 §6.2.14: whether several paths may be used. Disabled also forbids migration (RFC 9623 §7.2)."""

    DISABLED = "disabled"
    ACTIVE = "active"
    PASSIVE = "passive"


class CommunicationDirection(Enum):
    """RFC 9622 §6.2.16."""

    BIDIRECTIONAL = "bidirectional"
    UNIDIRECTIONAL_SEND = "unidirectional_send"
    UNIDIRECTIONAL_RECEIVE = "unidirectional_receive"


class CapacityProfile(Enum):
    """RFC 9622 §8.1.6: what to optimise for."""

    DEFAULT = "default"
    SCAVENGER = "scavenger"
    LOW_LATENCY_INTERACTIVE = "low_latency_interactive"
    LOW_LATENCY_NON_INTERACTIVE = "low_latency_non_interactive"
    CONSTANT_RATE_STREAMING = "constant_rate_streaming"
    CAPACITY_SEEKING = "capacity_seeking"


_CapacityWord = Literal[
    "default",
    "scavenger",
    "low_latency_interactive",
    "low_latency_non_interactive",
    "constant_rate_streaming",
    "capacity_seeking",
]


@frozen(slots=False, kw_only=True)
class ConnectionProperties:
    """What may be set before and after establishment. ConfigurationError names property, value and expectation.

    `conn_timeout`: seconds without acknowledgement of what was sent, then the connection is given up; None: disabled.
    `keep_alive_timeout`: seconds of silence before a keep-alive probe; needs `keep_alive`. `conn_priority`: 0 is the
    most urgent. `conn_capacity_profile`: all but the capacity-seeking and scavenger profiles send small writes at
    once. `isolate_session`: neither use nor feed cached sessions and results of earlier races.
    `tcp_user_timeout_enabled`, `tcp_user_timeout_value` (seconds): RFC 5482's user timeout, which wins over
    `conn_timeout` on TCP.
    """

    conn_priority: int = 100
    conn_timeout: float | None = None
    keep_alive_timeout: float | None = None
    conn_capacity_profile: CapacityProfile | _CapacityWord = CapacityProfile.DEFAULT
    isolate_session: bool = False
    tcp_user_timeout_enabled: bool = False
    tcp_user_timeout_value: int | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        whole("conn_priority", self.conn_priority, 0, (1 << 31) - 1)
        put(self, "conn_timeout", seconds("conn_timeout", self.conn_timeout))
        put(self, "keep_alive_timeout", seconds("keep_alive_timeout", self.keep_alive_timeout))
        put(
            self,
            "conn_capacity_profile",
            member("conn_capacity_profile", self.conn_capacity_profile, CapacityProfile),
        )
        boolean("isolate_session", self.isolate_session)
        boolean("tcp_user_timeout_enabled", self.tcp_user_timeout_enabled)
        if self.tcp_user_timeout_value is not None:
            whole("tcp_user_timeout_value", self.tcp_user_timeout_value, 1, 0x7FFF * 60)

    def get(self, name: str) -> Any:
        """The value of a property by its name, in any of the forms of RFC 9622 §4.1: connTimeout, conn_timeout ..."""
        return getattr(self, type(self).canonical(name))

    def has(self, name: str) -> bool:
        """Whether there is a property of that name."""
        return _find(type(self), name) is not None

    def replace(self: _Self, **changes: Any) -> _Self:
        """A copy with other values; the same checks."""
        return dataclasses.replace(self, **{type(self).canonical(name): value for name, value in changes.items()})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All property names, in the order of the RFC."""
        return tuple(entry.name for entry in dataclasses.fields(cls))

    @classmethod
    def canonical(cls, name: str) -> str:
        """The name in snake_case. ConfigurationError if there is no such property."""
        found = _find(cls, name)
        if found is None:
            refuse("property", name, f"one of {listed(cls.names())}{closest(normal(name), cls.names())}")
        return found


_KNOWN: dict[object, dict[str, str]] = {}  # by class: every property, without case and underscores


def _find(cls: type[ConnectionProperties], name: str) -> str | None:
    known = _KNOWN.get(cls)
    if known is None:
        known = _KNOWN[cls] = {entry.replace("_", ""): entry for entry in cls.names()}
    return known.get(normal(name).replace("_", "").replace(".", ""))


_PREFERENCES = (
    "reliability",
    "preserve_msg_boundaries",
    "per_msg_reliability",
    "preserve_order",
    "zero_rtt_msg",
    "multistreaming",
    "full_checksum_send",
    "full_checksum_recv",
    "congestion_control",
    "keep_alive",
    "soft_error_notify",
    "active_read_before_send",
)


@frozen(slots=False, kw_only=True)
class TransportProperties(ConnectionProperties):
    """What an application wants of a transport: selection properties, and initial connection properties.

    Preferences are given as Preference or as "require", "prefer", "no_preference", "avoid", "prohibit".
    `interface` and `pvd` map names of interfaces and provisioning domains to preferences. None means the default of
    the role: `use_temporary_local_address` is preferred when initiating and avoided when listening, `multipath` is
    disabled and passive. ConfigurationError for wrong words and for contradictions (RFC 9623 §3.1).
    """

    reliability: AnyPreference = Preference.REQUIRE
    preserve_msg_boundaries: AnyPreference = Preference.NO_PREFERENCE
    per_msg_reliability: AnyPreference = Preference.NO_PREFERENCE
    preserve_order: AnyPreference = Preference.REQUIRE
    zero_rtt_msg: AnyPreference = Preference.NO_PREFERENCE
    multistreaming: AnyPreference = Preference.PREFER
    full_checksum_send: AnyPreference = Preference.REQUIRE
    full_checksum_recv: AnyPreference = Preference.REQUIRE
    congestion_control: AnyPreference = Preference.REQUIRE
    keep_alive: AnyPreference = Preference.NO_PREFERENCE
    interface: Mapping[str, AnyPreference] = field(default_factory=dict)
    pvd: Mapping[str, AnyPreference] = field(default_factory=dict)
    use_temporary_local_address: AnyPreference | None = None
    multipath: Multipath | Literal["disabled", "active", "passive"] | None = None
    advertises_altaddr: bool = False
    direction: CommunicationDirection | Literal["bidirectional", "unidirectional_send", "unidirectional_receive"] = (
        CommunicationDirection.BIDIRECTIONAL
    )
    soft_error_notify: AnyPreference = Preference.NO_PREFERENCE
    active_read_before_send: AnyPreference = Preference.NO_PREFERENCE

    def __post_init__(self) -> None:
        super().__post_init__()
        put = object.__setattr__
        for name in _PREFERENCES:
            put(self, name, preference(name, getattr(self, name)))
        for name in ("interface", "pvd"):
            given = getattr(self, name)
            if not isinstance(given, Mapping):
                refuse(name, given, "a mapping from names to preferences, like {'eth0': 'require'}")
            put(self, name, {text(name, key): preference(f"{name} {key!r}", value) for key, value in given.items()})
        if self.use_temporary_local_address is not None:
            chosen = preference("use_temporary_local_address", self.use_temporary_local_address)
            put(self, "use_temporary_local_address", chosen)
        if self.multipath is not None:
            put(self, "multipath", member("multipath", self.multipath, Multipath))
        put(self, "direction", member("direction", self.direction, CommunicationDirection))
        boolean("advertises_altaddr", self.advertises_altaddr)
        self._check_contradictions()

    def _check_contradictions(self) -> None:
        for whole_property, per_message in (("reliability", "per_msg_reliability"),):
            if self.get(whole_property) is Preference.PROHIBIT and self.get(per_message) is Preference.REQUIRE:
                raise ConfigurationError(
                    f"{per_message}: 'require' contradicts {whole_property}: 'prohibit' (RFC 9623 §3.1)"
                )
        if self.keep_alive is Preference.PROHIBIT and self.keep_alive_timeout is not None:
            raise ConfigurationError(
                f"keep_alive_timeout: {self.keep_alive_timeout:g} contradicts keep_alive: 'prohibit'"
            )
        required = [name for name, wish in self.interface.items() if wish is Preference.REQUIRE]
        if len(required) > 1 and not self.advertises_altaddr:
            refuse("interface", required, "at most one interface with 'require': a connection uses one")

    def preference(self, name: str) -> Preference:
        """The preference of one of the properties that are preferences."""
        value = self.get(name)
        if not isinstance(value, Preference):
            refuse("preference", name, f"one of {listed(_PREFERENCES)}")
        return value

    @classmethod
    def preferences(cls) -> tuple[str, ...]:
        """The names of the properties that a protocol provides or not, in the order of the RFC."""
        return _PREFERENCES

    def require(self, *names: str) -> TransportProperties:
        """A copy in which these properties are required (RFC 9622 App. B.1, as are the next four)."""
        return self._said(names, Preference.REQUIRE)

    def prefer(self, *names: str) -> TransportProperties:
        """A copy in which these properties are preferred."""
        return self._said(names, Preference.PREFER)

    def no_preference(self, *names: str) -> TransportProperties:
        """A copy in which these properties do not matter."""
        return self._said(names, Preference.NO_PREFERENCE)

    def avoid(self, *names: str) -> TransportProperties:
        """A copy in which these properties are avoided."""
        return self._said(names, Preference.AVOID)

    def prohibit(self, *names: str) -> TransportProperties:
        """A copy in which these properties are prohibited."""
        return self._said(names, Preference.PROHIBIT)

    def _said(self, names: tuple[str, ...], wish: Preference) -> TransportProperties:
        for name in names:
            known = type(self).canonical(name)
            if known not in _PREFERENCES and known != "use_temporary_local_address":
                refuse(wish.word, name, f"one of {listed(_PREFERENCES)}")
        return self.replace(**dict.fromkeys(names, wish))

    # -- profiles (RFC 9622 App. B.2) -----------------------------------------------------------------------------
    @classmethod
    def reliable_inorder_stream(cls, **changes: Any) -> TransportProperties:
        """Reliable, ordered, congestion controlled, without message boundaries."""
        return cls(preserve_msg_boundaries=Preference.NO_PREFERENCE).replace(**changes)

    @classmethod
    def reliable_message(cls, **changes: Any) -> TransportProperties:
        """Reliable, ordered, congestion controlled, with message boundaries."""
        return cls(preserve_msg_boundaries=Preference.REQUIRE).replace(**changes)

    @classmethod
    def unreliable_datagram(cls, **changes: Any) -> TransportProperties:
        """Messages that may be lost or reordered; send them with `safely_replayable=True`."""
        return cls(
            reliability=Preference.AVOID,
            preserve_order=Preference.AVOID,
            congestion_control=Preference.NO_PREFERENCE,
            preserve_msg_boundaries=Preference.REQUIRE,
        ).replace(**changes)
