"""The parts of WireGuard alone, as bounds for the whole: `python -m benchmarks.wireguard_micro JOB`.

x25519   handshakes/s of a responder that did nothing but its X25519: three shared secrets and one public key. (The
         fourth secret, of both static keys, is computed when a peer is configured.)
record   octets/s of messages through the bare record engine, sealed by one core and opened by another: the slower
         of the two, each measured by itself, `size` octets of plaintext and headers, RUN datagrams at a time
fixed    settings["value"]: a promise that is a number
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from time import perf_counter

from benchmarks import harness
from benchmarks.jobs import Job
from taps_security.crypto.sodium import scalarmult, scalarmult_base
from taps_security.protocols.wireguard.keys import TransportSecret
from taps_security.protocols.wireguard.record import OVERHEAD, WireGuardRecord
from taps_security.stack.events import Direction, KeyId, KeyReady, Stage
from taps_security.stack.layers import Opened, Slab, UnitKind

RUN = 44  # datagrams in one call: what a segmented send of 64 KiB holds
INNER_HEADERS = 28  # IPv4 and UDP
PAD = 16
KEY = KeyId(Stage.APPLICATION)


def x25519(job: Job) -> float:
    """Handshakes per second."""
    private = os.urandom(32)
    publics = [scalarmult_base(os.urandom(32)) for _ in range(64)]

    def some(rounds: int) -> None:
        for number in range(rounds):
            public = publics[number & 63]
            scalarmult(private, public)
            scalarmult_base(private)
            scalarmult(private, public)
            scalarmult(private, public)

    some(job.warm)
    start = perf_counter()
    some(job.count)
    return job.count / (perf_counter() - start)


class Ends:
    """Two records with one key."""

    def __init__(self, size: int) -> None:
        self.inner = (size + INNER_HEADERS + PAD - 1) // PAD * PAD
        self.stride = self.inner + OVERHEAD
        buffer = bytearray(self.stride * RUN)
        self.slab = Slab(buffer, memoryview(buffer))
        self.body = bytes(self.inner)
        self.sender, self.receiver = WireGuardRecord(Counter()), WireGuardRecord(Counter())
        self.opened = Opened()
        for record, direction in ((self.sender, Direction.SEND), (self.receiver, Direction.RECEIVE)):
            record.import_key(KeyReady(KEY, direction, TransportSecret(bytes(32), b"key0")), 0.0)

    def seal(self) -> None:
        """One run."""
        self.sender.seal(KEY, UnitKind.APPLICATION, self.slab, self.stride, RUN, self.inner, 1.0)

    def open(self) -> None:
        """The run that was sealed."""
        self.receiver.open(self.slab.view, self.stride, 0, self.opened, 1.0)
        if len(self.opened.plaintexts) != RUN:
            raise harness.MeasurementError("the record did not open what it sealed")

    def run(self) -> tuple[float, float]:
        """Seconds of sealing and of opening a run."""
        start = perf_counter()
        self.seal()
        middle = perf_counter()
        self.open()
        return middle - start, perf_counter() - middle


def record(job: Job) -> float:
    """Octets of messages per second."""
    ends = Ends(job.size)
    for _ in range(job.warm // RUN):
        ends.run()
    seconds = [ends.run() for _ in range(job.count // RUN)]
    slower = max(sum(one) for one in zip(*seconds, strict=True))
    return len(seconds) * RUN * job.size / slower


def measure(job: Job) -> float:
    """Do it in a fresh process on the client's core."""
    if job.shape == "fixed":
        return float(job.settings["value"])
    process = harness.spawn("benchmarks.wireguard_micro", job.on(core=harness.cores()[1]).to_json())
    out, errors = process.communicate(timeout=harness.CLIENT_TIMEOUT)
    if process.returncode:
        raise harness.MeasurementError(errors.strip()[-4000:])
    return float(json.loads(out)["value"])


def main() -> None:
    """The command."""
    job = Job.from_json(sys.argv[1])
    if job.core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})
    print(json.dumps({"value": {"x25519": x25519, "record": record}[job.shape](job)}))


if __name__ == "__main__":
    main()
