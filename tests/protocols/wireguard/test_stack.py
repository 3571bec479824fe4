"""The stack of one peer against another in memory: handshakes, every timer at its edge, key limits."""

from __future__ import annotations

import pytest

from taps_security.protocols.wireguard import limits
from taps_security.protocols.wireguard.record import OVERHEAD
from taps_security.stack.errors import ConnectionLost, LocalError, Reason
from taps_security.stack.events import (
    CloseKind,
    Direction,
    FlowSent,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyReady,
    LimitKind,
    PathValidated,
    PeerAuthenticated,
    RouteIssued,
    Terminated,
)
from taps_security.stack.screening import Load
from taps_security.stack.stack import SendOptions
from tests.protocols.wireguard.world import PATH, PUBLIC, World, connected, generation, sent

JITTER = limits.RETRY_JITTER
NOTHING = {"a": 0, "b": 0}


# --------------------------------------------------------------------------------------------------------- handshake
@pytest.mark.parametrize("psk", [False, True])
def test_one_round_trip_then_data(psk: bool) -> None:
    world = World(psk=psk)
    world.b.tunnel.listen("", 7)
    world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"first")
    assert world.sent == {"a": 1, "b": 0}  # the initiation; data waits
    world.step()
    assert world.sent == {"a": 1, "b": 1}
    assert world.b.found(HandshakeComplete) == []  # the initiator has proved nothing yet
    world.step()
    assert world.sent == {"a": 2, "b": 1}  # data, and no keepalive beside it
    world.step()
    assert list(world.b.messages.values()) == [[b"first"]]
    for end in (world.a, world.b):
        (complete,) = end.found(HandshakeComplete)
        assert complete.summary["version"] == "1"
        assert complete.summary["psk"] == ("external" if psk else None)
        assert complete.summary["algorithms"] == {"group": "X25519", "aead": "CHACHA20_POLY1305", "hash": "BLAKE2S"}
        assert complete.summary["inner_addresses"] == end.tunnel.inner
        assert complete.summary["mtu"] == 1420
        assert end.found(PeerAuthenticated)
    order = [type(event) for event in world.b.events]
    assert order.index(KeyConfirmed) < order.index(HandshakeComplete) < order.index(HandshakeConfirmed)
    assert sum(event.route == ("wireguard", PUBLIC["b"]) for event in world.a.found(RouteIssued)) == 1


def test_without_data_a_keepalive_confirms_the_keys() -> None:
    world = World()
    world.a.begin()
    world.settle()
    assert world.sent == {"a": 2, "b": 1}
    assert world.b.found(HandshakeComplete)
    assert sent(world, 3600) == NOTHING


def test_different_preshared_keys_never_meet() -> None:
    world = World(psk=True)
    world.b.tunnel = World().b.tunnel  # the same peers, without
    world.a.begin()
    world.run(80)
    assert world.a.found(KeyReady) == []
    assert world.a.tunnel.dropped["does not open"] >= 15


def test_an_initiation_is_repeated_until_it_is_given_up() -> None:
    world = World()
    world.carry = lambda sender, datagram: None
    stack = world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"waits", options=SendOptions(token=5))
    times = []
    while not stack.ended:
        assert stack.deadline is not None
        world.now = stack.deadline
        before = world.sent["a"]
        world.a.look_at_clock()
        times += [world.now - 1000.0] * (world.sent["a"] - before)
    assert all(5.0 <= later - earlier <= 5.0 + JITTER for earlier, later in zip([0.0, *times], times, strict=False))
    assert world.now == 1090.0
    (over,) = world.a.found(Terminated)
    assert isinstance(over.error, ConnectionLost)
    assert (over.how, over.error.reason) == (CloseKind.ABORTED, Reason.TIMEOUT)
    (lost,) = world.a.found(FlowSent)
    assert lost.token == 5
    assert isinstance(lost.error, ConnectionLost)
    assert len(set(world.a.out)) == len(times) + 1  # each one is fresh


def test_a_responder_whose_peer_says_nothing_more_ends_too() -> None:
    world = World()
    world.carry = lambda sender, datagram: datagram if sender == "a" and datagram[0] == 1 else None
    world.a.begin()
    world.run(95)
    assert world.b.found(Terminated)[0].error.reason is Reason.TIMEOUT


def test_persistent_keepalives_keep_trying() -> None:
    world = World(keepalive=25)
    world.carry = lambda sender, datagram: None
    stack = world.a.begin()
    world.run(1000)
    assert not stack.ended
    assert stack.endpoint_stale
    world.carry = lambda sender, datagram: datagram
    world.run(25 + 5 + JITTER)
    assert stack.complete
    assert not stack.endpoint_stale


