"""What proves who we are, and by what we know a peer: certificates with keys, pre-shared keys, pins."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from dataclasses import field
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeAlias

from ..stack.asks import Sign
from ..stack.errors import ConfigurationError, Reason
from ..stack.frozen import frozen
from .words import refuse

if TYPE_CHECKING:
    from ..crypto.certificates import Identity as LoadedIdentity

KeyCallback: TypeAlias = Callable[[Sign], bytes | Awaitable[bytes]]

_HEX = re.compile(r"[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2}){31}")


@frozen
class Pin:
    """The SHA-256 of a certificate (DER) or of its SubjectPublicKeyInfo."""

    sha256: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, bytes) or len(self.sha256) != 32:
            refuse("Pin", self.sha256, "a SHA-256 fingerprint of 32 octets")

    @classmethod
    def of(cls, value: Pin | str | bytes) -> Pin:
        """A pin from its text: `sha256:` (or `sha-256 `, `sha256/`) and hex with or without colons, or base64."""
        if isinstance(value, Pin):
            return value
        if isinstance(value, bytes):
            return cls(value)
        expected = "a SHA-256 fingerprint like 'sha256:<64 hex digits>' or 'sha256/<base64>'"
        if not isinstance(value, str):
            refuse("Pin", value, expected)
        body = re.sub(r"^sha-?256[:/ =]", "", value.strip(), flags=re.IGNORECASE)
        if _HEX.fullmatch(body):
            return cls(bytes.fromhex(body.replace(":", "")))
        try:
            digest = b64decode(body, validate=True)
        except (Base64Error, ValueError):
            digest = b""
        if len(digest) != 32:
            refuse("Pin", value, expected)
        return cls(digest)

    def __str__(self) -> str:
        return f"sha256:{self.sha256.hex()}"

    def __repr__(self) -> str:
        return f"<Pin {self}>"


@frozen
class PreSharedKey:
    """A key that both sides were given beforehand, and the name under which they know it.

    The `key` shows in no repr. `identity` may be given as text. Protocols import the key, so that one key in two of
    them never gives the same secrets (RFC 9257 §4.2, RFC 9258).
    """

    identity: bytes
    key: bytes = field(repr=False)

    def __init__(self, identity: bytes | str, key: bytes) -> None:
        name = identity.encode() if isinstance(identity, str) else identity
        if not isinstance(name, bytes) or not 1 <= len(name) <= 0xF000:
            refuse("PreSharedKey.identity", identity, "1 to 61440 octets")
        if not isinstance(key, bytes) or not 16 <= len(key) <= 1024:
            size = f"{len(key)} octets" if isinstance(key, bytes) else type(key).__name__
            raise ConfigurationError(f"PreSharedKey.key: {size} was given, expected 16 to 1024 octets of random bytes")
        object.__setattr__(self, "identity", name)
        object.__setattr__(self, "key", key)

    @classmethod
    def parse(cls, words: str) -> PreSharedKey:
        """`IDENTITY:BASE64`, as the command takes it."""
        identity, colon, key = words.partition(":")
        try:
            octets = b64decode(key, validate=True)
        except (Base64Error, ValueError):
            octets = b""
        if not colon or not identity or not octets:
            raise ConfigurationError("psk: expected IDENTITY:BASE64, a name, a colon and the key in base64")
        return cls(identity, octets)


@frozen
class Identity:
    """A certificate chain and its private key, or the function that signs for it.

    Made by `file`, `pem` or `external`. `key_callback` gets each Sign request and returns the signature, or an
    awaitable of it; an identity with a private key has none. The repr shows the subject, never the key.
    """

    loaded: LoadedIdentity
    key_callback: KeyCallback | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.loaded.private_key is None and self.key_callback is None:
            raise ConfigurationError(
                "Identity: a certificate without its private key needs a key_callback that signs",
                reason=Reason.MISSING_CREDENTIAL,
            )

    @classmethod
    def file(
        cls, certificate: str | PathLike[str], key: str | PathLike[str], *, password: bytes | str | None = None
    ) -> Identity:
        """From a certificate file (PEM or DER, leaf first) and a key file, encrypted if there is a password."""
        return cls.pem(
            _read("Identity.file", certificate),
            _read("Identity.file", key),
            password=password,
            source=f"{fspath(certificate)} with {fspath(key)}",
        )

    @classmethod
    def pem(
        cls, certificate: bytes, key: bytes, *, password: bytes | str | None = None, source: str = "Identity.pem"
    ) -> Identity:
        """From the octets of a certificate chain and of a key. ConfigurationError says what is wrong with them."""
        from ..crypto.certificates import CredentialError  # noqa: PLC0415 -- loaded with the first identity
        from ..crypto.certificates import Identity as Loaded  # noqa: PLC0415

        secret = password.encode() if isinstance(password, str) else password
        try:
            return cls(Loaded.from_pem(certificate, key, password=secret, source=source))
        except CredentialError as error:
            raise ConfigurationError(str(error)) from None

    @classmethod
    def external(cls, certificate: bytes, key_callback: KeyCallback) -> Identity:
        """From the octets of a chain whose key lives elsewhere (HSM, agent, other process)."""
        from ..crypto.certificates import CredentialError, load_certificates  # noqa: PLC0415
        from ..crypto.certificates import Identity as Loaded  # noqa: PLC0415

        if not callable(key_callback):
            refuse("Identity.external: key_callback", key_callback, "a function that signs")
        try:
            return cls(Loaded.external(load_certificates(certificate, source="Identity.external")), key_callback)
        except CredentialError as error:
            raise ConfigurationError(str(error)) from None

    def __repr__(self) -> str:
        return repr(self.loaded)


def _read(what: str, path: str | PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{what}: cannot read {fspath(path)!r}: {error.strerror}") from None
