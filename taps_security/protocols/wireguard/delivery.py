"""WireGuard's timers (whitepaper §6.1 to §6.5), and nothing else: what is due, not what is to be done about it.

Packets move no timer: they leave a time behind or take one away, and what is due is looked up when the earliest time
that there might be something has come. A busy peer so wakes up once in some seconds, an idle one never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum

from .limits import (
    ERASE_AFTER_TIME,
    INITIATION_SPACING,
    KEEPALIVE_TIMEOUT,
    REKEY_ATTEMPT_TIME,
    REKEY_TIMEOUT,
    RETRY_JITTER,
)

NEVER = float("inf")
NEW_HANDSHAKE_AFTER = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT  # §6.5: seconds


class Timer(Enum):
    """What can be due. The value is the attribute that says when."""

    GIVE_UP = "give_up_at"  # no initiation was answered for so long that what waits for a key is dropped (§6.4)
    RETRANSMIT_HANDSHAKE = "retransmit_at"  # an initiation was not answered: make another one (§6.4)
    SEND_KEEPALIVE = "keepalive_at"  # data came and nothing went back: an empty packet says that we live (§6.5)
    NEW_HANDSHAKE = "handshake_at"  # data went and nothing came back: the peer may have lost its keys (§6.5)
    ZERO_KEYS = "zero_at"  # no new keys for so long that the old ones are wiped (§6.3)
    PERSISTENT_KEEPALIVE = "persistent_at"  # nothing went either way: keep the NAT's mapping (wg(8))


class Timers:
    """Monotonic seconds; NEVER: it does not run.

    `random`: octets of that number, for the jitter. `persistent`: seconds between persistent keepalives; 0: none.
    `earliest`: nothing is due before. A new jitter is drawn with each handshake, not with each packet.
    """

    __slots__ = (
        "_jitter",
        "_random",
        "earliest",
        "give_up_at",
        "handshake_at",
        "initiated_at",
        "keepalive_at",
        "persistent",
        "persistent_at",
        "retransmit_at",
        "unanswered_since",
        "zero_at",
    )

    def __init__(self, random: Callable[[int], bytes], persistent: int = 0) -> None:
        self._random = random
        self._jitter = 0.0
        self.persistent = persistent
        self.initiated_at = -NEVER  # our last initiation
        self.unanswered_since = NEVER  # the first one after the last handshake that was completed
        self.retransmit_at = self.give_up_at = self.keepalive_at = NEVER
        self.handshake_at = self.zero_at = self.persistent_at = self.earliest = NEVER

    # -- what happened --------------------------------------------------------------------------------------------
    def sent(self, now: float, *, data: bool) -> None:
        """An authentic packet went to the peer. `data`: neither a keepalive nor of a handshake."""
        self.keepalive_at = NEVER
        if data and self.handshake_at == NEVER:
            self.handshake_at = now + NEW_HANDSHAKE_AFTER + self._jitter
            self.earliest = min(self.earliest, self.handshake_at)
        if self.persistent:
            self.traversed(now)

    def received(self, now: float, *, data: bool) -> None:
        """An authentic packet came from the peer."""
        self.handshake_at = NEVER
        if data and self.keepalive_at == NEVER:
            self.keepalive_at = due = now + KEEPALIVE_TIMEOUT
            self.earliest = min(self.earliest, due)
        if self.persistent:
            self.traversed(now)

    def traversed(self, now: float) -> None:
        """Something went either way: the next persistent keepalive is an interval away."""
        self.persistent_at = due = now + self.persistent
        self.earliest = min(self.earliest, due)

    def wanted(self, now: float) -> None:
        """Data waits for keys, or somebody asks for new ones: we give up so long after the last time (§6.4)."""
        self._set("give_up_at", now + REKEY_ATTEMPT_TIME)
        if self.retransmit_at == NEVER and not self.may_initiate(now):
            self._set("retransmit_at", self.initiated_at + REKEY_TIMEOUT)

    def may_initiate(self, now: float) -> bool:
        """Whether the last initiation is long enough ago (§6.4), so that none is being repeated."""
        return self.retransmit_at == NEVER and now - self.initiated_at >= REKEY_TIMEOUT

    def postponed(self, due: float) -> None:
        """An initiation has to wait until `due`: an answer of ours to the peer's is too fresh."""
        self._set("retransmit_at", due)

    def hasten(self, now: float) -> bool:
        """Somebody wants a handshake sooner than by itself. True: the last is so fresh that it has to wait a moment."""
        due = self.initiated_at + INITIATION_SPACING
        if now >= due:
            return False
        self._set("retransmit_at", min(self.retransmit_at, due))
        return True

    def initiated(self, now: float) -> None:
        """An initiation went out."""
        self.initiated_at = now
        self.unanswered_since = min(self.unanswered_since, now)
        self._jitter = int.from_bytes(self._random(2), "big") / 65_536 * RETRY_JITTER
        self._set("retransmit_at", now + REKEY_TIMEOUT + self._jitter)
        if self.give_up_at == NEVER:
            self.wanted(now)
        self.sent(now, data=False)

    def derived(self, now: float) -> None:
        """There are new keys, which the peer may not have proved to hold yet."""
        self._set("zero_at", now + ERASE_AFTER_TIME)

    def completed(self) -> None:
        """A handshake is complete: both ends hold the new keys."""
        self.retransmit_at = self.give_up_at = self.unanswered_since = NEVER

    def stale(self, now: float) -> bool:
        """No initiation was answered for so long that the peer may be elsewhere, however often one was wanted."""
        return now - self.unanswered_since >= REKEY_ATTEMPT_TIME

    def elsewhere(self) -> None:
        """The next initiation goes to another place: it has its own time to be answered."""
        self.unanswered_since = NEVER

    def gave_up(self, now: float) -> None:
        """No initiation goes out until somebody wants one; what is left of ours is wiped in time."""
        self.retransmit_at = self.keepalive_at = NEVER
        if self.zero_at == NEVER:
            self._set("zero_at", now + ERASE_AFTER_TIME)

    def keep_alive(self, persistent: int) -> None:
        """Another interval of persistent keepalives: one is due at once."""
        self.persistent = persistent
        self.persistent_at = NEVER
        if persistent:
            self._set("persistent_at", 0.0)

    # -- what is due ----------------------------------------------------------------------------------------------
    def due(self, now: float) -> Iterator[Timer]:
        """What is due at `now`, each stopped before it is told. Afterwards `earliest` is exact."""
        for timer in Timer:
            if getattr(self, timer.value) <= now:
                setattr(self, timer.value, NEVER)
                yield timer
        self.earliest = min([getattr(self, timer.value) for timer in Timer])

    def stop(self) -> None:
        """Nothing is due any more."""
        for timer in Timer:
            setattr(self, timer.value, NEVER)
        self.earliest = NEVER

    def _set(self, name: str, due: float) -> None:
        setattr(self, name, due)
        self.earliest = min(self.earliest, due)
