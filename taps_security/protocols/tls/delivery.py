"""TLS's byte stream: messages get across as in every stream stack, with the two things that only TLS does there.

Compatibility records (RFC 8446 §D.4) make a handshake look like a resumed TLS 1.2 session to old middleboxes:

    client                                    server
    ClientHello with a session id   -->
                                    <--       ServerHello, or HelloRetryRequest
                                    <--       change_cipher_spec, behind the first of them
    change_cipher_spec              -->       before the second ClientHello, or else before Finished and its company

Early data that a HelloRetryRequest refused comes in records whose key will never be there; up to a bound they go by
unread (§4.2.10). May live here: what a message means for the stream. Must not: keys, states of the handshake.
"""

from __future__ import annotations

from ...stack.events import Stage
from ...stack.layers import HandshakeMessage, UnitKind
from ...stack.stream import PLAINTEXT, StreamStack
from .handshake import TlsHandshake
from .record import TlsRecord
from .wire import HandshakeType

__all__ = ["TlsStack"]

_SESSION_ID = 38  # where the length of the session id stands in both hellos: type, length, version, random before it


class TlsStack(StreamStack):
    """Handshake and record of one TLS connection over TCP."""

    _handshake: TlsHandshake
    _record: TlsRecord
    _owes_compatibility = False  # a client's record, due before its second flight
    _said_compatibility = False

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

    def _say_compatibility(self, now: float) -> None:
        self._said_compatibility = True
        self._seal(PLAINTEXT, UnitKind.NOTHING, b"\x01", now)
