"""Where time goes without sockets and loops: `python -m benchmarks.micro`.

Two TLS stacks in one process hand each other octets, as two drivers would. Figures are the best of several runs.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.credentials import write_credentials
from benchmarks.jobs import SERVER_NAME
from benchmarks.ours import CIPHERSUITES
from taps_security.crypto.aead import AES_256_GCM, new_aead
from taps_security.crypto.signature import SignatureScheme, sign
from taps_security.crypto.trust import TrustAnchors, verify_chain
from taps_security.properties.credentials import Identity
from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.properties.security import SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.properties.trust import Trust
from taps_security.protocols.registry import ClientRequest, Environment, ServerRequest, descriptor
from taps_security.protocols.tls.options import TlsOptions
from taps_security.stack.asks import Ask, ChooseIdentity, Sign, VerifyPeer
from taps_security.stack.events import Received
from taps_security.stack.layers import PathFacts, Slab
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, Inbound, SecurityStack

RECORD = 16384
SLAB = 280 * 1024
FACTS = PathFacts(("127.0.0.1", 1), ("127.0.0.1", 2), reliable=True)


class End:
    """One stack with its slab; `spent` are the seconds that its calls took."""

    def __init__(self, stack: SecurityStack, answer: Callable[[Any], object]) -> None:
        self.stack = stack
        self.answer = answer
        self.received = 0
        self.spent = 0.0

    def drain(self) -> None:
        """Take every event: asks are answered, octets counted and consumed."""
        while self.stack.events:
            event = self.stack.events.popleft()
            if isinstance(event, Ask):
                self.stack.answer(event.id, self.answer(event.request), 0.0)
            elif isinstance(event, Received):
                octets = sum(map(len, event.chunks))
                self.received += octets
                self.stack.consumed(0, octets, 0.0)

    def start(self) -> None:
        begin = perf_counter()
        self.stack.start(0, FACTS, 0.0)
        self.drain()
        self.spent += perf_counter() - begin

    def take(self, octets: memoryview) -> None:
        """Feed what came; an answered ask lets the stack go on with the rest."""
        while len(octets):
            consumed = self.stack.receive(Inbound(octets), 0.0)
            self.drain()
            octets = octets[consumed:]

    def give(self, slab: Slab, other: End) -> bool:
        """Move what is pending to the other end."""
        begin = perf_counter()
        out = self.stack.transmit(slab, 1, 0.0) if self.stack.pending else None
        middle = perf_counter()
        self.spent += middle - begin
        if out is None:
            return False
        other.take(slab.view[: out.length])
        other.spent += perf_counter() - middle
        return True


class Pair:
    """A client and a server with the benchmark's certificates."""

    def __init__(self, folder: Path) -> None:
        options = {"tls": TlsOptions(ciphersuites=CIPHERSUITES, tickets=0)}
        identity = Identity.file(folder / f"{SERVER_NAME}.pem", folder / f"{SERVER_NAME}.key")
        environment = Environment(random=os.urandom, wall_clock=time.time)
        tls, transport = descriptor("tls"), TransportProperties()
        self.anchors = TrustAnchors.from_file(str(folder / "ca.pem"))
        self.identity = identity.loaded
        self.client_request = ClientRequest(
            version="1.3",
            security=SecurityParameters(trust=Trust.file(str(folder / "ca.pem")), options=options),
            transport=transport,
            endpoint=RemoteEndpoint(ip_address="127.0.0.1", port=1),
            server_name=SERVER_NAME,
            environment=environment,
        )
        self.make_client = tls.client
        self.screener: Any = tls.screener(
            ServerRequest(
                versions=("1.3",),
                security=SecurityParameters(identity=identity, options=options),
                transport=transport,
                endpoint=LocalEndpoint(port=1),
                environment=environment,
            )
        )
        self.slab = _slab()

    def answer(self, request: object) -> object:
        """What the API answers, without a callback of the application."""
        if isinstance(request, VerifyPeer):
            return verify_chain(self.anchors, request.chain, request.name, time.time(), "server")
        if isinstance(request, ChooseIdentity):
            return self.identity
        assert isinstance(request, Sign)
        assert self.identity.private_key is not None
        return sign(self.identity.private_key, SignatureScheme(request.algorithm), request.data)

    def handshake(self) -> tuple[End, End]:
        """Both ends, after a whole handshake."""
        begin = perf_counter()
        client = End(self.make_client(self.client_request), self.answer)
        middle = perf_counter()
        server = End(self.screener.accept(0.0), self.answer)
        client.spent, server.spent = middle - begin, perf_counter() - middle
        client.start()
        server.start()
        while client.give(self.slab, server) or server.give(self.slab, client):
            pass
        return client, server


