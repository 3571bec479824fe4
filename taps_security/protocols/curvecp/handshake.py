"""Hello and Cookie, and what an opened Initiate means: the two handshakes.

    client   START --Hello--> WAITING --Cookie--> READY            unanswered: a Hello with a fresh number
    server   START --Ask(ClaimOnce), Ask(VerifyKey)--> READY       the screener opened the Initiate

A handshake sees whole packets and knows no timer and no stream. What does not open is passed over: in CurveCP nobody
is told of an error. The keys of both directions are one key; what differs are nonces.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from types import MappingProxyType

from ...parts.codec import MalformedMessage
from ...stack.asks import Ask, AskId, ClaimOnce, Refused, VerifyKey
from ...stack.errors import AuthenticationFailed, LocalError, PeerMisbehaved, Reason
from ...stack.events import (
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    PeerAuthenticated,
    PeerMoved,
    Stage,
)
from ...stack.frozen import frozen
from ...stack.layers import HandshakeMessage, HandshakeOutput, PathFacts
from . import keys
from .keys import BoxFailure, Introduction, KeyPair, Random, StreamKey, box_key
from .limits import COOKIE_LIFE, FIRST_NUMBERS, MAX_NUMBER
from .names import encode_name
from .wire import Cookie, Hello, parse_untrusted

KIND = "curvecp"  # of routes and claims
FIRST_PACKETS = KeyId(Stage.INITIAL)  # Hello and Cookie, whose boxes are their own
STREAM = KeyId(Stage.APPLICATION)
LIMITS = (Limit(LimitKind.PACKETS, float(1 << 63), float(MAX_NUMBER - FIRST_NUMBERS)),)
_CLAIM, _VERIFY = 1, 2


@frozen(kw_only=True)
class ClientConfiguration:
    """What a client knows beforehand. `key`: our long-term pair; `name`: by which the server knows itself."""

    key: KeyPair
    server_key: bytes
    name: str
    extension: bytes
    server_extension: bytes
    anonymous: bool  # `key` is fresh
    random: Random = field(repr=False)


@frozen
class OpenedInitiate:
    """What a screener opened of an Initiate: the seed of a server's stack."""

    client: bytes  # C
    client_key: bytes  # C'
    client_extension: bytes
    key: bytes = field(repr=False)  # of C' and S'
    number: int
    message: bytes = field(repr=False)
    size: int  # octets of the datagram
    name: bytes = b""  # the server's, as the client means it


def first_number(random: Random) -> int:
    """Where a sender's numbers begin: at random, so that they tell nothing of other connections."""
    return int.from_bytes(random(8), "little") % FIRST_NUMBERS


def key_text(key: bytes) -> str:
    """Base64 of a public key."""
    return b64encode(key).decode()


class _Handshake:
    """What both roles share: the door, and what CurveCP does not have."""

    __slots__ = ("_outputs",)

    def __init__(self) -> None:
        self._outputs: deque[HandshakeOutput] | None = None

    def next_output(self) -> HandshakeOutput | None:
        """One ordered door: KeyReady stands before the first message under its key."""
        if self._outputs is None:
            return None
        output = self._outputs.popleft()
        if not self._outputs:
            self._outputs = None
        return output

    def _say(self, *outputs: HandshakeOutput) -> None:
        if self._outputs is None:
            self._outputs = deque()
        self._outputs += outputs

    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        """No key follows another: at its hard limit the connection ends."""

    def peer_moved(self, event: PeerMoved, now: float) -> None:
        """The peer's next acknowledgement validates its address; there is no message for it."""

    def update_keys(self, now: float) -> None:
        """Raises LocalError: a new key is a new connection."""
        raise LocalError("update_keys(): CurveCP has none; a new connection has a new key", reason=Reason.NOT_SUPPORTED)

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Raises LocalError: CurveCP exports nothing."""
        raise LocalError("export_secret(): CurveCP has no exporter", reason=Reason.NOT_SUPPORTED)


class ClientHandshake(_Handshake):
    """Hello until a Cookie opens. `number` is the client's one counter: Hello, Initiate and Message share it."""

    __slots__ = ("_configuration", "_key", "_long_key", "number", "public")

    def __init__(self, configuration: ClientConfiguration) -> None:
        super().__init__()
        self._configuration = configuration
        self._key: KeyPair | None = KeyPair.generate(configuration.random)  # until the cookie was opened
        self._long_key = b""  # of C' and S
        self.number = 0
        self.public = self._key.public  # C'

    def start(self, facts: PathFacts, now: float) -> None:
        """The first Hello."""
        assert self._key is not None
        try:
            self._long_key = box_key(self._configuration.server_key, self._key.secret)
        except BoxFailure:
            text = "the server's public key agrees no secret: it cannot be a key"
            raise LocalError(text, reason=Reason.INVALID_CONFIGURATION) from None
        self.number = first_number(self._configuration.random)
        self._say_hello()

    def unanswered(self, exchange: int, now: float) -> bool:
        """A Hello is never sent twice: the next has a number of its own."""
        if self._key is not None:
            self._say_hello()
        return True

    def _say_hello(self) -> None:
        configuration = self._configuration
        self.number += 1
        hello = Hello(
            configuration.server_extension,
            configuration.extension,
            self.public,
            self.number.to_bytes(8, "little"),
            keys.seal_hello(self._long_key, self.number),
        )
        self._say(HandshakeMessage(FIRST_PACKETS, hello.encode(), last=True))

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        """A Cookie. What is none of ours, and what comes again, changes nothing."""
        if self._key is None:
            return
        configuration, pair = self._configuration, self._key
        try:
            packet = parse_untrusted(data)
            if not isinstance(packet, Cookie):
                return
            if (packet.client_extension, packet.server_extension) != (
                configuration.extension,
                configuration.server_extension,
            ):
                return
            server, cookie = keys.open_welcome(self._long_key, packet.nonce, packet.box)
            stream_key = box_key(server, pair.secret)
        except (MalformedMessage, BoxFailure):
            return
        vouch_key = box_key(configuration.server_key, configuration.key.secret)
        vouch = keys.seal_vouch(vouch_key, configuration.random(16), pair.public)
        introduction = Introduction(configuration.key.public, vouch, encode_name(configuration.name)).encode()
        self._key, self._long_key = None, b""
        self._say(
            KeyReady(STREAM, Direction.RECEIVE, StreamKey(stream_key, -1), LIMITS),
            KeyReady(STREAM, Direction.SEND, StreamKey(stream_key, self.number + 1, cookie, introduction), LIMITS),
            PeerAuthenticated(key_text(configuration.server_key)),
            _complete(configuration.name, not configuration.anonymous),
        )

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        """The server has opened our Initiate."""
        self._say(HandshakeConfirmed())

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """A client asks nothing."""


