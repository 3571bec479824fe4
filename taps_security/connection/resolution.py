"""From endpoints to addresses, as they become known, in the order of attempts (RFC 8305 §3 and §4).

    literal address ------------------------------------------> at once
    host name --AAAA--> addresses ----------------------------> at once
              --A-----> addresses --50 ms unless AAAA came----> then

Families take turns. What worked here lately comes first, what failed lately comes last. The two look-ups go through
the loop's network (docs/decisions/0003-resolution.md), so that a simulated name server has exact times.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence

from ..properties.endpoints import Endpoint, LocalEndpoint, RemoteEndpoint
from ..stack.errors import ConfigurationError, Reason, RemoteError
from ..stack.frozen import frozen
from ..transport.network import Network, ResolvedAddress
from .performance import Opinion

FAMILIES = (socket.AF_INET6, socket.AF_INET)
MAX_ADDRESSES = 16  # of one name and family: names come from the network (RFC 9623 §12.2)

Changed = Callable[[], None]


def family_of(address: str) -> int:
    """AF_INET or AF_INET6 of a numeric address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def port_of(endpoint: Endpoint) -> int | str:
    """Port or service. ConfigurationError if the endpoint has neither."""
    port = endpoint.port if endpoint.port is not None else endpoint.service
    if port is None:
        raise ConfigurationError(f"{type(endpoint).__name__} {endpoint}: no port was given, expected port or service")
    return port


def literal(endpoint: Endpoint, port: int | str) -> ResolvedAddress | None:
    """The address that stands in the endpoint, if it needs no look-up."""
    if endpoint.ip_address is None or not isinstance(port, int):
        return None
    host = endpoint.ip_address
    family = family_of(host)
    if endpoint.interface and "%" not in host and ":" in host and ipaddress.ip_address(host).is_link_local:
        host = f"{host}%{endpoint.interface}"
    return ResolvedAddress(host, port, family)


