from __future__ import annotations

import json
from typing import Any

from taps_security.observe.security import HISTORY, SecurityLog
from taps_security.stack.events import (
    CloseKind,
    Direction,
    HandshakeComplete,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    PeerAuthenticated,
    Stage,
    Terminated,
)

KEY = KeyId(Stage.APPLICATION, 1)
SUMMARY: dict[str, Any] = {
    "version": "1.3",
    "algorithms": {"aead": "AES_128_GCM"},
    "resumed": True,
    "alpn": "echo/1",
    "group": "x25519",
}


def log() -> SecurityLog:
    return SecurityLog("tls", "", {"forward_secrecy": True})


def test_a_report_before_anything_happened() -> None:
    report = log().report()
    assert (report.stack, report.version, report.peer, report.keys, report.epoch) == ("tls", "", None, (), (0, 0))
    assert not report.resumed
    assert not report.early_data


def test_the_outcome_of_the_handshake_says_what_holds() -> None:
    kept = SecurityLog("tls", "1.3", {"forward_secrecy": True, "mutual_authentication": True})
    kept.add(2.0, HandshakeComplete({**SUMMARY, "provides": {"mutual_authentication": False}}))
    assert kept.report().provides == {"forward_secrecy": True, "mutual_authentication": False}
    assert "provides" not in kept.report().details


def test_the_report_has_the_words_that_other_programs_rely_on() -> None:
    kept = log()
    kept.add(1.0, PeerAuthenticated("server.example"))
    kept.add(1.5, KeyReady(KEY, Direction.SEND, limits=(Limit(LimitKind.PACKETS, 10, 20),)))
    kept.add(2.0, HandshakeComplete(SUMMARY))
    report = kept.report().as_json()
    assert json.loads(json.dumps(report)) == {
        "stack": "tls",
        "version": "1.3",
        "algorithms": {"aead": "AES_128_GCM"},
        "peer": "server.example",
        "provides": {"forward_secrecy": True},
        "keys": [
            {
                "time": 1.5,
                "event": "ready",
                "stage": "application",
                "generation": 1,
                "direction": "send",
                "limits": [{"kind": "packets", "soft": 10, "hard": 20}],
            }
        ],
        "resumed": True,
        "early_data": False,
        "alpn": "echo/1",
    }
    assert kept.report().details == {"group": "x25519"}
    assert kept.summary is SUMMARY  # reporting takes nothing away


def test_each_key_event_has_its_word() -> None:
    kept = log()
    kept.add(0.0, KeyReady(KEY, Direction.RECEIVE))
    kept.add(1.0, KeyConfirmed(KEY))
    kept.add(2.0, KeyExpiring(KEY, Direction.SEND, LimitKind.PACKETS))
    kept.add(3.0, KeyDiscarded(KEY, Direction.RECEIVE))
    kept.add(4.0, Terminated(CloseKind.CLEAN))
    told = [(record.time, record.event, record.direction) for record in kept.key_records()]
    assert told == [
        (0.0, "ready", Direction.RECEIVE),
        (1.0, "confirmed", None),
        (2.0, "expiring", Direction.SEND),
        (3.0, "discarded", Direction.RECEIVE),
    ]
    assert [record.as_json()["direction"] for record in kept.key_records()] == ["receive", None, "send", "receive"]


def test_the_history_is_bounded_and_the_epoch_outlives_it() -> None:
    kept = log()
    kept.add(0.0, KeyReady(KeyId(Stage.APPLICATION, 7), Direction.SEND))
    for generation in range(1, 2 * HISTORY):
        kept.add(float(generation), KeyReady(KeyId(Stage.APPLICATION, generation), Direction.RECEIVE))
    assert len(kept.events) == HISTORY
    assert kept.events[-1][0] == 2 * HISTORY - 1
    assert kept.report().epoch == (7, 2 * HISTORY - 1)


def test_a_summary_that_is_no_mapping_is_kept_as_an_event_only() -> None:
    kept = log()
    kept.add(0.0, HandshakeComplete("done"))
    assert kept.report().algorithms == {}
    assert len(kept.events) == 1