def test_both_begin_at_the_same_instant() -> None:
    for seed in range(5):
        world = World(seed)
        for end in (world.a, world.b):
            end.tunnel.listen("", 7)
            end.begin()
        flows = {name: end.open() for name, end in world.ends.items()}
        for name, end in world.ends.items():
            end.send(flows[name], b"from " + name.encode())
        world.run(1)
        assert list(world.b.messages.values()) == [[b"from a"]]
        assert list(world.a.messages.values()) == [[b"from b"]]
        world.run(300)
        for name, end in world.ends.items():
            end.send(flows[name], b"again")
        world.run(1)
        assert all([b"again"] in [texts[-1:] for texts in end.messages.values()] for end in world.ends.values())


@pytest.mark.parametrize("lost", ["initiation", "response", "confirmation"])
def test_a_lost_message_costs_one_retransmission(lost: str) -> None:
    world = World()
    kind = {"initiation": 1, "response": 2, "confirmation": 4}[lost]
    dropped: list[bytes] = []

    def carry(sender: str, datagram: bytes) -> bytes | None:
        if datagram[0] == kind and not dropped:
            dropped.append(datagram)
            return None
        return datagram

    world.carry = carry
    world.b.tunnel.listen("", 7)
    world.a.begin()
    flow = world.a.open()
    world.settle()
    world.a.send(flow, b"x")
    assert dropped
    world.run(5 + JITTER)
    assert list(world.b.messages.values()) == [[b"x"]]


def test_a_cookie_is_taken_and_shown() -> None:
    world = World()
    world.b.tunnel.listen("", 7)
    world.b.load = Load(100, 100)
    world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"x")
    world.settle()
    assert [datagram[0] for _, datagram in world.seen] == [1, 3]
    assert world.b.stack is None  # no state for who has shown no cookie
    world.run(4.999)
    assert len(world.seen) == 2  # a cookie makes nobody hurry
    world.run(JITTER + 0.001)
    assert list(world.b.messages.values()) == [[b"x"]]


# ------------------------------------------------------------------------------------------------------- timers, edges
def test_a_keepalive_answers_data_after_ten_seconds() -> None:
    world, flow, _ = connected()
    world.run(100)
    world.a.send(flow, b"x")
    world.settle()
    before = len(world.seen)
    assert sent(world, 9.999) == NOTHING
    assert sent(world, 0.001) == {"a": 0, "b": 1}
    assert len(world.seen[before][1]) == OVERHEAD  # and nothing inside
    assert sent(world, 10_000) == NOTHING  # keepalives are not answered


def test_data_is_answer_enough() -> None:
    world, flow, answering = connected()
    world.run(50)
    world.a.send(flow, b"x")
    world.run(5)
    world.b.send(answering, b"y")
    world.settle()
    assert sent(world, 9.999) == NOTHING
    assert sent(world, 0.001) == {"a": 1, "b": 0}


def test_fifteen_seconds_of_silence_begin_a_handshake() -> None:
    world, flow, _ = connected()
    world.run(50)
    world.carry = lambda sender, datagram: None
    world.a.send(flow, b"x")
    world.settle()
    assert sent(world, 14.999) == NOTHING
    assert sent(world, JITTER + 0.001)["a"] == 1
    assert world.seen[-1][1][0] == 1  # an initiation


@pytest.mark.parametrize(("age", "rekeys"), [(119.9, False), (120.0, True), (150.0, True)])
def test_the_initiator_rekeys_when_it_sends_after_120_seconds(age: float, rekeys: bool) -> None:
    world, flow, _ = connected()
    world.now = 1000.0 + age
    world.a.send(flow, b"x")
    world.settle()
    assert (generation(world.a) == 1) is rekeys
    assert bool(world.a.found(KeyExpiring)) is rekeys
    assert world.b.messages[1] == [b"x"]
    if rekeys:
        assert generation(world.b) == 1
        assert [event.limit for event in world.a.found(KeyExpiring)] == [LimitKind.TIME]
        world.a.send(flow, b"y")
        world.settle()
        assert world.b.messages[1] == [b"x", b"y"]
        assert generation(world.a) == 1


def test_the_responder_leaves_it_to_the_initiator() -> None:
    world, _, answering = connected()
    world.now = 1150.0
    world.b.send(answering, b"x")
    world.settle()
    assert generation(world.b) == 0
    assert world.a.messages[1] == [b"x"]


@pytest.mark.parametrize(("age", "rekeys"), [(164.9, False), (165.0, True)])
def test_the_initiator_rekeys_when_it_receives_after_165_seconds(age: float, rekeys: bool) -> None:
    world, _, answering = connected()
    world.now = 1000.0 + age
    world.b.send(answering, b"x")
    world.settle()
    assert world.a.messages[1] == [b"x"]
    assert (generation(world.a) == 1) is rekeys