def _slab() -> Slab:
    buffer = bytearray(SLAB)
    return Slab(buffer, memoryview(buffer))


def best_of(runs: int, measure: Callable[[], float]) -> float:
    """The smallest of several measurements."""
    return min(measure() for _ in range(runs))


def handshakes(pair: Pair, count: int = 100) -> tuple[float, float]:
    """Microseconds of client and server for a full handshake, chain checked by the client."""
    ends = [pair.handshake() for _ in range(count)]
    middle = count // 2
    client = sorted(client.spent for client, _ in ends)[middle]
    server = sorted(server.spent for _, server in ends)[middle]
    return client * 1e6, server * 1e6


def bulk(pair: Pair, chunk: int = 256 * 1024, count: int = 200) -> tuple[float, float]:
    """GB/s of sealing and of opening, through the stack."""
    client, server = pair.handshake()
    data = bytes(chunk)
    client.spent = server.spent = 0.0
    for _ in range(count):
        client.stack.send(0, (data,), DEFAULT_SEND_OPTIONS, 0.0)
        while client.give(pair.slab, server):
            pass
    assert server.received == chunk * count
    return chunk * count / client.spent / 1e9, chunk * count / server.spent / 1e9


def small_sends(pair: Pair, size: int = 1024, burst: int = 128, count: int = 200) -> float:
    """Microseconds of the sender for each of many small sends that share records."""
    client, server = pair.handshake()
    data = bytes(size)
    client.spent = 0.0
    for _ in range(count):
        begin = perf_counter()
        for _ in range(burst):
            client.stack.send(0, (data,), DEFAULT_SEND_OPTIONS, 0.0)
        client.spent += perf_counter() - begin
        while client.give(pair.slab, server):
            pass
    return client.spent / (burst * count) * 1e6


def echo(pair: Pair, size: int = 64, count: int = 5000) -> float:
    """Microseconds of both ends for one round trip."""
    client, server = pair.handshake()
    data = bytes(size)
    begin = perf_counter()
    for _ in range(count):
        client.stack.send(0, (data,), DEFAULT_SEND_OPTIONS, 0.0)
        client.give(pair.slab, server)
        server.stack.send(0, (data,), DEFAULT_SEND_OPTIONS, 0.0)
        server.give(pair.slab, client)
    seconds = perf_counter() - begin
    assert client.received == server.received == size * count
    return seconds / count * 1e6


def aead(size: int, count: int = 5000) -> float:
    """GB/s of the cipher alone, in place: the bound of what sealing can reach."""
    cipher = new_aead(AES_256_GCM, bytes(32))
    buffer = memoryview(bytearray(size + 16))
    plain, nonce = buffer[:size], bytes(12)
    begin = perf_counter()
    for _ in range(count):
        cipher.encrypt_into(nonce, plain, b"12345", buffer)
    return size * count / (perf_counter() - begin) / 1e9


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        write_credentials(Path(folder))
        pair = Pair(Path(folder))
    for _ in range(20):
        pair.handshake()
    client, server = handshakes(pair)
    print(f"handshake    client {client:8.1f} us   server {server:8.1f} us")
    speeds = [bulk(pair) for _ in range(5)]
    print(f"bulk         seal {max(s for s, _ in speeds):6.2f} GB/s   open {max(o for _, o in speeds):6.2f} GB/s")
    print(f"cipher alone {max(aead(RECORD) for _ in range(3)):6.2f} GB/s")
    print(f"1 KiB send   {best_of(5, lambda: small_sends(pair)):6.2f} us")
    print(f"64-byte echo {best_of(5, lambda: echo(pair)):6.2f} us for both ends")


if __name__ == "__main__":
    main()
