"""What rtnetlink says of routes: of this host's own, and of answers that are made here. With routers and liars:
tests/interop/test_reports.py."""

from __future__ import annotations

import errno
import socket
import struct
import sys

import pytest

from taps_security.transport import numbers, routes, udp
from taps_security.transport.routes import configured_mtu

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
REMOTE = ("192.0.2.9", 4433)


def attribute(kind: int, value: bytes) -> bytes:
    octets = struct.pack("=HH", 4 + len(value), kind) + value
    return octets + bytes(-len(octets) % 4)


def route(*attributes: bytes, kind: int = 1) -> bytes:
    return answer(24, struct.pack("=8BI", socket.AF_INET, 0, 0, 0, 254, 3, 0, kind, 0) + b"".join(attributes))


def interface(mtu: int) -> bytes:
    return answer(16, struct.pack("=BxHiII", 0, 1, 2, 0, 0) + attribute(3, b"eth0\0") + attribute(4, u32(mtu)))


def answer(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body + bytes(8)  # and what is not part of it


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that gives these answers, one after the other; what it was asked about."""

    def pretend(*answers: bytes) -> list[tuple[int, bytes]]:
        left, asked = list(answers), []

        class Kernel:
            def __init__(self, *_: int) -> None:
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def setblocking(self, flag: bool) -> None:
                assert not flag

            def send(self, message: bytes) -> None:
                length, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
                assert (length, flags) == (len(message), 1)
                asked.append((kind, message[16:]))

            def recv(self, size: int) -> bytes:
                return left.pop(0)

        monkeypatch.setattr(routes.socket, "socket", Kernel)
        return asked

    return pretend


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("127.0.0.1", 1)), pytest.param(socket.AF_INET6, ("::1", 1, 0, 0), marks=ipv6)],
)
def test_loopback_has_the_mtu_of_its_interface(family: int, address: tuple) -> None:
    with open("/sys/class/net/lo/mtu") as file:
        assert configured_mtu(family, address) == int(file.read())


def test_a_route_is_as_wide_as_its_interface(kernel) -> None:
    asked = kernel(route(attribute(1, bytes(4)), attribute(4, u32(2))), interface(1500))
    assert configured_mtu(socket.AF_INET, REMOTE) == 1500
    (first, wanted), (second, link) = asked
    assert (first, second) == (numbers.RTM_GETROUTE, numbers.RTM_GETLINK)
    assert wanted[:2] == bytes((socket.AF_INET, 32))
    assert struct.unpack_from("=I", wanted, 8)[0] & numbers.RTM_F_FIB_MATCH
    assert wanted[12:] == attribute(1, socket.inet_aton(REMOTE[0]))
    assert struct.unpack_from("=i", link, 4) == (2,)


@pytest.mark.parametrize(("metric", "mtu"), [(1400, 1400), (9000, 1500), (0, 1500)])
def test_a_route_may_be_narrower_than_its_interface(kernel, metric: int, mtu: int) -> None:
    metrics = attribute(8, attribute(5, u32(7)) + attribute(2, u32(metric)))
    kernel(route(metrics, attribute(4, u32(2))), interface(1500))
    assert configured_mtu(socket.AF_INET, REMOTE) == mtu


def test_of_several_next_hops_the_narrowest_counts(kernel) -> None:
    hops = struct.pack("=HBBi", 16, 0, 0, 2) + attribute(5, bytes(4)) + struct.pack("=HBBi", 8, 0, 0, 3)
    asked = kernel(route(attribute(9, hops)), interface(1500), interface(1420))
    assert configured_mtu(socket.AF_INET, REMOTE) == 1420
    assert [struct.unpack_from("=i", link, 4)[0] for _, link in asked[1:]] == [2, 3]


def test_an_address_of_our_own_is_reached_by_loopback(kernel) -> None:
    asked = kernel(route(attribute(4, u32(5)), kind=numbers.RTN_LOCAL), interface(65_536))
    assert configured_mtu(socket.AF_INET, REMOTE) == 65_536
    assert struct.unpack_from("=i", asked[1][1], 4) == (1,)


def test_a_scope_is_asked_for(kernel) -> None:
    asked = kernel(route(attribute(4, u32(3))), interface(1280))
    assert configured_mtu(socket.AF_INET6, ("fe80::1", 1, 0, 3)) == 1280
    assert asked[0][1].endswith(attribute(4, u32(3)))


@pytest.mark.parametrize(
    "answers",
    [
        (answer(numbers.NLMSG_ERROR, struct.pack("=i", -errno.ENETUNREACH) + bytes(16)),),
        (route(),),
        (route(attribute(4, u32(2))), answer(numbers.NLMSG_ERROR, struct.pack("=i", -errno.ENODEV) + bytes(16))),
        (route(struct.pack("=HH", 0, 4)),),
    ],
    ids=["no route", "no interface", "an interface that is gone", "an attribute without a length"],
)
def test_nothing_is_known_where_the_kernel_says_nothing(kernel, answers: tuple[bytes, ...]) -> None:
    kernel(*answers)
    assert configured_mtu(socket.AF_INET, REMOTE) == 0


def test_a_socket_does_without_rtnetlink(monkeypatch) -> None:
    """Sandboxes refuse its family: what every path carries is believed then."""
    sock = udp.open_udp(("127.0.0.1", 0))

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EPERM, "refused")

    monkeypatch.setattr(udp, "configured_mtu", refuse)
    try:
        assert sock.path_mtu(REMOTE) == 1372
    finally:
        sock.close()
