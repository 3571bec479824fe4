"""The command as a process, on real sockets on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.pki import Pki

TAPS = (sys.executable, "-m", "taps_security")
PATIENCE = 30  # seconds that any of these may take


def run(*arguments: object, data: bytes = b"", folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """The whole life of a command, with `data` as standard input."""
    words = [*TAPS, *map(str, arguments)]
    return subprocess.run(words, input=data, capture_output=True, cwd=folder, timeout=PATIENCE, check=False)


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on; killed in the end, if it still runs."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([*TAPS, *map(str, arguments)], stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


@dataclass
class Server:
    """A `taps serve` that is ready."""

    process: subprocess.Popen[bytes]
    stack: str
    place: str

    @property
    def port(self) -> int:
        return int(self.place.rpartition(":")[2])

    def stop(self, signal: int) -> tuple[int, bytes, bytes]:
        """Status, and what it said, after a signal."""
        self.process.send_signal(signal)
        return self.end()

    def end(self) -> tuple[int, bytes, bytes]:
        """Status, and what it said, once it has ended by itself."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@contextmanager
def serving(*arguments: object, where: str = "127.0.0.1:0") -> Iterator[Server]:
    """`taps serve` on a free port of loopback, ready."""
    with running("serve", where, *arguments) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode().split()
        if not line:
            raise AssertionError(process.communicate(timeout=PATIENCE)[1].decode())
        assert line[0] == "ready"
        yield Server(process, line[1], line[2])


def exchange(client: subprocess.Popen[bytes], data: bytes) -> None:
    """Through a running `taps connect` to an echo server and back: the connection stands."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(data)
    client.stdin.flush()
    assert client.stdout.read(len(data)) == data


def identity(pki: Pki, name: str = "leaf") -> tuple[object, ...]:
    """The options for one of the identities of `Pki`."""
    loaded = getattr(pki, name)
    files = pki.files(loaded() if callable(loaded) else loaded)
    return "--identity", files.certificate, "--key", files.key


def trusting(pki: Pki) -> tuple[object, ...]:
    """The options of a client that trusts the test authority."""
    return "--trust", pki.trust_file


def one_line(error: bytes) -> str:
    """What was said on standard error, which must be one line without a traceback."""
    text = error.decode()
    assert text.count("\n") == 1, text
    assert text.startswith("taps: "), text
    assert "Traceback" not in text
    return text


def without_packages(folder: Path, *packages: str) -> dict[str, str]:
    """An environment in which importing these packages fails as if they were not installed."""
    lines = ["import sys", *(f"sys.modules[{package!r}] = None" for package in packages)]
    (folder / "sitecustomize.py").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": str(folder)}
