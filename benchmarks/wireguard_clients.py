"""Many WireGuard peers against one responder: `python -m benchmarks.wireguard_clients JOB HOST PUBLIC_KEY`.

Each peer has a key of its own and does one handshake, which it confirms. The initiations are made before the clock
runs, so that it measures the responder. `Job.connections` of them are under way at a time. Prints {"value":
handshakes/s}.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from os import urandom
from time import perf_counter

from benchmarks.jobs import Job
from taps_security.crypto.blake2s import mac128
from taps_security.crypto.sodium import chacha20_seal, scalarmult_base
from taps_security.protocols.wireguard.keys import (
    IDENTIFIER,
    NO_PRESHARED_KEY,
    SymmetricState,
    dh,
    mac1_key,
    read_response_untrusted,
    write_initiation,
)
from taps_security.protocols.wireguard.wire import (
    MAC_SIZE,
    RESPONSE,
    TRANSPORT,
    TRANSPORT_HEADER,
    Initiation,
    Response,
    parse_untrusted,
)

REPEAT = 1.0  # seconds without any answer until initiations are sent again
GIVE_UP = 30.0
BUFFER = 4 << 20
TAI_OFFSET = 0x4000_0000_0000_000A


def private_key(number: int) -> bytes:
    """Of the responder (0), or of one of its peers: the same in every process."""
    return sha256(f"benchmark key {number}".encode()).digest()


def public_key(number: int) -> bytes:
    """The public half of `private_key`."""
    return scalarmult_base(private_key(number))


def address(number: int) -> str:
    """A peer's inner address."""
    return f"10.{88 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


class Client:
    """One peer with its initiation."""

    def __init__(self, number: int, responder: bytes) -> None:
        self.number, self.responder = number, responder
        self.private = private_key(number)
        self.index = number.to_bytes(4, "little")
        self.state = SymmetricState.initialize(IDENTIFIER, responder)
        secret = urandom(32)
        self.ephemeral = secret, scalarmult_base(secret)
        own = scalarmult_base(self.private)
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        stamp = (TAI_OFFSET + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")
        sealed = write_initiation(self.state, self.ephemeral, own, responder, dh(self.private, responder), stamp)
        message = Initiation(self.index, self.ephemeral[1], *sealed).encode()
        body = message[: -2 * MAC_SIZE]
        self.initiation = body + mac128(mac1_key(responder), body) + bytes(MAC_SIZE)

    def keepalive(self, response: Response) -> bytes:
        """The first message under the keys that the response makes: it confirms them."""
        read_response_untrusted(
            self.state, self.ephemeral[0], self.private, response.ephemeral, NO_PRESHARED_KEY, response.nothing
        )
        send, _ = self.state.split()
        header = TRANSPORT_HEADER.pack(TRANSPORT, response.sender, 0)
        return header + chacha20_seal(send, bytes(12), b"", b"")


def handshakes(sock: socket.socket, clients: Sequence[Client], at_a_time: int) -> float:
    """One handshake for each client: the seconds that they took together. `sock` is connected."""
    todo = list(reversed(clients))
    waiting: dict[bytes, Client] = {}
    sock.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    start = heard = perf_counter()
    while todo or waiting:
        while todo and len(waiting) < at_a_time:
            client = todo.pop()
            waiting[client.index] = client
            sock.send(client.initiation)
        if not selector.select(REPEAT):
            if perf_counter() - heard > GIVE_UP:
                raise TimeoutError(f"no answer; {len(todo) + len(waiting)} of {len(clients)} handshakes missing")
            for client in tuple(waiting.values()):  # anew: the same one would be a replay
                waiting[client.index] = again = Client(client.number, client.responder)
                sock.send(again.initiation)
            continue
        while True:
            try:
                message = sock.recv(2048)
            except BlockingIOError:
                break
            heard = perf_counter()
            if message[0] == RESPONSE:
                done = waiting.pop(message[8:12], None)
                if done is not None:
                    response = parse_untrusted(message)
                    assert isinstance(response, Response)
                    sock.send(done.keepalive(response))
    selector.close()
    return perf_counter() - start


def connected(host: str, port: int) -> socket.socket:
    """A UDP socket to the responder."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.connect((host, port))
    return sock


def rate(job: Job, host: str, responder: bytes) -> float:
    """Handshakes per second of `job.count` peers, after `job.warm` others."""
    first = [Client(number, responder) for number in range(1, job.warm + 1)]
    then = [Client(number, responder) for number in range(job.warm + 1, job.warm + job.count + 1)]
    with connected(host, job.port) as sock:
        handshakes(sock, first, job.connections)
        return job.count / handshakes(sock, then, job.connections)


def main() -> None:
    """The command."""
    job, host, responder = Job.from_json(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
    print(json.dumps({"value": rate(job, host, responder)}))


if __name__ == "__main__":
    main()
