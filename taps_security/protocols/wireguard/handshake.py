"""Creates and consumes initiations and responses, and turns them into key pairs (whitepaper §5.4, §6).

    initiator                            responder                           who does it
    create_initiation      -->           consume_initiation                  screening opens it, then this consumes it
    consume_response       <--           (makes the response)
                           -->           key_confirmed                       the record opened something under `next`
    consume_cookie_reply   <--                                               of use in the next initiation or response

    pairs            new as initiator             new as responder           first datagram under `next`
    previous         next, or else current        gone                       current
    current          the new pair                 stays                      next
    next             none                         the new pair               none

One object per peer, in both roles at once: an initiation of ours that is on its way is not lost because the peer began
too. May live here: both messages, the three pairs, routes of their indices. Must not: timers (`delivery` says when),
counters of datagrams, addresses. What a message changes is changed behind its last check.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from hmac import compare_digest
from types import MappingProxyType
from typing import Final

from taps_security.crypto.blake2s import mac128
from taps_security.crypto.sodium import Unauthentic, scalarmult_base, xchacha20_open
from taps_security.parts.codec import MalformedMessage
from taps_security.stack.asks import AskId
from taps_security.stack.errors import LocalError, PeerMisbehaved
from taps_security.stack.errors import Reason as CommonReason
from taps_security.stack.events import (
    Direction,
    HandshakeComplete,
    HandshakeConfirmed,
    KeyConfirmed,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    PeerAuthenticated,
    PeerMoved,
    RouteIssued,
    RouteRetired,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage, HandshakeOutput, PathFacts

from . import limits
from .keys import (
    INITIAL_CHAINING_KEY,
    NO_PRESHARED_KEY,
    SymmetricState,
    TransportSecret,
    read_response_untrusted,
    write_initiation,
    write_response,
)
from .options import key_text
from .peers import Peer, TunnelState
from .reasons import Reason
from .wire import MAC_SIZE, CookieReply, Initiation, Response, parse_untrusted

__all__ = ["ROUTE", "OpenedInitiation", "WireGuardHandshake"]

ROUTE: Final = "wireguard"  # the kind of our routes: (ROUTE, index), and (ROUTE, public key of the peer)
HANDSHAKE_KEY: Final = KeyId(Stage.INITIAL)  # what messages of the handshake go under: they protect themselves
NOT_REPEATED: Final = 0  # the exchange of a response: whoever misses it begins again
NO_MAC: Final = bytes(MAC_SIZE)

# The initiator of a pair begins the next one; its responder only refuses what is too old (§6.2). Looked at on use.
_PACKETS = Limit(LimitKind.PACKETS, limits.REKEY_AFTER_MESSAGES, limits.REJECT_AFTER_MESSAGES, on_use=True)
_ALL_PACKETS = Limit(LimitKind.PACKETS, limits.REJECT_AFTER_MESSAGES, limits.REJECT_AFTER_MESSAGES, on_use=True)


def _age(soft: float) -> Limit:
    return Limit(LimitKind.TIME, soft, limits.REJECT_AFTER_TIME, on_use=True)


_LIMITS: Final = {
    (True, Direction.SEND): (_age(limits.REKEY_AFTER_TIME), _PACKETS),
    (True, Direction.RECEIVE): (_age(limits.REKEY_ON_RECEIVE), _ALL_PACKETS),
    (False, Direction.SEND): (_age(limits.REJECT_AFTER_TIME), _PACKETS),
    (False, Direction.RECEIVE): (_age(limits.REJECT_AFTER_TIME), _ALL_PACKETS),
}


class OpenedInitiation:
    """An initiation that a screener opened: whose it is, and how the handshake goes on. Its repr shows no secret."""

    __slots__ = ("ephemeral", "peer", "sender", "state", "timestamp")

    def __init__(self, peer: Peer, sender: bytes, ephemeral: bytes, timestamp: bytes, state: SymmetricState) -> None:
        self.peer = peer
        self.sender = sender  # the initiator's index
        self.ephemeral = ephemeral
        self.timestamp = timestamp
        self.state = state

    def __repr__(self) -> str:
        return f"<OpenedInitiation of {self.peer!r}>"


class _Initiation:
    """One of ours that waits for its response."""

    __slots__ = ("created_at", "ephemeral", "exchange", "index", "state")

    def __init__(self, exchange: int, index: bytes, ephemeral: bytes, state: SymmetricState, now: float) -> None:
        self.exchange = exchange
        self.index = index
        self.ephemeral = ephemeral  # private
        self.state = state
        self.created_at = now


class _Pair:
    """Two keys of one handshake. `withheld`: the sending key until the peer has confirmed the pair."""

    __slots__ = ("born", "index", "initiator", "key", "sends", "withheld")

    def __init__(self, key: KeyId, index: bytes, initiator: bool, now: float) -> None:
        self.key = key
        self.index = index  # ours
        self.initiator = initiator  # whether we began
        self.born = now
        self.withheld: TransportSecret | None = None
        self.sends = False  # its sending key is installed


class WireGuardHandshake:
    """The handshakes with one peer, in both roles, and the key pairs that come of them.

    `peer` and `tunnel` are shared with all stacks of the local end. Wants from outside: when to begin and to try again
    (create_initiation, unanswered, abandon), when keys are to be erased (erase).
    """

    __slots__ = (
        "_complete",
        "_confirmed",
        "_current",
        "_exchange",
        "_generation",
        "_next",
        "_outputs",
        "_peer",
        "_previous",
        "_sent_at",
        "_tunnel",
        "_waiting",
    )

    def __init__(self, peer: Peer, tunnel: TunnelState) -> None:
        self._peer = peer
        self._tunnel = tunnel
        self._outputs: list[HandshakeOutput] = []  # short, and an empty one costs an idle peer nothing
        self._waiting: _Initiation | None = None
        self._previous: _Pair | None = None
        self._current: _Pair | None = None
        self._next: _Pair | None = None
        self._exchange = NOT_REPEATED  # of the newest initiation
        self._generation = -1  # of the newest pair
        self._sent_at = float("-inf")  # the last message of ours
        self._complete = self._confirmed = False

    # -- questions ------------------------------------------------------------------------------------------------
    @property
    def pending(self) -> int | None:
        """The exchange of our initiation that waits for its response; None: nothing waits."""
        waiting = self._waiting
        return None if waiting is None else waiting.exchange

    @property
    def sending_key(self) -> KeyId | None:
        """The key to send under, installed; None: there is none. It may be too old: see can_send()."""
        current = self._current
        return None if current is None else current.key

    def can_send(self, now: float) -> bool:
        """There is a sending key that is not too old (§6.1: REJECT_AFTER_TIME)."""
        current = self._current
        return current is not None and now - current.born < limits.REJECT_AFTER_TIME

    def wants_handshake(self, now: float) -> bool:
        """Something is to be sent now, and that takes an initiation which is not under way (§6.2)."""
        if self._waiting is not None:
            return False
        current = self._current
        if current is None:
            return True
        age = now - current.born
        return age >= limits.REJECT_AFTER_TIME or (current.initiator and age >= limits.REKEY_AFTER_TIME)

    @property
    def may_initiate_at(self) -> float:
        """When create_initiation() makes one: REKEY_TIMEOUT after our last initiation or response (§6.1)."""
        return self._sent_at + limits.REKEY_TIMEOUT

    # -- the initiator --------------------------------------------------------------------------------------------
    def start(self, facts: PathFacts, now: float) -> None:
        """There is a path to the peer: begin, unless the peer has begun already."""
        if self._generation < 0 and self._waiting is None:
            self.create_initiation(now)

    def create_initiation(self, now: float) -> bool:
        """Make an initiation. False: it is too early (see may_initiate_at), and nothing was made."""
        if now < self.may_initiate_at:
            return False
        self._create_initiation(now)
        return True

    def unanswered(self, exchange: int, now: float) -> bool:
        """A fresh initiation in place of that one, which is not answered any more (§6.4). Always True.

        Nothing is made if another exchange, or none, is pending.
        """
        if self._waiting is not None and self._waiting.exchange == exchange:
            self._create_initiation(now)
        return True

    def abandon(self, now: float) -> None:
        """Give up waiting for a response (§6.4: after REKEY_ATTEMPT_TIME)."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.state.erase()
            waiting.ephemeral = b""
            self._retire(waiting.index)

    def _create_initiation(self, now: float) -> None:
        tunnel, peer = self._tunnel, self._peer
        private, public = self._new_ephemeral()
        state = SymmetricState(INITIAL_CHAINING_KEY, peer.hash)
        stamp = tunnel.next_timestamp(peer)
        static, timestamp = write_initiation(
            state, (private, public), tunnel.public_key, peer.public_key, peer.static_static, stamp
        )
        self.abandon(now)
        index = self._issue()
        self._exchange += 1
        self._waiting = _Initiation(self._exchange, index, private, state, now)
        data = Initiation(index, public, static, timestamp).encode()
        self._send(data, self._exchange, now)

    def receive(self, key: KeyId, data: memoryview, exchange: int, now: float) -> None:
        """A response or a cookie reply. Raises PeerMisbehaved, by the Reason of this room; nothing has changed then."""
        message = parse_untrusted(data)
        if isinstance(message, Response):
            self._consume_response(message, bytes(data), now)
        elif isinstance(message, CookieReply):
            self._consume_cookie_reply(message, now)
        else:
            raise MalformedMessage("an initiation goes to the screener", reason=Reason.MALFORMED)

    def _consume_response(self, message: Response, data: bytes, now: float) -> None:
        waiting, tunnel, peer = self._waiting, self._tunnel, self._peer
        if waiting is None or waiting.index != message.receiver:
            raise PeerMisbehaved("nothing waits for this response", reason=Reason.NOT_AWAITED)
        if not compare_digest(mac128(tunnel.mac1_key, data[: -2 * MAC_SIZE]), message.mac1):
            raise PeerMisbehaved("the response has a wrong mac1", reason=Reason.BAD_MAC1, section="whitepaper §5.4.4")
        state = waiting.state.copy()
        read_response_untrusted(
            state, waiting.ephemeral, tunnel.private_key, message.ephemeral, peer.preshared_key, message.nothing
        )
        # everything is checked: from here on the state changes
        self._waiting = None
        waiting.state.erase()
        waiting.ephemeral = b""
        sending, receiving = state.split()
        pair = self._new_pair(waiting.index, initiator=True, now=now)
        self._ready(pair, Direction.RECEIVE, TransportSecret(receiving, pair.index))
        self._install_as_initiator(pair)
        self._ready(pair, Direction.SEND, TransportSecret(sending, message.sender))
        self._completed()

    def _consume_cookie_reply(self, message: CookieReply, now: float) -> None:
        """Keep the cookie for the next message; the paper sends nothing at once (§6.6)."""
        peer = self._peer
        if peer.last_mac1 is None or message.receiver not in self._own_indices():
            raise PeerMisbehaved("nothing waits for this cookie", reason=Reason.NO_COOKIE_AWAITED)
        try:
            cookie = xchacha20_open(peer.cookie_key, message.nonce, message.cookie, peer.last_mac1)
        except Unauthentic:
            raise PeerMisbehaved("the cookie does not open", reason=Reason.UNAUTHENTIC) from None
        peer.cookie, peer.cookie_until = cookie, now + limits.COOKIE_LIFETIME
        peer.last_mac1 = None

    # -- the responder --------------------------------------------------------------------------------------------
    def consume_initiation(self, seed: OpenedInitiation, now: float) -> None:
        """Answer an initiation of this peer that a screener opened; the new pair waits for its confirmation.

        Raises PeerMisbehaved if it is not newer than each before, or comes too soon; nothing has changed then.
        """
        tunnel, peer, state = self._tunnel, self._peer, seed.state
        tunnel.check_timestamp(peer, seed.timestamp, now)
        private, public = self._new_ephemeral()
        nothing = write_response(state, (private, public), seed.ephemeral, peer.public_key, peer.preshared_key, b"")
        tunnel.accept_timestamp(peer, seed.timestamp, now)
        receiving, sending = state.split()
        pair = self._new_pair(self._issue(), initiator=False, now=now)
        pair.withheld = TransportSecret(sending, seed.sender)
        self._ready(pair, Direction.RECEIVE, TransportSecret(receiving, pair.index))
        self._install_as_responder(pair)
        self._send(Response(pair.index, seed.sender, public, nothing).encode(), NOT_REPEATED, now)

    def key_confirmed(self, event: KeyConfirmed, now: float) -> None:
        """The record opened the first datagram under a key: with the one of `next` we may send from now on."""
        pair = self._next
        if pair is not None and pair.key == event.key:
            self._discard(self._previous)
            self._previous, self._current, self._next = self._current, pair, None
            self._demote(self._previous)
            secret, pair.withheld = pair.withheld, None
            assert secret is not None
            self._ready(pair, Direction.SEND, secret)
            self.abandon(now)  # what we began ourselves is not needed any more
            self._completed()
        if self._complete and not self._confirmed:
            self._confirmed = True
            self._outputs.append(HandshakeConfirmed())

    # -- pairs ----------------------------------------------------------------------------------------------------
    def _new_pair(self, index: bytes, *, initiator: bool, now: float) -> _Pair:
        self._generation += 1
        return _Pair(KeyId(Stage.APPLICATION, self._generation), index, initiator, now)

    def _install_as_initiator(self, pair: _Pair) -> None:
        self._discard(self._previous)
        if self._next is not None:
            self._discard(self._current)
            self._previous, self._next = self._next, None
        else:
            self._previous = self._current
        self._demote(self._previous)
        self._current = pair

    def _install_as_responder(self, pair: _Pair) -> None:
        self._discard(self._previous)
        self._discard(self._next)
        self._previous, self._next = None, pair

    def _ready(self, pair: _Pair, direction: Direction, secret: TransportSecret) -> None:
        if direction is Direction.SEND:
            pair.sends = True
        self._outputs.append(KeyReady(pair.key, direction, secret, _LIMITS[pair.initiator, direction]))

    def _demote(self, pair: _Pair | None) -> None:
        """A pair that only receives from now on."""
        if pair is None:
            return
        if pair.sends:
            pair.sends = False
            self._outputs.append(KeyDiscarded(pair.key, Direction.SEND))
        pair.withheld = None

    def _discard(self, pair: _Pair | None) -> None:
        if pair is None:
            return
        self._demote(pair)
        self._outputs.append(KeyDiscarded(pair.key, Direction.RECEIVE))
        self._retire(pair.index)

    def _completed(self) -> None:
        self._peer.latest_handshake = self._tunnel.environment.wall_clock()
        if not self._complete:
            self._complete = True
            self._outputs.append(PeerAuthenticated(key_text(self._peer.public_key)))
            self._outputs.append(_summary(self._peer.preshared_key != NO_PRESHARED_KEY))

    def erase(self, now: float) -> None:
        """Forget every key and index, and the initiation that waits (§6.3: ERASE_AFTER_TIME, and every end)."""
        self.abandon(now)
        for pair in (self._previous, self._current, self._next):
            self._discard(pair)
        self._previous = self._current = self._next = None

    # -- messages -------------------------------------------------------------------------------------------------
    def next_output(self) -> HandshakeOutput | None:
        """What came of all this, in order."""
        return self._outputs.pop(0) if self._outputs else None

    def _send(self, data: bytes, exchange: int, now: float) -> None:
        """A message, with both macs at its end (§5.4.4)."""
        peer = self._peer
        body = data[: -2 * MAC_SIZE]
        mac1 = mac128(peer.mac1_key, body)
        peer.last_mac1 = mac1
        mac2 = NO_MAC
        if peer.cookie is not None:
            if now < peer.cookie_until:
                mac2 = mac128(peer.cookie, body + mac1)
            else:
                peer.cookie = None
        self._sent_at = now
        self._outputs.append(HandshakeMessage(HANDSHAKE_KEY, body + mac1 + mac2, exchange, last=True))

    def _new_ephemeral(self) -> tuple[bytes, bytes]:
        """A private key and its public one, and the lines that let Wireshark open the handshake."""
        tunnel, peer = self._tunnel, self._peer
        private = tunnel.environment.random(32)
        log = tunnel.environment.key_log
        if log is not None:
            log(f"LOCAL_STATIC_PRIVATE_KEY = {b64encode(tunnel.private_key).decode()}")
            log(f"REMOTE_STATIC_PUBLIC_KEY = {key_text(peer.public_key)}")
            log(f"LOCAL_EPHEMERAL_PRIVATE_KEY = {b64encode(private).decode()}")
            if peer.preshared_key != NO_PRESHARED_KEY:
                log(f"PRESHARED_KEY = {b64encode(peer.preshared_key).decode()}")
        return private, scalarmult_base(private)

    # -- indices --------------------------------------------------------------------------------------------------
    def _issue(self) -> bytes:
        index = self._tunnel.new_index()
        self._outputs.append(RouteIssued((ROUTE, index)))
        return index

    def _retire(self, index: bytes) -> None:
        self._tunnel.release_index(index)
        self._outputs.append(RouteRetired((ROUTE, index)))

    def _own_indices(self) -> set[bytes]:
        return {one.index for one in (self._waiting, self._previous, self._current, self._next) if one is not None}

    # -- the rest of the contract ---------------------------------------------------------------------------------
    def key_expiring(self, event: KeyExpiring, now: float) -> None:
        """The key in use wore out while it was used: begin the next handshake, unless one is under way (§6.2)."""
        current = self._current
        if current is None or current.key != event.key or self._waiting is not None:
            return
        if event.direction is Direction.SEND or (current.initiator and not event.hard):
            self.create_initiation(now)

    def update_keys(self, now: float) -> None:
        """A handshake of our own now, unless one is under way."""
        if self._waiting is None:
            self._create_initiation(now)

    def peer_moved(self, event: PeerMoved, now: float) -> None:
        """Nothing: every datagram proves where its sender is (§2.1)."""

    def answer(self, ask: AskId, result: object, now: float) -> None:
        """Nothing: no handshake asks."""

    def export_secret(self, label: bytes, context: bytes | None, length: int) -> bytes:
        """Raises LocalError: WireGuard has no exporter."""
        raise LocalError("WireGuard exports no secrets", reason=CommonReason.NOT_SUPPORTED)


@lru_cache(maxsize=2)
def _summary(preshared_key: bool) -> HandshakeComplete:
    """What was agreed: there is no choice but the pre-shared key."""
    algorithms = {"group": "X25519", "aead": "CHACHA20_POLY1305", "hash": "BLAKE2S"}
    return HandshakeComplete(
        MappingProxyType(
            {
                "algorithms": MappingProxyType(algorithms),
                "psk": "external" if preshared_key else None,
                "provides": MappingProxyType({"pre_shared_key": preshared_key}),
            }
        )
    )
