"""CurveCP, as fuzz targets: packets that a stranger sends, and messages that an authentic peer sends.

Nothing may raise what is not PeerMisbehaved, answer a stranger with more than came, keep anything for it, or let a peer
make either half of a stream believe what cannot be.
"""

from __future__ import annotations

from functools import lru_cache

from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.curvecp.limits import MAX_PIECES, RECEIVE_WINDOW
from taps_security.protocols.curvecp.wire import Hello, Initiate, parse_message, parse_untrusted
from taps_security.stack.screening import Create, Match, Reply
from taps_security.stack.stack import SendOptions
from tests.protocols.curvecp.pair import FACTS, LOAD, Pair
from tests.protocols.curvecp.test_delivery import forged
from tests.protocols.curvecp.trace import PACKETS


@lru_cache
def _met() -> tuple[Pair, tuple[bytes, ...]]:
    """A pair that has met, and what its client sent meanwhile."""
    pair = Pair()
    said: list[bytes] = []
    real = pair.to_server

    def to_server(datagram: bytes) -> None:
        said.append(datagram)
        real(datagram)

    pair.to_server = to_server  # type: ignore[method-assign]
    pair.carry()
    pair.client.send(b"hello", 0.0)
    pair.carry()
    pair.to_server = real  # type: ignore[method-assign]
    return pair, tuple(said)


def packets() -> tuple[bytes, ...]:
    """Hello, Initiate and Messages: those of a live pair, and the golden trace's."""
    return (*_met()[1], *(packet.data for packet in PACKETS[:5]))


def packet(octets: bytes) -> None:
    """Invariant: MalformedMessage, or the very octets again, but for a Hello's padding."""
    try:
        parsed = parse_untrusted(octets)
    except MalformedMessage:
        return
    again = parsed.encode()
    if isinstance(parsed, Hello):
        assert again[:72] + again[136:] == octets[:72] + octets[136:]
    else:
        assert again == octets


def stranger(octets: bytes) -> None:
    """Invariant: a screener drops it, gives a cookie that is smaller, or opened the very Initiate that it knows."""
    pair, said = _met()
    screener, view = pair.screener, memoryview(octets)
    screener.route_of(view)
    if screener.recognise(view) is not Match.YES:
        return
    verdict = screener.screen(view, 1, FACTS, LOAD, 0.0)
    if isinstance(verdict, Reply):
        assert len(verdict.datagram) < len(octets)
    if isinstance(verdict, Create):
        known = [each for each in said if isinstance(parse_untrusted(each), Initiate)]
        assert octets[:24] + octets[40:] in {each[:24] + each[40:] for each in known}


def replayed(octets: bytes) -> None:
    """Invariant: a live server's stack delivers nothing and ends for nothing that is not its client's next datagram."""
    pair, _ = _met()
    server = pair.server
    assert server is not None
    before = bytes(server.data)
    assert 0 <= server.receive(octets, 0.0) <= len(octets)
    assert bytes(server.data) == before
    assert server.ended is None


def messages() -> tuple[bytes, ...]:
    """The golden trace's messages."""
    return tuple(each.plaintext for each in PACKETS if each.type in {"ClientMessage", "ServerMessage"})


def message(octets: bytes) -> None:
    """Invariant: MalformedMessage, or a message that holds no more than was read."""
    try:
        parsed = parse_message(octets)
    except MalformedMessage:
        return
    assert len(parsed.data) <= len(octets) - 48
    assert len(parsed.ranges) <= 6


def authentic(octets: bytes) -> None:
    """Invariant: both halves of a stream stay bounded and consistent, whatever an authentic peer says."""
    if not octets or len(octets) > 1088 or len(octets) % 16:
        octets = octets[:1088].ljust(max(16, -(-min(len(octets), 1088) // 16) * 16), b"\0")
    pair, client, server = Pair.ready()
    server.send(bytes(5000), pair.now, SendOptions(token=1))
    for each in (octets, octets[:38] + b"\x10\x04" + octets[40:], bytes(48) + octets[48:]):
        if server.ended is None:
            server.receive(forged(client, each), pair.now)
    delivery = server.stack._delivery
    outgoing, incoming = delivery.outgoing, delivery.incoming
    assert 0 <= outgoing.base <= outgoing.next <= outgoing.limit
    assert incoming.next <= 3 * 1024
    assert incoming._pieces is None or len(incoming._pieces) <= MAX_PIECES
    assert incoming._ahead is None or incoming._ahead[len(incoming._ahead) - 1][1] <= incoming.next + RECEIVE_WINDOW
    assert sum(map(len, server.sent)) <= 100_000
