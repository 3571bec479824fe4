"""From endpoints to addresses: families, delays, failures, exact times."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from taps_security.connection.performance import Opinion
from taps_security.connection.resolution import AddressPool, Lookups, Place, port_of, resolve_all, resolve_local
from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.stack.errors import ConfigurationError, Reason, RemoteError
from tests.connection.clock import NameServer, run

V6, V4 = socket.AF_INET6, socket.AF_INET
NAME = RemoteEndpoint(host_name="server.example", port=443)


async def drain(
    endpoints: Sequence[RemoteEndpoint], server: NameServer, step: float = 0.0, **options: object
) -> list[tuple[float, str]]:
    """Take everything as soon as it can be had, `step` seconds apart: (time, address)."""
    loop = asyncio.get_running_loop()
    lookups = Lookups(loop, server)  # type: ignore[arg-type]
    pool = AddressPool(loop, [lookups.of(endpoint) for endpoint in endpoints], **options)  # type: ignore[arg-type]
    changed = asyncio.Event()
    pool.changed = changed.set
    taken: list[tuple[float, str]] = []
    while True:
        place = pool.take()
        if place is not None:
            taken.append((round(loop.time(), 6), place.address.host))
            if step:
                await asyncio.sleep(step)
        elif pool.exhausted:
            break
        else:
            changed.clear()
            await changed.wait()
    pool.close()
    await lookups.close()
    return taken


@pytest.mark.parametrize(
    ("v6", "v4", "expected"),
    [
        ((0.0, ["::1"]), (0.0, ["192.0.2.1"]), [(0.0, "::1"), (0.0, "192.0.2.1")]),
        ((0.01, ["::1"]), (0.03, ["192.0.2.1"]), [(0.01, "::1"), (0.03, "192.0.2.1")]),  # IPv6 starts at once
        ((0.05, ["::1"]), (0.03, ["192.0.2.1"]), [(0.05, "::1"), (0.05, "192.0.2.1")]),  # in time for the delay
        ((0.2, ["::1"]), (0.03, ["192.0.2.1"]), [(0.08, "192.0.2.1"), (0.2, "::1")]),  # 50 ms, then without it
        (0.04, (0.03, ["192.0.2.1"]), [(0.04, "192.0.2.1")]),  # a negative answer ends the delay
        ((0.04, []), (0.03, ["192.0.2.1"]), [(0.04, "192.0.2.1")]),
        ((0.01, ["::1"]), 0.3, [(0.01, "::1")]),
    ],
)
def test_the_first_family_starts_and_the_other_waits(v6: object, v4: object, expected: list[tuple[float, str]]) -> None:
    assert run(drain([NAME], NameServer(v6=v6, v4=v4))) == expected  # type: ignore[arg-type]


def test_both_families_are_asked_at_once_and_take_turns() -> None:
    server = NameServer(v6=(0.0, ["::1", "::2", "::3"]), v4=(0.0, ["192.0.2.1", "192.0.2.2"]))
    taken = run(drain([NAME], server))
    assert [host for _, host in taken] == ["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]
    assert server.asked == [("server.example", V6, 0.0), ("server.example", V4, 0.0)]


def test_a_late_answer_takes_its_turn() -> None:
    server = NameServer(v6=(0.0, ["::1", "::2"]), v4=(0.15, ["192.0.2.1"]))
    taken = run(drain([NAME], server, step=0.1))
    assert taken == [(0.0, "::1"), (0.1, "::2"), (0.2, "192.0.2.1")]
    taken = run(drain([NAME], NameServer(v6=(0.0, ["::1", "::2"]), v4=(0.05, ["192.0.2.1"])), step=0.1))
    assert taken == [(0.0, "::1"), (0.1, "192.0.2.1"), (0.2, "::2")]


def test_literal_addresses_keep_the_applications_order() -> None:
    endpoints = [RemoteEndpoint(ip_address=address, port=1) for address in ("192.0.2.1", "192.0.2.2", "::1")]
    server = NameServer()
    assert [host for _, host in run(drain(endpoints, server))] == ["192.0.2.1", "::1", "192.0.2.2"]
    assert not server.asked


def test_a_literal_address_is_not_kept_waiting_by_a_name() -> None:
    endpoints = [RemoteEndpoint(ip_address="192.0.2.1", port=1), NAME]
    server = NameServer(v6=(0.1, ["::1"]), v4=(0.1, ["192.0.2.9"]))
    assert run(drain(endpoints, server)) == [(0.0, "192.0.2.1"), (0.1, "::1"), (0.1, "192.0.2.9")]


def test_an_address_with_a_name_needs_no_look_up() -> None:
    endpoint = RemoteEndpoint(host_name="server.example", ip_address="192.0.2.7", port=1)
    server = NameServer()
    assert run(drain([endpoint], server)) == [(0.0, "192.0.2.7")]
    assert not server.asked


def test_link_local_addresses_get_their_interface() -> None:
    endpoint = RemoteEndpoint(ip_address="fe80::1", interface="eth0", port=1)
    assert run(drain([endpoint], NameServer())) == [(0.0, "fe80::1%eth0")]


def test_families_that_may_not_be_used() -> None:
    told: list[str] = []
    server = NameServer(v6=(0.0, ["::1"]), v4=(0.02, ["192.0.2.1"]))
    options = {"allowed": (V4,), "unresolved": lambda endpoint, error: told.append(str(error))}
    assert run(drain([NAME], server, **options)) == [(0.02, "192.0.2.1")]
    assert not told
    assert run(drain([NAME], NameServer(v6=(0.0, ["::1"]), v4=0.0), **options)) == []
    assert told == ["'server.example' has no IPv4 address"]


def test_what_worked_comes_first_and_what_failed_last() -> None:
    opinions = {"::2": Opinion.WORKED, "::1": Opinion.FAILED}

    def opinion(place: Place) -> Opinion:
        return opinions.get(place.address.host, Opinion.UNKNOWN)

    server = NameServer(v6=(0.0, ["::1", "::2", "::3"]), v4=(0.0, ["192.0.2.1"]))
    taken = run(drain([NAME], server, opinion=opinion))
    assert [host for _, host in taken] == ["::2", "192.0.2.1", "::3", "::1"]


def test_many_addresses_are_bounded() -> None:
    server = NameServer(v6=(0.0, [f"2001:db8::{number:x}" for number in range(100)]), v4=0.0)
    assert len(run(drain([NAME], server))) == 16


def test_a_name_without_addresses() -> None:
    told: list[tuple[str, str]] = []

    def unresolved(endpoint: object, error: Exception) -> None:
        told.append((str(endpoint), str(error)))

    assert run(drain([NAME], NameServer(v6=0.01, v4=0.02), unresolved=unresolved)) == []
    assert told == [("server.example:443", "cannot resolve 'server.example': Name or service not known")]
    told.clear()
    assert run(drain([NAME], NameServer(v6=(0.0, []), v4=(0.0, [])), unresolved=unresolved)) == []
    assert told == [("server.example:443", "cannot resolve 'server.example': it has no address")]


def test_a_name_that_idna_refuses() -> None:
    class Strict(NameServer):
        async def resolve(self, host: str, port: int | str, family: int = 0) -> Sequence[object]:  # type: ignore[override]
            raise UnicodeError("label too long")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(RemoteError, match="label too long") as caught:
            await resolve_all(Lookups(loop, Strict()).of(NAME))  # type: ignore[arg-type]
        assert caught.value.reason is Reason.RESOLUTION_FAILED

    run(main())


def test_two_stacks_share_one_look_up() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = NameServer(v6=(0.1, ["::1"]), v4=0.1)
        lookups = Lookups(loop, server)  # type: ignore[arg-type]
        found = await asyncio.gather(*(resolve_all(lookups.of(NAME)) for _ in range(2)))
        assert found[0] == found[1]
        assert len(server.asked) == 2

    run(main())


def test_closing_early_leaves_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = NameServer(v6=(5.0, ["::1"]), v4=(0.0, ["192.0.2.1"]))
        lookups = Lookups(loop, server)  # type: ignore[arg-type]
        pool = AddressPool(loop, [lookups.of(NAME)])
        assert pool.take() is None
        await asyncio.sleep(0.01)
        assert pool.take() is None  # the resolution delay runs
        pool.close()
        await lookups.close()
        assert loop.time() == pytest.approx(0.01)

    run(main())


def test_local_names() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        lookups = Lookups(loop, NameServer(v6=(0.0, ["::1"]), v4=(0.0, ["127.0.0.1"])))  # type: ignore[arg-type]
        known = LocalEndpoint(ip_address="192.0.2.1", port=5)
        found = await resolve_local(lookups, [known, LocalEndpoint(host_name="localhost", port=7)])
        assert [str(one.ip_address) for one in found] == ["192.0.2.1", "::1", "127.0.0.1"]
        assert found[1].port == 7
        found = await resolve_local(lookups, [LocalEndpoint(host_name="localhost")])
        assert [one.port for one in found] == [0, 0]

    run(main())


def test_a_missing_port() -> None:
    with pytest.raises(ConfigurationError, match=r"RemoteEndpoint server\.example: no port was given, expected port"):
        port_of(RemoteEndpoint(host_name="server.example"))
    assert port_of(RemoteEndpoint(host_name="server.example", service="https")) == "https"
