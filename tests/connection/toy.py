"""Protocols that only say what they provide: for choosing and racing, never for talking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols.registry import (
    Descriptor,
    Interface,
    Provided,
    Provides,
    Shape,
    byte_stream_provides,
)

SAFE = ("forward_secrecy", "endpoint_authentication", "source_validation")


@dataclass(frozen=True)
class ToyOptions:
    """Something to set."""

    number: int = 0


def toy(
    name: str = "toy",
    *provides: str,
    without: tuple[str, ...] = (),
    versions: tuple[str, ...] = ("1",),
    missing: str | None = None,
    client: Any = None,
    screener: Any = None,
) -> Descriptor:
    """A protocol over TCP that has what the defaults require, and `provides`, but not `without`."""

    def provided(version: str, security: SecurityParameters, transport: TransportProperties, role: Role) -> Provides:
        found = {
            **byte_stream_provides(transport),
            **{feature: Provided(True, "toy") for feature in (*SAFE, *provides)},
        }
        return {key: value for key, value in found.items() if key not in without}

    return Descriptor(
        name=name,
        versions=versions,
        shape=Shape.STREAM_TO_STREAM,
        carrier="tcp",
        labels=frozenset({Interface.IPK}),
        provides=provided,
        credentials=lambda security, role: missing,
        client=client,
        screener=screener,
        options=ToyOptions,
    )
