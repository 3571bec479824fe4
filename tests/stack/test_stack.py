from __future__ import annotations

import inspect

from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, Inbound, SecurityStack, SendOptions, Transmit
from tests.stack.null import null_stack


def test_the_stream_stack_is_a_security_stack_in_every_signature() -> None:
    stack = null_stack()
    for name, member in vars(SecurityStack).items():
        if name.startswith("_") or name == "events":
            continue
        if inspect.isfunction(member):
            expected = list(inspect.signature(member).parameters)[1:]
            assert list(inspect.signature(getattr(stack, name)).parameters) == expected, name
        else:
            assert hasattr(stack, name), name
    assert all(hasattr(stack, name) for name in SecurityStack.__annotations__)


def test_defaults_ask_for_nothing() -> None:
    assert SendOptions() == DEFAULT_SEND_OPTIONS == (0, False, 0.0)
    assert (Inbound(memoryview(b"")).path, Transmit(3, 10).segment) == (0, 0)


def test_what_is_made_per_read_is_slotted() -> None:
    assert not hasattr(Inbound(memoryview(b"")), "__dict__")
    assert not hasattr(Transmit(0, 0), "__dict__")
