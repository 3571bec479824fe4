"""Local and remote endpoints (RFC 9622 §6.1): at most one identifier of each kind."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, TypeVar

from ..stack.errors import ConfigurationError
from ..stack.frozen import frozen
from .words import refuse, text, whole

_Self = TypeVar("_Self", bound="Endpoint")


@frozen(slots=False, kw_only=True)
class Endpoint:
    """What both kinds share. ConfigurationError names the field, the value and what was expected.

    `host_name`: a DNS name. `ip_address`: IPv4 or IPv6, perhaps with a zone ("fe80::1%eth0", which is the same as
    `interface`). `port`: 0 to 65535, or `service`: an IANA name. `protocol`: this endpoint is only for that stack.
    """

    host_name: str | None = None
    ip_address: str | None = None
    port: int | None = None
    service: str | None = None
    interface: str | None = None
    protocol: str | None = None

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if self.host_name is not None:
            self._check_host_name(f"{kind}.host_name")
        if self.ip_address is not None:
            self._check_address(f"{kind}.ip_address")
        if self.port is not None:
            whole(f"{kind}.port", self.port, 0, 65535)
            if self.service is not None:
                raise ConfigurationError(
                    f"{kind}: port {self.port} and service {self.service!r} were given, expected one"
                )
        for name in ("service", "interface", "protocol"):
            value = getattr(self, name)
            if value is not None:
                text(f"{kind}.{name}", value)

    def _check_host_name(self, name: str) -> None:
        expected = "a host name of at most 253 characters, without port or spaces"
        host = text(name, self.host_name).removesuffix(".")
        if len(host) > 253 or any(character.isspace() or character in "/:@[]" for character in host):
            refuse(name, host, expected)
        if any(not 1 <= len(label) <= 63 for label in host.split(".")):
            refuse(name, host, "labels of 1 to 63 characters")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        refuse(name, host, "a name; an address goes into ip_address")

    def _check_address(self, name: str) -> None:
        address, percent, zone = text(name, self.ip_address).partition("%")
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            refuse(name, self.ip_address, "an IPv4 or IPv6 address")
        if percent:
            if not zone or parsed.version == 4:
                refuse(name, self.ip_address, "a zone only behind an IPv6 address, like 'fe80::1%eth0'")
            if self.interface not in {None, zone}:
                raise ConfigurationError(f"{name}: zone {zone!r} contradicts interface {self.interface!r}")
            object.__setattr__(self, "interface", zone)
        object.__setattr__(self, "ip_address", f"{parsed}%{zone}" if percent else str(parsed))

    @property
    def host(self) -> str:
        """The host name, or the address, or an empty string."""
        return self.host_name or self.ip_address or ""

    def __str__(self) -> str:
        """HOST:PORT, with brackets around IPv6."""
        host = self.host or "*"
        port = self.port if self.port is not None else self.service
        shown = f"[{host}]" if ":" in host else host
        return shown if port is None else f"{shown}:{port}"

    def replace(self: _Self, **changes: Any) -> _Self:
        """A copy with other values; the same checks."""
        return dataclasses.replace(self, **changes)


@frozen(slots=False, kw_only=True)
class LocalEndpoint(Endpoint):
    """Where we are: an address or interface to bind to; port 0 or None picks a free one."""

    __str__ = Endpoint.__str__


@frozen(slots=False, kw_only=True)
class RemoteEndpoint(Endpoint):
    """Who the peer is: a host name or an address, and a port or a service."""

    __str__ = Endpoint.__str__

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.host:
            raise ConfigurationError("RemoteEndpoint: no host was given, expected host_name or ip_address")
        if self.port == 0:
            refuse("RemoteEndpoint.port", 0, "a port from 1 to 65535")
