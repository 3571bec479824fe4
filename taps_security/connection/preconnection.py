"""A Preconnection: what an application declares, and the verbs that act on it (RFC 9622 §6, §7).

    initiate()   choose stacks and paths -> race them over the addresses -> a ready Connection
    listen()     choose the stacks -> bind -> a Listener
    tunnel()     the local end of a packet stack, without flows
    adopt()      a Connection over a socket that is connected already
    resolve()    endpoints with addresses in place of names
    explain()    what would be chosen and why, without doing anything

Each verb works on what was declared when it was called: later changes have no effect (RFC 9623 §2).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..properties.endpoints import LocalEndpoint, RemoteEndpoint
from ..properties.preference import Preference
from ..properties.security import Role, SecurityParameters
from ..properties.transport import TransportProperties
from ..properties.words import refuse, seconds, whole
from ..protocols import registry
from ..stack.errors import ConfigurationError, ConnectionLost, EstablishmentError, LocalError, Reason, RemoteError
from ..transport.network import Address, Network, ResolvedAddress, StreamSocket, network_of
from .assembly import Assembly, KeyLog, stream_options
from .candidates import Path, StackChoice, choose_paths, choose_stacks, require_stacks
from .connection import Connection
from .establish import attach_stream, establish_datagram, establish_inside, establish_stream, wait_ready
from .performance import PerformanceCache
from .racing import Candidate, Race, RaceReport, Racing
from .resolution import FAMILIES, Lookups, family_of, port_of, resolve_all, resolve_local
from .sessions import SessionCache

if TYPE_CHECKING:
    from ..stack.stack import SecurityStack
    from .listener import Listener
    from .tunnel import Tunnel

HANDSHAKE_TIMEOUT = 10.0  # seconds that one candidate, or one accepted connection, may take to be ready
MAX_ESTABLISHING = 1024  # accepted connections that are not ready yet
BACKLOG = 512  # ready connections that nobody took yet, and what the kernel holds

_ROLES = {"initiate": Role.CLIENT, "listen": Role.SERVER}


class Preconnection:
    """Endpoints, properties and security parameters, from which Connections and Listeners are made.

    The attributes may be set again between two verbs. `racing` has the delays of RFC 8305. `key_log` gets the
    secrets of each connection, a line at a time as Wireshark reads them: it breaks the confidentiality of everything.
    `performance` keeps results of earlier races; share one between Preconnections if they talk to the same peers.
    `race` is the report of the latest initiate(). ConfigurationError for what is wrong.
    """

    def __init__(
        self,
        local_endpoints: Iterable[LocalEndpoint] = (),
        remote_endpoints: Iterable[RemoteEndpoint] = (),
        transport_properties: TransportProperties | None = None,
        security_parameters: SecurityParameters | None = None,
        *,
        racing: Racing | None = None,
        performance: PerformanceCache | None = None,
        key_log: KeyLog | None = None,
    ) -> None:
        self.local_endpoints = _checked("local_endpoints", local_endpoints, LocalEndpoint)
        self.remote_endpoints = _checked("remote_endpoints", remote_endpoints, RemoteEndpoint)
        self.transport_properties = transport_properties or TransportProperties()
        self.security_parameters = security_parameters or SecurityParameters()
        if not isinstance(self.transport_properties, TransportProperties):
            refuse("transport_properties", transport_properties, "TransportProperties")
        if not isinstance(self.security_parameters, SecurityParameters):
            refuse("security_parameters", security_parameters, "SecurityParameters")
        for protocol, _ in registry.allowed(self.security_parameters.stacks):
            registry.configurations(protocol, self.security_parameters)
        self.racing = racing or Racing()
        self.performance = performance or PerformanceCache()
        self.key_log = key_log
        self.race: RaceReport | None = None
        self._sessions = SessionCache()  # where the application brings none: clone() resumes
        self._plan: tuple[tuple[object, ...], list[StackChoice], Assembly] | None = None

    def __repr__(self) -> str:
        remotes = ", ".join(map(str, self.remote_endpoints)) or "anybody"
        return f"<Preconnection to {remotes}>"

    def add_remote(self, *endpoints: RemoteEndpoint) -> None:
        """Further endpoints of the same peer (RFC 9622 §6.1.4)."""
        self.remote_endpoints = (*self.remote_endpoints, *_checked("remote_endpoints", endpoints, RemoteEndpoint))

    # -- initiate -------------------------------------------------------------------------------------------------
    async def initiate(
        self, *, timeout: float | None = None, handshake_timeout: float = HANDSHAKE_TIMEOUT
    ) -> Connection:
        """Race the candidates, and return the first Connection whose handshake is complete (RFC 9622 §7.1).

        `timeout`: seconds for all of it; None: until each candidate failed. `handshake_timeout`: seconds for each
        candidate. Raises ConfigurationError at once if nothing can do what was declared, and says which requirement
        excludes which stack; EstablishmentError with one reason per candidate. Cancelling leaves nothing behind.
        """
        seconds("timeout", timeout)
        seconds("handshake_timeout", handshake_timeout)
        if not self.remote_endpoints:
            raise ConfigurationError("initiate(): no remote endpoint was given, expected at least one RemoteEndpoint")
        for remote in self.remote_endpoints:
            port_of(remote)
        transport, remotes = self.transport_properties, self.remote_endpoints
        choices, assembly = self._planned(Role.CLIENT)
        paths = choose_paths(self.local_endpoints, transport)
        loop = asyncio.get_running_loop()
        network = network_of(loop)
        lookups = Lookups(loop, network)
        race = Race[Connection](
            loop,
            lookups,
            partial(self._snapshot()._connect, loop, network, assembly),
            _discard,
            racing=self.racing,
            attempt_timeout=handshake_timeout,
            cache=None if transport.isolate_session else self.performance,
            families=partial(_families, transport),
        )
        self.race = race.report
        if any(local.host_name for local in self.local_endpoints):
            paths = choose_paths(await _resolved_locally(lookups, self.local_endpoints, "initiate()"), transport)
        connection = await race.run(paths, self._ordered(choices), remotes, timeout)
        if race.report.winner is not None:
            connection.phases = tuple(race.report.winner.phases)
        return connection

    async def _connect(
        self,
        loop: asyncio.AbstractEventLoop,
        network: Network,
        assembly: Assembly,
        candidate: Candidate,
        phase_done: Callable[[str], None],
    ) -> Connection:
        protocol = candidate.choice.protocol
        remote, local = candidate.address[:2], _bound(candidate)
        make = partial(assembly.client, loop, candidate, self)
        if protocol.tunnel is not None:
            tunnel = self._open_tunnel(loop, candidate.choice, assembly)
            connection = await establish_inside(tunnel, remote, _inner(candidate), phase_done)
        elif protocol.carrier == "udp":
            connection = await establish_datagram(network, loop, make, remote, local, phase_done)
        else:
            options = stream_options(self.transport_properties, candidate.path.interface)
            connection = await establish_stream(network, loop, make, remote, local, options, phase_done)
        connection.properties = self.transport_properties
        return connection

    def _snapshot(self) -> Preconnection:
        """What clone() repeats: everything is frozen, so a shallow copy is a deep one (RFC 9623 §2)."""
        copy = Preconnection.__new__(Preconnection)
        copy.__dict__.update(self.__dict__)
        return copy

    # -- listen ---------------------------------------------------------------------------------------------------
    async def listen(
        self,
        *,
        max_establishing: int = MAX_ESTABLISHING,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        backlog: int = BACKLOG,
        reuse_port: bool = False,
    ) -> Listener:
        """Bind the local endpoints, and return a Listener of ready Connections (RFC 9622 §7.2).

        A local endpoint without an address listens on all of them; without a port, or with port 0, on a free one.
        `max_establishing`: unfinished connections at a time, the oldest is dropped for a further one.
        `handshake_timeout`: seconds for each. `backlog`: ready connections that wait to be taken. `reuse_port`: other
        listeners that say so too may have the same port, and the system deals out who comes. Raises ConfigurationError
        if nothing can do what was declared; EstablishmentError if an address cannot be bound.
        """
        from .listener import Listener  # noqa: PLC0415 -- a client needs none

        whole("max_establishing", max_establishing, 1, 1 << 20)
        whole("backlog", backlog, 1, 1 << 16)
        timeout = seconds("handshake_timeout", handshake_timeout) or HANDSHAKE_TIMEOUT
        choices, assembly = self._planned(Role.SERVER)
        protocols = _by_protocol(choices)
        _without_interfaces(self.transport_properties)
        loop = asyncio.get_running_loop()
        listener = Listener(loop, max_establishing=max_establishing, handshake_timeout=timeout, backlog=backlog)
        lookups = Lookups(loop, network_of(loop))
        locals_ = await _resolved_locally(lookups, self.local_endpoints or (LocalEndpoint(),), "listen()")
        locals_ = [await _numbered(loop, one) for one in locals_]
        try:
            if protocols[0][0].protocol.tunnel is not None:
                self._listen_inside(loop, listener, protocols[0][0], assembly, locals_)
            else:
                self._listen(loop, listener, protocols, assembly, locals_, reuse_port=reuse_port)
        except BaseException:
            listener.stop()
            raise
        return listener

    def _listen(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
        protocols: list[list[StackChoice]],
        assembly: Assembly,
        locals_: list[LocalEndpoint],
        *,
        reuse_port: bool,
    ) -> None:
        from .binding import bind  # noqa: PLC0415 -- a client needs none
        from .sources import DatagramSource, StreamSource  # noqa: PLC0415

        carriers = {versions[0].protocol.carrier for versions in protocols}
        options = stream_options(self.transport_properties, "")
        bound = bind(loop, locals_, carriers, backlog=listener.backlog, options=options, reuse_port=reuse_port)
        try:
            for versions in protocols:
                protocol = versions[0].protocol
                for sock in bound.streams if protocol.carrier == "tcp" else ():
                    screener, wrap = assembly.server(loop, versions, locals_[0])
                    source = StreamSource(loop, listener, sock, _accepting(loop, screener, wrap))
                    listener.attach(source, protocol.name)
                for endpoint in bound.datagrams if protocol.carrier == "udp" else ():
                    screener, wrap = assembly.server(loop, versions, locals_[0])
                    most = listener.max_establishing
                    shared = DatagramSource(
                        listener, endpoint, screener, wrap, claims=protocol.claims, max_establishing=most
                    )
                    listener.attach(shared, protocol.name)
        except BaseException:
            bound.close()
            raise

    def _listen_inside(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
        choice: StackChoice,
        assembly: Assembly,
        locals_: list[LocalEndpoint],
    ) -> None:
        listener.tunnel = tunnel = self._open_tunnel(loop, choice, assembly)
        try:
            for local in locals_:
                source = tunnel.listen(listener, (local.ip_address or "", local.port or 0))
                listener.attach(source, choice.protocol.name)
        except LocalError as error:
            if error.reason is Reason.ADDRESS_IN_USE:
                raise EstablishmentError(str(error), reason=Reason.ADDRESS_IN_USE) from error
            raise
        finally:
            tunnel.close_if_unused()

    # -- tunnels --------------------------------------------------------------------------------------------------
    async def tunnel(self) -> Tunnel:
        """The local end of the packet stack that was declared, up and without flows of its own.

        It shares its stacks with every initiate() and listen() that has the same options. Use it in an `async with`.
        Raises ConfigurationError if no packet stack qualifies, EstablishmentError if its port cannot be bound.
        """
        choices, assembly = self._planned(Role.SERVER, "tunnel()")  # peers may come later, or begin themselves
        inside = [choice for choice in choices if choice.protocol.tunnel is not None]
        if not inside:
            names = ", ".join(sorted({choice.protocol.name for choice in choices}))
            raise ConfigurationError(f"tunnel(): {names} carries no inner packets; name a stack that does in `stacks`")
        tunnel = self._open_tunnel(asyncio.get_running_loop(), inside[0], assembly)
        tunnel.use()
        return tunnel

    def _open_tunnel(self, loop: asyncio.AbstractEventLoop, choice: StackChoice, assembly: Assembly) -> Tunnel:
        from .tunnel import open_tunnel  # noqa: PLC0415 -- only packet stacks need one

        protocol = choice.protocol
        options = registry.options_of(protocol, choice.security)
        make = partial(assembly.tunnel, loop, choice)
        return open_tunnel(loop, make, options, name=protocol.name, claims=protocol.claims)

    # -- adopt ----------------------------------------------------------------------------------------------------
    async def adopt(
        self, sock: StreamSocket, *, accepted: bool = False, handshake_timeout: float = HANDSHAKE_TIMEOUT
    ) -> Connection:
        """Secure a byte-stream socket that is connected already, and own it from now on, whatever comes of it.

        `accepted`: we are the side that listened. The first stack that qualifies is used; nothing races. Raises as
        initiate() does; the reasons of an EstablishmentError are those of the one candidate.
        """
        loop = asyncio.get_running_loop()
        try:
            sock.setblocking(False)
            connection = self._adopted(loop, sock, accepted=accepted)
            attach_stream(loop, connection, sock)
        except BaseException:
            sock.close()
            raise
        try:
            async with asyncio.timeout(seconds("handshake_timeout", handshake_timeout)):
                await wait_ready(connection)
        except TimeoutError:
            raise ConnectionLost("the handshake took too long", reason=Reason.TIMEOUT) from None
        return connection

    def _adopted(self, loop: asyncio.AbstractEventLoop, sock: StreamSocket, *, accepted: bool) -> Connection:
        choices, assembly = self._planned(Role.SERVER if accepted else Role.CLIENT)
        streams = [choice for choice in choices if choice.protocol.carrier == "tcp"]
        if not streams:
            raise ConfigurationError("adopt(): no stack over byte streams qualifies, expected one, as for a TCP socket")
        if accepted:
            versions = next(one for one in _by_protocol(streams))
            screener, wrap = assembly.server(loop, versions, LocalEndpoint())
            return wrap(screener.accept(loop.time()))
        host, port, *_ = sock.getpeername()
        remote = self.remote_endpoints[0] if self.remote_endpoints else RemoteEndpoint(ip_address=host, port=port)
        address = ResolvedAddress(host, port, socket.AF_INET6 if ":" in host else socket.AF_INET)
        return assembly.client(loop, Candidate(streams[0], Path(), remote, address), self)[1]

    # -- looking without doing ------------------------------------------------------------------------------------
    async def resolve(self) -> tuple[list[LocalEndpoint], list[RemoteEndpoint]]:
        """The endpoints with addresses in place of names (RFC 9622 §6.1.5). EstablishmentError if a name has none."""
        loop = asyncio.get_running_loop()
        lookups = Lookups(loop, network_of(loop))
        locals_ = await _resolved_locally(lookups, self.local_endpoints, "resolve()")
        remotes: list[RemoteEndpoint] = []
        try:
            for remote in self.remote_endpoints:
                found = await resolve_all(lookups.of(remote))
                remotes += [remote.replace(ip_address=one.host, port=one.port, service=None) for one in found]
        except RemoteError as error:
            raise EstablishmentError(f"resolve(): {error}", reason=Reason.RESOLUTION_FAILED) from None
        finally:
            await lookups.close()
        return locals_, remotes

    def explain(self, verb: str = "initiate") -> dict[str, Any]:
        """What initiate() or listen() would choose from, as data: `candidates`, each with `stack`, `version`,
        `configuration`, `kept`, `rank` and `reasons` (`property`, `preference`, `provides`, `effect`, `why`).

        Stacks that were kept come first, by rank. Raises ConfigurationError only for a wrong verb.
        """
        if verb not in _ROLES:
            refuse("explain", verb, "'initiate' or 'listen'")
        return {"candidates": [choice.as_json() for choice in self.considered(_ROLES[verb])]}

    def considered(self, role: Role) -> list[StackChoice]:
        """The same as objects, for those who print it."""
        isolated = self.transport_properties.isolate_session
        return choose_stacks(
            self.security_parameters,
            self.transport_properties,
            role,
            cache=None if isolated or role is Role.SERVER else self.performance,
            places=self._places(),
            hosts=self._hosts(),
            complete=True,
        )

    # -- inside ---------------------------------------------------------------------------------------------------
    def _planned(self, role: Role, verb: str = "") -> tuple[list[StackChoice], Assembly]:
        """The stacks that qualify, and what makes them; kept as long as the declarations are the same objects."""
        security, transport = self.security_parameters, self.transport_properties
        made_for = (security, transport, role, self.key_log, registry.names(), self.remote_endpoints)
        if self._plan is None or not all(map(_same, self._plan[0], made_for)):
            found = choose_stacks(security, transport, role, hosts=self._hosts())
            choices = require_stacks(found, verb or f"{_verb(role)}()")
            sessions = security.session_cache
            if sessions is None and role is Role.CLIENT:
                sessions = self._sessions
            if transport.isolate_session:
                sessions = None
            self._plan = (made_for, choices, Assembly(security, transport, role, sessions, self.key_log))
        return self._plan[1], self._plan[2]

    def _ordered(self, choices: list[StackChoice]) -> list[StackChoice]:
        """Earlier results refine the order; with one stack, or nothing known, there is nothing to refine."""
        if len(choices) == 1 or not len(self.performance) or self.transport_properties.isolate_session:
            return choices
        return [choice for choice in self.considered(Role.CLIENT) if choice.kept]

    def _hosts(self) -> list[str]:
        return [remote.host_name for remote in self.remote_endpoints if remote.host_name is not None]

    def _places(self) -> list[tuple[str, str]]:
        names = list(self.transport_properties.interface) or [""]
        return [(name, remote.host) for name in names for remote in self.remote_endpoints]


# ----------------------------------------------------------------------------------------------------------- helpers
def _checked(name: str, endpoints: Iterable[Any], kind: type[Any]) -> tuple[Any, ...]:
    if not isinstance(endpoints, Iterable) or isinstance(endpoints, str):
        refuse(name, endpoints, f"a list of {kind.__name__} objects")
    found = tuple(endpoints)
    for endpoint in found:
        if not isinstance(endpoint, kind):
            refuse(name, endpoint, f"{kind.__name__} objects")
        if endpoint.protocol is not None:
            registry.descriptor(endpoint.protocol)
    return found


def _same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, tuple) and one == other)


def _verb(role: Role) -> str:
    return next(verb for verb, known in _ROLES.items() if known is role)


def _discard(connection: Connection) -> None:
    connection.abort()


def _accepting(
    loop: asyncio.AbstractEventLoop, screener: Any, wrap: Callable[[SecurityStack], Connection]
) -> Callable[[], Connection]:
    return lambda: wrap(screener.accept(loop.time()))


def _inner(candidate: Candidate) -> Address:
    """The local end that was given for an inner flow."""
    local = candidate.path.local
    return ("", 0) if local is None else (local.ip_address or "", local.port or 0)


def _families(transport: TransportProperties, path: Path) -> Sequence[int]:
    """What may be used on a path: the family of its local address; IPv4 alone has no temporary addresses."""
    if path.local is not None and path.local.ip_address is not None:
        return (family_of(path.local.ip_address),)
    if transport.use_temporary_local_address is Preference.PROHIBIT:
        return (socket.AF_INET,)
    return FAMILIES


def _bound(candidate: Candidate) -> Address | None:
    """The local address to bind to, if one was given."""
    local = candidate.path.local
    if local is None or (local.ip_address is None and not local.port):
        return None
    wildcard = "0.0.0.0" if candidate.address.family == socket.AF_INET else "::"  # noqa: S104 -- a source address
    return local.ip_address or wildcard, local.port or 0


def _by_protocol(choices: list[StackChoice]) -> list[list[StackChoice]]:
    """The versions of each protocol that is to listen, in its first configuration."""
    protocols: dict[str, list[StackChoice]] = {}
    for choice in choices:
        versions = protocols.setdefault(choice.protocol.name, [])
        if not versions or choice.configuration == versions[0].configuration:
            versions.append(choice)
    found = list(protocols.values())
    streams = [versions for versions in found if versions[0].protocol.carrier == "tcp"]
    inside = [versions for versions in found if versions[0].protocol.tunnel is not None]
    clash = streams if len(streams) > 1 else inside if inside and len(found) > 1 else []
    if clash:
        names = ", ".join(repr(versions[0].protocol.name) for versions in (streams if clash is streams else found))
        raise ConfigurationError(
            f"listen(): {names} would share one port, expected one of them: name it in SecurityParameters.stacks"
        )
    return found


def _without_interfaces(transport: TransportProperties) -> None:
    """A listener is kept to an interface by the address that it binds, not by a property."""
    for name, wish in transport.interface.items():
        if wish in {Preference.REQUIRE, Preference.PROHIBIT}:
            raise ConfigurationError(
                f"listen(): interface {name!r} was given with {wish.name.lower()!r}, expected a LocalEndpoint with an "
                "address of the interface that is meant"
            )


async def _resolved_locally(lookups: Lookups, locals_: Sequence[LocalEndpoint], verb: str) -> list[LocalEndpoint]:
    """Local endpoints without host names; EstablishmentError if a name has no address."""
    try:
        return await resolve_local(lookups, locals_)
    except RemoteError as error:
        raise EstablishmentError(f"{verb}: {error}", reason=Reason.RESOLUTION_FAILED) from None
    finally:
        await lookups.close()


async def _numbered(loop: asyncio.AbstractEventLoop, local: LocalEndpoint) -> LocalEndpoint:
    """The endpoint with a port number in place of a service."""
    if local.service is None:
        return local
    try:
        found = await network_of(loop).resolve(local.ip_address or "127.0.0.1", local.service, 0)
    except OSError as error:
        text = f"listen(): service {local.service!r} is not known: {error.strerror or error}"
        raise EstablishmentError(text, reason=Reason.RESOLUTION_FAILED) from None
    return local.replace(port=found[0].port, service=None)
