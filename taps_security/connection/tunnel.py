"""The local end of packet stacks: one outer socket, one stack for each peer, and the inner flows that go through them.

    Preconnection.initiate() --inner address--> route() --> the peer's Group --open()--> a Flow
    Preconnection.listen()   --inner port-----> InnerSource <--taker-- Groups of peers that begin
    Preconnection.tunnel()   the local end itself: status, peers, raw packets

A tunnel is up while somebody uses it: a flow, a listener, or who asked for it. Two Preconnections with the same options
share one, because two local ends with one key would take each other's traffic.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..stack.errors import ConfigurationError, ConnectionLost, EstablishmentError, LocalError, Reason, TapsError
from ..stack.events import FlowKind, FlowOpened
from ..stack.layers import PathFacts
from ..stack.tunnel import FlowAddress, PacketStack, PeerId
from ..transport.network import Address, network_of
from .endpoints import open_endpoint
from .resolution import family_of

if TYPE_CHECKING:
    from ..stack.stack import SecurityStack
    from .assembly import TunnelParts
    from .driver import Driver
    from .group import Flow, Group
    from .listener import Listener
    from .packets import Packets

LOOK_AGAIN = 30.0  # seconds between two looks whether a peer's name should be resolved again

REMEMBERED = 8  # options that apply() brought, with which others still find the tunnel

# By place, protocol and identity. Weak: a tunnel that is up is kept by its socket, and a loop by nobody here.
_Table = WeakValueDictionary[tuple[Hashable, str, Hashable], "Tunnel"]
_tunnels: WeakKeyDictionary[asyncio.AbstractEventLoop, _Table] = WeakKeyDictionary()


def open_tunnel(
    loop: asyncio.AbstractEventLoop,
    make: Callable[[], TunnelParts],
    options: object,
    *,
    name: str,
    claims: tuple[bytes, ...],
) -> Tunnel:
    """The tunnel with these options: the one that is up, or a new one. Whoever gets it uses it at once or closes it.

    Raises ConfigurationError if one with the same key is up with other options, EstablishmentError if the outer
    address cannot be bound.
    """
    network = network_of(loop).place()
    tunnels = _tunnels.setdefault(loop, WeakValueDictionary())
    for (where, kind, _), tunnel in tunnels.items():
        if where == network and kind == name and options in tunnel.applied:
            return tunnel
    parts = make()
    place = (network, name, parts.engine.identity)
    if place in tunnels:
        raise ConfigurationError(
            f"options[{name!r}]: a tunnel with this key is up with other options; expected the same, or "
            "Tunnel.apply() to change it"
        )
    try:
        tunnel = Tunnel(loop, parts, options, name=name, claims=claims)
    except OSError as error:
        text = f"cannot bind the outer port {parts.engine.local[1]}: {error.strerror or error}"
        raise EstablishmentError(text, reason=Reason.ADDRESS_IN_USE) from error
    tunnels[place] = tunnel
    tunnel.when_closed = lambda: tunnels.pop(place, None)
    return tunnel


class Tunnel:
    """A local end while it is up. Made by Preconnection.tunnel(), or found as `tunnel` of connections and listeners.

    Leaving the `async with` lets go of it; it closes when nobody else uses it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        parts: TunnelParts,
        options: object,
        *,
        name: str,
        claims: tuple[bytes, ...],
    ) -> None:
        self.loop = self._loop = loop
        self._network = network_of(loop)
        self._engine = parts.engine
        self._make_group = parts.group
        self._name = name
        self._groups: dict[PeerId, Group] = {}
        self._beginning: dict[PeerId, asyncio.Task[Group]] = {}
        self._moving: dict[PeerId, asyncio.Task[None]] = {}
        self._sources: dict[Address, InnerSource] = {}
        self._packets: Packets | None = None
        self._users = 0
        self._looking: asyncio.TimerHandle | None = None
        self.applied: list[object] = [options]
        self.closed = False
        self.when_closed: Callable[[], object] = lambda: None
        self._endpoint = open_endpoint(loop, parts.engine.local, random=parts.random)
        try:
            self._endpoint.serve(self._engine.screener, self._accept, claims=claims)
        except BaseException:
            self._endpoint.close_if_unused()
            raise
        self._begin_eager()

    def __repr__(self) -> str:
        return f"<Tunnel {self._name} {', '.join(self._engine.inner)} on port {self.port}, {len(self._groups)} stacks>"

    async def __aenter__(self) -> Tunnel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    @property
    def port(self) -> int:
        """The outer UDP port: the real one if 0 was asked for."""
        return self._endpoint.local[1]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Our inner addresses."""
        return self._engine.inner

    @property
    def dropped(self) -> dict[str, int]:
        """Outer datagrams that led to nothing, by reason: those of strangers, also to others on this port, and those
        of peers."""
        return dict(self._endpoint.noise + Counter(self._engine.dropped))

    # -- who uses it ----------------------------------------------------------------------------------------------
    def use(self) -> None:
        """It stays up until release()."""
        self._users += 1

    def release(self) -> None:
        """Once for each use(), and once when an `async with` was not used. Closes what nobody else uses."""
        self._users -= 1
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """Close it unless somebody uses it."""
        if not self.closed and not self._used():
            self._loop.call_soon(self._close)  # whoever closed its last flow is still inside the stack

    def _used(self) -> bool:
        return self._users > 0 or any(map(len, self._groups.values()))

    def _close(self) -> None:
        if self.closed or self._used():
            return
        self.closed = True
        self.when_closed()
        if self._looking is not None:
            self._looking.cancel()
        for task in (*self._beginning.values(), *self._moving.values()):
            task.cancel()
        for group in tuple(self._groups.values()):
            group.close()
        self._endpoint.stop_serving(self._engine.screener)

    # -- stacks ---------------------------------------------------------------------------------------------------
    def _accept(self, stack: SecurityStack, facts: PathFacts) -> Driver:
        return self._add(stack).driver  # type: ignore[arg-type]

    def _add(self, stack: PacketStack) -> Group:
        group = self._make_group(stack, taker=self._taken, idle=self._idle, ended=self._ended, tunnel=self)
        self._groups[stack.peer] = group
        group.outer = self._engine.outer(stack.peer)
        if self._packets is not None:
            self._packets.join(group)
        self._watch()
        return group

    def _idle(self, group: Group) -> None:
        self.close_if_unused()

    def _ended(self, group: Group) -> None:
        if self._groups.get(group.stack.peer) is group:
            del self._groups[group.stack.peer]
        self.close_if_unused()

    def _begin(self, peer: PeerId) -> asyncio.Task[Group]:
        """A stack for a peer that has none, once its name is resolved."""
        task = self._beginning.get(peer)
        if task is None:
            task = self._beginning[peer] = self._loop.create_task(self._make_stack(peer))
            task.add_done_callback(lambda done: self._begun(peer, done))
        return task

    def _begun(self, peer: PeerId, task: asyncio.Task[Group]) -> None:
        del self._beginning[peer]
        if not task.cancelled():
            task.exception()  # whoever waits has it too; who does not, sees in the status that there is no stack
        self.close_if_unused()

    def _begin_eager(self) -> None:
        for peer in self._engine.eager():
            if peer not in self._groups:
                self._begin(peer)
        self._watch()

    async def _make_stack(self, peer: PeerId) -> Group:
        found = await self._find(peer)
        if peer in self._groups:  # it began by itself meanwhile
            return self._groups[peer]
        group = self._add(self._engine.stack(peer, self._loop.time()))
        group.place = found[0]
        self._endpoint.connect(group.driver, found[0])
        return group

    async def _find(self, peer: PeerId) -> list[Address]:
        """Where the peer may be now. LocalError if nobody says so, or if the peer is none any more."""
        outer = self._engine.outer(peer)
        while True:
            if outer is None:
                raise LocalError(
                    "the peer has no endpoint and has not begun itself; give it one in its options",
                    reason=Reason.MISSING_CREDENTIAL,
                )
            found = await self._resolve(*outer)
            asked, outer = outer, self._engine.outer(peer)
            if asked == outer:
                return found

    async def _resolve(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._network.resolve(host, port)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA does not know
            why = getattr(error, "strerror", None) or str(error)
        else:
            usable = [one[:2] for one in found if self._reaches(one.family)]
            if usable:
                return usable
            why = "none of its addresses is of a family that the outer socket has"
        text = f"the peer's endpoint {host!r} was not resolved: {why}"
        raise ConnectionLost(text, reason=Reason.RESOLUTION_FAILED)

    def _reaches(self, family: int) -> bool:
        bound = self._endpoint.local[0]
        return family == family_of(bound) or (not self._engine.local[0] and ":" in bound)  # "": of both families

    async def group_of(self, peer: PeerId) -> Group:
        """The Group of a peer's stack, begun if it has none. Raises LocalError and RemoteError."""
        group = self._groups.get(peer)
        return group if group is not None else await asyncio.shield(self._begin(peer))

    # -- flows ----------------------------------------------------------------------------------------------------
    async def connect(self, remote: Address, local: Address = ("", 0)) -> Flow:
        """A flow to an inner address, ready when its stack is. Raises LocalError if no peer has that address."""
        peer = self._engine.route(remote[0])
        if peer is None:
            raise LocalError(
                f"no peer's allowed addresses contain {remote[0]}; add them to one peer in the options",
                reason=Reason.NO_CANDIDATES,
            )
        group = await self.group_of(peer)
        return group.open(FlowKind.DATAGRAM, FlowAddress(remote, local))

    def listen(self, listener: Listener, local: Address) -> InnerSource:
        """What gives `listener` the flows to an inner port (0: a free one). Raises LocalError if it is in use."""
        bound = self._engine.listen(*local)
        source = self._sources[bound] = InnerSource(self, listener, bound)
        return source

    def unlisten(self, source: InnerSource) -> None:
        """The port is free again; flows that were taken live on."""
        if self._sources.get(source.local) is source:
            del self._sources[source.local]
            self._engine.unlisten(source.local)

    def _taken(self, flow: Flow, event: FlowOpened) -> bool:
        address = event.remote
        assert isinstance(address, FlowAddress)
        source = self._sources.get(address.local) or self._sources.get(("", address.local[1]))
        return source is not None and source.listener.take(flow)

    # -- the local end itself -------------------------------------------------------------------------------------
    def packets(self) -> Packets:
        """Raw inner IP packets of all peers, for those who bring a stack of their own. One at a time."""
        from .packets import Packets  # noqa: PLC0415 -- few need it

        if self._packets is not None:
            raise LocalError("packets(): somebody takes the packets of this tunnel already")
        self._packets = Packets(self, self._engine)
        self.use()
        for group in tuple(self._groups.values()):
            with suppress(LocalError):  # its stack is just ending
                self._packets.join(group)
        return self._packets

    def left(self, packets: Packets) -> None:
        """Raw packets are no longer wanted."""
        if self._packets is packets:
            self._packets = None
            self.release()

    async def apply(self, options: object) -> None:
        """Change the peers of the running tunnel to those of `options`. ConfigurationError: nothing has changed.

        Peers that are gone lose their stacks and flows at once; the others keep their keys. Waits until the names of
        changed endpoints are resolved; cancelling that changes nothing more.
        """
        if self.closed:
            raise LocalError("apply(): the tunnel is closed")
        gone = self._engine.apply(options)
        first, *later = self.applied
        self.applied = [first, *[one for one in later if one != options][-REMEMBERED + 1 :], options]
        if self._packets is not None:
            self._packets.routes_changed()
        self.use()  # the flows that end may be the last ones
        try:
            for peer in gone:
                if peer in self._groups:
                    self._groups[peer].abort(LocalError("the peer was removed", reason=Reason.CANCELLED))
            for group in tuple(self._groups.values()):
                group.driver.pump()  # flows may have ended, keepalives may be due
            self._begin_eager()
            moving = self._move_changed()
            if moving:
                await asyncio.wait(moving)
        finally:
            self.release()

    def status(self) -> list[dict[str, Any]]:
        """One entry for each configured peer, in words and numbers that JSON can carry."""
        now = self._loop.time()
        entries = []
        for peer in self._engine.peers():
            entry = dict(self._engine.status(peer, now))
            group = self._groups.get(peer)
            entry["flows"] = 0 if group is None else len(group)
            entry["keys"] = [] if group is None else [record.as_json() for record in group.log.key_records()]
            entries.append(entry)
        return entries

    # -- names that change ----------------------------------------------------------------------------------------
    def _watch(self) -> None:
        """Look again in a while, as long as there is something to look after."""
        if self._looking is None and not self.closed and (self._groups or self._engine.eager()):
            self._looking = self._loop.call_later(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        """Peers that answered nothing for long may have moved: their names are resolved again."""
        self._looking = None
        self._begin_eager()
        self._move_changed()

    def _move_changed(self) -> list[asyncio.Task[None]]:
        """Look for peers that answer nothing where they were, or that were said to be elsewhere."""
        peers = frozenset(self._engine.peers())
        for peer, group in self._groups.items():
            outer = self._engine.outer(peer) if peer in peers else None
            if outer is None:
                group.outer = None  # the peer is where it was heard last
            elif (group.stack.endpoint_stale or group.outer != outer) and peer not in self._moving:
                task = self._moving[peer] = self._loop.create_task(self._move(peer))
                task.add_done_callback(lambda _, peer=peer: self._moving.pop(peer))  # type: ignore[misc]
        return list(self._moving.values())

    async def _move(self, peer: PeerId) -> None:
        try:
            found = await self._find(peer)
        except TapsError:
            return  # as unknown as before; the next look asks again
        group = self._groups.get(peer)
        if group is None or group.ended:
            return
        outer = self._engine.outer(peer)
        if group.outer == outer and group.place in found:  # of several addresses the next one, in turn
            found = found[found.index(group.place) + 1 :] + found
        if group.outer == outer and group.place == found[0]:
            return
        group.outer, group.place = outer, found[0]
        path = self._endpoint.join(group.driver, found[0])
        group.stack.migrate(path, self._loop.time())
        group.driver.pump()


class InnerSource:
    """An inner port of a tunnel, as a Listener's source: its connections are ready when they come."""

    def __init__(self, tunnel: Tunnel, listener: Listener, local: Address) -> None:
        self.tunnel = tunnel
        self.listener = listener
        self.local = local
        hosts = (local[0],) if local[0] else tunnel.addresses
        self.addresses: tuple[Address, ...] = tuple((host, local[1]) for host in hosts)
        tunnel.use()

    def resume(self) -> None:
        """New flows are taken again."""

    def pause(self) -> None:
        """Nothing to do: whether there is room is asked for each flow."""

    def close(self) -> None:
        """Let go of the port."""
        self.tunnel.unlisten(self)
        self.tunnel.release()
