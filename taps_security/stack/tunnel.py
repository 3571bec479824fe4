"""Stacks that carry inner packets: what the local end of all of them knows together.

    engine.route(inner destination) --> peer --> engine.stack(peer) --open_flow(FlowAddress)--> an inner flow
    screener: Create --> accept() --> the stack of the peer that began --FlowOpened--> who listens there

There is one engine per local end (one key, one outer socket) and at most one live stack per peer. Who a peer is, the
protocol says: a public key, a gateway.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from .events import FlowId
from .screening import DatagramScreener
from .stack import SecurityStack

PeerId: TypeAlias = Hashable


class FlowAddress(NamedTuple):
    """The two ends of an inner flow: numeric host and port. A local host of "" or a port of 0: the stack chooses."""

    remote: tuple[str, int]
    local: tuple[str, int] = ("", 0)


class PacketStack(SecurityStack, Protocol):
    """The stack of one peer."""

    peer: PeerId
    endpoint_stale: bool  # no handshake succeeded for so long that the peer's name is worth another look-up

    def flow_address(self, flow: FlowId) -> FlowAddress:
        """Both ends of an inner flow, as they were chosen."""


class TunnelEngine(Protocol):
    """One local end of packet stacks. Sans-IO: sockets, drivers and flows' users are `connection.tunnel`'s."""

    screener: DatagramScreener  # what accept() gives is a PacketStack

    @property
    def identity(self) -> Hashable:
        """Whose end this is: two with one identity would take each other's traffic."""

    @property
    def local(self) -> tuple[str, int]:
        """The outer address to bind; a host of "" stands for every address of both families, port 0 for a free one."""

    @property
    def inner(self) -> tuple[str, ...]:
        """Our addresses inside, as text."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Datagrams of its stacks that led to nothing, by reason."""

    def peers(self) -> tuple[PeerId, ...]:
        """All that are configured."""

    def route(self, host: str) -> PeerId | None:
        """Through whom an inner destination is reached; None: through nobody."""

    def outer(self, peer: PeerId) -> tuple[str, int] | None:
        """The peer's configured outer name or address, and port; None: only the peer can begin."""

    def eager(self) -> tuple[PeerId, ...]:
        """Peers whose stack starts with the tunnel, although nothing is to be sent yet."""

    def stack(self, peer: PeerId, now: float) -> PacketStack:
        """A new stack that will begin. LocalError if the peer has a live one."""

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Claim an inner UDP port (0: a free one) on one of our addresses ("": on all). LocalError if it is in use."""

    def unlisten(self, local: tuple[str, int]) -> None:
        """Let go of it."""

    def apply(self, options: object) -> tuple[PeerId, ...]:
        """Change the peers of a running tunnel to those of `options`; the peers that are gone.

        ConfigurationError for what cannot be, or cannot change; nothing has changed then.
        """

    def status(self, peer: PeerId, now: float) -> Mapping[str, Any]:
        """What there is to tell of a peer, in words and numbers that JSON can carry."""
