"""Results of earlier races."""

from __future__ import annotations

import pytest

from taps_security.connection.performance import Opinion, PerformanceCache
from taps_security.stack.errors import ConfigurationError


def test_results_are_kept_per_network_stack_and_host() -> None:
    cache = PerformanceCache(clock=lambda: 0.0)
    cache.record("", "tls/1.3", "a", worked=True)
    cache.record("eth0", "tls/1.3", "a", worked=False)
    assert cache.opinion("", "tls/1.3", "a") is Opinion.WORKED
    assert cache.opinion("eth0", "tls/1.3", "a") is Opinion.FAILED
    assert cache.opinion("", "tls/1.3", "b") is Opinion.UNKNOWN
    assert cache.opinion("", "other/1", "a") is Opinion.UNKNOWN


def test_results_grow_old() -> None:
    now = [0.0]
    cache = PerformanceCache(10, clock=lambda: now[0])
    cache.record("", "s", "a", worked=True)
    now[0] = 10.0
    assert cache.opinion("", "s", "a") is Opinion.WORKED
    now[0] = 10.1
    assert cache.opinion("", "s", "a") is Opinion.UNKNOWN
    assert not len(cache)


def test_the_newest_result_counts_and_the_oldest_goes_first() -> None:
    cache = PerformanceCache(max_entries=2, clock=lambda: 0.0)
    for host in "ab":
        cache.record("", "s", host, worked=True)
    cache.record("", "s", "a", worked=False)
    cache.record("", "s", "c", worked=True)
    assert cache.opinion("", "s", "b") is Opinion.UNKNOWN
    assert cache.opinion("", "s", "a") is Opinion.FAILED


def test_forgetting() -> None:
    cache = PerformanceCache(clock=lambda: 0.0)
    for network in ("", "eth0"):
        cache.record(network, "s", "a", worked=True)
    cache.forget("eth0")
    assert len(cache) == 1
    cache.forget()
    assert not len(cache)


def test_a_wrong_lifetime() -> None:
    with pytest.raises(ConfigurationError, match=r"PerformanceCache\.lifetime: 0 was given"):
        PerformanceCache(0)
