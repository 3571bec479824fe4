"""A handshake of its own, with cookies, asks, key phases, and routes that change.

    > Hello(client's id, share)                   Screener: Reply(Cookie) | Create
    < Cookie
    > Hello + cookie                              server: Ask(ClaimOnce)
    < Welcome(client's id, server's id, share, chain, proof)
                                                  server: K+ 0 r, 1 r      client: Ask(VerifyPeer); K+ 0 r, 1 r, 0 s
    > {Finished} and data                         client: HandshakeComplete      server: K* 0 -> K+ 0 s
    < {Done}                                      server: HandshakeComplete      client: HandshakeConfirmed

    rekey      data under the other key phase     peer: K* n+1 -> K+ n+1 s, K+ n+2 r, K- n
    moved      {Challenge} and {NewId} answered by {Response} and {IdTaken}: PathValidated, RouteRetired

The responder withholds its sending key until the peer has used its own. Messages in braces are sealed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from enum import IntEnum

from taps_security.crypto.agreement import AgreementError, Group, generate
from taps_security.crypto.kdf import HashAlgorithm, hkdf_expand, hkdf_extract
from taps_security.stack.asks import Ask, AskId, ClaimOnce, Refused, VerifyPeer
from taps_security.stack.errors import PeerMisbehaved, Reason
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    PathId,
    PathValidated,
    PeerAuthenticated,
    PeerMoved,
    RouteIssued,
    RouteRetired,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, HandshakeOutput, PathFacts

from .record import PLAINTEXT, Ids, ToySecret

HELLO, COOKIE, WELCOME = 0xC1, 0xC2, 0xC3
HELLO_SIZE, NO_COOKIE = 200, bytes(16)  # padded, so that three times it is room for a Welcome
PROBES = 3  # unanswered ones after which a path is no good
KIND = "parley"
Random = Callable[[int], bytes]
IssueId = Callable[[str, int], bytes]


class Message(IntEnum):
    """Sealed handshake messages."""

    FINISHED = 1
    DONE = 2
    CHALLENGE = 3
    RESPONSE = 4
    NEW_ID = 5
    ID_TAKEN = 6


def hello(client_id: bytes, share: bytes, cookie: bytes, attempt: int) -> bytes:
    return (bytes((HELLO, attempt)) + client_id + share + cookie).ljust(HELLO_SIZE, b"\0")


def route_of(datagram: memoryview) -> tuple[str, bytes] | None:
    """The receiver's id: sealed datagrams, and answers to a Hello."""
    if len(datagram) >= 6 and (datagram[0] in {COOKIE, WELCOME} or datagram[0] & 0xFE == 0xF0):
        return KIND, bytes(datagram[1:5])
    return None


