"""What the conformance suite's two ends know of each other: long-term keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taps_security.crypto.sodium import scalarmult_base
from taps_security.properties.security import Role
from taps_security.protocols.curvecp.options import CurveCpOptions

_SECRET = {role: bytes([number]) * 32 for number, role in enumerate(Role, 1)}
_PUBLIC = {role: scalarmult_base(secret) for role, secret in _SECRET.items()}
_NAME = "server.example"


def _known(role: Role, place: tuple[str, int]) -> Mapping[str, Any]:
    if role is Role.CLIENT:
        options = CurveCpOptions(key=_SECRET[role], server_key=_PUBLIC[Role.SERVER], server_name=_NAME)
    else:
        options = CurveCpOptions(key=_SECRET[role], server_name=_NAME, known_clients=[_PUBLIC[Role.CLIENT]])
    return {"options": {"curvecp": options}}


def _anonymous(role: Role, place: tuple[str, int]) -> Mapping[str, Any]:
    if role is Role.CLIENT:
        options = CurveCpOptions(server_key=_PUBLIC[Role.SERVER], server_name=_NAME)
    else:
        options = CurveCpOptions(key=_SECRET[role], server_name=_NAME)
    return {"options": {"curvecp": options}}


CREDENTIALS = {"known keys": _known, "anonymous client": _anonymous}
