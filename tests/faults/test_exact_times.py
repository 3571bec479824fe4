"""Round trips and races, to the nanosecond, on the simulated network through the public API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import taps_security as taps
from taps_security.protocols.tls.options import TlsOptions
from taps_security.simulation import Network
from taps_security.simulation.links import nanoseconds
from tests.faults.world import (
    DELAY,
    PORT,
    ROUND_TRIP,
    ask,
    connected,
    initiate,
    left_at,
    packets,
    records,
    serving,
    simulate,
    towards,
)
from tests.support.pki import Pki

QUESTION = b"the first protected octets"
TCP = ROUND_TRIP
READY = TCP + ROUND_TRIP  # from the SYN to a complete handshake
HANDSHAKES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    # what client and server say, and the round trips after TCP's
    "full": ({}, {}, 1),
    "with the hybrid group first": ({"prefer": {"post_quantum"}}, {}, 1),
    "HelloRetryRequest": ({}, {"options": {"tls": TlsOptions(groups=("secp384r1",))}}, 2),  # type: ignore[arg-type]
    "HelloRetryRequest with a cookie": (
        {},
        {"options": {"tls": TlsOptions(groups=("secp256r1",), retry_cookie=True)}},  # type: ignore[arg-type]
        2,
    ),
    "small records": ({"options": {"tls": TlsOptions(record_size_limit=64)}}, {}, 1),
}


# -- round trips -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", HANDSHAKES)
def test_round_trips_until_the_first_protected_octet_leaves(pki: Pki, kind: str) -> None:
    ours, theirs, round_trips = HANDSHAKES[kind]

    async def main(network: Network) -> None:
        network.record_data = True
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, **theirs), await connected(network, pki, **ours) as connection:
            assert network.now == TCP + round_trips * ROUND_TRIP
            await ask(connection, QUESTION)
            assert network.now == TCP + (round_trips + 1) * ROUND_TRIP
        assert packets(network, "SYN") == [(0.0, connection.remote_endpoint[0])]  # type: ignore[index]
        assert records(network)[0][:2] == (TCP, 22)  # ClientHello, as soon as TCP is there
        assert left_at(network, len(QUESTION)) == TCP + round_trips * ROUND_TRIP
        assert left_at(network, len(QUESTION), "server") == nanoseconds(TCP + round_trips * ROUND_TRIP + DELAY)

    simulate(main)


@pytest.mark.parametrize("stateful", [False, True])
def test_a_resumed_handshake_takes_one_round_trip_too(pki: Pki, stateful: bool) -> None:
    async def main(network: Network) -> None:
        network.record_data = True
        network.connect("client", "server", delay=DELAY)
        preconnection = towards(pki)
        async with serving(network, pki, session_cache=taps.SessionCache() if stateful else None):
            for resumed in (False, True, True):
                begun, network.trace[:] = network.now, []
                async with await initiate(network, preconnection) as connection:
                    assert connection.security.resumed is resumed
                    assert network.now == nanoseconds(begun + READY)
                    await ask(connection, QUESTION)
                assert left_at(network, len(QUESTION)) == nanoseconds(begun + READY)
                await asyncio.sleep(1 - network.now % 1)

    simulate(main)


def test_a_resumed_handshake_and_a_clone_from_zero_are_exact(pki: Pki) -> None:
    """The same with whole numbers, so that sums of binary fractions are exact."""

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.25)
        async with serving(network, pki):
            async with await connected(network, pki) as first:
                assert network.now == 1.0
                await ask(first)
                assert network.now == 1.5
                with network.host("client"):
                    second = await first.clone()
                assert network.now == 2.5
                assert second.security.resumed
                async with second:
                    await ask(second)
                    assert network.now == 3.0

    simulate(main)


def test_a_client_certificate_and_a_pre_shared_key_cost_no_round_trip(pki: Pki) -> None:
    key = taps.PreSharedKey("me", bytes(32))
    mutual = {"trust": taps.Trust.file(str(pki.trust_file)), "client_authentication": "require"}

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.connect("client", "keyed", delay=DELAY)
        async with serving(network, pki, **mutual), serving(network, pki, host="keyed", psk=key):
            async with await connected(network, pki, identity=taps.Identity(pki.client())) as connection:
                assert network.now == READY
                await ask(connection)
            begun = network.now
            async with await initiate(network, towards(pki, "keyed", psk=key, trust=None)) as connection:
                assert network.now == nanoseconds(begun + READY)
                await ask(connection)

    simulate(main)


def test_the_server_may_speak_first_half_a_round_trip_after_the_finished(pki: Pki) -> None:
    async def greets(connection: taps.Connection) -> None:
        await connection.send(b"welcome", final=True)

    async def main(network: Network) -> None:
        network.record_data = True
        network.connect("client", "server", delay=DELAY)
        async with serving(network, pki, greets), await connected(network, pki) as connection:
            assert (await connection.receive()).data == b"welcome"
            assert network.now == READY + ROUND_TRIP
        assert left_at(network, 7, "server") == READY + DELAY

    simulate(main)


def test_the_same_seed_gives_the_same_octets(pki: Pki) -> None:
    """Randomness and wall clock come from the simulation: a run can be had again, octet by octet."""
    options = {"tls": TlsOptions(groups=("x25519",))}  # type: ignore[arg-type]  # the hybrid takes no injected randomness
    identity = taps.Identity(pki.leaf("ed25519"))

    def run(seed: int) -> list[tuple[Any, ...]]:
        async def main(network: Network) -> list[tuple[Any, ...]]:
            network.record_data = True
            network.connect("client", "server", delay=DELAY, loss=0.1, reorder=0.1)
            async with serving(network, pki, identity=identity, options=options):
                async with await connected(network, pki, options=options) as connection:
                    await ask(connection, bytes(20_000))
            return [(entry.time, entry.kind, entry.data, entry.lost) for entry in network.trace]

        return taps_simulation(main, seed)

    def taps_simulation(main: Any, seed: int) -> Any:
        from taps_security import simulation

        return simulation.run(main, seed=seed, starts_at=pki.now)

    assert run(7) == run(7) != run(8)


# -- races over addresses --------------------------------------------------------------------------------------------
def silent(network: Network, *names: str) -> list[str]:
    """Hosts that are switched off; their addresses."""
    for name in names:
        network.host(name).silent = True
    return [network.host(name).addresses[0] for name in names]


def test_attempts_start_at_0_250_and_500_ms_and_the_losers_are_gone(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        dead = silent(network, "dead", "deader")
        live = network.host("server").addresses[0]
        network.names.add("service.example", *dead, live)
        preconnection = towards(pki, "service.example")
        async with serving(network, pki), await initiate(network, preconnection) as connection:
            assert packets(network, "SYN") == [(0.0, dead[0]), (0.25, dead[1]), (0.5, live)]
            assert network.now == 0.5 + READY
            assert connection.remote_endpoint == (live, PORT)
            (server,) = (sock for sock in network.streams() if sock.host.name == "server")
            (client,) = (sock for sock in network.streams() if sock.host.name == "client")
            assert (client.peer, server.peer) == (server.local, client.local)
            assert len(asyncio.all_tasks()) == 2  # this one and the listener's: its handler starts half a round trip on
            race = preconnection.race
            assert [attempt.outcome for attempt in race.attempts] == ["lost", "lost", "won"]
            assert [attempt.phases[0].start for attempt in race.attempts] == [0.0] * 3  # all were resolved at once
            assert [phase[1:] for phase in race.winner.phases[-2:]] == [(0.5, 0.5 + TCP), (0.5 + TCP, 0.5 + READY)]
            await ask(connection)
            await asyncio.sleep(10)
            assert len(packets(network, "SYN")) == 3  # nobody tries on

    simulate(main)


def test_with_the_first_address_dead_the_second_is_ready_at_250_ms_plus_its_handshake(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("service.example", *silent(network, "dead"), network.host("server").addresses[0])
        async with serving(network, pki), await initiate(network, towards(pki, "service.example")) as connection:
            assert network.now == 0.25 + READY
            await ask(connection)

    simulate(main)


def test_a_failure_starts_the_next_attempt_at_once(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.connect("client", "closed", delay=DELAY)
        refusing, live = network.host("closed").addresses[0], network.host("server").addresses[0]
        network.names.add("service.example", refusing, live)
        preconnection = towards(pki, "service.example")
        async with serving(network, pki), await initiate(network, preconnection) as connection:
            assert packets(network, "SYN") == [(0.0, refusing), (ROUND_TRIP, live)]
            assert network.now == ROUND_TRIP + READY
            assert [attempt.outcome for attempt in preconnection.race.attempts] == ["failed", "won"]
            assert isinstance(preconnection.race.attempts[0].error, ConnectionRefusedError)
            await ask(connection)

    simulate(main)


def test_a_handshake_that_fails_starts_the_next_attempt_at_once_too(pki: Pki) -> None:
    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.connect("client", "impostor", delay=DELAY)
        wrong, live = network.host("impostor").addresses[0], network.host("server").addresses[0]
        network.names.add("service.example", wrong, live)
        preconnection = towards(pki, "service.example")
        impostor = serving(network, pki, host="impostor", identity=taps.Identity(pki.untrusted))
        async with impostor, serving(network, pki), await initiate(network, preconnection) as connection:
            assert packets(network, "SYN") == [(0.0, wrong), (READY, live)]
            assert network.now == 2 * READY
            assert isinstance(preconnection.race.attempts[0].error, taps.AuthenticationFailed)
            await ask(connection)

    simulate(main)


def test_tcp_alone_does_not_win(pki: Pki) -> None:
    """The first address takes connections and says nothing: the second is ready first, and the first is reset."""

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.connect("client", "mute", delay=DELAY)
        with network.host("mute"):
            mute = network.loop.taps_network.listen_stream(("0.0.0.0", PORT))
        network.names.add("service.example", network.host("mute").addresses[0], network.host("server").addresses[0])
        async with serving(network, pki), await initiate(network, towards(pki, "service.example")) as connection:
            assert network.now == 0.25 + READY
            loser = mute.accept()[0]
            await asyncio.sleep(1)
            assert loser.over
            loser.close()
            await ask(connection)
        mute.close()

    simulate(main)


def test_families_take_turns(pki: Pki) -> None:
    async def main(network: Network) -> None:
        silent(network, "dead", "deader")
        v4, v6 = zip(*(network.host(name).addresses for name in ("dead", "deader")), strict=True)
        network.names.add("service.example", *v4, *v6)
        with pytest.raises(taps.EstablishmentError) as caught:
            await initiate(network, towards(pki, "service.example"), timeout=0.9)
        order = [(0.0, v6[0]), (0.25, v4[0]), (0.5, v6[1]), (0.75, v4[1])]
        assert packets(network, "SYN") == order
        assert network.now == 0.9
        assert [failure.endpoint for failure in caught.value.failures] == [
            f"[{host}]:{PORT}" if ":" in host else f"{host}:{PORT}" for _, host in order
        ]
        assert caught.value.reason is taps.Reason.TIMEOUT

    simulate(main)


def test_a_late_answer_of_the_resolver_waits_50_ms_for_the_other_family(pki: Pki) -> None:
    import socket

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("slow.example", *network.host("server").addresses, delays={socket.AF_INET6: 3.0})
        async with serving(network, pki), await initiate(network, towards(pki, "slow.example")) as connection:
            assert packets(network, "SYN") == [(0.05, network.host("server").addresses[0])]
            assert network.now == nanoseconds(0.05 + READY)
            await ask(connection)

    simulate(main)


def test_cancelling_the_race_leaves_nothing(pki: Pki) -> None:
    for seconds in (0.0, 0.01, TCP, 0.25, 0.26, 0.25 + TCP, 0.31, 0.25 + READY - 1e-9):

        async def main(network: Network, seconds: float = seconds) -> None:
            network.connect("client", "server", delay=DELAY)
            network.names.add("service.example", *silent(network, "dead"), network.host("server").addresses[0])
            async with serving(network, pki):
                task = network.host("client").run(towards(pki, "service.example").initiate())
                await asyncio.sleep(seconds)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not [sock for sock in network.streams() if sock.host.name == "client"]
                assert len(asyncio.all_tasks()) == 2  # this one and the listener's

        simulate(main)


# -- races over configurations ---------------------------------------------------------------------------------------
def test_configurations_race_like_addresses(pki: Pki) -> None:
    """A server that shares nothing with the first configuration: its alert starts the second at once."""
    odd, usual = TlsOptions(groups=("secp521r1",)), TlsOptions(groups=("x25519",))  # type: ignore[arg-type]

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=DELAY)
        network.names.add("one.example", network.host("server").addresses[0])
        preconnection = towards(pki, "one.example", options={"tls": [odd, usual]})
        async with serving(network, pki, options={"tls": usual}):
            async with await initiate(network, preconnection) as connection:
                times = [time for time, _ in packets(network, "SYN")]
                assert times == [0.0, READY]
                assert network.now == 2 * READY
                attempts = preconnection.race.attempts
                assert [(one.configuration, one.outcome) for one in attempts] == [(0, "failed"), (1, "won")]
                assert isinstance(attempts[0].error, taps.PeerIncompatible)
                await ask(connection)

    simulate(main)


def test_a_slow_configuration_is_joined_by_the_next_after_250_ms(pki: Pki) -> None:
    first, second = TlsOptions(tickets=0), TlsOptions(padding=64)

    async def main(network: Network) -> None:
        network.connect("client", "server", delay=0.1)
        network.names.add("one.example", network.host("server").addresses[0])
        preconnection = towards(pki, "one.example", options={"tls": [first, second]})
        async with serving(network, pki), await initiate(network, preconnection) as connection:
            assert network.now == 0.4
            assert [time for time, _ in packets(network, "SYN")] == [0.0, 0.25]
            attempts = preconnection.race.attempts
            assert [(one.configuration, one.outcome) for one in attempts] == [(0, "won"), (1, "lost")]
            assert len([sock for sock in network.streams() if sock.host.name == "client"]) == 1
            await ask(connection)

    simulate(main)
