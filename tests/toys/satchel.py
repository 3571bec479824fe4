"""Single messages under keys that come from outside, or from a parley inside: the shape of ESP, SRTP and DTLS-SRTP.

octet 0xE0 | generation, receiver's id (4), number (8), sealed message      a window of 64 against replay

keys         import_key(KeyReady) for each direction, or the child's exported secret: HandshakeComplete
rekey        a key of the next generation is imported; a peer that has it already is heard as soon as we have
moved        {Challenge} answered by {Response}: PathValidated
end          none: SILENT
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from taps_security.crypto.kdf import HashAlgorithm, hkdf_expand
from taps_security.stack.asks import AskId
from taps_security.stack.embedded import Embedded
from taps_security.stack.errors import LocalError, Reason
from taps_security.stack.events import (
    Buffer,
    CloseKind,
    Direction,
    FlowId,
    FlowSent,
    FlowWritable,
    HandshakeComplete,
    KeyConfirmed,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    PathId,
    PathNews,
    PathValidated,
    PeerMoved,
    Received,
    RouteIssued,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, HandshakeOutput, PathFacts, Slab, UnitKind
from taps_security.stack.stack import Inbound, SecurityStack, SendOptions, Transmit

from .base import DatagramToy
from .record import Ids, ToyRecord, ToySecret

KIND = "satchel"
HIGH, LOW = 256, 64  # messages that wait
PROBES = 3
CHALLENGE, RESPONSE = 1, 2


def route_of(datagram: memoryview) -> tuple[str, bytes] | None:
    """The receiver's id."""
    return (KIND, bytes(datagram[1:5])) if len(datagram) > 5 and datagram[0] & 0xF0 == 0xE0 else None


def imported(secret: bytes, generation: int, *, client: bool, limits: tuple[Limit, ...] = ()) -> list[KeyReady]:
    """Both keys of a generation for one end, from what both ends know."""
    key = KeyId(Stage.APPLICATION, generation)
    both = [hkdf_expand(HashAlgorithm.SHA256, secret, role, 32) for role in (b"client", b"server")]
    send, receive = both if client else reversed(both)
    return [
        KeyReady(key, Direction.RECEIVE, ToySecret(receive), limits),
        KeyReady(key, Direction.SEND, ToySecret(send), limits),
    ]


class SatchelHandshake:
    """Agrees nothing: it tells when both keys are there, and asks at new paths."""

    def __init__(self, my_id: bytes, *, client: bool, random: Callable[[int], bytes]) -> None:
        self._id, self._random = my_id, random
        self._outputs: deque[HandshakeOutput] = deque()
        self._next_exchange = 0 if client else 1
        self._probes: dict[int, tuple[PathId, bytes, int]] = {}
        self._key: KeyId | None = None
        self.expiring: list[KeyExpiring] = []

    def next_output(self) -> HandshakeOutput | None:
        return self._outputs.popleft() if self._outputs else None

    def start(self, facts: PathFacts, now: float) -> None:
        self._outputs.append(RouteIssued((KIND, self._id)))

    def keys_are_there(self, key: KeyId, *, first: bool) -> None:
        self._key = key
        if first:
            self._outputs.append(HandshakeComplete({"keys": "imported"}))

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        if data[:1] == bytes((CHALLENGE,)) and self._key is not None:
            self._outputs.append(HandshakeMessage(self._key, bytes((RESPONSE,)) + data[1:], exchange, last=True))
        elif data[:1] == bytes((RESPONSE,)) and exchange in self._probes:
            path, token, _ = self._probes.pop(exchange)
            self._outputs.append(PathValidated(path, hmac.compare_digest(token, data[1:])))

    def unanswered(self, exchange: int, now: float) -> bool:
        path, token, tries = self._probes[exchange]
        self._probes[exchange] = path, token, tries + 1
        if tries + 1 < PROBES:
            return False
        del self._probes[exchange]
        self._outputs.append(PathValidated(path, False))
        return True

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        """Whoever imports keys knows what it does."""

    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        self.expiring.append(event)  # the application hears it too, and imports the next

    def peer_moved(self, event: PeerMoved, now: float) -> None:
        if self._key is not None:
            token, exchange = self._random(8), self._next_exchange
            self._next_exchange += 2
            self._probes[exchange] = event.new, token, 0
            self._outputs.append(HandshakeMessage(self._key, bytes((CHALLENGE,)) + token, exchange))

    def update_keys(self, now: float) -> None:
        raise LocalError("update_keys(): keys come from outside; import the next", reason=Reason.NOT_SUPPORTED)

    def answer(self, ask: AskId, result: object, now: float) -> None:
        raise AssertionError("it asks nothing")

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        raise LocalError("export_secret(): there is no exporter", reason=Reason.NOT_SUPPORTED)


