"""`taps serve` and `taps connect` through WireGuard: two processes on loopback, addresses that exist only inside."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from taps_security.cli.keygen import make_psk, make_static
from tests.cli.processes import PATIENCE, Server, exchange, one_line, run, running, serving

SHORT = ("--wait", "0.5")


@dataclass
class Tunnel:
    """Two ends of a tunnel, each as a file of wg-quick."""

    server: Path
    client: Path
    port: int  # the server's outer one
    keys: dict[str, tuple[Path, str]]  # name -> private key's file, public key

    def toml(self, name: str, *lines: str) -> Path:
        """One end as a profile, whose private key is in a file beside it."""
        other = "client" if name == "server" else "server"
        at, there = ("10.88.0.1", "10.88.0.2") if name == "server" else ("10.88.0.2", "10.88.0.1")
        endpoint = "" if name == "server" else f'endpoint = "127.0.0.1:{self.port}", '
        path = self.server.with_name(f"{name}.toml")
        peer = f'{{ public_key = "{self.keys[other][1]}", {endpoint}allowed_ips = ["{there}/32"] }}'
        port = self.port if name == "server" else 0
        text = ["[wireguard]", f'address = "{at}/24"', f"listen_port = {port}", f"peers = [{peer}]", *lines]
        path.write_text("\n".join(text))
        return path


@pytest.fixture
def tunnel(tmp_path: Path) -> Tunnel:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    keys = {name: (tmp_path / f"{name}.key", make_static(tmp_path / f"{name}.key")) for name in ("server", "client")}
    make_psk(tmp_path / "psk")
    psk = (tmp_path / "psk").read_text().strip()
    server, client = tmp_path / "server.conf", tmp_path / "client.conf"
    server.write_text(
        f"[Interface]\nPrivateKey = {keys['server'][0].read_text()}Address = 10.88.0.1/24, fd88::1/64\n"
        f"ListenPort = {port}\n[Peer]\nPublicKey = {keys['client'][1]}\nPresharedKey = {psk}\n"
        "AllowedIPs = 10.88.0.2/32, fd88::2/128\n"
    )
    client.write_text(
        f"[Interface]\nPrivateKey = {keys['client'][0].read_text()}Address = 10.88.0.2/24, fd88::2/64\n"
        f"[Peer]\nPublicKey = {keys['server'][1]}\nPresharedKey = {psk}\nEndpoint = 127.0.0.1:{port}\n"
        "AllowedIPs = 10.88.0.1/32, fd88::1/128\nPersistentKeepalive = 25\n"
    )
    return Tunnel(server, client, port, keys)


@contextmanager
def inside(tunnel: Tunnel, *arguments: object, where: str = "10.88.0.1:0") -> Iterator[Server]:
    """`taps serve` inside the tunnel, ready."""
    with serving("--profile", tunnel.server, *arguments, where=where) as server:
        assert server.stack == "wireguard"
        yield server


def connect(tunnel: Tunnel, place: str, *arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return run("connect", place, "--profile", tunnel.client, *SHORT, *arguments, data=data)


@pytest.mark.parametrize("where", ["10.88.0.1:0", "[fd88::1]:0"])
def test_messages_go_there_and_back(tunnel: Tunnel, where: str) -> None:
    with inside(tunnel, where=where) as server:
        assert server.place.startswith(where[:-1])
        told = connect(tunnel, server.place, "--message-mode", "lines", data=b"one\ntwo\nthree")
        assert (told.returncode, told.stdout, told.stderr) == (0, b"one\ntwo\nthree\n", b"")
        told = connect(tunnel, server.place, "--message-mode", "datagram", "--json", data=b"x" * 1200)
        assert (told.returncode, told.stdout) == (0, b"x" * 1200)
        report = json.loads(told.stderr)
        assert (report["stack"], report["peer"]) == ("wireguard", tunnel.keys["server"][1])
        status, _, error = server.stop(signal.SIGTERM)
        assert (status, error) == (0, b"")


def test_a_stream_of_input_becomes_messages(tunnel: Tunnel) -> None:
    data = bytes(range(256)) * 40
    with inside(tunnel) as server:
        told = connect(tunnel, server.place, data=data)
        assert (told.returncode, len(told.stdout)) == (0, len(data))
        assert sorted(told.stdout) == sorted(data)  # messages may overtake each other


def test_a_read_larger_than_a_message_is_told(tunnel: Tunnel) -> None:
    with inside(tunnel) as server:
        told = connect(tunnel, server.place, "--message-mode", "datagram", data=b"x" * 5000)
        assert told.returncode == 1
        assert "1392" in one_line(told.stderr)


def test_a_server_that_is_to_serve_once_ends_when_it_is_quiet(tunnel: Tunnel) -> None:
    with inside(tunnel, "--once", "--idle", 1) as server:
        assert connect(tunnel, server.place, data=b"x").stdout == b"x"
        assert server.end() == (0, b"", b"")


def test_every_inner_address_has_a_ready_line(tunnel: Tunnel) -> None:
    with inside(tunnel, where=":0") as server:
        assert server.process.stdout is not None
        second = server.process.stdout.readline().decode().split()
        assert {server.place, second[2]} == {f"10.88.0.1:{server.port}", f"[fd88::1]:{server.port}"}
        assert connect(tunnel, second[2], data=b"x").stdout == b"x"


def test_profiles_in_toml(tunnel: Tunnel) -> None:
    ours = tunnel.toml("server", "[local]", 'static_key = "server.key"', "[security]", 'stacks = ["wireguard"]')
    theirs = tunnel.toml("client")
    key = ("--static-key", tunnel.keys["client"][0])
    with serving("--profile", ours, where="10.88.0.1:0") as server:
        told = run("connect", server.place, "--profile", theirs, *key, "--stack", "wireguard", *SHORT, data=b"x")
        assert (told.returncode, told.stdout, told.stderr) == (0, b"x", b"")


def test_the_status_tells_what_wg_tells(tunnel: Tunnel, tmp_path: Path) -> None:
    control = tmp_path / "control"
    with (
        inside(tunnel, "--control", control) as server,
        running("connect", server.place, "--profile", tunnel.client, "--message-mode", "lines") as client,
    ):
        before = json.loads(run("status", control, "--json").stdout)["tunnels"][0]["peers"][0]
        assert before["public_key"] == tunnel.keys["client"][1]
        exchange(client, b"12345\n")
        words = json.loads(run("status", control, "--json").stdout)
        (entry,) = words["peers"]
        assert (entry["stack"], entry["local"], entry["received"]) == ("wireguard", server.place, 6)
        assert entry["remote"].startswith("10.88.0.2:")
        (told,) = words["tunnels"]
        assert (told["stack"], told["port"], told["addresses"]) == ("wireguard", tunnel.port, ["10.88.0.1", "fd88::1"])
        (peer,) = told["peers"]
        assert peer["public_key"] == tunnel.keys["client"][1]
        assert peer["preshared_key"] is True
        assert peer["endpoint"].startswith("127.0.0.1:")
        assert peer["allowed_ips"] == ["10.88.0.2/32", "fd88::2/128"]
        assert peer["persistent_keepalive"] == 0
        assert min(peer["transfer"].values()) > 100
        assert peer["flows"] == 1
        assert {key["direction"] for key in peer["keys"]} == {"send", "receive"}
        text = run("status", control).stdout.decode()
        assert f"peer: {tunnel.keys['client'][1]}" in text
        assert re.search(r"latest handshake: (now|\d+ seconds? ago)", text)
        assert "preshared key: (hidden)" in text


def test_new_keys_after_some_messages(tunnel: Tunnel, tmp_path: Path) -> None:
    control = tmp_path / "control"

    def newest() -> int:
        words = json.loads(run("status", control, "--json").stdout)
        return max(key["generation"] for key in words["tunnels"][0]["peers"][0]["keys"])

    with (
        inside(tunnel, "--control", control) as server,
        running(
            *("connect", server.place, "--profile", tunnel.client),
            *("--message-mode", "lines", "--update-keys-every", "2"),
        ) as client,
    ):
        exchange(client, b"1\n")
        assert newest() == 0
        exchange(client, b"2\n")
        until = time.monotonic() + PATIENCE
        while newest() == 0:
            assert time.monotonic() < until, "the keys stay as they are"
        exchange(client, b"3\n")


def test_what_the_file_says_in_vain_is_named(tunnel: Tunnel) -> None:
    tunnel.client.write_text(tunnel.client.read_text().replace("[Peer]", "DNS = 10.0.0.1\nPostUp = true\n[Peer]"))
    with inside(tunnel) as server:
        told = connect(tunnel, server.place, data=b"x")
        assert told.stdout == b"x"
        assert one_line(told.stderr) == f"taps: {tunnel.client}: not honoured: DNS, PostUp\n"


def test_the_key_log_is_for_wireshark(tunnel: Tunnel, tmp_path: Path) -> None:
    log = tmp_path / "keys"
    with inside(tunnel) as server:
        assert connect(tunnel, server.place, "--keylog", log, data=b"x").returncode == 0
    names = {line.split(" = ")[0] for line in log.read_text().splitlines()}
    known = {"LOCAL_STATIC_PRIVATE_KEY", "REMOTE_STATIC_PUBLIC_KEY", "LOCAL_EPHEMERAL_PRIVATE_KEY", "PRESHARED_KEY"}
    assert "LOCAL_EPHEMERAL_PRIVATE_KEY" in names
    assert names <= known


def test_a_store_outlives_the_command(tunnel: Tunnel, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with inside(tunnel, "--store", store) as server:
        assert connect(tunnel, server.place, "--store", tmp_path / "other", data=b"x").returncode == 0
        assert connect(tunnel, server.place, "--store", tmp_path / "other", data=b"x").stdout == b"x"
    assert [key.rpartition("/")[2] for key in json.loads(store.read_text())["values"]] == ["received"]
    assert "sent" in {key.rpartition("/")[2] for key in json.loads((tmp_path / "other").read_text())["values"]}


def test_errors(tunnel: Tunnel) -> None:
    told = connect(tunnel, "10.99.0.1:7")
    assert told.returncode != 0
    assert "10.99.0.1" in one_line(told.stderr)
    told = connect(tunnel, "10.88.0.1:7", "--timeout", "0.3", data=b"x")  # nobody is there
    assert told.returncode == 1
    one_line(told.stderr)
    with inside(tunnel):
        again = run("serve", "10.88.0.1:0", "--profile", tunnel.server)
        assert again.returncode == 1
        assert f"cannot bind the outer port {tunnel.port}" in one_line(again.stderr)
    elsewhere = run("serve", "10.77.0.1:0", "--profile", tunnel.server)
    assert elsewhere.returncode != 0
    assert "10.77.0.1" in one_line(elsewhere.stderr)
