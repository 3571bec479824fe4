"""Sessions for resumption."""

from __future__ import annotations

import pytest

from taps_security.connection.sessions import PER_KEY, SessionCache
from taps_security.stack.errors import ConfigurationError


def test_a_session_is_given_out_once_newest_first() -> None:
    cache = SessionCache()
    cache.remember("a", 1)
    cache.remember("a", 2)
    assert (cache.take("a"), cache.take("a"), cache.take("a"), cache.take("b")) == (2, 1, None, None)
    assert not len(cache)


def test_it_is_bounded_per_key_and_in_all() -> None:
    cache = SessionCache(max_sessions=5)
    for number in range(10):
        cache.remember("a", number)
    assert len(cache) == PER_KEY
    cache.remember("b", "x")
    cache.remember("c", "y")
    assert len(cache) == 5
    assert cache.take("b") == "x"
    assert [cache.take("a") for _ in range(4)] == [9, 8, 7, None]
    cache.clear()
    assert not len(cache)
    assert repr(cache) == "<SessionCache of 0 sessions>"


def test_sessions_grow_old() -> None:
    now = [0.0]
    cache = SessionCache(lifetime=5, clock=lambda: now[0])
    cache.remember("a", 1)
    now[0] = 5.0
    assert cache.take("a") is None
    assert not len(cache)


def test_a_wrong_size() -> None:
    with pytest.raises(ConfigurationError, match=r"SessionCache\.max_sessions: 0 was given, expected a whole number"):
        SessionCache(0)
