"""The stack of one peer: where it follows the other to, what bad input does to it (nothing), how it ends."""

from __future__ import annotations

import random

import pytest

from taps_security.protocols.wireguard import limits
from taps_security.protocols.wireguard.record import OVERHEAD
from taps_security.stack.errors import LocalError, Reason
from taps_security.stack.events import (
    CloseKind,
    Direction,
    FlowKind,
    FlowSent,
    KeyDiscarded,
    PathNews,
    PathValidated,
    PeerMoved,
    Terminated,
)
from taps_security.stack.stack import SendOptions
from tests.protocols.wireguard.world import INNER, OUTER, PATH, PUBLIC, World, connected, generation

JITTER = limits.RETRY_JITTER


# ------------------------------------------------------------------------------------------------------------- roaming
def test_the_peer_is_where_its_newest_packet_came_from() -> None:
    world, flow, answering = connected()
    world.b.path = 2
    world.a.send(flow, b"from elsewhere")
    world.settle()
    assert PeerMoved(PATH, 2) in world.b.events
    assert world.b.events[world.b.events.index(PeerMoved(PATH, 2)) + 1] == PathValidated(2, True)
    world.b.send(answering, b"to there")
    assert world.b.paths[-1] == 2
    world.b.path = PATH
    world.a.send(flow, b"and back")
    world.settle()
    world.b.send(answering, b"to here")
    assert world.b.paths[-1] == PATH


def test_forged_and_replayed_packets_move_nobody() -> None:
    world, flow, answering = connected()
    world.a.send(flow, b"x")
    good = world.a.out[0]
    world.settle()
    world.b.path = 2
    world.b.receive(good)
    world.b.receive(good[:20] + bytes((good[20] ^ 1,)) + good[21:])
    world.b.send(answering, b"y")
    assert world.b.paths[-1] == PATH
    assert world.b.found(PeerMoved) == []


def test_roaming_in_the_middle_of_a_rekey() -> None:
    world, flow, answering = connected()
    world.now = 1125.0
    world.a.send(flow, b"x")  # with it goes an initiation
    assert [datagram[0] for datagram in world.a.out] == [4, 1]
    world.b.path = 3
    world.settle()
    assert world.b.paths[-1] == 3  # the response
    assert PeerMoved(PATH, 3) in world.b.events
    assert generation(world.a) == generation(world.b) == 1
    world.b.path = 4
    world.a.send(flow, b"z")
    world.settle()
    world.b.send(answering, b"y")
    world.settle()
    assert world.b.paths[-1] == 4
    assert world.a.messages[1] == [b"y"]


def test_an_initiation_from_elsewhere_moves_its_sender() -> None:
    world, flow, _ = connected()
    world.run(200)
    world.b.path = 5
    world.a.send(flow, b"x")
    world.step()
    assert world.b.found(PeerMoved) == [PeerMoved(PATH, 5)]
    assert world.b.paths[-1] == 5


def test_migrate() -> None:
    world, flow, _ = connected()
    stack = world.a.stack
    assert stack is not None
    with pytest.raises(LocalError, match="no path 8"):
        stack.migrate(8, world.now)
    stack.path_added(8, world.a.facts(), world.now)
    stack.migrate(8, world.now)
    world.a.drain()
    assert world.a.paths[-1] == 8  # a keepalive shows the peer at once
    world.a.send(flow, b"x")
    assert world.a.paths[-1] == 8


def test_a_peer_that_was_given_up_is_looked_for_elsewhere() -> None:
    world = World(keepalive=25)
    world.connect()
    world.carry = lambda sender, datagram: None
    world.run(400)
    stack = world.a.stack
    assert stack is not None
    assert stack.endpoint_stale
    stack.path_added(8, world.a.facts(), world.now)
    stack.migrate(8, world.now)
    assert not stack.endpoint_stale
    world.a.paths.clear()
    world.seen.clear()
    world.run(25)
    assert set(world.a.paths) == {8}
    assert {datagram[0] for sender, datagram in world.seen if sender == "a"} == {1}


def test_news_of_paths() -> None:
    world, flow, _ = connected()
    stack = world.a.stack
    assert stack is not None
    assert stack.message_limit(flow) == 1420 - 28
    stack.path_news(PATH, PathNews.UNREACHABLE, 111, world.now)
    stack.path_news(PATH, PathNews.MTU, 1400, world.now)
    assert stack.message_limit(flow) == 1400 - OVERHEAD - 28
    with pytest.raises(LocalError) as caught:
        world.a.send(flow, bytes(1400 - OVERHEAD - 27))
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
    world.a.send(flow, bytes(1400 - OVERHEAD - 28))
    assert len(world.a.out[-1]) == 1400  # padding does not pass the path either
    stack.path_news(PATH, PathNews.MTU, 9000, world.now)
    assert stack.message_limit(flow) == 1420 - 28
    stack.path_news(77, PathNews.MTU, 600, world.now)
    stack.path_news(PATH, PathNews.GONE, 0, world.now)
    assert not stack.ended


