"""Network namespaces to run peers in: unique names, everything removed afterwards, and nothing else.

    with network() as net:
        ours, theirs = net.namespace("ours"), net.namespace("theirs")
        net.link(ours, theirs, "10.77.0", "fd77")     # ours: 10.77.0.1 and fd77::1, theirs: .2 and ::2
        ours.run("ping", "-c1", "10.77.0.2")

A namespace's programs are started with `command` before their words: they are ordinary children of the caller, who
stops them. Deleting a namespace takes its interfaces with it. Needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

TUN = Path("/dev/net/tun")
PATIENCE = 20.0  # seconds for one command
NAME_LIMIT = 15  # octets of an interface's name (IFNAMSIZ without its zero)


class NamespaceError(RuntimeError):
    """A command failed; the text has its words and what it wrote."""


def unavailable() -> str:
    """Why there can be no namespaces with TUN interfaces here; empty if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "peer program missing: ip (make peers)"
    if not TUN.exists():
        return f"{TUN} is missing"
    probe = unique("probe")
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode != 0:
        return "this machine does not let root make network namespaces"
    run("ip", "netns", "delete", probe)
    return ""


def unique(label: str) -> str:
    """A name with this label that no other test, process or run has; it fits an interface."""
    name = f"{label[:4]}{os.getpid() % 0x100000:05x}{os.urandom(3).hex()}"
    assert len(name) <= NAME_LIMIT
    return name


def run(*words: str, given: str | None = None) -> str:
    """Run a command to its end and return what it wrote. Raises NamespaceError if it failed."""
    try:
        ran = subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise NamespaceError(f"{' '.join(words)}: no end after {PATIENCE:.0f} s") from None
    if ran.returncode != 0:
        raise NamespaceError(f"{' '.join(words)}: {ran.stdout}{ran.stderr}")
    return ran.stdout


@dataclass(frozen=True)
class Namespace:
    """One network namespace."""

    name: str

    @property
    def command(self) -> tuple[str, ...]:
        """What stands before the words of a program that is to run inside; the program keeps the process id."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *words: str, given: str | None = None) -> str:
        """Run a command inside to its end."""
        return run(*self.command, *words, given=given)

    def ip(self, *words: str) -> str:
        """`ip` with this namespace as its subject."""
        return run("ip", "-n", self.name, *words)

    def set(self, key: str, value: object) -> None:
        """A sysctl of the namespace, as `net.ipv4.ip_forward`."""
        self.run("sysctl", "-q", "-w", f"{key}={value}")

    def add_address(self, interface: str, address: str) -> None:
        """ADDRESS/LENGTH, usable at once (IPv6 without duplicate address detection)."""
        self.ip("address", "add", address, "dev", interface, *(("nodad",) if ":" in address else ()))

    def delete_address(self, interface: str, address: str) -> None:
        """Take ADDRESS/LENGTH away."""
        self.ip("address", "delete", address, "dev", interface)

    def own_all_of(self, network: str) -> None:
        """Every address of NETWORK/LENGTH becomes this host's: sockets may bind to each without configuring it."""
        self.ip("route", "add", "local", network, "dev", "lo")


@dataclass(frozen=True)
class Link:
    """A veth pair: `left` and `right` are the interfaces' names, each in the namespace that was named first, second."""

    left: str
    right: str


class Network:
    """Namespaces that belong together; `network()` makes one."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def namespace(self, label: str) -> Namespace:
        """A new, empty namespace whose loopback interface is up."""
        name = unique(label)
        run("ip", "netns", "add", name)
        self._stack.callback(run, "ip", "netns", "delete", name)
        made = Namespace(name)
        made.ip("link", "set", "lo", "up")
        return made

    def link(self, left: Namespace, right: Namespace, ipv4: str = "", ipv6: str = "", mtu: int = 1500) -> Link:
        """Join two namespaces. `ipv4` "10.77.0" gives 10.77.0.1/24 and .2, `ipv6` "fd77" gives fd77::1/64 and ::2."""
        made = Link(unique("veth"), unique("veth"))
        run(
            *("ip", "link", "add", made.left, "netns", left.name, "mtu", str(mtu), "type", "veth"),
            *("peer", "name", made.right, "netns", right.name, "mtu", str(mtu)),
        )
        for number, (space, interface) in enumerate(((left, made.left), (right, made.right)), 1):
            if ipv4:
                space.add_address(interface, f"{ipv4}.{number}/24")
            if ipv6:
                space.add_address(interface, f"{ipv6}::{number}/64")
        for space, interface in ((left, made.left), (right, made.right)):
            space.ip("link", "set", interface, "up")
        return made


@contextmanager
def network() -> Iterator[Network]:
    """A network to fill; at the end, also after a failure, all that it made is removed."""
    with ExitStack() as stack:
        yield Network(stack)
