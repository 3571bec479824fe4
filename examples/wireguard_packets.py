"""Raw IP packets of a tunnel, for programs with an IP stack of their own. Here it is a very small one.

    python examples/wireguard_packets.py                 two tunnels on loopback, one asks, the other answers
    python examples/wireguard_packets.py wg0.conf        answers pings to *all* addresses that its peers send to

While somebody takes the packets of a tunnel, the tunnel itself answers no ping and refuses no port. TCP would be here
too: the packets are whole, and what is in them is up to you. examples/wireguard_tun.py gives them to the kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
from collections.abc import Sequence

import taps_security as taps

ICMP, UDP = 1, 17
ECHO_REQUEST, ECHO_REPLY = 8, 0
ASKING, ANSWERING = "10.88.0.2", "10.88.0.1"


# ------------------------------------------------------------------------------------------------ a very small IP stack
def checksum(octets: bytes) -> bytes:
    """RFC 1071."""
    octets += bytes(len(octets) % 2)
    total = sum(int.from_bytes(octets[at : at + 2], "big") for at in range(0, len(octets), 2))
    return (-total % 0xFFFF).to_bytes(2, "big")


def ipv4(source: bytes, destination: bytes, protocol: int, body: bytes) -> bytes:
    """A packet (RFC 791)."""
    head = bytes((0x45, 0)) + (20 + len(body)).to_bytes(2, "big") + bytes(4) + bytes((64, protocol))
    return head + checksum(head + source + destination) + source + destination + body


def echo(kind: int, rest: bytes) -> bytes:
    """An ICMP echo request or reply (RFC 792). `rest`: identifier, sequence number and data."""
    return bytes((kind, 0)) + checksum(bytes((kind, 0)) + rest) + rest


def udp(source: bytes, destination: bytes, ports: tuple[int, int], data: bytes) -> bytes:
    """A datagram without checksum, as RFC 768 allows over IPv4, in its packet."""
    head = b"".join(number.to_bytes(2, "big") for number in (*ports, 8 + len(data), 0))
    return ipv4(source, destination, UDP, head + data)


def answer(packet: bytes) -> bytes | None:
    """What a host says to a ping; None to anything else."""
    if packet[0] != 0x45 or packet[9] != ICMP or packet[20] != ECHO_REQUEST:
        return None
    return ipv4(packet[16:20], packet[12:16], ICMP, echo(ECHO_REPLY, packet[24:]))


# -------------------------------------------------------------------------------------------------------------- tunnels
def within(options: taps.WireGuardOptions) -> taps.Preconnection:
    """What is declared for a tunnel with these options."""
    return taps.Preconnection(
        transport_properties=taps.TransportProperties.unreliable_datagram(),
        security_parameters=taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": options}),
    )


async def serve(options: taps.WireGuardOptions) -> None:
    """Answer until cancelled."""
    async with await within(options).tunnel() as tunnel:
        await answer_all(tunnel)


async def answer_all(tunnel: taps.Tunnel) -> None:
    """Answer whoever asks, until cancelled."""
    with tunnel.packets() as packets:
        while True:
            received = [bytes(packet) for packet in await packets.receive()]
            await packets.send([reply for reply in map(answer, received) if reply is not None])
            for packet in received:
                if packet[0] == 0x45 and packet[9] == UDP:
                    print(f"the server got a datagram: {packet[28:].decode('utf-8', 'replace')}")


async def ask(options: taps.WireGuardOptions) -> None:
    """Send a datagram that was made by hand, then a ping, and print what comes back."""
    ours, theirs = ipaddress.ip_address(ASKING).packed, ipaddress.ip_address(ANSWERING).packed
    async with await within(options).tunnel() as tunnel:
        with tunnel.packets() as packets:
            await packets.send([udp(ours, theirs, (4000, 4001), b"made by hand")])
            await packets.send([ipv4(ours, theirs, ICMP, echo(ECHO_REQUEST, b"\0\1\0\1" + b"are you there?"))])
            for packet in map(bytes, await asyncio.wait_for(packets.receive(), 5)):
                source = ipaddress.ip_address(packet[12:16])
                print(f"{source} answered: protocol {packet[9]}, type {packet[20]}, {packet[28:].decode()}")


async def both() -> None:
    """Two tunnels on loopback."""
    keys: Sequence[bytes] = os.urandom(32), os.urandom(32)
    server, client = (
        taps.WireGuardOptions(private_key=key, addresses=[f"{host}/24"])
        for key, host in zip(keys, (ANSWERING, ASKING), strict=True)
    )
    known = taps.WireGuardPeer(public_key=client.public_key, allowed_ips=[f"{ASKING}/32"])
    async with await within(server.with_peer(known)).tunnel() as tunnel:
        serving = asyncio.create_task(answer_all(tunnel))
        peer = taps.WireGuardPeer(
            public_key=server.public_key, endpoint=("127.0.0.1", tunnel.port), allowed_ips=[f"{ANSWERING}/32"]
        )
        await ask(client.with_peer(peer))
        serving.cancel()
        await asyncio.wait([serving])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="raw packets of a WireGuard tunnel")
    parser.add_argument("file", nargs="?", help="as wg-quick has it: answer pings in that tunnel until interrupted")
    given = parser.parse_args()
    asyncio.run(serve(taps.WireGuardOptions.file(given.file)) if given.file else both())


if __name__ == "__main__":
    main()
