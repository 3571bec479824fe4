"""A local datagram socket, shared by every stack on it.

    socket --run of datagrams--> route table --Inbound--> driver of the stack that owns the first of them
                                     | nobody's
                                     v
                     screeners in order: NotOurs, Drop, Reply, or Create

The table knows issued ids first and then paths; behind both stand stacks or their lingering ends. A stack takes what
is its own from the front of a run and leaves the rest, which is looked up again. Noise is counted by its reason and
never raised.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence

from ..stack.errors import ConfigurationError, ConnectionLost, LocalError, Reason, TapsError
from ..stack.events import HandshakeComplete, PathId, PathNews, PeerMoved, RouteIssued, RouteRetired, StackEvent
from ..stack.layers import PathFacts
from ..stack.screening import Create, DatagramScreener, Drop, HandOver, Load, Match, NotOurs, Reply
from ..stack.stack import Inbound, Linger, SecurityStack
from ..transport.buffers import shared_buffers
from ..transport.network import NO_REPORT, Address, Arrival, DatagramSocket, Report
from ..transport.paths import PathTable
from ..transport.poller import poller_of
from .door import Door, Member, Outlet
from .driver import Driver

RUNS_PER_TURN = 32  # receive calls, of up to 64 KiB each, before other sockets and timers have their turn
LOOK_AGAIN = 8  # datagrams that come alone, until it is seen again whether more than one waits at a time
PATHS_PER_STACK = 8  # one more makes the endpoint forget the oldest that is not in use
LINGERING_ENDS = 1024  # one more makes the oldest go early
AMPLIFICATION = 3  # octets that may go to an address that is not validated, per octet received: RFC 9000 §8
SCREENING_MTU = 1200  # told to screeners; a stack hears the real one

MakeDriver = Callable[[SecurityStack, PathFacts], Driver | None]  # None: there is no room for it
RouteOf = Callable[[memoryview], Hashable | None]
_NOBODY = ("", 0)
_EMPTY = memoryview(b"")


class _Served:
    """A screener at work. `establishing`: stacks that it let in and that are not established yet, the oldest first."""

    __slots__ = ("claims", "establishing", "make", "most", "route_of", "screener")

    def __init__(self, screener: DatagramScreener, make: MakeDriver, claims: Sequence[bytes], most: int) -> None:
        self.screener, self.make, self.claims, self.most = screener, make, claims, most
        self.route_of: RouteOf = screener.route_of
        self.establishing: OrderedDict[Member, None] = OrderedDict()


class Endpoint:
    """One local datagram socket. Once it had a stack or a screener it closes when the last of them has left.

    `random`: octets of that number, for issued ids. `paths` may be shared by several endpoints, so that one stack can
    have paths on each of them.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: DatagramSocket,
        *,
        random: Callable[[int], bytes],
        paths: PathTable | None = None,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._random = random
        self._paths = PathTable() if paths is None else paths
        self._borrow = shared_buffers(loop).receive.borrow
        self._arrival = Arrival()
        self._alone = 0  # so many datagrams are read without looking whether another waits
        self._inbound = Inbound(_EMPTY)
        self._outlet = Outlet(loop, sock, self._door_closed)
        self._members: dict[Driver, Member] = {}
        self._by_route: dict[Hashable, Member | Linger] = {}
        self._by_path: dict[PathId, list[Member | Linger]] = {}  # the first owns what no id claims
        self._lingering: OrderedDict[int, tuple[Linger, Member]] = OrderedDict()  # with who left it behind
        self._linger_timer: asyncio.TimerHandle | None = None
        self._route_of: Counter[RouteOf] = Counter()  # each with the number of those who need it
        self._screeners: list[_Served] = []
        self.noise: Counter[str] = Counter()  # datagrams that led to nothing, by reason
        self.dropped = 0  # unfinished stacks dropped for younger ones
        self.closed = False
        self._poller = poller_of(loop)
        self._poller.add_reader(sock, self._readable)

    def __repr__(self) -> str:
        return f"<Endpoint {self.local[0]}:{self.local[1]} stacks={len(self._members)}>"

    @property
    def local(self) -> Address:
        """As bound: the host may be a wildcard."""
        return self._socket.local

    @property
    def paths(self) -> PathTable:
        """The names of its paths, for a further endpoint of the same stack."""
        return self._paths

    @property
    def shared(self) -> bool:
        """Others use it too, or may come."""
        return bool(self._screeners) or len(self._members) > 1

    @property
    def half_open(self) -> int:
        """Stacks that a screener created and that are not established yet."""
        return sum([len(served.establishing) for served in self._screeners])

    @property
    def stacks(self) -> int:
        """Stacks on this socket."""
        return len(self._members)

    # -- who uses it ----------------------------------------------------------------------------------------------
    def connect(self, driver: Driver, remote: Address, local: Address | None = None) -> PathId:
        """Start a driver on the path to `remote`. `local`: the source address, where the socket has several."""
        facts = self._facts(local or self.local, remote)
        member = self._enter(driver)
        path = self._open_path(member, facts)
        driver.start(path, facts, member.doors[path])
        return path

    def join(self, driver: Driver, remote: Address, local: Address | None = None) -> PathId:
        """A further path for a driver that was started here, or on another endpoint with the same `paths`."""
        facts = self._facts(local or self.local, remote)
        return self._add_path(self._members.get(driver) or self._enter(driver), facts)

    def read_routes(self, route_of: RouteOf) -> None:
        """How a protocol's datagrams say their issued id. Screeners bring theirs along."""
        self._route_of[route_of] += 1

    def _read_no_more(self, route_of: RouteOf | None) -> None:
        """A screener, or what it let in, has gone; the last of them takes its way of reading along."""
        if route_of is not None:
            self._route_of[route_of] -= 1
            if not self._route_of[route_of]:
                del self._route_of[route_of]

    def serve(
        self,
        screener: DatagramScreener,
        make: MakeDriver,
        *,
        claims: Sequence[bytes] = (b"",),
        max_establishing: int = 1024,
    ) -> None:
        """Let `screener` look at datagrams that nobody claims and that begin with one of `claims`.

        `make` puts a driver around each stack that it accepts. At most `max_establishing` of its stacks are unfinished
        at a time: one more drops the oldest of them. ConfigurationError if another screener's claims overlap: whose a
        datagram is could not be told.
        """
        for other in self._screeners:
            for one in claims:
                if any(one.startswith(theirs) or theirs.startswith(one) for theirs in other.claims):
                    raise ConfigurationError(
                        f"listen(): two protocols on port {self.local[1]} would both take datagrams that begin with "
                        f"{one.hex() or 'anything'}; give one of them a port of its own"
                    )
        self._screeners.append(_Served(screener, make, claims, max_establishing))
        self.read_routes(self._screeners[-1].route_of)

    def stop_serving(self, screener: DatagramScreener) -> None:
        """`screener` accepts nothing more. Its unfinished stacks are aborted, the others live on."""
        stopped = [served for served in self._screeners if served.screener is screener]
        self._screeners = [served for served in self._screeners if served.screener is not screener]
        for served in stopped:
            self._read_no_more(served.route_of)
            for member in tuple(served.establishing):
                self._abort(member, LocalError("the listener is stopped", reason=Reason.CANCELLED))
        self.close_if_unused()

    def issue_id(self, kind: str, length: int) -> bytes:
        """An id of `length` octets for which the route (kind, id) leads nowhere yet. LocalError: hardly one is free."""
        for _ in range(64):
            found = self._random(length)
            if (kind, found) not in self._by_route:
                return found
        raise LocalError(f"issue_id(): hardly an id of {length} octets is free", reason=Reason.OVERLOADED)

    def close(self) -> None:
        """Abort every stack that is left and close the socket at once."""
        if self.closed:
            return
        self._screeners.clear()
        for member in tuple(self._members.values()):
            self._abort(member, LocalError("the endpoint was closed", reason=Reason.CANCELLED))
        self.closed = True
        for key in tuple(self._lingering):
            self._forget(key)
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._poller.remove_reader(self._socket)
        self._outlet.close()
        self._socket.close()

    def close_if_unused(self) -> None:
        """Close it if it has no stack, no lingering end and no screener."""
        if not self._members and not self._lingering and not self._screeners:
            self.close()

    def _abort(self, member: Member, error: TapsError) -> None:
        member.driver.stack.abort(error, self._loop.time())
        member.driver.pump()

    # -- paths ----------------------------------------------------------------------------------------------------
    def _facts(self, local: Address, remote: Address) -> PathFacts:
        return PathFacts(local, remote, mtu=self._socket.path_mtu(remote))

    def _enter(self, driver: Driver, served: _Served | None = None) -> Member:
        member = self._members[driver] = Member(driver)
        if served is not None:
            member.route_of, member.establishing = served.route_of, served.establishing
            served.establishing[member] = None
            self.read_routes(served.route_of)
        driver.owner = self
        return member

    def _open_path(self, member: Member, facts: PathFacts) -> PathId:
        path = self._paths.name(facts)
        if path not in member.doors:
            member.doors[path] = Door(self._outlet, member, path, facts)
            self._by_path.setdefault(path, []).append(member)
        return path

    def _leave_path(self, user: Member | Linger, path: PathId) -> None:
        users = self._by_path[path]
        users.remove(user)
        if not users:
            del self._by_path[path]
            self._paths.forget(path)

    def _find_path(self) -> PathId | None:
        arrival, local = self._arrival, self._socket.local
        path = self._paths.find(arrival.local, arrival.remote)
        if path is None and local != arrival.local:  # a path that was opened before its source address was known
            path = self._paths.find(local, arrival.remote)
        return path

    def _new_path(self, member: Member) -> PathId:
        """A stack's datagram came by a path that it does not have: nothing changes until its record has opened it."""
        return self._add_path(member, self._facts(self._arrival.local, self._arrival.remote))

    def _add_path(self, member: Member, facts: PathFacts) -> PathId:
        path = self._open_path(member, facts)
        if len(member.doors) > PATHS_PER_STACK:
            keep = member.current, member.newest, member.doors[path]
            oldest = next(path for path, door in member.doors.items() if door not in keep)
            del member.doors[oldest]
            self._leave_path(member, oldest)
            member.driver.drop_path(oldest)
        member.driver.add_path(path, facts, member.doors[path])
        return path

    # -- what drivers tell ----------------------------------------------------------------------------------------
    def heard(self, driver: Driver, event: StackEvent) -> None:
        """Routes, the end of a handshake, and where the peer is."""
        member = self._members.get(driver)
        if member is None:
            return
        if isinstance(event, RouteIssued):
            self._issue_route(member, event)
        elif isinstance(event, RouteRetired):
            if self._by_route.get(event.route) is member:
                del self._by_route[event.route]
                member.routes.discard(event.route)
        elif isinstance(event, HandshakeComplete):
            member.complete = True
            member.established()
        elif isinstance(event, PeerMoved):
            member.newest = member.doors.get(event.new)

    def _issue_route(self, member: Member, event: RouteIssued) -> None:
        other = self._by_route.get(event.route)
        if isinstance(other, Member) and other is not member:
            if not event.replace:
                self.noise["a route that another stack has"] += 1
                return
            other.routes.discard(event.route)
            lost = ConnectionLost("the peer began a new connection in place of this one", reason=Reason.RESET)
            self._loop.call_soon(self._abort, other, lost)
        self._by_route[event.route] = member
        member.routes.add(event.route)

    def _door_closed(self, door: Door) -> None:
        """A driver let go of a path; when it has let go of all, it leaves."""
        member = door.member
        if member.doors.pop(door.path, None) is None:
            return
        member.left.append(door.path)
        if member.doors:
            return
        del self._members[member.driver]
        member.established()
        for route in member.routes:
            if self._by_route.get(route) is member:
                del self._by_route[route]
        moved = bool(member.driver.paths)  # it goes on by another endpoint
        linger = None if moved else member.driver.stack.retire(self._loop.time())
        if linger is not None and not self.closed:
            self._keep(linger, member)
        else:
            self._read_no_more(member.route_of)
        for path in member.left:
            self._leave_path(member, path)
        self._loop.call_soon(self.close_if_unused)

    # -- lingering ends -------------------------------------------------------------------------------------------
    def _keep(self, linger: Linger, member: Member) -> None:
        """Let `linger` answer for the stack that leaves."""
        for route in linger.routes:
            self._by_route.setdefault(route, linger)
        for path in member.left:
            self._by_path[path].append(linger)
        self._lingering[id(linger)] = linger, member
        if len(self._lingering) > LINGERING_ENDS:
            self._forget(next(iter(self._lingering)))
        if self._linger_timer is None:
            self._linger_timer = self._loop.call_at(linger.until, self._lingered)

    def _lingered(self) -> None:
        self._linger_timer = None
        now = self._loop.time()
        for key, (linger, _) in tuple(self._lingering.items()):
            if linger.until <= now:
                self._forget(key)
        if self._lingering:
            due = min(linger.until for linger, _ in self._lingering.values())
            self._linger_timer = self._loop.call_at(due, self._lingered)
        self.close_if_unused()

    def _forget(self, key: int) -> None:
        linger, member = self._lingering.pop(key)
        self._read_no_more(member.route_of)
        for route in linger.routes:
            if self._by_route.get(route) is linger:
                del self._by_route[route]
        for path in member.left:
            self._leave_path(linger, path)

    # -- receiving ------------------------------------------------------------------------------------------------
    def _readable(self) -> None:
        sock, arrival, borrow = self._socket, self._arrival, self._borrow
        for count in range(RUNS_PER_TURN):
            buffer = borrow()
            arrival.remote = _NOBODY
            try:
                if not sock.receive_into(buffer, arrival):
                    if count == 1:
                        self._alone = LOOK_AGAIN
                    return
            except OSError as error:
                self._report(error)
            else:
                self._dispatch(buffer[: arrival.length])
            if self.closed:
                return
            if self._alone and not count and not arrival.segment:  # the last ones came alone: ask the poller for more
                self._alone -= 1
                return
            del buffer  # else the next borrow() finds it lent

    def _report(self, error: OSError) -> None:
        """An ICMP error. The stacks on the paths to that address hear of it if they may have sent what it quotes."""
        arrival = self._arrival
        remote, report, arrival.report = arrival.remote, arrival.report, NO_REPORT
        if remote == _NOBODY and len(self._members) == 1:
            paths = list(self._by_path)  # a connected socket: whom else could it mean
        else:
            paths = [path for path in self._paths.to(remote) if path in self._by_path]
        narrow = error.errno == errno.EMSGSIZE
        concerned = [
            (user.driver, path, self._paths.facts(path).remote)
            for path in paths
            for user in self._by_path[path]
            if isinstance(user, Member) and _believes(user, report, narrow=narrow)
        ]
        if not concerned:
            self.noise["a report of nothing that was sent"] += 1
        for driver, path, remote in concerned:
            if narrow:
                if report.mtu:
                    self._socket.learn_mtu(remote, report.mtu)
                driver.path_news(path, PathNews.MTU, self._socket.path_mtu(remote))
            else:
                driver.path_news(path, PathNews.UNREACHABLE, error.errno or 0)

    def _dispatch(self, run: memoryview) -> None:
        """Give each part of a run to its owner."""
        total = len(run)
        step = self._arrival.segment or total
        path = self._find_path()
        start = 0
        while start < total and not self.closed:
            rest = run[start:] if start else run
            first = rest[:step]
            owner = self._owner(first, path)
            if type(owner) is Member:
                consumed = self._hand_over(owner, rest, path)
                if consumed:
                    start += consumed
                    path = self._find_path() if start < total else None  # its stack may have ended, and the path too
                    continue
            elif owner is not None and self._ask_linger(owner, first, path):  # type: ignore[arg-type]
                start += step
                continue
            self._screen(first, path)  # nobody's, or not for the one that its path leads to
            path = self._find_path()
            start += step
        if not total:
            self.noise["empty"] += 1

    def _owner(self, datagram: memoryview, path: PathId | None) -> Member | Linger | None:
        for route_of in self._route_of:
            route = route_of(datagram)
            if route is not None and (owner := self._by_route.get(route)) is not None:
                return owner
        if path is not None:
            users = self._by_path.get(path)
            return users[0] if users else None
        if len(self._members) == 1 and not self._screeners:
            return next(iter(self._members.values()))  # a client's own socket: the record says who it was
        return None

    def _hand_over(self, member: Member, run: memoryview, path: PathId | None) -> int:
        if path is None or path not in member.doors:
            path = self._new_path(member)
        inbound, arrival = self._inbound, self._arrival
        inbound.data, inbound.path, inbound.ecn = run, path, arrival.ecn
        inbound.segment = arrival.segment if arrival.segment < len(run) else 0
        driver = member.driver
        driver.in_callback = True
        try:
            return driver.receive(inbound)
        finally:
            driver.in_callback = False
            inbound.data = _EMPTY

    def _ask_linger(self, linger: Linger, datagram: memoryview, path: PathId | None) -> bool:
        reply = linger.reply(datagram, path or 0, self._loop.time())
        if reply is not None:
            self._reply(reply, len(datagram))
        return reply is not None

    # -- screening ------------------------------------------------------------------------------------------------
    def _screen(self, datagram: memoryview, path: PathId | None) -> None:
        """Nobody's datagram: what a screener says of it."""
        arrival, known = self._arrival, path is not None
        try:
            for served in tuple(self._screeners):
                screener = served.screener
                if screener.recognise(datagram) is not Match.YES:
                    continue
                if path is None:
                    path = self._paths.name(PathFacts(arrival.local, arrival.remote, mtu=SCREENING_MTU))
                facts, load = self._paths.facts(path), Load(len(served.establishing), served.most)
                try:
                    verdict = screener.screen(datagram, path, facts, load, self._loop.time())
                    if isinstance(verdict, NotOurs):
                        continue
                    if isinstance(verdict, Create):
                        self._create(served, verdict, facts)
                    elif isinstance(verdict, HandOver):
                        self._adopt(verdict)
                    elif isinstance(verdict, Reply):
                        self._reply(verdict.datagram, len(datagram))
                    elif isinstance(verdict, Drop):
                        self.noise[verdict.reason] += 1
                except TapsError as error:
                    self.noise[str(error.reason.value)] += 1
                break
            else:
                self.noise["nobody's"] += 1
        finally:
            if path is not None and not known and path not in self._by_path:
                self._paths.forget(path)

    def _adopt(self, verdict: HandOver) -> None:
        """A screener opened what is for a stack that exists."""
        member = self._by_route.get(verdict.route)
        if not isinstance(member, Member):
            self.noise["handed over to nobody"] += 1
            return
        path = self._find_path()
        if path is None or path not in member.doors:
            path = self._new_path(member)
        member.driver.adopt(verdict.seed, path)

    def _reply(self, datagram: bytes, received: int) -> None:
        """A stateless answer, to an address that was not validated."""
        arrival = self._arrival
        if len(datagram) > AMPLIFICATION * received:
            self.noise["the answer would amplify"] += 1
            return
        try:
            self._socket.send(memoryview(datagram), 0, arrival.remote, arrival.local, 0)
        except OSError:  # full or unreachable: whoever wants the answer asks again
            self.noise["answer not sent"] += 1

    def _create(self, served: _Served, verdict: Create, facts: PathFacts) -> None:
        if any(route in self._by_route and type(self._by_route[route]) is not Member for route in verdict.routes):
            self.noise["the begin of a connection that is over"] += 1
            return
        driver = served.make(served.screener.accept(verdict.seed, self._loop.time()), facts)
        if driver is None:
            self.noise["no room"] += 1
            return
        member = self._enter(driver, served)
        facts.mtu = self._socket.path_mtu(facts.remote)
        facts.validated = verdict.validated
        path = self._open_path(member, facts)
        for route in verdict.routes:
            self._issue_route(member, RouteIssued(route))
        driver.start(path, facts, member.doors[path])
        if len(served.establishing) > served.most:
            self.dropped += 1
            oldest = next(iter(served.establishing))
            lost = ConnectionLost("dropped for younger ones: too many are unfinished", reason=Reason.OVERLOADED)
            self._abort(oldest, lost)


def _believes(member: Member, report: Report, *, narrow: bool) -> bool:
    """Whether a report is about a datagram of that stack's, as far as it tells (RFC 9000 §14.2.1, RFC 8899 §4.6.1).

    One that quotes nothing is believed only by who has not heard from its peer yet, and only that nobody is there.
    """
    if report.local:
        return True
    if report.quoted:
        return member.driver.stack.sent(memoryview(report.quoted))
    return not narrow and not member.complete
