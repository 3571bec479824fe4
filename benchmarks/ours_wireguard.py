"""WireGuard through the public API of taps_security, two processes over loopback, in the shapes of the works below.

    bulk        "batches": send([...]) of 64 messages and receive_views(); "single": send() and receive_views()
    echo        send() and receive(), one at a time
    handshakes  one responder of ours; its peers are benchmarks.wireguard_clients
    idle        the same, each peer with confirmed keys

Bulk counts what arrived, as iperf3 does with UDP; the receiver's clock runs from its first message to its last. Its
messages are random: sums of zeros would be cheaper. Setting `checksums`: 0 leaves the UDP checksums inside out, by a
`full_checksum_send` without a preference; else they are computed, as by default.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from time import perf_counter
from typing import TYPE_CHECKING, Any

import taps_security as taps
from benchmarks import clock
from benchmarks.wireguard_clients import Client, address, connected, handshakes, private_key, public_key
from taps_security.protocols.wireguard.screening import WireGuardScreener

if TYPE_CHECKING:
    from benchmarks.jobs import Job

HOST = "127.0.0.1"
SERVER, PORT = "10.80.0.1", 7
MTU = 1_440  # as for the peer
BATCH = 64
REPEAT = 0.2  # seconds until the receiver is asked again
MANY = 1 << 30


def options(own: int, peers: dict[int, int], port: int = 0) -> taps.WireGuardOptions:
    """Ours with that key. `peers`: number of each, and its outer port (0: unknown)."""
    return taps.WireGuardOptions(
        private_key=private_key(own),
        addresses=[f"{_inner(own)}/8"],
        listen_port=port,
        mtu=MTU,
        peers=[
            taps.WireGuardPeer(
                public_key=public_key(number),
                endpoint=(HOST, outer) if outer else None,
                allowed_ips=[f"{_inner(number)}/32"],
            )
            for number, outer in peers.items()
        ],
    )


def _inner(number: int) -> str:
    return address(number) if number else SERVER


def preconnection(chosen: taps.WireGuardOptions, *, checksums: int = 1, **endpoints: Any) -> taps.Preconnection:
    """A Preconnection over that tunnel."""
    wanted = taps.TransportProperties.unreliable_datagram()
    return taps.Preconnection(
        transport_properties=wanted if checksums else wanted.no_preference("full_checksum_send"),
        security_parameters=taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": chosen}),
        **endpoints,
    )


# -- server ---------------------------------------------------------------------------------------------------------
async def count(connection: taps.Connection) -> None:
    """Count what comes; a message that begins with b"?" is answered with how many, their octets, and the seconds."""
    messages = octets = 0
    first = last = 0.0
    while True:
        for view in await connection.receive_views():
            if view[0] != 0x3F:
                if not messages:
                    first = perf_counter()
                messages += 1
                octets += len(view)
                continue
            await connection.send(json.dumps((messages, octets, last - first)).encode())
            messages = octets = 0
        last = perf_counter()


async def echo(connection: taps.Connection) -> None:
    """Send back what comes."""
    async for message in connection:
        await connection.send(message.data)


async def serve(job: Job) -> tuple[int, object]:
    """Start the server of the job's work: the tunnel's outer port, and what keeps it alive."""
    if job.work in {"handshakes", "idle"}:  # peers come as fast as they can: that is no attack
        WireGuardScreener.__init__.__kwdefaults__["loaded_above"] = MANY  # type: ignore[index]
    few = {"handshakes": job.warm + job.count, "idle": job.warm}.get(job.work, 1)
    known = dict.fromkeys(range(1, few + 1), 0)
    chosen = options(0, known)
    tunnel = await preconnection(chosen).tunnel()
    await tunnel.__aenter__()
    listener = await preconnection(chosen, local_endpoints=[taps.LocalEndpoint(ip_address=SERVER, port=PORT)]).listen()

    async def more(connection: taps.Connection) -> None:
        """Configure all further peers of an idle measurement when somebody asks for it."""
        async for message in connection:
            if message.data == b"more" and len(tunnel.status()) <= job.warm:
                await tunnel.apply(options(0, dict.fromkeys(range(1, job.warm + job.count + 1), 0)))
            await connection.send(message.data)

    handler = {"bulk": count, "idle": more}.get(job.work, echo)
    return tunnel.port, (tunnel, listener, asyncio.create_task(listener.serve(handler)))


# -- client ---------------------------------------------------------------------------------------------------------
async def bulk(job: Job, connection: taps.Connection, messages: int) -> float:
    """Send so many messages: the octets per second that arrived."""
    body, send = b"!" + os.urandom(job.size - 1), connection.send
    if job.shape == "batches":
        batch = [body] * BATCH
        for _ in range(messages // BATCH):
            await send(batch)
    else:
        for _ in range(messages):
            await send(body)
    while True:
        await send(b"?")
        try:
            _, octets, seconds = json.loads((await connection.receive(timeout=REPEAT)).data)
        except TimeoutError:
            continue
        return float(octets / seconds)


async def echoes(job: Job, connection: taps.Connection, rounds: int) -> float:
    """Round trips per second."""
    body = bytes(job.size)
    start = perf_counter()
    for _ in range(rounds):
        await connection.send(body)
        await connection.receive()
    return rounds / (perf_counter() - start)


async def idle(job: Job, connection: taps.Connection) -> float:
    """Octets of PSS by which each peer with keys, its configuration included, makes the server grow."""
    responder = public_key(0)

    async def begun(numbers: range) -> None:
        clients = [Client(number, responder) for number in numbers]
        with connected(HOST, job.port) as sock:
            await asyncio.to_thread(handshakes, sock, clients, job.connections)

    async def ask(message: bytes) -> None:
        await connection.send(message)
        assert (await connection.receive(timeout=30.0)).data == message

    await begun(range(2, job.warm + 1))
    await ask(b"here")
    before = await clock.server_memory(job)
    await ask(b"more")
    await begun(range(job.warm + 1, job.warm + job.count + 1))
    await ask(b"here")
    after = await clock.server_memory(job)
    return (after - before) / job.count


async def work(job: Job) -> float:
    """Do the client's half of the job's work: its value."""
    if job.work == "handshakes":
        from benchmarks.wireguard_clients import rate

        return rate(job, HOST, public_key(0))
    remote = taps.RemoteEndpoint(ip_address=SERVER, port=PORT)
    ours = preconnection(
        options(1, {0: job.port}), checksums=job.settings.get("checksums", 1), remote_endpoints=[remote]
    )
    connection = await ours.initiate(timeout=30.0)
    if job.work == "idle":
        return await idle(job, connection)
    measured = bulk if job.work == "bulk" else echoes
    await measured(job, connection, job.warm)
    gc.collect()
    return await measured(job, connection, job.count)
