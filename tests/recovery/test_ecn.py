"""ECN validation: the rules of RFC 9000 §13.4.2 and the states of A.4."""

from __future__ import annotations

import pytest

from taps_security.recovery import EcnState, EcnValidation

ECT0, NOT_ECT = 2, 0


def marked_path(marked: int = 10) -> EcnValidation:
    """A path on which `marked` packets went out, and testing ended."""
    path = EcnValidation()
    path.on_sent(marked, 1.0, 0.1)
    path.on_sent(0, 1.3, 0.1)
    return path


def test_ten_packets_or_three_timeouts_end_the_test() -> None:
    path = EcnValidation()
    assert (path.state, path.codepoint) == (EcnState.TESTING, ECT0)
    path.on_sent(9, 1.0, 0.1)
    assert path.state is EcnState.TESTING
    path.on_sent(1, 1.0, 0.1)
    assert (path.state, path.codepoint) == (EcnState.UNKNOWN, NOT_ECT)
    assert marked_path(3).state is EcnState.UNKNOWN


def test_counts_that_fit_make_the_path_capable() -> None:
    path = marked_path()
    assert path.on_acked(4, ect0=4) is False
    assert (path.state, path.codepoint) == (EcnState.CAPABLE, ECT0)
    path.on_sent(5, 2.0, 0.1)
    assert path.on_acked(11, ect0=15) is False
    assert path.state is EcnState.CAPABLE


def test_new_marks_are_congestion_once() -> None:
    path = marked_path()
    assert path.on_acked(4, ect0=3, ce=1) is True
    assert path.on_acked(2, ect0=5, ce=1) is False
    assert path.on_acked(2, ect0=6, ce=2) is True
    assert path.state is EcnState.CAPABLE


@pytest.mark.parametrize(
    ("marked", "ect0", "ect1", "ce"),
    [
        (2, None, 0, 0),  # no counts
        (4, 3, 0, 0),  # too few
        (4, 4, 1, 0),  # never sent
        (4, 11, 0, 0),  # more than were sent
    ],
)
def test_counts_that_do_not_fit_end_it(marked: int, ect0: int | None, ect1: int, ce: int) -> None:
    path = marked_path()
    assert path.on_acked(marked, ect0, ect1, ce) is False
    assert (path.state, path.codepoint) == (EcnState.FAILED, NOT_ECT)
    assert path.on_acked(1, 10, 0, 5) is False


def test_counts_that_fall_end_it() -> None:
    path = marked_path()
    path.on_acked(4, ect0=3, ce=1)
    path.on_acked(0, ect0=4, ce=0)
    assert path.state is EcnState.FAILED


def test_acknowledgements_that_were_overtaken_are_not_judged() -> None:
    path = marked_path()
    path.on_acked(6, ect0=6)
    assert path.on_acked(2, ect0=2, newest=False) is False
    assert path.state is EcnState.CAPABLE


def test_unmarked_packets_need_no_counts() -> None:
    path = marked_path()
    path.on_acked(0, None)
    assert path.state is EcnState.UNKNOWN


def test_a_path_that_drops_all_marked_packets_or_marks_them_all_has_failed() -> None:
    path = marked_path()
    path.on_lost(9)
    assert path.state is EcnState.UNKNOWN
    path.on_lost(1)
    assert path.state is EcnState.FAILED
    marking = marked_path()
    marking.on_acked(10, ect0=0, ce=10)
    assert marking.state is EcnState.FAILED
    arrived = marked_path()
    arrived.on_acked(1, ect0=1)
    arrived.on_lost(9)
    assert arrived.state is EcnState.CAPABLE