class ParleyHandshake:
    """Both roles. `limits` are those of each key; `verifies`: the client asks for the chain to be looked at."""

    def __init__(
        self,
        ids: Ids,
        *,
        client: bool,
        random: Random,
        issue_id: IssueId | None = None,
        chain: bytes = b"chain",
        name: str = "",
        limits: tuple[Limit, ...] = (),
        rekeys: bool = True,
        wall_clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._ids = ids
        self._client = client
        self._random = random
        self._issue_id = issue_id or (lambda _kind, length: random(length))
        self._wall_clock = wall_clock
        self._chain, self._name, self._limits, self._rekeys = chain, name, limits, rekeys
        self._outputs: deque[HandshakeOutput] = deque()
        self._share = generate(Group.X25519, random)
        self._id = b""
        self._cookie = NO_COOKIE
        self._attempt = 0
        self._master = b""
        self._secrets: dict[tuple[Direction, int], bytes] = {}
        self._welcome: tuple[bytes, bytes] | None = None  # the server's: client's id and share, until claimed
        self._sending = self._receiving = -1  # generations: ours, and the newest that the peer used
        self._update_due = False
        self._next_exchange = 2 if client else 1
        self._probes: dict[int, tuple[PathId, bytes, int]] = {}
        self._retiring: dict[int, bytes] = {}  # the id that goes when the exchange is answered

    def next_output(self) -> HandshakeOutput | None:
        return self._outputs.popleft() if self._outputs else None

    # -- the handshake --------------------------------------------------------------------------------------------
    def start(self, facts: PathFacts, now: float) -> None:
        self._id = self._issue_id(KIND, 4)
        self._ids.mine.add(self._id)
        self._outputs.append(RouteIssued((KIND, self._id)))
        if self._client:
            self._say_hello()

    def _say_hello(self) -> None:
        data = hello(self._id, self._share.public, self._cookie, self._attempt)
        self._outputs.append(HandshakeMessage(PLAINTEXT, data, 0))

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        if key == PLAINTEXT:
            if self._client:
                self._client_heard(bytes(data))
            elif data[0] == HELLO:
                self._welcome = bytes(data[2:6]), bytes(data[6:38])
                self._outputs.append(Ask(1, ClaimOnce(KIND, self._welcome[1], self._wall_clock() + 60)))
            return
        if not data:
            raise PeerMisbehaved("an empty message", reason=Reason.MALFORMED)
        kind, body = data[0], bytes(data[1:])
        if kind == Message.FINISHED and not self._client:
            self._answer(exchange, Message.DONE)
            self._complete()
        elif kind == Message.DONE and self._client:
            self._outputs.append(HandshakeConfirmed())
        elif kind == Message.CHALLENGE:
            self._answer(exchange, Message.RESPONSE, body)
        elif kind == Message.RESPONSE and exchange in self._probes:
            path, token, _ = self._probes.pop(exchange)
            self._outputs.append(PathValidated(path, hmac.compare_digest(token, body)))
        elif kind == Message.NEW_ID and len(body) == 4:
            self._ids.peer = body
            self._answer(exchange, Message.ID_TAKEN)
        elif kind == Message.ID_TAKEN and exchange in self._retiring:
            gone = self._retiring.pop(exchange)
            self._ids.mine.discard(gone)
            self._outputs.append(RouteRetired((KIND, gone)))
        else:
            raise PeerMisbehaved(f"message {kind} here", reason=Reason.UNEXPECTED)

    def _client_heard(self, data: bytes) -> None:
        if data[0] == COOKIE and len(data) == 21 and self._cookie == NO_COOKIE:
            self._cookie = data[5:]
            self._say_hello()
        elif data[0] == WELCOME and len(data) > 59 and not self._master:
            chain, proof = data[41:-16], data[-16:]
            self._agree(data[9:41], self._id, data[5:9])
            if not hmac.compare_digest(proof, self._proof(chain)):
                raise PeerMisbehaved("the proof of Welcome is wrong", reason=Reason.UNAUTHENTIC)
            self._ids.peer = data[5:9]
            self._outputs.append(Ask(2, VerifyPeer((chain,), self._name, "server")))
        else:
            self._say_hello()  # the Hello is still unanswered

    def _agree(self, share: bytes, client_id: bytes, server_id: bytes) -> None:
        try:
            shared = self._share.agree(share)
        except AgreementError as error:
            raise PeerMisbehaved(f"the peer's share: {error}", reason=Reason.MALFORMED) from None
        self._master = hkdf_extract(HashAlgorithm.SHA256, client_id + server_id, shared)
        for role, direction in ((b"client", Direction.SEND), (b"server", Direction.RECEIVE)):
            mine = direction if self._client else _OPPOSITE[direction]
            self._secrets[mine, 0] = hkdf_expand(HashAlgorithm.SHA256, self._master, role, 32)

    def _proof(self, chain: bytes) -> bytes:
        return hashlib.blake2s(chain, key=self._master, digest_size=16).digest()

    def answer(self, ask: AskId, result: object, now: float) -> None:
        if isinstance(result, Refused):
            raise result.error
        if ask == 1:
            if result is not True:
                raise PeerMisbehaved("this Hello was seen before", reason=Reason.UNAUTHENTIC)
            assert self._welcome is not None
            client_id, share = self._welcome
            self._ids.peer = client_id
            self._agree(share, client_id, self._id)
            data = bytes((WELCOME,)) + client_id + self._id + self._share.public + self._chain
            self._outputs.append(HandshakeMessage(PLAINTEXT, data + self._proof(self._chain), 0, last=True))
            self._install_receiving()
        else:
            self._outputs.append(PeerAuthenticated(result))
            self._install_receiving()
            self._install_sending(0)
            self._ask(Message.FINISHED)
            self._complete()

    def _complete(self) -> None:
        self._outputs.append(HandshakeComplete({"aead": "CHACHA20_POLY1305", "group": "X25519"}))

    def unanswered(self, exchange: int, now: float) -> bool:
        """A Hello is made afresh, a path that does not answer is given up, anything else is repeated."""
        if exchange == 0 and self._client:
            self._attempt = min(self._attempt + 1, 255)
            return False if self._attempt > 8 else self._fresh_hello()
        if exchange in self._probes:
            path, token, tries = self._probes[exchange]
            if tries + 1 < PROBES:
                self._probes[exchange] = path, token, tries + 1
                return False
            del self._probes[exchange]
            self._outputs.append(PathValidated(path, False))
            return True
        return False

    def _fresh_hello(self) -> bool:
        self._say_hello()
        return True

    def _ask(self, kind: Message, body: bytes = b"") -> int:
        exchange, self._next_exchange = self._next_exchange, self._next_exchange + 2
        key = KeyId(Stage.APPLICATION, self._sending)
        self._outputs.append(HandshakeMessage(key, bytes((kind,)) + body, exchange))
        return exchange

    def _answer(self, exchange: int, kind: Message, body: bytes = b"") -> None:
        key = KeyId(Stage.APPLICATION, self._sending)
        self._outputs.append(HandshakeMessage(key, bytes((kind,)) + body, exchange, last=True))

    # -- keys -----------------------------------------------------------------------------------------------------
    def _ready(self, direction: Direction, generation: int) -> None:
        if (direction, generation) not in self._secrets:
            before = self._secrets[direction, generation - 1]
            self._secrets[direction, generation] = hkdf_expand(HashAlgorithm.SHA256, before, b"next", 32)
        secret = ToySecret(self._secrets[direction, generation])
        self._outputs.append(KeyReady(KeyId(Stage.APPLICATION, generation), direction, secret, self._limits))

    def _discard(self, direction: Direction, generation: int) -> None:
        if generation >= 0:
            self._outputs.append(KeyDiscarded(KeyId(Stage.APPLICATION, generation), direction))

    def _install_receiving(self) -> None:
        self._receiving = 0
        self._ready(Direction.RECEIVE, 0)
        self._ready(Direction.RECEIVE, 1)  # ahead: the peer may change phase at any time

    def _install_sending(self, generation: int) -> None:
        self._sending = generation
        self._ready(Direction.SEND, generation)
        self._discard(Direction.SEND, generation - 1)

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        generation = event.key.generation
        if generation > self._receiving:
            self._receiving = generation
            self._ready(Direction.RECEIVE, generation + 1)
            self._discard(Direction.RECEIVE, generation - 2)
        if generation > self._sending:
            self._install_sending(generation)
        elif self._update_due:
            self.update_keys(now)

    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        if self._rekeys and not event.hard:
            self.update_keys(now)

    def update_keys(self, now: float) -> None:
        """The next phase: now, or once the peer has followed into this one."""
        self._update_due = self._receiving != self._sending
        if not self._update_due:
            self._install_sending(self._sending + 1)

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        exporter = hkdf_expand(HashAlgorithm.SHA256, self._master, b"export " + label, 32)
        return hkdf_expand(HashAlgorithm.SHA256, exporter, context or b"", length)

    # -- paths ----------------------------------------------------------------------------------------------------
    def peer_moved(self, event: PeerMoved, now: float) -> None:
        """Ask at the new path, and let the peer use another id there."""
        token = self._random(8)
        self._probes[self._ask(Message.CHALLENGE, token)] = event.new, token, 0
        fresh = self._issue_id(KIND, 4)
        self._ids.mine.add(fresh)
        self._outputs.append(RouteIssued((KIND, fresh)))
        self._retiring[self._ask(Message.NEW_ID, fresh)] = self._id
        self._id = fresh


_OPPOSITE = {Direction.SEND: Direction.RECEIVE, Direction.RECEIVE: Direction.SEND}
