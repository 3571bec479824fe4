"""Real UDP sockets on loopback: batches, addresses, ECN, MTU, ICMP errors, and the plain fallback."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import sys
import time

import pytest

from taps_security.transport import numbers, udp
from taps_security.transport.network import Arrival, DatagramSocket, Report
from taps_security.transport.udp import BatchingUdpSocket, UdpSocket, open_udp

linux = pytest.mark.skipif(sys.platform != "linux", reason="GSO, GRO and the error queue are Linux's")
ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
BUFFER = memoryview(bytearray(65_536))


def arrive(sock: DatagramSocket, arrival: Arrival, seconds: float = 2.0) -> bytes:
    """The next batch of a socket."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if sock.receive_into(BUFFER, arrival):
            return bytes(BUFFER[: arrival.length])
        time.sleep(0.001)
    raise AssertionError("nothing arrived")


@pytest.fixture
def sockets(request):
    """Opens sockets that are closed after the test."""
    opened: list[DatagramSocket] = []

    def make(local, remote=None) -> DatagramSocket:
        opened.append(open_udp(local, remote))
        return opened[-1]

    yield make
    for sock in opened:
        sock.close()


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=ipv6)])
def test_a_run_goes_and_comes_in_one_call(sockets, host) -> None:
    one, other = sockets((host, 0)), sockets((host, 0))
    assert one.max_datagrams == 64
    data = os.urandom(20 * 1200 + 700)
    one.send(memoryview(data), 1200, other.local, None, 0)
    arrival = Arrival()
    assert arrive(other, arrival) == data
    assert arrival.segment == 1200
    assert arrival.length / arrival.segment > 1  # really more than one datagram in this one call
    assert arrival.remote == one.local
    assert arrival.local == other.local
    assert not other.receive_into(BUFFER, arrival)


def test_a_single_datagram_has_no_segment(sockets) -> None:
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))
    arrival = Arrival(segment=7)
    one.send(memoryview(b"hello"), 0, other.local, None, 0)
    assert arrive(other, arrival) == b"hello"
    assert arrival.segment == 0
    one.send(memoryview(b"short run"), 1200, other.local, None, 0)
    assert arrive(other, arrival) == b"short run"


@linux
def test_runs_above_64_datagrams_or_64_kib_go_in_pieces(sockets) -> None:
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))
    arrival = Arrival()
    for segment, count in ((100, 150), (1400, 64)):
        data = os.urandom(segment * count)
        one.send(memoryview(data), segment, other.local, None, 0)
        got = b""
        while len(got) < len(data):
            got += arrive(other, arrival)
            assert arrival.segment == segment
        assert got == data


@linux
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_refused_batch_goes_one_by_one_and_so_does_all_that_follows(sockets, monkeypatch, number) -> None:
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))
    sends: list[int] = []
    real = one._socket

    class Refusing:
        def __getattr__(self, name):
            return getattr(real, name)

        def sendmsg(self, buffers, ancillary, flags, target):
            sends.append(len(buffers[0]))
            if any(kind == numbers.UDP_SEGMENT for _, kind, _ in ancillary):
                raise OSError(number, os.strerror(number))
            return real.sendmsg(buffers, ancillary, flags, target)

    monkeypatch.setattr(one, "_socket", Refusing())
    for expected in ([3000, 1000, 1000, 1000], [1000, 1000, 1000]):
        sends.clear()
        one.send(memoryview(bytes(3000)), 1000, other.local, None, 0)
        assert sends == expected
        assert one.max_datagrams == 1
    arrival = Arrival()
    assert sum(len(arrive(other, arrival)) for _ in range(2)) >= 2000  # GRO may put them together, or not


@linux
@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=ipv6), pytest.param("", marks=ipv6)])
def test_a_wildcard_knows_its_real_addresses(sockets, host) -> None:
    wild = sockets((host, 0))
    port = wild.local[1]
    targets = {"0.0.0.0": ["127.0.0.1", "127.0.0.5"], "::": ["::1"], "": ["127.0.0.7", "::1"]}[host]
    for target in targets:
        peer = sockets(("127.0.0.1" if "." in target else "::1", 0), (target, port))
        arrival = Arrival()
        peer.send(memoryview(b"ping"), 0, (target, port), None, 0)
        assert arrive(wild, arrival) == b"ping"
        assert arrival.local == (target, port)
        assert arrival.remote == peer.local
        wild.send(memoryview(b"pong" * 100), 100, arrival.remote, arrival.local, 2)  # from the address that it asked
        assert arrive(peer, arrival) == b"pong" * 100  # a connected socket hears only that one
        assert arrival.remote == (target, port)
        assert arrival.ecn == 2


