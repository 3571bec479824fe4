"""Both ends of a TLS connection in memory, one of which may lie, and a reader of what went over the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taps_security.crypto.aead import AuthenticationFailure, new_aead
from taps_security.protocols.tls.alerts import TlsEnds
from taps_security.protocols.tls.delivery import TlsStack, message_length
from taps_security.protocols.tls.handshake import TlsHandshake
from taps_security.protocols.tls.keys import TrafficSecret
from taps_security.protocols.tls.limits import HEADER_SIZE
from taps_security.protocols.tls.record import ALERT, APPLICATION_DATA, TlsRecord
from taps_security.stack.asks import Ask
from taps_security.stack.delivery import PassThrough
from taps_security.stack.events import Direction, KeyReady, StackEvent, Terminated
from taps_security.stack.layers import HandshakeMessage
from taps_security.stack.stream import DEFAULT_LIMITS, StreamLimits
from tests.protocols.tls.pair import FACTS, Endpoint, Pair
from tests.stack.null import drain, feed, octets_of, send, transmit

Change = Callable[[bytes], bytes | None]  # a handshake message in place of another; None: it does not go out


class LyingStack(TlsStack):
    """A stack that keeps its own secrets, and changes what it says before it is sealed.

    `lies`: message type -> what goes out in place of it.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.lies: dict[int, Change] = {}
        self.secrets: list[TrafficSecret] = []

    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        change = self.lies.get(message.data[0])
        data = change(message.data) if change is not None else message.data
        if data is not None:
            super()._queue_message(message._replace(data=data), now)

    def _route_key_ready(self, event: KeyReady, now: float) -> None:
        if event.direction is Direction.SEND:
            assert isinstance(event.secret, TrafficSecret)
            self.secrets.append(event.secret)
        super()._route_key_ready(event, now)


class End:
    """One end. `wire`: all that it sent. `octets`: what its application received. `end`: how it ended."""

    def __init__(self, endpoint: Endpoint, limits: StreamLimits = DEFAULT_LIMITS) -> None:
        self.endpoint = endpoint
        handshake: TlsHandshake = endpoint.handshake
        record = TlsRecord()
        self.record = record
        self.stack = LyingStack(
            handshake, record, PassThrough(message_length, handshake.max_message), TlsEnds(), limits
        )
        self.events: list[StackEvent] = []
        self.wire = b""
        self.octets = b""
        self._unread = b""
        self.end: Terminated | None = None
        self.stack.start(0, FACTS, 0.0)
        self._drain()

    def hear(self, octets: bytes) -> bytes:
        """Read `octets`, and return what it says to them."""
        self._unread += octets
        while self._unread:
            consumed = feed(self.stack, self._unread)
            self._unread = self._unread[consumed:]
            self._drain()
            if not consumed:
                break
        return self.say()

    def say(self) -> bytes:
        """What it has to say."""
        said = transmit(self.stack)
        self._drain()
        self.wire += said
        return said

    def _drain(self) -> None:
        while events := drain(self.stack):
            self.octets += octets_of(events)
            for event in events:
                self.events.append(event)
                if isinstance(event, Ask):
                    self.stack.answer(event.id, self.endpoint.answer_to(event.request), 0.0)
                elif isinstance(event, Terminated):
                    assert self.end is None
                    self.end = event

    def protect(self, content_type: int, content: bytes, padding: int = 0) -> bytes:
        """A record of any type and content under this end's current key, whatever the protocol says of it."""
        state = self.record.sending(self.stack._send_key)
        inner = content + bytes((content_type,)) + bytes(padding)
        header = bytes((APPLICATION_DATA, 3, 3)) + (len(inner) + 16).to_bytes(2, "big")
        sealed = (state.aead or state.cipher()).encrypt((state.iv ^ state.number).to_bytes(12, "big"), inner, header)
        state.number += 1
        return header + sealed


@dataclass(frozen=True)
class Opened:
    """A record of a wire. `stage`: 0 plaintext, then one for each key that its sender had."""

    kind: int
    content: bytes
    stage: int


def read(wire: bytes, secrets: list[TrafficSecret]) -> list[Opened]:
    """All records of one end, with the secrets that it used one after the other."""
    keys = [
        (new_aead(secret.suite.aead, key), int.from_bytes(iv, "big"))
        for secret in secrets
        for key, iv in [secret.key_and_iv()]
    ]
    found, position, stage, number = [], 0, 0, 0
    while position < len(wire):
        length = int.from_bytes(wire[position + 3 : position + 5], "big")
        header, body = wire[position : position + 5], wire[position + 5 : position + HEADER_SIZE + length]
        position += HEADER_SIZE + length
        if header[0] != APPLICATION_DATA:
            found.append(Opened(header[0], body, 0))
            continue
        while True:
            try:
                aead, iv = keys[max(stage, 1) - 1]
                inner = aead.decrypt((iv ^ number).to_bytes(12, "big"), body, header).rstrip(b"\0")
            except AuthenticationFailure:
                stage, number = max(stage, 1) + 1, 0
                continue
            stage, number = max(stage, 1), number + 1
            found.append(Opened(inner[-1], inner[:-1], stage))
            break
    assert position == len(wire)
    return found


def records_of(end: End) -> list[Opened]:
    """Everything that an end said."""
    return read(end.wire, end.stack.secrets)


def alerts_of(end: End) -> list[bytes]:
    """The alerts among it."""
    return [record.content for record in records_of(end) if record.kind == ALERT]


def ends(
    client: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    *,
    limits: StreamLimits = DEFAULT_LIMITS,
    **settings: Any,
) -> tuple[End, End]:
    """A client and a server that have not spoken yet."""
    pair = Pair(client, server, **settings)
    return End(pair.client, limits), End(pair.server, limits)


def shake(client: End, server: End) -> None:
    """Carry everything both ways until both are silent."""
    said = client.say()
    for _ in range(20):
        said = client.hear(server.hear(said))
        if not said:
            return
    raise AssertionError("they never stop")


def connected(**settings: Any) -> tuple[End, End]:
    """Both ends after their handshake; octets cross."""
    client, server = ends(**settings)
    shake(client, server)
    for one, other in ((client, server), (server, client)):
        assert one.stack.complete
        send(one.stack, b"hello")
        other.hear(one.say())
        assert other.octets == b"hello"
        other.octets = b""
    return client, server
