"""Two local ends whose messages are carried by hand: handshake, screener and the keys that they install."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from taps_security.crypto.sodium import scalarmult_base
from taps_security.protocols.registry import Environment
from taps_security.protocols.wireguard.handshake import OpenedInitiation, WireGuardHandshake
from taps_security.protocols.wireguard.keys import TransportSecret
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer
from taps_security.protocols.wireguard.peers import TunnelState
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.protocols.wireguard.screening import WireGuardScreener
from taps_security.stack.errors import PeerMisbehaved
from taps_security.stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyId,
    KeyReady,
    RouteIssued,
    RouteRetired,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, PathFacts
from taps_security.stack.screening import Create, HandOver, Load, Verdict

HANDSHAKE = KeyId(Stage.INITIAL)
FACTS = PathFacts(("192.0.2.1", 51820), ("192.0.2.2", 51821), mtu=1500)
IDLE = Load(half_open=0, limit=100)
WALL = 1_700_000_000.25  # unix seconds when a test begins


class MemoryStore:
    """A store that can be made to fail."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.error: Exception | None = None

    def load(self, key: str) -> bytes | None:
        if self.error:
            raise self.error
        return self.kept.get(key)

    def save(self, key: str, value: bytes) -> None:
        if self.error:
            raise self.error
        self.kept[key] = value


class Stream:
    """Randomness that is the same each time."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(self._seed + self._count.to_bytes(8, "big")).digest(size)


def private_key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def public_key(name: str) -> bytes:
    return scalarmult_base(private_key(name))


def environment(name: str, *, clock: Callable[[], float] = lambda: WALL, **more: Any) -> Environment:
    return Environment(random=Stream(name), wall_clock=clock, **more)


def options(name: str, *peers: str, psk: bytes | None = None, **more: Any) -> WireGuardOptions:
    return WireGuardOptions(
        private_key=private_key(name),
        peers=[WireGuardPeer(public_key=public_key(peer), preshared_key=psk) for peer in peers],
        **more,
    )


class End:
    """One end with one peer. `sent`: messages that nobody has carried yet; `keys`: installed, by id and direction."""

    def __init__(
        self, name: str, peer: str, *, psk: bytes | None = None, loaded_above: int = 1000, **environ: Any
    ) -> None:
        self.name = name
        self.tunnel = TunnelState(options(name, peer, psk=psk), environment(name, **environ))
        self.peer = self.tunnel.peers[public_key(peer)]
        self.handshake = WireGuardHandshake(self.peer, self.tunnel)
        self.screener = WireGuardScreener(self.tunnel, self._accept, loaded_above=loaded_above)
        self.sent: list[bytes] = []
        self.exchanges: list[int] = []
        self.keys: dict[tuple[KeyId, Direction], TransportSecret] = {}
        self.routes: set[Any] = set()
        self.events: list[Any] = []

    def _accept(self, seed: OpenedInitiation, now: float) -> Any:
        assert seed.peer is self.peer
        self.handshake.consume_initiation(seed, now)
        return None

    def drain(self) -> list[Any]:
        """Carry out what the handshake says, and tell it."""
        found = []
        while (output := self.handshake.next_output()) is not None:
            found.append(output)
            match output:
                case HandshakeMessage():
                    assert output.key == HANDSHAKE
                    assert output.last
                    self.sent.append(output.data)
                    self.exchanges.append(output.exchange)
                case KeyReady():
                    assert (output.key, output.direction) not in self.keys
                    assert isinstance(output.secret, TransportSecret)
                    self.keys[output.key, output.direction] = output.secret
                case KeyDiscarded():
                    del self.keys[output.key, output.direction]
                case RouteIssued():
                    assert output.route not in self.routes
                    self.routes.add(output.route)
                case RouteRetired():
                    self.routes.remove(output.route)
        self.events += found
        return found

    def initiate(self, now: float) -> bytes:
        """A fresh initiation; one that waits is given up."""
        self.handshake.abandon(now)
        self.handshake.update_keys(now)
        self.drain()
        return self.sent.pop()

    def screen(self, data: bytes, now: float, *, facts: PathFacts = FACTS, load: Load = IDLE) -> Verdict:
        return self.screener.screen(memoryview(data), 1, facts, load, now)

    def take(self, data: bytes, now: float) -> None:
        """A datagram, as screener and stack would treat it; raises what they raise."""
        if data[0] == 1:
            verdict = self.screen(data, now)
            assert isinstance(verdict, Create | HandOver), verdict
            self._accept(verdict.seed, now)  # type: ignore[arg-type]
        else:
            assert self.screener.route_of(memoryview(data)) in self.routes
            self.handshake.receive(HANDSHAKE, memoryview(data), 0, now)
        self.drain()

    def answer(self, data: bytes, now: float) -> bytes:
        """What is sent after a datagram was taken."""
        self.take(data, now)
        return self.sent.pop()

    # -- keys -----------------------------------------------------------------------------------------------------
    def generations(self, direction: Direction) -> list[int]:
        return sorted(key.generation for key, way in self.keys if way is direction)

    @property
    def pairs(self) -> tuple[int | None, int | None, int | None]:
        """The generations of previous, current and next."""
        found = (self.handshake._previous, self.handshake._current, self.handshake._next)
        return tuple(None if pair is None else pair.key.generation for pair in found)  # type: ignore[return-value]

    def sends_to(self, other: End) -> KeyId | None:
        """Send one datagram: the key under which the other end receives it, which is told its handshake."""
        key = self.handshake.sending_key
        assert key is not None
        secret = self.keys[key, Direction.SEND]
        for (theirs, way), receiving in other.keys.items():
            if way is Direction.RECEIVE and receiving.index == secret.index:
                assert receiving.key == secret.key
                other.handshake.key_confirmed(KeyConfirmed(theirs), 0.0)
                other.drain()
                return theirs
        return None


def both(**changes: Any) -> tuple[End, End]:
    """Initiator and responder, strangers still."""
    return End("initiator", "responder", **changes), End("responder", "initiator", **changes)


def meet(initiator: End, responder: End, now: float = 0.0) -> None:
    """A handshake that both have confirmed."""
    initiator.take(responder.answer(initiator.initiate(now), now), now)
    assert initiator.sends_to(responder) is not None


def refused(reason: Reason) -> Any:
    """The context of what is dropped for that reason."""
    return pytest.raises(PeerMisbehaved, check=lambda error: error.reason is reason)


def kinds(outputs: list[Any]) -> list[type]:
    """What came out, by type."""
    return [type(output) for output in outputs]
