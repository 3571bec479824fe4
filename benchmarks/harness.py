"""Pairs of processes, rounds, medians.

Every candidate of a work runs in a pair of fresh processes, the server on one core and the client on another, the
same two for all. The candidates take turns within each round, in opposite order in every second one, so that a slow
minute of the machine is everybody's. A candidate's figure is the median of its rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
CLIENT_TIMEOUT = 180.0  # seconds


class MeasurementError(RuntimeError):
    """A process of a pair failed; the text is what it wrote to its standard error."""


@dataclass(slots=True)
class Sample:
    """The figures of one candidate, one for each round."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The range between the quartiles, as a share of the median; 0 for a single value."""
        if len(self.values) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / self.median


def cores() -> tuple[int, int]:
    """The cores for server and client: the last two that this process may use, or twice the only one."""
    if not hasattr(os, "sched_getaffinity"):
        return -1, -1
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[-2] if len(allowed) > 1 else allowed[-1]), allowed[-1]


def spawn(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m module` at the project's root, with compiled modules kept as an installation keeps them."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], line: str) -> dict[str, Any]:
    """The JSON object that a process printed; MeasurementError if it printed none."""
    if not line.strip():
        process.kill()
        raise MeasurementError(process.communicate()[1].strip()[-4000:] or "a process ended without a word")
    values: dict[str, Any] = json.loads(line)
    return values


@contextmanager
def serving(job: Job, profile: str = "") -> Iterator[Job]:
    """A server for the job, on the first core ("one_core": on the client's): the job as its client has it."""
    server_core, client_core = cores()
    if job.settings.get("one_core"):
        server_core = client_core
    process = spawn("benchmarks.worker", "server", job.on(core=server_core, profile=profile).to_json())
    assert process.stdout is not None
    try:
        port = answer(process, process.stdout.readline())["port"]
        yield job.on(core=client_core, port=port, server_process=process.pid)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def measure(job: Job) -> float:
    """Run one pair once: the client's value. `job.profile` is the beginning of the names of two profiles."""
    with serving(job, profile=job.profile and f"{job.profile}-server") as given:
        client = spawn(
            "benchmarks.worker", "client", given.on(profile=job.profile and f"{job.profile}-client").to_json()
        )
        try:
            out, errors = client.communicate(timeout=CLIENT_TIMEOUT)
        except subprocess.TimeoutExpired:
            client.kill()
            raise MeasurementError(f"no value after {CLIENT_TIMEOUT:.0f} s\n{client.communicate()[1]}") from None
        if not out.strip():
            raise MeasurementError(errors.strip()[-4000:] or "the client ended without a word")
        return float(json.loads(out)["value"])


def measure_in_turn(
    candidates: Mapping[str, Callable[[], float]], rounds: int, told: Callable[[str, float], None] | None = None
) -> dict[str, Sample]:
    """Each candidate's sample after `rounds` rounds in which all take turns."""
    samples = {name: Sample() for name in candidates}
    for number in range(rounds):
        order: Sequence[str] = list(candidates)
        for name in order if number % 2 == 0 else reversed(order):
            value = candidates[name]()
            samples[name].values.append(value)
            if told is not None:
                told(name, value)
    return samples


def write_json(path: Path, document: object) -> None:
    """Write a document for programs to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        dump(document, file)


def dump(document: object, file: IO[str]) -> None:
    """JSON with a line for each value."""
    json.dump(document, file, indent=2)
    file.write("\n")
