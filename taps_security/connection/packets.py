"""Raw inner IP packets of a tunnel: for programs with an IP stack of their own, as a TUN device is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..stack.errors import LocalError, TapsError
from ..stack.events import Buffer, FlowKind, Received, StackEvent
from ..stack.stack import DEFAULT_SEND_OPTIONS
from ..stack.tunnel import TunnelEngine
from .chunks import freeze
from .group import Flow, Group
from .state import ConnectionState
from .waiter import Waiter

if TYPE_CHECKING:
    from .tunnel import Tunnel

WAITING = 4096  # packets that wait for receive(); more are dropped, as a full queue of a device would
KEPT_ROUTES = 4096  # destinations whose peer is remembered


class PacketFlow(Flow):
    """The packets of one peer. They all go to the one Packets object."""

    __slots__ = ("_packets",)

    def __init__(self, *arguments: Any, packets: Packets, **how: Any) -> None:
        super().__init__(*arguments, **how)
        self._packets = packets

    def _handle(self, event: StackEvent) -> None:
        if type(event) is Received:
            self._packets.received(event)
        else:
            super()._handle(event)

    def _over(self, error: Exception | None) -> None:
        super()._over(error)
        self._packets.left(self)


class Packets:
    """Sends packets to the peers that cryptokey routing names, and receives those that no datagram flow claims.

    Leaving a `with` closes it.
    """

    def __init__(self, tunnel: Tunnel, engine: TunnelEngine) -> None:
        self._tunnel = tunnel
        self._engine = engine
        self._flows: dict[Group, PacketFlow] = {}
        self._routes: dict[bytes, PacketFlow | None] = {}
        self._waiting: list[Buffer] = []
        self._receiver: Waiter | None = None
        self._closed = False
        self.dropped = 0  # came while too many waited, or were sent to nobody

    def __enter__(self) -> Packets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- for the application --------------------------------------------------------------------------------------
    async def receive(self) -> list[Buffer]:
        """All packets that are there, at least one; views are lent, as by Connection.receive_views()."""
        while not self._waiting:
            self._require_open("receive()")
            if self._receiver is not None:
                raise LocalError("receive(): another receive() is waiting; await one at a time")
            self._receiver = Waiter(self._tunnel.loop)
            try:
                await self._receiver
            finally:
                self._receiver = None
        packets, self._waiting = self._waiting, []
        return packets

    async def send(self, packets: Sequence[Buffer]) -> None:
        """Send whole IP packets. What has no route, is too large, or finds its queue full is dropped and counted.

        Waits for the name of a peer that has no stack yet. Raises LocalError once they were let go of.
        """
        routes = self._routes
        batch: list[Buffer] = []
        current: PacketFlow | None = None
        self._require_open("send()")
        for packet in freeze(packets):
            destination = bytes(packet[16:20] if packet[:1] and packet[0] >> 4 == 4 else packet[24:40])
            try:
                flow = routes[destination]
            except KeyError:
                self._send(current, batch)  # not lost if somebody cancels us
                current, batch = None, []
                flow = await self._route(destination)
            if flow is not current:
                self._send(current, batch)
                current, batch = flow, []
            batch.append(packet)
        self._send(current, batch)

    def _send(self, flow: PacketFlow | None, packets: list[Buffer]) -> None:
        """Packets of one peer: all at once, or one by one if there is something wrong with one of them."""
        if not packets:
            return
        if flow is None:
            self.dropped += len(packets)
            return
        driver = flow.driver
        try:
            if not driver.stack.send(flow.flow, packets, DEFAULT_SEND_OPTIONS, driver.clock()):
                driver.pump()
                if not driver.stack.send(flow.flow, packets, DEFAULT_SEND_OPTIONS, driver.clock()):
                    self.dropped += len(packets)
        except TapsError:  # one is larger than the tunnel's MTU, or no packet of that peer
            if len(packets) == 1:
                self.dropped += 1
                return
            for packet in packets:
                self._send(flow, [packet])
        if not driver.will_pump:
            driver.schedule()

    def close(self) -> None:
        """Let go: from now on the tunnel answers for itself again."""
        if not self._closed:
            self._closed = True
            for flow in tuple(self._flows.values()):
                flow.abort()
            if self._receiver is not None:
                self._receiver.wake()
            self._tunnel.left(self)

    def _require_open(self, verb: str) -> None:
        if self._closed:
            raise LocalError(f"{verb}: the packets of this tunnel were let go of")

    # -- for the tunnel -------------------------------------------------------------------------------------------
    def join(self, group: Group) -> PacketFlow:
        """A peer has a stack. Raises LocalError if that has ended."""
        flow = self._flows.get(group)
        if flow is None:
            opened = group.open(FlowKind.PACKET, None, partial(PacketFlow, packets=self))
            assert isinstance(opened, PacketFlow)
            if opened.state is ConnectionState.CLOSED:
                raise opened.error or LocalError("the peer's stack has ended")
            flow = self._flows[group] = opened
            self._routes.clear()
        return flow

    def routes_changed(self) -> None:
        """Allowed addresses have changed."""
        self._routes.clear()

    def received(self, event: Received) -> None:
        """Packets of one peer."""
        if len(self._waiting) < WAITING:
            self._waiting += event.chunks if self._receiver is not None else map(bytes, event.chunks)
        else:
            self.dropped += len(event.chunks)
        event.chunks.clear()
        if self._receiver is not None:
            self._receiver.wake()

    def left(self, flow: PacketFlow) -> None:
        """A stack is over."""
        self._routes.clear()
        self._flows = {group: other for group, other in self._flows.items() if other is not flow}

    async def _route(self, destination: bytes) -> PacketFlow | None:
        peer = flow = None
        try:
            peer = self._engine.route(str(ip_address(destination)))
            if peer is not None:
                group = await self._tunnel.group_of(peer)
                self._require_open("send()")
                flow = self.join(group)
        except (ValueError, TapsError):
            self._require_open("send()")
            return None  # no IP packet, or a peer that cannot be reached now
        if len(self._routes) >= KEPT_ROUTES:
            self._routes.clear()
        self._routes[destination] = flow
        return flow