@linux
@pytest.mark.parametrize(
    ("host", "gone"), [("127.0.0.1", "192.0.2.77"), pytest.param("::1", "2001:db8::77", marks=ipv6)]
)
def test_a_source_address_that_is_ours_no_longer_is_left_to_the_kernel(sockets, host, gone) -> None:
    wild, peer = sockets(("", 0)), sockets((host, 0))
    arrival, former = Arrival(), (gone, wild.local[1])
    for _ in range(2):
        wild.send(memoryview(bytes(3_000)), 1_000, peer.local, former, 0)
        assert arrive(peer, arrival) == bytes(3_000)
        assert arrival.remote == (host, wild.local[1])
    assert wild.max_datagrams == 64  # nothing was wrong with the batch


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=ipv6)])
def test_ecn_is_set_and_seen(sockets, host) -> None:
    one, other = sockets((host, 0)), sockets((host, 0))
    arrival = Arrival()
    for ecn in (0, 1, 2, 3):
        one.send(memoryview(b"x"), 0, other.local, None, ecn)
        arrive(other, arrival)
        assert arrival.ecn == ecn
    one.send(memoryview(bytes(2400)), 1200, other.local, None, 1)
    arrive(other, arrival)
    assert (arrival.ecn, arrival.segment) == (1, 1200)


def closed_port() -> tuple[str, int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()


@linux
@pytest.mark.parametrize("connected", [False, True])
def test_an_icmp_error_names_the_peer_and_the_socket_stays_usable(sockets, connected) -> None:
    dead = closed_port()
    one, other = sockets(("127.0.0.1", 0), dead if connected else None), sockets(("127.0.0.1", 0))
    arrival = Arrival()
    sent = os.urandom(300)
    one.send(memoryview(sent), 0, dead, None, 0)
    with pytest.raises(ConnectionRefusedError):
        arrive(one, arrival)
    assert arrival.remote == dead
    assert arrival.report == Report(sent[: udp.QUOTED])
    if not connected:
        one.send(memoryview(b"alive"), 0, other.local, None, 0)
        assert arrive(other, arrival) == b"alive"
    assert not one.receive_into(BUFFER, arrival)


@linux
def test_an_icmp_error_does_not_hinder_the_next_send_and_is_told_later(sockets) -> None:
    dead = closed_port()
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))
    arrival = Arrival()
    one.send(memoryview(b"x"), 0, dead, None, 0)
    time.sleep(0.02)  # the ICMP message is there
    one.send(memoryview(b"to another"), 0, other.local, None, 0)
    one.send(memoryview(bytes(300)), 100, other.local, None, 0)
    assert arrive(other, arrival) == b"to another"
    with pytest.raises(ConnectionRefusedError):
        arrive(one, arrival)
    assert arrival.remote == dead
    assert not one.receive_into(BUFFER, arrival)


@pytest.mark.both_loops
@linux
async def test_a_reader_survives_icmp_errors_if_it_is_added_again(sockets) -> None:
    loop = asyncio.get_running_loop()
    dead = closed_port()
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))
    arrival, errors, got = Arrival(), [], []

    def readable() -> None:
        try:
            while one.receive_into(BUFFER, arrival):
                got.append(bytes(BUFFER[: arrival.length]))
        except OSError as error:
            errors.append(error)
            loop.remove_reader(one)  # uvloop polls a descriptor no more once it was in error
            loop.add_reader(one, readable)

    loop.add_reader(one, readable)
    for turn in range(3):
        one.send(memoryview(b"x"), 0, dead, None, 0)
        await asyncio.sleep(0.02)
        other.send(memoryview(b"%d" % turn), 0, one.local, None, 0)
        await asyncio.sleep(0.02)
        assert len(errors) == turn + 1
        assert got[-1] == b"%d" % turn
    loop.remove_reader(one)


@linux
def test_a_too_large_datagram_is_refused_and_the_mtu_is_known(sockets) -> None:
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))
    assert 1200 < one.path_mtu(other.local) <= udp.MAX_PAYLOAD
    with pytest.raises(OSError, match="too long") as caught:
        one.send(memoryview(bytes(65_536)), 0, other.local, None, 0)  # refused before there is a route to note it at
    assert caught.value.errno == errno.EMSGSIZE


