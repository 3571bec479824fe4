"""What the conformance suite's two ends know of each other: static keys, and one inner network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taps_security.crypto.sodium import scalarmult_base
from taps_security.properties.security import Role
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer

_PRIVATE = {role: bytes([number]) * 32 for number, role in enumerate(Role, 1)}
_INNER = {role: f"10.88.0.{number}" for number, role in enumerate(Role, 1)}


def _static(role: Role, place: tuple[str, int], shared: bytes | None = None) -> Mapping[str, Any]:
    other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    peer = WireGuardPeer(
        public_key=scalarmult_base(_PRIVATE[other]),
        preshared_key=shared,
        endpoint=f"{place[0]}:{place[1]}" if role is Role.CLIENT else None,
        allowed_ips=(f"{_INNER[other]}/32",),
    )
    options = WireGuardOptions(
        private_key=_PRIVATE[role],
        addresses=(f"{_INNER[role]}/24",),
        listen_port=place[1] if role is Role.SERVER else 0,
        peers=(peer,),
    )
    return {"options": {"wireguard": options}}


def _with_psk(role: Role, place: tuple[str, int]) -> Mapping[str, Any]:
    return _static(role, place, bytes(range(32)))


CREDENTIALS = {"static keys": _static, "static keys and a pre-shared key": _with_psk}
