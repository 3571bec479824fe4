"""Two stacks in memory, with time by hand: what one transmits, the other receives when the test says so."""

from __future__ import annotations

from typing import Any

from taps_security.protocols.curvecp.screening import CurveCpScreener
from taps_security.protocols.curvecp.stack import CurveCpStack
from taps_security.stack.asks import Ask
from taps_security.stack.events import Received, Terminated
from taps_security.stack.layers import PathFacts, Slab
from taps_security.stack.screening import Create, Load, Reply
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS, Inbound, SendOptions

from .world import client_stack, screener

FACTS = PathFacts(("10.0.0.1", 1), ("10.0.0.2", 2), mtu=1472)
LOAD = Load(0, 100)
DATAGRAMS = 40


class Side:
    """One stack and what it said. `sent`: datagrams that wait to be carried."""

    def __init__(self, stack: CurveCpStack) -> None:
        self.stack: Any = stack
        self.events: list[object] = []
        self.data = bytearray()
        self.over = False  # the peer's stream has ended
        self.ended: Terminated | None = None
        self.sent: list[bytes] = []
        self.runs: list[tuple[int, int]] = []  # datagrams and octets from one to the next
        self.keeps = False  # the application takes nothing
        self._buffer = bytearray(100_000)

    def pump(self, now: float) -> None:
        """Drain events and output, as a driver does."""
        stack = self.stack
        while True:
            while stack.events:
                self._heard(stack.events.pop(0), now)
            if not stack.pending:
                return
            with memoryview(self._buffer) as view:
                out = stack.transmit(Slab(self._buffer, view), DATAGRAMS, now)
                if out is None and not stack.events:
                    return
                if out is not None:
                    step = out.segment or out.length
                    self.runs.append((-(-out.length // step), step))
                    self.sent += [bytes(view[at : min(at + step, out.length)]) for at in range(0, out.length, step)]

    def _heard(self, event: object, now: float) -> None:
        if isinstance(event, Received):
            taken = b"".join(map(bytes, event.chunks))
            self.data += taken
            self.over = self.over or event.end
            if not self.keeps:
                self.stack.consumed(0, len(taken), now)
            return
        self.events.append(event)
        if isinstance(event, Ask):
            self.stack.answer(event.id, True, now)
        elif isinstance(event, Terminated):
            self.ended = event

    def receive(self, datagram: bytes, now: float, path: int = 1) -> int:
        """One datagram, in memory that may be written; what was consumed of it."""
        consumed = self.stack.receive(Inbound(memoryview(bytearray(datagram)), path), now)
        self.pump(now)
        return consumed

    def send(self, data: bytes, now: float, options: SendOptions = DEFAULT_SEND_OPTIONS) -> None:
        self.stack.send(0, [data], options, now)
        self.pump(now)

    def take(self) -> list[bytes]:
        """What was sent, out of the way."""
        sent, self.sent = self.sent, []
        return sent

    def wait(self, now: float) -> float:
        """Let the deadline come; when it was."""
        due = self.stack.deadline
        assert due is not None
        self.stack.deadline_reached(max(now, due))
        self.pump(max(now, due))
        return max(now, due)


class Pair:
    """A client and, once its Initiate was carried, a server."""

    def __init__(self, now: float = 0.0, *, screening: CurveCpScreener | None = None, **options: Any) -> None:
        self.now = now
        self.screener = screening or screener()
        self.client = Side(client_stack(**options))
        self.server: Side | None = None
        self.client.stack.start(1, FACTS, now)
        self.client.pump(now)

    def carry(self) -> None:
        """Move everything that waits, until nothing does. Acknowledgements wait for no longer than a turn."""
        while True:
            moved = self.client.take()
            for datagram in moved:
                self.to_server(datagram)
            back = self.server.take() if self.server is not None else []
            for datagram in back:
                self.client.receive(datagram, self.now)
            if not moved and not back and not self._turn_over():
                return

    def _turn_over(self) -> bool:
        due = [
            side
            for side in (self.client, self.server)
            if side is not None and side.stack.deadline is not None and side.stack.deadline <= self.now
        ]
        for side in due:
            side.wait(self.now)
        return bool(due)

    def to_server(self, datagram: bytes) -> None:
        """One datagram to the server, or to its screener."""
        if self.server is not None and self.server.receive(datagram, self.now):
            return
        verdict = self.screener.screen(memoryview(datagram), 1, FACTS, LOAD, self.now)
        if isinstance(verdict, Reply):
            self.client.receive(verdict.datagram, self.now)
        elif isinstance(verdict, Create):
            self.server = Side(self.screener.accept(verdict.seed, self.now))
            self.server.stack.start(1, FACTS, self.now)
            self.server.pump(self.now)

    @classmethod
    def ready(cls, **options: Any) -> tuple[Pair, Side, Side]:
        """A pair that has shaken hands."""
        pair = cls(**options)
        pair.carry()
        assert pair.server is not None
        assert pair.client.stack.complete
        assert pair.server.stack.complete
        return pair, pair.client, pair.server
