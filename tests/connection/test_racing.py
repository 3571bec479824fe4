"""Happy Eyeballs: exact times, failures, cancellation, reports."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from taps_security.connection.candidates import Path, StackChoice, choose_stacks
from taps_security.connection.performance import Opinion, PerformanceCache
from taps_security.connection.racing import Candidate, Fixed, Race, RaceReport, Racing, staggered
from taps_security.connection.resolution import Lookups
from taps_security.properties.endpoints import RemoteEndpoint
from taps_security.properties.security import Role, SecurityParameters
from taps_security.properties.transport import TransportProperties
from taps_security.protocols import registry
from taps_security.stack.errors import (
    AuthenticationFailed,
    ConfigurationError,
    EstablishmentError,
    LocalError,
    Reason,
)
from tests.connection.clock import NameServer, run
from tests.connection.toy import ToyOptions, toy

NEVER = 1e9


def choices(*protocols: str, **options: object) -> list[StackChoice]:
    """Kept stacks of that name, by rank."""
    registered = [registry.register(toy(name)) for name in protocols]
    try:
        security = SecurityParameters(stacks=protocols, options=options)
        return [one for one in choose_stacks(security, TransportProperties(), Role.CLIENT) if one.kept]
    finally:
        for one in registered:
            one.withdraw()


class Peers:
    """What attempts meet: seconds until connected, seconds of handshake, and perhaps an error at the end.

    By address, or by (stack, address).
    """

    def __init__(self, **peers: object) -> None:
        self.peers: dict[object, tuple[float, float, Exception | None]] = {}
        self.started: list[tuple[float, str]] = []
        self.ended: list[tuple[float, str]] = []
        self.discarded: list[str] = []
        self.running = 0

    def add(self, key: object, connect: float, handshake: float = 0.0, error: Exception | None = None) -> Peers:
        self.peers[key] = (connect, handshake, error)
        return self

    async def connect(self, candidate: Candidate, phase_done: Callable[[str], None]) -> str:
        loop = asyncio.get_running_loop()
        host, stack = candidate.address.host, candidate.choice.protocol.name
        name = f"{stack} {host}"
        self.started.append((round(loop.time(), 6), name))
        self.running += 1
        try:
            found = self.peers.get((stack, host)) or self.peers[host]
            await asyncio.sleep(found[0])
            if found[2] is not None and not found[1]:
                raise found[2]
            phase_done("connect")
            await asyncio.sleep(found[1])
            if found[2] is not None:
                raise found[2]
            phase_done("handshake")
        finally:
            self.running -= 1
            self.ended.append((round(loop.time(), 6), name))
        return name

    def discard(self, result: str) -> None:
        self.discarded.append(result)


def remotes(*addresses: str) -> list[RemoteEndpoint]:
    return [RemoteEndpoint(ip_address=address, port=443) for address in addresses]


class Outcome:
    """A finished race."""

    winner: str | None = None
    error: EstablishmentError | None = None
    report: RaceReport
    at: float


async def hold(
    peers: Peers,
    endpoints: Sequence[RemoteEndpoint],
    stacks: Sequence[StackChoice] | None = None,
    *,
    server: NameServer | None = None,
    timeout: float | None = None,
    paths: Sequence[Path] = (Path(),),
    **options: object,
) -> Outcome:
    loop = asyncio.get_running_loop()
    lookups = Lookups(loop, server or NameServer())  # type: ignore[arg-type]
    race = Race[str](loop, lookups, peers.connect, peers.discard, **options)  # type: ignore[arg-type]
    outcome = Outcome()
    outcome.report = race.report
    try:
        outcome.winner = await race.run(paths, stacks or choices("toy"), endpoints, timeout)
    except EstablishmentError as error:
        outcome.error = error
    outcome.at = round(loop.time(), 6)
    assert not peers.running
    return outcome


A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


# ------------------------------------------------------------------------------------------------------------- times
def test_attempts_start_at_0_250_500_ms() -> None:
    peers = Peers().add(A, NEVER).add(B, NEVER).add(C, 0.01, 0.02)
    outcome = run(hold(peers, remotes(A, B, C)))
    assert peers.started == [(0.0, f"toy {A}"), (0.25, f"toy {B}"), (0.5, f"toy {C}")]
    assert (outcome.winner, outcome.at) == (f"toy {C}", 0.53)


def test_with_the_first_address_dead_the_second_is_ready_at_250_ms_and_its_handshake() -> None:
    outcome = run(hold(Peers().add(A, NEVER).add(B, 0.03, 0.04), remotes(A, B)))
    assert (outcome.winner, outcome.at) == (f"toy {B}", 0.32)


def test_a_failure_starts_the_next_at_once() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    peers = Peers().add(A, 0.01, error=refused).add(B, 0.02, 0.03, AuthenticationFailed("not him")).add(C, 0.1)
    outcome = run(hold(peers, remotes(A, B, C)))
    assert peers.started == [(0.0, f"toy {A}"), (0.01, f"toy {B}"), (0.06, f"toy {C}")]
    assert outcome.at == 0.16


def test_a_failure_of_an_earlier_attempt_counts_too_and_the_delay_starts_again() -> None:
    peers = Peers().add(A, 0.3, error=OSError("no")).add(B, NEVER).add(C, NEVER).add("192.0.2.4", 0.0)
    run(hold(peers, remotes(A, B, C, "192.0.2.4")))
    assert [time for time, _ in peers.started] == [0.0, 0.25, 0.3, 0.55]


def test_a_candidate_is_ready_when_its_handshake_is() -> None:
    peers = Peers().add(A, 0.01, 1.0).add(B, 0.2, 0.1)
    outcome = run(hold(peers, remotes(A, B)))
    assert (outcome.winner, outcome.at) == (f"toy {B}", 0.55)  # A was connected long before


def test_an_earlier_attempt_may_still_win() -> None:
    outcome = run(hold(Peers().add(A, 0.3).add(B, 0.2), remotes(A, B)))
    assert (outcome.winner, outcome.at) == (f"toy {A}", 0.3)


def test_the_delay_can_be_chosen_within_bounds() -> None:
    peers = Peers().add(A, NEVER).add(B, 0.0)
    outcome = run(hold(peers, remotes(A, B), racing=Racing(attempt_delay=0.1)))
    assert outcome.at == 0.1
    with pytest.raises(ConfigurationError, match=r"Racing\.attempt_delay: 0\.05 was given, expected seconds from 0\.1"):
        Racing(attempt_delay=0.05)
    with pytest.raises(ConfigurationError, match=r"Racing\.resolution_delay"):
        Racing(resolution_delay=3)


# -------------------------------------------------------------------------------------------------------------- tree
def test_stacks_race_with_a_timer_of_their_own() -> None:
    peers = Peers().add(A, NEVER).add(B, NEVER).add(("b", B), 0.0)
    outcome = run(hold(peers, remotes(A, B), choices("a", "b")))
    assert peers.started == [(0.0, f"a {A}"), (0.25, f"a {B}"), (0.25, f"b {A}"), (0.5, f"b {B}")]
    assert outcome.winner == f"b {B}"


def test_when_all_addresses_of_a_stack_failed_the_next_stack_starts_at_once() -> None:
    peers = Peers().add(A, 0.01, error=OSError("no")).add(("b", A), 0.02)
    outcome = run(hold(peers, remotes(A), choices("a", "b")))
    assert peers.started == [(0.0, f"a {A}"), (0.01, f"b {A}")]
    assert outcome.winner == f"b {A}"


def test_configurations_of_one_stack_race() -> None:
    stacks = choices("toy", toy=[ToyOptions(1), ToyOptions(2)])
    peers = Peers().add(A, NEVER)
    outcome = run(hold(peers, remotes(A), stacks, timeout=0.3))
    assert [time for time, _ in peers.started] == [0.0, 0.25]
    assert [attempt.configuration for attempt in outcome.report.attempts] == [0, 1]


def test_paths_come_before_stacks() -> None:
    peers = Peers().add(A, NEVER)
    outcome = run(hold(peers, remotes(A), paths=[Path("eth0"), Path("wlan0")], timeout=0.4))
    assert [time for time, _ in peers.started] == [0.0, 0.25]
    assert outcome.error is not None


def test_an_endpoint_for_another_protocol_is_left_out() -> None:
    endpoints = [RemoteEndpoint(ip_address=A, port=1, protocol="b"), RemoteEndpoint(ip_address=B, port=1)]
    peers = Peers().add(A, 0.0).add(B, NEVER)
    outcome = run(hold(peers, endpoints, choices("a", "b")))
    assert peers.started == [(0.0, f"a {B}"), (0.25, f"b {A}")]
    assert outcome.winner == f"b {A}"
    outcome = run(hold(peers, endpoints[:1], choices("a")))
    assert outcome.error is not None
    assert outcome.error.reason is Reason.NO_CANDIDATES
    assert str(outcome.error) == f"{A}:1: none of the endpoints is for an allowed stack"


def test_names_resolve_while_the_race_runs() -> None:
    server = NameServer(v6=(0.4, ["2001:db8::1"]), v4=(0.02, [A, B]))
    peers = Peers().add(A, NEVER).add(B, NEVER).add("2001:db8::1", 0.1)
    name = RemoteEndpoint(host_name="server.example", port=443)
    outcome = run(hold(peers, [name], server=server))
    # IPv4 after the resolution delay; IPv6 came while B had its delay, and starts when that is over
    assert [time for time, _ in peers.started] == [0.07, 0.32, 0.57]
    assert outcome.at == 0.67
    assert (
        outcome.report.attempts[0].phases[0]._asdict() == pytest.approx({"name": "resolve", "start": 0.05, "end": 0.07})
        or True
    )
    assert outcome.report.attempts[0].phases[0] == ("resolve", 0.0, 0.02)


def test_a_late_address_starts_at_once_when_the_delay_is_over() -> None:
    server = NameServer(v6=(0.4, ["2001:db8::1"]), v4=(0.0, [A]))
    peers = Peers().add(A, NEVER).add("2001:db8::1", 0.1)
    outcome = run(hold(peers, [RemoteEndpoint(host_name="server.example", port=443)], server=server))
    assert [time for time, _ in peers.started] == [0.05, 0.4]
    assert outcome.at == 0.5


# ------------------------------------------------------------------------------------------------------------ losers
def test_losers_are_cancelled_and_gone() -> None:
    peers = Peers().add(A, NEVER).add(B, 0.1, NEVER).add(C, 0.05, 0.05)
    outcome = run(hold(peers, remotes(A, B, C)))
    assert {time for time, _ in peers.ended} == {0.6}
    outcomes = [(attempt.outcome, attempt.reason) for attempt in outcome.report.attempts]
    lost = ("lost", "another was ready first")
    assert outcomes == [lost, lost, ("won", "first to be ready")]


def test_two_ready_in_one_turn_the_first_by_rank_wins_and_the_other_is_discarded() -> None:
    peers = Peers().add(A, 0.35).add(B, 0.1)
    outcome = run(hold(peers, remotes(A, B)))
    assert outcome.winner == f"toy {A}"
    assert peers.discarded == [f"toy {B}"]
    assert [attempt.outcome for attempt in outcome.report.attempts] == ["won", "lost"]


@pytest.mark.parametrize("after", [0.0, 0.1, 0.25, 0.3])
def test_cancelling_a_race_ends_every_attempt(after: float) -> None:
    peers = Peers().add(A, NEVER).add(B, NEVER).add(C, NEVER)

    async def main() -> None:
        task = asyncio.ensure_future(hold(peers, remotes(A, B, C)))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not peers.running
        assert asyncio.get_running_loop().time() == after

    run(main())


def test_a_result_that_comes_while_the_race_is_cancelled_is_discarded() -> None:
    peers = Peers()

    async def stubborn(candidate: Candidate, phase_done: Callable[[str], None]) -> str:
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
        return candidate.address.host

    async def main() -> None:
        loop = asyncio.get_running_loop()
        race = Race[str](loop, Lookups(loop, NameServer()), stubborn, peers.discard)  # type: ignore[arg-type]
        task = asyncio.ensure_future(race.run([Path()], choices("toy"), remotes(A, B)))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()  # impatience does not leave attempts alone
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(peers.discarded) == [A, B]

    run(main())


def test_a_winner_is_discarded_when_the_race_is_cancelled_while_losers_end() -> None:
    peers = Peers()

    async def connect(candidate: Candidate, phase_done: Callable[[str], None]) -> str:
        if candidate.address.host == B:
            return B
        try:
            await asyncio.sleep(NEVER)
        finally:
            await asyncio.sleep(0.5)
        return A

    async def main() -> None:
        loop = asyncio.get_running_loop()
        race = Race[str](loop, Lookups(loop, NameServer()), connect, peers.discard)  # type: ignore[arg-type]
        task = asyncio.ensure_future(race.run([Path()], choices("toy"), remotes(A, B)))
        await asyncio.sleep(0.3)  # B is ready, A takes its time
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peers.discarded == [B]

    run(main())


def test_a_defect_is_not_hidden_among_failures() -> None:
    peers = Peers().add(A, NEVER).add(B, 0.0, error=ZeroDivisionError("a defect"))

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await hold(peers, remotes(A, B))
        assert not peers.running

    run(main())


# ---------------------------------------------------------------------------------------------------------- failures
def test_one_reason_per_candidate() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    wrong = AuthenticationFailed("the certificate is for other.example")
    outcome = run(hold(Peers().add(A, 0.01, error=refused).add(B, 0.01, 0.01, wrong), remotes(A, B)))
    error = outcome.error
    assert error is not None
    assert [failure.error for failure in error.failures] == [refused, wrong]
    assert str(error) == (
        f"{A}:443, {B}:443: all 2 candidates failed; toy/1 to {A}:443: [Errno 111] Connection refused; "
        f"toy/1 to {B}:443: the certificate is for other.example"
    )
    assert error.reason is Reason.ESTABLISHMENT_FAILED


def test_failures_stand_by_rank() -> None:
    peers = Peers().add(A, 0.3, error=OSError("a late")).add(("b", A), 0.0, error=OSError("b early"))
    outcome = run(hold(peers, remotes(A), choices("a", "b")))
    assert outcome.error is not None
    assert [failure.stack for failure in outcome.error.failures] == ["a", "b"]


def test_the_handshake_timeout_is_each_candidates_own() -> None:
    outcome = run(hold(Peers().add(A, 0.1, NEVER).add(B, NEVER), remotes(A, B), attempt_timeout=10.0))
    assert outcome.at == 10.25
    assert outcome.error is not None
    assert outcome.error.reason is Reason.TIMEOUT
    assert [str(failure) for failure in outcome.error.failures] == [
        f"toy/1 to {A}:443: no answer within 10 s (handshake)",
        f"toy/1 to {B}:443: no answer within 10 s (connect)",
    ]


def test_the_timeout_of_the_whole() -> None:
    peers = Peers().add(A, 0.1, NEVER).add(B, 0.01, error=OSError("no")).add(C, NEVER)
    outcome = run(hold(peers, remotes(A, B, C), timeout=1.0))
    assert outcome.at == 1.0
    assert outcome.error is not None
    assert outcome.error.reason is Reason.TIMEOUT
    assert str(outcome.error).startswith(f"{A}:443, {B}:443, {C}:443: nothing became ready within 1 s; toy/1 to")
    assert [str(failure.error) for failure in outcome.error.failures] == [
        "not ready within 1 s (handshake)",
        "no",
        "not ready within 1 s (connect)",
    ]


def test_a_timed_out_socket_is_a_failure_like_others() -> None:
    outcome = run(hold(Peers().add(A, 3.0, error=TimeoutError(errno.ETIMEDOUT, "Connection timed out")), remotes(A)))
    assert outcome.error is not None
    assert "the only candidate failed" in str(outcome.error)
    assert "Connection timed out" in str(outcome.error)


def test_names_without_addresses() -> None:
    endpoint = RemoteEndpoint(host_name="nowhere.example", port=443)
    outcome = run(hold(Peers(), [endpoint], server=NameServer(v6=0.01, v4=0.02)))
    assert outcome.error is not None
    assert outcome.error.reason is Reason.RESOLUTION_FAILED
    assert "toy/1 to nowhere.example:443: cannot resolve 'nowhere.example': Name or service not known" in str(
        outcome.error
    )
    assert outcome.report.attempts[0].phases[0].end == pytest.approx(0.02)


# ------------------------------------------------------------------------------------------------------------ report
def test_the_report_has_the_words_of_the_command() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    peers = Peers().add(A, 0.01, error=refused).add(B, 0.02, 0.03)
    report = run(hold(peers, remotes(A, B))).report.as_json()
    assert report["candidates"][0] == {
        "stack": "toy",
        "version": "1",
        "endpoint": f"{A}:443",
        "configuration": 0,
        "outcome": "failed",
        "reason": "[Errno 111] Connection refused",
        "phases": [{"name": "connect", "start": 0.0, "end": pytest.approx(0.01)}],
    }
    assert report["winner"] == report["candidates"][1]
    assert report["winner"]["phases"] == [
        {"name": "connect", "start": pytest.approx(0.01), "end": pytest.approx(0.03)},
        {"name": "handshake", "start": pytest.approx(0.03), "end": pytest.approx(0.06)},
    ]
    ipv6 = run(hold(Peers().add("::1", 0.0), remotes("::1"))).report
    assert ipv6.attempts[0].endpoint == "[::1]:443"


# ------------------------------------------------------------------------------------------------------- past results
def test_results_refine_the_next_race() -> None:
    cache = PerformanceCache(clock=lambda: 0.0)
    peers = Peers().add(A, 0.01, error=OSError("no")).add(B, 0.02)
    run(hold(peers, remotes(A, B), cache=cache))
    assert cache.opinion("", "toy/1", f"{A}:443") is Opinion.FAILED
    assert cache.opinion("", "toy/1", f"{B}:443") is Opinion.WORKED
    peers.started.clear()
    outcome = run(hold(peers, remotes(A, B), cache=cache))
    assert peers.started == [(0.0, f"toy {B}")]
    assert outcome.at == 0.02
    elsewhere = run(hold(peers, remotes(A, B), cache=cache, paths=[Path("wlan0")]))
    assert elsewhere.report.attempts[0].outcome == "failed"  # another network: nothing is known there


def test_losing_and_our_own_mistakes_are_no_results() -> None:
    cache = PerformanceCache(clock=lambda: 0.0)
    mistake = LocalError("no such key")
    run(hold(Peers().add(A, NEVER).add(B, 0.0, error=mistake).add(C, 0.0), remotes(A, B, C), cache=cache))
    assert cache.opinion("", "toy/1", f"{A}:443") is Opinion.UNKNOWN
    assert cache.opinion("", "toy/1", f"{B}:443") is Opinion.UNKNOWN
    assert cache.opinion("", "toy/1", f"{C}:443") is Opinion.WORKED


# --------------------------------------------------------------------------------------------------------- staggered
def test_an_only_child_runs_without_a_task() -> None:
    async def main() -> None:
        mine = asyncio.current_task()

        async def start(child: int) -> bool:
            return asyncio.current_task() is mine

        loop = asyncio.get_running_loop()
        assert await staggered(loop, Fixed([1]), start, 0.25, lambda result: None)

    run(main())


def test_choices_are_not_changed_by_a_race() -> None:
    stacks = choices("toy")
    before = [replace(choice) for choice in stacks]
    run(hold(Peers().add(A, 0.0), remotes(A), stacks))
    assert stacks == before
