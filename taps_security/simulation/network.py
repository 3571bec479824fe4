"""The simulated network: hosts, links, names, partitions, and a log of every packet.

Time in it is exact. A packet that leaves at time t arrives at t + the time that its bits need + the link's delay, to
the nanosecond; what happens at one instant happens in the order in which it was caused; code takes no time.
"""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..transport.network import Address, ResolvedAddress, StreamOptions
from .datagrams import SimulatedDatagramSocket
from .hosts import DEFAULT_HOST, Host, current_host_name
from .links import Link, Packet, Passage
from .names import Names, resolution_error
from .sockets import LOOPBACKS, SimulatedSocket, canonical, family_of
from .streams import SimulatedListener, SimulatedStream

if TYPE_CHECKING:
    from .loop import VirtualLoop

FIRST_NUMBER = 1_000_000  # simulated descriptors count up from here
LOOPBACK_MTU = 65_536
IP_HEADERS = {socket.AF_INET: 20, socket.AF_INET6: 40}
TRANSPORT_HEADERS = {"udp": 8, "tcp": 20}
FAMILIES = (socket.AF_INET, socket.AF_INET6)

Arrive = Callable[[Host, Packet], None]


class TraceEntry(NamedTuple):
    """One packet as it left its host, before any translation."""

    time: float
    sender: str  # name of the host
    receiver: str  # name of the host; "": no host has that address
    source: Address
    destination: Address
    kind: str  # SYN, SYN-ACK, ACK, DATA, FIN, RST, UDP, ICMP
    length: int  # octets of payload
    arrivals: tuple[float, ...]  # when its copies arrive
    lost: str = ""  # why there are none: loss, queue, filter, too big, corrupt, cut, partition, silent, no host
    data: bytes | None = None  # the payload, if network.record_data


