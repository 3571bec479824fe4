"""Handshake initiations of strangers: `python tests/interop/flood.py HOST PORT PUBLIC_KEY COUNT NETWORK BURST PAUSE`.

Whoever knows a responder's public key can write MAC1, so these have a valid one; all the rest is random. Each comes
from a random address of NETWORK (10.66: that is 10.66.0.0/16), of which this host must own all (Namespace.own_all_of).
BURST of them go at once, then comes a PAUSE (seconds). At the end it writes one line of JSON: how many were sent, what
came back by type (2: responses, 3: cookie replies), and the seconds that it took.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from base64 import b64decode
from collections import Counter
from hashlib import blake2s
from random import Random

INITIATION = b"\x01\0\0\0"
BODY = 116  # octets before MAC1
IP_PKTINFO = 8  # of Linux; the socket module has no name for it
BUFFER = 8 << 20
LINGER = 1.0  # seconds that the last answers have


class Flood:
    """One socket that sends from any address of the network, and counts what comes back."""

    def __init__(self, host: str, port: int, public_key: bytes, network: str) -> None:
        self.target = (host, port)
        self.prefix = bytes(map(int, network.split(".")))
        self.key = blake2s(b"mac1----" + public_key).digest()
        self.random = Random(1)
        self.came: Counter[int] = Counter()
        self.sent = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self.socket.bind(("0.0.0.0", 0))
        self.socket.setblocking(False)
        self.body = bytearray(INITIATION + os.urandom(BODY - 4))

    def send(self, count: int) -> None:
        """So many initiations, each of a new index and address."""
        body, key, draw, target = self.body, self.key, self.random.getrandbits, self.target
        for _ in range(count):
            body[4:8] = draw(32).to_bytes(4, "little")
            message = body + blake2s(body, digest_size=16, key=key).digest() + bytes(16)
            address = self.prefix + draw(16).to_bytes(2, "big")
            # in_pktinfo: interface, the source address, an address that only receiving fills
            source = (socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + address + bytes(4))
            try:
                self.socket.sendmsg([message], [source], 0, target)
            except BlockingIOError:
                select.select([], [self.socket], [], 1.0)
                continue
            self.sent += 1

    def collect(self) -> None:
        """Count the answers that are there."""
        while True:
            try:
                self.came[self.socket.recv(2048)[0]] += 1
            except (BlockingIOError, ConnectionError):
                return


def main() -> None:
    """Flood, and tell."""
    host, port, key, count, network, burst, pause = sys.argv[1:]
    flood = Flood(host, int(port), b64decode(key), network)
    print("ready", flush=True)
    start = time.monotonic()
    while flood.sent < int(count):
        flood.send(min(int(burst), int(count) - flood.sent))
        flood.collect()
        time.sleep(float(pause))
    seconds = time.monotonic() - start
    end = time.monotonic() + LINGER
    while time.monotonic() < end:
        select.select([flood.socket], [], [], 0.1)
        flood.collect()
    print(json.dumps({"sent": flood.sent, "came": flood.came, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
