"""`taps status`, and the control socket of `taps serve` behind it: one JSON object per line, both ways.

{"command": "status"}  ->  {"app": ..., "age": ..., "served": ..., "stacks": [...], "peers": [...], "tunnels": [...]}
anything else          ->  {"error": "..."}
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..stack.errors import ConfigurationError, LocalError, Reason

MAX_REQUEST = 4096  # octets of a line
PATIENCE = 5.0  # seconds that an answer may take


class ControlSocket:
    """A unix socket that only its owner may use, and that tells `status()`. Gone when its `async with` ends."""

    def __init__(self, path: Path, status: Callable[[], Mapping[str, Any]]) -> None:
        self._path = path
        self._status = status
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> ControlSocket:
        sock = bind(self._path)
        self._server = await asyncio.start_unix_server(self._talk, sock=sock, limit=MAX_REQUEST)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()
        with suppress(FileNotFoundError):
            self._path.unlink()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # a line without end, or the asker went away
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            return {"error": "expected one JSON object per line"}
        if not isinstance(request, dict) or request.get("command") != "status":
            return {"error": 'expected {"command": "status"}'}
        return self._status()


def bind(path: Path) -> socket.socket:
    """A listening unix socket with mode 0600; what a dead server left there is removed. ConfigurationError."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("--control: this system has no unix sockets")
    if path.exists() or path.is_symlink():
        _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen()
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"--control: cannot make {str(path)!r}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigurationError(f"--control: {str(path)!r} is no socket, expected a new name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ConfigurationError(f"--control: {str(path)!r}: {error.strerror}") from None
    raise ConfigurationError(
        f"--control: another server uses {str(path)!r}; choose another name", reason=Reason.ADDRESS_IN_USE
    )


def ask(path: Path) -> dict[str, Any]:
    """The status that the server behind `path` tells. LocalError if there is none, or its answer is no status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(str(path))
            sock.sendall(b'{"command": "status"}\n')
            with sock.makefile("rb") as file:
                answer = json.loads(file.readline())
        except FileNotFoundError:
            raise LocalError(f"there is no {str(path)!r}; a server makes it: taps serve --control {path}") from None
        except ConnectionRefusedError:
            raise LocalError(f"nobody serves behind {str(path)!r} any more") from None
        except (OSError, ValueError) as error:
            raise LocalError(f"{str(path)!r} does not answer: {error}") from None
    if not isinstance(answer, dict) or "peers" not in answer:
        raise LocalError(f"{str(path)!r} answers something else than a status")
    return answer