class ServerHandshake(_Handshake):
    """What an opened Initiate means once its key is claimed, and the client's long-term key is allowed.

    `verifies`: the application is asked about the client's key. `known`: the screener has looked for it in a list.
    """

    __slots__ = ("_known", "_name", "_open", "_random", "_seed", "_verifies", "_wall_clock")

    def __init__(
        self,
        seed: OpenedInitiate,
        name: str,
        random: Random,
        wall_clock: Callable[[], float],
        *,
        verifies: bool,
        known: bool,
    ) -> None:
        super().__init__()
        self._seed: OpenedInitiate | None = seed
        self._name = name
        self._random = random
        self._wall_clock = wall_clock
        self._verifies = verifies
        self._known = known
        self._open: tuple[AskId, ...] = ()

    def start(self, facts: PathFacts, now: float) -> None:
        """The cookie was good. That its key made no connection before, only the claim can say."""
        assert self._seed is not None
        until = self._wall_clock() + COOKIE_LIFE
        self._open = (_CLAIM,)
        self._say(Ask(_CLAIM, ClaimOnce(KIND, self._seed.client_key, until)))

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        """Nothing comes: Initiates are the screener's, or of the record."""

    def unanswered(self, exchange: int, now: float) -> bool:
        """A server says nothing that wants an answer."""
        return False

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        """The Initiate said so already."""

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """Raises AuthenticationFailed for a client that is refused, PeerMisbehaved for an Initiate that was used."""
        if ask not in self._open or self._seed is None:
            return
        if isinstance(result, Refused):
            raise AuthenticationFailed(f"the client was refused: {result.error}", reason=Reason.REFUSED)
        if ask == _CLAIM and result is not True:
            raise PeerMisbehaved("an Initiate whose connection is over came again", reason=Reason.UNEXPECTED)
        if ask == _CLAIM and self._verifies:
            self._open = (_VERIFY,)
            self._say(Ask(_VERIFY, VerifyKey(self._seed.client, "client")))
            return
        self._open = ()
        seed, self._seed = self._seed, None
        number = first_number(self._random)
        self._say(
            KeyReady(STREAM, Direction.RECEIVE, StreamKey(seed.key, seed.number), LIMITS),
            KeyReady(STREAM, Direction.SEND, StreamKey(seed.key, number + 1), LIMITS),
            PeerAuthenticated(key_text(seed.client)),
            _complete(self._name, self._verifies or self._known),
            HandshakeConfirmed(),
        )


@lru_cache(maxsize=64)
def _complete(name: str, mutual: bool) -> HandshakeComplete:
    """The event and its summary, one object for all connections of an endpoint."""
    algorithms = {"agreement": "X25519", "box": "XSalsa20-Poly1305"}
    summary = {
        "version": "1",
        "algorithms": MappingProxyType(algorithms),
        "alpn": None,
        "server_name": name,
        "resumed": False,
        "provides": MappingProxyType({"mutual_authentication": mutual}),
    }
    return HandshakeComplete(MappingProxyType(summary))
