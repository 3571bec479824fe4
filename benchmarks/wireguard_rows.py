"""WireGuard's part of the speed table: our processes over loopback, wireguard-go through its TUN in namespaces."""

from __future__ import annotations

import shutil
from typing import Any

from benchmarks.jobs import Job
from benchmarks.rows import KIB, Candidate, Group, Row, names
from tests.interop import namespaces

OURS, PEER, MICRO = "benchmarks.ours_wireguard", "benchmarks.peer_wireguard", "benchmarks.wireguard_micro"
TUN = "benchmarks.wireguard_tun"
MESSAGE = 1_400  # octets
BATCHES = "WireGuard, 1,400-byte messages, in batches"
SINGLE = "WireGuard, 1,400-byte messages, one at a time"
UNSUMMED = "without UDP checksums inside"
IDLE_LIMIT = 12 * KIB


def unavailable() -> str:
    """Why wireguard-go cannot be measured here."""
    missing = [name for name in ("wireguard-go", "wg", "iperf3") if shutil.which(name) is None]
    return f"peer program missing: {', '.join(missing)} (make peers)" if missing else namespaces.unavailable()


def candidate(name: str, module: str, shape: str, job: dict[str, Any], **settings: int) -> Candidate:
    """One side; ours on uvloop."""
    return Candidate(name, Job(module=module, shape=shape, loop="uvloop", settings=settings, **job))


def group(name: str, unit: str, scale: float, candidates: tuple[Candidate, ...], rows: tuple[Row, ...]) -> Group:
    """Of which more is better, and that needs the peer."""
    return Group(name, unit, scale, "at least", candidates, rows, unavailable)


def bulk() -> Group:
    """One way. iperf3's best: TCP with one or two streams, UDP at the rates around wireguard-go's limit.

    The UDP checksums inside cover nothing that the tunnel does not authenticate, and cost Python as much as the cipher:
    with them as is the default, and without.
    """
    job: dict[str, Any] = {"work": "bulk", "size": MESSAGE, "warm": 64_000, "count": 640_000}
    batches = candidate("taps, 64 at a time", OURS, "batches", job)
    single = candidate("taps, one at a time", OURS, "single", job)
    plain = {
        shape: candidate(f"{each.name}, without UDP checksums inside", OURS, shape, job, checksums=0)
        for shape, each in (("batches", batches), ("single", single))
    }
    engine = candidate("record engine alone", MICRO, "record", {**job, "count": 220_000})
    tcp = [candidate(f"wireguard-go, iperf3 TCP, {n} streams", PEER, "tcp", job, streams=n) for n in (1, 2)]
    udp = [candidate(f"wireguard-go, iperf3 UDP at {n} Mbit/s", PEER, "udp", job, rate=n) for n in (500, 600, 700, 800)]
    peers = names([*tcp, *udp])
    return group(
        "wireguard-bulk",
        "Gbit/s",
        8e-9,
        (batches, single, *plain.values(), engine, *tcp, *udp),
        (
            Row(BATCHES, batches.name, peers, 3.0),
            Row(SINGLE, single.name, peers, 3.0),
            Row(BATCHES, batches.name, (engine.name,), 0.7),
            Row(SINGLE, single.name, (engine.name,), 0.6),
            Row(f"{BATCHES}, {UNSUMMED}", plain["batches"].name, peers, 3.0),
            Row(f"{SINGLE}, {UNSUMMED}", plain["single"].name, peers, 3.0),
            Row(f"{BATCHES}, {UNSUMMED}", plain["batches"].name, (engine.name,), 0.7),
            Row(f"{SINGLE}, {UNSUMMED}", plain["single"].name, (engine.name,), 0.6),
        ),
    )


def echo() -> Group:
    """64 octets there and back, one at a time: whoever waits does nothing, so that ours run on one core.

    To wake a process on another core takes longer than all of its work; the scheduler spares wireguard-go's that too.
    """
    job: dict[str, Any] = {"work": "echo", "size": 64, "warm": 2_000, "count": 20_000}
    us = candidate("taps, both on one core", OURS, "messages", job, one_core=1)
    peer = candidate("wireguard-go, blocking sockets", PEER, "blocking", job)
    return group(
        "wireguard-echo", "k/s", 1e-3, (us, peer), (Row("WireGuard, 64-byte echo", us.name, (peer.name,), 2.0),)
    )


def handshakes() -> Group:
    """One responder, a new peer each time. wireguard-go works on all cores, ours on one."""
    job: dict[str, Any] = {"work": "handshakes", "size": 0, "warm": 200, "count": 3_000, "connections": 32}
    us = candidate("taps", OURS, "responder", job)
    bound = candidate("X25519 alone", MICRO, "x25519", job)
    peer = candidate("wireguard-go, all cores", PEER, "responder", job)
    return group(
        "wireguard-handshakes",
        "/s",
        1.0,
        (us, bound, peer),
        (
            Row("WireGuard, handshakes of one responder", us.name, (bound.name,), round(1 / 1.5, 3)),
            Row("WireGuard, handshakes of one responder", us.name, (peer.name,), None),
        ),
    )


def idle() -> Group:
    """What each of 1,000 peers with keys adds to the responder, its configuration included."""
    job: dict[str, Any] = {"work": "idle", "size": 64, "warm": 16, "count": 1_000, "connections": 16}
    us = candidate("taps", OURS, "responder", job)
    promise = candidate("12 KiB, as promised", MICRO, "fixed", job, value=IDLE_LIMIT)
    peer = candidate("wireguard-go", PEER, "responder", job)
    work = "WireGuard, memory per idle peer with keys"
    return Group(
        "wireguard-idle",
        "KiB",
        1 / KIB,
        "at most",
        (us, promise, peer),
        (Row(work, us.name, (promise.name,), 1.0), Row(work, us.name, (peer.name,), None)),
        unavailable,
    )


def tun() -> Group:
    """TCP between two interfaces, both ends of one kind. wireguard-go's better of one and two streams."""
    job: dict[str, Any] = {"work": "bulk", "size": MESSAGE, "count": 1}
    us = candidate("examples/wireguard_tun.py, iperf3 TCP", TUN, "tcp", job, streams=1)
    peers = [candidate(f"wireguard-go, iperf3 TCP, {n} streams", PEER, "tcp", job, streams=n) for n in (1, 2)]
    return group(
        "wireguard-tun",
        "Gbit/s",
        8e-9,
        (us, *peers),
        (Row("WireGuard, TUN example, TCP between namespaces", us.name, names(peers), 1.5),),
    )


def groups() -> tuple[Group, ...]:
    """In the order of the speed table."""
    return bulk(), echo(), handshakes(), idle(), tun()
