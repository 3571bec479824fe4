"""What is measured, against whom, and what the project promises: the speed table of the README."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import harness
from benchmarks.harness import Sample
from benchmarks.jobs import Job

KIB = 1024
MIB = 1024 * 1024

Sense = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One side of a comparison: what the table calls it, and its job."""

    name: str
    job: Job


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `peers`: of these the best counts. `target` None: shown for comparison only."""

    work: str
    ours: str
    peers: tuple[str, ...]
    target: float | None
    peer: str = ""  # how the table calls the peers together


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates that take turns, and the rows that they give. A value times `scale` is in `unit`.

    `unavailable`: why it cannot be measured on this machine, "" if it can.
    """

    name: str
    unit: str
    scale: float
    sense: Sense
    candidates: tuple[Candidate, ...]
    rows: tuple[Row, ...]
    unavailable: Callable[[], str] = lambda: ""


@dataclass(frozen=True, slots=True)
class Result:
    """A row with its figures, as results.json has it."""

    work: str
    unit: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    target: float | None
    sense: Sense
    met: bool | None
    runs: int
    spread: float


def best(samples: dict[str, Sample], names: Sequence[str], sense: Sense) -> str:
    """The name of the best median."""
    choose = max if sense == "at least" else min
    return choose(names, key=lambda name: samples[name].median)


def result(group: Group, row: Row, samples: dict[str, Sample]) -> Result:
    """Compare medians. `spread` is the wider of the two sides' quartile ranges."""
    rival = best(samples, row.peers, group.sense)
    ours, theirs = samples[row.ours], samples[rival]
    ratio = ours.median / theirs.median
    met = None
    if row.target is not None:
        met = ratio >= row.target if group.sense == "at least" else ratio <= row.target
    return Result(
        work=row.work,
        unit=group.unit,
        ours=round(ours.median * group.scale, 3),
        peer=rival,
        theirs=round(theirs.median * group.scale, 3),
        ratio=round(ratio, 3),
        target=row.target,
        sense=group.sense,
        met=met,
        runs=len(ours.values),
        spread=round(max(ours.spread, theirs.spread), 3),
    )


def has_avx512() -> bool:
    """Whether this CPU has AVX-512, with which OpenSSL 3.1 and later seal twice as fast as the peers' 3.0."""
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


# -- candidates -------------------------------------------------------------------------------------------------------
def ours(name: str, shape: str, job: dict[str, Any], **settings: int) -> Candidate:
    """Our API on uvloop."""
    return Candidate(name, Job(module="benchmarks.ours", shape=shape, loop="uvloop", settings=settings, **job))


def peer(loop: Literal["asyncio", "uvloop"], shape: str, job: dict[str, Any], **settings: int) -> Candidate:
    """Python's `ssl` on one of the loops; a size in its name is that of its writes."""
    names = {"streams": "streams", "protocol": "Protocol", "buffered": "BufferedProtocol"}
    chunk = f", {job['size'] // KIB} KiB writes" if job["work"] == "bulk" else ""
    return Candidate(
        f"{loop} ssl, {names[shape]}{chunk}",
        Job(module="benchmarks.peers_ssl", shape=shape, loop=loop, settings=settings, **job),
    )


