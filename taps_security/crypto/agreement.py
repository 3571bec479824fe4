"""Key agreement groups (RFC 8446 §4.2.8, RFC 7748, draft-ietf-tls-ecdhe-mlkem)."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

__all__ = ["AgreementError", "Group", "PrivateShare", "from_private", "generate", "respond"]


class AgreementError(ValueError):
    """The peer's public value is malformed, or gives a secret that must not be used."""


class Group(IntEnum):
    """A key agreement group; the value is its TLS code point (RFC 8446 §4.2.7)."""

    SECP256R1 = 0x0017
    SECP384R1 = 0x0018
    SECP521R1 = 0x0019
    X25519 = 0x001D
    X448 = 0x001E
    X25519MLKEM768 = 0x11EC


class PrivateShare(Protocol):
    """The private half of one share. `public` is what goes to the peer."""

    group: Group
    public: bytes

    def agree(self, peer_public: bytes) -> bytes:
        """The shared secret with the peer's public value; raises AgreementError."""
        ...


def generate(group: Group, random: Callable[[int], bytes]) -> PrivateShare:
    """A fresh share (in a hybrid: the client's)."""
    ...  # type: ignore[empty-body]


def from_private(group: Group, private: bytes) -> PrivateShare:
    """The share of given private bytes."""
    ...  # type: ignore[empty-body]


def respond(group: Group, peer_public: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """The answer to a share: (public value to send, shared secret); raises AgreementError."""
    ...  # type: ignore[empty-body]
