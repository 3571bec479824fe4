"""Sessions for resumption in a file, so that the next run of the command resumes. The file is as secret as a key."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn, Protocol

from ..properties.security import SessionKey
from ..protocols import registry
from ..stack.errors import ConfigurationError
from .keygen import PRIVATE, write

MAX_SESSIONS = 64  # the newest stay
_FORMAT = "taps sessions 1"


class _Session(Protocol):
    def serialise(self) -> bytes: ...


class SessionFile:
    """A store of sessions that reads its file when it is made, and writes it at every change (mode 0600).

    ConfigurationError if the file is something else; OSError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[tuple[SessionKey, bytes]] = []
        if path.exists():
            self._read()

    def take(self, key: Hashable) -> object | None:
        """The newest session for `key`, which is given out once."""
        for position in range(len(self._kept) - 1, -1, -1):
            known, octets = self._kept[position]
            restore = registry.descriptor(known.stack).restore
            if known == key and restore is not None:
                del self._kept[position]
                self._write()
                return restore(octets)
        return None

    def remember(self, key: Hashable, session: object) -> None:
        """Keep a session, if its protocol can restore it."""
        if isinstance(key, SessionKey) and registry.descriptor(key.stack).restore is not None:
            keeper: Any = session
            self._kept = [*self._kept, (key, keeper.serialise())][-MAX_SESSIONS:]
            self._write()

    def _read(self) -> None:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                self._refuse()
            for entry in content["sessions"]:
                words = (str(entry["stack"]), str(entry["server_name"]), int(entry["port"]), str(entry["credentials"]))
                if words[0] in registry.names():
                    self._kept.append((SessionKey(*words), b64decode(entry["session"], validate=True)))
        except OSError as error:
            raise ConfigurationError(f"--session-file: cannot read {str(self._path)!r}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, Base64Error):
            self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigurationError(
            f"--session-file: {str(self._path)!r} was not written by this command; remove it, or name another"
        )

    def _write(self) -> None:
        sessions = [{**key._asdict(), "session": b64encode(octets).decode()} for key, octets in self._kept]
        text = json.dumps({"format": _FORMAT, "sessions": sessions}, indent=1)
        write(self._path, text.encode() + b"\n", PRIVATE)
