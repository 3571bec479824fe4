from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from taps_security.observe.keylog import KeyLogFile
from tests.protocols.tls.pair import Pair

LINE = "CLIENT_TRAFFIC_SECRET_0 0011 ff"


def test_each_call_is_a_line_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    with KeyLogFile(path) as log:
        log(LINE)
        assert path.read_text() == f"{LINE}\n"  # not only with the end of the file


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    before = os.umask(0)
    try:
        KeyLogFile(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_several_writers_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    path.write_text("# before\n")
    with KeyLogFile(str(path)) as one, KeyLogFile(path) as other:
        for log in (one, other, one):
            log(LINE)
    assert path.read_text() == "# before\n" + 3 * f"{LINE}\n"


def test_children_do_not_inherit_the_file_and_its_end_is_the_end(tmp_path: Path) -> None:
    log = KeyLogFile(tmp_path / "keys.log")
    assert not os.get_inheritable(log._file)
    log.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        log(LINE)
    with pytest.raises(FileNotFoundError):
        KeyLogFile(tmp_path / "nowhere" / "keys.log")


def test_what_a_handshake_logs(tmp_path: Path) -> None:
    """The labels that Wireshark knows, each with the one client random."""
    path = tmp_path / "keys.log"
    with KeyLogFile(path) as log:
        pair = Pair({"key_log": log}).run()
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    assert [label for label, _, _ in lines] == [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    ]
    assert {random for _, random, _ in lines} == {pair.client.sent[0].data[6:38].hex()}
    assert lines[2][2] in {secret.hex() for secret in pair.server.keys.values()}
