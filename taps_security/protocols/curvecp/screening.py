"""What a CurveCP server does before a client proved its address and its keys: nothing is kept for it.

    Hello     opens under S     --> Reply(Cookie): a fresh S', whose secret only the cookie holds
    Initiate  cookie opens for its address, under the minute key or the one before; box under S'; our name;
              vouch under S; policy
                                --> Create(OpenedInitiate), with the route of C'
    other     of no connection  --> Drop

An Initiate that comes again finds its connection by C', or the linger of it; behind both, ClaimOnce refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import field
from hmac import compare_digest

from ...parts.codec import MalformedMessage
from ...stack.errors import PeerMisbehaved, Reason
from ...stack.events import PathId
from ...stack.frozen import frozen
from ...stack.layers import PathFacts
from ...stack.screening import Create, Drop, Load, Match, NotOurs, Reply, Verdict
from . import keys
from .delivery import Delivery
from .handshake import KIND, OpenedInitiate, ServerHandshake
from .keys import BoxFailure, KeyPair, Random, box_key
from .limits import KEY, MINUTE
from .names import encode_name, name_text
from .record import CurveCpRecord
from .stack import CurveCpStack
from .wire import CLIENT_MESSAGE, HELLO, INITIATE, Cookie, Hello, Initiate, parse_untrusted

_C_AT = 40  # where C' stands in what clients send


@frozen(kw_only=True)
class ServerConfiguration:
    """What a server knows. `name`: its own, None for any that a client means. `known`: the clients that it serves, None
    for any; `verifies`: each is asked about.
    """

    key: KeyPair
    name: str | None
    extension: bytes
    known: frozenset[bytes] | None
    verifies: bool
    idle_timeout: float
    keep_alive: float | None
    random: Random = field(repr=False)
    wall_clock: Callable[[], float] = field(repr=False)
    delivery: Callable[[], Delivery] = field(repr=False)


class MinuteKeys:
    """The key under which cookies are made, and the one before it, which still opens: 60 to 120 seconds each.

    By the loop's clock or by the one of the claims, whichever says more: a machine that was suspended, or whose clock
    was set, has forgotten claims, and must not open the cookies that they were for.
    """

    __slots__ = ("_current", "_previous", "_random", "_since", "_wall_clock")

    def __init__(self, random: Random, wall_clock: Callable[[], float]) -> None:
        self._random = random
        self._wall_clock = wall_clock
        self._current = random(KEY)
        self._previous = random(KEY)
        self._since: tuple[float, float] | None = None  # by both clocks

    def at(self, now: float) -> tuple[bytes, bytes]:
        """(current, previous)."""
        wall = self._wall_clock()
        if self._since is None:
            self._since = now, wall
        since, wall_since = self._since
        age = max(now - since, wall - wall_since)
        if age >= MINUTE:
            late = age >= 2 * MINUTE
            self._previous = self._random(KEY) if late else self._current
            self._current = self._random(KEY)
            over = 0.0 if late else age - MINUTE  # else who turns it late makes it live longer
            self._since = now - over, wall - over
        return self._current, self._previous


class CurveCpScreener:
    """A DatagramScreener of one server key, name and extension."""

    def __init__(self, configuration: ServerConfiguration) -> None:
        self._configuration = configuration
        self._name = None if configuration.name is None else encode_name(configuration.name)
        self._minutes = MinuteKeys(configuration.random, configuration.wall_clock)

    def recognise(self, head: memoryview) -> Match:
        """The magics of what clients send."""
        return Match.YES if bytes(head[:8]) in {HELLO, INITIATE, CLIENT_MESSAGE} else Match.NO

    def route_of(self, datagram: memoryview) -> Hashable | None:
        """C', where a connection may have it."""
        if len(datagram) >= _C_AT + KEY and bytes(datagram[:8]) in {INITIATE, CLIENT_MESSAGE}:
            return KIND, bytes(datagram[_C_AT : _C_AT + KEY])
        return None

    def screen(self, datagram: memoryview, path: PathId, facts: PathFacts, load: Load, now: float) -> Verdict:
        """What is to be done with a datagram of no connection."""
        try:
            packet = parse_untrusted(datagram)
            if not isinstance(packet, Hello | Initiate):
                return Drop("curvecp: a message of no connection")
            if packet.server_extension != self._configuration.extension:
                return NotOurs()
            if isinstance(packet, Hello):
                return self._answer_hello(packet, facts.remote[0], now)
            return self._open_initiate(packet, len(datagram), facts.remote[0], now)
        except MalformedMessage:
            return Drop("curvecp: malformed")
        except BoxFailure:
            return Drop("curvecp: a box that does not open")

    def _answer_hello(self, hello: Hello, host: str, now: float) -> Verdict:
        configuration = self._configuration
        key = box_key(hello.client_key, configuration.key.secret)
        keys.open_hello(key, int.from_bytes(hello.number, "little"), hello.box)
        short = KeyPair.generate(configuration.random)
        nonce = configuration.random(16)
        minute_key = keys.minute_key_of(self._minutes.at(now)[0], host)
        cookie = keys.seal_cookie(minute_key, nonce, hello.client_key, short.secret)
        box = keys.seal_welcome(key, nonce, short.public, cookie)
        return Reply(Cookie(hello.client_extension, hello.server_extension, nonce, box).encode())

    def _open_initiate(self, initiate: Initiate, size: int, host: str, now: float) -> Verdict:
        configuration = self._configuration
        client_key, secret = self._open_cookie(initiate.cookie, host, now)
        if not compare_digest(client_key, initiate.client_key):
            return Drop("curvecp: a cookie of another client")
        key = box_key(client_key, secret)
        number = int.from_bytes(initiate.number, "little")
        introduction, message = keys.open_initiate(key, number, initiate.box)
        if self._name is not None and introduction.name != self._name:
            return Drop("curvecp: another server's name")
        vouch_key = box_key(introduction.client, configuration.key.secret)
        if not compare_digest(keys.open_vouch(vouch_key, introduction.vouch), client_key):
            return Drop("curvecp: a vouch for another key")
        if configuration.known is not None and introduction.client not in configuration.known:
            return Drop("curvecp: an unknown client")
        seed = OpenedInitiate(
            introduction.client,
            client_key,
            initiate.client_extension,
            key,
            number,
            message,
            size,
            introduction.name,
        )
        return Create(seed, ((KIND, client_key),), validated=True)

    def _open_cookie(self, cookie: bytes, host: str, now: float) -> tuple[bytes, bytes]:
        current, previous = self._minutes.at(now)
        try:
            return keys.open_cookie(keys.minute_key_of(current, host), cookie)
        except BoxFailure:
            return keys.open_cookie(keys.minute_key_of(previous, host), cookie)

    def accept(self, seed: object, now: float) -> CurveCpStack:
        """The stack of an opened Initiate."""
        if not isinstance(seed, OpenedInitiate):
            raise PeerMisbehaved("no Initiate", reason=Reason.MALFORMED)
        configuration = self._configuration
        handshake = ServerHandshake(
            seed,
            name_text(seed.name) if configuration.name is None else configuration.name,
            configuration.random,
            configuration.wall_clock,
            verifies=configuration.verifies,
            known=configuration.known is not None,
        )
        record = CurveCpRecord(
            client=False,
            public=seed.client_key,
            extension=configuration.extension,
            peer_extension=seed.client_extension,
        )
        return CurveCpStack(
            handshake,
            record,
            configuration.delivery(),
            idle_timeout=configuration.idle_timeout,
            keep_alive=configuration.keep_alive,
            seed=seed,
        )
