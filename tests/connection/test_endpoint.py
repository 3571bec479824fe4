"""Routes, screening, lingering ends and bounds of an endpoint, on stubs. With stacks and networks: tests/toys."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from taps_security.connection.endpoint import LINGERING_ENDS, LOOK_AGAIN, PATHS_PER_STACK, RUNS_PER_TURN
from taps_security.stack.errors import ConfigurationError, LocalError, PeerMisbehaved, Reason
from taps_security.stack.events import HandshakeComplete, PathNews, PeerMoved, RouteIssued, RouteRetired
from taps_security.stack.screening import Create, HandOver, Match
from taps_security.transport.network import NO_REPORT, Report
from tests.connection.datagrams import ELSEWHERE, HERE, THERE, Bench, StubScreener, StubStack

NOTHING_SENT = "a report of nothing that was sent"


def route_of(datagram: memoryview) -> tuple[str, bytes]:
    return "stub", bytes(datagram[:1])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_ids_come_before_addresses(bench: Bench) -> None:
    bench.endpoint.read_routes(route_of)
    _, one = bench.connect(b"a", THERE)
    _, other = bench.connect(b"b", ELSEWHERE)
    bench.arrive(b"a by id", remote=THERE)
    bench.arrive(b"b by id, from the address of the other", remote=THERE)
    bench.arrive(b"? by address", remote=ELSEWHERE)
    assert [got[1][:1] for got in one.got] == [b"a"]
    assert [got[1][:1] for got in other.got] == [b"b"]
    assert bench.endpoint.noise == {"nobody's": 1}  # the stack at that address did not take it


def test_a_run_is_split_where_another_owner_begins(bench: Bench) -> None:
    bench.endpoint.read_routes(route_of)
    _, one = bench.connect(b"a")
    _, other = bench.connect(b"b")
    bench.arrive(b"a1a2b1a3b2b3?_b4a4b", segment=2)
    assert b"".join(got[1] for got in one.got) == b"a1a2a3a4"
    assert b"".join(got[1] for got in other.got) == b"b1b2b3b4b"
    assert bench.endpoint.noise == {"nobody's": 1}


def test_routes_change_hands(bench: Bench) -> None:
    bench.endpoint.read_routes(route_of)
    one_driver, one = bench.connect(b"a")
    other_driver, other = bench.connect(b"b", ELSEWHERE)
    other.events.append(RouteIssued(("stub", b"a")))
    other_driver.pump()
    bench.arrive(b"a")
    assert len(one.got) == 1  # it keeps what it has
    other.events.append(RouteIssued(("stub", b"a"), replace=True))
    other_driver.pump()
    bench.loop.turn()
    assert one.error is not None
    assert one.error.reason is Reason.RESET
    one.events.clear()
    other.mine = b"a"
    bench.arrive(b"a")
    assert len(other.got) == 1
    other.events.append(RouteRetired(("stub", b"a")))
    other_driver.pump()
    assert set(bench.endpoint._by_route) == {("stub", b"b")}
    assert one_driver is not other_driver


def test_issued_ids_are_nobodys() -> None:
    bench = Bench()
    first = bench.endpoint.issue_id("stub", 1)
    driver, stack = bench.connect(first)
    bench.numbers = iter([first[0], 9])
    assert bench.endpoint.issue_id("stub", 1) == b"\x09"
    bench.numbers = iter([first[0]] * 100)
    with pytest.raises(LocalError) as caught:
        bench.endpoint.issue_id("stub", 1)
    assert caught.value.reason is Reason.OVERLOADED
    assert stack.mine == first
    assert driver.owner is bench.endpoint


def test_screeners_look_in_order_at_what_nobody_claims(bench: Bench) -> None:
    first = bench.serve(StubScreener(), claims=(b"1",))
    second = bench.serve(StubScreener({b"n": Create(b"nz")}), claims=(b"2",))
    for data in (b"d", b"r12345", b"R", b"n", b"?", b"x", b""):
        bench.arrive(data)
    assert first.seen == [b"d", b"r12345", b"R", b"n", b"x"]
    assert second.seen == [b"n"]
    assert bench.endpoint.noise == {
        "dull": 1,
        "the answer would amplify": 1,
        "nobody's": 1,
        "unknown": 1,
        "empty": 1,
    }
    assert bench.socket.sent == [(b"answer", 0, THERE, HERE, 0)]
    assert len(second.stacks) == 1


def test_a_created_stack_has_its_routes_and_its_facts(bench: Bench) -> None:
    screener = bench.serve(StubScreener({b"c": Create(b"cz", routes=(("stub", b"y"),), validated=True)}))
    bench.arrive(b"c", remote=ELSEWHERE)
    (stack,) = screener.stacks
    facts = stack.facts[stack.path]
    assert (facts.local, facts.remote, facts.mtu, facts.validated) == (HERE, ELSEWHERE, 1472, True)
    stack.mine = b"y"
    bench.arrive(b"y by the given route")
    stack.mine = b"z"
    bench.arrive(b"z by its own")
    assert [got[1][:1] for got in stack.got] == [b"y", b"z"]
    assert screener.seen == [b"c"]


def test_what_accepting_raises_is_noise(bench: Bench) -> None:
    bench.serve(StubScreener({b"c": PeerMisbehaved("no", reason=Reason.MALFORMED)}))
    bench.arrive(b"c")
    assert bench.endpoint.noise == {"malformed": 1}
    assert not bench.endpoint.stacks


def test_screened_addresses_leave_no_trace(bench: Bench) -> None:
    bench.serve()
    for port in range(100):
        bench.arrive(b"d", remote=("127.0.0.1", port))
    assert not len(bench.endpoint._paths)


def test_a_screener_that_fails_leaves_no_trace(bench: Bench) -> None:
    bench.serve(StubScreener({b"x": ZeroDivisionError()}))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            bench.arrive(b"x", remote=ELSEWHERE)
    assert not len(bench.endpoint._paths)


def test_half_open_stacks_are_bounded_and_load_is_told(bench: Bench) -> None:
    screener = bench.serve(max_establishing=3)
    for number in range(5):
        bench.arrive(bytes((ord("c"), number)), remote=("127.0.0.1", 2000 + number))
    assert [load.half_open for load in screener.loads] == [0, 1, 2, 3, 3]
    assert [stack.error is not None for stack in screener.stacks] == [True, True, False, False, False]
    assert screener.stacks[0].error.reason is Reason.OVERLOADED
    assert (bench.endpoint.half_open, bench.endpoint.dropped, bench.endpoint.stacks) == (3, 2, 3)
    screener.completes = True
    bench.arrive(b"c!", remote=ELSEWHERE)
    assert (bench.endpoint.half_open, bench.endpoint.stacks) == (3, 4)  # established at once


def test_claims_that_overlap_fail_before_anything_is_served(bench: Bench) -> None:
    bench.serve(claims=(b"ab", b"c"))
    for claims in ((b"a",), (b"abc",), (b"",), (b"x", b"c")):
        with pytest.raises(ConfigurationError, match="two protocols on port"):
            bench.serve(claims=claims)
    screener = bench.serve(claims=(b"b", b"d"))
    bench.endpoint.stop_serving(screener)
    bench.serve(claims=(b"b",))


def test_unfinished_stacks_of_one_protocol_push_out_none_of_another(bench: Bench) -> None:
    calm = bench.serve(StubScreener({b"k": Create(b"kk")}), claims=(b"k",))
    calm.recognise = lambda head: Match.YES if head[:1] == b"k" else Match.NO  # type: ignore[method-assign]
    bench.arrive(b"k", remote=ELSEWHERE)
    flooded = bench.serve(claims=(b"c",), max_establishing=2)
    for port in range(10):
        bench.arrive(b"c%d" % port, remote=("127.0.0.1", 4000 + port))
    assert calm.stacks[0].error is None
    assert [stack.error is None for stack in flooded.stacks] == [False] * 8 + [True] * 2
    assert bench.endpoint.half_open == 3
    assert bench.endpoint.dropped == 8
    assert [load.limit for load in (*calm.loads, *flooded.loads[-1:])] == [1024, 2]
    bench.endpoint.stop_serving(flooded)
    assert bench.endpoint.half_open == 1


def test_a_stack_for_which_there_is_no_room_is_never_started(bench: Bench) -> None:
    screener = StubScreener()
    bench.endpoint.serve(screener, lambda stack, facts: None)  # type: ignore[arg-type]
    bench.arrive(b"ca", remote=ELSEWHERE)
    assert bench.endpoint.noise == {"no room": 1}
    assert bench.endpoint.stacks == 0


def test_what_is_handed_over_goes_to_the_stack_that_has_the_route(bench: Bench) -> None:
    bench.serve(StubScreener({b"h": HandOver(("stub", b"m"), "a seed"), b"g": HandOver(("stub", b"?"), "another")}))
    _, stack = bench.connect(b"m")
    bench.arrive(b"h", remote=ELSEWHERE)
    bench.arrive(b"g", remote=ELSEWHERE)
    ((seed, path),) = stack.adopted
    assert seed == "a seed"
    assert path in stack.facts  # it came by a path that the stack did not have
    assert bench.endpoint.noise == {"handed over to nobody": 1}


def test_a_stopped_listener_keeps_who_is_established(bench: Bench) -> None:
    screener = bench.serve()
    bench.arrive(b"ca", remote=ELSEWHERE)
    screener.completes = True
    bench.arrive(b"cb", remote=THERE)
    bench.endpoint.stop_serving(screener)
    assert [stack.error is not None for stack in screener.stacks] == [True, False]
    assert not bench.endpoint.closed
    bench.arrive(b"b")
    assert len(screener.stacks[1].got) == 1
    bench.arrive(b"c?", remote=("127.0.0.1", 9))
    assert bench.endpoint.noise == {"nobody's": 1}
    bench.end(next(iter(bench.endpoint._members)))
    assert bench.endpoint.closed
    assert bench.socket.closed
    assert not bench.loop.readers


def test_a_clients_socket_is_its_own_whoever_writes(bench: Bench) -> None:
    driver, stack = bench.connect(b"a")
    bench.arrive(b"a from elsewhere", remote=ELSEWHERE)
    (path, _, _) = stack.got[0]
    assert path != stack.path
    assert stack.facts[path].remote == ELSEWHERE
    bench.end(driver)
    assert bench.endpoint.closed
    assert not bench.endpoint._by_path
    assert not len(bench.endpoint._paths)


def test_a_wildcards_path_is_found_by_its_real_address() -> None:
    bench = Bench(("0.0.0.0", 1000))
    _, stack = bench.connect(b"a")
    bench.serve()
    bench.arrive(b"a", local=HERE)
    assert stack.got[0][0] == stack.path


def test_strange_paths_of_a_stack_are_bounded(bench: Bench) -> None:
    bench.endpoint.read_routes(route_of)
    driver, stack = bench.connect(b"a")
    stack.output.append(b"x")
    driver.pump()  # the first path is in use
    for port in range(100):
        bench.arrive(b"a", remote=("127.0.0.1", 5000 + port))
    gone = [path for path, news, _ in stack.news if news is PathNews.GONE]
    assert len(gone) == 100 - (PATHS_PER_STACK - 1)
    assert stack.path not in gone
    assert len(bench.endpoint._paths) == PATHS_PER_STACK
    stack.output.append(b"y")
    driver.pump()
    assert bench.socket.sent[-1][2] == THERE


def test_strange_paths_never_cost_the_one_to_which_the_peer_moved(bench: Bench) -> None:
    """Whoever knows an id may write from any address: who only listens there must not lose its peer by it."""
    bench.endpoint.read_routes(route_of)
    driver, stack = bench.connect(b"a")
    stack.output.append(b"x")
    driver.pump()
    bench.arrive(b"a", remote=ELSEWHERE)
    moved = stack.got[-1][0]
    stack.events.append(PeerMoved(stack.path, moved))
    driver.pump()
    for port in range(100):
        bench.arrive(b"a", remote=("127.0.0.1", 5000 + port))
    assert {stack.path, moved} <= set(driver.paths)
    assert len(bench.endpoint._paths) == PATHS_PER_STACK
    stack.path = moved
    stack.output.append(b"y")
    driver.pump()
    assert bench.socket.sent[-1][2] == ELSEWHERE


class StubLinger:
    def __init__(self, until: float, *routes: bytes) -> None:
        self.until = until
        self.routes = frozenset(("stub", route) for route in routes)

    def reply(self, datagram: memoryview, path: int, now: float) -> bytes | None:
        return b"I said so" if datagram[:1] == b"a" else None


def test_an_end_lingers_and_is_forgotten(bench: Bench) -> None:
    screener = bench.serve()
    driver, stack = bench.connect(b"a")
    stack.linger = StubLinger(3.0, b"a")
    bench.end(driver)
    assert not bench.endpoint.stacks
    bench.arrive(b"a by id, from elsewhere", remote=ELSEWHERE)
    bench.arrive(b"a by address")
    assert [(sent[0], sent[2]) for sent in bench.socket.sent] == [(b"I said so", ELSEWHERE), (b"I said so", THERE)]
    bench.arrive(b"d not for the dead")
    assert screener.seen == [b"d not for the dead"]
    bench.arrive(b"cz a new life at the same address")
    assert len(screener.stacks) == 1
    bench.loop.pass_time(3.0)
    bench.arrive(b"a too late", remote=ELSEWHERE)
    assert len(bench.socket.sent) == 2


def test_lingering_ends_are_bounded_and_keep_a_client_open(bench: Bench) -> None:
    for number in range(3):
        driver, stack = bench.connect(b"%d" % number)
        stack.linger = StubLinger(2.0 + number, b"%d" % number)
        bench.end(driver)
        assert not bench.endpoint.closed
    assert len(bench.endpoint._lingering) == 3 < LINGERING_ENDS
    for _ in range(3):
        bench.loop.pass_time(2.0)
    assert bench.endpoint.closed
    assert not bench.loop.timers


def test_icmp_errors_reach_those_whom_they_concern(bench: Bench) -> None:
    _, one = bench.connect(b"a", THERE)
    _, other = bench.connect(b"b", ELSEWHERE)
    bench.fail(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), THERE, Report(b"a datagram"))
    bench.fail(OSError(errno.EMSGSIZE, "too long"), ELSEWHERE, Report(b"b too", mtu=1328))
    bench.fail(OSError(errno.EHOSTUNREACH, "no route"), ("", 0))  # whom?
    assert one.news == [(one.path, PathNews.UNREACHABLE, errno.ECONNREFUSED)]
    assert other.news == [(other.path, PathNews.MTU, 1300)]
    assert bench.endpoint.noise == {NOTHING_SENT: 1}
    assert bench.loop.readers_added == 1  # the poller goes on watching a socket that was in error


def test_a_connected_socket_means_its_only_peer(bench: Bench) -> None:
    _, stack = bench.connect(b"a")
    bench.fail(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ("", 0), Report(b"a"))
    assert stack.news == [(stack.path, PathNews.UNREACHABLE, errno.ECONNREFUSED)]


@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.ECONNREFUSED])
def test_a_report_that_quotes_nothing_that_was_sent_is_noise(bench: Bench, number: int) -> None:
    """Anybody can forge it who knows two addresses and ports: the socket learns nothing from it, and no stack hears."""
    _, stack = bench.connect(b"a")
    bench.fail(OSError(number, os.strerror(number)), THERE, Report(b"forged", mtu=600))
    assert stack.news == []
    assert bench.socket.mtu == 1472
    assert bench.endpoint.noise == {NOTHING_SENT: 1}


def test_a_report_is_for_those_whose_datagram_it_quotes(bench: Bench) -> None:
    """Two stacks have paths to one address."""
    (_, one), (_, other) = bench.connect(b"a"), bench.connect(b"b")
    assert one.path == other.path
    bench.fail(OSError(errno.EMSGSIZE, "too long"), THERE, Report(b"b...", mtu=1228))
    assert one.news == []
    assert other.news == [(other.path, PathNews.MTU, 1200)]


def test_a_report_of_our_own_kernel_needs_no_proof(bench: Bench) -> None:
    _, stack = bench.connect(b"a")
    bench.fail(OSError(errno.EMSGSIZE, "too long"), THERE, Report(local=True, mtu=1428))
    assert stack.news == [(stack.path, PathNews.MTU, 1400)]


def test_a_report_without_a_quotation_counts_before_the_peer_is_known(bench: Bench) -> None:
    """Where the platform does not tell, a refused port ends an attempt at once. It never ends more than that."""
    stack = StubStack(b"a", completes=False)
    driver = bench.driver(stack)
    bench.endpoint.connect(driver, THERE)
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    bench.fail(refused)
    bench.fail(OSError(errno.EMSGSIZE, "too long"), THERE, Report(mtu=600))  # not of a path
    assert stack.news == [(stack.path, PathNews.UNREACHABLE, errno.ECONNREFUSED)]
    stack.events.append(HandshakeComplete({}))
    driver.pump()
    bench.fail(refused)
    assert len(stack.news) == 1
    assert bench.socket.mtu == 1472
    assert bench.endpoint.noise == {NOTHING_SENT: 2}


def test_a_report_is_not_taken_for_the_one_before_it(bench: Bench) -> None:
    _, stack = bench.connect(b"a")
    for report in (Report(b"a", mtu=1328), NO_REPORT):
        bench.fail(OSError(errno.EMSGSIZE, "too long"), THERE, report)
    assert stack.news == [(stack.path, PathNews.MTU, 1300)]
    assert bench.endpoint.noise == {NOTHING_SENT: 1}


def test_one_turn_reads_so_much_and_no_more(bench: Bench) -> None:
    _, stack = bench.connect(b"a")
    bench.socket.arriving.extend((b"a", 0, THERE, HERE) for _ in range(RUNS_PER_TURN + 5))
    bench.read()
    assert len(stack.got) == RUNS_PER_TURN
    bench.read()
    assert len(stack.got) == RUNS_PER_TURN + 5


def test_datagrams_that_come_alone_are_read_without_looking_for_more(bench: Bench) -> None:
    """Each look finds nothing and costs a system call. Every now and then there is one, and after it all are read."""
    _, stack = bench.connect(b"a")
    bench.arrive(b"a")  # this one was looked behind
    for number in range(LOOK_AGAIN):
        bench.socket.arriving.extend((b"a", 0, THERE, HERE) for _ in range(2))
        bench.read()
        assert len(bench.socket.arriving) == number + 1
    bench.read()
    assert not bench.socket.arriving
    assert len(stack.got) == 1 + 2 * LOOK_AGAIN
    bench.arrive(b"a")
    bench.socket.arriving.extend((b"aa", 1, THERE, HERE) for _ in range(2))
    bench.read()
    assert not bench.socket.arriving  # behind a run there may always be another


def test_closing_ends_every_stack(bench: Bench) -> None:
    bench.serve()
    _, stack = bench.connect(b"a")
    stack.linger = StubLinger(9.0, b"a")
    bench.arrive(b"cb", remote=ELSEWHERE)
    bench.endpoint.close()
    bench.endpoint.close()
    bench.loop.turn()
    assert stack.error is not None
    assert bench.socket.closed
    assert not bench.loop.readers
    assert not bench.loop.timers
    assert not bench.endpoint._by_route


def test_a_stack_with_paths_on_two_endpoints_leaves_both() -> None:
    one, other = Bench(), Bench(("127.0.0.1", 1001))
    other.endpoint._paths = one.endpoint._paths
    driver, stack = one.connect(b"a")
    path = other.endpoint.join(driver, THERE)
    assert path != stack.path
    stack.path = path
    stack.output.append(b"by the other")
    driver.pump()
    assert [len(bench.socket.sent) for bench in (one, other)] == [0, 1]
    one.end(driver)
    other.loop.turn()
    assert one.endpoint.closed
    assert other.endpoint.closed


def test_events_of_strangers_mean_nothing(bench: Bench) -> None:
    stranger = bench.driver(StubStack(b"s"))
    bench.endpoint.heard(stranger, RouteIssued("r"))
    assert not bench.endpoint._by_route
    assert "127.0.0.1:1000" in repr(bench.endpoint)
    assert isinstance(bench.endpoint.local, tuple)


class LastWord(StubStack):
    """Ends with the first datagram that it gets."""

    def receive(self, inbound: Any, now: float) -> int:
        consumed = inbound.segment or len(inbound.data)
        self.got.append((inbound.path, bytes(inbound.data[:consumed]), inbound.ecn))
        self.abort(None, now)
        return consumed


def test_a_stack_may_end_in_the_middle_of_a_run(bench: Bench) -> None:
    screener = bench.serve()
    stack = LastWord(b"a")
    bench.endpoint.connect(bench.driver(stack), THERE)
    bench.arrive(b"a1a2cz", segment=2)
    assert [got[1] for got in stack.got] == [b"a1"]
    assert screener.seen == [b"a2", b"cz"]  # its path is nobody's, as for a stranger
    assert bench.endpoint.noise == {"unknown": 1}
    (fresh,) = screener.stacks
    assert fresh.facts[fresh.path].remote == THERE
    assert len(bench.endpoint._paths) == 1


def test_paths_that_a_stack_moves_to_are_bounded(bench: Bench) -> None:
    driver, stack = bench.connect(b"a")
    for port in range(50):
        stack.path = bench.endpoint.join(driver, ("127.0.0.1", 5000 + port))
        stack.output.append(b"x")
        driver.pump()
    assert len(bench.endpoint._paths) == PATHS_PER_STACK
    assert len(bench.endpoint._by_path) == PATHS_PER_STACK
    assert len(driver.paths) == PATHS_PER_STACK
    assert bench.socket.sent[-1][2] == ("127.0.0.1", 5049)
    again = bench.endpoint.join(driver, ("127.0.0.1", 5049))
    assert again == stack.path  # a path that it has costs no other
    assert len(driver.paths) == PATHS_PER_STACK
    bench.end(driver)
    assert not len(bench.endpoint._paths)


def test_ids_are_read_for_as_long_as_somebody_has_one(bench: Bench) -> None:
    """Listeners come and go on a socket that others use: what they leave behind is what lives on."""
    bench.connect(b"a")
    for number in range(20):
        screener = bench.serve()
        screener.completes = number == 19
        bench.arrive(b"cb", remote=ELSEWHERE)
        bench.endpoint.stop_serving(screener)
        bench.endpoint.stop_serving(screener)
        bench.loop.turn()
    assert len(bench.endpoint._route_of) == 1
    (stack,) = screener.stacks
    bench.arrive(b"b by id, from elsewhere", remote=("127.0.0.1", 7))
    assert len(stack.got) == 1
    stack.linger = StubLinger(3.0, b"b")
    bench.end(next(driver for driver in bench.endpoint._members if driver.stack is stack))
    assert len(bench.endpoint._route_of) == 1  # the end that lingers is found by its ids too
    bench.loop.pass_time(3.0)
    assert not bench.endpoint._route_of


def test_views_that_are_kept_are_not_written_over(bench: Bench) -> None:
    kept: list[memoryview] = []

    class Keeper(StubStack):
        def receive(self, inbound: Any, now: float) -> int:
            kept.append(inbound.data[1:])
            return len(inbound.data)

    bench.endpoint.connect(bench.driver(Keeper(b"a")), THERE)
    for number in range(20):
        bench.socket.arriving.append((b"a%d" % number, 0, THERE, HERE))
    bench.read()
    bench.arrive(b"a" + bytes(1000))
    assert [bytes(view) for view in kept[:20]] == [b"%d" % number for number in range(20)]
    assert len({id(view.obj) for view in kept}) == 21