@linux
@pytest.mark.parametrize("origin", [numbers.SO_EE_ORIGIN_ICMP, numbers.SO_EE_ORIGIN_LOCAL], ids=["icmp", "local"])
def test_a_report_says_what_it_quotes_and_who_made_it(sockets, monkeypatch, origin) -> None:
    """The socket itself believes none: whether it was sent, the stacks know."""
    one = sockets(("127.0.0.1", 0))
    remote = ("127.0.0.9", 4433)
    before = one.path_mtu(remote)
    report = struct.pack("@IBBBxII", errno.EMSGSIZE, origin, 3, 4, 1300, 0)
    queue = [([(socket.IPPROTO_IP, numbers.IP_RECVERR, report)], remote)]

    class Queue:
        def recvmsg(self, size, ancillary_size, flags):
            if not queue:
                raise BlockingIOError
            ancillary, name = queue.pop()
            return bytes(range(100))[:size], ancillary, 0, name

        def recvmsg_into(self, buffers, size):
            raise OSError(errno.EMSGSIZE, "message too long")

        def close(self):
            pass

    monkeypatch.setattr(one, "_socket", Queue())
    arrival = Arrival()
    with pytest.raises(OSError, match="too long"):
        one.receive_into(BUFFER, arrival)
    assert arrival.remote == remote
    assert arrival.report == Report(bytes(range(64)), origin == numbers.SO_EE_ORIGIN_LOCAL, 1300)
    assert one.path_mtu(remote) == before


@linux
@pytest.mark.parametrize(
    ("told", "payload"), [(1300, 1300 - 28), (100, 576 - 28), (9_000_000, None)], ids=["smaller", "absurd", "larger"]
)
def test_path_mtu_is_what_was_learnt_for_a_while(sockets, monkeypatch, told, payload) -> None:
    one = sockets(("127.0.0.1", 0))
    remote = ("127.0.0.9", 4433)
    before = one.path_mtu(remote)
    one.learn_mtu(("", 0), 600)  # of whom?
    one.learn_mtu(remote, told)
    assert one.path_mtu(remote) == (payload or before)
    monkeypatch.setattr(udp.time, "monotonic", lambda: time.time() + 1e9)
    assert one.path_mtu(remote) == before  # RFC 8201 §4: after a while it may have grown


def test_the_plain_socket_needs_nothing_of_linux() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b:
        for sock in (a, b):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        one, other = UdpSocket(a), UdpSocket(b)
        assert one.max_datagrams == 1
        arrival = Arrival()
        assert not other.receive_into(BUFFER, arrival)
        one.send(memoryview(bytes(250)), 100, other.local, ("127.0.0.1", 1), 3)
        assert [len(arrive(other, arrival)) for _ in range(3)] == [100, 100, 50]
        assert (arrival.segment, arrival.ecn) == (0, 0)
        assert (arrival.remote, arrival.local) == (one.local, other.local)
        assert one.path_mtu(other.local) == 1372
        assert "UdpSocket 127.0.0.1" in repr(one)


def test_the_plain_socket_tells_icmp_errors_of_its_peer() -> None:
    dead = closed_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(dead)
        sock.setblocking(False)
        one = UdpSocket(sock, dead)
        one.send(memoryview(b"x"), 0, dead, None, 0)
        arrival = Arrival()
        with pytest.raises(ConnectionRefusedError):
            arrive(one, arrival)
        assert arrival.remote == dead


def test_open_udp_takes_the_best_socket_and_names_what_it_cannot_bind(sockets, monkeypatch) -> None:
    one = sockets(("127.0.0.1", 0))
    assert isinstance(one, BatchingUdpSocket) is (sys.platform == "linux")
    with pytest.raises(OSError, match=f"127.0.0.1:{one.local[1]}") as caught:
        open_udp(("127.0.0.1", one.local[1]))
    assert caught.value.errno == errno.EADDRINUSE
    monkeypatch.setattr(udp.sys, "platform", "darwin")
    assert type(sockets(("127.0.0.1", 0))) is UdpSocket


def test_a_full_socket_blocks_without_having_sent(sockets, monkeypatch) -> None:
    one, other = sockets(("127.0.0.1", 0)), sockets(("127.0.0.1", 0))

    class Full:
        def sendmsg(self, *_):
            raise BlockingIOError

        def sendto(self, *_):
            raise BlockingIOError

        def close(self):
            pass

    real = one._socket
    monkeypatch.setattr(one, "_socket", Full())
    for segment in (0, 100):
        with pytest.raises(BlockingIOError):
            one.send(memoryview(bytes(300)), segment, other.local, None, 0)
    monkeypatch.setattr(one, "_socket", real)
