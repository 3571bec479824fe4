"""What the TLS 1.3 handshakes of both roles share (RFC 8446 §4): the ordered door, asks, keys, and what comes after.

May live here: outputs, asks, traffic secrets, KeyUpdate, the exporter. Must not: records, alerts, timers, TCP,
compatibility records; DTLS and QUIC use the same objects over other records.

Laws, each held by a test:
- a message that the table (state, message) does not name raises PeerMisbehaved and changes nothing;
- state changes after the last check: behind a bad message the good one still works;
- no receiving application key and no HandshakeComplete while VerifyPeer is open;
- KeyReady stands in the door before the first message under its key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar

from taps_security.parts.codec import MalformedMessage
from taps_security.stack.asks import Ask, AskId, AskRequest
from taps_security.stack.errors import LocalError, PeerIncompatible, PeerMisbehaved
from taps_security.stack.errors import Reason as StackReason
from taps_security.stack.events import (
    Direction,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    PeerMoved,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, HandshakeOutput, PathFacts

from .keys import CIPHER_SUITES, CipherSuite, TrafficSecret, export
from .limits import MAX_KEY_GENERATION, SOFT_LIMIT_SHARE
from .options import KeyLog, TlsOptions
from .reasons import Reason
from .wire import DuplicateExtension, HandshakeType, KeyUpdateRequest, encode_message, parse_key_update

__all__ = [
    "HANDSHAKE_KEY",
    "HANDSHAKE_RECEIVING_OVER",
    "HANDSHAKE_SENDING_OVER",
    "INITIAL_KEY",
    "Handler",
    "TlsHandshake",
    "application_key",
    "illegal",
    "incompatible",
    "misbehaved",
]

INITIAL_KEY = KeyId(Stage.INITIAL)
HANDSHAKE_KEY = KeyId(Stage.HANDSHAKE)
# What all connections say alike is one object: their histories stay small.
HANDSHAKE_SENDING_OVER = KeyDiscarded(HANDSHAKE_KEY, Direction.SEND)
HANDSHAKE_RECEIVING_OVER = KeyDiscarded(HANDSHAKE_KEY, Direction.RECEIVE)

_NO_EXTENSIONS: Mapping[int, bytes] = MappingProxyType({})

Handler = Callable[[Any, bytes, float], None]  # (handshake, whole message, now)

_NAMES = {member.value: member.name.lower() for member in HandshakeType}


@lru_cache(maxsize=16)
def application_key(generation: int = 0) -> KeyId:
    """The name of an application key, the same object for all connections."""
    return KeyId(Stage.APPLICATION, generation)


def misbehaved(reason: Reason, text: str, section: str) -> PeerMisbehaved:
    """An error of the peer against the specification."""
    return PeerMisbehaved(text, reason=reason, section=f"RFC 8446 §{section}")


def illegal(text: str, section: str) -> PeerMisbehaved:
    """An error of the peer with the alert illegal_parameter."""
    return misbehaved(Reason.ILLEGAL_PARAMETER, text, section)


def incompatible(reason: Reason, text: str, section: str) -> PeerIncompatible:
    """A peer that shares too little with us."""
    return PeerIncompatible(text, reason=reason, section=f"RFC 8446 §{section}")


@lru_cache(maxsize=32)
def _limits_of(code: int, records_per_key: int) -> tuple[Limit, ...]:
    hard = CIPHER_SUITES[code].aead.confidentiality_limit
    if hard is None:
        return (Limit(LimitKind.PACKETS, records_per_key, (1 << 64) - 1),) if records_per_key else ()
    soft = int(hard * SOFT_LIMIT_SHARE)
    return (Limit(LimitKind.PACKETS, min(records_per_key, soft) if records_per_key else soft, hard),)


class TlsHandshake:
    """The part of a handshake that does not depend on the role. See `stack.layers.Handshake` for the methods.

    `skip_early_data`: on a server, octets of 0-RTT records that a client may still send and that must be dropped:
    before the second ClientHello by content type, and under the handshake key by failing to open (§4.2.10).
    `peer_extensions`: the peer's bodies for the types of `extensions` in the configuration.
    """

    __slots__ = (
        "_asks",
        "_exchange",
        "_exporter",
        "_key_log",
        "_last_ask",
        "_options",
        "_outputs",
        "_prefix",
        "_receive",
        "_receive_generation",
        "_send",
        "_send_generation",
        "_state",
        "_suite",
        "_update_requested",
        "peer_extensions",
        "skip_early_data",
    )

    table: ClassVar[Mapping[tuple[Enum, int], tuple[Stage, Handler]]]
    connected: ClassVar[Enum]

    def __init__(self, options: TlsOptions, key_log: KeyLog | None, prefix: bytes, state: Enum) -> None:
        self._options = options
        self._key_log = key_log
        self._prefix = prefix
        self._state = state
        self._outputs: deque[HandshakeOutput] | None = None
        self._asks: dict[AskId, Callable[[object, float], None]] | None = None
        self._last_ask = 0
        self._exchange = 0  # flights are numbered across both ends: ours are even on a client and odd on a server
        self._suite: CipherSuite | None = None
        self._send: TrafficSecret | None = None
        self._receive: TrafficSecret | None = None
        self._send_generation = 0
        self._receive_generation = 0
        self._update_requested = False  # we asked the peer for an update that has not come yet
        self._exporter = b""
        self.skip_early_data = 0
        self.peer_extensions = _NO_EXTENSIONS

    # -- input ----------------------------------------------------------------------------------------------------
    def start(self, facts: PathFacts, now: float) -> None:
        """There is a path to the peer."""

    @property
    def max_message(self) -> int:
        """Octets of the largest message that `receive` takes, header included: hold no more of an unfinished one."""
        return self._options.max_handshake_message

    def receive(self, key: KeyId, data: memoryview | bytes, exchange: int, now: float) -> None:
        """One whole message, with its header, that came under `key`."""
        message = bytes(data)
        if len(message) < 4 or len(message) - 4 != int.from_bytes(message[1:4], "big"):
            raise misbehaved(Reason.DECODE_ERROR, "a handshake message whose length is wrong", "4")
        if len(message) > self._options.max_handshake_message:
            raise misbehaved(
                Reason.MESSAGE_TOO_LARGE,
                f"a handshake message of {len(message)} octets; max_handshake_message allows "
                f"{self._options.max_handshake_message}",
                "4",
            )
        kind = message[0]
        stage, handler = self.table.get((self._state, kind), (None, None))
        if handler is None or stage is not key.stage or self._is_old(key):
            name = _NAMES.get(kind, f"handshake message {kind}")
            raise misbehaved(
                Reason.UNEXPECTED_MESSAGE, f"{name} under {key.stage.name.lower()} keys in {self._state.name}", "4"
            )
        try:
            handler(self, message, now)
        except DuplicateExtension as error:
            raise illegal(f"{_NAMES[kind]}: {error.message}", "4.2") from None
        except MalformedMessage as error:
            raise misbehaved(Reason.DECODE_ERROR, f"{_NAMES[kind]}: {error.message}", "6.2") from None

    def _is_old(self, key: KeyId) -> bool:
        return key.stage is Stage.APPLICATION and key.generation != self._receive_generation

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """The answer to an Ask; a second one, or one that nobody waits for, is ignored."""
        then = self._asks.pop(ask, None) if self._asks else None
        if not self._asks:
            self._asks = None
        if then is not None:
            then(result, now)

    def unanswered(self, exchange: int, now: float) -> bool:
        """TLS repeats the same octets."""
        return False

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        """TLS says by messages what is confirmed."""

    def peer_moved(self, event: PeerMoved, now: float) -> None:
        """TLS leaves paths to others."""

    def forget(self) -> None:
        """The connection ended: let go of every secret (RFC 8446 §6)."""
        self._outputs = self._asks = self._send = self._receive = self._key_log = None
        self._exporter = b""

    # -- the door -------------------------------------------------------------------------------------------------
    def next_output(self) -> HandshakeOutput | None:
        """What comes next, in order."""
        outputs = self._outputs
        if outputs is None:
            return None
        output = outputs.popleft()
        if not outputs:
            self._outputs = None  # an idle connection owns no queue
        return output

    def _put(self, *outputs: HandshakeOutput) -> None:
        if self._outputs is None:
            self._outputs = deque(outputs)
        else:
            self._outputs.extend(outputs)

    def _message(self, key: KeyId, data: bytes, *, last: bool = False) -> HandshakeMessage:
        message = HandshakeMessage(key, data, self._exchange, last)
        if last:
            self._exchange += 2
        return message

    def _ask(self, request: AskRequest, then: Callable[[object, float], None]) -> None:
        self._last_ask += 1
        if self._asks is None:
            self._asks = {}
        self._asks[self._last_ask] = then
        self._put(Ask(self._last_ask, request))

    def _log(self, label: str, client_random: bytes, secret: bytes) -> None:
        if self._key_log is not None:
            try:
                self._key_log(f"{label} {client_random.hex()} {secret.hex()}")
            except Exception as error:  # the application's: its disk may be full
                failure = LocalError(f"the key log failed: {error}", reason=Reason.NO_CREDENTIAL)
                raise failure from error

    # -- keys -----------------------------------------------------------------------------------------------------
    def _send_key(self, generation: int, secret: TrafficSecret) -> KeyReady:
        limits = _limits_of(secret.suite.code, self._options.records_per_key)
        return KeyReady(application_key(generation), Direction.SEND, secret, limits)

    def _is_connected(self) -> bool:
        return self._state is self.connected

    def _receive_key_update(self, message: bytes, now: float) -> None:
        """RFC 8446 §4.6.3."""
        request = parse_key_update(message[4:])
        if request not in {KeyUpdateRequest.NOT_REQUESTED, KeyUpdateRequest.REQUESTED}:
            raise illegal(f"request_update is {request}", "4.6.3")
        assert self._receive is not None
        self._receive = self._receive.updated()
        generation = self._receive_generation
        self._receive_generation = generation + 1
        self._update_requested = False
        self._put(
            KeyReady(application_key(generation + 1), Direction.RECEIVE, self._receive),
            KeyDiscarded(application_key(generation), Direction.RECEIVE),
        )
        if request == KeyUpdateRequest.REQUESTED and self._send_generation < MAX_KEY_GENERATION:
            self._send_key_update(KeyUpdateRequest.NOT_REQUESTED)

    def _send_key_update(self, request: KeyUpdateRequest) -> None:
        """KeyUpdate under the old key, then the new key. The old secret is not wiped: it may still be in the door."""
        assert self._send is not None
        generation = self._send_generation
        self._send = self._send.updated()
        self._send_generation = generation + 1
        key = application_key(generation)
        self._put(
            self._message(key, encode_message(HandshakeType.KEY_UPDATE, bytes((request,))), last=True),
            self._send_key(generation + 1, self._send),
            KeyDiscarded(key, Direction.SEND),
        )

    def update_keys(self, now: float) -> None:
        """Fresh sending keys now, and fresh receiving keys as soon as the peer answers."""
        if not self._is_connected():
            raise LocalError("keys can be updated once the handshake is complete", section="RFC 8446 §4.6.3")
        if self._send_generation >= MAX_KEY_GENERATION:
            raise LocalError("no more key updates are allowed on this connection", section="RFC 9846 §4.6.3")
        if self._update_requested:
            self._send_key_update(KeyUpdateRequest.NOT_REQUESTED)
        else:
            self._update_requested = True
            self._send_key_update(KeyUpdateRequest.REQUESTED)

    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        """Update the sending key that is wearing out, or ask the peer for a new receiving one."""
        if not self._is_connected() or self._send_generation >= MAX_KEY_GENERATION:
            return
        if event.direction is Direction.SEND:
            if event.key == (Stage.APPLICATION, self._send_generation, 0):
                self._send_key_update(KeyUpdateRequest.NOT_REQUESTED)
        elif event.key == (Stage.APPLICATION, self._receive_generation, 0) and not self._update_requested:
            self._update_requested = True
            self._send_key_update(KeyUpdateRequest.REQUESTED)

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """TLS-Exporter (RFC 8446 §7.5); no context is an empty one."""
        if not self._is_connected() or self._suite is None:
            raise LocalError("secrets can be exported once the handshake is complete", section="RFC 8446 §7.5")
        algorithm = self._suite.hash
        if not 1 <= len(label) <= 249 or not 1 <= length <= 255 * algorithm.size:
            raise LocalError(
                f"export_secret: a label of 1 to 249 octets and a length of 1 to {255 * algorithm.size} are expected",
                reason=StackReason.INVALID_CONFIGURATION,
            )
        return export(algorithm, self._exporter, label, context or b"", length, self._prefix)
