"""Sessions in a file: kept, given out once, refused when damaged, readable by the owner only."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from taps_security.cli.sessions import MAX_SESSIONS, SessionFile
from taps_security.properties.security import SessionKey
from taps_security.protocols.tls.keys import CIPHER_SUITES
from taps_security.protocols.tls.tickets import Session
from taps_security.stack.errors import ConfigurationError

SUITE = next(iter(CIPHER_SUITES.values()))
KEY = SessionKey("tls", "server.example", 443, "scope")


def session(ticket: bytes) -> Session:
    return Session(ticket, bytes(32), SUITE, 7200, 5, 1000.0, 1000.0, "server.example", None, ())


def test_a_session_comes_back_once_in_a_later_run(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    SessionFile(path).remember(KEY, session(b"ticket"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    later = SessionFile(path)
    assert later.take(KEY._replace(port=444)) is None
    assert later.take(KEY) == session(b"ticket")
    assert later.take(KEY) is None
    assert SessionFile(path).take(KEY) is None


def test_the_newest_comes_first_and_the_oldest_goes(tmp_path: Path) -> None:
    store = SessionFile(tmp_path / "sessions")
    for number in range(MAX_SESSIONS + 1):
        store.remember(KEY, session(b"%d" % number))
    found = []
    while (one := store.take(KEY)) is not None:
        assert isinstance(one, Session)
        found.append(int(one.ticket))
    assert found == list(range(MAX_SESSIONS, 0, -1))


def test_an_empty_store_is_still_a_store(tmp_path: Path) -> None:
    assert SessionFile(tmp_path / "sessions")
    assert not (tmp_path / "sessions").exists()


def test_sessions_of_other_protocols_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    SessionFile(path).remember(KEY, session(b"ticket"))
    words = json.loads(path.read_text())
    words["sessions"][0]["stack"] = "of-the-future"
    path.write_text(json.dumps(words))
    assert SessionFile(path).take(KEY) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "other"}', '{"format": "taps sessions 1"}', "\xff",
     '{"format": "taps sessions 1", "sessions": [{}]}',
     '{"format": "taps sessions 1", "sessions": [{"stack": "tls", "server_name": "a", "port": 1, "credentials": "c",'
     ' "session": "?"}]}'],
)  # fmt: skip
def test_another_file_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sessions"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="was not written by this command"):
        SessionFile(path)
    assert path.read_text(encoding="latin-1") == text


def test_a_damaged_session_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    SessionFile(path).remember(KEY, session(b"ticket"))
    words = json.loads(path.read_text())
    words["sessions"][0]["session"] = "AAAA"
    path.write_text(json.dumps(words))
    with pytest.raises(ConfigurationError, match="session"):
        SessionFile(path).take(KEY)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--session-file: cannot read"):
        SessionFile(tmp_path)
