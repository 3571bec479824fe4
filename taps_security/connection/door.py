"""How datagram stacks send: one Outlet per socket, one Door per driver and path.

A socket that is full keeps one slab and is full for everybody; drivers that asked meanwhile are woken in their order.
What a network would lose is lost here: an unreachable peer, a datagram above the MTU. The stack hears of both.
"""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict
from collections.abc import Callable, Hashable

from ..stack.events import PathId, PathNews
from ..stack.layers import PathFacts, Slab
from ..stack.stack import Transmit
from ..transport.buffers import shared_buffers
from ..transport.network import Address, DatagramSocket
from ..transport.poller import poller_of
from .driver import Driver

BATCH = 65_507 // 1500  # datagrams of usual size that fit into one GSO run
WILDCARDS = {"0.0.0.0", "::", ""}  # noqa: S104 -- asked, not bound


class Member:
    """A driver on an endpoint, and what leads to it."""

    __slots__ = ("complete", "current", "doors", "driver", "establishing", "left", "newest", "route_of", "routes")

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.route_of: Callable[[memoryview], Hashable | None] | None = None  # of the screener that let it in
        self.establishing: OrderedDict[Member, None] | None = None  # where it stands until it is established
        self.doors: OrderedDict[PathId, Door] = OrderedDict()
        self.left: list[PathId] = []  # paths whose doors are closed already: the driver is leaving
        self.routes: set[Hashable] = set()
        self.complete = False  # its handshake is
        self.current: Door | None = None  # the one that it sent by last
        self.newest: Door | None = None  # the one by which its peer was seen last to have moved

    def established(self) -> None:
        """Its handshake is complete, or it is over."""
        if self.establishing is not None:
            self.establishing.pop(self, None)
            self.establishing = None


class Outlet:
    """The sending side of one socket."""

    __slots__ = ("_kept", "_loop", "_slabs", "_waiting", "closed", "full", "on_closed", "socket")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: DatagramSocket, on_closed: Callable[[Door], None]
    ) -> None:
        self.socket = sock
        self.full = False
        self.closed = False
        self.on_closed = on_closed
        self._loop = loop
        self._slabs = shared_buffers(loop).slabs
        self._kept: tuple[Door, Slab, int, int, int] | None = None
        self._waiting: OrderedDict[Driver, None] = OrderedDict()

    def wait(self, driver: Driver) -> None:
        """Wake this driver when the socket takes something again."""
        self._waiting[driver] = None

    def leave(self, driver: Driver) -> None:
        """A driver is gone."""
        self._waiting.pop(driver, None)

    def send(self, door: Door, slab: Slab, length: int, segment: int, ecn: int) -> bool:
        """True: it is with the network, or lost. False: the socket is full, and the slab kept until it is not."""
        if self.closed:
            return True
        try:
            self.socket.send(slab.view[:length], segment, door.remote, door.source, ecn)
        except BlockingIOError:
            self._kept = door, slab, length, segment, ecn
            if not self.full:
                self.full = True
                poller_of(self._loop).add_writer(self.socket, self._writable)
            self.wait(door.member.driver)
            return False
        except OSError as error:
            self._loop.call_soon(self._lost, door, error.errno)
        return True

    def _writable(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            door, slab, length, segment, ecn = kept
            if not self.send(door, slab, length, segment, ecn):
                return
            self._slabs.give_back(slab)
        self.full = False
        poller_of(self._loop).remove_writer(self.socket)
        waiting, self._waiting = self._waiting, OrderedDict()
        for driver in waiting:
            driver.writable()

    def _lost(self, door: Door, number: int | None) -> None:
        if number == errno.EMSGSIZE:
            mtu = self.socket.path_mtu(door.remote) if not self.closed else 0
            door.member.driver.path_news(door.path, PathNews.MTU, mtu)
        elif number not in {errno.ENOBUFS, errno.ENOMEM}:  # the system is short of memory: as lost as in a queue
            door.member.driver.path_news(door.path, PathNews.UNREACHABLE, number or 0)

    def close(self) -> None:
        """The socket is about to be closed."""
        self.closed = True
        if self.full:
            self.full = False
            poller_of(self._loop).remove_writer(self.socket)
        if self._kept is not None:
            self._slabs.give_back(self._kept[1])
            self._kept = None
        self._waiting.clear()


class Door:
    """The carrier of one driver for one path."""

    __slots__ = ("_outlet", "member", "path", "remote", "source")

    def __init__(self, outlet: Outlet, member: Member, path: PathId, facts: PathFacts) -> None:
        self._outlet = outlet
        self.member = member
        self.path = path
        self.remote: Address = facts.remote
        self.source: Address | None = None if facts.local[0] in WILDCARDS else facts.local

    @property
    def max_datagrams(self) -> int:
        """Of one run: 1 without GSO, also where it was found missing later."""
        return min(self._outlet.socket.max_datagrams, BATCH)

    @property
    def blocked(self) -> bool:
        """The socket is full. Who asks is woken when it is not."""
        outlet = self._outlet
        if outlet.full:
            outlet.wait(self.member.driver)
        return outlet.full

    def send(self, slab: Slab, out: Transmit) -> bool:
        """Hand a run of datagrams to the socket."""
        self.member.current = self
        return self._outlet.send(self, slab, out.length, out.segment, out.ecn)

    def finish(self) -> None:
        """Datagrams have no end of their own."""

    def close(self, *, reset: bool) -> None:
        """The driver lets go of the path."""
        self._outlet.leave(self.member.driver)
        self._outlet.on_closed(self)

    def resume(self) -> None:
        """Datagrams are never held back: the socket is everybody's."""
