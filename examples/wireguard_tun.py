"""A WireGuard interface in Python: a TUN device whose packets go through taps_security. Linux, and root.

    python examples/wireguard_tun.py wg0.conf            the interface is called wg0, as wg-quick would call it
    python examples/wireguard_tun.py peer.conf taps0     another name

It runs until it is interrupted, then the interface is gone. The file is one of wg-quick; commands in it (PostUp and the
like) are not run, and a default route is left to you: it needs policy routing, so that the tunnel's own datagrams do
not go into the tunnel.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from tun_device import Tun

import taps_security as taps


async def outwards(tun: Tun, packets: taps.Packets) -> None:
    """Packets of the kernel go to the peer that their destination belongs to."""
    while True:
        batch = tun.read()
        if batch:
            await packets.send(batch)
            await asyncio.sleep(0)  # let them be sealed and sent
        else:
            await tun.readable()


async def inwards(tun: Tun, packets: taps.Packets) -> None:
    """Packets of peers go to the kernel. They are lent until the next receive(), and the kernel has copied them."""
    while True:
        tun.write(await packets.receive())


async def carry(options: taps.WireGuardOptions, name: str) -> None:
    """Carry packets until SIGINT or SIGTERM."""
    here = taps.Preconnection(
        transport_properties=taps.TransportProperties.unreliable_datagram(),
        security_parameters=taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": options}),
    )
    routes = [network for peer in options.peers for network in peer.allowed_ips if not network.endswith("/0")]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tun = Tun(name)
    try:
        async with await here.tunnel() as tunnel:
            with tunnel.packets() as packets:
                tun.configure(options.addresses, options.mtu, routes)
                print(f"{name} is up, on port {tunnel.port}", flush=True)
                works = outwards(tun, packets), inwards(tun, packets), stop.wait()
                tasks = [asyncio.create_task(work) for work in works]
                done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in others:
                    task.cancel()
                for task in done:
                    task.result()  # what ended it, if nobody asked for the end
            for peer in tunnel.status():
                transfer = peer["transfer"]
                print(f"{peer['public_key']}: {transfer['received']} octets received, {transfer['sent']} sent")
    finally:
        tun.close()


def main() -> int:
    """Read the command line and carry. 1 with one line of reasons if it cannot be done."""
    parser = argparse.ArgumentParser(description="a WireGuard interface")
    parser.add_argument("file", help="as wg-quick has it: [Interface] and [Peer]")
    parser.add_argument("name", nargs="?", help="of the interface; the file's name without it")
    given = parser.parse_args()
    try:
        asyncio.run(carry(taps.WireGuardOptions.file(given.file), given.name or Path(given.file).stem))
    except (taps.TapsError, OSError, subprocess.CalledProcessError) as error:
        print(f"wireguard_tun: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