# ----------------------------------------------------------------------------------------------------------- bad input
def test_replayed_messages_of_the_handshake_get_no_answer() -> None:
    world, _, _ = connected()
    world.run(1)
    replies = dict(world.sent)
    for sender, datagram in tuple(world.seen):
        (world.b if sender == "a" else world.a).receive(datagram)
    assert world.sent == replies
    assert world.b.noise == ["an initiation that is not newer"]
    assert sum(world.a.tunnel.dropped.values()) + len(world.a.noise) == sum(name == "b" for name, _ in world.seen)


def test_mutated_datagrams_are_dropped_without_a_word() -> None:
    rng = random.Random(7)
    world, flow, _ = connected()
    world.run(1)
    originals = [datagram for sender, datagram in world.seen if sender == "a"]
    before = dict(world.sent)
    for _ in range(2000):
        datagram = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, 3)):
            datagram[rng.randrange(len(datagram))] ^= rng.randint(1, 255)
        if rng.random() < 0.2:
            datagram = datagram[: rng.randrange(1, len(datagram))]
        world.b.receive(bytes(datagram))
    assert world.sent == before
    assert world.b.messages == {}
    assert world.b.errors == []
    world.a.send(flow, b"still here")
    world.settle()
    assert world.b.messages[1] == [b"still here"]


def test_random_datagrams_of_every_length() -> None:
    rng = random.Random(8)
    world, flow, _ = connected()
    before = dict(world.sent)
    for length in range(1, 2001, 7):
        noise = rng.randbytes(length)
        for datagram in (noise, bytes((1 + length % 4, 0, 0, 0)) + noise):
            world.b.receive(datagram)
    assert world.sent == before
    world.a.send(flow, b"still here")
    world.settle()
    assert world.b.messages[1] == [b"still here"]


def test_restart_of_the_responder() -> None:
    world, flow, _ = connected()
    world.run(5)
    fresh = World(9)
    world.b.tunnel, world.b.stack = fresh.b.tunnel, None
    world.b.tunnel.listen("", 7)
    world.b.messages.clear()
    world.a.send(flow, b"to nobody")
    world.run(15 + JITTER)
    assert generation(world.a) == 1
    world.a.send(flow, b"to the new one")
    world.settle()
    assert list(world.b.messages.values()) == [[b"to the new one"]]


def test_restart_of_the_initiator() -> None:
    world, _, _ = connected()
    world.run(5)
    fresh = World(9)
    fresh.now = world.now
    world.a.tunnel, world.a.stack = fresh.a.tunnel, None
    world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"again")
    world.settle()
    assert [b"again"] in world.b.messages.values()
    assert not world.b.errors
    assert generation(world.b) == 1


# ----------------------------------------------------------------------------------------------------------------- ends
def test_close_sends_what_is_queued_and_says_nothing() -> None:
    world, flow, _ = connected()
    stack = world.a.stack
    assert stack is not None
    stack.send(flow, (b"last",), SendOptions(token=1), world.now)
    stack.close(world.now)
    assert not stack.ended
    with pytest.raises(LocalError):
        stack.send(flow, (b"more",), SendOptions(), world.now)
    world.a.drain()
    assert stack.ended
    assert world.a.found(Terminated) == [Terminated(CloseKind.SILENT, None)]
    assert [(event.token, event.error) for event in world.a.found(FlowSent)] == [(1, None)]
    assert {event.direction for event in world.a.found(KeyDiscarded)} == {*Direction}
    world.settle()
    assert world.b.messages[1] == [b"last"]
    assert stack.deadline is None
    assert world.a.tunnel.stack(PUBLIC["b"], world.now) is not stack  # its place is free


def test_abort_drops_what_is_queued() -> None:
    world, flow, _ = connected()
    stack = world.a.stack
    assert stack is not None
    stack.send(flow, (b"never",), SendOptions(token=1), world.now)
    why = LocalError("enough", reason=Reason.CANCELLED)
    stack.abort(why, world.now)
    world.a.drain()
    world.settle()
    assert world.b.messages == {}
    assert [event.error for event in world.a.found(FlowSent)] == [why]
    assert world.a.found(Terminated) == [Terminated(CloseKind.ABORTED, why)]
    assert stack.retire(world.now) is None
    with pytest.raises(LocalError):
        stack.open_flow(FlowKind.PACKET, None, world.now)


def test_a_stack_that_closes_before_it_has_keys_is_over_at_once() -> None:
    world = World()
    stack = world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"x")
    stack.close(world.now)
    world.a.drain()
    assert world.a.found(Terminated) == [Terminated(CloseKind.SILENT, None)]


def test_where_the_peer_is() -> None:
    world, _, _ = connected()
    assert world.a.stack is not None
    assert world.a.stack.remote == OUTER["b"]
    assert world.a.stack.peer == PUBLIC["b"]
    assert world.a.stack.flow_address(1).remote == (INNER["b"], 7)