class Lookup:
    """One endpoint's addresses. Several stacks may wait for the same look-up; it begins with the first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, network: Network, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.found: list[ResolvedAddress] = []
        self.pending: set[int] = set()
        self.error: OSError | UnicodeError | None = None
        self.resolved: dict[int, tuple[float, float]] = {}  # by family: when it was asked, and when answered
        self._loop = loop
        self._network = network
        self._waiting: list[Changed] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = False

    def subscribe(self, changed: Changed) -> None:
        """Call `changed` when more is known; begin if that has not happened yet."""
        self._waiting.append(changed)
        if self._begun:
            return
        self._begun = True
        port = port_of(self.endpoint)
        address = literal(self.endpoint, port)
        if address is not None:
            self.found.append(address)
            return
        host = self.endpoint.ip_address or self.endpoint.host_name or ""
        families = FAMILIES if self.endpoint.ip_address is None else (family_of(host),)
        self.pending.update(families)
        started = self._loop.time()
        for family in families:
            self._tasks.append(self._loop.create_task(self._ask(host, port, family, started)))

    async def _ask(self, host: str, port: int | str, family: int, started: float) -> None:
        try:
            answer = await self._network.resolve(host, port, family)
            fitting = [address for address in answer if address.family == family]
            self.found += list(dict.fromkeys(fitting))[:MAX_ADDRESSES]
            self.resolved[family] = (started, self._loop.time())
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA does not know
            if self.error is None:
                self.error = error
        finally:
            self.pending.discard(family)
            for changed in self._waiting:
                changed()

    @property
    def failure(self) -> RemoteError | None:
        """Why nothing was found, once that is certain."""
        if self.pending or self.found:
            return None
        reason = "it has no address"
        if self.error is not None:
            reason = getattr(self.error, "strerror", None) or str(self.error)
        return RemoteError(f"cannot resolve {self.endpoint.host!r}: {reason}", reason=Reason.RESOLUTION_FAILED)

    async def close(self) -> None:
        """Wait for nothing more."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class Lookups:
    """The look-ups of one establishment: each endpoint once, whoever asks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, network: Network) -> None:
        self._loop = loop
        self._network = network
        self._by_endpoint: dict[Endpoint, Lookup] = {}

    def of(self, endpoint: Endpoint) -> Lookup:
        """The look-up for an endpoint; it begins when somebody subscribes."""
        found = self._by_endpoint.get(endpoint)
        if found is None:
            found = self._by_endpoint[endpoint] = Lookup(self._loop, self._network, endpoint)
        return found

    async def close(self) -> None:
        """Wait for nothing more."""
        for lookup in self._by_endpoint.values():
            await lookup.close()


@frozen
class Place:
    """An address of an endpoint, and when its name was asked for and answered (None: it stood there as a number)."""

    endpoint: RemoteEndpoint
    address: ResolvedAddress
    resolved: tuple[float, float] | None = None


class AddressPool:
    """Places to try, in order, as they become known: the source of a staggered race over addresses.

    `allowed`: families that may be used. `opinion`: what is known of a place. `unresolved` is told of each endpoint
    that gives nothing. Not begun until the first take().
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lookups: Sequence[Lookup],
        *,
        allowed: Sequence[int] = FAMILIES,
        resolution_delay: float = 0.05,
        opinion: Callable[[Place], Opinion] = lambda place: Opinion.UNKNOWN,
        unresolved: Callable[[Endpoint, Exception], None] = lambda endpoint, error: None,
    ) -> None:
        self.changed: Changed = lambda: None
        self._loop = loop
        self._lookups = lookups
        self._allowed = allowed
        self._delay = resolution_delay
        self._opinion = opinion
        self._unresolved = unresolved
        self._seen = [0] * len(lookups)
        self._told = [False] * len(lookups)
        self._untried: list[tuple[int, Place]] = []
        self._next_family = self._first_family()
        self._started = False  # something was tried: no more waiting for the other family
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None
        self._waited = False

    def _first_family(self) -> int:
        """The application's own order where it gave addresses, else IPv6 (RFC 8305 §4)."""
        address = self._lookups[0].endpoint.ip_address if self._lookups else None
        first = family_of(address) if address is not None else socket.AF_INET6
        return first if first in self._allowed else next(iter(self._allowed))

    # -- the source of a race -------------------------------------------------------------------------------------
    def take(self) -> Place | None:
        """The next place to try, or None: nothing now, and `changed` is called when there may be."""
        if not self._begun:
            self._begun = True
            for lookup in self._lookups:
                lookup.subscribe(self._news)
            self._gather()
        if not self._untried or self._is_waiting():
            return None
        if len(self._untried) == 1:
            return self._tried(self._untried[0])
        best = max(self._opinion(place) for _, place in self._untried)
        ranked = [entry for entry in self._untried if self._opinion(entry[1]) == best]
        other = [entry for entry in ranked if entry[1].address.family == self._next_family]
        return self._tried(min(other or ranked, key=lambda one: one[0]))

    def _tried(self, entry: tuple[int, Place]) -> Place:
        self._untried.remove(entry)
        family = entry[1].address.family
        self._next_family = next((one for one in self._allowed if one != family), family)
        self._started = True
        return entry[1]

    @property
    def exhausted(self) -> bool:
        """Nothing is left, and nothing more will come."""
        return self._begun and not self._untried and not any(lookup.pending for lookup in self._lookups)

    def close(self) -> None:
        """The race is over."""
        self.changed = lambda: None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- gathering ------------------------------------------------------------------------------------------------
    def _news(self) -> None:
        self._gather()
        self.changed()

    def _gather(self) -> None:
        for index, lookup in enumerate(self._lookups):
            for position, address in enumerate(lookup.found[self._seen[index] :], self._seen[index]):
                if address.family in self._allowed:
                    place = Place(_remote(lookup.endpoint), address, lookup.resolved.get(address.family))
                    self._untried.append((index * 1000 + position, place))
            self._seen[index] = len(lookup.found)
            if not lookup.pending and not self._told[index]:
                self._told[index] = True
                failure = lookup.failure or self._without_family(lookup)
                if failure is not None:
                    self._unresolved(lookup.endpoint, failure)

    def _without_family(self, lookup: Lookup) -> RemoteError | None:
        if any(address.family in self._allowed for address in lookup.found):
            return None
        allowed = " or ".join("IPv4" if family == socket.AF_INET else "IPv6" for family in self._allowed)
        return RemoteError(f"{lookup.endpoint.host!r} has no {allowed} address", reason=Reason.RESOLUTION_FAILED)

    def _is_waiting(self) -> bool:
        """RFC 8305 §3: the other family came first; the preferred one has 50 ms more."""
        if self._started or self._waited:
            return False
        if any(place.address.family == self._next_family for _, place in self._untried):
            return False
        if not any(self._next_family in lookup.pending for lookup in self._lookups):
            return False
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay, self._waited_enough)
        return True

    def _waited_enough(self) -> None:
        self._timer = None
        self._waited = True
        self.changed()


def _remote(endpoint: Endpoint) -> RemoteEndpoint:
    assert isinstance(endpoint, RemoteEndpoint)
    return endpoint


async def resolve_local(lookups: Lookups, endpoints: Sequence[LocalEndpoint]) -> list[LocalEndpoint]:
    """Local endpoints with addresses in place of host names. RemoteError (RESOLUTION_FAILED) if a name has none."""
    resolved: list[LocalEndpoint] = []
    for endpoint in endpoints:
        if endpoint.host_name is None or endpoint.ip_address is not None:
            resolved.append(endpoint)
        else:
            bound = endpoint if endpoint.port is not None or endpoint.service is not None else endpoint.replace(port=0)
            found = await resolve_all(lookups.of(bound))
            resolved += [endpoint.replace(ip_address=one.host, port=one.port, service=None) for one in found]
    return resolved


async def resolve_all(lookup: Lookup) -> list[ResolvedAddress]:
    """Every address of an endpoint, IPv6 first. RemoteError (RESOLUTION_FAILED) if there is none."""
    changed = asyncio.Event()
    lookup.subscribe(changed.set)
    while lookup.pending:
        changed.clear()
        await changed.wait()
    if lookup.failure is not None:
        raise lookup.failure
    return list(_in_order(lookup.found))


def _in_order(found: Sequence[ResolvedAddress]) -> Iterator[ResolvedAddress]:
    for family in FAMILIES:
        yield from (address for address in found if address.family == family)
