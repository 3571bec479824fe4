"""Inner flows and their queue: what is sent arrives whole and in order of its flow, what waits is bounded, ends end."""

from __future__ import annotations

import random

import pytest

from taps_security.inner.icmp import Echo, build_echo_reply, parse_icmp_untrusted
from taps_security.inner.ip import parse_packet_untrusted
from taps_security.protocols.wireguard.limits import HIGH_WATER, LOW_WATER, MAX_RUN, STAGED
from taps_security.protocols.wireguard.record import OVERHEAD
from taps_security.stack.errors import LocalError, Reason
from taps_security.stack.events import CloseKind, FlowClosed, FlowKind, FlowOpened, FlowSent, FlowWritable, SoftError
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, SendOptions
from taps_security.stack.tunnel import FlowAddress
from tests.protocols.wireguard.world import INNER, INNER6, World


def connected(**how):
    world = World(**how)
    flow = world.connect()
    return world, flow


def received(world: World) -> list[bytes]:
    (messages,) = world.b.messages.values()
    return messages


# ------------------------------------------------------------------------------------------------------------ messages
@pytest.mark.parametrize("host", [INNER["b"], INNER6["b"]])
@pytest.mark.parametrize("mtu", [1280, 1420, 9000, 65_475])
def test_every_size_up_to_the_limit(host: str, mtu: int) -> None:
    world, _ = connected(mtu=mtu)
    flow = world.a.open(host=host)
    assert world.a.stack is not None
    limit = world.a.stack.message_limit(flow)
    assert limit == mtu - (48 if ":" in host else 28)
    rng = random.Random(mtu)
    messages = [rng.randbytes(size) for size in (0, 1, 15, 16, 17, 500, limit - 17, limit - 1, limit)]
    for message in messages:
        world.a.send(flow, message)
    world.settle()
    assert received(world) == messages
    with pytest.raises(LocalError) as caught:
        world.a.send(flow, bytes(limit + 1))
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE


