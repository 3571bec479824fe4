from __future__ import annotations

from taps_security.stack.asks import Ask, FindSession, Refused, Sign
from taps_security.stack.errors import AuthenticationFailed


def test_what_is_secret_or_long_is_not_shown() -> None:
    for request in (Sign("key", 0x0403, b"to be signed"), FindSession(b"to be found")):
        assert "to be" not in repr(Ask(1, request))


def test_refused_carries_the_error() -> None:
    error = AuthenticationFailed("no")
    assert Refused(error).error is error
