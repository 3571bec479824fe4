"""Wrong usage: one line that says what was wrong, status 2. Help is there for every command."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taps_security.cli.main import run, with_groups

COMMANDS = ("demo", "protocols", "status", "connect", "race", "serve", "keygen")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error in the usage."""
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("taps: ")
    return said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage: taps" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = capsys.readouterr()
    assert "keygen" in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], ["nothing"]),
        (["connect", "--nothing"], ["--nothing"]),
        (["connect"], ["HOST:PORT"]),
        (["connect", "127.0.0.1"], ["HOST:PORT", "'127.0.0.1'"]),
        (["connect", "::1:443"], ["HOST:PORT", "[2001:db8::1]:4433"]),
        (["connect", "127.0.0.1:0"], ["port", "0", "from 1 to 65535"]),
        (["connect", "127.0.0.1:70000"], ["port", "70000", "65535"]),
        (["connect", "host:1", "--timeout", "soon"], ["--timeout"]),
        (["connect", "host:1", "--timeout", "-1"], ["--timeout"]),
        (["connect", "host:1", "--stack", "tsl"], ["'tsl'", "did you mean 'tls'"]),
        (["connect", "host:1", "--stack", "tls/9"], ["'tls/9'", "'1.3'"]),
        (["connect", "host:1", "--require", "forward_secrey"], ["--require", "did you mean 'forward_secrecy'"]),
        (["connect", "host:1", "--avoid", "reliable"], ["--avoid", "did you mean 'reliability'"]),
        (["connect", "host:1", "--require", "key_update", "--avoid", "key_update"], ["--avoid", "--require"]),
        (["connect", "host:1", "--prohibit", "endpoint_authentication"], ["endpoint_authentication", "required"]),
        (["connect", "host:1", "--require", "zero_rtt"], ["tls/1.3", "does not provide zero_rtt"]),
        (["connect", "host:1", "--prohibit", "reliability"], ["tls/1.3", "provides reliability"]),
        (["connect", "host:1", "--psk", "me"], ["psk", "IDENTITY:BASE64"]),
        (["connect", "host:1", "--psk", "me:c2hvcnQ="], ["PreSharedKey.key", "5 octets", "16 to 1024"]),
        (["connect", "host:1", "--pin", "abc"], ["Pin", "sha256"]),
        (["connect", "host:1", "--key", "key.pem"], ["--key", "--identity"]),
        (["connect", "host:1", "--identity", "nothing.pem"], ["nothing.pem", "No such file"]),
        (["connect", "host:1", "--trust", "nothing.pem"], ["nothing.pem", "No such file"]),
        (["connect", "host:1", "--profile", "nothing.toml"], ["nothing.toml", "No such file"]),
        (["connect", "host:1", "--keylog", "nowhere/keys"], ["--keylog", "nowhere/keys"]),
        (["connect", "host:1", "--message-mode", "words"], ["--message-mode", "stream", "lines", "datagram"]),
        (["connect", "host:1", "--static-key", "own.key"], ["--static-key", "own.key", "No such file"]),
        (["serve", ":1", "--idle", "0"], ["--idle"]),
        (["connect", "host:1", "--loop", "trio"], ["--loop", "asyncio", "uvloop"]),
        (["connect", "host:1", "--early-data"], ["--early-data"]),
        (["race", "host:1", "--server-name", ""], ["server_name", "not empty"]),
        (["serve", "127.0.0.1:0"], ["tls/1.3", "lacks a credential"]),
        (["serve", "127.0.0.1:0", "--app", "http"], ["--app", "echo", "cat"]),
        (["demo", "--good", "4"], ["--good", "3"]),
        (["status"], ["--control"]),
        (["keygen", "x509", "--name", "a", "--out", "x", "--algorithm", "dsa"], ["--algorithm", "p256", "rsa2048"]),
        (["keygen", "srtp", "--out", "x"], ["srtp"]),
        (["trace", "file"], ["trace"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *arguments)
    for word in words:
        assert word in line, line
    assert not list(tmp_path.iterdir())


def test_a_group_becomes_options() -> None:
    @dataclass
    class Group:
        first: int = 1
        second: list[str] = field(default_factory=list)

    seen: list[object] = []

    def command(group: Group, other: str = "x") -> None:
        """What it does."""
        seen.append((group, other))

    command.__annotations__ = {"group": Group, "other": str, "return": None}
    flat = with_groups(command)
    assert flat.__doc__ == "What it does."
    assert list(inspect.signature(flat).parameters) == ["first", "second", "other"]
    flat(first=2, second=["a"], other="y")
    assert seen == [(Group(2, ["a"]), "y")]
