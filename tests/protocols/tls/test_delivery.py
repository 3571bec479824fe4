from __future__ import annotations

from typing import Any

import pytest

from taps_security.crypto.agreement import Group
from taps_security.protocols.tls.alerts import TlsEnds
from taps_security.protocols.tls.delivery import TlsStack, message_length
from taps_security.protocols.tls.limits import MAX_HANDSHAKE_MESSAGE, MAX_SKIPPED_EARLY_DATA
from taps_security.protocols.tls.options import TlsOptions
from taps_security.protocols.tls.reasons import AlertDescription, Reason
from taps_security.protocols.tls.record import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, TlsRecord
from taps_security.protocols.tls.tickets import TicketKeys
from taps_security.stack.asks import Ask
from taps_security.stack.delivery import PassThrough
from taps_security.stack.errors import ConnectionLost, PeerAborted, PeerMisbehaved
from taps_security.stack.errors import Reason as StackReason
from taps_security.stack.events import Terminated
from tests.protocols.tls.pair import FACTS, Clock, Endpoint, Pair, Randomness
from tests.stack.null import drain, feed, octets_of, send, transmit

EARLY_DATA = ((42, b""),)
RETRIED = TlsOptions(groups=(Group.X25519, Group.SECP256R1), key_shares=(Group.X25519,))
RETRIES = TlsOptions(groups=(Group.SECP256R1,))
EARLY_RECORD = bytes((APPLICATION_DATA, 3, 3, 4, 0)) + bytes(1024)


