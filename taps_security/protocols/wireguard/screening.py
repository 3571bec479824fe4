"""What a listening end does with datagrams that no stack claims (whitepaper §5.3, §5.4.4, §5.4.7).

    mac1 is wrong                                     Drop: nothing is answered to who does not know our public key
    under load, and mac2 is wrong                     Reply: a cookie, to be shown in the next initiation's mac2
    under load, and the source sends too often        Drop
    does not open; nobody we know; a replay           Drop
    the peer's stack lives                            HandOver to it
    otherwise                                         Create

No state is kept for who has shown no cookie. The initiation that comes out is opened already (OpenedInitiation), and
its timestamp is taken by whoever consumes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hmac import compare_digest

from taps_security.crypto.blake2s import mac128
from taps_security.crypto.sodium import xchacha20_seal
from taps_security.stack.errors import PeerMisbehaved
from taps_security.stack.events import PathId
from taps_security.stack.layers import PathFacts
from taps_security.stack.screening import Create, Drop, HandOver, Load, Match, NotOurs, Reply, Verdict
from taps_security.stack.stack import SecurityStack

from .handshake import ROUTE, OpenedInitiation
from .keys import INITIAL_CHAINING_KEY, SymmetricState, read_initiation_untrusted, read_payload_untrusted
from .limits import COOKIE_LIFETIME, LOADED_ABOVE, LOADED_FOR, MAX_SOURCES, SOURCE_BURST, SOURCE_RATE
from .peers import TunnelState
from .reasons import Reason
from .wire import (
    INITIATION,
    MAC_SIZE,
    RESPONSE,
    TRANSPORT,
    TRANSPORT_MIN_SIZE,
    CookieReply,
    Initiation,
    message_type_untrusted,
    parse_untrusted,
)

__all__ = ["Cookies", "LoadMeter", "SourceRates", "WireGuardScreener"]

Accept = Callable[[OpenedInitiation, float], SecurityStack]

_NO_MAC = bytes(MAC_SIZE)
_TRANSPORT = bytes((TRANSPORT, 0, 0, 0))


class LoadMeter:
    """Whether more initiations with a good mac1 come than we like to open. Times are monotonic seconds."""

    __slots__ = ("_began", "_count", "_limit", "_until")

    def __init__(self, limit: int = LOADED_ABOVE) -> None:
        self._limit = limit  # per second
        self._began = self._until = float("-inf")
        self._count = 0

    def count(self, now: float) -> None:
        """One more came."""
        if now - self._began >= 1.0:
            self._began, self._count = now, 0
        self._count += 1
        if self._count > self._limit:
            self._until = now + LOADED_FOR

    def high(self, now: float) -> bool:
        """We are under load."""
        return now < self._until


class Cookies:
    """The cookies that we give (§5.4.7): who sends one back in a mac2 receives at its address."""

    __slots__ = ("_key", "_made_at", "_random", "_secret")

    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        self._key = key  # of our static key: what seals cookies
        self._random = random
        self._secret = b""
        self._made_at = float("-inf")

    def give(self, sender: bytes, mac1: bytes, source: tuple[str, int], now: float) -> bytes:
        """The answer to a message with that sender index and mac1. A secret serves for COOKIE_LIFETIME."""
        if now - self._made_at >= COOKIE_LIFETIME:
            self._secret, self._made_at = self._random(32), now
        nonce = self._random(24)
        return CookieReply(sender, nonce, xchacha20_seal(self._key, nonce, self._cookie(source), mac1)).encode()

    def are_shown(self, data: bytes, source: tuple[str, int], now: float) -> bool:
        """The last 16 octets of a message are its mac2 under the cookie of that source."""
        if now - self._made_at >= COOKIE_LIFETIME:
            return False
        return compare_digest(mac128(self._cookie(source), data[:-MAC_SIZE]), data[-MAC_SIZE:])

    def _cookie(self, source: tuple[str, int]) -> bytes:
        return mac128(self._secret, f"{source[0]} {source[1]}".encode())


class SourceRates:
    """How often each source may make us open an initiation: SOURCE_RATE per second, SOURCE_BURST at once.

    A source is an IPv4 address or the first 64 bits of an IPv6 address. At most MAX_SOURCES are remembered.
    """

    __slots__ = ("_due", "_swept_at")

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # when a source has paid for all that it sent
        self._swept_at = float("-inf")

    def __len__(self) -> int:
        return len(self._due)

    def check(self, host: str, now: float) -> Reason | None:
        """Count one initiation; None, or why it is one too many."""
        source = _network(host)
        due = self._due.get(source)
        if due is None and len(self._due) >= MAX_SOURCES:
            self._sweep(now)
            if len(self._due) >= MAX_SOURCES:
                return Reason.TOO_MANY_SOURCES
        due = now if due is None else max(due, now)
        if due - now > (SOURCE_BURST - 0.5) / SOURCE_RATE:  # the half is for rounding
            return Reason.TOO_FREQUENT
        self._due[source] = due + 1 / SOURCE_RATE
        return None

    def _sweep(self, now: float) -> None:
        """Forget who owes nothing, at most once in the time that a single initiation takes to be paid."""
        if now - self._swept_at >= 1 / SOURCE_RATE:
            self._swept_at = now
            self._due = {source: due for source, due in self._due.items() if due > now}


def _network(host: str) -> str:
    """What counts as one source: of an IPv6 address its first four groups, without a zone."""
    if ":" not in host:
        return host
    head, _, tail = host.partition("%")[0].partition("::")
    groups = head.split(":") if head else []
    after = tail.split(":") if tail else []
    missing = 8 - len(groups) - len(after)
    return ":".join([*groups, *["0"] * missing, *after][:4]) + "::"


class WireGuardScreener:
    """Opens initiations to one local end. `accept` makes the stack of a Create verdict, from its seed.

    `loaded_above`: initiations per second with a good mac1, above which cookies are asked for.
    """

    def __init__(self, tunnel: TunnelState, accept: Accept, *, loaded_above: int = LOADED_ABOVE) -> None:
        self._tunnel = tunnel
        self._accept = accept
        self._load = LoadMeter(loaded_above)
        self._cookies = Cookies(tunnel.cookie_key, tunnel.environment.random)
        self._rates = SourceRates()

    def recognise(self, head: memoryview) -> Match:
        """A type from 1 to 4, three zeros, and the type's length: a datagram comes whole."""
        return Match.YES if message_type_untrusted(head) else Match.NO

    def route_of(self, datagram: memoryview) -> Hashable | None:
        """The receiver's index that a response, a cookie reply or transport data carries."""
        if datagram[:4] == _TRANSPORT and len(datagram) >= TRANSPORT_MIN_SIZE:
            return ROUTE, bytes(datagram[4:8])
        kind = message_type_untrusted(datagram)
        if kind <= INITIATION:
            return None
        return ROUTE, bytes(datagram[8:12] if kind == RESPONSE else datagram[4:8])

    def screen(self, datagram: memoryview, path: PathId, facts: PathFacts, load: Load, now: float) -> Verdict:
        """See the head of this file. Nothing is answered but a cookie, which is smaller than the initiation."""
        kind = message_type_untrusted(datagram)
        if kind != INITIATION:
            return _UNKNOWN_INDEX if kind else NotOurs()
        data = bytes(datagram)
        message = parse_untrusted(data)
        assert isinstance(message, Initiation)
        if not compare_digest(mac128(self._tunnel.mac1_key, data[: -2 * MAC_SIZE]), message.mac1):
            return _BAD_MAC1
        self._load.count(now)
        validated = message.mac2 != _NO_MAC and self._cookies.are_shown(data, facts.remote, now)
        if load.high or self._load.high(now):
            if not validated:
                return Reply(self._cookies.give(message.sender, message.mac1, facts.remote, now))
            refused = self._rates.check(facts.remote[0], now)
            if refused is not None:
                return Drop(refused.value)
        try:
            seed = self._open_untrusted(message, now)
        except PeerMisbehaved as error:
            return Drop(str(error.reason.value))
        public_key = seed.peer.public_key
        if public_key in self._tunnel.live:
            return HandOver((ROUTE, public_key), seed)
        return Create(seed, validated=validated)

    def _open_untrusted(self, message: Initiation, now: float) -> OpenedInitiation:
        """Whose initiation it is. Raises PeerMisbehaved for what does not open, strangers and replays."""
        tunnel = self._tunnel
        state = SymmetricState(INITIAL_CHAINING_KEY, tunnel.hash)
        public_key = read_initiation_untrusted(state, tunnel.private_key, message.ephemeral, message.static)
        peer = tunnel.peers.get(public_key)
        if peer is None:
            raise PeerMisbehaved("an initiation of nobody that we know", reason=Reason.UNKNOWN_PEER)
        timestamp = read_payload_untrusted(state, peer.static_static, message.timestamp)
        tunnel.check_timestamp(peer, timestamp, now)
        return OpenedInitiation(peer, message.sender, message.ephemeral, timestamp, state)

    def accept(self, seed: object, now: float) -> SecurityStack:
        """The stack of a Create verdict, fed with the initiation; the endpoint starts it on its path."""
        assert isinstance(seed, OpenedInitiation)
        return self._accept(seed, now)


_UNKNOWN_INDEX = Drop(Reason.UNKNOWN_INDEX.value)
_BAD_MAC1 = Drop(Reason.BAD_MAC1.value)
