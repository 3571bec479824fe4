"""What strangers and peers send to a WireGuard end, as fuzz targets."""

from __future__ import annotations

from functools import lru_cache

from taps_security.crypto.blake2s import mac128
from taps_security.parts.codec import MalformedMessage
from taps_security.protocols.wireguard import wire
from taps_security.stack.errors import PeerMisbehaved
from taps_security.stack.screening import Create, Drop, Load, Match, NotOurs, Reply
from tests.protocols.wireguard.ends import FACTS, HANDSHAKE, End, both, meet

_BUSY = Load(half_open=100, limit=100)


@lru_cache
def _messages() -> tuple[bytes, bytes, bytes]:
    """An initiation, its response, and a cookie in its place."""
    initiator, responder = both()
    first = initiator.initiate(0.0)
    reply = responder.screen(first, 0.0, load=_BUSY)
    assert isinstance(reply, Reply)
    return first, responder.answer(first, 0.0), reply.datagram


def samples() -> tuple[bytes, ...]:
    """Each kind of datagram."""
    return (*_messages(), b"\4\0\0\0" + bytes(28), b"\4\0\0\0" + bytes(range(76)))


def message(octets: bytes) -> None:
    """Invariant: MalformedMessage, or a message whose encoding is again the octets; a type that agrees with it."""
    kind = wire.message_type_untrusted(octets)
    try:
        found = wire.parse_untrusted(octets)
    except MalformedMessage:
        assert kind in {0, wire.TRANSPORT}
        return
    assert found.encode() == octets
    assert kind == octets[0]


@lru_cache
def _responder() -> End:
    return End("responder", "initiator", loaded_above=1 << 60)


def stranger(octets: bytes) -> None:
    """Invariant: only the very initiation is opened, cookies are no longer than what they answer, nothing is kept."""
    end = _responder()
    data = memoryview(octets)
    ours = end.screener.recognise(data) is Match.YES
    for load in (Load(0, 100), _BUSY):
        verdict = end.screener.screen(data, 1, FACTS, load, 0.0)
        assert isinstance(verdict, NotOurs) != ours
        if isinstance(verdict, Reply):
            assert len(verdict.datagram) <= len(octets)
        elif isinstance(verdict, Create):
            assert octets[:132] == _messages()[0][:132]
    assert (end.screener.route_of(data) is not None) == (ours and octets[0] != wire.INITIATION)
    assert end.drain() == []


def initiation(octets: bytes) -> None:
    """Invariant: whatever stands under a good mac1, only the very initiation is opened; the sender's index is free."""
    end = _responder()
    body = octets[:116].ljust(116, b"\0")
    body = b"\1\0\0\0" + body[4:]
    verdict = end.screen(body + mac128(end.tunnel.mac1_key, body) + bytes(16), 0.0)
    assert isinstance(verdict, Create | Drop)
    assert isinstance(verdict, Create) == (body[8:] == _messages()[0][8:116])


@lru_cache
def _initiator() -> End:
    end = both()[0]
    assert end.initiate(0.0) == _messages()[0]
    return end


def answer(octets: bytes) -> None:
    """Invariant: PeerMisbehaved and nothing has changed, or the very response, or the very cookie."""
    end = _initiator()
    try:
        end.handshake.receive(HANDSHAKE, memoryview(octets), 0, 0.0)
    except PeerMisbehaved:
        assert end.drain() == []
        assert end.handshake.pending == 1
        assert end.peer.cookie is None
        return
    _initiator.cache_clear()
    assert octets[:76] in {_messages()[1][:76], _messages()[2]}


@lru_cache
def _met() -> End:
    initiator, responder = both()
    meet(initiator, responder)
    return initiator


def late_answer(octets: bytes) -> None:
    """Invariant: after the response PeerMisbehaved, or a late cookie for what we sent; nothing comes of it at once."""
    end = _met()
    try:
        end.handshake.receive(HANDSHAKE, memoryview(octets), 0, 0.0)
    except PeerMisbehaved:
        pass
    else:
        _met.cache_clear()
        assert octets == _messages()[2]
    assert end.drain() == []
