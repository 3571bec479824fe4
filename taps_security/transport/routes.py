"""What Linux's routing table says of a path's MTU, asked by rtnetlink, without what ICMP has made of it.

A socket's IP_MTU is lowered by each "too big" that names a living socket of this host, forged ones too, and stays so
for ten minutes, for everybody. The configured route, and the interface that it leads to, no stranger can change.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from struct import Struct
from typing import Any

from . import numbers

_HEADER = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ROUTE = Struct("=8BI")  # struct rtmsg: family, lengths of both addresses, TOS, table, protocol, scope, type; flags
_LINK = Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_HOP = Struct("=HBBi")  # struct rtnexthop: length, flags, hops, index
_ATTRIBUTE = Struct("=HH")  # length, type; the next begins at a multiple of 4
_NUMBER = Struct("=I")
_ANSWER = 1 << 16  # octets
_LOOPBACK = 1  # its index in each network namespace
_NO_LIMIT = 1 << 32


def configured_mtu(family: int, address: Any) -> int:
    """Octets of a packet to `address`, a socket address of that family; 0: there is no route, or the kernel is silent.

    Raises OSError where there is no rtnetlink.
    """
    host = socket.inet_pton(family, address[0])
    wanted = _attribute(numbers.RTA_DST, host)
    if family == socket.AF_INET6 and address[3]:
        wanted += _attribute(numbers.RTA_OIF, _NUMBER.pack(address[3]))
    flags = numbers.RTM_F_LOOKUP_TABLE | numbers.RTM_F_FIB_MATCH
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, numbers.NETLINK_ROUTE) as kernel:
        kernel.setblocking(False)  # it answers at once
        route = _ask(kernel, numbers.RTM_GETROUTE, _ROUTE.pack(family, 8 * len(host), *[0] * 6, flags) + wanted)
        if len(route) < _ROUTE.size:
            return 0
        local = route[7] == numbers.RTN_LOCAL
        metric, interfaces = _read_route(route[_ROUTE.size :])
        limits = [_interface_mtu(kernel, index) for index in ([_LOOPBACK] if local else interfaces)]
    return min([*limits, metric]) if limits else 0


def _read_route(attributes: memoryview) -> tuple[int, list[int]]:
    """The route's own limit, and the interfaces that it leads to."""
    metric, interfaces = _NO_LIMIT, []
    for kind, value in _attributes(attributes):
        if kind == numbers.RTA_OIF:
            interfaces.append(_NUMBER.unpack_from(value)[0])
        elif kind == numbers.RTA_MULTIPATH:
            while len(value) >= _HOP.size:
                length, _, _, index = _HOP.unpack_from(value)
                interfaces.append(index)
                value = value[max(length, _HOP.size) + 3 & ~3 :]  # noqa: PLW2901 -- eaten from the front
        elif kind == numbers.RTA_METRICS:
            for name, limit in _attributes(value):
                if name == numbers.RTAX_MTU:
                    metric = _NUMBER.unpack_from(limit)[0] or _NO_LIMIT
    return metric, interfaces


def _interface_mtu(kernel: socket.socket, index: int) -> int:
    answer = _ask(kernel, numbers.RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0))
    for kind, value in _attributes(answer[_LINK.size :]):
        if kind == numbers.IFLA_MTU:
            return int(_NUMBER.unpack_from(value)[0])
    return 0


def _ask(kernel: socket.socket, kind: int, body: bytes) -> memoryview:
    """The answer's body; empty if the kernel refuses."""
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, numbers.NLM_F_REQUEST, 1, 0) + body)
    answer = memoryview(kernel.recv(_ANSWER))
    length, answered, _, _, _ = _HEADER.unpack_from(answer)
    return answer[_HEADER.size : length] if answered != numbers.NLMSG_ERROR else answer[:0]


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _attributes(octets: memoryview) -> Iterator[tuple[int, memoryview]]:
    while len(octets) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(octets)
        if length < _ATTRIBUTE.size:
            return
        yield kind, octets[_ATTRIBUTE.size : length]
        octets = octets[length + 3 & ~3 :]
