"""Transport Services (RFC 9621, 9622, 9623) for asyncio over every transport security protocol of RFC 8922.

    preconnection = Preconnection(remote_endpoints=[RemoteEndpoint(host_name="server.example", port=443)], ...)
    async with await preconnection.initiate() as connection:
        await connection.send(b"hello")

The public names load when they are first used, so that a program pays for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection.connection import Connection as Connection
    from .connection.listener import Listener as Listener
    from .connection.packets import Packets as Packets
    from .connection.preconnection import Preconnection as Preconnection
    from .connection.sessions import SessionCache as SessionCache
    from .connection.state import ConnectionState as ConnectionState
    from .connection.stores import FileStore as FileStore
    from .connection.stores import MemoryStore as MemoryStore
    from .connection.streams import open_connection as open_connection
    from .connection.streams import start_server as start_server
    from .connection.streams import start_tls as start_tls
    from .connection.tunnel import Tunnel as Tunnel
    from .observe.keylog import KeyLogFile as KeyLogFile
    from .observe.security import SecurityReport as SecurityReport
    from .properties.credentials import Identity as Identity
    from .properties.credentials import Pin as Pin
    from .properties.credentials import PreSharedKey as PreSharedKey
    from .properties.endpoints import LocalEndpoint as LocalEndpoint
    from .properties.endpoints import RemoteEndpoint as RemoteEndpoint
    from .properties.messages import Message as Message
    from .properties.messages import MessageContext as MessageContext
    from .properties.preference import Preference as Preference
    from .properties.security import SecurityParameters as SecurityParameters
    from .properties.store import Store as Store
    from .properties.transport import TransportProperties as TransportProperties
    from .properties.trust import Trust as Trust
    from .protocols.curvecp.options import CurveCpOptions as CurveCpOptions
    from .protocols.tls.options import TlsOptions as TlsOptions
    from .protocols.wireguard.options import WireGuardOptions as WireGuardOptions
    from .protocols.wireguard.options import WireGuardPeer as WireGuardPeer
    from .stack.errors import AuthenticationFailed as AuthenticationFailed
    from .stack.errors import CandidateFailure as CandidateFailure
    from .stack.errors import ConfigurationError as ConfigurationError
    from .stack.errors import ConnectionLost as ConnectionLost
    from .stack.errors import EstablishmentError as EstablishmentError
    from .stack.errors import LocalError as LocalError
    from .stack.errors import PeerAborted as PeerAborted
    from .stack.errors import PeerIncompatible as PeerIncompatible
    from .stack.errors import PeerMisbehaved as PeerMisbehaved
    from .stack.errors import Reason as Reason
    from .stack.errors import RemoteError as RemoteError
    from .stack.errors import TapsError as TapsError

__version__ = "0.1.0"

_HOMES = {
    "connection.connection": ("Connection",),
    "connection.listener": ("Listener",),
    "connection.packets": ("Packets",),
    "connection.preconnection": ("Preconnection",),
    "connection.sessions": ("SessionCache",),
    "connection.stores": ("FileStore", "MemoryStore"),
    "connection.state": ("ConnectionState",),
    "connection.streams": ("open_connection", "start_server", "start_tls"),
    "connection.tunnel": ("Tunnel",),
    "observe.keylog": ("KeyLogFile",),
    "observe.security": ("SecurityReport",),
    "properties.credentials": ("Identity", "Pin", "PreSharedKey"),
    "properties.endpoints": ("LocalEndpoint", "RemoteEndpoint"),
    "properties.messages": ("Message", "MessageContext"),
    "properties.preference": ("Preference",),
    "properties.security": ("SecurityParameters",),
    "properties.store": ("Store",),
    "properties.transport": ("TransportProperties",),
    "properties.trust": ("Trust",),
    "protocols.curvecp.options": ("CurveCpOptions",),
    "protocols.tls.options": ("TlsOptions",),
    "protocols.wireguard.options": ("WireGuardOptions", "WireGuardPeer"),
    "stack.errors": (
        "AuthenticationFailed",
        "CandidateFailure",
        "ConfigurationError",
        "ConnectionLost",
        "EstablishmentError",
        "LocalError",
        "PeerAborted",
        "PeerIncompatible",
        "PeerMisbehaved",
        "Reason",
        "RemoteError",
        "TapsError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604 -- the table above is the one list of names


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
