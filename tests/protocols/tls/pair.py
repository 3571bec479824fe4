"""A TLS client and server in memory, without records: messages go from one `next_output` to the other's `receive`.

`Pair.run()` moves everything until nothing moves. Asks are answered at once unless `hold` names their type; then
they wait in `Endpoint.held`. Secrets of both ends are compared key by key in `check_keys`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any

from taps_security.crypto.certificates import Identity
from taps_security.crypto.issuing import issue_certificate, make_certificate_authority
from taps_security.crypto.signature import sign
from taps_security.crypto.trust import CertificateError, TrustAnchors, verify_chain
from taps_security.protocols.tls.client import ClientHandshake
from taps_security.protocols.tls.handshake import TlsHandshake
from taps_security.protocols.tls.options import ClientConfiguration, ServerConfiguration
from taps_security.protocols.tls.server import ServerHandshake
from taps_security.stack.asks import Ask, ChooseIdentity, FindPsk, FindSession, Refused, Sign, VerifyPeer
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    KeyDiscarded,
    KeyId,
    KeyReady,
    PeerAuthenticated,
    SessionReady,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, PathFacts

AT = 1_800_000_000.0
FACTS = PathFacts(("127.0.0.1", 1), ("127.0.0.1", 2), reliable=True)


class Randomness:
    """Seeded octets for tests."""

    def __init__(self, seed: bytes = b"pair") -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, length: int) -> bytes:
        octets = b""
        while len(octets) < length:
            self._count += 1
            octets += sha256(self._seed + self._count.to_bytes(8, "big")).digest()
        return octets[:length]


@dataclass
class Clock:
    """Unix seconds that tests move."""

    now: float = AT

    def __call__(self) -> float:
        return self.now


@lru_cache
def authority(algorithm: str = "p256") -> Identity:
    return make_certificate_authority("Test CA", algorithm=algorithm, at=AT - 86_400, random=Randomness(b"ca"))  # type: ignore[arg-type]


@lru_cache
def identity(name: str = "server.example", algorithm: str = "p256") -> Identity:
    return issue_certificate(
        authority(),
        [name],
        algorithm=algorithm,
        at=AT - 3600,
        random=Randomness(name.encode() + algorithm.encode()),  # type: ignore[arg-type]
    )


@lru_cache
def anchors() -> TrustAnchors:
    return TrustAnchors(authority().chain)


@dataclass
class Endpoint:
    """One end: its handshake, what it put out, and how it answers."""

    handshake: TlsHandshake
    identities: list[Identity] = field(default_factory=list)
    answers: dict[type, Callable[[Any], object]] = field(default_factory=dict)
    hold: tuple[type, ...] = ()
    events: list[Any] = field(default_factory=list)
    asks: list[Any] = field(default_factory=list)
    held: list[Ask] = field(default_factory=list)
    sent: list[HandshakeMessage] = field(default_factory=list)
    keys: dict[tuple[KeyId, Direction], bytes] = field(default_factory=dict)
    alive: set[tuple[KeyId, Direction]] = field(default_factory=set)
    outbox: list[HandshakeMessage] = field(default_factory=list)

    def answer_to(self, request: Any) -> object:
        if type(request) in self.answers:
            return self.answers[type(request)](request)
        match request:
            case VerifyPeer():
                try:
                    return verify_chain(anchors(), request.chain, request.name or None, AT, request.usage)  # type: ignore[arg-type]
                except CertificateError as error:
                    return Refused(error)
            case ChooseIdentity():
                return next((one for one in self.identities if any(s in request.algorithms for s in one.schemes)), None)
            case Sign():
                assert request.identity.private_key is not None
                return sign(request.identity.private_key, request.algorithm, request.data)  # type: ignore[arg-type]
            case FindPsk() | FindSession():
                return None
        raise AssertionError(request)

    def drain(self, now: float = 0.0) -> None:
        """Take everything out of the door; messages wait in `outbox`."""
        while (output := self.handshake.next_output()) is not None:
            match output:
                case HandshakeMessage():
                    assert (output.key, Direction.SEND) in self.alive or output.key.stage is Stage.INITIAL
                    self.sent.append(output)
                    self.outbox.append(output)
                case Ask():
                    self.asks.append(output.request)
                    if isinstance(output.request, self.hold):
                        self.held.append(output)
                    else:
                        self.handshake.answer(output.id, self.answer_to(output.request), now)
                case _:
                    self._note(output)

    def _note(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, KeyReady):
            assert event.secret is not None
            self.alive.add((event.key, event.direction))
            self.keys[event.key, event.direction] = event.secret.dangerously_reveal()  # type: ignore[attr-defined]
        elif isinstance(event, KeyDiscarded):
            self.alive.discard((event.key, event.direction))

    def release(self, now: float = 0.0) -> None:
        """Answer what was held."""
        held, self.held = self.held, []
        for ask in held:
            self.handshake.answer(ask.id, self.answer_to(ask.request), now)

    def all(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def complete(self) -> bool:
        return bool(self.all(HandshakeComplete))

    @property
    def summary(self) -> dict[str, Any]:
        (event,) = self.all(HandshakeComplete)
        return event.summary  # type: ignore[no-any-return]

    @property
    def peer(self) -> Any:
        (event,) = self.all(PeerAuthenticated)
        return event.identity

    @property
    def sessions(self) -> list[Any]:
        return [event.session for event in self.all(SessionReady)]


class Pair:
    """Both ends."""

    def __init__(
        self,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        *,
        identities: list[Identity] | None = None,
        client_identities: list[Identity] | None = None,
        seed: bytes = b"pair",
    ) -> None:
        self.clock = Clock()
        self.log: list[str] = []  # lines
        client_settings: dict[str, Any] = {
            "server_name": "server.example",
            "random": Randomness(seed + b" client"),
            "wall_clock": self.clock,
            "key_log": self.log.append,
        }
        server_settings: dict[str, Any] = {"random": Randomness(seed + b" server"), "wall_clock": self.clock}
        self.client = Endpoint(
            ClientHandshake(ClientConfiguration(**(client_settings | (client or {})))), client_identities or []
        )
        self.server = Endpoint(
            ServerHandshake(ServerConfiguration(**(server_settings | (server or {})))),
            [identity()] if identities is None else identities,
        )
        self.rounds = 0
        self.started = False

    def start(self) -> Pair:
        self.started = True
        self.server.handshake.start(FACTS, 0.0)
        self.client.handshake.start(FACTS, 0.0)
        return self

    def step(self) -> bool:
        """Move what waits at either end to the other; whether something moved."""
        moved = False
        for sender, receiver in ((self.client, self.server), (self.server, self.client)):
            sender.drain()
            messages, sender.outbox = sender.outbox, []
            for message in messages:
                moved = True
                installed = (message.key, Direction.RECEIVE) in receiver.alive
                assert installed or message.key.stage is Stage.INITIAL, f"no key for {message.key}"
                receiver.handshake.receive(message.key, memoryview(message.data), message.exchange, 0.0)
                receiver.drain()  # keys that a message brings are there before the next one
        return moved

    def run(self) -> Pair:
        if not self.started:
            self.start()
        while self.step():
            self.rounds += 1
            assert self.rounds < 50
        return self

    def check_keys(self) -> None:
        """Each key that both ends have is the same."""
        turn = {Direction.SEND: Direction.RECEIVE, Direction.RECEIVE: Direction.SEND}
        shared = [name for name in self.client.keys if (name[0], turn[name[1]]) in self.server.keys]
        assert len(shared) >= 4
        for key, direction in shared:
            assert self.client.keys[key, direction] == self.server.keys[key, turn[direction]]
