"""Every exception becomes one line on standard error and an exit status."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from ..stack.errors import ConfigurationError, Reason, TapsError

DONE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130

# What the machine or the network refused, though the words were right.
_NOT_USAGE = {Reason.ADDRESS_IN_USE, Reason.UNREACHABLE, Reason.RESOLUTION_FAILED, Reason.REFUSED}


def told(error: BaseException) -> tuple[int, str]:
    """The exit status for an exception, and what to say: one line, or nothing."""
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return INTERRUPTED, ""
    if isinstance(error, ConfigurationError) and error.reason not in _NOT_USAGE:
        return USAGE, one_line(str(error))
    if isinstance(error, TapsError):
        return FAILED, one_line(str(error))
    if isinstance(error, BrokenPipeError):
        return FAILED, "standard output was closed"
    if isinstance(error, OSError):
        return FAILED, one_line(_system(error))
    if is_usage_error(error):
        return USAGE, one_line(_usage(error))
    return FAILED, one_line(f"internal error: {type(error).__name__}: {error} (--verbose shows where)")


def is_usage_error(error: BaseException) -> bool:
    """Whether typer (or the click inside it) refused an argument."""
    return isinstance(error, Exception) and hasattr(error, "format_message") and hasattr(error, "exit_code")


def one_line(text: str) -> str:
    """`text` without line ends and without what a terminal might obey."""
    words = " ".join(text.split())
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in words)


def say(text: str) -> None:
    """One line on standard error."""
    print(f"taps: {text}", file=sys.stderr, flush=True)


@contextmanager
def reporting(*, verbose: bool) -> Iterator[None]:
    """Ends the command with the right status, and one line, for whatever is raised inside."""
    try:
        yield
    except (typer.Exit, typer.Abort, SystemExit):
        raise
    except BaseException as error:
        status, line = told(error)
        if isinstance(error, BrokenPipeError):
            _drop_stdout()
        if verbose and status != INTERRUPTED:
            traceback.print_exception(error)
        if line:
            say(line)
        raise typer.Exit(status) from None


def quiet_loop(loop: asyncio.AbstractEventLoop, *, verbose: bool) -> None:
    """Errors that nobody awaits become one line each, instead of the loop's tracebacks."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None:
            say(one_line(str(context.get("message", "an error without a message"))))
            return
        if verbose:
            traceback.print_exception(error)
        say(told(error)[1] or type(error).__name__)

    loop.set_exception_handler(handle)


def _drop_stdout() -> None:
    """What is still buffered goes nowhere, so that the interpreter does not complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _system(error: OSError) -> str:
    if isinstance(error, TimeoutError) and not error.args:
        return "it took too long"
    text = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {text}" if error.filename else text


def _usage(error: Any) -> str:
    """What typer says; nothing where it has printed the help instead."""
    path = getattr(getattr(error, "ctx", None), "command_path", "taps")
    text = error.format_message().rstrip(".")
    return f"{text}; {path} --help shows what there is" if text else ""
