"""Addresses in and out of socket calls."""

from __future__ import annotations

import socket

import pytest

from taps_security.transport.addresses import mapped_address, plain_address, share_port, socket_address


def test_families() -> None:
    assert socket_address(("192.0.2.1", 1)) == (socket.AF_INET, ("192.0.2.1", 1))
    assert socket_address(("2001:db8::1", 1)) == (socket.AF_INET6, ("2001:db8::1", 1, 0, 0))
    assert socket_address(("fe80::1%7", 1)) == (socket.AF_INET6, ("fe80::1", 1, 0, 7))


def test_scopes_have_names() -> None:
    index, name = socket.if_nameindex()[0]
    assert socket_address((f"fe80::1%{name}", 1))[1][3] == index
    assert plain_address(("fe80::1", 1, 0, index)) == (f"fe80::1%{name}", 1)
    assert plain_address(("fe80::1", 1, 0, 999_999)) == ("fe80::1%999999", 1)
    with pytest.raises(OSError):  # noqa: PT011 -- the system's words
        socket_address(("fe80::1%no-such-if", 1))


def test_ipv4_on_dual_stack_sockets() -> None:
    assert mapped_address(("192.0.2.1", 1)) == ("::ffff:192.0.2.1", 1, 0, 0)
    assert mapped_address(("2001:db8::1", 1)) == ("2001:db8::1", 1, 0, 0)
    assert plain_address(("::ffff:192.0.2.1", 1, 0, 0)) == ("192.0.2.1", 1)
    assert plain_address(("192.0.2.1", 1)) == ("192.0.2.1", 1)


def test_a_platform_that_cannot_share_ports_says_so(monkeypatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    with socket.socket() as sock, pytest.raises(OSError, match="SO_REUSEPORT"):
        share_port(sock)
