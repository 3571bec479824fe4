"""What a parley's listener does before there is any state; and how both ends are made."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Hashable

from taps_security.stack.errors import PeerMisbehaved, Reason
from taps_security.stack.events import Limit, PathId
from taps_security.stack.layers import PathFacts
from taps_security.stack.screening import Create, Drop, Load, Match, NotOurs, Reply, Verdict

from .parley import COOKIE, HELLO, HELLO_SIZE, NO_COOKIE, IssueId, ParleyHandshake, Random, route_of
from .parley_stack import ParleyStack
from .record import Ids

COOKIE_LIFE = 30.0  # seconds; a cookie of the period before is taken too


def parley_client(random: Random, *, name: str = "server.example", limits: tuple[Limit, ...] = ()) -> ParleyStack:
    ids = Ids()
    return ParleyStack(ParleyHandshake(ids, client=True, random=random, name=name, limits=limits), ids, client=True)


class ParleyScreener:
    """Cookies always, or under load. `limits` are those of the accepted stacks' keys."""

    def __init__(
        self,
        random: Random,
        issue_id: IssueId,
        *,
        always: bool = False,
        limits: tuple[Limit, ...] = (),
        rekeys: bool = True,
        wall_clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._random, self._issue_id, self._always = random, issue_id, always
        self._limits, self._rekeys, self._wall_clock = limits, rekeys, wall_clock
        self._secret = random(32)
        self.cookies = 0

    def recognise(self, head: memoryview) -> Match:
        if not head:
            return Match.MORE
        return Match.YES if head[0] == HELLO or head[0] & 0xFE == 0xF0 else Match.NO

    def route_of(self, datagram: memoryview) -> Hashable | None:
        return route_of(datagram)

    def screen(self, datagram: memoryview, path: PathId, facts: PathFacts, load: Load, now: float) -> Verdict:
        if datagram[0] != HELLO:
            return Drop("a parley that nobody knows")
        if len(datagram) != HELLO_SIZE:
            return NotOurs()
        client_id, cookie = bytes(datagram[2:6]), bytes(datagram[38:54])
        if cookie != NO_COOKIE:
            period = int(now // COOKIE_LIFE)
            if any(hmac.compare_digest(cookie, self._cookie(facts, client_id, p)) for p in (period, period - 1)):
                return Create(bytes(datagram), validated=True)
            return Drop("a wrong cookie")
        if self._always or load.high:
            self.cookies += 1
            return Reply(bytes((COOKIE,)) + client_id + self._cookie(facts, client_id, int(now // COOKIE_LIFE)))
        return Create(bytes(datagram))

    def _cookie(self, facts: PathFacts, client_id: bytes, period: int) -> bytes:
        about = f"{facts.remote} {period}".encode() + client_id
        return hashlib.blake2s(about, key=self._secret, digest_size=16).digest()

    def accept(self, seed: object, now: float) -> ParleyStack:
        if not isinstance(seed, bytes):
            raise PeerMisbehaved("no Hello", reason=Reason.MALFORMED)
        ids = Ids()
        ids.hello = seed[2:38]
        handshake = ParleyHandshake(
            ids,
            client=False,
            random=self._random,
            issue_id=self._issue_id,
            limits=self._limits,
            rekeys=self._rekeys,
            wall_clock=self._wall_clock,
        )
        return ParleyStack(handshake, ids, client=False, seed=seed)
