"""What only CurveCP understands: keys, names, extensions, whom a server serves, congestion control."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import field
from enum import Enum
from os import PathLike
from os.path import join
from typing import Any, Literal

from ...properties.words import member, refuse, seconds, text
from ...stack.errors import ConfigurationError, Reason
from ...stack.frozen import frozen
from .limits import EXTENSION, KEY
from .names import encode_name, key_of_name

__all__ = ["ClientPolicy", "Congestion", "CurveCpOptions", "read_key_folder"]

KEY_FILE = ".expertsonly/secretkey"  # in a key folder


class ClientPolicy(Enum):
    """Whom a server serves. A `trust_callback` is asked about each client besides."""

    ANY = "any"
    KNOWN = "known"  # only those in `known_clients`


class Congestion(Enum):
    """The controllers that a connection may have."""

    CUBIC = "cubic"
    NEW_RENO = "new-reno"
    CHICAGO = "chicago"  # CurveCP's own; it sends at most one block in 32.8 microseconds


@frozen(slots=False)
class CurveCpOptions:
    """Options of CurveCP. ConfigurationError names the one that is wrong; `repr` shows no secret.

    `key`: our long-term secret key: 32 octets, their hex or base64, or the folder that `curvecpmakekey` or
    `taps keygen curvecp` made. A server needs one; a client without one is anonymous, with a fresh key each time.

    Clients: `server_key`: the server's public key (octets, hex, base64, or a name with a `uz5...` label); None: the
    name of the server holds it in such a label. `server_name`: by which the server knows itself; None: the name that
    was asked for. On servers it is their own name, and clients that mean another one are not answered; None: any.

    `extension`: 16 octets (or hex) in front of our packets' contents, by which we are told apart from others at our
    address. `server_extension`: the one of the server that a client means.

    `client_policy`, `known_clients`: whom a server serves, by public keys. `congestion`: the controller.
    `idle_timeout`: seconds without a word of the peer, asked for one meanwhile, after which the connection is lost.
    `keep_alive`: seconds after which something is sent in any case; None: only what `idle_timeout` needs.
    """

    key: bytes | None = field(repr=False)
    server_key: bytes | None
    server_name: str | None
    extension: bytes
    server_extension: bytes
    client_policy: ClientPolicy
    known_clients: frozenset[bytes]
    congestion: Congestion
    idle_timeout: float
    keep_alive: float | None

    def __init__(
        self,
        *,
        key: bytes | str | PathLike[str] | None = None,
        server_key: bytes | str | None = None,
        server_name: str | None = None,
        extension: bytes | str = bytes(EXTENSION),
        server_extension: bytes | str = bytes(EXTENSION),
        client_policy: ClientPolicy | Literal["any", "known"] | None = None,
        known_clients: Iterable[bytes | str] = (),
        congestion: Congestion | Literal["cubic", "new-reno", "chicago"] = Congestion.CUBIC,
        idle_timeout: float = 600.0,
        keep_alive: float | None = None,
    ) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        known = frozenset(_public("known_clients", one) for one in known_clients)
        put("key", None if key is None else _secret(key))
        put("server_key", None if server_key is None else _public("server_key", server_key))
        put("server_name", None if server_name is None else text("CurveCpOptions.server_name", server_name))
        encode_name(self.server_name or "")
        put("extension", _octets("extension", extension, EXTENSION))
        put("server_extension", _octets("server_extension", server_extension, EXTENSION))
        policy = client_policy or (ClientPolicy.KNOWN if known else ClientPolicy.ANY)
        put("client_policy", member("CurveCpOptions.client_policy", policy, ClientPolicy))
        put("known_clients", known)
        put("congestion", member("CurveCpOptions.congestion", congestion, Congestion))
        put("idle_timeout", seconds("CurveCpOptions.idle_timeout", idle_timeout))
        put("keep_alive", seconds("CurveCpOptions.keep_alive", keep_alive))
        if not self.idle_timeout:
            refuse("CurveCpOptions.idle_timeout", idle_timeout, "a number of seconds above 0")
        if self.client_policy is ClientPolicy.ANY and known:
            refuse("CurveCpOptions.client_policy", "any", "'known', since known_clients are given")


def _secret(value: object) -> bytes:
    """Never shown, whatever is wrong with it."""
    expected = "a secret key of 32 octets, its hex or base64, or a key folder"
    if isinstance(value, bytes):
        if len(value) != KEY:
            raise ConfigurationError(f"CurveCpOptions.key: {len(value)} octets were given, expected {expected}")
        return value
    if isinstance(value, str):
        found = _decoded(value)
        return read_key_folder(value) if found is None else found
    if isinstance(value, PathLike):
        return read_key_folder(value)
    raise ConfigurationError(f"CurveCpOptions.key: {type(value).__name__} was given, expected {expected}")


def _public(name: str, value: object) -> bytes:
    found = (_decoded(value) or key_of_name(value)) if isinstance(value, str) else value
    if not isinstance(found, bytes) or len(found) != KEY:
        refuse(f"CurveCpOptions.{name}", value, "a public key: 32 octets, their hex or base64, or a uz5... label")
    return found


def _decoded(value: str) -> bytes | None:
    """32 octets from hex or base64."""
    if len(value) == 2 * KEY:
        try:
            return bytes.fromhex(value)
        except ValueError:
            return None
    try:
        octets = b64decode(value, validate=True)
    except (Base64Error, ValueError):
        return None
    return octets if len(octets) == KEY else None


def _octets(name: str, value: Any, size: int) -> bytes:
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError:
            refuse(f"CurveCpOptions.{name}", value, f"{size} octets, or their hex")
    if not isinstance(value, bytes) or len(value) != size:
        refuse(f"CurveCpOptions.{name}", value, f"{size} octets, or their hex")
    return value


def read_key_folder(folder: str | PathLike[str]) -> bytes:
    """The secret key in a folder of nacl-tools' form: DIR/.expertsonly/secretkey, 32 octets. ConfigurationError.

    It never shows what was given: a secret key with a mistake in it would be taken for the name of a folder.
    """
    expected = "a key folder, as `taps keygen curvecp` makes it"
    try:
        with open(join(folder, KEY_FILE), "rb") as file:
            octets = file.read()
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"CurveCpOptions.key: cannot read {KEY_FILE}: {what}; expected {expected}",
            reason=Reason.MISSING_CREDENTIAL,
        ) from None
    if len(octets) != KEY:
        text = f"CurveCpOptions.key: {KEY_FILE} has {len(octets)} octets and not {KEY}; expected {expected}"
        raise ConfigurationError(text)
    return octets
