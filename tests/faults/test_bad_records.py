"""Records that break RFC 8446, against both roles and in every phase: the alert on the wire, and what was delivered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taps_security.protocols.tls.options import TlsOptions
from taps_security.protocols.tls.reasons import AlertDescription as Alert
from taps_security.protocols.tls.reasons import alert_for
from taps_security.protocols.tls.wire import HandshakeType, encode_message
from taps_security.stack.errors import PeerAborted, PeerMisbehaved, RemoteError
from taps_security.stack.events import CloseKind, TransportEnd
from taps_security.stack.stream import DEFAULT_LIMITS
from tests.faults.memory import End, alerts_of, connected, ends, records_of, shake
from tests.stack.null import send

FLOOD = DEFAULT_LIMITS.units_without_data + 1
CCS, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
KEY_UPDATE = encode_message(HandshakeType.KEY_UPDATE, b"\0")


def record(kind: int, content: bytes, version: bytes = b"\3\3") -> bytes:
    """A plaintext record."""
    return bytes((kind,)) + version + len(content).to_bytes(2, "big") + content


def refusal(victim: End, alert: Alert, section: str) -> PeerMisbehaved:
    """The victim's error, which it has told with that alert as its last word."""
    assert victim.end is not None
    error = victim.end.error
    assert victim.end.how is CloseKind.ABORTED
    assert isinstance(error, PeerMisbehaved)
    assert alert_for(error) is alert, error
    assert error.section.startswith(f"RFC 8446 §{section}" if section else ""), error
    assert records_of(victim)[-1].kind == ALERT
    assert alerts_of(victim)[-1] == bytes((2, alert))
    assert len(alerts_of(victim)) == 1
    assert victim.hear(b"anything") == b""
    return error


# -- before there are keys -------------------------------------------------------------------------------------------
BEFORE: dict[str, tuple[bytes, Alert, str]] = {
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Alert.UNEXPECTED_MESSAGE, "5"),
    "a record of another protocol": (record(24, b"\1\0\1x"), Alert.UNEXPECTED_MESSAGE, "5"),
    "SSL 2": (b"\x80\x2e\1\0\2", Alert.UNEXPECTED_MESSAGE, "5"),
    "an empty handshake record": (record(HANDSHAKE, b""), Alert.UNEXPECTED_MESSAGE, "5.1"),
    "an empty alert record": (record(ALERT, b""), Alert.UNEXPECTED_MESSAGE, "5.1"),
    "a record that is too long": (b"\x16\3\3\x40\x01", Alert.RECORD_OVERFLOW, "5"),
    "a protected record that is too long": (b"\x17\3\3\x41\x01", Alert.RECORD_OVERFLOW, "5.2"),
    "application data": (record(DATA, b"hello"), Alert.UNEXPECTED_MESSAGE, ""),
    "change_cipher_spec of another value": (record(CCS, b"\2"), Alert.UNEXPECTED_MESSAGE, "5"),
    "change_cipher_spec of two octets": (record(CCS, b"\1\1"), Alert.UNEXPECTED_MESSAGE, "5"),
    "a message above the limit": (record(HANDSHAKE, b"\2\xff\xff\xff"), Alert.ILLEGAL_PARAMETER, ""),
}


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("kind", BEFORE)
@pytest.mark.parametrize("step", ["at once", "octet by octet"])
def test_before_there_are_keys(kind: str, role: str, step: str) -> None:
    wire, alert, section = BEFORE[kind]
    client, server = ends()
    victim = client if role == "client" else server
    victim.say()
    for piece in [wire] if step == "at once" else [wire[at : at + 1] for at in range(len(wire))]:
        victim.hear(piece)
        if victim.end is not None:
            break
    refusal(victim, alert, section)
    assert victim.octets == b""


def test_change_cipher_spec_before_anything_was_said_is_refused_by_servers() -> None:
    _, server = ends()
    server.hear(record(CCS, b"\1"))
    refusal(server, Alert.UNEXPECTED_MESSAGE, "5")


