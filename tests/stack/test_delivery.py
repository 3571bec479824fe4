from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.stack.delivery import PassThrough
from taps_security.stack.errors import PeerMisbehaved, Reason
from taps_security.stack.events import KeyId, Stage

ONE, OTHER = KeyId(Stage.HANDSHAKE), KeyId(Stage.APPLICATION)


def measure(head: memoryview) -> int:
    """One octet of length, itself not counted."""
    return 1 + head[0] if len(head) else 0


def delivery(limit: int = 100) -> PassThrough:
    return PassThrough(measure, limit)


def messages(passed: PassThrough) -> list[bytes]:
    found = []
    while (message := passed.next_message()) is not None:
        assert message[0] == ONE
        found.append(bytes(message[1]))
    return found


@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_messages_come_out_whole_however_they_are_cut(bodies: list[bytes], steps: list[int]) -> None:
    sent = [bytes((len(body),)) + body for body in bodies]
    stream, found, position, turn = b"".join(sent), [], 0, 0
    passed = delivery()
    while position < len(stream):
        step = steps[turn % len(steps)]
        passed.received(ONE, memoryview(stream[position : position + step]))
        found += messages(passed)
        position += step
        turn += 1
    assert found == sent
    assert not passed.held


def test_a_fragment_is_held_and_may_not_meet_other_keys() -> None:
    passed = delivery()
    passed.received(ONE, memoryview(b"\x03ab"))
    assert passed.next_message() is None
    assert passed.held
    with pytest.raises(PeerMisbehaved, match="straddles") as caught:
        passed.received(OTHER, memoryview(b"c"))
    assert caught.value.reason is Reason.UNEXPECTED
    assert "RFC 8446 §5.1" in str(caught.value)


def test_an_empty_unit_is_refused() -> None:
    with pytest.raises(PeerMisbehaved, match="empty"):
        delivery().received(ONE, memoryview(b""))


def test_a_message_above_the_limit_is_refused_before_it_is_held() -> None:
    passed = delivery(limit=50)
    passed.received(ONE, memoryview(b"\x31" + bytes(49)))
    assert messages(passed) == [b"\x31" + bytes(49)]
    passed.received(ONE, memoryview(b"\x32"))
    with pytest.raises(PeerMisbehaved, match="51 octets; at most 50") as caught:
        passed.next_message()
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
