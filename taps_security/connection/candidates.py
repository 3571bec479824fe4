"""Which stacks and paths may serve an application, in which order, and why (RFC 9623 §4, RFC 9621 §3.3).

    paths      from local endpoints and interfaces          they come first: a path may decide what is reachable
    stacks     from the registry                            Prohibit purges, Require filters, Prefer sorts, Avoid
    endpoints  from resolution (racing.py, resolution.py)   breaks ties; then earlier results; then the given order

Nothing here knows a protocol: descriptors say what they provide and which credentials they miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ..properties.endpoints import LocalEndpoint
from ..properties.features import SECURITY_FEATURES
from ..properties.preference import Preference
from ..properties.security import Equivalence, Role, SecurityParameters
from ..properties.transport import TransportProperties
from ..protocols import registry
from ..protocols.registry import Descriptor, Provided, Provides
from ..stack.errors import ConfigurationError, Reason
from ..stack.frozen import frozen, replace
from .performance import Opinion, PerformanceCache

_ABSENT = Provided(False, "not provided")


# ------------------------------------------------------------------------------------------------------------- words
@frozen
class Consideration:
    """One reason: what was wanted, whether the stack has it, and what followed."""

    property: str
    preference: str
    provides: bool
    effect: str  # kept, dropped, ranked up, ranked down, none
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """The words of `explain()` and of the command."""
        return {
            "property": self.property,
            "preference": self.preference,
            "provides": self.provides,
            "effect": self.effect,
            "why": self.why,
        }

    def __str__(self) -> str:
        has = "provides" if self.provides else "does not provide"
        return f"{has} {self.property} ({self.preference}{f': {self.why}' if self.why else ''})"


@frozen
class StackChoice:
    """One protocol in one version and configuration, and what became of it. `rank`: from 0; None when dropped."""

    protocol: Descriptor
    version: str
    configuration: int  # which of several options that were given for the protocol
    security: SecurityParameters  # with the options of this configuration
    provides: Provides
    reasons: tuple[Consideration, ...]
    rank: int | None = None
    score: tuple[int, ...] = field(default=(), compare=False)

    @property
    def kept(self) -> bool:
        """Whether it may race."""
        return not any(reason.effect == "dropped" for reason in self.reasons)

    @property
    def name(self) -> str:
        """As an application names it: "tls/1.3"."""
        return f"{self.protocol.name}/{self.version}" if self.version else self.protocol.name

    def provided(self) -> dict[str, bool]:
        """Each property that it provides or not, for reports."""
        return {name: entry.value for name, entry in self.provides.items()}

    def as_json(self) -> dict[str, Any]:
        """The words of `explain()` and of the command."""
        return {
            "stack": self.protocol.name,
            "version": self.version,
            "configuration": self.configuration,
            "kept": self.kept,
            "rank": self.rank,
            "reasons": [reason.as_json() for reason in self.reasons],
        }


@frozen
class Path:
    """One way out: an interface to bind to (empty: the system chooses) and perhaps a local address."""

    interface: str = ""
    local: LocalEndpoint | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, [self.interface, str(self.local) if self.local else ""])) or "any"


# ------------------------------------------------------------------------------------------------------------ stacks
def choose_stacks(
    security: SecurityParameters,
    transport: TransportProperties,
    role: Role,
    *,
    cache: PerformanceCache | None = None,
    places: Sequence[tuple[str, str]] = (),
    hosts: Sequence[str] = (),
    complete: bool = False,
) -> list[StackChoice]:
    """Every allowed stack with its reasons: those kept by rank, then those dropped.

    `places`: (network, host) pairs for which earlier results count. `hosts`: names of the remote endpoints, which may
    hold credentials themselves. `complete`: list the protocols that `stacks` does not allow too. ConfigurationError for
    unknown stacks and for options of the wrong type.
    """
    choices = [
        _consider(protocol, version, number, configured, transport, role, hosts)
        for protocol, version in registry.allowed(security.stacks)
        for number, configured in enumerate(registry.configurations(protocol, security))
    ]
    if cache is not None:
        choices = [_remember(choice, cache, places) for choice in choices]
    kept = sorted((choice for choice in choices if choice.kept), key=lambda choice: choice.score)
    dropped = [choice for choice in choices if not choice.kept]
    if security.equivalence is Equivalence.IDENTICAL and kept:
        kept, others = _only_identical(kept)
        dropped += others
    ranked = [replace(choice, rank=rank) for rank, choice in enumerate(kept)]
    return ranked + dropped + (list(_not_allowed(choices, security, transport, role)) if complete else [])


def _consider(
    protocol: Descriptor,
    version: str,
    configuration: int,
    security: SecurityParameters,
    transport: TransportProperties,
    role: Role,
    hosts: Sequence[str],
) -> StackChoice:
    provides = protocol.provides(version, security, transport, role)
    reasons = []
    for name, wish in wishes(security, transport, role):
        entry = provides.get(name, _ABSENT)
        if wish is not Preference.NO_PREFERENCE:
            reasons.append(Consideration(name, wish.word, entry.value, _effect(wish, entry.value), entry.reason))
    missing = protocol.credentials(security, role)
    held = () if missing is None or protocol.named is None else tuple(filter(protocol.named, hosts))
    if held:
        reasons.append(Consideration("credentials", "require", True, "kept", f"the name {held[0]} holds them"))
    elif missing is not None:
        reasons.append(Consideration("credentials", "require", False, "dropped", missing))
    preferred = sum(reason.effect == "ranked up" for reason in reasons)
    avoided = sum(reason.effect == "ranked down" for reason in reasons)
    anonymous = not provides.get("endpoint_authentication", _ABSENT).value
    score = (int(anonymous), -preferred, avoided)
    return StackChoice(protocol, version, configuration, security, provides, tuple(reasons), score=score)


def wishes(
    security: SecurityParameters, transport: TransportProperties, role: Role
) -> Iterable[tuple[str, Preference]]:
    """What was declared about transport properties and security features, in the order of the specifications."""
    for name in transport.preferences():
        yield name, transport.preference(name)
    for feature in SECURITY_FEATURES:
        yield feature, security.preference(feature, role)


def _effect(wish: Preference, provides: bool) -> str:
    if wish is Preference.REQUIRE:
        return "kept" if provides else "dropped"
    if wish is Preference.PROHIBIT:
        return "dropped" if provides else "kept"
    if not provides:
        return "none"
    return "ranked up" if wish is Preference.PREFER else "ranked down"


def _remember(choice: StackChoice, cache: PerformanceCache, places: Sequence[tuple[str, str]]) -> StackChoice:
    """Earlier results come behind the application's preferences."""
    opinions = [cache.opinion(network, choice.name, host) for network, host in places]
    known = [opinion for opinion in opinions if opinion is not Opinion.UNKNOWN]
    opinion = max(known, default=Opinion.UNKNOWN)
    if opinion is not Opinion.UNKNOWN:
        worked = opinion is Opinion.WORKED
        effect = "ranked up" if worked else "ranked down"
        why = "it worked here lately" if worked else "it failed here lately"
        row = Consideration("past_results", "prefer", worked, effect, why)
        choice = replace(choice, reasons=(*choice.reasons, row))
    return replace(choice, score=(*choice.score, -opinion))


