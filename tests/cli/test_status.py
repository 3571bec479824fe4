"""The control socket, and `taps status` in front of it."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from pathlib import Path

import pytest

from taps_security.cli.status import ControlSocket, ask, bind
from taps_security.stack.errors import ConfigurationError, LocalError
from tests.cli.processes import exchange, identity, one_line, run, running, serving, trusting
from tests.support.pki import Pki


def told() -> dict[str, object]:
    return {"peers": [], "app": "echo"}


async def spoken(path: Path, *lines: bytes) -> list[object]:
    """The answers to some lines."""
    reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    for line in lines:
        writer.write(line + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    await writer.wait_closed()
    return answers


@pytest.mark.both_loops
@pytest.mark.usefixtures("no_leaks")
async def test_one_json_object_per_line(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with ControlSocket(path, told):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        status, unknown, list_, broken, again = await spoken(
            path, b'{"command": "status"}', b'{"command": "stop"}', b"[]", b"{", b'{"command": "status"}'
        )
        assert status == again == told()
        for answer in (unknown, list_, broken):
            assert isinstance(answer, dict)
            assert list(answer) == ["error"]
        assert await asyncio.to_thread(ask, path) == told()
    assert not path.exists()


@pytest.mark.usefixtures("no_leaks")
async def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "control"
    async with ControlSocket(path, told):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * 100_000)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.usefixtures("no_leaks")
async def test_an_idle_asker_does_not_hold_the_server(tmp_path: Path) -> None:
    async with ControlSocket(tmp_path / "control", told):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        await asyncio.sleep(0.01)
    assert await reader.read() == b""
    writer.close()


def test_what_a_dead_server_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    bind(path).close()
    assert path.exists()
    with pytest.raises(LocalError, match="nobody serves"):
        ask(path)
    bind(path).close()


def test_a_living_server_and_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with bind(path), pytest.raises(ConfigurationError, match="another server uses"):
        bind(path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigurationError, match="is no socket"):
        bind(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="cannot make"):
        bind(tmp_path / "nowhere" / "control")
    with pytest.raises(ConfigurationError, match="cannot make"):
        bind(tmp_path / ("x" * 200))


def test_answers_that_are_no_status(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="there is no"):
        ask(tmp_path / "control")
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match=r"nobody serves|does not answer"):
        ask(tmp_path / "file")


def test_the_command_tells_the_peers(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "control"
    with (
        serving(*identity(pki), "--control", path) as server,
        running("connect", server.place, *trusting(pki)) as client,
    ):
        exchange(client, b"12345")
        words = json.loads(run("status", "--control", path, "--json").stdout)
        assert words["stacks"] == [{"stack": "tls", "endpoint": server.place}]
        (peer,) = words["peers"]
        assert (peer["stack"], peer["version"], peer["received"], peer["sent"]) == ("tls", "1.3", 5, 5)
        assert peer["local"] == server.place
        assert {key["direction"] for key in peer["keys"]} == {"send", "receive"}
        assert all(key["age"] >= 0 for key in peer["keys"])
        table = run("status", path).stdout.decode()
        assert server.place in table
        assert peer["remote"] in table
        twice = run("serve", "127.0.0.1:0", *identity(pki), "--control", path)
        assert twice.returncode == 1
        assert "another server uses" in one_line(twice.stderr)
    gone = run("status", "--control", path)
    assert gone.returncode == 1
    one_line(gone.stderr)


def test_unix_sockets_are_checked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ConfigurationError, match="no unix sockets"):
        bind(tmp_path / "control")
