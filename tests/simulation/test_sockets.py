"""What all simulated sockets share."""

from __future__ import annotations

import errno
import socket

import pytest

from taps_security.simulation import Network, run
from taps_security.simulation.sockets import canonical, family_of, is_loopback, os_error, socket_name
from tests.simulation.support import listen, pair


def test_errors_have_the_class_and_words_of_their_number() -> None:
    error = os_error(errno.ECONNREFUSED)
    assert isinstance(error, ConnectionRefusedError)
    assert "refused" in str(error)


def test_addresses_have_one_spelling() -> None:
    assert canonical("2001:DB8:0:0::1") == "2001:db8::1"
    assert canonical("fe80::1%eth0") == "fe80::1%eth0"
    with pytest.raises(ValueError, match=r"server\.example"):
        canonical("server.example")
    assert [is_loopback(each) for each in ("127.0.0.1", "127.9.9.9", "::1", "10.0.0.1")] == [True, True, True, False]
    assert (family_of("::1"), family_of("127.0.0.1")) == (socket.AF_INET6, socket.AF_INET)


def test_names_have_the_form_of_the_systems_sockets() -> None:
    assert socket_name(("192.0.2.1", 1)) == ("192.0.2.1", 1)
    assert socket_name(("2001:db8::1", 1)) == ("2001:db8::1", 1, 0, 0)


def test_numbers_are_no_real_descriptors_and_never_come_back() -> None:
    async def main(network: Network) -> None:
        first, second = listen(80), listen(81)
        numbers = {first.fileno(), second.fileno()}
        assert min(numbers) >= 1_000_000
        assert network.socket(first.fileno()) is first
        first.close()
        assert first.closed
        assert first.fileno() == -1
        assert listen(80).fileno() not in numbers
        with pytest.raises(OSError, match="descriptor"):
            first.accept()

    run(main)


def test_open_sockets_are_those_that_the_application_must_close() -> None:
    async def main(network: Network) -> None:
        client, server = await pair(network)
        assert network.open_sockets() == [client, server]
        assert repr(network.open_sockets()[0]) == "<SimulatedStream client 10.0.0.2:49152 -> 10.0.0.1:80>"
        client.close()
        server.close()
        assert network.open_sockets() == []

    run(main)