def _only_identical(kept: list[StackChoice]) -> tuple[list[StackChoice], list[StackChoice]]:
    first = kept[0]
    same, others = [], []
    for choice in kept:
        if choice.protocol is first.protocol and choice.version == first.version:
            same.append(choice)
        else:
            why = f"only {first.name} races: the other protocols are not identical to it"
            row = Consideration("equivalence", "require", False, "dropped", why)
            others.append(replace(choice, reasons=(*choice.reasons, row)))
    return same, others


def _not_allowed(
    choices: Sequence[StackChoice], security: SecurityParameters, transport: TransportProperties, role: Role
) -> Iterable[StackChoice]:
    listed = {(choice.protocol.name, choice.version) for choice in choices}
    for protocol, version in registry.allowed(()):
        if (protocol.name, version) not in listed:
            row = Consideration("stacks", "require", False, "dropped", "not among the allowed stacks")
            provides = protocol.provides(version, security, transport, role)
            yield StackChoice(protocol, version, 0, security, provides, (row,))


def require_stacks(choices: Sequence[StackChoice], what: str) -> list[StackChoice]:
    """The choices that were kept. ConfigurationError says for each stack which requirement excludes it."""
    kept = [choice for choice in choices if choice.kept]
    if kept:
        return kept
    parts = []
    for choice in choices:
        dropped = [reason for reason in choice.reasons if reason.effect == "dropped"]
        parts.append(f"{choice.name} {'; it '.join(_complaint(reason) for reason in dropped)}")
    raise ConfigurationError(
        f"{what}: no protocol stack can do what was declared: {'. '.join(parts)}", reason=Reason.NO_CANDIDATES
    )


