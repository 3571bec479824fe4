"""What a CurveCP stack waits for, beside the losses and probes of its delivery."""

from __future__ import annotations

from collections import deque
from enum import Enum

from ...parts.deadlines import Deadlines
from ...stack.errors import ConnectionLost, Reason, TapsError
from ...stack.events import CloseKind, PathId
from ...stack.layered import LayeredStack
from .delivery import Delivery
from .handshake import ClientHandshake, ServerHandshake
from .limits import DRAIN, HELLO_WAITS, PERSIST, SILENCE
from .record import CurveCpRecord
from .wire import FAILURE


class Due(Enum):
    """What a stack waits for, beside its delivery."""

    HELLO = "no cookie came: say Hello again"
    SILENCE = "the peer acknowledges nothing: ask again, and give up in the end"
    IDLE = "nothing was heard for half the idle timeout: ask whether the peer is there"
    LOST = "it is not"
    KEEP_ALIVE = "nothing was sent for long"
    CLOSE = "the peer has had its time to end its stream"


class TimedStack(LayeredStack):
    """The deadlines of a stack. Those that move later with each datagram are looked at when they are due."""

    __slots__ = (
        "_closing",
        "_deadlines",
        "_delivery",
        "_draining",
        "_heard",
        "_hellos",
        "_idle_timeout",
        "_keep_alive",
        "_packets",
        "_peer_over",
        "_sent_at",
    )

    _record: CurveCpRecord
    _handshake: ClientHandshake | ServerHandshake

    def __init__(
        self,
        handshake: ClientHandshake | ServerHandshake,
        record: CurveCpRecord,
        delivery: Delivery,
        idle_timeout: float,
        keep_alive: float | None,
    ) -> None:
        super().__init__(handshake, record)
        self._delivery = delivery
        self._idle_timeout = idle_timeout
        self._keep_alive = keep_alive
        self._deadlines: Deadlines[Due] = Deadlines()
        self._packets: deque[tuple[PathId, bytes]] | None = None  # sealed, or never to be sealed
        self._heard = self._sent_at = 0.0  # when something authentic came, when something went
        self._hellos = 0
        self._closing = False  # close() was called: what still comes is thrown away
        self._draining = False  # and the end of our stream has not arrived
        self._peer_over = False  # the end of the peer's stream was told

    def _end(self, how: CloseKind, error: Exception | None, now: float, end: int = 0) -> None:
        raise AssertionError("the stack brings it")

    def _fail(self, error: TapsError, now: float) -> None:
        """End by an error; the peer hears that our stream failed."""
        if not self.ended:
            self._end(CloseKind.ABORTED, error, now, end=FAILURE)
            self._settle(now)

    def deadline_reached(self, now: float) -> None:
        """Time has come to `deadline`."""
        if self.ended:
            return
        try:
            for due in self._deadlines.reached(now):
                getattr(self, _DUES[due])(now)
                if self.ended:
                    break
            else:
                self._delivery.deadline_reached(now)
                if self._peer_over and self._delivery.end_unheard:
                    self._end(CloseKind.CLEAN, None, now)
            self._route(now)
        except TapsError as error:
            self._fail(error, now)
        self._settle(now)

    def _hello_due(self, now: float) -> None:
        if self._hellos >= len(HELLO_WAITS):
            raise ConnectionLost("the server gives no cookie", reason=Reason.TIMEOUT)
        self._handshake.unanswered(0, now)

    def _silence_due(self, now: float) -> None:
        """A peer whose window is closed answers; one that is gone does not."""
        since = self._delivery.progress if self._draining else max(self._heard, self._delivery.asked)
        if since + (DRAIN if self._draining else SILENCE) <= now:
            what = f"close(): {self._delivery.outgoing.unarrived} octets were not" if self._draining else "nothing was"
            raise ConnectionLost(f"the peer is silent: {what} acknowledged", reason=Reason.TIMEOUT)
        if not self._deadlines_pushed(Due.SILENCE, since + PERSIST, now):
            self._ask(now)
            self._deadlines.set(Due.SILENCE, now + PERSIST)

    def _ask(self, now: float) -> None:
        """Something goes out that the peer acknowledges."""
        self._delivery.probe()

    def _idle_due(self, now: float) -> None:
        if not self._deadlines_pushed(Due.IDLE, self._heard + self._idle_timeout / 2, now):
            self._delivery.ping_due = True
            self._deadlines.set(Due.IDLE, now + self._idle_timeout / 2)

    def _lost_due(self, now: float) -> None:
        if not self._deadlines_pushed(Due.LOST, self._heard + self._idle_timeout, now):
            raise ConnectionLost(f"nothing was heard for {self._idle_timeout:g} s", reason=Reason.TIMEOUT)

    def _keep_alive_due(self, now: float) -> None:
        assert self._keep_alive is not None
        if not self._deadlines_pushed(Due.KEEP_ALIVE, self._sent_at + self._keep_alive, now):
            self._delivery.ping_due = True
            self._deadlines.set(Due.KEEP_ALIVE, now + self._keep_alive)

    def _close_due(self, now: float) -> None:
        self._end(CloseKind.CLEAN, None, now, end=FAILURE)

    def _deadlines_pushed(self, due: Due, at: float, now: float) -> bool:
        """It moved later since it was set: nothing is re-armed per datagram."""
        if at <= now:
            return False
        self._deadlines.set(due, at)
        return True

    def _settle(self, now: float) -> None:
        """What waits, and when the next thing is due."""
        packets = len(self._packets) if self._packets else 0
        if self.ended:
            self.pending = packets
            self.deadline = None
            return
        delivery, deadlines = self._delivery, self._deadlines
        if not self.complete:
            self.pending = packets
            self.deadline = deadlines.earliest
            return
        self.pending = packets + delivery.waiting
        due = delivery.deadline(now)
        if delivery.awaiting or self._draining:
            if Due.SILENCE not in deadlines:
                delivery.asked = now
                deadlines.set(Due.SILENCE, now + PERSIST)
        elif Due.SILENCE in deadlines:
            deadlines.clear(Due.SILENCE)
        if deadlines.earliest is not None and (due is None or deadlines.earliest < due):
            due = deadlines.earliest
        self.deadline = due


_DUES = {
    Due.HELLO: "_hello_due",
    Due.SILENCE: "_silence_due",
    Due.IDLE: "_idle_due",
    Due.LOST: "_lost_due",
    Due.KEEP_ALIVE: "_keep_alive_due",
    Due.CLOSE: "_close_due",
}
