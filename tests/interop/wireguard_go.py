"""Debian's wireguard-go as a peer: a TUN interface inside a namespace, configured and watched with `wg`.

`interface(...)` starts the program, gives the interface its key, addresses and MTU, and stops it again. The control
socket stands in /var/run/wireguard, which namespaces share, so every interface has a name of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.interop.namespaces import Namespace, NamespaceError, run, unique

PATIENCE = 20.0  # seconds that the program has for one step
SOCKETS = Path("/var/run/wireguard")
SERVICES = str(Path(__file__).with_name("udp_services.py"))


def new_key() -> str:
    """A private key as `wg genkey` writes it."""
    return run("wg", "genkey").strip()


def new_psk() -> str:
    """A pre-shared key as `wg genpsk` writes it."""
    return run("wg", "genpsk").strip()


def public_key(private: str) -> str:
    """What `wg pubkey` says."""
    return run("wg", "pubkey", given=private).strip()


@dataclass(frozen=True)
class Peer:
    """One [Peer] of the program's configuration; keys in base64."""

    public_key: str
    allowed_ips: tuple[str, ...]
    endpoint: str = ""
    preshared_key: str = ""
    persistent_keepalive: int = 0

    def text(self) -> str:
        """As `wg setconf` reads it."""
        lines = ["[Peer]", f"PublicKey = {self.public_key}", f"AllowedIPs = {', '.join(self.allowed_ips)}"]
        if self.endpoint:
            lines.append(f"Endpoint = {self.endpoint}")
        if self.preshared_key:
            lines.append(f"PresharedKey = {self.preshared_key}")
        if self.persistent_keepalive:
            lines.append(f"PersistentKeepalive = {self.persistent_keepalive}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Shown:
    """A peer's line of `wg show IF dump`. `latest_handshake` in unix seconds, 0 for none; octets received and sent."""

    public_key: str
    endpoint: str
    latest_handshake: int
    received: int
    sent: int
    keepalive: int


class Interface:
    """A running wireguard-go."""

    def __init__(self, space: Namespace, name: str, private_key: str) -> None:
        self.space = space
        self.name = name
        self.private_key = private_key
        self.public_key = public_key(private_key)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program and wait for its control socket."""
        words = (*self.space.command, "wireguard-go", "-f", self.name)
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + PATIENCE
        while not (SOCKETS / f"{self.name}.sock").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.output()
                raise NamespaceError(f"wireguard-go did not start: {text}")
            time.sleep(0.01)

    def output(self) -> str:
        """Stop the program and return what it wrote."""
        if self.process is None:
            return ""
        process, self.process = self.process, None
        process.terminate()
        try:
            text, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
        with suppress(FileNotFoundError):
            (SOCKETS / f"{self.name}.sock").unlink()
        return text.decode("utf-8", "replace")

    def stop(self) -> None:
        """Stop the program; its interface goes with it."""
        self.output()

    def configure(self, peers: Sequence[Peer], listen_port: int) -> None:
        """Replace key, port and peers."""
        text = f"[Interface]\nPrivateKey = {self.private_key}\nListenPort = {listen_port}\n"
        text += "".join(peer.text() for peer in peers)
        self.space.run("wg", "setconf", self.name, "/dev/stdin", given=text)

    def set(self, *words: str) -> None:
        """`wg set IF ...`."""
        self.space.run("wg", "set", self.name, *words)

    def up(self, addresses: Sequence[str], routes: Sequence[str], mtu: int) -> None:
        """Addresses with prefix length, then routes into the tunnel."""
        for address in addresses:
            self.space.add_address(self.name, address)
        self.space.ip("link", "set", self.name, "mtu", str(mtu), "up")
        for route in routes:
            self.space.ip("route", "replace", route, "dev", self.name)

    @property
    def listen_port(self) -> int:
        """The UDP port that it has."""
        return int(self.space.run("wg", "show", self.name, "listen-port"))

    def shown(self, key: str = "") -> Shown:
        """What it says of a peer; of its only one without `key`."""
        lines = self.space.run("wg", "show", self.name, "dump").splitlines()[1:]
        for line in lines:
            public, _, endpoint, _, handshake, received, sent, keepalive = line.split("\t")
            if key in {"", public}:
                often = 0 if keepalive == "off" else int(keepalive)
                return Shown(public, endpoint, int(handshake), int(received), int(sent), often)
        raise NamespaceError(f"{self.name} has no such peer")


@contextmanager
def interface(
    space: Namespace,
    peers: Sequence[Peer],
    *,
    addresses: Sequence[str],
    private_key: str = "",
    listen_port: int = 0,
    mtu: int = 1420,
) -> Iterator[Interface]:
    """A configured wireguard-go whose interface routes all allowed IPs of its peers."""
    made = Interface(space, unique("wg"), private_key or new_key())
    routes = [allowed for peer in peers for allowed in peer.allowed_ips]
    try:
        made.start()
        made.configure(peers, listen_port)
        made.up(addresses, routes, mtu)
        yield made
    finally:
        made.stop()


@contextmanager
def service(space: Namespace, work: str, host: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """One of the lasting programs of udp_services.py inside the namespace, ready."""
    words = (*space.command, sys.executable, SERVICES, work, host, str(port))
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise NamespaceError(f"the {work} service did not start at {host}")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
