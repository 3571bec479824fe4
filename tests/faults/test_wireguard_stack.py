"""One peer's stack where things go wrong in an unlucky order: lost answers, noise in a run, a socket that is full."""

from __future__ import annotations

import pytest

from taps_security.inner.icmp import build_echo
from taps_security.protocols.wireguard.limits import REKEY_TIMEOUT, RETRY_JITTER
from taps_security.protocols.wireguard.record import OVERHEAD
from taps_security.stack.errors import LocalError
from taps_security.stack.events import (
    CloseKind,
    Direction,
    HandshakeComplete,
    KeyReady,
    PathNews,
    PathValidated,
    Terminated,
)
from taps_security.stack.layers import PathFacts
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, Inbound, SendOptions
from tests.protocols.wireguard.world import INNER, PUBLIC, End, World, connected, generation

OURS = 0  # inner packets of no flow


def packed(host: str) -> bytes:
    return bytes(map(int, host.split(".")))


def raw(end: End, *packets: bytes) -> None:
    """Plaintexts as a peer without manners would seal them."""
    assert end.stack is not None
    for packet in packets:
        end.stack._enqueue(OURS, packet, DEFAULT_SEND_OPTIONS)
    end.stack._settle(end.world.now)
    end.drain()


# ----------------------------------------------------------------------------------------------- what is not authentic
def test_transfer_counts_only_what_was_authentic() -> None:
    """As `wg show` does: a stranger who knows an index moves no counter of ours."""
    world, flow, _ = connected()
    world.run(1)
    before = world.b.tunnel.status(PUBLIC["a"], world.now)["transfer"]
    for kind, datagram in [(datagram[0], datagram) for sender, datagram in world.seen if sender == "a"]:
        if kind == 4:
            world.b.receive(datagram[:-1] + bytes([datagram[-1] ^ 1]))  # does not open
            world.b.receive(datagram)  # a replay
            world.b.receive(datagram[:16] + bytes(5))  # too short to be anything
            world.b.receive(b"\2\0\0\0" + bytes(4) + datagram[4:8] + bytes(80))  # a response that nothing waits for
            world.b.receive(b"\3\0\0\0" + datagram[4:8] + bytes(56))  # a cookie that opens nothing
    assert world.b.tunnel.status(PUBLIC["a"], world.now)["transfer"] == before
    world.a.send(flow, bytes(100))
    world.settle()
    after = world.b.tunnel.status(PUBLIC["a"], world.now)["transfer"]
    assert after["received"] - before["received"] == 128 + OVERHEAD


def test_an_answer_to_a_handshake_between_data_costs_none_of_it() -> None:
    """A run of equal datagrams may hold data, a response of the same size, and data again."""
    world, flow, _ = connected()
    assert world.a.stack is not None
    world.a.stack._shared.host.mtu = 60  # so that padding, which ends there, makes them as long as a response
    world.carry = lambda sender, datagram: None
    for text in (b"one", b"two"):
        world.a.send(flow, text.ljust(92 - OVERHEAD - 28))
    one, two = tuple(world.a.out)
    forged = b"\2\0\0\0" + bytes(4) + one[4:8] + bytes(80)
    assert len(one) == len(two) == len(forged) == 92
    world.b.receive(one + forged + two, segment=92)
    assert [text.strip() for texts in world.b.messages.values() for text in texts] == [b"one", b"two"]


@pytest.mark.parametrize("mtu", [1, 548, 1199, 1200])
def test_no_report_makes_messages_shorter_than_every_path_takes(mtu: int) -> None:
    """Anybody can send an ICMP message about datagrams of ours; they go on in a size that is of use."""
    world, flow, _ = connected()
    stack = world.a.stack
    assert stack is not None
    stack.path_news(stack.path, PathNews.MTU, mtu, world.now)
    assert stack.message_limit(flow) == 1200 - OVERHEAD - 28
    world.a.send(flow, bytes(1200 - OVERHEAD - 28))
    assert len(world.a.out[-1]) == 1200
    # a socket that has heard of it before it has a path says the same
    stack.path_added(9, PathFacts(stack._facts[stack.path].local, ("192.0.2.9", 1), mtu=mtu), world.now)
    stack.migrate(9, world.now)
    stack.path_news(9, PathNews.MTU, mtu, world.now)
    assert stack.message_limit(flow) == 1200 - OVERHEAD - 28


