"""Sessions that may be resumed, and the tickets that stand for them (RFC 8446 §4.6.1).

A client keeps a `Session`. A server keeps a `ServerSession`: inside the ticket, sealed by `TicketKeys` (stateless),
or in a store of its own under the ticket's octets (stateful).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from taps_security.crypto.aead import AES_256_GCM, AuthenticationFailure, new_aead
from taps_security.parts.codec import MalformedMessage, Reader, vector8, vector16, vector24
from taps_security.stack.errors import ConfigurationError
from taps_security.stack.frozen import frozen, replace

from .keys import CIPHER_SUITES, CipherSuite
from .limits import MAX_TICKET, MAX_TICKET_LIFETIME, TICKET_KEY_ROTATION, TICKETS_PER_KEY, TLS_1_3

__all__ = ["ServerSession", "Session", "TicketKeys"]

_MAGIC = b"taps-security tls session 1\n"
_KEY_NAME_SIZE = 16
_NONCE_SIZE = 12


def _encode_chain(chain: tuple[bytes, ...]) -> bytes:
    return vector24(b"".join([vector24(der) for der in chain]))


def _parse_chain(reader: Reader) -> tuple[bytes, ...]:
    entries = Reader(reader.vector24())
    chain = []
    while entries.remaining:
        chain.append(entries.vector24(1))
    return tuple(chain)


def _suite_of(code: int) -> CipherSuite:
    if code not in CIPHER_SUITES:
        raise MalformedMessage(f"0x{code:04x} is no cipher suite that this program knows")
    return CIPHER_SUITES[code]


def _time(seconds: float) -> bytes:
    return round(seconds * 1000).to_bytes(8, "big")


def _read_time(reader: Reader) -> float:
    milliseconds = reader.u64()
    if milliseconds >> 53:
        raise MalformedMessage("a time that no clock shows")
    return milliseconds / 1000


# ---------------------------------------------------------------------------------------------------------- client
@frozen
class Session:
    """What a client needs to resume. Times are unix seconds, `lifetime` is in seconds.

    `authenticated_at`: when the server last proved itself otherwise than by a session; that counts for seven days.
    `peer_chain`: the server's certificates, which are verified again when the session is resumed; empty after a
    handshake with an external PSK, whose identity then is `peer_psk`. `mutual`: we proved ourselves then, too.
    """

    ticket: bytes = field(repr=False)
    psk: bytes = field(repr=False)
    suite: CipherSuite
    lifetime: int
    age_add: int = field(repr=False)
    received_at: float
    authenticated_at: float
    server_name: str
    alpn: str | None
    peer_chain: tuple[bytes, ...] = field(repr=False)
    peer_psk: bytes = b""
    mutual: bool = False

    def usable(self, server_name: str, at: float) -> bool:
        """Whether the session says who the server was, is for `server_name`, and is not too old (RFC 8446 §4.6.1)."""
        age = at - self.received_at
        return (
            bool(self.peer_chain or self.peer_psk)
            and self.server_name == server_name
            and 0 <= age < min(self.lifetime, MAX_TICKET_LIFETIME)
            and at - self.authenticated_at < MAX_TICKET_LIFETIME
        )

    def obfuscated_age(self, at: float) -> int:
        """RFC 8446 §4.2.11.1."""
        return (int((at - self.received_at) * 1000) + self.age_add) & 0xFFFFFFFF

    def serialise(self) -> bytes:
        """The session as octets, secrets included: keep them like a key."""
        return (
            _MAGIC
            + TLS_1_3.to_bytes(2, "big")
            + self.suite.code.to_bytes(2, "big")
            + self.lifetime.to_bytes(4, "big")
            + self.age_add.to_bytes(4, "big")
            + _time(self.received_at)
            + _time(self.authenticated_at)
            + bytes((self.mutual,))
            + vector8(self.psk)
            + vector16(self.ticket)
            + vector16(self.server_name.encode())
            + vector8((self.alpn or "").encode())
            + vector16(self.peer_psk)
            + _encode_chain(self.peer_chain)
        )

    @classmethod
    def parse(cls, octets: bytes) -> Session:
        """The inverse of `serialise`; ConfigurationError for anything else."""
        if not octets.startswith(_MAGIC):
            raise ConfigurationError("this is no TLS session saved by this program")
        reader = Reader(octets[len(_MAGIC) :])
        try:
            if reader.u16() != TLS_1_3:
                raise ConfigurationError("a saved TLS session of another version of TLS")
            suite = _suite_of(reader.u16())
            lifetime, age_add = reader.u32(), reader.u32()
            times = (_read_time(reader), _read_time(reader))
            mutual = reader.u8() == 1
            psk, ticket = reader.vector8(32), reader.vector16(1)
            server_name, alpn = reader.vector16().decode(), reader.vector8().decode()
            peer_psk, chain = reader.vector16(), _parse_chain(reader)
            reader.check_end()
        except (MalformedMessage, UnicodeDecodeError) as error:
            raise ConfigurationError(f"a saved TLS session is damaged: {error}") from None
        names = (server_name, alpn or None)
        return cls(ticket, psk, suite, lifetime, age_add, *times, *names, chain, peer_psk, mutual)


# ---------------------------------------------------------------------------------------------------------- server
@frozen
class ServerSession:
    """What a server needs to resume. Times are unix seconds; `lifetime` counts from `issued_at`.

    `authenticated_at`: when the first handshake of this line of sessions was; resumption never outlives seven days
    from there. `peer_chain`, `peer_psk`: who the client was. `ticket`: the name of a stateful session.
    """

    psk: bytes = field(repr=False)
    suite: CipherSuite
    issued_at: float
    lifetime: int
    age_add: int = field(repr=False)
    authenticated_at: float
    server_name: str
    alpn: str | None
    peer_chain: tuple[bytes, ...] = field(repr=False, default=())
    peer_psk: bytes = b""
    ticket: bytes = field(repr=False, default=b"")

    def named(self, ticket: bytes) -> ServerSession:
        """The same session under the name of a stateful ticket."""
        return replace(self, ticket=ticket)

    def usable(self, server_name: str, at: float) -> bool:
        """Whether the session is for `server_name` and alive."""
        return (
            self.server_name == server_name
            and -1 <= at - self.issued_at < self.lifetime
            and at - self.authenticated_at < MAX_TICKET_LIFETIME
        )

    def serialise(self) -> bytes:
        """The session as octets, secrets included: for a ticket or a store; `ticket` is not part of it."""
        return (
            TLS_1_3.to_bytes(2, "big")
            + self.suite.code.to_bytes(2, "big")
            + _time(self.issued_at)
            + self.lifetime.to_bytes(4, "big")
            + self.age_add.to_bytes(4, "big")
            + _time(self.authenticated_at)
            + vector8(self.psk)
            + vector16(self.server_name.encode())
            + vector8((self.alpn or "").encode())
            + vector16(self.peer_psk)
            + _encode_chain(self.peer_chain)
        )

    @classmethod
    def parse(cls, octets: bytes, ticket: bytes = b"") -> ServerSession:
        """The inverse of `serialise`; MalformedMessage for anything else."""
        reader = Reader(octets)
        if reader.u16() != TLS_1_3:
            raise MalformedMessage("a stored session of another version of TLS")
        suite = _suite_of(reader.u16())
        issued_at, lifetime, age_add = _read_time(reader), reader.u32(), reader.u32()
        authenticated_at, psk = _read_time(reader), reader.vector8(32)
        try:
            server_name, alpn = reader.vector16().decode(), reader.vector8().decode()
        except UnicodeDecodeError:
            raise MalformedMessage("a stored session with a name that is not UTF-8") from None
        peer_psk, chain = reader.vector16(), _parse_chain(reader)
        reader.check_end()
        times = (issued_at, lifetime, age_add, authenticated_at)
        return cls(psk, suite, *times, server_name, alpn or None, chain, peer_psk, ticket)


class _TicketKey:
    """One key: its name, its cipher, when it began, how many tickets it made."""

    __slots__ = ("aead", "made", "name", "since")

    def __init__(self, name: bytes, key: bytes, since: float) -> None:
        self.name = name
        self.aead = new_aead(AES_256_GCM, key)
        self.since = since
        self.made = 0


class TicketKeys:
    """Rotating keys for stateless tickets: key name, nonce, and AES-256-GCM over the session (RFC 5077 §4's shape).

    A key makes tickets for `rotation` seconds and opens them for `lifetime` seconds more. `random` gives octets,
    `wall_clock` unix seconds. One object serves all connections of a server.
    """

    def __init__(
        self,
        random: Callable[[int], bytes],
        wall_clock: Callable[[], float],
        *,
        rotation: float = TICKET_KEY_ROTATION,
        lifetime: float = MAX_TICKET_LIFETIME,
    ) -> None:
        if not rotation > 0 or not 0 < lifetime <= MAX_TICKET_LIFETIME:
            raise ConfigurationError("ticket keys: rotation above 0 and a lifetime of at most 604800 s are expected")
        self._random = random
        self._wall_clock = wall_clock
        self._rotation = max(rotation, lifetime / 64)  # at most about 66 keys are alive
        self._lifetime = lifetime
        self._keys: list[_TicketKey] = []  # newest first

    def _current(self) -> _TicketKey:
        now = self._wall_clock()
        keys = self._keys
        if not keys or keys[0].made >= TICKETS_PER_KEY or not 0 <= now - keys[0].since < self._rotation:
            limit = self._rotation + self._lifetime
            keys[:] = [_TicketKey(self._random(_KEY_NAME_SIZE), self._random(32), now)] + [
                key for key in keys if 0 <= now - key.since < limit
            ]
        return keys[0]

    def seal(self, session: ServerSession) -> bytes | None:
        """A ticket, or None where the session is too large for one."""
        state = session.serialise()
        if len(state) > MAX_TICKET:
            return None
        key = self._current()
        key.made += 1
        nonce = self._random(_NONCE_SIZE)
        return key.name + nonce + key.aead.encrypt(nonce, state, key.name)

    def open_untrusted(self, ticket: bytes) -> ServerSession | None:
        """The session in a ticket of ours that still counts, or None."""
        if len(ticket) < _KEY_NAME_SIZE + _NONCE_SIZE + AES_256_GCM.tag_size:
            return None
        name = ticket[:_KEY_NAME_SIZE]
        nonce = ticket[_KEY_NAME_SIZE : _KEY_NAME_SIZE + _NONCE_SIZE]
        now = self._wall_clock()
        for key in self._keys:
            if key.name == name and now - key.since < self._rotation + self._lifetime:
                try:
                    state = key.aead.decrypt(nonce, ticket[_KEY_NAME_SIZE + _NONCE_SIZE :], name)
                    return ServerSession.parse(state, ticket)
                except (AuthenticationFailure, MalformedMessage):
                    return None
        return None
