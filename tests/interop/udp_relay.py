"""A bad path between two real ends: a UDP relay that drops, holds back and doubles datagrams, by a seed."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias, cast

from tests.interop.peers import HOST

Address: TypeAlias = tuple[str, int]
Way: TypeAlias = Literal["up", "down"]  # to the server, from it

HELD = 0.03  # seconds at most, so that the last datagram arrives too
BUFFER = 4 << 20


@dataclass
class Relay:
    """What it does to each datagram, as fractions; what it did, by way and deed.

    `reorder`: a datagram waits until the next one of its way went. `sizes`: the lengths of what came each way.
    """

    drop: float = 0.0
    reorder: float = 0.0
    double: float = 0.0
    seed: int = 1
    port: int = 0
    did: Counter[tuple[Way, str]] = field(default_factory=Counter)
    sizes: dict[Way, list[int]] = field(default_factory=lambda: {"up": [], "down": []})


class _Half(asyncio.DatagramProtocol):
    """One way: what comes to this socket goes out by the other half's."""

    def __init__(self, relay: Relay, way: Way, peer: Address | None) -> None:
        self.relay = relay
        self.way: Way = way
        self.peer = peer  # whoever sends to this socket
        self.other: _Half | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self.random = Random(f"{relay.seed} {way}")
        self.held: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # what is lost here, the seed loses
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, BUFFER)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        relay = self.relay
        relay.sizes[self.way].append(len(data))
        if self.way == "up":
            self.peer = addr
        chance = self.random.random()
        if chance < relay.drop:
            self._note("dropped")
            return
        if chance < relay.drop + relay.reorder:
            self._note("held")
            self.held.append(data)
            asyncio.get_running_loop().call_later(HELD, self._let_go)
            return
        self._send(data)
        if chance > 1.0 - relay.double:
            self._note("doubled")
            self._send(data)
        self._let_go()

    def _note(self, deed: str) -> None:
        self.relay.did[self.way, deed] += 1

    def _let_go(self) -> None:
        held, self.held = self.held, []
        for data in held:
            self._send(data)

    def _send(self, data: bytes) -> None:
        other = self.other
        if other is not None and other.transport is not None and other.peer is not None:
            self._note("sent")
            other.transport.sendto(data, other.peer)


@asynccontextmanager
async def relay(server_port: int, *, port: int = 0, **deeds: float) -> AsyncIterator[Relay]:
    """Between a client, which sends to the relay's port, and the server on `server_port`."""
    made = Relay(**deeds)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    up, down = _Half(made, "up", None), _Half(made, "down", (HOST, server_port))
    up.other, down.other = down, up
    front, _ = await loop.create_datagram_endpoint(lambda: up, local_addr=(HOST, port))
    back, _ = await loop.create_datagram_endpoint(lambda: down, local_addr=(HOST, 0))
    made.port = front.get_extra_info("sockname")[1]
    try:
        yield made
    finally:
        front.close()
        back.close()
        await asyncio.sleep(0)
