"""Any exception: a status and one line."""

from __future__ import annotations

import asyncio
import errno

import pytest
import typer

from taps_security.cli.errors import FAILED, INTERRUPTED, USAGE, one_line, quiet_loop, reporting, told
from taps_security.stack.errors import (
    CandidateFailure,
    ConfigurationError,
    ConnectionLost,
    EstablishmentError,
    LocalError,
    Reason,
)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ConfigurationError("name: wrong"), USAGE, "name: wrong"),
        (ConfigurationError("port in use", reason=Reason.ADDRESS_IN_USE), FAILED, "port in use"),
        (LocalError("not now"), FAILED, "not now"),
        (ConnectionLost("reset"), FAILED, "reset"),
        (
            EstablishmentError("failed", failures=[CandidateFailure("tls", "1.3", "host:1", ConnectionLost("reset"))]),
            FAILED,
            "failed; tls/1.3 to host:1: reset",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.pem"), FAILED, "a.pem: No such file"),
        (TimeoutError(), FAILED, "it took too long"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), FAILED, "standard output was closed"),
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (asyncio.CancelledError(), INTERRUPTED, ""),
        (ValueError("two\nlines"), FAILED, "internal error: ValueError: two lines (--verbose shows where)"),
    ],
)
def test_told(error: BaseException, status: int, words: str) -> None:
    assert told(error) == (status, words)


def test_one_line_obeys_nothing() -> None:
    assert one_line("a\n  b\x1b[31mred\u202e") == "a b\\x1b[31mred\\x202e"


def test_reporting_ends_with_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reporting(verbose=False):
        raise ConnectionLost("the peer went away")
    assert ended.value.exit_code == FAILED
    assert capsys.readouterr().err == "taps: the peer went away\n"


def test_verbose_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(verbose=True):
        raise ValueError("unexpected")
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("taps: internal error: ValueError: unexpected (--verbose shows where)\n")


def test_an_interrupt_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reporting(verbose=True):
        raise KeyboardInterrupt
    assert ended.value.exit_code == INTERRUPTED
    assert not capsys.readouterr().err


def test_reporting_lets_exits_through() -> None:
    with pytest.raises(typer.Exit) as ended, reporting(verbose=False):
        raise typer.Exit(7)
    assert ended.value.exit_code == 7
    with pytest.raises(SystemExit), reporting(verbose=False):
        raise SystemExit(1)


async def test_errors_that_nobody_awaits_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    loop = asyncio.get_running_loop()
    quiet_loop(loop, verbose=False)
    loop.call_exception_handler({"message": "something\nhappened"})
    loop.call_exception_handler({"message": "more", "exception": ConnectionLost("gone")})
    assert capsys.readouterr().err == "taps: something happened\ntaps: gone\n"
    quiet_loop(loop, verbose=True)
    loop.call_exception_handler({"message": "more", "exception": ConnectionLost("gone")})
    assert "ConnectionLost: gone" in capsys.readouterr().err
