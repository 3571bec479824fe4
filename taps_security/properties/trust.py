"""Whom we trust to be who they say: roots, files and pins. Verifying lives in `crypto.trust`."""

from __future__ import annotations

import hashlib

from ..stack.frozen import frozen
from .credentials import Pin
from .words import refuse, text


@frozen
class Trust:
    """Trust anchors as declared; combine them with `|`.

    `system_roots`: the system's store. `files`: paths of PEM or DER bundles. `certificates`: PEM or DER octets.
    `pinned`: fingerprints of certificates or public keys; they also serve self-signed certificates.
    """

    system_roots: bool = False
    files: tuple[str, ...] = ()
    certificates: tuple[bytes, ...] = ()
    pinned: tuple[Pin, ...] = ()

    @classmethod
    def system(cls) -> Trust:
        """The system's store of roots."""
        return cls(system_roots=True)

    @classmethod
    def file(cls, path: str) -> Trust:
        """The roots of a PEM or DER file, read when a connection or listener is asked for."""
        return cls(files=(text("Trust.file", str(path)),))

    @classmethod
    def pem(cls, data: bytes | str) -> Trust:
        """The roots in PEM (or DER) octets."""
        octets = data.encode() if isinstance(data, str) else bytes(data)
        if not octets:
            refuse("Trust.pem", data, "certificates in PEM or DER")
        return cls(certificates=(octets,))

    @classmethod
    def pins(cls, *pins: Pin | str) -> Trust:
        """SHA-256 fingerprints of certificates or of SubjectPublicKeyInfos, as Pin or as its text."""
        if not pins:
            refuse("Trust.pins", (), "at least one pin, like 'sha256:<64 hex digits>'")
        return cls(pinned=tuple(dict.fromkeys(Pin.of(pin) for pin in pins)))

    def __or__(self, other: Trust) -> Trust:
        if not isinstance(other, Trust):
            return NotImplemented
        return Trust(
            self.system_roots or other.system_roots,
            tuple(dict.fromkeys(self.files + other.files)),
            tuple(dict.fromkeys(self.certificates + other.certificates)),
            tuple(dict.fromkeys(self.pinned + other.pinned)),
        )

    def __repr__(self) -> str:
        parts = ["system"] if self.system_roots else []
        parts += [f"file {path!r}" for path in self.files]
        parts += [f"{len(self.certificates)} given in memory"] if self.certificates else []
        parts += [str(pin) for pin in self.pinned]
        return f"<Trust {', '.join(parts) or 'nobody'}>"

    @property
    def digest(self) -> bytes:
        """32 octets that differ between declarations: stored sessions are kept apart by it."""
        parts = [b"system"] if self.system_roots else []
        parts += [b"file " + path.encode() for path in self.files]
        parts += [b"octets " + octets for octets in self.certificates]
        parts += [b"pin " + pin.sha256 for pin in self.pinned]
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(hashlib.sha256(part).digest())
        return hashed.digest()
