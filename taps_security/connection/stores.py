"""Stores for what must survive a restart: in memory, and in a file."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import NoReturn

from ..stack.errors import ConfigurationError

_FORMAT = "taps store 1"


class MemoryStore:
    """A store that lives as long as the object: share it between the Preconnections of one program."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} values>"

    def load(self, key: str) -> bytes | None:
        """What was saved last under `key`, or None."""
        return self._values.get(key)

    def save(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""
        self._values[key] = bytes(value)


class FileStore(MemoryStore):
    """A store in one JSON file that only its owner may read. A file belongs to one program at a time.

    The file is read here, and replaced as a whole by each `save` that changes something: whoever reads it, after a
    crash too, finds the old content or the new one. A file that is not there is an empty store. ConfigurationError
    names a file that cannot be read, or that something else has written; OSError from `save` if it cannot be written.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__()
        self._path = Path(path)
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            if not self._path.parent.is_dir():
                self._refuse("there is no such folder")
        except OSError as error:
            self._refuse(f"it cannot be read: {error.strerror}")
        else:
            self._parse(content)

    def save(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`, in the file before this returns. OSError; then nothing has changed."""
        if self._values.get(key) != value:
            values = {**self._values, key: bytes(value)}
            self._write(values)
            self._values = values

    def _parse(self, content: bytes) -> None:
        try:
            found = json.loads(content)
            if found["format"] != _FORMAT:
                raise ValueError
            self._values = {str(key): b64decode(text, validate=True) for key, text in found["values"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Base64Error):
            self._refuse("its content was not written by a FileStore; remove it, or name another file")

    def _refuse(self, what: str) -> NoReturn:
        raise ConfigurationError(f"FileStore: {fspath(self._path)!r}: {what}") from None

    def _write(self, values: dict[str, bytes]) -> None:
        encoded = {key: b64encode(value).decode() for key, value in values.items()}
        text = json.dumps({"format": _FORMAT, "values": encoded}, indent=1) + "\n"
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            beside.unlink()  # of a program that died with our number
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)  # a machine that crashes has the old content or the new
            beside.replace(self._path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
