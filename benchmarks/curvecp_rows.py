"""CurveCP's part of the speed table: our processes and NaCl's over loopback, and our stacks on simulated links."""

from __future__ import annotations

import shutil
from typing import Any

from benchmarks.jobs import Job
from benchmarks.rows import KIB, MIB, Candidate, Group, Row, names

OURS, PEER, FIXED = "benchmarks.ours_curvecp", "benchmarks.peer_curvecp", "benchmarks.wireguard_micro"
MEGABYTE = 1_000_000
IDLE_LIMIT = 16 * KIB
LARGER_WINDOW = 12_247  # thousandths of a datagram: Reno's sqrt(3 / 2p); CUBIC's own formula gives 2.98 at 40 ms
CUBIC, CHICAGO = 0, 1  # ours_curvecp.CONTROLLERS


def unavailable() -> str:
    """Why NaCl's programs cannot be measured here."""
    wanted = ("curvecpserver", "curvecpclient", "curvecpmessage", "curvecpmakekey", "curvecpprintkey")
    missing = [name for name in wanted if shutil.which(name) is None]
    return f"peer program missing: {', '.join(missing)} (make peers)" if missing else ""


def candidate(name: str, module: str, shape: str, job: dict[str, Any], **settings: int) -> Candidate:
    """One side; ours on uvloop."""
    return Candidate(name, Job(module=module, shape=shape, loop="uvloop", settings=settings, **job))


def bulk() -> Group:
    """One way, 100 MB. The peer moves 20 MB in the same shape, in 20 s: with fewer its rate is luck, 7 to 90 Mbit/s."""
    job: dict[str, Any] = {"work": "bulk", "size": MIB, "warm": 16 * MIB, "count": 96 * MIB}
    cubic = candidate("taps, CUBIC", OURS, "views", job, controller=CUBIC)
    octets = candidate("taps, CUBIC, bytes", OURS, "bytes", job, controller=CUBIC)
    less = {"work": "bulk", "size": KIB, "warm": 2 * MEGABYTE, "count": 20 * MEGABYTE}
    slow = {**job, "warm": 2 * MIB, "count": 24 * MIB}
    chicago = candidate("taps, Chicago", OURS, "views", slow, controller=CHICAGO)
    peer = candidate("curvecpmessage", PEER, "message", less)
    return Group(
        "curvecp-bulk",
        "Mbit/s",
        8e-6,
        "at least",
        (cubic, octets, chicago, peer),
        (
            Row("CurveCP, 100 MB one way, CUBIC, lent views", cubic.name, names([peer]), 30.0),
            Row("CurveCP, 100 MB one way, CUBIC, bytes", octets.name, names([peer]), 30.0),
            Row("CurveCP, 25 MB one way, Chicago", chicago.name, names([peer]), None),
        ),
        unavailable,
    )


def echo() -> Group:
    """One octet there and back."""
    job: dict[str, Any] = {"work": "echo", "size": 1, "warm": 1_000, "count": 10_000}
    us = candidate("taps", OURS, "bytes", job)
    peer = candidate("curvecpmessage", PEER, "message", {**job, "warm": 500, "count": 5_000})
    return Group(
        "curvecp-echo",
        "/s",
        1.0,
        "at least",
        (us, peer),
        (Row("CurveCP, 1-byte echo", us.name, (peer.name,), 1.0),),
        unavailable,
    )


def idle() -> Group:
    """What each of 1,000 idle connections adds to the server, each after one echo."""
    job: dict[str, Any] = {"work": "idle", "size": 1, "warm": 16, "count": 1_000}
    us = candidate("taps", OURS, "bytes", job)
    promise = candidate("16 KiB, as promised", FIXED, "fixed", job, value=IDLE_LIMIT)
    work = "CurveCP, memory per idle server connection"
    return Group("curvecp-idle", "KiB", 1 / KIB, "at most", (us, promise), (Row(work, us.name, (promise.name,), 1.0),))


# -- on the simulated network -----------------------------------------------------------------------------------------
def simulated(name: str, unit: str, us: Candidate, beside: Candidate, work: str, target: float) -> Group:
    """One figure in virtual time, the same on every machine and in every round."""
    return Group(name, unit, 1.0, "at least", (us, beside), (Row(work, us.name, (beside.name,), target),))


def virtual(name: str, shape: str, **settings: int) -> Candidate:
    """See benchmarks.simulated_curvecp."""
    return Candidate(name, Job("bulk", "benchmarks.simulated_curvecp", shape, "asyncio", 0, 0, settings=settings))


def links() -> tuple[Group, ...]:
    """100 Mbit/s, 40 ms there and back, a queue of one bandwidth-delay product, seconds 10 to 60."""
    return (
        simulated(
            "curvecp-link",
            "Mbit/s",
            virtual("taps, CUBIC", "one", controller=CUBIC),
            virtual("the link", "fixed", value=100),
            "CurveCP, simulated 100 Mbit/s and 40 ms, CUBIC",
            0.9,
        ),
        simulated(
            "curvecp-loss",
            "datagrams",
            virtual("taps, CUBIC, 1% loss", "window", controller=CUBIC, loss=10),
            virtual("the larger window of RFC 9438 §5", "fixed", value=LARGER_WINDOW, of=1_000),
            "CurveCP, simulated, CUBIC's window at 1% loss",
            1.0,
        ),
        simulated(
            "curvecp-fair",
            "Jain's index",
            virtual("two flows, CUBIC", "fair", controller=CUBIC),
            virtual("equal shares", "fixed", value=1),
            "CurveCP, simulated, two flows of CUBIC",
            0.9,
        ),
    )


def groups() -> tuple[Group, ...]:
    """In the order of the speed table."""
    return bulk(), echo(), idle(), *links()
