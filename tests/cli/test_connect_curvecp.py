"""`taps serve` and `taps connect` over CurveCP: two processes on loopback, keys in folders, profiles and names."""

from __future__ import annotations

import json
import signal
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from taps_security.cli.keygen import make_folder
from taps_security.protocols.curvecp.names import key_label
from tests.cli.processes import Server, exchange, identity, one_line, run, running, serving, trusting
from tests.support.pki import Pki

NAME = "server.example"
ONLY = ("--stack", "curvecp")


@dataclass
class Keys:
    """Two key folders."""

    folder: Path
    server: str  # public keys
    client: str

    @property
    def serve(self) -> tuple[object, ...]:
        return *ONLY, "--static-key", self.folder / "server"

    @property
    def connect(self) -> tuple[object, ...]:
        return *ONLY, "--peer-key", self.server

    def profile(self, name: str, *lines: str) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join(lines))
        return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    server, client = (b64encode(make_folder(folder / name)).decode() for name in ("server", "client"))
    return Keys(folder, server, client)


@contextmanager
def curvecp(*arguments: object) -> Iterator[Server]:
    with serving(*arguments) as server:
        assert server.stack == "curvecp"
        yield server


def test_a_stream_goes_there_and_back(keys: Keys) -> None:
    data = bytes(range(256)) * 4000
    with curvecp(*keys.serve) as server:
        told = run("connect", server.place, *keys.connect, "--json", data=data)
        assert (told.returncode, told.stdout) == (0, data)
        report = json.loads(told.stderr)
        assert (report["stack"], report["version"]) == ("curvecp", "1")
        assert report["provides"]["forward_secrecy"] is True
        status, _, error = server.stop(signal.SIGTERM)
        assert (status, error) == (0, b"")


def test_an_empty_stream(keys: Keys) -> None:
    with curvecp(*keys.serve, "--once") as server:
        told = run("connect", server.place, *keys.connect)
        assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")
        assert server.end() == (0, b"", b"")


@contextmanager
def unanswered(server: Server, control: Path, *arguments: object) -> Iterator[None]:
    """A client that is not served, as long as the block runs; in it somebody else is."""
    before = json.loads(run("status", control, "--json").stdout)["served"]
    with running("connect", server.place, *arguments) as client:
        assert client.stdin is not None
        client.stdin.write(b"x")
        client.stdin.flush()
        yield
        assert client.poll() is None
        assert json.loads(run("status", control, "--json").stdout)["served"] == before + 1


def test_a_server_with_a_name_answers_those_who_mean_it(keys: Keys, tmp_path: Path) -> None:
    control = tmp_path / "control"
    with curvecp(*keys.serve, "--server-name", NAME, "--control", control) as server:
        for words in ((), ("--server-name", "other.example")):
            with unanswered(server, control, *keys.connect, *words):
                told = run("connect", server.place, *keys.connect, "--server-name", NAME, data=b"x")
                assert (told.returncode, told.stdout, told.stderr) == (0, b"x", b"")


def test_the_key_may_stand_in_the_name(keys: Keys) -> None:
    public = (keys.folder / "server/publickey").read_bytes()
    name = f"{key_label(public)}.server.example"
    with curvecp(*keys.serve, "--server-name", name) as server:
        told = run("connect", server.place, *ONLY, "--server-name", name, data=b"x")
        assert (told.returncode, told.stdout, told.stderr) == (0, b"x", b"")


