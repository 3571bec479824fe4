"""Where a Connection stands, and who watches over it until it is ready."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .connection import Connection


class ConnectionState(Enum):
    """RFC 9622 §8.1.11.1."""

    ESTABLISHING = "establishing"
    ESTABLISHED = "established"
    CLOSING = "closing"
    CLOSED = "closed"


class Owner(Protocol):
    """Whoever watches over a connection that is being established: a Listener."""

    def established(self, connection: Connection) -> None:
        """The handshake is complete."""

    def ended(self, connection: Connection) -> None:
        """The connection is over."""

    def take(self, connection: Connection) -> bool:
        """A ready connection that its peer opened beside another one. False: nobody wants it."""