# ------------------------------------------------------------------------------------------------------------- timers
def test_keys_are_confirmed_though_all_that_waited_has_expired() -> None:
    world = World()
    world.carry = lambda sender, datagram: None
    world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"soon too late", options=SendOptions(expires=world.now + 1))
    world.run(2)
    world.carry = lambda sender, datagram: datagram
    world.run(REKEY_TIMEOUT)
    assert world.a.found(HandshakeComplete)
    assert world.b.found(HandshakeComplete)  # by an empty packet


def test_data_that_waits_behind_our_own_answer_begins_a_handshake_in_time() -> None:
    """Five seconds lie between two messages of ours; a wish that comes sooner must not be forgotten."""
    world, _, answering = connected()
    world.run(200)  # the keys are over
    world.carry = lambda sender, datagram: datagram if sender == "a" else None
    assert world.a.stack is not None
    world.a.stack.update_keys(world.now)
    world.a.drain()
    world.settle()  # b has answered, which nobody hears
    world.carry = lambda sender, datagram: datagram if sender == "b" else None  # and a is not heard any more
    world.run(1)
    begun = len([datagram for sender, datagram in world.seen if (sender, datagram[0]) == ("b", 1)])
    world.b.send(answering, b"waits")
    world.run(REKEY_TIMEOUT + RETRY_JITTER)
    assert len([datagram for sender, datagram in world.seen if (sender, datagram[0]) == ("b", 1)]) > begun


def test_an_old_key_that_wears_out_gives_nobody_up() -> None:
    """A pair is current that its responder has not confirmed: what comes under the one before is no reason to wait."""
    world, flow, answering = connected()
    begin = world.now
    world.run(150)
    world.carry = lambda sender, datagram: None if (sender, datagram[0]) == ("a", 4) else datagram
    assert world.a.stack is not None
    world.a.stack.update_keys(world.now)
    world.a.drain()
    world.settle()
    assert generation(world.a) == 1
    world.now = begin + 166.0
    world.b.send(answering, b"under the old key")
    world.settle()
    assert world.a.messages[flow] == [b"under the old key"]
    world.carry = lambda sender, datagram: datagram
    world.run(120)
    assert PathValidated(world.a.stack.path, False) not in world.a.events
    assert not world.a.stack.endpoint_stale


# --------------------------------------------------------------------------------------------------------------- ends
def test_an_echo_that_comes_after_close_does_not_outlive_the_stack() -> None:
    """The socket is full: close() waits behind a message, and the peer still asks."""
    world, _, answering = connected()
    stack = world.b.stack
    assert stack is not None
    stack.send(answering, (b"too late",), SendOptions(expires=world.now + 1), world.now)
    stack.close(world.now)
    raw(world.a, build_echo(packed(INNER["a"]), packed(INNER["b"]), 1, 1, b"are you there"))
    datagram = world.a.out.pop()
    stack.receive(Inbound(memoryview(bytearray(datagram)), stack.path), world.now)
    world.now += 2
    world.b.drain()
    assert stack.ended
    assert [event.how for event in world.b.found(Terminated)] == [CloseKind.SILENT]
    assert not world.b.out


def test_messages_of_handshakes_do_not_pile_up_behind_a_full_socket() -> None:
    world, _, _ = connected()
    stack = world.b.stack
    assert stack is not None
    drain, world.b.drain = world.b.drain, lambda: None  # type: ignore[method-assign]
    for _ in range(50):
        world.now += 0.06
        assert world.a.stack is not None
        world.a.stack._handshake.abandon(world.now)
        world.a.stack._handshake.update_keys(world.now)
        world.a.stack._route(world.now)
        world.a.stack._settle(world.now)
        world.a.drain()
        world.settle()
    assert len(world.b.found(KeyReady)) == 2
    assert sum(event.direction is Direction.RECEIVE for event in stack.events if type(event) is KeyReady) == 50
    assert stack.pending <= 2
    world.b.drain = drain  # type: ignore[method-assign]
    world.b.drain()
    world.settle()
    assert generation(world.b) == 50


def test_a_message_larger_than_any_slab_is_refused_when_it_is_given() -> None:
    world, flow, _ = connected()
    with pytest.raises(LocalError):
        world.a.send(flow, bytes(70_000))
