"""Options of stream sockets, and resets."""

from __future__ import annotations

import socket

import pytest

from taps_security.transport.network import StreamOptions
from taps_security.transport.tcp import apply_options, reset


def test_options_reach_the_socket() -> None:
    with socket.socket() as sock:
        apply_options(sock, StreamOptions(keep_alive=True, keep_alive_seconds=30, user_timeout_seconds=1.5))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 10
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500


def test_what_was_not_asked_for_stays_as_it_is() -> None:
    with socket.socket() as sock:
        apply_options(sock, StreamOptions(no_delay=False))
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_an_interface_that_does_not_exist_is_an_error() -> None:
    with socket.socket() as sock, pytest.raises(OSError):  # noqa: PT011 -- its words are the system's
        apply_options(sock, StreamOptions(interface="no-such-if"))


def test_a_reset_is_seen_as_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        reset(accepted)
        assert accepted.fileno() == -1
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_reset_of_what_is_closed_already_does_nothing() -> None:
    sock = socket.socket()
    sock.close()
    reset(sock)
