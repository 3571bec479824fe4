"""What the owner of a WireGuard tunnel says: keys, addresses and peers, in the words of wg(8) and wg-quick(8)."""

from __future__ import annotations

import ipaddress
import warnings
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import field
from os import PathLike, fspath
from typing import Any, TypeAlias

from taps_security.crypto.sodium import scalarmult_base
from taps_security.properties.words import refuse, whole
from taps_security.stack.errors import ConfigurationError
from taps_security.stack.frozen import frozen

__all__ = ["WireGuardOptions", "WireGuardPeer", "key_text", "static_key"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

KEY_SIZE = 32  # octets of every key
DEFAULT_MTU = 1420  # octets of an inner packet: 1,500 less IPv6, UDP and 32 octets of ours
MIN_MTU, MIN_MTU_IPV6 = 576, 1280  # RFC 791 §3.2, RFC 8200 §5
MAX_MTU = 65_507 - 32  # what one UDP datagram over IPv4 carries, less our own


# ---------------------------------------------------------------------------------------------------------- checking
def static_key(text: str, name: str = "wireguard.private_key") -> bytes:
    """A key of 32 octets from its base64, as wg(8) writes it.

    ConfigurationError names `name` and what was expected, never the text itself.
    """
    try:
        octets = b64decode(text.strip(), validate=True)
    except (Base64Error, ValueError):
        octets = b""
    if len(octets) != KEY_SIZE:
        raise ConfigurationError(f"{name}: what was given is no key, expected the base64 of 32 octets (44 characters)")
    return octets


def key_text(key: bytes) -> str:
    """Base64 of a key, as wg(8) writes it."""
    return b64encode(key).decode()


def _key(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return static_key(value, name)
    if not isinstance(value, bytes):
        raise ConfigurationError(f"{name}: {type(value).__name__} was given, expected 32 octets or their base64")
    if len(value) != KEY_SIZE:
        raise ConfigurationError(f"{name}: {len(value)} octets were given, expected 32 octets or their base64")
    return value


def _endpoint(name: str, value: object) -> tuple[str, int] | None:
    """(host, port) of "host:port", "[address]:port" or the pair itself."""
    expected = "HOST:PORT, with brackets around an IPv6 address and a port from 1 to 65535"
    if value is None:
        return None
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5) or (":" in host and not bracketed):
            refuse(name, value, expected)
        pair: tuple[Any, ...] = (host[1:-1] if bracketed else host, int(port))
    elif isinstance(value, tuple | list):
        pair = tuple(value)
    else:
        refuse(name, value, expected)
    if len(pair) != 2 or not isinstance(pair[0], str) or isinstance(pair[1], bool) or not isinstance(pair[1], int):
        refuse(name, value, expected)
    if not pair[0] or any(letter.isspace() or letter in "/[]@#" for letter in pair[0]) or not 1 <= pair[1] <= 65_535:
        refuse(name, value, expected)
    return pair


def _texts(name: str, value: object, expected: str) -> tuple[str, ...]:
    """Texts from a list, or from one text with commas, as wg(8) has them."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Iterable) or isinstance(parts, bytes):
        refuse(name, value, expected)
    found = tuple(parts)
    for part in found:
        if not isinstance(part, str):
            refuse(name, part, expected)
    return tuple(part.strip() for part in found if part.strip())


def _networks(name: str, value: object) -> tuple[str, ...]:
    """Networks without host bits, each once, in the order given."""
    expected = "networks like '10.88.0.0/24' or 'fd00::/64'"
    found = []
    for text in _texts(name, value, expected):
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            refuse(name, text, expected)
    return tuple(dict.fromkeys(found))


def _addresses(name: str, value: object) -> tuple[str, ...]:
    """Addresses with their prefix lengths, each once; a bare address is a network of its own."""
    expected = "addresses with a prefix length, like '10.88.0.1/24' or 'fd00::1/64'"
    found: dict[str, str] = {}
    for text in _texts(name, value, expected):
        try:
            address = ipaddress.ip_interface(text)
        except ValueError:
            refuse(name, text, expected)
        if str(address.ip) in found:
            refuse(name, text, "each address once")
        found[str(address.ip)] = str(address)
    return tuple(found.values())


# -------------------------------------------------------------------------------------------------------------- peers
@frozen(kw_only=True)
class WireGuardPeer:
    """One peer of a tunnel. ConfigurationError names the key, and the peer by its public key.

    `public_key`: 32 octets, or their base64; `preshared_key` likewise, None: without. `endpoint`: where the peer is
    outside, "HOST:PORT" or (host, port); None: only the peer can begin. `allowed_ips`: the networks inside that are
    the peer's (host bits are dropped). `persistent_keepalive`: seconds from 1 to 65535; 0: off.
    """

    public_key: bytes
    preshared_key: bytes | None = field(default=None, repr=False)
    endpoint: tuple[str, int] | None = None
    allowed_ips: tuple[str, ...] = ()
    persistent_keepalive: int = 0

    def __init__(
        self,
        *,
        public_key: bytes | str,
        preshared_key: bytes | str | None = None,
        endpoint: str | tuple[str, int] | None = None,
        allowed_ips: Iterable[str] = (),
        persistent_keepalive: int = 0,
    ) -> None:
        key = _key("wireguard.peers.public_key", public_key)
        table = f"wireguard.peers[{key_text(key)}]"
        put = object.__setattr__
        put(self, "public_key", key)
        shared = None if preshared_key is None else _key(f"{table}.preshared_key", preshared_key)
        # wg(8): a preshared key of zeros is what the protocol mixes in when there is none
        put(self, "preshared_key", shared if shared is None or any(shared) else None)
        put(self, "endpoint", _endpoint(f"{table}.endpoint", endpoint))
        put(self, "allowed_ips", _networks(f"{table}.allowed_ips", allowed_ips))
        put(self, "persistent_keepalive", whole(f"{table}.persistent_keepalive", persistent_keepalive, 0, 65_535))

    @property
    def name(self) -> str:
        """The public key in base64: how wg(8) calls a peer."""
        return key_text(self.public_key)

    @property
    def endpoint_text(self) -> str | None:
        """HOST:PORT of the endpoint, with brackets around IPv6; None without one."""
        if self.endpoint is None:
            return None
        host, port = self.endpoint
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __repr__(self) -> str:
        shared = "" if self.preshared_key is None else ", with a preshared key"
        return (
            f"<WireGuardPeer {self.name}, endpoint {self.endpoint_text or 'none'}, "
            f"allowed_ips {', '.join(self.allowed_ips) or 'none'}, "
            f"persistent_keepalive {self.persistent_keepalive or 'off'}{shared}>"
        )


# ------------------------------------------------------------------------------------------------------------ options
@frozen(kw_only=True)
class WireGuardOptions:
    """One tunnel: our key, our addresses inside, and our peers. ConfigurationError names the key and what was expected.

    `private_key`: 32 octets, or their base64. `addresses`: ours inside, with prefix lengths ("10.88.0.1/24").
    `listen_port`: the UDP port outside, 0: any. `mtu`: octets of the largest packet inside. `peers`: WireGuardPeer, or
    mappings of its keys; no key may come twice, nor be our own, and no network may belong to two peers. `public_key`
    follows from the private one.
    """

    private_key: bytes = field(repr=False)
    addresses: tuple[str, ...] = ()
    listen_port: int = 0
    mtu: int = DEFAULT_MTU
    peers: tuple[WireGuardPeer, ...] = ()
    public_key: bytes = field(init=False, compare=False)

    def __init__(
        self,
        *,
        private_key: bytes | str,
        addresses: Iterable[str] = (),
        listen_port: int = 0,
        mtu: int = DEFAULT_MTU,
        peers: Iterable[WireGuardPeer | Mapping[str, Any]] = (),
    ) -> None:
        put = object.__setattr__
        private = _key("wireguard.private_key", private_key)
        inner = _addresses("wireguard.addresses", addresses)
        least = MIN_MTU_IPV6 if any(":" in address for address in inner) else MIN_MTU
        put(self, "private_key", private)
        put(self, "public_key", scalarmult_base(private))
        put(self, "addresses", inner)
        put(self, "listen_port", whole("wireguard.listen_port", listen_port, 0, 65_535))
        put(self, "mtu", whole("wireguard.mtu", mtu, least, MAX_MTU))
        put(self, "peers", _peers(peers))
        self._check_peers()

    def _check_peers(self) -> None:
        owners: dict[str, WireGuardPeer] = {}
        seen: set[bytes] = set()
        for peer in self.peers:
            table = f"wireguard.peers[{peer.name}]"
            if peer.public_key == self.public_key:
                raise ConfigurationError(f"{table}.public_key: it is our own public key, expected the peer's")
            if peer.public_key in seen:
                raise ConfigurationError(f"{table}.public_key: it comes twice, expected each peer once")
            seen.add(peer.public_key)
            for network in peer.allowed_ips:
                other = owners.setdefault(network, peer)
                if other is not peer:
                    raise ConfigurationError(
                        f"{table}.allowed_ips: {network} belongs to peer {other.name} too, expected each network once"
                    )

    @classmethod
    def file(cls, path: str | PathLike[str], *, private_key: bytes | str | None = None) -> WireGuardOptions:
        """From a file of wg-quick(8); `quick` says which keys. `private_key`: in place of the file's.

        ConfigurationError names file, line, table and key. A warning names the keys that are not honoured.
        """
        from .quick import read  # noqa: PLC0415 -- only who has such a file needs its reader

        name = fspath(path)
        try:
            with open(path, encoding="utf-8") as file:
                source = file.read()
        except OSError as error:
            raise ConfigurationError(f"WireGuardOptions.file: cannot read {name!r}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{name}: this is no text, expected a file as wg-quick has it") from None
        try:
            found = read(source, None if private_key is None else _key("private_key", private_key))
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error.message}") from None
        if found.not_honoured:
            warnings.warn(f"{name}: not honoured: {', '.join(found.not_honoured)}", stacklevel=2)
        return found.options

    def text(self) -> str:
        """As a file of wg-quick(8). It has the private key in it: give the file mode 0600."""
        from .quick import write  # noqa: PLC0415

        return write(self)

    def with_peer(self, peer: WireGuardPeer) -> WireGuardOptions:
        """With that peer added, or put in the place of the one with its public key."""
        known = any(one.public_key == peer.public_key for one in self.peers)
        changed = [peer if one.public_key == peer.public_key else one for one in self.peers]
        return self._with(changed if known else [*changed, peer])

    def without_peer(self, public_key: bytes | str) -> WireGuardOptions:
        """Without that peer; the same if there is none of that key."""
        key = _key("wireguard.peers.public_key", public_key)
        return self._with([one for one in self.peers if one.public_key != key])

    def _with(self, peers: Iterable[WireGuardPeer]) -> WireGuardOptions:
        return WireGuardOptions(
            private_key=self.private_key,
            addresses=self.addresses,
            listen_port=self.listen_port,
            mtu=self.mtu,
            peers=peers,
        )

    def __repr__(self) -> str:
        return (
            f"<WireGuardOptions {key_text(self.public_key)}, addresses {', '.join(self.addresses) or 'none'}, "
            f"listen_port {self.listen_port}, mtu {self.mtu}, {len(self.peers)} peers>"
        )


def _peers(given: object) -> tuple[WireGuardPeer, ...]:
    """Peers as they are, or made from mappings."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        refuse("wireguard.peers", given, "a list of peers")
    found = []
    known = tuple(WireGuardPeer.__dataclass_fields__)
    for number, one in enumerate(given):
        if isinstance(one, Mapping):
            for key in one:
                if key not in known:
                    raise ConfigurationError(f"wireguard.peers[{number}]: {key!r} is not known, expected {known}")
            if "public_key" not in one:
                raise ConfigurationError(f"wireguard.peers[{number}].public_key: it is missing, expected base64")
            found.append(WireGuardPeer(**one))
        elif isinstance(one, WireGuardPeer):
            found.append(one)
        else:
            refuse(f"wireguard.peers[{number}]", type(one).__name__, "a WireGuardPeer, or a table of its keys")
    return tuple(found)
