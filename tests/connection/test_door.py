"""How datagram stacks share a socket that may be full."""

from __future__ import annotations

import errno
import os

import pytest

from taps_security.connection.door import BATCH
from taps_security.stack.events import PathNews
from tests.connection.datagrams import ELSEWHERE, HERE, THERE, Bench


def full() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_full_socket_keeps_one_run_and_is_full_for_all(bench: Bench) -> None:
    one_driver, one = bench.connect(b"a", THERE)
    other_driver, other = bench.connect(b"b", ELSEWHERE)
    one.output.extend([b"a1", b"a2"])
    other.output.append(b"b1")
    bench.socket.errors.append(full())
    one_driver.pump()
    other_driver.pump()
    assert not bench.socket.sent
    assert (one.pending, other.pending) == (1, 1)  # one run is kept, nobody was asked for more
    bench.socket.errors.append(full())
    bench.loop.writers[bench.socket]()  # still full
    assert bench.loop.writers
    bench.loop.writers[bench.socket]()
    assert [sent[0] for sent in bench.socket.sent] == [b"a1", b"a2", b"b1"]
    assert not bench.loop.writers
    assert (one.pending, other.pending) == (0, 0)


def test_who_left_is_not_woken(bench: Bench) -> None:
    one_driver, one = bench.connect(b"a", THERE)
    other_driver, other = bench.connect(b"b", ELSEWHERE)
    bench.socket.errors.append(full())
    one.output.append(b"a1")
    one_driver.pump()
    other.output.append(b"b1")
    other_driver.pump()
    bench.end(other_driver)
    bench.loop.writers[bench.socket]()
    assert [sent[0] for sent in bench.socket.sent] == [b"a1"]
    assert bench.endpoint.stacks == 1


def test_a_closed_endpoint_forgets_what_it_kept(bench: Bench) -> None:
    driver, stack = bench.connect(b"a")
    bench.socket.errors.append(full())
    stack.output.append(b"a1")
    driver.pump()
    bench.endpoint.close()
    bench.loop.turn()
    assert not bench.loop.writers
    assert not bench.socket.sent


@pytest.mark.parametrize(
    ("number", "news"),
    [
        (errno.EMSGSIZE, (PathNews.MTU, 1472)),
        (errno.ENETUNREACH, (PathNews.UNREACHABLE, errno.ENETUNREACH)),
        (errno.ENOBUFS, None),
    ],
)
def test_what_cannot_be_sent_is_lost_and_told(bench: Bench, number: int, news: tuple[PathNews, int] | None) -> None:
    driver, stack = bench.connect(b"a")
    bench.socket.errors.append(OSError(number, os.strerror(number)))
    stack.output.extend([b"lost", b"sent"])
    driver.pump()
    bench.loop.turn()
    assert [sent[0] for sent in bench.socket.sent] == [b"sent"]
    assert [told[1:] for told in stack.news] == ([news] if news else [])


def test_a_door_says_where_from_and_how_many(bench: Bench) -> None:
    driver, stack = bench.connect(b"a")
    stack.output.append(b"x")
    driver.pump()
    assert bench.socket.sent == [(b"x", 0, THERE, HERE, 0)]
    door = bench.endpoint._members[driver].doors[stack.path]
    assert door.max_datagrams == BATCH
    bench.socket.max_datagrams = 1
    assert door.max_datagrams == 1
    door.finish()
    door.resume()


def test_a_wildcard_lets_the_system_choose() -> None:
    bench = Bench(("0.0.0.0", 1000))
    driver, stack = bench.connect(b"a")
    stack.output.append(b"x")
    driver.pump()
    assert bench.socket.sent[0][3] is None
