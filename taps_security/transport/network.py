"""The seam: what the library needs of a network, real or simulated.

Stream sockets are non-blocking objects with the methods of `socket.socket` that `StreamSocket` lists; the loop's
`add_reader` and `add_writer` take them. Datagram sockets move batches: one call sends or receives a run of
equal-sized datagrams where the platform can (GSO, GRO), and one datagram where it cannot.

A loop that brings its own network has it as its attribute `taps_network`; every other loop gets the system's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from ..stack.frozen import frozen, slotted

Address = tuple[str, int]  # numeric host and port; IPv6 scope ids stand in the host: "fe80::1%eth0"


class ResolvedAddress(NamedTuple):
    """One address that a name resolved to."""

    host: str  # numeric
    port: int
    family: int  # socket.AF_INET or AF_INET6


class StreamSocket(Protocol):
    """A connected, non-blocking byte-stream socket. BlockingIOError: not now. Other OSErrors: the connection broke."""

    def fileno(self) -> int:
        """The descriptor; -1 once closed. Simulated sockets give numbers of their own."""

    def recv_into(self, buffer: memoryview, nbytes: int = 0) -> int:
        """Octets read; 0: the peer sent FIN."""

    def send(self, data: memoryview) -> int:
        """Octets taken, at least 1."""

    def shutdown(self, how: int) -> None:
        """socket.SHUT_WR: FIN behind what was taken."""

    def setblocking(self, flag: bool, /) -> None:
        """Always False here."""

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """As socket.socket has it; simulated sockets know SO_LINGER (reset on close) and ignore the rest."""

    def getsockname(self) -> Any:
        """The local address."""

    def getpeername(self) -> Any:
        """The remote address."""

    def close(self) -> None:
        """Close at once; what was taken still goes out, unless SO_LINGER says reset."""


class ListeningSocket(Protocol):
    """A listening, non-blocking byte-stream socket."""

    def fileno(self) -> int:
        """The descriptor."""

    def accept(self) -> tuple[StreamSocket, Any]:
        """The next connection and its peer's address; BlockingIOError: none now."""

    def getsockname(self) -> Any:
        """The local address, with the real port."""

    def close(self) -> None:
        """Stop listening."""


@frozen
class Report:
    """What an ICMP message said beside its error. Anybody can forge one who knows two addresses and ports: it is worth
    what it quotes.

    `quoted`: the first octets of the UDP payload that it is about; empty where nobody tells. `local`: our own kernel
    says so, and no message came. `mtu`: octets of a whole IP packet, for EMSGSIZE; 0: not told.
    """

    quoted: bytes = b""
    local: bool = False
    mtu: int = 0


NO_REPORT = Report()


@slotted
class Arrival:
    """One receive call's worth of datagrams: one datagram, or a GRO run of equal ones. Used again and again."""

    length: int = 0
    segment: int = 0  # size of each datagram but the last; 0: a single datagram
    remote: Address = ("", 0)
    local: Address = ("", 0)  # the real local address (IP_PKTINFO), never the wildcard
    ecn: int = 0  # the two ECN bits of the IP header
    report: Report = NO_REPORT  # of the error that receive_into() raised; who reads it puts NO_REPORT back


class DatagramSocket(Protocol):
    """A bound, non-blocking datagram socket."""

    local: Address  # as bound: may be the wildcard
    max_datagrams: int  # datagrams that one send() takes at most; 1 where the platform has no GSO

    def fileno(self) -> int:
        """The descriptor."""

    def receive_into(self, buffer: memoryview, arrival: Arrival) -> bool:
        """Fill buffer and arrival. False: nothing there.

        Raises ConnectionRefusedError and the like for ICMP errors that were reported on this socket: `arrival.remote`
        then says whom the datagram was for ("" where the platform does not tell), `arrival.report` what the message
        quotes, and the socket stays usable. Nothing is learnt from it: see learn_mtu().
        """

    def send(self, data: memoryview, segment: int, remote: Address, local: Address | None, ecn: int) -> None:
        """Send one datagram, or a run of equal ones of `segment` octets (the last may be shorter).

        BlockingIOError: not now, nothing was sent. OSError EMSGSIZE: above the path's MTU.
        """

    def path_mtu(self, remote: Address) -> int:
        """Octets of UDP payload that fit without fragments, as far as is known."""

    def learn_mtu(self, remote: Address, mtu: int) -> None:
        """A report that is believed says that packets of `mtu` octets, IP header included, reach `remote`.

        path_mtu() is never more from now on, for a while. What is larger than that, or absurdly small, changes nothing.
        """

    def close(self) -> None:
        """Close at once."""


@frozen
class StreamOptions:
    """What a connection asks of a byte-stream socket."""

    no_delay: bool = True
    keep_alive: bool = False
    keep_alive_seconds: float | None = None
    user_timeout_seconds: float | None = None
    interface: str = ""


class Network(Protocol):
    """Opens sockets and resolves names."""

    async def connect_stream(
        self,
        remote: Address,
        local: Address | None = None,
        options: StreamOptions = StreamOptions(),  # noqa: B008
    ) -> StreamSocket:
        """A connected socket. Raises OSError. Cancelling leaves no socket behind."""

    def listen_stream(
        self,
        local: Address,
        backlog: int = 512,
        options: StreamOptions = StreamOptions(),  # noqa: B008
        *,
        reuse_port: bool = False,
    ) -> ListeningSocket:
        """A listening socket; port 0 picks a free one. What it accepts has the `options`. Raises OSError."""

    def open_datagram(
        self, local: Address, remote: Address | None = None, *, reuse_port: bool = False
    ) -> DatagramSocket:
        """A bound datagram socket; with `remote` it is connected, so that ICMP errors come back. Raises OSError.

        The host "" is every address of both families. `reuse_port`: others that say so too may have the same address;
        each peer is heard by one of them.
        """

    def place(self) -> Hashable:
        """Whose ports these are: two sockets of one place cannot have one address."""

    async def resolve(self, host: str, port: int | str, family: int = 0) -> Sequence[ResolvedAddress]:
        """Addresses of a name, in the system's order. Raises OSError (socket.gaierror)."""


def network_of(loop: asyncio.AbstractEventLoop) -> Network:
    """The loop's own network if it brings one, else the system's."""
    own: Network | None = getattr(loop, "taps_network", None)
    if own is not None:
        return own
    from .system import SystemNetwork  # noqa: PLC0415 -- simulations never load real sockets

    return SystemNetwork(loop)


Reader = Callable[[], None]