@pytest.mark.parametrize("name", ["a", "b"])
def test_after_180_seconds_either_end_begins_anew(name: str) -> None:
    world, flow, answering = connected()
    end, number = (world.a, flow) if name == "a" else (world.b, answering)
    other = world.b if name == "a" else world.a
    world.now = 1180.0
    before = dict(world.sent)
    end.send(number, b"x")
    assert world.sent[name] == before[name] + 1  # an initiation, and no data under the old key
    world.settle()
    assert [b"x"] in other.messages.values()
    assert generation(world.a) == generation(world.b) == 1


def test_what_comes_after_180_seconds_is_dropped() -> None:
    world, flow, _ = connected()
    world.run(10)
    world.a.send(flow, b"late")
    late = world.a.out.popleft()
    world.now = 1180.0
    world.b.receive(late)
    assert world.b.messages == {}
    assert world.b.tunnel.dropped == {"key expired": 1}


def test_keys_are_gone_540_seconds_after_the_last_ones() -> None:
    world, flow, _ = connected()
    world.run(539.999)
    assert world.a.found(KeyDiscarded) == []
    world.run(0.001)
    for end in (world.a, world.b):
        assert {event.direction for event in end.found(KeyDiscarded)} == {*Direction}
        assert end.stack is not None
        assert end.stack._record._receive == ()
        assert end.stack._record.send_key is None
    world.a.send(flow, b"after a long time")
    world.settle()
    assert [b"after a long time"] in world.b.messages.values()


def test_hours_of_idling_send_nothing() -> None:
    world, _, _ = connected()
    world.run(10)
    assert sent(world, 12 * 3600) == NOTHING
    assert world.a.stack is not None
    assert world.a.stack.deadline is None  # and wake nobody


def test_persistent_keepalives_go_out_when_nothing_else_does() -> None:
    world = World(keepalive=25)
    world.connect()
    world.run(25.5)
    idle = sent(world, 250)
    assert 9 <= idle["a"] + idle["b"] <= 30  # each sees the other's
    assert idle["a"] + idle["b"] > 0
    world.run(3600)
    assert generation(world.a) >= 3600 // 180  # they keep the keys young, as anything that is sent does


def test_90_seconds_without_an_answer_drop_what_waits_but_not_the_stack() -> None:
    world, flow, _ = connected()
    world.now = 2000.0
    world.a.look_at_clock()
    world.carry = lambda sender, datagram: None
    world.a.send(flow, b"lost", options=SendOptions(token=9))
    world.run(89.999)
    assert world.a.found(FlowSent) == []
    world.run(0.001)
    (failed,) = world.a.found(FlowSent)
    assert (failed.token, failed.error.reason) == (9, Reason.TIMEOUT)
    assert PathValidated(PATH, False) in world.a.events
    assert world.a.stack is not None
    assert world.a.stack.endpoint_stale
    assert not world.a.stack.ended
    assert sent(world, 3600) == NOTHING
    world.carry = lambda sender, datagram: datagram
    world.a.send(flow, b"found")
    world.settle()
    assert [b"found"] in world.b.messages.values()
    assert not world.a.stack.endpoint_stale


# ------------------------------------------------------------------------------------------------------------ counters
def test_the_last_counter_makes_a_new_handshake() -> None:
    world, flow, _ = connected()
    world.run(10)
    assert world.a.stack is not None
    sending = world.a.stack._record._send
    assert sending is not None
    sending.number = limits.REJECT_AFTER_MESSAGES - 3
    world.a.send(flow, *[b"%d" % number for number in range(8)])
    world.settle()
    assert world.b.messages[1] == [b"%d" % number for number in range(8)]
    assert generation(world.a) == 1
    assert [event.limit for event in world.a.found(KeyExpiring)] == [LimitKind.PACKETS]


def test_update_keys() -> None:
    world, flow, answering = connected()
    assert world.a.stack is not None
    for turn in range(1, 4):
        world.run(1)
        end = world.a if turn % 2 else world.b
        assert end.stack is not None
        end.stack.update_keys(world.now)
        end.drain()
        world.settle()
        world.a.send(flow, b"%d" % turn)
        world.b.send(answering, b"%d" % turn)
        world.settle()
        assert generation(world.a) == generation(world.b) == turn
    assert world.a.messages == world.b.messages == {1: [b"1", b"2", b"3"]}
    world.a.stack.update_keys(world.now)
    world.a.stack.update_keys(world.now)  # one is under way
    world.a.drain()
    assert len(world.a.out) <= 1


def test_what_the_protocol_does_not_have() -> None:
    world, _, _ = connected()
    assert world.a.stack is not None
    with pytest.raises(LocalError) as caught:
        world.a.stack.export_secret(b"label", None, 32)
    assert caught.value.reason is Reason.NOT_SUPPORTED
    with pytest.raises(LocalError) as caught:
        world.a.stack.import_key(world.a.found(KeyReady)[0], world.now)
    assert caught.value.reason is Reason.NOT_SUPPORTED
    fresh = World()
    with pytest.raises(LocalError, match="not complete"):
        fresh.a.begin().update_keys(fresh.now)
