"""Pre-shared keys: external ones, the importer (RFC 9258), offers and binders (RFC 8446 §4.2.11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Final, NamedTuple

from taps_security.crypto.kdf import HashAlgorithm, hkdf_extract
from taps_security.parts.codec import MalformedMessage, Reader, vector16
from taps_security.stack.errors import ConfigurationError
from taps_security.stack.frozen import frozen

from .extensions import PskIdentity
from .keys import TLS13_PREFIX, EarlySecret, finished_mac, hkdf_expand_label
from .limits import TLS_1_3

__all__ = [
    "BINDER_EXTERNAL",
    "BINDER_IMPORTED",
    "BINDER_RESUMPTION",
    "KDF_IDS",
    "ExternalPsk",
    "ImportedIdentity",
    "OfferedPsk",
    "PskPeer",
    "import_psk",
    "offer_external",
]

BINDER_EXTERNAL: Final = b"ext binder"
BINDER_RESUMPTION: Final = b"res binder"
BINDER_IMPORTED: Final = b"imp binder"  # RFC 9258 §5.2

KDF_IDS: Final = {HashAlgorithm.SHA256: 1, HashAlgorithm.SHA384: 2}  # RFC 9258 §10
_HASHES: Final = {number: algorithm for algorithm, number in KDF_IDS.items()}


@frozen(kw_only=True)
class ExternalPsk:
    """A pre-shared key from outside TLS.

    `imported`: through the importer (RFC 9258), which gives one key per KDF; then `hash` is the EPSK's own hash and
    `context` tells uses apart. Not imported: the key itself serves cipher suites with `hash` only. A key must not be
    used in both ways.
    """

    identity: bytes
    key: bytes = field(repr=False)
    hash: HashAlgorithm = HashAlgorithm.SHA256
    imported: bool = True
    context: bytes = b""

    def __post_init__(self) -> None:
        if not 1 <= len(self.identity) <= 0xF000:
            raise ConfigurationError(f"psk identity: 1 to 61440 octets are expected, not {len(self.identity)}")
        if not 16 <= len(self.key) <= 1024:
            raise ConfigurationError(f"psk key: 16 to 1024 octets are expected, not {len(self.key)}")
        if len(self.context) > 1024:
            raise ConfigurationError(f"psk context: at most 1024 octets are expected, not {len(self.context)}")
        if self.hash not in KDF_IDS:
            raise ConfigurationError(f"psk hash: SHA256 or SHA384 are expected, not {self.hash.name}")


@frozen
class PskPeer:
    """The identity of a peer that proved to hold an external pre-shared key."""

    identity: bytes


# -------------------------------------------------------------------------------------------------------- importer
class ImportedIdentity(NamedTuple):
    """RFC 9258 §5.1: what stands on the wire for an imported key."""

    external_identity: bytes
    context: bytes
    target_protocol: int
    target_kdf: int

    def encode(self) -> bytes:
        """The octets of the PSK identity."""
        return (
            vector16(self.external_identity)
            + vector16(self.context)
            + self.target_protocol.to_bytes(2, "big")
            + self.target_kdf.to_bytes(2, "big")
        )

    @property
    def target_hash(self) -> HashAlgorithm | None:
        """The hash of the target KDF, if we know it."""
        return _HASHES.get(self.target_kdf)

    @classmethod
    def parse_untrusted(cls, identity: bytes) -> ImportedIdentity | None:
        """The structure, or None where an identity does not have this form for TLS 1.3."""
        reader = Reader(identity)
        try:
            found = cls(reader.vector16(1), reader.vector16(), reader.u16(), reader.u16())
            reader.check_end()
        except MalformedMessage:
            return None
        return found if found.target_protocol == TLS_1_3 and found.target_hash else None


def import_psk(psk: ExternalPsk, imported: ImportedIdentity, prefix: bytes = TLS13_PREFIX) -> bytes:
    """The imported key for `imported` (RFC 9258 §5.1); its KDF must be one that we know."""
    target = _HASHES[imported.target_kdf]
    epskx = hkdf_extract(psk.hash, bytes(psk.hash.size), psk.key)
    return hkdf_expand_label(psk.hash, epskx, b"derived psk", psk.hash.digest(imported.encode()), target.size, prefix)


# ---------------------------------------------------------------------------------------------------------- offers
class OfferedPsk:
    """A key that a client offers, or that a server has found for an identity."""

    __slots__ = ("binder_label", "early", "external", "hash", "identity", "obfuscated_age", "session")

    def __init__(
        self,
        identity: bytes,
        key: bytes,
        algorithm: HashAlgorithm,
        binder_label: bytes,
        *,
        obfuscated_age: int = 0,
        external: ExternalPsk | None = None,
        session: object = None,
        prefix: bytes = TLS13_PREFIX,
    ) -> None:
        self.identity = identity
        self.hash = algorithm
        self.binder_label = binder_label
        self.obfuscated_age = obfuscated_age
        self.external = external
        self.session = session
        self.early = EarlySecret(algorithm, key, prefix)

    @property
    def from_outside(self) -> bool:
        """Whether an external pre-shared key takes part: this one, or the one behind the session."""
        return self.external is not None or bool(getattr(self.session, "peer_psk", b""))

    @property
    def wire(self) -> PskIdentity:
        """The entry of pre_shared_key."""
        return PskIdentity(self.identity, self.obfuscated_age)

    def binder(self, transcript_hash: bytes, prefix: bytes = TLS13_PREFIX) -> bytes:
        """The PskBinderEntry over a truncated ClientHello (RFC 8446 §4.2.11.2)."""
        return finished_mac(self.hash, self.early.binder_key(self.binder_label), transcript_hash, prefix)

    def __repr__(self) -> str:
        return f"<OfferedPsk {self.binder_label.decode()}>"


def offer_external(
    psks: Iterable[ExternalPsk], hashes: Sequence[HashAlgorithm], prefix: bytes = TLS13_PREFIX
) -> list[OfferedPsk]:
    """What a client offers for external keys, given the hashes of its cipher suites, preferred first."""
    offers = []
    for psk in psks:
        if not psk.imported:
            if psk.hash in hashes:
                offers.append(OfferedPsk(psk.identity, psk.key, psk.hash, BINDER_EXTERNAL, external=psk, prefix=prefix))
            continue
        for target in hashes:
            imported = ImportedIdentity(psk.identity, psk.context, TLS_1_3, KDF_IDS[target])
            key = import_psk(psk, imported, prefix)
            offers.append(OfferedPsk(imported.encode(), key, target, BINDER_IMPORTED, external=psk, prefix=prefix))
    return offers


def accept_external(
    psk: ExternalPsk, identity: bytes, hashes: Sequence[HashAlgorithm], prefix: bytes = TLS13_PREFIX
) -> OfferedPsk | None:
    """A server's side of `offer_external`: the key behind `identity`, or None where the two do not fit."""
    if not psk.imported:
        if identity != psk.identity or psk.hash not in hashes:
            return None
        return OfferedPsk(identity, psk.key, psk.hash, BINDER_EXTERNAL, external=psk, prefix=prefix)
    imported = ImportedIdentity.parse_untrusted(identity)
    if imported is None or imported.external_identity != psk.identity or imported.context != psk.context:
        return None
    target = imported.target_hash
    if target is None or target not in hashes:
        return None
    key = import_psk(psk, imported, prefix)
    return OfferedPsk(identity, key, target, BINDER_IMPORTED, external=psk, prefix=prefix)
