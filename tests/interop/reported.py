"""Programs for namespaces with routers between them: one whose path narrows, and one that lies about it.

client LOCAL REMOTE PORT            writes {"port"}; for each line of input a message of so many octets is sent
                                    and {"news", "noise", "mtu"} is written: what the stack was told of its path, what
                                    the endpoint counted, and the octets of payload that the socket believes to fit
forge LOCAL PORT REMOTE PORT MTU    tells LOCAL in a router's name that packets of MTU octets are the most, and quotes a
                                    datagram with these addresses and ports that holds zeros
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys

from taps_security.inner.checksum import internet_checksum
from tests.toys.program import Peer, open_endpoint
from tests.toys.record import Ids
from tests.toys.satchel import SatchelStack, imported

SECRET = bytes(range(32))


async def client(local: str, remote: str, port: int) -> None:
    """A stack whose keys come from outside: it needs nobody at the other end."""
    ids = Ids(b"aaaa", peer=os.urandom(4))
    peer = Peer(SatchelStack(ids, client=True, random=os.urandom, keys=imported(SECRET, 0, client=True)))
    endpoint = open_endpoint((local, 0))
    endpoint.connect(peer.driver, (remote, port))
    print(json.dumps({"port": endpoint.local[1]}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if size := int(line):
            peer.send(bytes(size))
        await asyncio.sleep(0)
        told = {
            "news": [(news.name, value) for _, news, value in peer.stack.news],
            "noise": dict(endpoint.noise),
            "mtu": endpoint._socket.path_mtu((remote, port)),
        }
        print(json.dumps(told), flush=True)
    endpoint.close()


def forge(local: str, local_port: int, remote: str, remote_port: int, mtu: int) -> None:
    """One ICMP message: RFC 792 (and RFC 1191 for the MTU), or RFC 4443 §3.2."""
    datagram = struct.pack("!4H", local_port, remote_port, 8 + 1000, 0) + bytes(100)
    if ":" in local:
        addresses = socket.inet_pton(socket.AF_INET6, local) + socket.inet_pton(socket.AF_INET6, remote)
        quoted = struct.pack("!IHBB", 6 << 28, 8 + 1000, 17, 64) + addresses + datagram
        message = struct.pack("!BBHI", 2, 0, 0, mtu) + quoted
        family, protocol = socket.AF_INET6, socket.IPPROTO_ICMPV6  # the kernel computes its checksum
    else:
        addresses = socket.inet_aton(local) + socket.inet_aton(remote)
        quoted = struct.pack("!BBHHHBBH", 0x45, 0, 28 + 1000, 1, 0x4000, 64, 17, 0) + addresses + datagram
        message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
        message = message[:2] + internet_checksum(message) + message[4:]
        family, protocol = socket.AF_INET, socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.sendto(message, (local, 0))


if __name__ == "__main__":
    work, *words = sys.argv[1:]
    if work == "client":
        asyncio.run(client(words[0], words[1], int(words[2])))
    else:
        forge(words[0], int(words[1]), words[2], int(words[3]), int(words[4]))
