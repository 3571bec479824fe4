"""ICMP reports, forged and true: a stack believes those that quote a datagram of its own, and no other (RFC 9000
§14.2.1, RFC 8899 §4.6.1, RFC 5927). With real routers: tests/interop/test_reports.py."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from taps_security.protocols.curvecp.record import LATELY
from taps_security.simulation import Network
from taps_security.stack.errors import Reason
from taps_security.transport.network import Report
from tests.protocols.curvecp import world as curvecp
from tests.protocols.curvecp.pair import Pair
from tests.protocols.wireguard.test_stack_simulated import Site, ask, play
from tests.protocols.wireguard.world import connected

QUOTED = 64  # octets
NOTHING_SENT = "a report of nothing that was sent"


def quote(datagram: bytes, octets: int = QUOTED) -> memoryview:
    return memoryview(datagram[:octets])


def changed(datagram: bytes, at: int) -> memoryview:
    """A quotation with one octet that is another."""
    return quote(datagram[:at] + bytes((datagram[at] ^ 1,)) + datagram[at + 1 :])


def watch(network: Network, source: str, destination: str) -> list[bytes]:
    """What one host sends to another from now on."""
    seen: list[bytes] = []

    def note(packet: Any) -> bool:
        seen.append(packet.data)
        return True

    network.link(source, destination).filter = note
    return seen


# ----------------------------------------------------------------------------------------------------------- WireGuard
def test_wireguard_knows_what_it_sent_by_indices() -> None:
    world, flow, _ = connected()
    a, b = world.a.stack, world.b.stack
    assert a is not None
    assert b is not None
    kinds = set()
    for name, datagram in world.seen:
        mine, other = (a, b) if name == "a" else (b, a)
        kinds.add((name, datagram[0]))
        assert mine.sent(quote(datagram))
        assert not other.sent(quote(datagram))
        assert not mine.sent(changed(datagram, 5))  # in the index
        assert not mine.sent(quote(datagram, 15))
    assert kinds == {("a", 1), ("b", 2), ("a", 4), ("b", 4)}
    world.a.send(flow, b"the newest")
    newest = world.a.out[-1]
    assert a.sent(quote(newest))
    number = int.from_bytes(newest[8:16], "little") + 1
    assert not a.sent(quote(newest[:8] + number.to_bytes(8, "little") + newest[16:]))  # not sealed yet
    assert not a.sent(quote(b"\3\0\0\0" + newest[4:]))  # a cookie reply is the screener's
    a.close(world.now)
    assert not a.sent(quote(newest))


def test_wireguard_ignores_forged_reports_and_follows_true_ones() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        seen = watch(network, "client", "server")
        connection = await client.connect()
        await ask(connection, b"hello")
        endpoint = client.tunnel._endpoint
        sock, remote, stack = endpoint._socket, (network.host("server").addresses[0], 51820), client.stack
        limit = stack.message_limit(connection._flow)
        for number in (errno.EMSGSIZE, errno.ECONNREFUSED):
            for quoted in (b"", bytes(64), bytes(changed(seen[-1], 4))):
                sock.reported(number, remote, Report(quoted, mtu=1300))
        await asyncio.sleep(0.1)
        assert endpoint.noise[NOTHING_SENT] == 6
        assert stack.message_limit(connection._flow) == limit
        assert sock.path_mtu(remote) == 1472
        sock.reported(errno.EMSGSIZE, remote, Report(seen[-1][:QUOTED], mtu=1300))
        await asyncio.sleep(0.1)
        assert endpoint.noise[NOTHING_SENT] == 6
        assert sock.path_mtu(remote) == 1272
        assert stack.message_limit(connection._flow) == 1272 - 32 - 28 < limit
        await ask(connection, b"as before")

    play(scenario)


# ------------------------------------------------------------------------------------------------------------- CurveCP
def test_curvecp_knows_what_it_sent_by_keys_and_numbers() -> None:
    pair = Pair()
    (hello,) = pair.client.sent
    assert pair.client.stack.sent(quote(hello))
    pair.to_server(pair.client.take()[0])
    initiate = pair.client.sent[0]
    pair.carry()
    server = pair.server
    assert server is not None
    pair.client.send(b"ping", pair.now)
    message = pair.client.sent[0]
    pair.carry()
    server.send(b"pong", pair.now)
    answer = server.sent[0]
    assert [bytes(each[:8]) for each in (hello, initiate, message, answer)] == [
        b"QvnQ5XlH",
        b"QvnQ5XlI",
        b"QvnQ5XlM",
        b"RL3aNMXM",
    ]
    for datagram in (hello, initiate, message):
        assert pair.client.stack.sent(quote(datagram))
        assert not server.stack.sent(quote(datagram))
        assert not pair.client.stack.sent(quote(datagram, 55))  # too little of the key to tell
        for at in (6, 8, 24, 40, 63):
            assert not pair.client.stack.sent(changed(datagram, at))
    assert server.stack.sent(quote(answer))
    assert not pair.client.stack.sent(quote(answer))
    assert not server.stack.sent(quote(answer, 47))
    number = int.from_bytes(answer[40:48], "little")
    for other in (number + 1, number - LATELY):
        assert not server.stack.sent(quote(answer[:40] + other.to_bytes(8, "little") + answer[48:]))
    for side in (pair.client, server):
        side.stack.abort(None, pair.now)
    assert not pair.client.stack.sent(quote(message))
    assert not server.stack.sent(quote(answer))


def test_curvecp_ignores_forged_reports_and_follows_true_ones() -> None:
    async def main(network: Network) -> None:
        host, server = curvecp.hosts(network)
        seen = watch(network, "client", "server")
        with host:
            endpoint, client = curvecp.connect(server.address)
        await client.ready()
        client.send(b"x" * 20_000)
        await client.until(lambda: len(client.data[0]) == 20_000)
        sock, remote, stack = endpoint._socket, server.address, client.stack
        block = stack._delivery.block
        for number in (errno.EMSGSIZE, errno.ECONNREFUSED):
            for quoted in (b"", bytes(64), bytes(changed(seen[-1], 41))):
                sock.reported(number, remote, Report(quoted, mtu=600))
        await asyncio.sleep(0.1)
        assert endpoint.noise[NOTHING_SENT] == 6
        assert (stack._delivery.block, sock.path_mtu(remote)) == (block, 1472)
        sock.reported(errno.EMSGSIZE, remote, Report(seen[-1][:QUOTED], mtu=600))
        await asyncio.sleep(0.1)
        assert endpoint.noise[NOTHING_SENT] == 6
        assert sock.path_mtu(remote) == 572
        assert stack._delivery.block < block
        client.send(b"y" * 20_000)
        await client.until(lambda: len(client.data[0]) == 40_000)
        endpoint.close()
        server.endpoint.close()

    curvecp.run(main)


@pytest.mark.parametrize("forged", [True, False])
def test_only_a_true_report_ends_an_attempt_to_connect(forged: bool) -> None:
    """The first Cookie is lost. Whoever knows the addresses says "port unreachable" in the first."""

    async def main(network: Network) -> None:
        host, server = curvecp.hosts(network)
        seen = watch(network, "client", "server")
        network.link("server", "client").filter = lambda packet: False
        with host:
            endpoint, client = curvecp.connect(server.address)
        await asyncio.sleep(0.5)
        (hello,) = seen
        quoted = bytes(changed(hello, 50)) if forged else hello[:QUOTED]
        endpoint._socket.reported(errno.ECONNREFUSED, server.address, Report(quoted))
        await asyncio.sleep(0.5)
        network.link("server", "client").filter = None
        if forged:
            assert endpoint.noise == {NOTHING_SENT: 1}
            await client.ready()
        else:
            assert client.ended is not None
            assert client.ended.error.reason is Reason.REFUSED
        endpoint.close()
        server.endpoint.close()

    curvecp.run(main)
