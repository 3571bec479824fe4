"""The WireGuard examples with real peers: wireguard-go in another network namespace, and the kernel's own TCP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer
from tests.examples.test_examples import python, run
from tests.interop import namespaces, wireguard_go
from tests.interop.namespaces import Namespace, Network, network
from tests.interop.peers import require_program

pytestmark = pytest.mark.interop
PORT, ECHO = 51_820, 7
OURS, THEIRS = "10.88.0.1", "10.88.0.2"
OURS6, THEIRS6 = "fd88::1", "fd88::2"
SIZE = 3_000_000  # octets of TCP each way

# Blocking sockets, so that nothing but the kernel and the tunnel is at work. The server sends back what came.
SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 5000), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("ready", flush=True)
connection, _ = server.accept()
found = bytearray()
while data := connection.recv(1 << 16):
    found += data
connection.sendall(found)
connection.close()
"""
CLIENT = """
import os, socket, sys
sent = os.urandom(int(sys.argv[2]))
sock = socket.create_connection((sys.argv[1], 5000), timeout=30)
sock.sendall(sent)
sock.shutdown(socket.SHUT_WR)
found = bytearray()
while data := sock.recv(1 << 16):
    found += data
assert found == sent, (len(found), len(sent))
print(len(found))
"""


@pytest.fixture
def net() -> Iterator[Network]:
    """Namespaces, and WireGuard's programs."""
    require_program("ip", "wireguard-go", "wg")
    if reason := namespaces.unavailable():
        if os.environ.get("TAPS_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with network() as made:
        yield made


@contextmanager
def peer(net: Network, folder: Path) -> Iterator[tuple[Namespace, Namespace, Path]]:
    """Ours, theirs with a wireguard-go, and a file of wg-quick for ours."""
    ours, theirs = net.namespace("ours"), net.namespace("theirs")
    net.link(ours, theirs, "10.77.0", "fd77")
    private = os.urandom(32)
    known = wireguard_go.Peer(
        wireguard_go.public_key(WireGuardOptions(private_key=private).text().split()[3]),
        (f"{OURS}/32", f"{OURS6}/128"),
    )
    addresses = [f"{THEIRS}/24", f"{THEIRS6}/64"]
    with wireguard_go.interface(theirs, [known], addresses=addresses, listen_port=PORT) as made:
        options = WireGuardOptions(
            private_key=private,
            addresses=[f"{OURS}/24", f"{OURS6}/64"],
            peers=[
                WireGuardPeer(
                    public_key=made.public_key,
                    endpoint=f"10.77.0.2:{PORT}",
                    allowed_ips=[f"{THEIRS}/32", f"{THEIRS6}/128"],
                )
            ],
        )
        file = folder / "tunnel.conf"
        file.touch(0o600)
        file.write_text(options.text())
        yield ours, theirs, file


def test_an_echo_through_wireguard_go(project: Path, tmp_path: Path, net: Network) -> None:
    with peer(net, tmp_path) as (ours, theirs, file), wireguard_go.service(theirs, "echo", THEIRS6, ECHO):
        words = python(project, "wireguard_echo", str(file), THEIRS6, str(ECHO), "one", "two")
        said = ours.run(*words).splitlines()
        assert said[0].startswith("wireguard 1: X25519")
        assert said[1:] == ["one", "two"]


def test_an_echo_without_a_peer_says_so_in_one_line(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "broken.conf"
    file.write_text("[Interface]\nPrivateKey = none\n")
    said = run(project, tmp_path, "wireguard_echo", str(file), THEIRS, "7", status=1)
    assert said.startswith("wireguard_echo: ")
    assert len(said.splitlines()) == 1


@contextmanager
def interface(project: Path, space: Namespace, file: Path) -> Iterator[str]:
    """The TUN example inside a namespace; the interface's name. It must end by itself when it is told to."""
    name = namespaces.unique("taps")
    words = [*space.command, *python(project, "wireguard_tun", str(file), name)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith(f"{name} is up, on port "), process.communicate(timeout=10)
            yield name
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (0, "")
            assert " octets received, " in output
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("host", [THEIRS, THEIRS6])
def test_the_kernels_tcp_and_udp_go_through_an_interface_of_ours(
    project: Path, tmp_path: Path, net: Network, host: str
) -> None:
    with peer(net, tmp_path) as (ours, theirs, file), interface(project, ours, file) as name:
        assert f"mtu {WireGuardOptions.file(file).mtu}" in ours.ip("link", "show", name)
        with wireguard_go.service(theirs, "echo", host, ECHO):
            told = ours.run(sys.executable, wireguard_go.SERVICES, "swap", host, str(ECHO), "200", "1000", "20")
            assert '"count": 200' in told
        words = [*theirs.command, sys.executable, "-c", SERVER, host]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            assert ours.run(sys.executable, "-c", CLIENT, host, str(SIZE)) == f"{SIZE}\n"
        assert server.returncode == 0
    assert name not in run_ip()


def run_ip() -> str:
    """All interfaces of this namespace."""
    return namespaces.run("ip", "link", "show")
