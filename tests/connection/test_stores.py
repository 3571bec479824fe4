"""Stores for what must survive a restart."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from taps_security.connection.stores import FileStore, MemoryStore
from taps_security.stack.errors import ConfigurationError

KEY = "wireguard/aa/bb/received"


def test_memory_keeps_the_newest_value() -> None:
    store = MemoryStore()
    assert store.load(KEY) is None
    store.save(KEY, b"old")
    store.save(KEY, bytearray(b"\0new"))
    assert store.load(KEY) == b"\0new"
    assert repr(store) == "<MemoryStore of 1 values>"


def test_a_file_is_read_again_by_the_next_program(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    first = FileStore(path)
    assert not path.exists()
    values = {KEY: bytes(range(256)), "other": b"", "names may be anything \N{SNOWMAN}\n": b"x"}
    for key, value in values.items():
        first.save(key, value)
    second = FileStore(str(path))
    assert {key: second.load(key) for key in values} == values
    assert second.load("nothing") is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.json"]


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    before = os.umask(0)
    try:
        FileStore(path).save(KEY, b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_value_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    store = FileStore(path)
    store.save(KEY, b"1")
    written = path.stat().st_ino
    store.save(KEY, b"1")
    assert path.stat().st_ino == written
    store.save(KEY, b"2")
    assert FileStore(path).load(KEY) == b"2"


def test_a_save_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.json"
    store = FileStore(path)
    store.save(KEY, b"1")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(KEY, b"2")
    monkeypatch.undo()
    assert store.load(KEY) == FileStore(path).load(KEY) == b"1"
    assert [entry.name for entry in tmp_path.iterdir()] == ["store.json"]
    store.save(KEY, b"2")
    assert FileStore(path).load(KEY) == b"2"


def test_what_a_dead_program_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    (tmp_path / f".store.json.{os.getpid()}").write_text("half a fi")
    FileStore(path).save(KEY, b"1")
    assert FileStore(path).load(KEY) == b"1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "taps sessions 1", "sessions": []}',
        b'{"format": "taps store 1"}',
        b'{"format": "taps store 1", "values": []}',
        b'{"format": "taps store 1", "values": {"a": 1}}',
        b'{"format": "taps store 1", "values": {"a": "AA=A"}}',
        '{"format": "taps store 1", "values": {"a": "\N{SNOWMAN}"}}'.encode(),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbled.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"FileStore: '.*garbled\.json': its content was not written by"):
        FileStore(path)
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"FileStore: '{tmp_path}': it cannot be read: Is a directory"):
        FileStore(tmp_path)
    with pytest.raises(ConfigurationError, match=r"nowhere/store\.json': there is no such folder"):
        FileStore(tmp_path / "nowhere" / "store.json")