class SatchelStack(DatagramToy):
    """Messages, one per datagram. `child`: where the keys come from, instead of import_key()."""

    _handshake: SatchelHandshake

    def __init__(
        self,
        ids: Ids,
        *,
        client: bool,
        random: Callable[[int], bytes],
        keys: Sequence[KeyReady] = (),
        child: SecurityStack | None = None,
    ) -> None:
        (my_id,) = ids.mine
        handshake = SatchelHandshake(my_id, client=client, random=random)
        super().__init__(handshake, ToyRecord(ids, 0xE0, 0x0F, window=64), client=client)
        self._client = client
        self._keys_given = list(keys)
        self._directions: set[Direction] = set()
        numbers = count(100)
        self._child = None if child is None else Embedded(child, lambda: next(numbers))
        self._queue: deque[tuple[Buffer, SendOptions]] = deque()
        self._blocked = self._closing = False
        self._received = Received(0, [])

    # -- keys -----------------------------------------------------------------------------------------------------
    def start(self, path: PathId, facts: PathFacts, now: float) -> None:
        super().start(path, facts, now)
        for key in self._keys_given:
            self.import_key(key, now)
        if self._child is not None:
            self._child.start(path, facts, now)
            self._hear_child(now)

    def import_key(self, ready: KeyReady, now: float) -> None:
        first = not self.complete
        self._directions.add(ready.direction)
        self._route_key_ready(ready, now)
        if len(self._directions) == 2:
            self._handshake.keys_are_there(self._send_key or ready.key, first=first)
        self._guard(lambda: None, now)
        self._replay_early(now)

    def _hear_child(self, now: float) -> None:
        child = self._child
        assert child is not None
        while child.events:
            event = child.events.pop(0)
            if not isinstance(event, Received):
                self.events.append(event)
        self._guard(child.check, now)
        if child.complete is not None and not self.complete and not self.ended:
            secret = child.export_secret(b"satchel", None, 32)
            for key in imported(secret, 0, client=self._client):
                self.import_key(key, now)
        self._settle(now)

    # -- inputs ---------------------------------------------------------------------------------------------------
    def receive(self, inbound: Inbound, now: float) -> int:
        if self._child is None:
            return super().receive(inbound, now)
        data, step, position = inbound.data, inbound.segment or len(inbound.data), 0
        while position < len(data):  # one by one: any datagram may be the child's
            one = Inbound(data[position : position + step], inbound.path)
            if route_of(one.data) is None:
                consumed = self._child.receive(one, now)
                self._hear_child(now)
            else:
                consumed = super().receive(one, now)
            if not consumed:
                break
            position += consumed
        return position

    def answer(self, ask: AskId, result: object, now: float) -> None:
        if self._child is not None and self._child.answer(ask, result, now):
            self._hear_child(now)

    def path_added(self, path: PathId, facts: PathFacts, now: float) -> None:
        super().path_added(path, facts, now)
        if self._child is not None:
            self._child.path_added(path, facts, now)

    def path_news(self, path: PathId, news: PathNews, value: int, now: float) -> None:
        super().path_news(path, news, value, now)
        if self._child is not None and not self.ended:
            self._child.path_news(path, news, value, now)
            self._hear_child(now)

    def sent(self, quoted: memoryview) -> bool:
        return super().sent(quoted) or (self._child is not None and self._child.sent(quoted))

    def deadline_reached(self, now: float) -> None:
        super().deadline_reached(now)
        if self._child is not None and not self.ended:
            self._child.deadline_reached(now)
            self._hear_child(now)

    def _settle(self, now: float) -> None:
        super()._settle(now)
        if self._child is not None:
            self.pending += self._child.pending
            if self._child.deadline is not None and not self.ended:
                self.deadline = min(self.deadline or self._child.deadline, self._child.deadline)

    def _take_data(self, plaintext: memoryview, now: float) -> None:
        self._received.chunks.append(bytes(plaintext))

    def _take_control(self, plaintext: memoryview, now: float) -> None:
        """There is no control."""

    def _taken(self, now: float) -> None:
        if self._received.chunks:
            self.events.append(self._received)
            self._received = Received(0, [])

    # -- sending --------------------------------------------------------------------------------------------------
    def message_limit(self, flow: FlowId) -> int:
        return self._datagram_size() - self._record.overhead(self._send_key or KeyId(Stage.APPLICATION))

    def send(self, flow: FlowId, chunks: Sequence[Buffer], options: SendOptions, now: float) -> int:
        """Each chunk is a message."""
        if self.ended or self._closing or flow:
            raise LocalError("send(): nothing can be sent any more")
        if max(map(len, chunks), default=0) > self.message_limit(0):
            raise LocalError(f"a message has at most {self.message_limit(0)} octets", reason=Reason.MESSAGE_TOO_LARGE)
        if len(self._queue) > HIGH:
            self._blocked = True
            return 0
        for chunk in chunks:
            self._queue.append((chunk, options))
        self._settle(now)
        return sum(map(len, chunks)) or 1

    def _waiting(self) -> int:
        return len(self._queue)

    def transmit(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        out = None
        if self._child is not None and self._child.pending:
            out = self._child.transmit(slab, datagrams, now)
            self._hear_child(now)
        if out is None:
            out = super().transmit(slab, datagrams, now)
        if self._closing and not self._queue and not self.ended:
            self._terminate(CloseKind.SILENT, None)
            self._settle(now)
        return out

    def _transmit_data(self, slab: Slab, datagrams: int, now: float) -> Transmit | None:
        queue, key = self._queue, self._send_key
        while queue and 0 < queue[0][1].expires <= now:
            self._over(queue.popleft()[1], LocalError("the message expired", reason=Reason.TIMEOUT))
        if not queue or key is None:
            return None
        overhead, size = self._record.overhead(key), len(queue[0][0])
        stride = overhead + size
        messages: list[Buffer] = []
        while queue and len(messages) < min(datagrams, len(slab.view) // stride) and len(queue[0][0]) <= size:
            if not self._spend(self.path, overhead + len(queue[0][0])):
                break
            message, options = queue.popleft()
            messages.append(message)
            self._over(options, None)
            if len(message) < size:
                break  # only the last of a run may be shorter
        if not messages:
            return None
        if self._blocked and len(queue) < LOW:
            self._blocked = False
            self.events.append(FlowWritable(0))
        before = self._record.headroom(key)
        for number, message in enumerate(messages):
            start = number * stride + before
            slab.view[start : start + len(message)] = message
        self._record.seal(key, UnitKind.APPLICATION, slab, stride, len(messages), len(messages[-1]), now)
        length = (len(messages) - 1) * stride + overhead + len(messages[-1])
        return self._out(self.path, length, stride if len(messages) > 1 else 0)

    def _over(self, options: SendOptions, error: Exception | None) -> None:
        if options.token:
            self.events.append(FlowSent(0, options.token, error))

    # -- ends -----------------------------------------------------------------------------------------------------
    def consumed(self, flow: FlowId, octets: int, now: float) -> None:
        """Nothing is held back."""

    def reset_flow(self, flow: FlowId, code: int, now: float) -> None:
        self.abort(None, now)

    def close(self, now: float) -> None:
        if not self.ended:
            self._closing = True
            if not self._queue or not self.complete:
                self._terminate(CloseKind.SILENT, None)
                self._settle(now)

    def _say_failure(self, error: Exception, now: float) -> None:
        if self._child is not None:
            self._child.abort(error, now)
