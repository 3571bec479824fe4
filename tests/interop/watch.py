"""What passes on an interface: `python tests/interop/watch.py INTERFACE PORT [all]`.

Writes "ready", then a line of JSON for each WireGuard message from or to this UDP port: its type, the sender's outer
address and port, and of an initiation whether it has a MAC2. With `all` data messages too, and each as hex.
"""

from __future__ import annotations

import json
import socket
import struct
import sys

ALL_PROTOCOLS = 3  # ETH_P_ALL
IPV4, IPV6, UDP = 0x0800, 0x86DD, 17
INITIATION, DATA = 1, 4


def udp_of(frame: bytes) -> tuple[str, bytes] | None:
    """The source address and the UDP datagram in an Ethernet frame; None if there is none."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    packet = frame[14:]
    if kind == IPV4 and packet[9] == UDP:
        length = (packet[0] & 15) * 4
        (total,) = struct.unpack_from("!H", packet, 2)
        return socket.inet_ntop(socket.AF_INET, packet[12:16]), packet[length:total]
    if kind == IPV6 and packet[6] == UDP:
        (length,) = struct.unpack_from("!H", packet, 4)
        return socket.inet_ntop(socket.AF_INET6, packet[8:24]), packet[40 : 40 + length]
    return None


def told(frame: bytes, port: int, everything: bool) -> dict[str, object] | None:
    """What there is to tell of a frame; None if it is not ours to tell."""
    found = udp_of(frame)
    if found is None:
        return None
    host, datagram = found
    ports = struct.unpack_from("!HH", datagram)
    message = datagram[8:]
    if port not in ports or not message or (message[0] == DATA and not everything):
        return None
    line: dict[str, object] = {"type": message[0], "host": host, "port": ports[0]}
    if message[0] == INITIATION:
        line["mac2"] = any(message[-16:])
    if everything:
        line["hex"] = message.hex()
    return line


def main() -> None:
    """Tell for ever."""
    interface, port = sys.argv[1], int(sys.argv[2])
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((interface, 0))
    print("ready", flush=True)
    while True:
        if (line := told(sock.recv(65_536), port, "all" in sys.argv)) is not None:
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
