"""The certificates that every candidate uses: one P-256 authority, one P-256 leaf for each side, as PEM files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.jobs import CLIENT_NAME, SERVER_NAME
from taps_security.crypto.certificates import certificate_pem, private_key_pem
from taps_security.crypto.issuing import issue_certificate, make_certificate_authority


def write_credentials(folder: Path) -> None:
    """Write ca.pem, and NAME.pem and NAME.key for the server and the client."""
    now = time.time()
    authority = make_certificate_authority("benchmark authority", at=now, random=os.urandom)
    (folder / "ca.pem").write_bytes(certificate_pem(*authority.chain))
    for name in (SERVER_NAME, CLIENT_NAME):
        identity = issue_certificate(authority, [name], at=now, random=os.urandom)
        assert identity.private_key is not None
        (folder / f"{name}.pem").write_bytes(certificate_pem(*identity.chain))
        (folder / f"{name}.key").write_bytes(private_key_pem(identity.private_key))
