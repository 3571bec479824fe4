"""Messages and contexts."""

from __future__ import annotations

import re

import pytest

from taps_security.properties.messages import Message, MessageContext
from taps_security.stack.errors import ConfigurationError


class Source:
    """A connection's two ends."""

    local_endpoint = ("192.0.2.1", 1)
    remote_endpoint = ("192.0.2.2", 2)


def test_defaults_of_the_rfc() -> None:
    context = MessageContext()
    assert (context.final, context.safely_replayable, context.msg_lifetime, context.msg_priority) == (
        False,
        False,
        None,
        100,
    )


def test_a_context_is_changed_by_copying() -> None:
    context = MessageContext(final=True)
    assert context.replace(msg_priority=1) == MessageContext(final=True, msg_priority=1)
    with pytest.raises(ConfigurationError, match=r"MessageContext: 'prority' was given"):
        context.replace(prority=1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"final": 1}, "final: 1 was given, expected True or False"),
        ({"safely_replayable": None}, "safely_replayable: None was given"),
        ({"msg_lifetime": 0}, "msg_lifetime: 0 was given, expected a number of seconds above 0"),
        ({"msg_priority": -1}, "msg_priority: -1 was given, expected a whole number from 0"),
    ],
)
def test_refusals(values: dict, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        MessageContext(**values)


def test_a_received_message_knows_where_it_came_from() -> None:
    message = Message(b"data", Source(), end_of_message=False, early=True)
    context = message.context
    assert (context.local_endpoint, context.remote_endpoint) == (("192.0.2.1", 1), ("192.0.2.2", 2))
    assert (context.early, context.final) == (True, False)
    assert (bytes(message), len(message), repr(message)) == (b"data", 4, "<Message of 4 octets>")
    assert repr(Message(b"", Source())) == "<Message of 0 octets, end>"