def test_profiles_and_a_server_that_serves_known_clients(keys: Keys, tmp_path: Path) -> None:
    ours = keys.profile(
        "serving",
        *("[curvecp]", 'key = "server"', f'known_clients = ["{keys.client}"]', 'client_policy = "known"'),
        *(f'server_name = "{NAME}"', 'extension = "00112233445566778899aabbccddeeff"'),
        *("[security]", 'stacks = ["curvecp"]'),
    )
    there = "\n".join(
        ("[remote]", f'peer_key = "{keys.server}"', f'server_name = "{NAME}"', "[security]", 'stacks = ["curvecp"]')
    )
    extension = '[curvecp]\nserver_extension = "00112233445566778899aabbccddeeff"'
    known = keys.profile("known", there, extension, 'key = "client"')
    apart = keys.profile("apart", '[local]\nstatic_key = "client"', there, extension)
    unknown = keys.profile("unknown", there, extension)
    elsewhere = keys.profile("elsewhere", there, '[curvecp]\nkey = "client"')
    control = tmp_path / "control"
    with curvecp("--profile", ours, "--control", control) as server:
        with unanswered(server, control, "--profile", unknown):
            told = run("connect", server.place, "--profile", known, data=b"x")
            assert (told.returncode, told.stdout, told.stderr) == (0, b"x", b"")
        assert run("connect", server.place, "--profile", apart, data=b"x").stdout == b"x"
        key = ("--static-key", keys.folder / "client")
        assert run("connect", server.place, "--profile", unknown, *key, data=b"x").stdout == b"x"
        told = run("connect", server.place, "--profile", elsewhere, "--timeout", "0.5", data=b"x")
        assert (told.returncode, told.stdout) == (1, b"")
        assert "0.5 s" in one_line(told.stderr)


def test_the_status_of_a_client_that_is_here(keys: Keys, tmp_path: Path) -> None:
    control = tmp_path / "control"
    with (
        curvecp(*keys.serve, "--control", control) as server,
        running("connect", server.place, *keys.connect, "--static-key", keys.folder / "client") as client,
    ):
        exchange(client, b"12345")
        (entry,) = json.loads(run("status", control, "--json").stdout)["peers"]
        assert (entry["stack"], entry["local"], entry["received"]) == ("curvecp", server.place, 5)
        assert {key["direction"] for key in entry["keys"]} == {"send", "receive"}


def test_two_stacks_on_one_port_number(keys: Keys, pki: Pki) -> None:
    """Whoever may use both gets the first of them; each can be had alone."""
    with serving(*identity(pki), "--static-key", keys.folder / "server") as server:
        assert server.process.stdout is not None
        further = server.process.stdout.readline().decode().split()
        assert {server.stack, further[1]} == {"tls", "curvecp"}
        assert server.place == further[2]
        both = (*trusting(pki), "--peer-key", keys.server, "--server-name", NAME)
        told = run("race", server.place, *both, "--prefer", "connection_mobility", "--json")
        assert json.loads(told.stdout)["winner"]["stack"] == "curvecp"
        told = run("race", server.place, *both, "--prefer", "key_update", "--json")
        assert json.loads(told.stdout)["winner"]["stack"] == "tls"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", ":0", *ONLY], ["curvecp/1 lacks a credential", "the server's long-term key"]),
        (["connect", "host.example:1", *ONLY], ["curvecp/1 lacks a credential", "the server's public key"]),
        (["connect", "host.example:1", *ONLY, "--peer-key", "AAAA"], ["--peer-key: 'AAAA' was given"]),
        (["connect", "host.example:1", *ONLY, "--static-key", "nothing"], ["--static-key", "nothing", "No such file"]),
        (["connect", "host:1", "--stack", "tls", "--peer-key", "AAAA"], ["--peer-key", "expected none for 'tls'"]),
        (["connect", "host:1", *ONLY, "--update-keys-every", "1", "--peer-key", "00" * 32], ["cannot resolve"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_missing_or_wrong(arguments: list[str], words: list[str]) -> None:
    told = run(*arguments)
    assert told.returncode in {1, 2}
    line = one_line(told.stderr)
    for word in words:
        assert word in line


def test_there_are_no_new_keys_for_a_connection(keys: Keys) -> None:
    with curvecp(*keys.serve) as server:
        told = run(
            "connect", server.place, *keys.connect, "--update-keys-every", "1", "--message-mode", "lines", data=b"1\n"
        )
        assert told.returncode == 1
        assert "a new connection has a new key" in one_line(told.stderr)
