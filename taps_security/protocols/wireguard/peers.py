"""What one local end knows of all its peers: keys, timestamps, cookies, whose an inner address is, who has an index.

Everything that outlives a single handshake lives here, so that it outlives a single stack too. May live here: tables.
Must not: messages, timers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from taps_security.stack.errors import ConfigurationError, LocalError, PeerMisbehaved

from .keys import NO_PRESHARED_KEY, cookie_key, dh, mac1_key, responder_hash
from .limits import INDEX_ATTEMPTS, INDEX_SIZE, INITIATION_INTERVAL, TIMESTAMP_STEP
from .options import WireGuardOptions, WireGuardPeer, key_text
from .reasons import Reason

if TYPE_CHECKING:
    from taps_security.protocols.registry import Environment

__all__ = ["TIMESTAMP_SIZE", "AllowedIps", "Peer", "TunnelState", "decode_tai64n", "encode_tai64n"]

TIMESTAMP_SIZE: Final = 12
_TAI64N = Struct(">QI")  # seconds, nanoseconds
_TAI_OF_UNIX = 0x400000000000000A  # TAI64's label of 1970, with the ten leap seconds of then (§5.1)
_BILLION = 1_000_000_000
_NO_TIMESTAMP = bytes(TIMESTAMP_SIZE)
_LONG_AGO = float("-inf")


# --------------------------------------------------------------------------------------------------------- timestamps
def encode_tai64n(wall: float) -> bytes:
    """TAI64N of unix seconds, its nanoseconds rounded down so that it tells little of our clock; 12 octets."""
    seconds = int(max(wall, 0.0))
    nanoseconds = min(int((max(wall, 0.0) - seconds) * _BILLION), _BILLION - 1)
    return _TAI64N.pack(_TAI_OF_UNIX + seconds, nanoseconds // TIMESTAMP_STEP * TIMESTAMP_STEP)


def decode_tai64n(stamp: bytes) -> float:
    """Unix seconds of a TAI64N."""
    seconds, nanoseconds = _TAI64N.unpack(stamp)
    return float(seconds - _TAI_OF_UNIX + nanoseconds / _BILLION)


def _step(stamp: bytes) -> bytes:
    """The next rounded timestamp after `stamp`."""
    seconds, nanoseconds = _TAI64N.unpack(stamp)
    nanoseconds = (nanoseconds // TIMESTAMP_STEP + 1) * TIMESTAMP_STEP
    return _TAI64N.pack(seconds + 1, 0) if nanoseconds >= _BILLION else _TAI64N.pack(seconds, nanoseconds)


# -------------------------------------------------------------------------------------------------------------- peers
class Peer:
    """What we know of one peer. Its repr shows no secret.

    `config`: as its owner gave it. `static_static`: the shared secret of both static keys. `hash`: the handshake's
    before an initiation to the peer. `cookie`: the one that it gave us, of use until `cookie_until` (monotonic
    seconds); `last_mac1`: what a cookie reply must be for, None: nothing is outstanding. `received`, `sent`: the
    greatest timestamps, TAI64N; `initiated_at`: when it last began. `latest_handshake`: unix seconds, 0: never.
    """

    __slots__ = (
        "config",
        "cookie",
        "cookie_key",
        "cookie_until",
        "hash",
        "initiated_at",
        "last_mac1",
        "latest_handshake",
        "mac1_key",
        "preshared_key",
        "public_key",
        "received",
        "sent",
        "static_static",
    )

    def __init__(self, config: WireGuardPeer, static_static: bytes, received: bytes, sent: bytes) -> None:
        public = config.public_key
        self.public_key = public
        self.static_static = static_static
        self.mac1_key = mac1_key(public)
        self.cookie_key = cookie_key(public)
        self.hash = responder_hash(public)
        self.cookie: bytes | None = None
        self.cookie_until = _LONG_AGO
        self.last_mac1: bytes | None = None
        self.received, self.sent = received, sent
        self.initiated_at = _LONG_AGO
        self.latest_handshake = 0.0
        self.configure(config)

    def configure(self, config: WireGuardPeer) -> None:
        """Take what its owner says now; a handshake that is under way goes on with the new pre-shared key."""
        self.config = config
        self.preshared_key = config.preshared_key or NO_PRESHARED_KEY

    def __repr__(self) -> str:
        return f"<Peer {key_text(self.public_key)}>"


class AllowedIps:
    """Cryptokey routing (§2): the longest network that holds an address says whose it is."""

    __slots__ = ("_tables",)

    def __init__(self, peers: Iterable[WireGuardPeer] = ()) -> None:
        # by octets of an address: (bits that do not count, network -> peer), the longest networks first
        self._tables: dict[int, tuple[tuple[int, dict[int, bytes]], ...]] = {4: (), 16: ()}
        self.replace(peers)

    def replace(self, peers: Iterable[WireGuardPeer]) -> None:
        """Those of these peers from now on. ConfigurationError if two share a network; nothing has changed then."""
        found: dict[int, dict[int, dict[int, bytes]]] = {4: {}, 16: {}}
        for peer in peers:
            for text in peer.allowed_ips:
                network = ipaddress.ip_network(text)
                shift = network.max_prefixlen - network.prefixlen
                table = found[network.max_prefixlen // 8].setdefault(shift, {})
                if table.setdefault(int(network.network_address) >> shift, peer.public_key) != peer.public_key:
                    raise ConfigurationError(
                        f"wireguard.peers[{peer.name}].allowed_ips: {network} belongs to another peer too, "
                        "expected each network once"
                    )
        self._tables = {size: tuple(sorted(tables.items())) for size, tables in found.items()}

    def owner(self, address: bytes | memoryview) -> bytes | None:
        """The public key of the peer that has an address of 4 or 16 octets; None: nobody has it."""
        number = int.from_bytes(address, "big")
        for shift, table in self._tables[len(address)]:
            owner = table.get(number >> shift)
            if owner is not None:
                return owner
        return None


# ------------------------------------------------------------------------------------------------------ the local end
class TunnelState:
    """One local end: its static key, its peers, whose inner addresses are, and the indices that it has given out.

    `peers`: by public key. `live`: the stacks that live, by their peer's public key; whoever makes and ends stacks
    keeps it. `store_error`: why the store did not take a timestamp, None while it does.
    ConfigurationError if the store cannot be read, or for a public key that gives no secret.
    """

    def __init__(self, options: WireGuardOptions, environment: Environment) -> None:
        self.environment = environment
        self.private_key = options.private_key
        self.public_key = options.public_key
        self.mac1_key = mac1_key(self.public_key)
        self.cookie_key = cookie_key(self.public_key)
        self.hash = responder_hash(self.public_key)  # the handshake's before an initiation to us
        self.peers: dict[bytes, Peer] = {}
        self.allowed_ips = AllowedIps()
        self.live: dict[bytes, Any] = {}
        self.store_error: Exception | None = None
        self._indices: set[bytes] = set()
        self.apply(options)

    def apply(self, options: WireGuardOptions) -> tuple[bytes, ...]:
        """Have the peers of `options` from now on; the public keys of those that are gone.

        What we know of those that stay is kept. ConfigurationError as at construction, or for another private key;
        nothing has changed then.
        """
        if options.private_key != self.private_key:
            raise ConfigurationError("wireguard.private_key: another one was given, expected the tunnel's own")
        fresh = {peer.public_key: self._new_peer(peer) for peer in options.peers if peer.public_key not in self.peers}
        self.allowed_ips.replace(options.peers)
        wanted = {peer.public_key for peer in options.peers}
        gone = tuple(key for key in self.peers if key not in wanted)
        for key in gone:
            del self.peers[key]
        self.peers.update(fresh)
        for config in options.peers:
            self.peers[config.public_key].configure(config)
        return gone

    def _new_peer(self, config: WireGuardPeer) -> Peer:
        try:
            shared = dh(self.private_key, config.public_key)
        except PeerMisbehaved:
            name = f"wireguard.peers[{config.name}].public_key"
            raise ConfigurationError(f"{name}: it gives no shared secret, expected a public key of X25519") from None
        return Peer(config, shared, self._load(config, "received"), self._load(config, "sent"))

    # -- indices --------------------------------------------------------------------------------------------------
    def new_index(self) -> bytes:
        """Four random octets that are no index of ours yet. LocalError if randomness gives none."""
        for _ in range(INDEX_ATTEMPTS):
            index = self.environment.random(INDEX_SIZE)
            if index not in self._indices:
                self._indices.add(index)
                return index
        raise LocalError(f"{len(self._indices)} indices are in use, and randomness gives no other")

    def release_index(self, index: bytes) -> None:
        """It may be given out again."""
        self._indices.discard(index)

    # -- timestamps -----------------------------------------------------------------------------------------------
    def next_timestamp(self, peer: Peer) -> bytes:
        """The timestamp of an initiation to that peer: now, or just after the last one if the clock does not go on.

        It is kept in the store first, so that it holds after a restart. A store that cannot be written shows in
        `store_error`; in this process timestamps go on rising all the same.
        """
        stamp = encode_tai64n(self.environment.wall_clock())
        if stamp <= peer.sent:
            stamp = _step(peer.sent)
        peer.sent = stamp
        self._save(peer, "sent", stamp)
        return stamp

    def check_timestamp(self, peer: Peer, stamp: bytes, now: float) -> None:
        """Raises PeerMisbehaved for an initiation that is not newer than each before, or comes too soon (§5.1)."""
        if stamp <= peer.received:
            raise PeerMisbehaved("the initiation is not newer than the last one", reason=Reason.REPLAYED)
        if now - peer.initiated_at < INITIATION_INTERVAL:
            raise PeerMisbehaved("the initiation comes too soon after the last one", reason=Reason.TOO_FAST)

    def accept_timestamp(self, peer: Peer, stamp: bytes, now: float) -> None:
        """An initiation with that timestamp was taken: it, and each older one, is a replay from now on.

        This holds in this process whatever the store does. If the store cannot be written, `store_error` says so, and
        a restart could take this initiation for new: its sender's keys are safe then too, as no replay gives anybody a
        key, but our answer to it would replace an unconfirmed pair.
        """
        peer.received = stamp
        peer.initiated_at = now
        self._save(peer, "received", stamp)

    def _name(self, public_key: bytes, what: str) -> str:
        return f"wireguard/{self.public_key.hex()}/{public_key.hex()}/{what}"

    def _load(self, config: WireGuardPeer, what: str) -> bytes:
        store = self.environment.store
        if store is None:
            return _NO_TIMESTAMP
        name = self._name(config.public_key, what)
        try:
            stamp = store.load(name)
        except (OSError, ConfigurationError) as error:
            raise ConfigurationError(f"wireguard: the store of timestamps cannot be read: {error}") from error
        if stamp is None:
            return _NO_TIMESTAMP
        if len(stamp) != TIMESTAMP_SIZE or (what == "sent" and not _is_sound(stamp)):
            raise ConfigurationError(
                f"wireguard: the store has no timestamp under {name!r}, expected TAI64N: 12 octets"
            )
        return bytes(stamp)

    def _save(self, peer: Peer, what: str, stamp: bytes) -> None:
        store = self.environment.store
        if store is None:
            return
        try:
            store.save(self._name(peer.public_key, what), stamp)
        except (OSError, ConfigurationError) as error:
            self.store_error = error
        else:
            self.store_error = None

    def __repr__(self) -> str:
        return f"<TunnelState {key_text(self.public_key)}, {len(self.peers)} peers>"


def _is_sound(stamp: bytes) -> bool:
    """Whether there is room behind a timestamp of ours: TAI64's seconds are below 2^63."""
    seconds, nanoseconds = _TAI64N.unpack(stamp)
    return bool(seconds < 1 << 63 and nanoseconds < _BILLION)