def names(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(candidate.name for candidate in candidates)


# -- the works --------------------------------------------------------------------------------------------------------
def bulk(avx512: bool) -> Group:
    """One connection, client to server. Sizes of sends: the best of 16 KiB to 1 MiB, found for each side."""

    def job(size: int) -> dict[str, Any]:
        return {"work": "bulk", "size": size, "warm": 64 * MIB, "count": 1024 * MIB}

    views, octets = ours("lent views", "views", job(MIB)), ours("bytes", "bytes", job(MIB))
    streams = [peer("asyncio", "streams", job(size), read=256 * KIB) for size in (32 * KIB, 64 * KIB)]
    buffered = [
        peer("uvloop", "buffered", job(size), read=MIB, high=high)
        for size, high in ((32 * KIB, 64 * KIB), (64 * KIB, MIB), (256 * KIB, 64 * KIB))
    ]
    return Group(
        "bulk",
        "Gbit/s",
        8e-9,
        "at least",
        (views, octets, *streams, *buffered),
        (
            Row("bulk, lent views", views.name, names(streams), 3.0),
            Row("bulk, lent views", views.name, names(buffered), 1.3 if avx512 else 1.15),
            Row("bulk, bytes", octets.name, names(streams), 2.6),
            Row("bulk, bytes", octets.name, names(buffered), 1.05),
        ),
    )


def small_sends() -> Group:
    """1 KiB each, awaited."""
    job: dict[str, Any] = {"work": "sends", "size": KIB, "warm": 20_000, "count": 300_000}
    us = ours("taps", "bytes", job)
    peers = [peer("uvloop", shape, job, read=256 * KIB) for shape in ("streams", "protocol", "buffered")]
    return Group(
        "sends",
        "k/s",
        1e-3,
        "at least",
        (us, *peers),
        (Row("1 KiB sends, each awaited", us.name, names(peers), 6.0),),
    )


def handshakes(mutual: bool) -> Group:
    """Full handshakes without tickets, 16 at a time; with `mutual` the client's chain is checked too."""
    job: dict[str, Any] = {"work": "handshakes", "size": 1, "warm": 64, "count": 1600, "connections": 16}
    job["mutual"] = mutual
    us = ours("taps", "bytes", job, tickets=0)
    peers = [peer("uvloop", shape, job, tickets=0) for shape in ("streams", "buffered")]
    work = "full handshakes, mutual" if mutual else "full handshakes"
    return Group(
        "handshakes-mutual" if mutual else "handshakes",
        "/s",
        1.0,
        "at least",
        (us, *peers),
        (Row(work, us.name, names(peers), 1.3),),
    )


def echoes(connections: int, target: float) -> Group:
    """64 octets there and back. BufferedProtocol, which no stream API of the peer reaches, is shown beside it."""
    count = 20_000 if connections == 1 else 60_000
    job: dict[str, Any] = {"work": "echo", "size": 64, "warm": 2_000, "count": count, "connections": connections}
    us = ours("taps", "bytes", job)
    usual = [peer("uvloop", shape, job) for shape in ("streams", "protocol")]
    buffered = peer("uvloop", "buffered", job)
    work = f"64-byte echo, {connections} connection{'s' if connections > 1 else ''}"
    return Group(
        f"echo-{connections}",
        "k/s",
        1e-3,
        "at least",
        (us, *usual, buffered),
        (Row(work, us.name, names(usual), target), Row(work, us.name, (buffered.name,), None)),
    )


def idle() -> Group:
    """What 1,000 idle connections add to the server, each after one echo."""
    job: dict[str, Any] = {"work": "idle", "size": 64, "warm": 16, "count": 1000}
    us = ours("taps", "bytes", job)
    peers = [peer("uvloop", shape, job) for shape in ("streams", "buffered")]
    return Group(
        "idle",
        "KiB",
        1 / KIB,
        "at most",
        (us, *peers),
        (Row("memory per idle server connection", us.name, names(peers), 0.25),),
    )


def startup() -> Group:
    """A fresh process up to its first verified echo, both on asyncio."""
    job: dict[str, Any] = {"work": "startup", "size": 64, "count": 5}
    us = Candidate("taps", Job(module="benchmarks.ours", shape="bytes", loop="asyncio", **job))
    them = Candidate("asyncio ssl, streams", Job(module="benchmarks.peers_ssl", shape="streams", loop="asyncio", **job))
    return Group(
        "startup",
        "ms",
        1e3,
        "at most",
        (us, them),
        (Row("fresh process to first verified echo", us.name, (them.name,), 2.0),),
    )


def all_groups() -> tuple[Group, ...]:
    """The whole table, in the order of the speed table."""
    from benchmarks import curvecp_rows, wireguard_rows  # which need the types above

    return (
        bulk(has_avx512()),
        small_sends(),
        handshakes(mutual=False),
        handshakes(mutual=True),
        echoes(1, 1.05),
        echoes(50, 1.8),
        idle(),
        startup(),
        *wireguard_rows.groups(),
        *curvecp_rows.groups(),
    )


# -- running ----------------------------------------------------------------------------------------------------------
def measure_startup(job: Job) -> float:
    """Seconds from the start of a process to its echo: the median of `job.count` processes."""
    side = "ssl" if job.module.endswith("peers_ssl") else "taps"
    with harness.serving(job) as given:
        values = []
        for _ in range(job.count):
            fixed = (side, str(given.port), given.credential("ca.pem"), str(given.core))
            process = harness.spawn("benchmarks.startup", *fixed, repr(time.monotonic()))
            out, errors = process.communicate(timeout=harness.CLIENT_TIMEOUT)
            if process.returncode:
                raise harness.MeasurementError(errors.strip()[-4000:])
            values.append(float(out))
    return statistics.median(values)


def run(
    group: Group, credentials: str, rounds: int, told: Callable[[str, float], None] | None = None
) -> tuple[list[Result], dict[str, Sample]]:
    """Measure a group's candidates in turn: its rows, and every sample."""

    def measurement(job: Job) -> Callable[[], float]:
        job = job.on(credentials=credentials)
        own = getattr(importlib.import_module(job.module), "measure", None)
        if own is not None:  # the module runs its processes itself
            return lambda: float(own(job))
        return lambda: measure_startup(job) if job.work == "startup" else harness.measure(job)

    candidates = {candidate.name: measurement(candidate.job) for candidate in group.candidates}
    samples = harness.measure_in_turn(candidates, rounds, told)
    return [result(group, row, samples) for row in group.rows], samples
