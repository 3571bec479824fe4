"""A deterministic network with a virtual clock, to test your own programs on.

Programs run unchanged: on a VirtualLoop the library uses its simulated network instead of the system's. Nothing takes
real time, every fault comes from one seed, and a round trip takes exactly as long as the links say.

    from taps_security import simulation

    async def main(network):
        network.connect("client", "server", delay=0.02)       # two hosts, 20 ms each way
        server = network.host("server").run(serve())          # both are ordinary asyncio programs
        with network.host("client"):
            await talk_to("server")

    simulation.run(main, seed=1)

`loop` has the clock, `network` the hosts, names, partitions and the packet log, `links` the conditions between two
hosts, `nat` address translators, `streams` and `datagrams` the models of TCP and UDP.
"""

from .datagrams import SimulatedDatagramSocket
from .hosts import Host
from .links import Link, Packet
from .loop import Deadlock, VirtualLoop, run
from .names import Name, Names
from .nat import Nat
from .network import HostNetwork, Network, TraceEntry
from .streams import SimulatedListener, SimulatedStream

__all__ = [
    "Deadlock",
    "Host",
    "HostNetwork",
    "Link",
    "Name",
    "Names",
    "Nat",
    "Network",
    "Packet",
    "SimulatedDatagramSocket",
    "SimulatedListener",
    "SimulatedStream",
    "TraceEntry",
    "VirtualLoop",
    "run",
]