class Network:
    """Everything that a simulation has besides its clock. Made by VirtualLoop, as `loop.network`."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 -- faults that can be had again, no secrets
        self.names = Names()
        self.trace: list[TraceEntry] = []
        self.record_data = False  # True: the trace keeps payloads
        self.default_link = Link()  # the conditions between hosts that were not connected
        self.max_datagrams = 64  # datagrams that one send() of a datagram socket takes (GSO)
        self.coalesce = False  # True: equal datagrams that wait together are received together (GRO)
        self._hosts: dict[str, Host] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._apart: set[tuple[str, str]] = set()
        self._numbers = itertools.count(FIRST_NUMBER)
        self._open: dict[int, SimulatedSocket] = {}
        self.host(DEFAULT_HOST)

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return self.loop.time()

    # -- hosts ----------------------------------------------------------------------------------------------------
    def host(self, name: str, *addresses: str) -> Host:
        """The host of that name; made when asked for the first time.

        `addresses`: numeric, IPv4 and IPv6; a new host without any gets one of each. Its name resolves to them.
        """
        known = self._hosts.get(name)
        if known is not None:
            if addresses and tuple(map(canonical, addresses)) != known.addresses:
                raise ValueError(f"host {name!r} has other addresses already: {', '.join(known.addresses)}")
            return known
        if not addresses and name != DEFAULT_HOST:
            number = len(self._hosts)
            addresses = (f"10.0.{number >> 8}.{number & 255}", f"fd00::{number:x}")
        for address in map(canonical, addresses):
            if self.owner(address) is not None:
                raise ValueError(f"{address} is an address of {self.owner(address)!r}")
        self._hosts[name] = Host(self, name, addresses)
        return self._hosts[name]

    def current_host(self) -> Host:
        """The host that the running code is on: see Host; "localhost" if it entered none."""
        return self.host(current_host_name())

    def owner(self, address: str) -> Host | None:
        """The host that packets to this address reach, through its translator if it has one."""
        for host in self._hosts.values():
            if address in host.addresses or (host.nat is not None and address in host.nat.addresses):
                return host
        return None

    def addresses_of(self, name: str) -> tuple[str, ...]:
        """What the name of a host stands for; "localhost" is the host that asks. Nothing if there is no such host."""
        if name == DEFAULT_HOST:
            return tuple(LOOPBACKS.values())
        return self._hosts[name].addresses if name in self._hosts else ()

    # -- links ----------------------------------------------------------------------------------------------------
    def connect(self, one: str, other: str, back: Link | None = None, **conditions: Any) -> Link:
        """Set the conditions between two hosts, in both directions: see Link for the words.

        Returns the link from `one` to `other`. `back`: other conditions for the way back.
        """
        there = Link(**conditions)
        self._links[self.host(one).name, self.host(other).name] = there
        self._links[other, one] = there.copy() if back is None else back
        return there

    def link(self, sender: str, receiver: str) -> Link:
        """The link from one host to another. Each direction is a Link of its own."""
        key = (self.host(sender).name, self.host(receiver).name)
        if key not in self._links:
            self._links[key] = Link(mtu=LOOPBACK_MTU) if sender == receiver else self.default_link.copy()
        return self._links[key]

    def partition(self, some: str | Iterable[str], others: str | Iterable[str], *, one_way: bool = False) -> None:
        """Nothing that leaves from now on gets from `some` hosts to `others`, nor back unless `one_way`."""
        for one, other in itertools.product(self._named(some), self._named(others)):
            self._apart.add((one, other))
            if not one_way:
                self._apart.add((other, one))

    def _named(self, names: str | Iterable[str]) -> list[str]:
        found = [names] if isinstance(names, str) else list(names)
        if unknown := set(found) - set(self._hosts):
            raise LookupError(f"no such host: {', '.join(sorted(unknown))}; there are {', '.join(self._hosts)}")
        return found

    def heal(self) -> None:
        """End every partition."""
        self._apart.clear()

    # -- packets --------------------------------------------------------------------------------------------------
    def headers(self, protocol: str, destination: str) -> int:
        """Octets of IP and transport headers in front of a payload."""
        return IP_HEADERS[family_of(destination)] + TRANSPORT_HEADERS[protocol]

    def route(self, sender: Host, destination: str) -> tuple[Host | None, Link]:
        """Where a packet goes, and over which link. A host reaches itself by its loopback link."""
        receiver = sender if sender.owns(destination) else self.owner(destination)
        if receiver is None:
            return None, self.default_link
        return receiver, self.link(sender.name, receiver.name)

    def carry(self, sender: Host, packet: Packet, arrive: Arrive, protocol: str = "tcp", lost: str = "") -> Passage:
        """Put a packet on its way. `arrive` is called with the receiving host and the packet as it arrives there,
        once for each copy. `lost`: the sender knows why it will not arrive. Returns what became of it."""
        receiver, link = self.route(sender, packet.destination[0])
        leaving = packet
        if receiver is None:
            lost = lost or "no host"
        elif sender.silent or receiver.silent or not sender.owns(packet.source[0]):
            lost = lost or "silent"
        elif (sender.name, receiver.name) in self._apart:
            lost = lost or "partition"
        if sender.nat is not None and receiver is not sender and not lost:
            leaving = packet._replace(source=sender.nat.outward(protocol, packet.source, self.now))
        if lost:
            passage = Passage((), self.now, 0, lost)
        else:
            passage = link.carry(leaving, self.headers(protocol, packet.destination[0]), self.now, self.random)
            if protocol == "tcp" and any(copy.flipped >= 0 for copy in passage.copies):
                intact = tuple(copy for copy in passage.copies if copy.flipped < 0)
                passage = passage._replace(copies=intact, lost="" if intact else "corrupt")
        self._log(sender, receiver, packet, passage)
        if receiver is not None:
            for copy in passage.copies:
                arriving = leaving._replace(ecn=passage.ecn)
                if copy.flipped >= 0:
                    arriving = arriving._replace(data=_flip(leaving.data, copy.flipped))
                self.loop.call_at(copy.arrival, self._arrived, receiver, arriving, arrive, protocol)
        return passage

    def _arrived(self, receiver: Host, packet: Packet, arrive: Arrive, protocol: str) -> None:
        if receiver.silent:
            return
        if receiver.nat is not None:
            internal = receiver.nat.inward(protocol, packet.destination)
            if internal is None:
                return
            packet = packet._replace(destination=internal)
        arrive(receiver, packet)

    def _log(self, sender: Host, receiver: Host | None, packet: Packet, passage: Passage) -> None:
        self.trace.append(
            TraceEntry(
                self.now,
                sender.name,
                "" if receiver is None else receiver.name,
                packet.source,
                packet.destination,
                packet.kind,
                len(packet.data),
                tuple(copy.arrival for copy in passage.copies),
                passage.lost,
                packet.data if self.record_data else None,
            )
        )

    # -- sockets --------------------------------------------------------------------------------------------------
    def register(self, sock: SimulatedSocket) -> int:
        """A number for a socket that is open now."""
        number = next(self._numbers)
        self._open[number] = sock
        return number

    def unregister(self, number: int, sock: SimulatedSocket) -> None:
        """The socket of that number is closed."""
        if self._open.pop(number, None) is not None:
            self.loop.closed_socket(number, sock)

    def socket(self, number: int) -> SimulatedSocket:
        """The open socket of that number. Raises ValueError."""
        try:
            return self._open[number]
        except KeyError:
            raise ValueError(f"{number} is no open simulated socket") from None

    def open_sockets(self) -> list[SimulatedSocket]:
        """What the application opened or accepted and did not close: for tests of leaks."""
        return list(self._open.values())

    def streams(self) -> list[SimulatedStream]:
        """The open byte-stream sockets, in the order of their opening: see their reset(), cut() and corrupt_at()."""
        return [sock for sock in self._open.values() if isinstance(sock, SimulatedStream)]


class HostNetwork:
    """What programs see: `taps_security.transport.network.Network`, as the host that they run on has it."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def connect_stream(
        self,
        remote: Address,
        local: Address | None = None,
        options: StreamOptions = StreamOptions(),  # noqa: B008
    ) -> SimulatedStream:
        """Connect from the current host."""
        sock = SimulatedStream(self._network.current_host(), options)
        try:
            await sock.connect(remote, local)
        except BaseException:
            sock.close()
            raise
        return sock

    def listen_stream(
        self,
        local: Address,
        backlog: int = 512,
        options: StreamOptions = StreamOptions(),  # noqa: B008
        *,
        reuse_port: bool = False,
    ) -> SimulatedListener:
        """Listen on the current host."""
        return SimulatedListener(self._network.current_host(), local, backlog, options, reuse_port=reuse_port)

    def open_datagram(
        self, local: Address, remote: Address | None = None, *, reuse_port: bool = False
    ) -> SimulatedDatagramSocket:
        """A datagram socket of the current host."""
        return SimulatedDatagramSocket(self._network.current_host(), local, remote, reuse_port=reuse_port)

    def place(self) -> Hashable:
        """The current host: ports are its own."""
        return self._network.current_host().name

    async def resolve(self, host: str, port: int | str, family: int = 0) -> Sequence[ResolvedAddress]:
        """Addresses of a name that was added to `network.names`, or of a host."""
        number = _port(port)
        families = (family,) if family else FAMILIES
        try:
            addresses = [canonical(host)]
        except ValueError:
            addresses = await self._network.names.query(host, families, self._network.addresses_of(host))
        found = [ResolvedAddress(each, number, family_of(each)) for each in addresses if family_of(each) in families]
        if not found:
            raise resolution_error(socket.EAI_NONAME)
        return found


def _port(port: int | str) -> int:
    try:
        return int(port)
    except ValueError:
        try:
            return socket.getservbyname(str(port))
        except OSError:
            raise socket.gaierror(socket.EAI_SERVICE, f"Servname not supported: {port!r}") from None


def _flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit >> 3] ^= 1 << (bit & 7)
    return bytes(flipped)
