"""Key material as files: certificates under an authority of their own, X25519 keys, pre-shared keys, key folders."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

from ..crypto.agreement import Group, from_private
from ..crypto.certificates import CredentialError, Identity, certificate_pem, fingerprint, private_key_pem
from ..crypto.issuing import KeyAlgorithm, issue_certificate, make_certificate_authority
from ..crypto.sodium import scalarmult_base
from ..stack.errors import ConfigurationError

PUBLIC, PRIVATE = 0o644, 0o600
PSK_SIZE = 32  # octets
SECRET_KEY = Path(".expertsonly", "secretkey")  # in a key folder of nacl-tools

# The verifier takes Ed25519 in leaves but not in authorities, and some peers share that: the authority stays P-256.
_AUTHORITY: dict[KeyAlgorithm, KeyAlgorithm] = {"ed25519": "p256"}


def make_x509(names: Sequence[str], folder: Path, algorithm: KeyAlgorithm, days: float) -> Identity:
    """Write ca.pem, cert.pem and key.pem (mode 0600) into `folder`, which is made if need be.

    `names`: DNS names or addresses. The authority's private key is not kept. ConfigurationError for names that cannot
    stand in a certificate; OSError if the files cannot be written.
    """
    now = time.time()
    try:
        authority = make_certificate_authority(
            f"taps authority for {names[0]}", algorithm=_AUTHORITY.get(algorithm, algorithm), at=now, random=os.urandom
        )
        identity = issue_certificate(authority, names, algorithm=algorithm, at=now, random=os.urandom, days=days)
    except (CredentialError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"--name: {', '.join(map(repr, names))}: {error}") from None
    assert identity.private_key is not None
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "ca.pem", certificate_pem(*authority.chain), PUBLIC)
    write(folder / "cert.pem", certificate_pem(*identity.chain), PUBLIC)
    write(folder / "key.pem", private_key_pem(identity.private_key), PRIVATE)
    return identity


def pin_of(identity: Identity) -> str:
    """The pin of an identity's certificate, as `--pin` takes it."""
    return f"sha256:{fingerprint(identity.chain[0]).hex()}"


def make_static(path: Path) -> str:
    """Write an X25519 private key in base64 (mode 0600), as WireGuard writes it; the public key in base64."""
    private = bytearray(os.urandom(32))
    private[0] &= 248  # RFC 7748 §5: what every X25519 does with a key; written so, as `wg genkey` does
    private[31] = private[31] & 127 | 64
    write(path, b64encode(private) + b"\n", PRIVATE)
    return b64encode(from_private(Group.X25519, bytes(private)).public).decode()


def make_psk(path: Path) -> None:
    """Write 32 random octets in base64 (mode 0600)."""
    write(path, b64encode(os.urandom(PSK_SIZE)) + b"\n", PRIVATE)


def make_folder(folder: Path) -> bytes:
    """Make a key folder as curvecpmakekey does, and give the public key of 32 octets.

    publickey; .expertsonly/ (mode 0700) with secretkey, and what curvecpserver and curvecpclient want besides: lock,
    noncekey and noncecounter, behind their 16-octet nonces. ConfigurationError if there is something of that name:
    a key that somebody uses is not replaced. OSError if it cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise ConfigurationError(f"--out: {str(folder)!r} exists, expected the name of a new folder")
    secret = os.urandom(32)
    public = scalarmult_base(secret)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    hidden = (beside / SECRET_KEY).parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        beside.mkdir(mode=0o755)
        hidden.mkdir(mode=0o700)
        write(beside / "publickey", public, PUBLIC)
        private = {"secretkey": secret, "lock": bytes(1), "noncekey": os.urandom(32), "noncecounter": bytes(8)}
        for name, octets in private.items():
            write(hidden / name, octets, PRIVATE)
        beside.rename(folder)
    except BaseException:
        rmtree(beside, ignore_errors=True)
        raise
    return public


def write(path: Path, data: bytes, mode: int) -> None:
    """Replace the file at once, with that mode from its first moment on."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
