"""What an engine cannot do itself and asks for: `Ask(id, request)` goes out as an event, `stack.answer()` comes back.

Each ask is answered once, with a result or with `Refused(error)`; the answer may come at once or much later. Timers
and acknowledgements go on meanwhile, held input is bounded. A type enters with its first user.
"""

from __future__ import annotations

from dataclasses import field
from typing import TypeAlias

from .frozen import frozen, slotted

AskId: TypeAlias = int


@frozen
class VerifyPeer:
    """-> identity. `chain`: the peer's certificates in DER, leaf first. `name`: whom we meant; empty on a server."""

    chain: tuple[bytes, ...]
    name: str
    usage: str  # "server" or "client": what the peer must be


@frozen
class ChooseIdentity:
    """-> identity handle, or None to present nothing. `algorithms`: the peer's signature schemes, by code point.

    `authorities`: names in DER, and `certificate_algorithms`: schemes, that the peer would like to see in the chain;
    empty: it did not say.
    """

    server_name: str
    algorithms: tuple[int, ...]
    authorities: tuple[bytes, ...] = ()
    certificate_algorithms: tuple[int, ...] = ()


@frozen
class Sign:
    """-> the signature's octets, made with the private key of `identity` (inline, on a thread, or in an HSM)."""

    identity: object
    algorithm: int
    data: bytes = field(repr=False)


@frozen
class FindPsk:
    """-> the external pre-shared key of that name, or None."""

    identity: bytes


@frozen
class FindSession:
    """-> the stored session behind a stateful ticket, or None."""

    ticket: bytes = field(repr=False)


@frozen
class ClaimOnce:
    """-> bool: True exactly once for each token until `until` (unix seconds). Replay defence."""

    kind: str
    token: bytes
    until: float


@frozen
class VerifyKey:
    """-> identity. `key`: the bare public key by which the peer proved itself. `usage`: "server" or "client"."""

    key: bytes
    usage: str


@frozen
class Refused:
    """An answer: the ask was looked at and denied. The stack ends in its protocol's words for `error`."""

    error: Exception


AskRequest: TypeAlias = VerifyPeer | ChooseIdentity | Sign | FindPsk | FindSession | ClaimOnce | VerifyKey


@slotted
class Ask:
    """Something that the engine cannot do."""

    id: AskId
    request: AskRequest


@slotted
class AskWithdrawn:
    """The answer is no longer wanted; a late one is ignored."""

    id: AskId
