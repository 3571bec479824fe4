from __future__ import annotations

import inspect

import pytest

from taps_security.stack import errors
from taps_security.stack.errors import (
    CandidateFailure,
    ConfigurationError,
    EstablishmentError,
    LocalError,
    PeerAborted,
    PeerMisbehaved,
    Reason,
    RemoteError,
    TapsError,
)

TREE = {
    "TapsError": "Exception",
    "LocalError": "TapsError",
    "ConfigurationError": "LocalError",
    "HardLimitReached": "LocalError",
    "RemoteError": "TapsError",
    "PeerMisbehaved": "RemoteError",
    "PeerIncompatible": "RemoteError",
    "AuthenticationFailed": "RemoteError",
    "PeerAborted": "RemoteError",
    "ConnectionLost": "RemoteError",
    "EstablishmentError": "TapsError",
}


def test_the_tree_is_the_one_that_the_head_of_the_file_draws() -> None:
    classes = {
        name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)
    }
    assert {name: kind.__base__.__name__ for name, kind in classes.items()} == TREE
    assert all(name in (errors.__doc__ or "") for name in TREE)


def test_an_error_says_what_where_and_why() -> None:
    error = PeerMisbehaved("two heads", reason=Reason.MALFORMED, section="RFC 8446 §4")
    assert str(error) == "two heads (RFC 8446 §4)"
    assert (error.message, error.reason, error.section) == ("two heads", Reason.MALFORMED, "RFC 8446 §4")
    assert str(LocalError("plain")) == "plain"


@pytest.mark.parametrize("kind", [TapsError, LocalError, ConfigurationError, RemoteError, PeerAborted])
def test_each_class_has_a_reason_of_its_own(kind: type[TapsError]) -> None:
    assert kind("x").reason is kind.default_reason


def test_what_the_peer_sent_is_kept() -> None:
    assert PeerAborted("alert", code=40).code == 40


def test_establishment_names_each_candidate() -> None:
    failures = (
        CandidateFailure("tls", "1.3", "192.0.2.1:443", ConnectionRefusedError("refused")),
        CandidateFailure("tcpcrypt", "", "[2001:db8::1]:443", TimeoutError()),
    )
    error = EstablishmentError("nobody answered", failures=failures)
    assert error.failures == failures
    assert str(error) == (
        "nobody answered; tls/1.3 to 192.0.2.1:443: refused; tcpcrypt to [2001:db8::1]:443: TimeoutError"
    )
    assert error.reason is Reason.ESTABLISHMENT_FAILED
    assert str(EstablishmentError("no candidates", reason=Reason.NO_CANDIDATES)) == "no candidates"
