"""Certificates for tests: one authority, leaves of several kinds, and those that must be refused."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from taps_security.crypto.certificates import Identity, certificate_pem, private_key_pem
from taps_security.crypto.issuing import KeyAlgorithm, issue_certificate, make_certificate_authority

SERVER_NAME = "server.example"
_NAMES = (SERVER_NAME, "127.0.0.1", "::1", "localhost")
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files of one identity."""

    certificate: Path
    key: Path


class Pki:
    """Made once per test run; identities appear when they are asked for. Directories are the caller's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = time.time()
        self._identities: dict[str, Identity] = {}

    @cached_property
    def authority(self) -> Identity:
        """The authority that peers trust."""
        return self._authority("taps test authority")

    @cached_property
    def other_authority(self) -> Identity:
        """An authority that nobody trusts."""
        return self._authority("another test authority")

    def leaf(self, algorithm: KeyAlgorithm = "p256") -> Identity:
        """A server's certificate for SERVER_NAME and the loopback addresses."""
        return self._leaf(f"leaf-{algorithm}", self.authority, algorithm=algorithm)

    def client(self, algorithm: KeyAlgorithm = "p256") -> Identity:
        """A client's certificate."""
        return self._leaf(f"client-{algorithm}", self.authority, ("client.example",), algorithm)

    @property
    def expired(self) -> Identity:
        """Ended yesterday."""
        return self._leaf("expired", self.authority, at=self.now - 10 * _DAY, days=9)

    @property
    def wrong_name(self) -> Identity:
        """Good, but somebody else's."""
        return self._leaf("wrong-name", self.authority, ("elsewhere.example",))

    @property
    def untrusted(self) -> Identity:
        """The right name under an authority that nobody trusts."""
        return self._leaf("untrusted", self.other_authority)

    @cached_property
    def trust_file(self) -> Path:
        """The trusted authority as a PEM file."""
        return self._write("ca.pem", certificate_pem(*self.authority.chain))

    @cached_property
    def other_trust_file(self) -> Path:
        """The other authority as a PEM file."""
        return self._write("other-ca.pem", certificate_pem(*self.other_authority.chain))

    def files(self, identity: Identity) -> Files:
        """An identity as two PEM files, written once."""
        name = next((name for name, known in self._identities.items() if known is identity), f"id-{id(identity)}")
        assert identity.private_key is not None
        certificate, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        if not certificate.exists():
            self._write(certificate.name, certificate_pem(*identity.chain))
            self._write(key.name, private_key_pem(identity.private_key))
        return Files(certificate, key)

    def _authority(self, name: str) -> Identity:
        return make_certificate_authority(name, at=self.now, random=os.urandom)

    def _leaf(
        self,
        label: str,
        authority: Identity,
        names: tuple[str, ...] = _NAMES,
        algorithm: KeyAlgorithm = "p256",
        at: float | None = None,
        days: float = 90,
    ) -> Identity:
        if label not in self._identities:
            self._identities[label] = issue_certificate(
                authority,
                names,
                algorithm=algorithm,
                at=self.now if at is None else at,
                random=os.urandom,
                days=days,
            )
        return self._identities[label]

    def _write(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path