def _complaint(reason: Consideration) -> str:
    if reason.property == "credentials":
        return f"lacks a credential: {reason.why}"
    return str(reason)


# ------------------------------------------------------------------------------------------------------------- paths
def choose_paths(local: Sequence[LocalEndpoint], transport: TransportProperties) -> list[Path]:
    """Ways out, in order: Prefer before the rest, Avoid last. ConfigurationError names what leaves none.

    Without `interface` preferences the system's routes decide. A prohibited interface can only be kept off by binding
    to another one, so it needs one that is required, preferred or named by a local endpoint.
    """
    _check_paths(transport)
    wanted: Mapping[str, Preference] = {name: Preference(wish) for name, wish in transport.interface.items()}  # type: ignore[arg-type]
    required = [name for name, wish in wanted.items() if wish is Preference.REQUIRE]
    preferred = [name for name, wish in wanted.items() if wish is Preference.PREFER]
    prohibits = Preference.PROHIBIT in wanted.values()
    paths: list[Path] = []
    refused: list[str] = []
    for endpoint in (*local,) or (None,):
        bound = endpoint.interface if endpoint is not None else None
        names = [bound] if bound else required or ([*preferred] if prohibits else [*preferred, ""])
        for name in names:
            if wanted.get(name) is Preference.PROHIBIT:
                refused.append(f"interface {name!r} is prohibited")
            elif required and name not in required:
                refused.append(f"interface {name!r} is not the required {required[0]!r}")
            else:
                paths.append(Path(name, endpoint))
        if not names:
            banned = ", ".join(repr(name) for name, wish in wanted.items() if wish is Preference.PROHIBIT)
            refused.append(
                f"interface: {banned} was prohibited, and the system chooses among the others by itself; expected one "
                "interface with 'require' or 'prefer', or a LocalEndpoint with an interface"
            )
    if not paths:
        raise ConfigurationError("; ".join(refused), reason=Reason.POLICY_PROHIBITED)
    return sorted(paths, key=lambda path: -wanted.get(path.interface, Preference.NO_PREFERENCE))


def _check_paths(transport: TransportProperties) -> None:
    for name, wish in transport.pvd.items():
        if wish is Preference.REQUIRE:
            raise ConfigurationError(
                f"pvd: {name!r} was required, and no provisioning domain is known here (RFC 7556)",
                reason=Reason.NO_CANDIDATES,
            )
    if transport.use_temporary_local_address is Preference.REQUIRE:
        raise ConfigurationError(
            "use_temporary_local_address: 'require' was given, expected 'prefer' or less: whether addresses are "
            "temporary (RFC 8981) is the system's decision",
            reason=Reason.NO_CANDIDATES,
        )
