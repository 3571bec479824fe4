"""Mutations of what is good, by the thousand: see `parsers` and `handshakes` for what must hold.

2,000 for each target unless TAPS_FUZZ_MUTATIONS says otherwise; 100,000 in CI.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.handshakes import SCENARIOS, attack, recorded, victim
from tests.fuzz.mutation import Mutator, chunks, reported
from tests.fuzz.parsers import TARGETS

NAMES = list(TARGETS)


@pytest.mark.parametrize("numbers", chunks(), ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_parsers_under_mutation(name: str, numbers: range) -> None:
    target = TARGETS[name]
    samples = target.samples()
    for number in numbers:
        mutator = Mutator(name, number, samples)
        octets = mutator.octets(mutator.random.choice(samples))
        with reported(name, number):
            target.run(octets)


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_are_good(name: str) -> None:
    """A target whose samples were refused would fuzz nothing but its first line."""
    for sample in TARGETS[name].samples():
        TARGETS[name].run(sample)


@pytest.mark.parametrize("name", NAMES)
@given(octets=st.binary(max_size=600))
def test_parsers_under_whatever_hypothesis_thinks_of(name: str, octets: bytes) -> None:
    TARGETS[name].run(octets)


@pytest.mark.parametrize("numbers", chunks(), ids=str)
@pytest.mark.parametrize("role", ["client", "server"])
def test_handshakes_under_mutation(role: str, numbers: range) -> None:
    found: Counter[str] = Counter()
    for number in numbers:
        with reported(role, number):
            found[attack(role, number)] += 1
    if len(numbers) >= 1000:  # the mutations reach every kind of end: else they would be too coarse, or too tame
        assert found["PeerMisbehaved"] > len(numbers) / 4
        assert sum(found[kind] for kind in ("half closed", "NoneType", "ConnectionLost")) > len(numbers) / 100


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_recordings_are_good(role: str, scenario: str) -> None:
    """Unchanged, each is a whole connection: handshake, octets, key update, end."""
    recording = recorded(role, scenario)
    end = victim(role, scenario)
    end.hear(recording.seal(list(recording.items)))
    assert end.octets == recording.octets
    assert end.end is None
    end.stack.close(0.0)
    end.say()
    end._drain()
    assert end.end is not None
    assert end.end.error is None
