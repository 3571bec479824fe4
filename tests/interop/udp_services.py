"""UDP programs that run inside a namespace, beside a tunnel: `python tests/interop/udp_services.py WORK HOST PORT ...`.

echo HOST PORT                 send back what comes; writes "ready"
sink HOST PORT                 count; a datagram that begins with b"?" is answered with "COUNT OCTETS"; writes "ready"
swap HOST PORT COUNT SIZE WINDOW [SOURCE]
                               send COUNT numbered datagrams to an echo service, WINDOW at a time, until each came back
                               as it was; writes {"count", "octets", "repeated", "seconds"}
pump HOST PORT COUNT SIZE      send COUNT datagrams without waiting, then ask the sink how many came; writes its answer
ping HOST PORT COUNT SIZE      COUNT round trips, one at a time; writes {"count", "seconds", "lost"}
relay HOST PORT OURS OURS_PORT OUTSIDE OUTSIDE_PORT THEIRS THEIRS_PORT
                               a translator of addresses: what comes to HOST:PORT goes to THEIRS from OUTSIDE, what
                               comes to OUTSIDE goes to OURS from HOST:PORT; on a line of input it forgets its outside
                               port and takes a new one; writes "ready" at first, and each time

Blocking sockets of the standard library and nothing of this project: what these programs see is the kernel and the
tunnel alone. All write one line of JSON on standard output, except where "ready" is said.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from typing import cast

REPEAT = 0.5  # seconds without any answer until datagrams are sent again
GIVE_UP = 30.0  # seconds without any answer until the program gives up
BUFFER = 4 << 20


def open_socket(host: str, port: int, *, bind: bool, source: str = "") -> socket.socket:
    """A UDP socket that is bound to, or sends to, this address; `source` binds the sender to its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    if bind:
        made.bind((host, port))
        return made
    if source:
        made.bind((source, 0))
    made.connect((host, port))
    return made


def tell(line: str) -> None:
    """One line for whoever started this program."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def echo(host: str, port: int) -> None:
    """Send back what comes, for ever."""
    sock = open_socket(host, port, bind=True)
    tell("ready")
    buffer = bytearray(65536)
    view = memoryview(buffer)
    receive, send = sock.recvfrom_into, sock.sendto
    while True:
        length, source = receive(buffer)
        send(view[:length], source)


def sink(host: str, port: int) -> None:
    """Count what comes, for ever."""
    sock = open_socket(host, port, bind=True)
    tell("ready")
    buffer = bytearray(65536)
    count = octets = 0
    receive = sock.recvfrom_into
    while True:
        length, source = receive(buffer)
        if length and buffer[0] == 0x3F:
            sock.sendto(f"{count} {octets}".encode(), source)
            count = octets = 0
        else:
            count += 1
            octets += length


def swap(host: str, port: int, count: int, size: int, window: int, source: str = "") -> None:
    """Everything there and back, with repetition of what got lost."""
    sock = open_socket(host, port, bind=False, source=source)
    sock.settimeout(REPEAT)
    body = os.urandom(size - 8)
    start = heard = time.monotonic()
    repeated = 0
    for first in range(0, count, window):
        waiting = set(range(first, min(first + window, count)))
        todo = sorted(waiting)
        while waiting:
            for number in todo:
                sock.send(number.to_bytes(8, "big") + body)
            todo = []
            try:
                while waiting:
                    data = sock.recv(65536)
                    heard = time.monotonic()
                    if data[8:] != body:
                        raise SystemExit(f"came back changed: {data[:64].hex()}")
                    waiting.discard(int.from_bytes(data[:8], "big"))
            except (TimeoutError, ConnectionError):
                if time.monotonic() - heard > GIVE_UP:
                    raise SystemExit(f"no answer; {len(waiting)} of {count} from {first} missing") from None
                todo = sorted(waiting)
                repeated += len(todo)
    seconds = time.monotonic() - start
    tell(json.dumps({"count": count, "octets": count * size, "repeated": repeated, "seconds": seconds}))


def pump(host: str, port: int, count: int, size: int) -> None:
    """One way, as fast as the socket takes them."""
    sock = open_socket(host, port, bind=False)
    sock.settimeout(REPEAT)
    body = bytes(size)
    send = sock.send
    start = time.monotonic()
    for _ in range(count):
        send(body)
    while True:
        send(b"?")
        try:
            came, octets = sock.recv(100).split()
        except TimeoutError:
            if time.monotonic() - start > GIVE_UP:
                raise SystemExit("the sink does not answer") from None
            continue
        break
    seconds = time.monotonic() - start
    tell(json.dumps({"sent": count, "count": int(came), "octets": int(octets), "seconds": seconds}))


def relay(host: str, port: int, *ends: object) -> None:
    """For ever, between two ends; see above."""
    ours, outside, theirs = (cast(tuple[str, int], ends[at : at + 2]) for at in (0, 2, 4))
    inner, outer = open_socket(host, port, bind=True), open_socket(*outside, bind=True)
    tell("ready")
    while True:
        readable, _, _ = select.select([inner, outer, sys.stdin], [], [])
        if inner in readable:
            outer.sendto(inner.recv(65536), theirs)
        if outer in readable:
            inner.sendto(outer.recv(65536), ours)
        if sys.stdin in readable and sys.stdin.readline():
            outer.close()
            outer = open_socket(outside[0], 0, bind=True)
            tell("ready")


def ping(host: str, port: int, count: int, size: int) -> None:
    """Round trips, one at a time."""
    sock = open_socket(host, port, bind=False)
    sock.settimeout(REPEAT)
    body, buffer = bytes(size), bytearray(size)
    send, receive = sock.send, sock.recv_into
    lost = 0
    for _ in range(count // 10):
        send(body)
        try:
            receive(buffer)
        except TimeoutError:
            lost += 1
    start = time.perf_counter()
    for _ in range(count):
        send(body)
        try:
            receive(buffer)
        except TimeoutError:
            lost += 1
    tell(json.dumps({"count": count, "seconds": time.perf_counter() - start, "lost": lost}))


def main() -> None:
    """Do the work that the command line names."""
    work, host, port, *rest = sys.argv[1:]
    works = {"echo": echo, "sink": sink, "swap": swap, "pump": pump, "ping": ping, "relay": relay}
    works[work](host, int(port), *(int(word) if word.isdigit() else word for word in rest))  # type: ignore[operator]


if __name__ == "__main__":
    main()