def test_an_unfinished_hello_takes_no_more_memory_than_its_limit() -> None:
    limit = 20_000
    _, server = ends({}, {"options": TlsOptions(max_handshake_message=limit)})
    server.hear(record(HANDSHAKE, b"\1" + (limit - 4).to_bytes(3, "big")))
    for _ in range(limit // 1000 - 1):
        server.hear(record(HANDSHAKE, bytes(1000)))
    assert server.end is None
    assert len(server.stack._delivery.held) <= limit
    server.hear(record(HANDSHAKE, bytes(2000)))
    assert server.end is not None


def test_a_hello_above_the_limit_is_refused_by_its_header_alone() -> None:
    limit = 20_000
    _, server = ends({}, {"options": TlsOptions(max_handshake_message=limit)})
    server.hear(record(HANDSHAKE, b"\1" + (limit - 3).to_bytes(3, "big")))
    error = refusal(server, Alert.ILLEGAL_PARAMETER, "")
    assert f"a handshake message of {limit + 1} octets; at most {limit}" in str(error)


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_flood_of_compatibility_records_ends(role: str) -> None:
    client, server = ends()
    victim = client if role == "client" else server
    if role == "client":
        victim.say()
    else:
        victim.hear(client.say())
    victim.hear(record(CCS, b"\1") * (FLOOD - 1))
    assert victim.end is None
    victim.hear(record(CCS, b"\1") * 2)
    refusal(victim, Alert.UNEXPECTED_MESSAGE, "")


# -- during the handshake --------------------------------------------------------------------------------------------
def half_way(role: str) -> tuple[End, End]:
    """The victim has handshake keys and waits for the other's flight, which is kept from it."""
    client, server = ends()
    if role == "server":
        server.hear(client.say())
        return server, client
    flight = server.hear(client.say())
    hello = 5 + int.from_bytes(flight[3:5], "big")
    client.hear(flight[:hello])
    return client, server


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(
    ("wire", "alert", "section"),
    [
        (record(DATA, bytes(17)), Alert.BAD_RECORD_MAC, "5.2"),
        (record(DATA, bytes(16)), Alert.BAD_RECORD_MAC, "5.2"),
        (record(DATA, b""), Alert.BAD_RECORD_MAC, "5.2"),
        (b"\x17\3\3\x41\x12", Alert.RECORD_OVERFLOW, "5.2"),
        (record(HANDSHAKE, b"\x14\0\0\0"), Alert.UNEXPECTED_MESSAGE, "5"),
        (record(CCS, b"\0"), Alert.UNEXPECTED_MESSAGE, "5"),
    ],
    ids=["a forgery", "only a tag", "nothing", "too long", "plaintext", "change_cipher_spec"],
)
def test_during_the_handshake(role: str, wire: bytes, alert: Alert, section: str) -> None:
    victim, _ = half_way(role)
    victim.hear(wire)
    refusal(victim, alert, section)


def test_application_data_before_the_finished_is_not_delivered() -> None:
    server, client = half_way("server")
    client.stack.lies[20] = lambda data: None  # it holds its Finished back
    client.hear(server.wire)
    server.hear(client.protect(DATA, b"too early"))
    assert server.end is not None
    assert server.octets == b""
    assert isinstance(server.end.error, RemoteError)


def test_a_plaintext_alert_in_the_handshake_is_heard() -> None:
    victim, _ = half_way("client")
    victim.hear(record(ALERT, b"\2\x28"))
    assert victim.end is not None
    assert "handshake_failure" in str(victim.end.error)
    assert not alerts_of(victim)  # an error is not answered with an error


def test_a_handshake_cut_into_single_octets_is_slow_and_no_attack() -> None:
    client, server = ends()
    hello = client.say()[5:]
    for octet in hello:
        reply = server.hear(record(HANDSHAKE, bytes((octet,))))
    client.hear(reply)
    assert client.stack.complete


# -- afterwards ------------------------------------------------------------------------------------------------------
def flip(wire: bytes, index: int) -> bytes:
    """One bit wrong."""
    wrong = bytearray(wire)
    wrong[index] ^= 1
    return bytes(wrong)


def replay(liar: End) -> bytes:
    first = liar.protect(DATA, b"once")
    return first + first


AFTER: dict[str, tuple[Callable[[End], bytes], Alert, str]] = {
    "a forgery": (lambda liar: record(DATA, bytes(40)), Alert.BAD_RECORD_MAC, "5.2"),
    "a record that came already": (replay, Alert.BAD_RECORD_MAC, "5.2"),
    "a record out of order": (
        lambda liar: liar.protect(DATA, b"1") and liar.protect(DATA, b"2"),
        Alert.BAD_RECORD_MAC,
        "5.2",
    ),
    "a flipped header": (lambda liar: flip(liar.protect(DATA, b"x"), 2), Alert.BAD_RECORD_MAC, "5.2"),
    "another major version": (lambda liar: flip(liar.protect(DATA, b"x"), 1), Alert.BAD_RECORD_MAC, ""),
    "a flipped octet": (lambda liar: flip(liar.protect(DATA, b"x"), 5), Alert.BAD_RECORD_MAC, "5.2"),
    "a flipped tag": (lambda liar: flip(liar.protect(DATA, b"x"), -1), Alert.BAD_RECORD_MAC, "5.2"),
    "too long": (lambda liar: liar.protect(DATA, bytes(16_384), padding=300), Alert.RECORD_OVERFLOW, "5.2"),
    "nothing but padding": (lambda liar: liar.protect(0, b"", padding=5), Alert.UNEXPECTED_MESSAGE, "5.4"),
    "an unknown type inside": (lambda liar: liar.protect(99, b"x"), Alert.UNEXPECTED_MESSAGE, "5"),
    "change_cipher_spec inside": (lambda liar: liar.protect(CCS, b"\1"), Alert.UNEXPECTED_MESSAGE, "5"),
    "change_cipher_spec": (lambda liar: record(CCS, b"\1"), Alert.UNEXPECTED_MESSAGE, "5"),
    "a plaintext alert": (lambda liar: record(ALERT, b"\1\0"), Alert.UNEXPECTED_MESSAGE, "5"),
    "plaintext handshake": (lambda liar: record(HANDSHAKE, KEY_UPDATE), Alert.UNEXPECTED_MESSAGE, "5"),
    "an empty handshake record": (lambda liar: liar.protect(HANDSHAKE, b""), Alert.UNEXPECTED_MESSAGE, "5.4"),
    "an empty alert": (lambda liar: liar.protect(ALERT, b""), Alert.UNEXPECTED_MESSAGE, "5.4"),
    "an alert of one octet": (lambda liar: liar.protect(ALERT, b"\2"), Alert.DECODE_ERROR, "6"),
    "two alerts in a record": (lambda liar: liar.protect(ALERT, b"\1\0\1\0"), Alert.DECODE_ERROR, "6"),
    "data inside a message": (
        lambda liar: liar.protect(HANDSHAKE, KEY_UPDATE[:2]) + liar.protect(DATA, b"x"),
        Alert.UNEXPECTED_MESSAGE,
        "5.1",
    ),
    "a message across a key change": (
        lambda liar: liar.protect(HANDSHAKE, KEY_UPDATE + KEY_UPDATE[:3]),
        Alert.UNEXPECTED_MESSAGE,
        "5.1",
    ),
    "the old key behind a key update": (
        lambda liar: liar.protect(HANDSHAKE, KEY_UPDATE) + liar.protect(DATA, b"x"),
        Alert.BAD_RECORD_MAC,
        "5.2",
    ),
}


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("kind", AFTER)
@pytest.mark.parametrize("apart", [False, True], ids=["in one read", "in two reads"])
def test_afterwards_and_what_was_authentic_is_delivered(kind: str, role: str, apart: bool) -> None:
    client, server = connected()
    victim, liar = (client, server) if role == "client" else (server, client)
    make, alert, section = AFTER[kind]
    good = liar.protect(DATA, b"authentic")
    bad = make(liar)
    if apart:
        victim.hear(good)
        victim.hear(bad)
    else:
        victim.hear(good + bad)
    assert victim.octets.startswith(b"authentic")
    assert victim.octets == b"authenticonce" if kind == "a record that came already" else b"authentic"
    if kind == "another major version":
        assert victim.end is not None  # of what does not authenticate nothing else is said
    else:
        refusal(victim, alert, section)
    liar.hear(victim.wire[-(5 + 2 + 1 + 16) :])
    assert liar.end is not None
    assert isinstance(liar.end.error, PeerAborted)


@pytest.mark.parametrize("role", ["client", "server"])
def test_every_flipped_octet_of_a_record_is_noticed(role: str) -> None:
    for index in range(5 + 4 + 1 + 16):
        client, server = connected()
        victim, liar = (client, server) if role == "client" else (server, client)
        victim.hear(flip(liar.protect(DATA, b"data"), index) + bytes(5))
        assert victim.octets == b""
        if victim.end is None:  # a longer record: it waits for what will never fit
            assert index in {3, 4}
            victim.stack.transport_ended(0, TransportEnd.FIN, 0.0)
            victim._drain()
        assert victim.end is not None
        assert victim.end.error is not None


FLOODS: dict[str, Callable[[End], bytes]] = {
    "empty records": lambda liar: liar.protect(DATA, b""),
    "padding": lambda liar: liar.protect(DATA, b"", padding=999),
    "user_canceled": lambda liar: liar.protect(ALERT, b"\1\x5a"),
    "empty records and user_canceled": lambda liar: liar.protect(DATA, b"") + liar.protect(ALERT, b"\1\x5a"),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("at_once", [1, 10, FLOOD])
def test_a_flood_of_records_without_data_ends(kind: str, at_once: int) -> None:
    client, server = connected()
    server.hear(client.protect(DATA, b"authentic"))
    heard = 0
    while server.end is None:
        server.hear(b"".join(FLOODS[kind](client) for _ in range(at_once)))
        heard += at_once
        assert heard <= FLOOD + at_once
    assert heard > FLOOD / 3
    assert server.octets == b"authentic"
    refusal(server, Alert.UNEXPECTED_MESSAGE, "")


def test_empty_records_between_data_are_padding_and_no_flood() -> None:
    client, server = connected()
    for _ in range(3 * FLOOD):
        server.hear(client.protect(DATA, b"") + client.protect(DATA, b"x", padding=100))
    assert server.octets == b"x" * 3 * FLOOD
    assert server.end is None


@pytest.mark.parametrize("what", ["key updates", "tickets"])
def test_a_flood_of_post_handshake_messages_ends(what: str) -> None:
    ticket = encode_message(HandshakeType.NEW_SESSION_TICKET, (60).to_bytes(4, "big") + bytes(4) + b"\1n\0\1t\0\0")
    client, server = connected()
    for _ in range(FLOOD):
        if what == "key updates":
            server.stack.update_keys(0.0)
        else:
            server.stack._sealed += server.protect(HANDSHAKE, ticket)
            server.stack._count_pending()
        server.hear(client.hear(server.say()))
        if client.end is not None:
            break
    refusal(client, Alert.UNEXPECTED_MESSAGE, "")
    updated = sum(type(event).__name__ == "KeyReady" for event in client.events)
    assert updated <= 2 * FLOOD + 8


def test_key_updates_between_data_go_on_for_ever() -> None:
    client, server = connected()
    for _ in range(5 * FLOOD):
        server.stack.update_keys(0.0)
        send(server.stack, b"x")
        server.hear(client.hear(server.say()))
    assert client.octets == b"x" * 5 * FLOOD


def test_an_unknown_alert_ends_whatever_its_level_says() -> None:
    for level, code in ((1, 77), (2, 200), (1, 100), (77, 40)):
        client, server = connected()
        client.hear(server.protect(ALERT, bytes((level, code))))
        assert client.end is not None
        assert isinstance(client.end.error, RemoteError)
        assert not alerts_of(client)


@pytest.mark.parametrize("level", [1, 2])
def test_close_notify_ends_one_direction_and_nothing_behind_it_counts(level: int) -> None:
    client, server = connected()
    end = server.protect(DATA, b"last words") + server.protect(ALERT, bytes((level, 0)))
    client.hear(end + server.protect(DATA, b"too late") + record(99, b"whatever"))
    assert client.octets == b"last words"
    assert client.end is None
    send(client.stack, b"answer")
    server.hear(client.say())
    assert server.octets == b"answer"
    client.stack.close(0.0)
    client.say()
    client._drain()
    assert client.end is not None
    assert (client.end.how, client.end.error) == (CloseKind.CLEAN, None)


def test_a_record_size_limit_of_ours_binds_the_peer() -> None:
    client, server = connected(client={"options": TlsOptions(record_size_limit=100)})
    send(server.stack, bytes(1000))
    client.hear(server.say())
    assert client.octets == bytes(1000)
    client.hear(server.protect(DATA, bytes(100)))
    refusal(client, Alert.RECORD_OVERFLOW, "5.2")


def test_the_reader_of_wires_reads_them() -> None:
    """The tests above count on it."""
    client, server = ends()
    shake(client, server)
    send(client.stack, b"question")
    server.hear(client.say())
    kinds = [(record.kind, record.stage) for record in records_of(client)]
    assert kinds == [(HANDSHAKE, 0), (CCS, 0), (HANDSHAKE, 1), (DATA, 2)]
    assert records_of(client)[-1].content == b"question"
    assert {record.stage for record in records_of(server)} == {0, 1}
