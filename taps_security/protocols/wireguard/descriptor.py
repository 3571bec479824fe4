"""What WireGuard says of itself, and what its tunnels are made from.

Everybody who chooses among protocols loads this module, so it imports no handshake.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...properties.preference import Preference
from ...properties.security import Role, SecurityParameters
from ...properties.transport import TransportProperties
from ...stack.errors import ConfigurationError
from ..registry import Descriptor, Interface, Provided, Provides, Shape, TunnelRequest
from .options import WireGuardOptions

if TYPE_CHECKING:
    from .quick import Written
    from .tunnel import WireGuardTunnel

_YES = Provided(True)
_ALWAYS_SO = "WireGuard has one set of algorithms and one handshake, and negotiates nothing"


def provides(version: str, security: SecurityParameters, transport: TransportProperties, role: Role) -> Provides:
    """Each property, as a tunnel so configured has it."""
    options = _given(security)
    peers = () if options is None else options.peers
    keyed = bool(peers) and all(peer.preshared_key is not None for peer in peers)
    kept_alive = bool(peers) and all(peer.persistent_keepalive for peer in peers)
    return {
        **_datagram_provides(),
        "keep_alive": Provided(kept_alive, "persistent keepalives" if kept_alive else "not every peer has an interval"),
        "forward_secrecy": Provided(True, "every handshake has ephemeral keys, and there is one every two minutes"),
        "endpoint_authentication": Provided(True, "static public keys that are known beforehand"),
        "mutual_authentication": Provided(True, "static public keys that are known beforehand"),
        "source_validation": Provided(True, "a cookie under load; before that a single answer smaller than its cause"),
        "pre_shared_key": Provided(keyed, "beside the static keys" if keyed else "not every peer has one"),
        "algorithm_agility": Provided(False, _ALWAYS_SO),
        "application_negotiation": Provided(False, _ALWAYS_SO),
        "configuration_extensions": Provided(False, _ALWAYS_SO),
        "session_resumption": Provided(False, "a handshake takes one round trip, each time"),
        "zero_rtt": Provided(False, "no data goes before the response"),
        "key_update": Provided(True, "a further handshake, while data goes on under the old keys"),
        "key_export": Provided(False, "there is no exporter"),
        "key_import": Provided(False, "it agrees its own keys"),
        "connection_mobility": Provided(True, "the peer is where its newest authentic packet came from"),
        "identity_protection": Provided(True, "static keys are encrypted; who knows the responder's can recognise it"),
        "replay_protection": Provided(True, "counters with a window, and timestamps in initiations"),
        "out_of_order_records": Provided(True, "within 8,192 packets"),
        "length_hiding": Provided(False, "padding to a multiple of 16 octets hides little"),
        "post_quantum": Provided(False, "X25519 alone; a pre-shared key may stand in"),
    }


def _datagram_provides() -> dict[str, Provided]:
    """The selection properties of inner UDP flows."""
    lost = Provided(False, "UDP inside: messages may be lost, and come in any order")
    return {
        "reliability": lost,
        "preserve_order": lost,
        "per_msg_reliability": lost,
        "preserve_msg_boundaries": _YES,
        "congestion_control": Provided(False, "UDP inside; the application has to be careful"),
        "full_checksum_send": Provided(True, "every packet is authenticated, whether UDP's checksum is there or not"),
        "full_checksum_recv": Provided(True, "every packet is authenticated"),
        "active_read_before_send": Provided(False, "the peer learns of an inner flow by its first message"),
        "multistreaming": Provided(True, "clone() opens a further inner flow of the same tunnel"),
        "zero_rtt_msg": Provided(False, "no data goes before the response"),
        "soft_error_notify": Provided(True, "inner ICMP errors"),
    }


def credentials(security: SecurityParameters, role: Role) -> str | None:
    """What is missing, or None."""
    options = _given(security)
    if options is None:
        return "a private key, inner addresses and peers (options={'wireguard': WireGuardOptions(...)})"
    if not options.addresses:
        return "inner addresses of ours (WireGuardOptions.addresses)"
    if role is Role.CLIENT and not options.peers:
        return "a peer (WireGuardOptions.peers)"
    return None


def _given(security: SecurityParameters) -> WireGuardOptions | None:
    given = security.options.get("wireguard")
    return given if isinstance(given, WireGuardOptions) else None


def tunnel(request: TunnelRequest) -> WireGuardTunnel:
    """The local end. ConfigurationError for options that do not fit, and if the store cannot be read.

    Every packet is authenticated, so that the UDP checksum inside covers nothing more: it is computed where
    `full_checksum_send` is preferred or required (the default), and else left out over IPv4.
    """
    from .tunnel import WireGuardTunnel  # noqa: PLC0415 -- what only describes itself needs no tunnel

    options = _given(request.security)
    if options is None:
        raise ConfigurationError("options['wireguard']: nothing was given, expected WireGuardOptions")
    checksums = request.transport.preference("full_checksum_send") >= Preference.PREFER
    return WireGuardTunnel(options, request.environment, checksums=checksums)


def from_table(table: Mapping[str, Any], private_key: bytes | None) -> WireGuardOptions:
    """Options from the table [wireguard] of a profile: see `quick.from_table`."""
    from .quick import from_table  # noqa: PLC0415 -- few have a profile

    return from_table(table, private_key)


def read(source: str, private_key: bytes | None) -> Written:
    """A file of wg-quick: see `quick.read`."""
    from .quick import read  # noqa: PLC0415 -- few have such a file

    return read(source, private_key)


DESCRIPTOR = Descriptor(
    name="wireguard",
    versions=("1",),
    shape=Shape.DATAGRAM_TO_DATAGRAM,
    carrier="udp",
    claims=tuple([bytes((kind, 0, 0, 0)) for kind in range(1, 5)]),
    labels=frozenset(
        {
            Interface.IPK,
            Interface.PSKI,
            Interface.IV,
            Interface.SAV,
            Interface.ME,
            Interface.KU,
            Interface.KE,
        }
    ),
    deviations={
        "KU": "the application may ask for a handshake at any time, which brings fresh keys (whitepaper §6.2)",
        "KE": "whitepaper §6.1 bounds the time and the messages of a key, and the record reports it",
    },
    options=WireGuardOptions,
    provides=provides,
    credentials=credentials,
    tunnel=tunnel,
    from_table=from_table,
    formats=MappingProxyType({".conf": read}),
)