def test_padding_is_to_sixteen_octets_within_the_mtu() -> None:
    world, flow = connected(mtu=1420)
    before = len(world.seen)
    for size in range(1392 - 40, 1393):
        world.a.send(flow, bytes(size))
    world.settle()
    inner = [len(datagram) - OVERHEAD for _, datagram in world.seen[before:]]
    assert len(inner) == 41
    for size, padded in zip(range(1392 - 40, 1393), inner, strict=True):
        assert padded == min(-(-(size + 28) // 16) * 16, 1420)


@pytest.mark.parametrize("seed", range(8))
def test_mixed_sizes_go_in_runs_of_equal_ones(seed: int) -> None:
    rng = random.Random(seed)
    world, flow = connected()
    other = world.a.open(host=INNER6["b"])
    sizes = [rng.choice((0, 3, 100, 1000, 1000, 1000, 1372)) for _ in range(300)]
    messages = [rng.randbytes(size) for size in sizes]
    flows = [rng.choice((flow, flow, flow, other)) for _ in messages]
    stack = world.a.stack
    assert stack is not None
    for number, message in zip(flows, messages, strict=True):
        assert stack.send(number, (message,), DEFAULT_SEND_OPTIONS, world.now) == (len(message) or 1)
    runs = 0
    while stack.pending:
        out = stack.transmit(world.a.slab, 43, world.now)
        assert out is not None
        assert out.length <= MAX_RUN
        runs += 1
        world.b.receive(bytes(world.a.slab.view[: out.length]), out.segment)
    assert runs < 250
    addresses = {event.flow: event.remote.remote[0] for event in world.b.found(FlowOpened)}
    for number, host in ((flow, INNER["a"]), (other, INNER6["a"])):
        (got,) = [world.b.messages[there] for there, address in addresses.items() if address == host]
        assert got == [message for each, message in zip(flows, messages, strict=True) if each == number]


def test_several_messages_in_one_send_share_a_token() -> None:
    world, flow = connected()
    assert world.a.send(flow, b"one", b"", b"three", options=SendOptions(token=3)) == 8
    world.settle()
    assert received(world) == [b"one", b"", b"three"]
    assert [(event.token, event.error) for event in world.a.found(FlowSent)] == [(3, None)]


def test_views_and_bytearrays_are_messages_too() -> None:
    world, flow = connected()
    world.a.send(flow, bytearray(b"abc"))
    world.a.send(flow, memoryview(b"xdefx")[1:4])
    world.settle()
    assert received(world) == [b"abc", b"def"]


def test_a_message_that_expired_is_not_sent() -> None:
    world = World()
    world.b.tunnel.listen("", 7)
    world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"soon", options=SendOptions(token=1, expires=world.now + 1))
    world.a.send(flow, b"later", options=SendOptions(token=2, expires=world.now + 3))
    world.a.send(flow, b"ever")
    world.now += 2
    world.settle()
    assert received(world) == [b"later", b"ever"]
    assert [(event.token, type(event.error)) for event in world.a.found(FlowSent)] == [(1, LocalError), (2, type(None))]


# ----------------------------------------------------------------------------------------------------------- the queue
def test_what_waits_for_a_handshake_is_bounded() -> None:
    world = World()
    world.b.tunnel.listen("", 7)
    world.a.begin()
    flow = world.a.open()
    for number in range(STAGED + 10):
        world.a.send(flow, b"%d" % number, options=SendOptions(token=number + 1))
    dropped = world.a.found(FlowSent)
    assert [event.token for event in dropped] == list(range(1, 11))  # the oldest
    assert {event.error.reason for event in dropped} == {Reason.OVERLOADED}
    world.settle()
    assert received(world) == [b"%d" % number for number in range(10, STAGED + 10)]
    assert len(world.a.found(FlowSent)) == STAGED + 10


def test_send_takes_nothing_above_the_high_water_mark() -> None:
    world, flow = connected()
    stack = world.a.stack
    assert stack is not None
    taken = 0
    while stack.send(flow, (bytes(1000),), DEFAULT_SEND_OPTIONS, world.now):
        taken += 1
    assert HIGH_WATER // 1100 < taken <= HIGH_WATER // 1000 + 1
    assert stack.send(flow, (bytes(1000),), DEFAULT_SEND_OPTIONS, world.now) == 0
    left = taken
    while FlowWritable(flow) not in stack.events:
        out = stack.transmit(world.a.slab, 43, world.now)
        assert out is not None
        left -= -(-out.length // (out.segment or out.length))
    assert left * 1000 <= LOW_WATER
    assert stack.send(flow, (bytes(1000),), DEFAULT_SEND_OPTIONS, world.now) == 1000
    world.a.drain()
    assert world.a.found(FlowWritable) == [FlowWritable(flow)]


# ------------------------------------------------------------------------------------------------------ opening, ending
def test_flows_of_the_peer_need_a_listener() -> None:
    world, _ = connected()
    nobody = world.a.open(port=9)
    world.a.send(nobody, b"anybody?")
    world.settle()
    assert world.b.opened == []
    assert world.b.stack is not None
    assert world.b.stack.inner_dropped == {"no listener": 1}
    assert world.a.stack is not None
    (news,) = world.a.found(SoftError)  # and it was told
    assert (news.flow, news.error.reason) == (nobody, Reason.REFUSED)
    assert world.sent["b"] == 2


def test_a_flow_leads_both_ways() -> None:
    world, flow = connected()
    world.a.send(flow, b"ping")
    world.settle()
    (opened,) = world.b.found(FlowOpened)
    ours, theirs = world.a.stack.flow_address(flow), world.b.stack.flow_address(opened.flow)
    assert opened.kind is FlowKind.DATAGRAM
    assert opened.remote == theirs == FlowAddress(ours.local, ours.remote)
    world.b.send(opened.flow, b"pong")
    world.settle()
    assert world.a.messages[flow] == [b"pong"]


def test_an_address_that_is_nobody_s() -> None:
    world, _ = connected()
    with pytest.raises(LocalError) as caught:
        world.a.open(host="10.9.9.9")
    assert caught.value.reason is Reason.UNREACHABLE
    assert world.a.stack is not None
    with pytest.raises(LocalError) as caught:
        world.a.stack.open_flow(FlowKind.STREAM, None, world.now)
    assert caught.value.reason is Reason.NOT_SUPPORTED
    with pytest.raises(LocalError):
        world.a.stack.send(77, (b"x",), DEFAULT_SEND_OPTIONS, world.now)


def test_closing_a_flow_sends_what_is_queued_and_leaves_the_others() -> None:
    world, flow = connected()
    other = world.a.open()
    stack = world.a.stack
    assert stack is not None
    for number in range(3):
        stack.send(flow, (b"%d" % number,), SendOptions(token=number + 1), world.now)
    stack.close_flow(flow, world.now)
    stack.close_flow(flow, world.now)
    with pytest.raises(LocalError):
        stack.send(flow, (b"more",), DEFAULT_SEND_OPTIONS, world.now)
    stack.send(other, (b"other",), DEFAULT_SEND_OPTIONS, world.now)
    world.a.drain()
    world.settle()
    assert sorted(world.b.messages.values()) == [[b"0", b"1", b"2"], [b"other"]]
    ends = [event for event in world.a.events if isinstance(event, FlowSent | FlowClosed)]
    assert [(event.token, event.error) for event in ends[:3]] == [(1, None), (2, None), (3, None)]
    assert ends[3:] == [FlowClosed(flow, CloseKind.CLEAN)]
    stack.close_flow(other, world.now)
    assert stack.events == [FlowClosed(other, CloseKind.CLEAN)]
    assert not stack.ended


def test_closing_a_flow_before_there_is_a_key() -> None:
    world = World()
    world.b.tunnel.listen("", 7)
    stack = world.a.begin()
    flow = world.a.open()
    world.a.send(flow, b"x")
    stack.close_flow(flow, world.now)
    world.a.drain()
    assert world.a.found(FlowClosed) == []
    world.settle()
    assert received(world) == [b"x"]
    assert world.a.found(FlowClosed) == [FlowClosed(flow, CloseKind.CLEAN)]


def test_an_end_behind_a_flow_that_was_reset_takes_place() -> None:
    world, flow = connected()
    other = world.a.open()
    stack = world.a.stack
    assert stack is not None
    stack.send(flow, (b"never",), DEFAULT_SEND_OPTIONS, world.now)
    stack.close_flow(other, world.now)
    stack.reset_flow(flow, 0, world.now)
    assert stack.events == [FlowClosed(flow, CloseKind.RESET), FlowClosed(other, CloseKind.CLEAN)]
    assert stack.pending == 0


def test_resetting_a_flow_drops_what_is_queued() -> None:
    world, flow = connected()
    stack = world.a.stack
    assert stack is not None
    stack.send(flow, (b"never",), SendOptions(token=1), world.now)
    stack.reset_flow(flow, 5, world.now)
    world.a.drain()
    world.settle()
    assert world.b.messages == {}
    (failed,) = world.a.found(FlowSent)
    assert failed.error.reason is Reason.CONNECTION_ABORTED
    assert world.a.found(FlowClosed) == [FlowClosed(flow, CloseKind.RESET, 5)]
    assert stack.pending == 0


# --------------------------------------------------------------------------------------------- packets, inner host
def echo_request(source: str, destination: str) -> bytes:
    """What `ping` sends: a reply with the type of a request."""
    template = bytes.fromhex("4500 0000 0000 0000 4001 0000".replace(" ", ""))
    packet = bytearray(template + bytes(map(int, source.split("."))) + bytes(map(int, destination.split("."))))
    packet += bytes((8, 0, 0, 0, 0, 1, 0, 1)) + b"payload!"
    packet[2:4] = len(packet).to_bytes(2, "big")
    for start, end, at in ((0, 20, 10), (20, len(packet), 22)):
        words = sum(int.from_bytes(packet[i : i + 2], "big") for i in range(start, end, 2))
        while words >> 16:
            words = (words & 0xFFFF) + (words >> 16)
        packet[at : at + 2] = (0xFFFF - words).to_bytes(2, "big")
    return bytes(packet)


def test_raw_packets_and_echoes() -> None:
    world, _ = connected()
    assert world.a.stack is not None
    raw = world.a.stack.open_flow(FlowKind.PACKET, None, world.now)
    request = echo_request(INNER["a"], INNER["b"])
    world.a.send(raw, request)
    world.settle()
    (reply,) = world.a.messages[raw]
    parsed = parse_packet_untrusted(memoryview(reply))
    asked = parse_packet_untrusted(memoryview(request))
    message = parse_icmp_untrusted(asked)
    assert isinstance(message, Echo)
    assert (parsed.source, parsed.destination) == (asked.destination, asked.source)
    assert reply == build_echo_reply(asked, message)
    with pytest.raises(LocalError):
        world.a.send(raw, b"no packet")


def test_packets_from_elsewhere_are_dropped() -> None:
    world, _ = connected()
    assert world.a.stack is not None
    raw = world.a.stack.open_flow(FlowKind.PACKET, None, world.now)
    world.a.send(raw, echo_request("10.0.0.77", INNER["b"]))
    world.settle()
    assert world.b.stack is not None
    assert world.b.stack.inner_dropped == {"source not allowed": 1}
    assert world.a.messages == {}


def test_answers_of_the_inner_host_are_bounded() -> None:
    """Nobody can make a peer queue more than it takes from its own application."""
    world, _ = connected()
    stack = world.a.stack
    assert stack is not None
    raw = stack.open_flow(FlowKind.PACKET, None, world.now)
    request = echo_request(INNER["a"], INNER["b"])
    for _ in range(2000):
        world.a.send(raw, request)
    stack_b = world.b.stack
    assert stack_b is not None
    world.settle()
    assert stack_b.inner_dropped["echo limit"] > 1000
    assert stack_b._waiting == 0
