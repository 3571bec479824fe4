"""Key log files, which Wireshark reads. Whoever has the file can read the traffic."""

from __future__ import annotations

import os
from os import PathLike


class KeyLogFile:
    """Appends lines to a file that only its owner may read.

    Give the object as `key_log=`; it is called with one line at a time, in the format of the protocol: for TLS
    `LABEL CLIENT_RANDOM SECRET` (RFC 9850), for WireGuard the names that `wg.keylog_file` of Wireshark knows.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __call__(self, line: str) -> None:
        """Write one line, given without its end, at once: several processes may share the file."""
        os.write(self._file, f"{line}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> KeyLogFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
