"""The local end of all peers: one static key, one inner host, and at most one live stack for each peer.

route(inner destination) --> peer --> stack(peer)               we begin
screener --Create--> accept() --> the peer's stack              the peer begins
screener --HandOver--> the stack that lives                     it begins again
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

from ...inner.network import InnerHost
from ...properties.words import refuse
from ...stack.errors import ConfigurationError, LocalError, Reason
from ...stack.screening import DatagramScreener
from ...stack.tunnel import PeerId
from .flows import Shared
from .handshake import OpenedInitiation
from .options import WireGuardOptions, key_text
from .peers import Peer, TunnelState
from .screening import WireGuardScreener
from .stack import WireGuardStack

if TYPE_CHECKING:
    from ..registry import Environment

_FIXED = ("private_key", "addresses", "listen_port", "mtu")  # what apply() cannot change


class WireGuardTunnel:
    """The TunnelEngine of one local end. Peers are named by their public keys of 32 octets.

    `checksums`: compute the checksum of each UDP datagram inside. Every packet is authenticated, so that over IPv4 it
    may be left out (RFC 768); over IPv6 there always is one. ConfigurationError for options that do not fit together,
    and if the environment's store cannot be read.
    """

    def __init__(self, options: WireGuardOptions, environment: Environment, *, checksums: bool = True) -> None:
        self.options = options
        self._state = TunnelState(options, environment)
        self._host = InnerHost(options.addresses, options.mtu, environment.random, checksums=checksums)
        self._shared = Shared(self._state, self._host)
        self.screener: DatagramScreener = WireGuardScreener(self._state, self._accept)

    def __repr__(self) -> str:
        return f"<WireGuardTunnel {key_text(self._state.public_key)}, {len(self._state.peers)} peers>"

    # -- what there is --------------------------------------------------------------------------------------------
    @property
    def identity(self) -> Hashable:
        """Our public key."""
        return self._state.public_key

    @property
    def local(self) -> tuple[str, int]:
        """Every address of both families, and the port from the options."""
        return "", self.options.listen_port

    @property
    def inner(self) -> tuple[str, ...]:
        """Our addresses inside, as text."""
        return self._host.addresses

    @property
    def dropped(self) -> Mapping[str, int]:
        """Datagrams of stacks that led to nothing, by reason."""
        return self._shared.dropped

    def peers(self) -> tuple[PeerId, ...]:
        """All that are configured, by public key."""
        return tuple(self._state.peers)

    def route(self, host: str) -> PeerId | None:
        """The peer with the longest network of allowed IPs in which `host` (numeric) is; None: nobody has it."""
        try:
            packed = ipaddress.ip_address(host).packed
        except ValueError:
            raise ConfigurationError(f"inner address: {host!r} was given, expected an IPv4 or IPv6 address") from None
        return self._state.allowed_ips.owner(packed)

    def outer(self, peer: PeerId) -> tuple[str, int] | None:
        """The peer's configured name or address, and port; None: only the peer can begin."""
        return self._peer(peer).config.endpoint

    def eager(self) -> tuple[PeerId, ...]:
        """Peers with an endpoint and persistent keepalives."""
        return tuple(
            [
                key
                for key, peer in self._state.peers.items()
                if peer.config.endpoint is not None and peer.config.persistent_keepalive
            ]
        )

    def _peer(self, peer: PeerId) -> Peer:
        known = self._state.peers.get(peer)  # type: ignore[call-overload]
        if known is None:
            name = key_text(peer) if isinstance(peer, bytes) else repr(peer)
            raise LocalError(f"there is no peer {name}")
        return known  # type: ignore[no-any-return]

    # -- stacks ---------------------------------------------------------------------------------------------------
    def stack(self, peer: PeerId, now: float) -> WireGuardStack:
        """A new stack that will begin. LocalError if the peer is unknown, or has a live one."""
        known = self._peer(peer)
        if peer in self._state.live:
            raise LocalError(f"peer {key_text(known.public_key)} has a live stack", reason=Reason.ADDRESS_IN_USE)
        return WireGuardStack(self._shared, known, now)

    def _accept(self, seed: OpenedInitiation, now: float) -> WireGuardStack:
        """A new stack for a peer that began. RemoteError if its initiation is refused after all."""
        return WireGuardStack(self._shared, seed.peer, now, seed)

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Claim an inner UDP port (0: a free one) on one of our addresses ("": on all). LocalError if it is in use."""
        return self._host.listen(host, port)

    def unlisten(self, local: tuple[str, int]) -> None:
        """Let go of it."""
        self._host.unlisten(local)

    # -- changes --------------------------------------------------------------------------------------------------
    def apply(self, options: object) -> tuple[PeerId, ...]:
        """Have the peers of `options` from now on; those that are gone, whose stacks are to be ended.

        Peers that stay keep their keys. ConfigurationError for what cannot be or cannot change; nothing has changed.
        """
        if not isinstance(options, WireGuardOptions):
            refuse("options['wireguard']", options, "WireGuardOptions")
        for name in _FIXED:
            if getattr(options, name) != getattr(self.options, name):
                raise ConfigurationError(f"wireguard.{name}: it cannot change while the tunnel is up; open another one")
        gone = self._state.apply(options)
        self.options = options
        for key in gone:
            self._shared.transfer.pop(key, None)
        for key, stack in tuple(self._state.live.items()):
            if key not in gone:
                stack.reconfigured()
        return gone

    def status(self, peer: PeerId, now: float) -> Mapping[str, Any]:
        """What `wg show` shows: times are unix seconds, 0 for never; transfer is in octets of datagrams.

        `store_error`: why the last timestamp was not kept for after a restart, if it was not.
        """
        known = self._peer(peer)
        stack = self._state.live.get(known.public_key)
        received, sent = self._shared.transfer.get(known.public_key, (0, 0))
        endpoint = known.config.endpoint
        if stack is not None:
            received, sent = received + stack.received_octets, sent + stack.sent_octets
            endpoint = stack.remote or endpoint
        return {
            "public_key": key_text(known.public_key),
            "preshared_key": known.config.preshared_key is not None,
            "endpoint": None if endpoint is None else _text(endpoint),
            "allowed_ips": list(known.config.allowed_ips),
            "latest_handshake": known.latest_handshake,
            "transfer": {"received": received, "sent": sent},
            "persistent_keepalive": known.config.persistent_keepalive,
            "established": stack is not None and stack.complete,
            "dropped": {} if stack is None else dict(stack.inner_dropped),
            "store_error": None if self._state.store_error is None else str(self._state.store_error),
        }


def _text(address: tuple[str, int]) -> str:
    """HOST:PORT, with brackets around IPv6."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
