from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from taps_security.stack import events
from taps_security.stack.asks import Ask, AskWithdrawn
from taps_security.stack.events import Direction, KeyId, KeyReady, SessionReady, Stage


def test_security_events_are_frozen_and_slotted_and_plumbing_is_slotted() -> None:
    security = set(get_args(events.SecurityEvent))
    for kind in get_args(events.StackEvent):
        assert "__slots__" in vars(kind), kind
        assert (kind.__setattr__ is not object.__setattr__) == (kind in security), kind


def test_every_event_of_the_module_is_in_the_union() -> None:
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind is not events.Limit
    }
    assert kinds == set(get_args(events.StackEvent))
    assert {Ask, AskWithdrawn} <= kinds


def test_a_key_id_is_its_name() -> None:
    assert KeyId(Stage.APPLICATION) == (3, 0, 0)
    assert KeyId(Stage.APPLICATION, 1) > KeyId(Stage.APPLICATION, 0) > KeyId(Stage.HANDSHAKE, 9)


def test_secrets_and_sessions_are_not_shown() -> None:
    class Talkative:
        def wipe(self) -> None: ...

        def __repr__(self) -> str:
            return "0123456789"

    ready = KeyReady(KeyId(Stage.APPLICATION), Direction.SEND, Talkative())
    assert "0123" not in repr(ready)
    assert "0123" not in repr(SessionReady(Talkative()))


def test_security_events_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        KeyReady(KeyId(Stage.APPLICATION), Direction.SEND).secret = None  # type: ignore[misc]
