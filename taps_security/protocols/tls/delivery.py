"""TLS's byte stream: messages get across as in every stream stack, with the two things that only TLS does there.

Compatibility records (RFC 8446 §D.4) make a handshake look like a resumed TLS 1.2 session to old middleboxes:

    client                                    server
    ClientHello with a session id   -->
                                    <--       ServerHello, or HelloRetryRequest
                                    <--       change_cipher_spec, behind the first of them
    change_cipher_spec              -->       before the second ClientHello, or else before Finished and its company

An abort during the handshake says user_canceled and close_notify (RFC 9846 §6.1). Later close_notify would make an
aborted stream look whole, so an abort then says general_error (§6.2).

Early data that a HelloRetryRequest refused comes in records whose key will never be there; up to a bound they go by
unread (§4.2.10). May live here: what a message means for the stream. Must not: keys, states of the handshake.
"""

from __future__ import annotations

from ...stack.delivery import PassThrough
from ...stack.events import CloseKind, Stage
from ...stack.layers import HandshakeMessage, UnitKind
from ...stack.stream import DEFAULT_LIMITS, PLAINTEXT, StreamLimits, StreamStack
from .alerts import GENERAL_ERROR, USER_CANCELED, TlsEnds
from .handshake import TlsHandshake
from .options import TlsOptions
from .record import TlsRecord
from .wire import HandshakeType

__all__ = ["TlsStack", "assemble", "message_length"]

_ENDS = TlsEnds()  # it has no state
_SESSION_ID = 38  # where the length of the session id stands in both hellos: type, length, version, random before it


class TlsStack(StreamStack):
    """Handshake and record of one TLS connection over TCP."""

    __slots__ = ("_owes_compatibility", "_said_compatibility")

    _handshake: TlsHandshake
    _record: TlsRecord

    def __init__(
        self,
        handshake: TlsHandshake,
        record: TlsRecord,
        delivery: PassThrough,
        ends: TlsEnds,
        limits: StreamLimits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(handshake, record, delivery, ends, limits)
        self._owes_compatibility = False  # a client's record, due before its second flight
        self._said_compatibility = False

    def _queue_message(self, message: HandshakeMessage, now: float) -> None:
        if message.key.stage is Stage.APPLICATION:
            super()._queue_message(message, now)
            return
        if self._owes_compatibility:
            self._owes_compatibility = False
            self._say_compatibility(now)
        super()._queue_message(message, now)
        has_session_id = bool(message.data[_SESSION_ID : _SESSION_ID + 1].strip(b"\0"))
        if message.data[0] == HandshakeType.CLIENT_HELLO:
            self._owes_compatibility = has_session_id and not self._said_compatibility
        elif message.data[0] == HandshakeType.SERVER_HELLO:
            if has_session_id and not self._said_compatibility:
                self._say_compatibility(now)
            self._record.skippable_early_data = self._handshake.skip_early_data

    def _seal_control(self, unit: bytes, now: float) -> None:
        if unit != USER_CANCELED:
            super()._seal_control(unit, now)
        elif self.complete:
            super()._seal_control(GENERAL_ERROR, now)
        else:
            super()._seal_control(unit, now)
            super()._seal_control(self._ends.clean(), now)

    def _terminate(self, how: CloseKind, error: Exception | None) -> None:
        super()._terminate(how, error)
        self._handshake.forget()

    def _say_compatibility(self, now: float) -> None:
        self._said_compatibility = True
        self._seal(PLAINTEXT, UnitKind.NOTHING, b"\x01", now)


def assemble(handshake: TlsHandshake, options: TlsOptions) -> TlsStack:
    """The stack around a handshake, not yet started."""
    delivery = PassThrough(message_length, options.max_handshake_message)
    return TlsStack(handshake, TlsRecord(padding=options.padding), delivery, _ENDS)


def message_length(head: memoryview) -> int:
    """Octets of the handshake message that begins so, its header included (RFC 8446 §4)."""
    return 4 + int.from_bytes(head[1:4], "big") if len(head) >= 4 else 0
