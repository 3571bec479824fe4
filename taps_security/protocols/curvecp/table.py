"""What a profile and a command line say of CurveCP, as options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...properties.words import closest, listed, refuse, text
from ...stack.errors import ConfigurationError
from ...stack.frozen import replace
from ..registry import Overrides
from .options import CurveCpOptions

__all__ = ["KEYS", "from_table", "overridden"]

KEYS = (
    *("key", "known_clients", "server_name", "extension", "client_policy"),
    *("server_extension", "congestion", "idle_timeout", "keep_alive"),
)


def from_table(table: Mapping[str, Any], private_key: bytes | None) -> CurveCpOptions:
    """Options from the table [curvecp] of a profile, whose keys are fields of the options.

    `key` is a key folder; without one, the private key that stands apart is ours. The server's public key stands in
    [remote], as `peer_key`. ConfigurationError begins with the key.
    """
    for name in table:
        if name not in KEYS:
            expected = f"one of {listed(KEYS)}{closest(name, KEYS)}"
            raise ConfigurationError(f"{name}: an unknown key was given, expected {expected}")
    values = dict(table)
    clients = values.get("known_clients", [])
    if not isinstance(clients, list) or not all(isinstance(one, str) for one in clients):
        refuse("known_clients", clients, "a list of public keys in base64")
    key = Path(text("key", values["key"])) if "key" in values else private_key
    try:
        return CurveCpOptions(**{**values, "key": key})
    except ConfigurationError as error:
        message = error.message.removeprefix("CurveCpOptions.").replace("CurveCP server name:", "server_name:")
        raise ConfigurationError(message, reason=error.reason) from None


def overridden(options: CurveCpOptions | None, given: Overrides) -> CurveCpOptions:
    """Options with what was given apart: our secret key, the server's public key, and its name."""
    named = {"key": given.private_key, "server_key": given.peer_key, "server_name": given.server_name}
    changes = {field: value for field, value in named.items() if value is not None}
    return replace(CurveCpOptions() if options is None else options, **changes)