class End:
    """One end with its records. `wire`: all that it sent; `before`: octets that go in front of its second flight."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        delivery = PassThrough(message_length, MAX_HANDSHAKE_MESSAGE)
        self.stack = TlsStack(endpoint.handshake, TlsRecord(), delivery, TlsEnds())
        self.wire = b""
        self.unread = b""
        self.end: Terminated | None = None
        self.octets = b""
        self.stack.start(0, FACTS, 0.0)

    def turn(self, octets: bytes) -> bytes:
        """What it says to `octets`."""
        self.unread += octets
        while True:
            consumed = feed(self.stack, self.unread)
            self.unread = self.unread[consumed:]
            events = drain(self.stack)
            self.octets += octets_of(events)
            for event in events:
                if isinstance(event, Ask):
                    self.stack.answer(event.id, self.endpoint.answer_to(event.request), 0.0)
                elif isinstance(event, Terminated):
                    self.end = event
            if not consumed and not self.stack.events:
                break
        said = transmit(self.stack)
        self.wire += said
        return said

    @property
    def types(self) -> list[int]:
        """The content types of its records."""
        found, position = [], 0
        while position < len(self.wire):
            found.append(self.wire[position])
            position += 5 + int.from_bytes(self.wire[position + 3 : position + 5], "big")
        return found


def ends(client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> tuple[End, End]:
    pair = Pair(client, server)
    return End(pair.client), End(pair.server)


def shake(client: End, server: End) -> None:
    said = client.turn(b"")
    while said:
        said = client.turn(server.turn(said))


def check(client: End, server: End) -> None:
    """Both are complete, and octets cross."""
    for one, other in ((client, server), (server, client)):
        assert one.stack.complete
        send(one.stack, b"octets")
        other.turn(one.turn(b""))
        assert other.octets == b"octets"


def test_compatibility_records_stand_where_old_middleboxes_want_them() -> None:
    client, server = ends()
    shake(client, server)
    assert client.types == [HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA]
    assert server.types[:3] == [HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA]
    assert bytes((CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1)) in client.wire
    assert CHANGE_CIPHER_SPEC not in server.types[2:]
    check(client, server)


def test_with_a_retry_they_come_before_the_second_hello_and_behind_the_retry_once() -> None:
    client, server = ends({"options": RETRIED}, {"options": RETRIES})
    shake(client, server)
    assert client.types == [HANDSHAKE, CHANGE_CIPHER_SPEC, HANDSHAKE, APPLICATION_DATA]
    assert server.types[:4] == [HANDSHAKE, CHANGE_CIPHER_SPEC, HANDSHAKE, APPLICATION_DATA]
    assert CHANGE_CIPHER_SPEC not in server.types[4:]
    check(client, server)


def test_without_a_session_id_there_are_none() -> None:
    client, server = ends({"options": TlsOptions(middlebox_compatibility=False)})
    shake(client, server)
    assert CHANGE_CIPHER_SPEC not in client.types + server.types
    check(client, server)


def test_early_data_behind_a_first_hello_goes_by() -> None:
    client, server = ends({"extensions": EARLY_DATA})
    hello = client.turn(b"")
    flight = server.turn(hello + EARLY_RECORD * 3)
    assert server.end is None
    shake_rest = client.turn(flight)
    server.turn(EARLY_RECORD + shake_rest)
    assert server.stack.complete


def test_early_data_behind_a_retry_goes_by_up_to_a_bound() -> None:
    for records, alive in ((40, True), (MAX_SKIPPED_EARLY_DATA // 1024 + 1, False)):
        client, server = ends({"options": RETRIED, "extensions": EARLY_DATA}, {"options": RETRIES})
        server.turn(client.turn(b"") + EARLY_RECORD)
        server.turn(EARLY_RECORD * (records - 1))
        assert (server.end is None) is alive


@pytest.mark.parametrize("settings", [{}, {"extensions": EARLY_DATA}])
def test_what_is_no_early_data_is_still_refused(settings: dict[str, Any]) -> None:
    client, server = ends({"options": RETRIED} | settings, {"options": RETRIES})
    retry = server.turn(client.turn(b""))
    if settings:  # a second hello that still offers early data is wrong, and is read
        server.turn(EARLY_RECORD + client.turn(retry))
        expected: Any = Reason.ILLEGAL_PARAMETER
    else:
        server.turn(EARLY_RECORD)
        expected = None
    assert server.end is not None
    assert isinstance(server.end.error, PeerMisbehaved)
    assert expected in {None, server.end.error.reason}


# -- ends ---------------------------------------------------------------------------------------------------------
def plaintext_alert(code: int, level: int = 1) -> bytes:
    return bytes((ALERT, 3, 3, 0, 2, level, code))


def test_an_abort_in_the_handshake_is_user_canceled_and_close_notify() -> None:
    """RFC 9846 §6.1: the one is followed by the other."""
    client, server = ends()
    hello = client.turn(b"")
    client.stack.abort(None, 0.0)
    said = client.turn(b"")
    assert said == plaintext_alert(90) + plaintext_alert(0)
    server.turn(hello + said)
    assert server.end is not None
    assert isinstance(server.end.error, ConnectionLost)


@pytest.mark.parametrize("error", [None, ConnectionLost("too slow", reason=StackReason.TIMEOUT)])
def test_an_abort_of_an_established_stream_never_looks_like_a_clean_end(error: Exception | None) -> None:
    client, server = ends()
    shake(client, server)
    client.stack.abort(error, 0.0)
    server.turn(client.turn(b""))
    assert server.end is not None
    assert isinstance(server.end.error, PeerAborted)
    assert server.end.error.code == AlertDescription.GENERAL_ERROR


def test_an_alert_right_behind_the_clients_finished() -> None:
    """The tickets that the server has made meanwhile have no key any more."""
    client, server = ends(server={"ticket_keys": TicketKeys(Randomness(b"t"), Clock())})
    answer = server.turn(client.turn(b""))
    finished = client.turn(answer)
    client.stack.abort(None, 0.0)
    server.turn(finished + client.turn(b""))
    assert server.end is not None
    assert isinstance(server.end.error, PeerAborted)


def secrets_of(handshake: Any) -> list[object]:
    """Whatever of key material a handshake still holds."""
    names = ("_send", "_receive", "_exporter", "_run", "_resumption", "_outputs", "_asks")
    return [found for name in names if (found := getattr(handshake, name, None))]


@pytest.mark.parametrize("moment", ["hello", "middle", "complete"])
def test_every_end_forgets_every_secret(moment: str) -> None:
    """RFC 8446 §6."""
    client, server = ends()
    hello = client.turn(b"")
    if moment != "hello":
        answer = server.turn(hello)
        if moment == "complete":
            shake_on = client.turn(answer)
            server.turn(shake_on)
            assert server.stack.complete
    for end in (client, server):
        end.stack.abort(None, 0.0)
        assert secrets_of(end.stack._handshake) == []
        assert not end.stack._record._send
        assert end.stack._record._receive is None


def test_lengths_of_messages_come_from_their_headers() -> None:
    assert [message_length(memoryview(head)) for head in (b"", b"\x01\0\0", b"\x01\0\0\0", b"\x01\x01\0\x02rest")] == [
        0,
        0,
        4,
        65_542,
    ]
