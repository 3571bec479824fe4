"""examples/wireguard_tun.py at both ends, in namespaces, with iperf3 through them: the set-up of peer_wireguard.

`bulk` is the only work, `tcp` its only shape; settings: `streams`. The programs are not pinned, as the peer's are not.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import taps_security as taps
from benchmarks import harness
from benchmarks.jobs import Job
from benchmarks.peer_wireguard import LEFT, MTU, OUTER, PORT, RIGHT, SECONDS, iperf_server
from benchmarks.wireguard_clients import private_key, public_key
from tests.interop.namespaces import Namespace, network, unique

PROGRAM = harness.ROOT / "examples" / "wireguard_tun.py"


@contextmanager
def interface(space: Namespace, folder: Path, options: taps.WireGuardOptions) -> Iterator[None]:
    """The example as an interface of the namespace."""
    file = folder / unique("tun")
    file.touch(0o600)
    file.write_text(options.text())
    words = [*space.command, sys.executable, str(PROGRAM), str(file), file.name]
    process = subprocess.Popen(words, cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if "is up" not in process.stdout.readline():
            process.kill()
            raise harness.MeasurementError(process.communicate()[1][-4000:])
        yield
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def tunnel() -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces, an interface of ours in each."""
    ends = (
        taps.WireGuardOptions(
            private_key=private_key(0),
            addresses=[f"{RIGHT}/24"],
            listen_port=PORT,
            mtu=MTU,
            peers=[taps.WireGuardPeer(public_key=public_key(1), allowed_ips=[f"{LEFT}/32"])],
        ),
        taps.WireGuardOptions(
            private_key=private_key(1),
            addresses=[f"{LEFT}/24"],
            mtu=MTU,
            peers=[
                taps.WireGuardPeer(public_key=public_key(0), endpoint=f"{OUTER}:{PORT}", allowed_ips=[f"{RIGHT}/32"])
            ],
        ),
    )
    with network() as net, ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        left, right = net.namespace("left"), net.namespace("right")
        net.link(left, right, "10.77.0")
        for space, options in zip((right, left), ends, strict=True):
            stack.enter_context(interface(space, folder, options))
        yield left, right


def measure(job: Job) -> float:
    """Octets per second that arrived."""
    words = ["iperf3", "-c", RIGHT, "-J", "-t", str(SECONDS), "-O", "1", "-P", str(job.settings.get("streams", 1))]
    with tunnel() as (left, right), iperf_server(right):
        return float(json.loads(left.run(*words))["end"]["sum_received"]["bits_per_second"] / 8)
