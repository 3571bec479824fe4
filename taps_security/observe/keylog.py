"""Key log files in the NSS format, which Wireshark reads. Whoever has the file can read the traffic."""

from __future__ import annotations

import os
from os import PathLike


class KeyLogFile:
    """Appends `LABEL CLIENT_RANDOM SECRET` lines to a file that only its owner may read.

    Give the object as `key_log=`; it is called with a label, the client random and a secret (RFC 9850).
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, label: str, client_random: bytes, secret: bytes) -> None:
        """Write one line at once: several processes may share the file."""
        os.write(self._file, f"{label} {client_random.hex()} {secret.hex()}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> KeyLogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
