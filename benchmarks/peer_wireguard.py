"""wireguard-go through its TUN interfaces, two of it in two namespaces: iperf3, echo, handshakes, idle memory.

This module runs its own processes (`measure`), as root. Shapes: `tcp` and `udp` of bulk (iperf3; settings: `rate` in
Mbit/s for UDP, `streams`), `blocking` of echo (plain sockets in both namespaces). What arrived counts. The programs
are not pinned: wireguard-go works on all cores at a time, which is best for it. Settings `procs`: Go's GOMAXPROCS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import harness
from benchmarks.clock import SETTLE, proportional_set_size
from benchmarks.jobs import Job
from benchmarks.wireguard_clients import address, private_key, public_key
from tests.interop.namespaces import Namespace, network
from tests.interop.wireguard_go import SERVICES, Interface, Peer, interface, service

OUTER = "10.77.0.2"
LEFT, RIGHT = "10.88.0.1", "10.88.0.2"
PORT = 51_820
ECHO = 7
SECONDS = 3  # of each iperf3 run, after one that is left out for TCP
MTU = 1_440  # of 1,400 octets in UDP over IPv4; sealed and over IPv4, a packet is 1,500 octets
START = 5.0  # seconds that iperf3's server has to listen


@contextmanager
def tunnel(job: Job) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces with a wireguard-go in each, the handshake done."""
    with network() as net:
        left, right = net.namespace("left"), net.namespace("right")
        net.link(left, right, "10.77.0")
        ours = Peer(_text(public_key(1)), (f"{LEFT}/32",))
        theirs = Peer(_text(public_key(0)), (f"{RIGHT}/32",), f"{OUTER}:{PORT}")
        key = {number: _text(private_key(number)) for number in (0, 1)}
        with (
            interface(right, [ours], addresses=[f"{RIGHT}/24"], private_key=key[0], listen_port=PORT, mtu=MTU),
            interface(left, [theirs], addresses=[f"{LEFT}/24"], private_key=key[1], mtu=MTU),
            service(right, "echo", RIGHT, ECHO),
        ):
            left.run(sys.executable, SERVICES, "ping", RIGHT, str(ECHO), "10", "64")
            yield left, right


def _text(key: bytes) -> str:
    return b64encode(key).decode()


def bulk(job: Job) -> float:
    """Octets per second that arrived, by iperf3."""
    words = ["iperf3", "-c", RIGHT, "-J", "-t", str(SECONDS)]
    if job.shape == "udp":
        words += ["-u", "-b", f"{job.settings['rate']}M", "-l", str(job.size)]
    else:
        words += ["-O", "1", "-P", str(job.settings.get("streams", 1))]
    with tunnel(job) as (left, right), iperf_server(right):
        told = json.loads(left.run(*words))["end"]
    if job.shape == "udp":
        total = told["sum"]
        return float(total["bytes"] * (1 - total["lost_percent"] / 100) / total["seconds"])
    return float(told["sum_received"]["bits_per_second"] / 8)


@contextmanager
def iperf_server(space: Namespace) -> Iterator[None]:
    """iperf3's server, listening at RIGHT."""
    words = [*space.command, "iperf3", "-s", "-B", RIGHT, "--forceflush"]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        deadline = time.monotonic() + START
        while "listening" not in process.stdout.readline():
            if process.poll() is not None or time.monotonic() > deadline:
                raise harness.MeasurementError("iperf3's server did not start")
        yield
    finally:
        process.terminate()
        process.communicate()


def echo(job: Job) -> float:
    """Round trips per second, one at a time, between two programs with blocking sockets."""
    with tunnel(job) as (left, _):
        words = (sys.executable, SERVICES, "ping", RIGHT, str(ECHO), str(job.count), str(job.size))
        told = json.loads(left.run(*words))
    return float((told["count"] - told["lost"]) / told["seconds"])


@contextmanager
def responder(count: int) -> Iterator[tuple[Namespace, Interface]]:
    """A wireguard-go with so many peers, and a namespace from which it can be reached."""
    with network() as net:
        left, right = net.namespace("left"), net.namespace("right")
        net.link(left, right, "10.77.0")
        peers = [Peer(_text(public_key(number)), (f"{address(number)}/32",)) for number in range(1, count + 1)]
        key = _text(private_key(0))
        with interface(right, (), addresses=["10.88.0.0/8"], private_key=key, listen_port=PORT) as made:
            made.configure(peers, PORT)
            yield left, made


def clients(job: Job, space: Namespace, warm: int, count: int) -> float:
    """Handshakes per second of so many peers against the responder."""
    given = job.on(port=PORT, warm=warm, count=count).to_json()
    ran = subprocess.run(
        [*space.command, sys.executable, "-m", "benchmarks.wireguard_clients", given, OUTER, public_key(0).hex()],
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise harness.MeasurementError(ran.stderr[-4000:])
    return float(json.loads(ran.stdout)["value"])


def handshakes(job: Job) -> float:
    """Handshakes per second of one responder with many peers."""
    with responder(job.warm + job.count) as (space, _):
        return clients(job, space, job.warm, job.count)


def idle(job: Job) -> float:
    """Octets of PSS for each peer with keys: a wireguard-go with so many peers more than another has."""
    few, many = (_memory(job, count) for count in (job.warm, job.warm + job.count))
    return (many - few) / job.count


def _memory(job: Job, count: int) -> int:
    with responder(count) as (space, made):
        clients(job, space, 0, count)
        time.sleep(SETTLE)
        assert made.process is not None
        return proportional_set_size(Path(f"/proc/{made.process.pid}/smaps_rollup").read_text())


def measure(job: Job) -> float:
    """Do the job's work once: its value."""
    if "procs" in job.settings:
        os.environ["GOMAXPROCS"] = str(job.settings["procs"])
    try:
        return {"bulk": bulk, "echo": echo, "handshakes": handshakes, "idle": idle}[job.work](job)
    finally:
        os.environ.pop("GOMAXPROCS", None)
