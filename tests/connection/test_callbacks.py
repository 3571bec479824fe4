from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from taps_security.connection.callbacks import Callbacks
from taps_security.stack.errors import ConnectionLost

NAMES = [
    "on_ready",
    "on_received",
    "on_sent",
    "on_send_error",
    "on_writable",
    "on_security_event",
    "on_soft_error",
    "on_closed",
    "on_connection_error",
]


class Source:
    """What a Connection is to its callbacks."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)

    def take_received(self) -> Any:
        return self.messages.pop(0) if self.messages else None

    @property
    def can_receive(self) -> bool:
        return bool(self.messages)


def make(*messages: str) -> tuple[Callbacks, list[tuple[Any, ...]]]:
    """Callbacks of which each notes its name and its arguments."""
    callbacks = Callbacks(Source(*messages), asyncio.get_running_loop())  # type: ignore[arg-type]
    heard: list[tuple[Any, ...]] = []
    for name in NAMES:
        setattr(callbacks, name, lambda connection, *rest, name=name: heard.append((name, *rest)))
    return callbacks, heard


async def test_each_event_has_its_callback_with_the_connection_first() -> None:
    callbacks, heard = make("message")
    context, error, event = SimpleNamespace(), ConnectionLost("gone"), SimpleNamespace()
    callbacks.ready()
    callbacks.received()
    callbacks.received()  # nothing more is there
    callbacks.sent(context, None)  # type: ignore[arg-type]
    callbacks.sent(None, error)
    callbacks.writable()
    callbacks.security(event)  # type: ignore[arg-type]
    callbacks.soft_error(error)
    callbacks.ended(None)
    callbacks.ended(error)
    assert heard == [
        ("on_ready",),
        ("on_received", "message"),
        ("on_sent", context),
        ("on_send_error", None, error),
        ("on_writable",),
        ("on_security_event", event),
        ("on_soft_error", error),
        ("on_closed",),
        ("on_connection_error", error),
    ]


async def test_without_callbacks_nothing_happens_and_nothing_is_taken() -> None:
    source = Source("kept")
    callbacks = Callbacks(source, asyncio.get_running_loop())  # type: ignore[arg-type]
    callbacks.ready()
    callbacks.received()
    callbacks.sent(None, None)
    callbacks.ended(None)
    assert source.messages == ["kept"]
    assert callbacks.on_received is None


async def test_what_came_before_the_callback_was_set_comes_in_the_next_turn() -> None:
    _callbacks, heard = make("early")
    assert not heard
    await asyncio.sleep(0)
    assert heard == [("on_received", "early")]


async def test_all_that_came_before_is_told_each_message_for_itself() -> None:
    _callbacks, heard = make("one", "two", "three")
    await asyncio.sleep(0)
    assert heard == [("on_received", "one"), ("on_received", "two"), ("on_received", "three")]


async def test_the_end_of_a_stream_is_told_once() -> None:
    class Ended(Source):
        def take_received(self) -> Any:
            return "the end"  # as a stream says whenever it is asked

    callbacks = Callbacks(Ended(), asyncio.get_running_loop())  # type: ignore[arg-type]
    heard: list[Any] = []
    callbacks.on_received = lambda connection, message: heard.append(message)
    await asyncio.sleep(0)
    assert heard == ["the end"]


async def test_taken_back_before_its_turn_it_takes_nothing() -> None:
    callbacks, heard = make("early")
    callbacks.on_received = None
    await asyncio.sleep(0)
    assert not heard


async def test_an_error_in_a_callback_goes_to_the_loops_handler() -> None:
    callbacks, _ = make()
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def fails(connection: object) -> None:
        raise ValueError("in a callback")

    callbacks.on_ready = fails
    callbacks.ready()
    (context,) = reported
    assert isinstance(context["exception"], ValueError)
    assert context["connection"] is callbacks._connection


async def test_cancellation_is_not_swallowed() -> None:
    callbacks, _ = make()

    def cancelled(connection: object) -> None:
        raise asyncio.CancelledError

    callbacks.on_ready = cancelled
    with pytest.raises(asyncio.CancelledError):
        callbacks.ready()
