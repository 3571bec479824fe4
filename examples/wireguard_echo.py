"""Messages to an echo service behind a WireGuard peer, which may be any WireGuard: the kernel's, wireguard-go, ours.

    python examples/wireguard_echo.py wg0.conf 10.88.0.2 7 hello world

The file is one of wg-quick. No interface is made, so no rights are needed: the IP and UDP inside the tunnel are ours.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import taps_security as taps


async def talk(options: taps.WireGuardOptions, host: str, port: int, lines: list[str]) -> None:
    """One inner flow for all lines. Messages may be lost as datagrams are: each is sent until it comes back."""
    client = taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address=host, port=port)],  # inside the tunnel
        transport_properties=taps.TransportProperties.unreliable_datagram(),
        security_parameters=taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": options}),
    )
    async with await client.initiate(timeout=10) as connection:
        report = connection.security
        print(f"{report.stack} {report.version}: {', '.join(report.algorithms.values())}; the peer is {report.peer}")
        for line in lines:
            print(await ask(connection, line.encode()))


async def ask(connection: taps.Connection, message: bytes) -> str:
    """What comes back. TimeoutError after three tries."""
    for patience in (1, 2, 4):
        await connection.send(message)
        try:
            return bytes(await connection.receive(timeout=patience)).decode()
        except TimeoutError:
            continue
    raise TimeoutError("nothing came back")


def main() -> int:
    """Read the command line and talk. 1 with one line of reasons if that cannot be."""
    parser = argparse.ArgumentParser(description="an echo client inside a WireGuard tunnel")
    parser.add_argument("file", help="as wg-quick has it: [Interface] and [Peer]")
    parser.add_argument("host", help="address of the echo service inside the tunnel")
    parser.add_argument("port", type=int)
    parser.add_argument("lines", nargs="*", default=["hello"])
    given = parser.parse_args()
    try:
        asyncio.run(talk(taps.WireGuardOptions.file(given.file), given.host, given.port, given.lines))
    except (taps.TapsError, TimeoutError) as error:
        print(f"wireguard_echo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
