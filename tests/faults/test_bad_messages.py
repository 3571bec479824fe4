"""Handshake messages that break RFC 8446, through whole stacks: the alert on the wire, the error, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from taps_security.crypto.agreement import Group
from taps_security.protocols.tls.extensions import encode_key_share
from taps_security.protocols.tls.options import ClientAuthentication, TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk
from taps_security.protocols.tls.reasons import AlertDescription as Alert
from taps_security.protocols.tls.reasons import alert_for
from taps_security.protocols.tls.wire import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateRequest,
    CertificateVerify,
    HandshakeType,
    ServerHello,
    encode_extensions,
    encode_message,
    parse_certificate_verify_untrusted,
    parse_client_hello_untrusted,
    parse_server_hello_untrusted,
)
from taps_security.stack.asks import FindPsk
from taps_security.stack.errors import AuthenticationFailed, PeerAborted, PeerIncompatible, PeerMisbehaved, RemoteError
from taps_security.stack.events import CloseKind, HandshakeComplete, PeerAuthenticated
from taps_security.stack.stack import DEFAULT_SEND_OPTIONS
from tests.faults.memory import Change, End, alerts_of, connected, ends, records_of, shake
from tests.protocols.tls.pair import identity

CLIENT_HELLO, SERVER_HELLO, TICKET, EXTENSIONS = 1, 2, 4, 8
CERTIFICATE, REQUEST, VERIFY, FINISHED, UPDATE = 11, 13, 15, 20, 24
MUTUAL: dict[str, Any] = {
    "client_identities": [identity("client.example")],
    "server": {"client_authentication": ClientAuthentication.REQUIRE},
}
P256_ONLY = TlsOptions(groups=(Group.SECP256R1,))
KEY = ExternalPsk(identity=b"me", key=bytes(32))
KEYED: dict[str, Any] = {"client": {"psks": (KEY,)}, "server": {"external_psks": True}}
VERSION = {43: b"\x03\x04"}


# -- lies ------------------------------------------------------------------------------------------------------------
def hello(parse: Any, **changes: Any) -> Change:
    return lambda data: parse(data[4:])._replace(**changes).encode()


def client_hello(**changes: Any) -> Change:
    return hello(parse_client_hello_untrusted, **changes)


def server_hello(**changes: Any) -> Change:
    return hello(parse_server_hello_untrusted, **changes)


def extended(kind: int, body: bytes | None, *, last: bool = False) -> Change:
    """A hello with an extension in place of another; None leaves it out. `last` moves it to the end."""

    def change(data: bytes) -> bytes:
        parse: Any = parse_client_hello_untrusted if data[0] == CLIENT_HELLO else parse_server_hello_untrusted
        found = parse(data[4:])
        extensions = dict(found.extensions)
        if body is None or last:
            extensions.pop(kind, None)
        if body is not None:
            extensions[kind] = body
        return found._replace(extensions=extensions).encode()  # type: ignore[no-any-return]

    return change


def twice(data: bytes) -> bytes:
    """A hello, or EncryptedExtensions, whose last extension comes twice."""
    if data[0] == EXTENSIONS:
        extension = b"\0\x0a\0\x04\0\x02\0\x1d"
        return encode_message(
            HandshakeType.ENCRYPTED_EXTENSIONS, (2 * len(extension)).to_bytes(2, "big") + 2 * extension
        )
    body = data[4:]
    parse: Any = parse_client_hello_untrusted if data[0] == CLIENT_HELLO else parse_server_hello_untrusted
    block = encode_extensions(parse(body).extensions)
    extension = b"\0\x2b\0\x02\x03\x04"
    front = body[: -len(block)]
    longer = (len(block) - 2 + 2 * len(extension)).to_bytes(2, "big") + block[2:] + 2 * extension
    return encode_message(HandshakeType(data[0]), front + longer)


def instead(kind: HandshakeType, body: bytes) -> Change:
    return lambda data: encode_message(kind, body)


def retry(extensions: dict[int, bytes], suite: int = 0x1301) -> Change:
    def change(data: bytes) -> bytes:
        session_id = parse_server_hello_untrusted(data[4:]).session_id
        return ServerHello(HELLO_RETRY_REQUEST_RANDOM, session_id, suite, extensions).encode()

    return change


def verify(**changes: Any) -> Change:
    return hello(parse_certificate_verify_untrusted, **changes)


def cut(data: bytes) -> bytes:
    """One octet less, with a header that says so."""
    return encode_message(HandshakeType(data[0]), data[4:-1])


def grown(data: bytes) -> bytes:
    return encode_message(HandshakeType(data[0]), data[4:] + b"\0")


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def binder(data: bytes) -> bytes:
    """The first of two binders: behind it stand an octet of length and the second, of 48 octets."""
    return data[:-60] + bytes((data[-60] ^ 1,)) + data[-59:]


def behind(kind: HandshakeType, body: bytes) -> Change:
    """The message, and another one that does not belong there."""
    return lambda data: data + encode_message(kind, body)


def block(extensions: dict[int, bytes]) -> Change:
    return instead(HandshakeType.ENCRYPTED_EXTENSIONS, encode_extensions(extensions))


def of(message: Any) -> Change:
    return lambda data: message.encode()  # type: ignore[no-any-return]


# -- what clients must notice: message, lie, alert, section, how the ends are set up -----------------------------------
TO_CLIENTS: list[tuple[str, int, Change, Alert, str, dict[str, Any]]] = [
    ("cut", SERVER_HELLO, cut, Alert.DECODE_ERROR, "6.2", {}),
    ("grown", SERVER_HELLO, grown, Alert.DECODE_ERROR, "6.2", {}),
    ("extension twice", SERVER_HELLO, twice, Alert.ILLEGAL_PARAMETER, "4.2", {}),
    ("TLS 1.2", SERVER_HELLO, extended(43, None), Alert.PROTOCOL_VERSION, "4.1.3", {}),
    (
        "downgrade",
        SERVER_HELLO,
        of(ServerHello(bytes(24) + b"DOWNGRD\1", b"", 0xC02F, {})),
        Alert.ILLEGAL_PARAMETER,
        "4.1.3",
        {},
    ),
    ("old version selected", SERVER_HELLO, extended(43, b"\3\3"), Alert.ILLEGAL_PARAMETER, "4.2.1", {}),
    ("session id", SERVER_HELLO, server_hello(session_id=bytes(32)), Alert.ILLEGAL_PARAMETER, "4.1.3", {}),
    ("suite", SERVER_HELLO, server_hello(cipher_suite=0x1399), Alert.ILLEGAL_PARAMETER, "4.1.3", {}),
    ("compression", SERVER_HELLO, server_hello(compression_method=1), Alert.ILLEGAL_PARAMETER, "4.1.3", {}),
    ("no share", SERVER_HELLO, extended(51, None), Alert.MISSING_EXTENSION, "4.2.8", {}),
    (
        "group",
        SERVER_HELLO,
        extended(51, encode_key_share(Group.SECP384R1, b"x" * 97)),
        Alert.ILLEGAL_PARAMETER,
        "4.2.8",
        {},
    ),
    (
        "point of low order",
        SERVER_HELLO,
        extended(51, encode_key_share(Group.X25519, bytes(32))),
        Alert.ILLEGAL_PARAMETER,
        "4.2.8",
        {},
    ),
    ("unknown extension", SERVER_HELLO, extended(0xABCD, b""), Alert.UNSUPPORTED_EXTENSION, "4.2", {}),
    ("misplaced extension", SERVER_HELLO, extended(10, b"\0\2\0\x1d"), Alert.ILLEGAL_PARAMETER, "4.2", {}),
    ("PSK that was not offered", SERVER_HELLO, extended(41, b"\0\5"), Alert.ILLEGAL_PARAMETER, "4.2.11", KEYED),
    ("PSK without an offer", SERVER_HELLO, extended(41, b"\0\0"), Alert.UNSUPPORTED_EXTENSION, "4.2", {}),
    ("retry that changes nothing", SERVER_HELLO, retry(VERSION), Alert.ILLEGAL_PARAMETER, "4.1.4", {}),
    (
        "retry for a share that was there",
        SERVER_HELLO,
        retry({51: b"\0\x1d", **VERSION}),
        Alert.ILLEGAL_PARAMETER,
        "4.2.8",
        {},
    ),
    ("a client's message", SERVER_HELLO, instead(HandshakeType.CLIENT_HELLO, b""), Alert.UNEXPECTED_MESSAGE, "4", {}),
    ("no hello at all", SERVER_HELLO, instead(HandshakeType.FINISHED, bytes(32)), Alert.UNEXPECTED_MESSAGE, "4", {}),
    ("unknown message", SERVER_HELLO, lambda data: b"\x63\0\0\0", Alert.UNEXPECTED_MESSAGE, "4", {}),
    (
        "a message behind the hello",
        SERVER_HELLO,
        behind(HandshakeType.ENCRYPTED_EXTENSIONS, b"\0\0"),
        Alert.UNEXPECTED_MESSAGE,
        "5.1",
        {},
    ),
    ("cut", EXTENSIONS, cut, Alert.DECODE_ERROR, "6.2", {}),
    ("extension twice", EXTENSIONS, twice, Alert.ILLEGAL_PARAMETER, "4.2", {}),
    ("unknown extension", EXTENSIONS, block({0xABCD: b""}), Alert.UNSUPPORTED_EXTENSION, "4.2", {}),
    ("misplaced extension", EXTENSIONS, block({51: b"\0\x17"}), Alert.ILLEGAL_PARAMETER, "4.2", {}),
    (
        "protocol that was not offered",
        EXTENSIONS,
        block({16: b"\0\3\2h3"}),
        Alert.ILLEGAL_PARAMETER,
        "4.2",
        {"client": {"alpn": ("h2",)}},
    ),
    ("record size limit", EXTENSIONS, block({28: b"\0\x3f"}), Alert.ILLEGAL_PARAMETER, "4.2", {}),
    ("left out", EXTENSIONS, lambda data: None, Alert.UNEXPECTED_MESSAGE, "4", {}),
    ("context", REQUEST, of(CertificateRequest(b"x", {13: b"\0\2\4\3"})), Alert.ILLEGAL_PARAMETER, "4.3.2", MUTUAL),
    ("no algorithms", REQUEST, of(CertificateRequest(b"", {})), Alert.MISSING_EXTENSION, "4.3.2", MUTUAL),
    ("cut", REQUEST, cut, Alert.DECODE_ERROR, "6.2", MUTUAL),
    ("empty", CERTIFICATE, of(Certificate(b"", ())), Alert.DECODE_ERROR, "4.4.2.4", {}),
    ("context", CERTIFICATE, of(Certificate(b"c", (b"der",))), Alert.ILLEGAL_PARAMETER, "4.4.2", {}),
    (
        "unknown extension",
        CERTIFICATE,
        of(Certificate(b"", (b"der",), ({5: b""},))),
        Alert.UNSUPPORTED_EXTENSION,
        "4.4.2",
        {},
    ),
    ("no certificate", CERTIFICATE, of(Certificate(b"", (b"no certificate",))), Alert.BAD_CERTIFICATE, "", {}),
    (
        "somebody else's",
        CERTIFICATE,
        of(Certificate(b"", identity("other.example").chain)),
        Alert.DECRYPT_ERROR,
        "4.4.3",
        {},
    ),
    ("cut", CERTIFICATE, cut, Alert.DECODE_ERROR, "6.2", {}),
    ("left out", CERTIFICATE, lambda data: None, Alert.UNEXPECTED_MESSAGE, "4", {}),
    ("signature", VERIFY, flipped, Alert.DECRYPT_ERROR, "4.4.3", {}),
    ("no signature", VERIFY, verify(signature=b""), Alert.DECRYPT_ERROR, "4.4.3", {}),
    ("algorithm that was not offered", VERIFY, verify(algorithm=0x0401), Alert.ILLEGAL_PARAMETER, "4.4.3", {}),
    ("left out", VERIFY, lambda data: None, Alert.UNEXPECTED_MESSAGE, "4", {}),
    ("wrong", FINISHED, flipped, Alert.DECRYPT_ERROR, "4.4.4", {}),
    ("short", FINISHED, cut, Alert.DECRYPT_ERROR, "4.4.4", {}),
    ("empty", FINISHED, instead(HandshakeType.FINISHED, b""), Alert.DECRYPT_ERROR, "4.4.4", {}),
    ("replaced by a key update", FINISHED, instead(HandshakeType.KEY_UPDATE, b"\0"), Alert.UNEXPECTED_MESSAGE, "4", {}),
    (
        "a message behind it",
        FINISHED,
        behind(HandshakeType.NEW_SESSION_TICKET, b""),
        Alert.UNEXPECTED_MESSAGE,
        "4",
        {},
    ),
]
TO_SERVERS: list[tuple[str, int, Change, Alert, str, dict[str, Any]]] = [
    ("cut", CLIENT_HELLO, cut, Alert.DECODE_ERROR, "6.2", {}),
    ("grown", CLIENT_HELLO, grown, Alert.DECODE_ERROR, "6.2", {}),
    ("extension twice", CLIENT_HELLO, twice, Alert.ILLEGAL_PARAMETER, "4.2", {}),
    ("TLS 1.2", CLIENT_HELLO, extended(43, None), Alert.PROTOCOL_VERSION, "4.2.1", {}),
    ("only old versions", CLIENT_HELLO, extended(43, b"\2\3\3"), Alert.PROTOCOL_VERSION, "4.2.1", {}),
    ("compression", CLIENT_HELLO, client_hello(compression_methods=b"\1\0"), Alert.ILLEGAL_PARAMETER, "4.1.2", {}),
    ("no suite of ours", CLIENT_HELLO, client_hello(cipher_suites=(0x1399,)), Alert.HANDSHAKE_FAILURE, "4.1.1", {}),
    ("no suites", CLIENT_HELLO, client_hello(cipher_suites=()), Alert.DECODE_ERROR, "6.2", {}),
    ("no algorithms", CLIENT_HELLO, extended(13, None), Alert.MISSING_EXTENSION, "9.2", {}),
    ("no groups", CLIENT_HELLO, extended(10, None), Alert.MISSING_EXTENSION, "9.2", {}),
    ("no shares", CLIENT_HELLO, extended(51, None), Alert.MISSING_EXTENSION, "9.2", {}),
    (
        "foreign groups",
        CLIENT_HELLO,
        lambda data: extended(10, b"\0\2\1\0")(extended(51, b"\0\0")(data) or b""),
        Alert.HANDSHAKE_FAILURE,
        "4.1.1",
        {},
    ),
    ("share of another group", CLIENT_HELLO, extended(51, b"\0\5\1\0\0\1x"), Alert.ILLEGAL_PARAMETER, "4.2.8", {}),
    (
        "share twice",
        CLIENT_HELLO,
        extended(51, b"\0\x48" + 2 * encode_key_share(Group.X25519, b"x" * 32)),
        Alert.ILLEGAL_PARAMETER,
        "4.2.8",
        {},
    ),
    (
        "share of low order",
        CLIENT_HELLO,
        extended(51, b"\0\x24" + encode_key_share(Group.X25519, bytes(32))),
        Alert.ILLEGAL_PARAMETER,
        "4.2.8",
        {},
    ),
    ("record size limit", CLIENT_HELLO, extended(28, b"\0\1"), Alert.ILLEGAL_PARAMETER, "4.2", {}),
    (
        "no common protocol",
        CLIENT_HELLO,
        extended(16, b"\0\3\2h3"),
        Alert.NO_APPLICATION_PROTOCOL,
        "4.2",
        {"server": {"alpn": ("h2",)}},
    ),
    ("name", CLIENT_HELLO, extended(0, b"\0\6\0\0\3a\0b"), Alert.DECODE_ERROR, "6.2", {}),
    ("PSK not last", CLIENT_HELLO, extended(0xABCD, b""), Alert.ILLEGAL_PARAMETER, "4.2.11", KEYED),
    ("PSK without modes", CLIENT_HELLO, extended(45, None), Alert.MISSING_EXTENSION, "4.2.9", KEYED),
    ("binder", CLIENT_HELLO, binder, Alert.DECRYPT_ERROR, "4.2.11", KEYED),
    ("a server's message", CLIENT_HELLO, instead(HandshakeType.SERVER_HELLO, b""), Alert.UNEXPECTED_MESSAGE, "4", {}),
    ("two hellos", CLIENT_HELLO, lambda data: data + data, Alert.UNEXPECTED_MESSAGE, "4", {}),
    (
        "empty where it is required",
        CERTIFICATE,
        of(Certificate(b"", ())),
        Alert.CERTIFICATE_REQUIRED,
        "4.4.2.4",
        MUTUAL,
    ),
    ("no certificate", CERTIFICATE, of(Certificate(b"", (b"no certificate",))), Alert.BAD_CERTIFICATE, "", MUTUAL),
    ("context", CERTIFICATE, of(Certificate(b"c", (b"der",))), Alert.ILLEGAL_PARAMETER, "4.4.2", MUTUAL),
    ("cut", CERTIFICATE, cut, Alert.DECODE_ERROR, "6.2", MUTUAL),
    ("left out", CERTIFICATE, lambda data: None, Alert.UNEXPECTED_MESSAGE, "4", MUTUAL),
    ("signature", VERIFY, flipped, Alert.DECRYPT_ERROR, "4.4.3", MUTUAL),
    ("left out", VERIFY, lambda data: None, Alert.UNEXPECTED_MESSAGE, "4", MUTUAL),
    ("wrong", FINISHED, flipped, Alert.DECRYPT_ERROR, "4.4.4", {}),
    (
        "early data was not offered",
        FINISHED,
        instead(HandshakeType.END_OF_EARLY_DATA, b""),
        Alert.UNEXPECTED_MESSAGE,
        "4",
        {},
    ),
    ("replaced by a key update", FINISHED, instead(HandshakeType.KEY_UPDATE, b"\0"), Alert.UNEXPECTED_MESSAGE, "4", {}),
]


def named(rows: list[Any]) -> list[Any]:
    return [pytest.param(*row[1:], id=f"{HandshakeType(row[1]).name.lower()}: {row[0]}") for row in rows]


def check_refusal(victim: End, liar: End, alert: Alert, section: str) -> None:
    """The victim named the alert and the section, said nothing behind it, and gave its application nothing."""
    assert victim.end is not None
    error = victim.end.error
    assert victim.end.how is CloseKind.ABORTED
    assert isinstance(error, RemoteError)
    assert not isinstance(error, PeerAborted)
    assert alert_for(error) is alert, error
    assert error.section == (f"RFC 8446 §{section}" if section else error.section), error
    kind = {Alert.PROTOCOL_VERSION: PeerIncompatible, Alert.HANDSHAKE_FAILURE: PeerIncompatible}.get(alert, RemoteError)
    assert isinstance(error, kind)
    if alert in {Alert.DECODE_ERROR, Alert.ILLEGAL_PARAMETER, Alert.UNEXPECTED_MESSAGE, Alert.UNSUPPORTED_EXTENSION}:
        assert isinstance(error, PeerMisbehaved)
    assert alerts_of(victim) == [bytes((2, alert))]
    assert records_of(victim)[-1].kind == 21
    assert victim.octets == b""
    assert not any(isinstance(event, HandshakeComplete | PeerAuthenticated) for event in victim.events)
    assert victim.hear(b"whatever else") == b""
    assert isinstance(liar.end and liar.end.error, PeerAborted | AuthenticationFailed | PeerIncompatible)


@pytest.mark.parametrize(("kind", "lie", "alert", "section", "settings"), named(TO_CLIENTS))
def test_a_lying_server(kind: int, lie: Change, alert: Alert, section: str, settings: dict[str, Any]) -> None:
    client, server = ends(**settings)
    if settings is KEYED:
        server.endpoint.answers[FindPsk] = lambda request: KEY
    server.stack.lies[kind] = lie
    client.stack.send(0, (b"secret",), DEFAULT_SEND_OPTIONS, 0.0)  # waits for the handshake, in vain
    shake(client, server)
    check_refusal(client, server, alert, section)
    assert not server.octets


@pytest.mark.parametrize(("kind", "lie", "alert", "section", "settings"), named(TO_SERVERS))
def test_a_lying_client(kind: int, lie: Change, alert: Alert, section: str, settings: dict[str, Any]) -> None:
    client, server = ends(**settings)
    server.endpoint.answers[FindPsk] = lambda request: KEY
    if kind == CLIENT_HELLO:
        said = lie(client.say()[5:])
        assert said is not None
        reply = server.hear(b"\x16\3\1" + len(said).to_bytes(2, "big") + said)
        client.hear(reply)
    else:
        client.stack.lies[kind] = lie
        client.stack.send(0, (b"early",), DEFAULT_SEND_OPTIONS, 0.0)
        shake(client, server)
    check_refusal(server, client, alert, section)


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (client_hello(random=bytes(32)), Alert.ILLEGAL_PARAMETER),
        (client_hello(cipher_suites=(0x1301,)), Alert.ILLEGAL_PARAMETER),
        (extended(44, None), Alert.ILLEGAL_PARAMETER),
        (extended(44, b"\0\1x"), Alert.ILLEGAL_PARAMETER),
        (extended(51, b"\0\0"), Alert.ILLEGAL_PARAMETER),
        (extended(42, b""), Alert.ILLEGAL_PARAMETER),
        (cut, Alert.DECODE_ERROR),
    ],
)
def test_a_second_hello_that_is_not_the_first_one_mended(change: Change, alert: Alert) -> None:
    client, server = ends({}, {"options": TlsOptions(groups=(Group.SECP256R1,), retry_cookie=True)})
    retry = server.hear(client.say())
    client.stack.lies[CLIENT_HELLO] = change
    client.hear(server.hear(client.hear(retry)))
    check_refusal(server, client, alert, "")


def test_a_second_retry() -> None:
    client, server = ends({}, {"options": P256_ONLY})
    said = server.hear(client.say())
    second = server.hear(client.hear(said))
    assert second
    server.stack.lies.clear()
    hello_retry = said[: 5 + int.from_bytes(said[3:5], "big")]
    server.hear(client.hear(hello_retry))
    check_refusal(client, server, Alert.UNEXPECTED_MESSAGE, "4.1.4")


# -- after the handshake -----------------------------------------------------------------------------------------------
AFTER: list[tuple[str, bytes, Alert, str]] = [
    ("key update of another value", encode_message(HandshakeType.KEY_UPDATE, b"\2"), Alert.ILLEGAL_PARAMETER, "4.6.3"),
    ("empty key update", encode_message(HandshakeType.KEY_UPDATE, b""), Alert.DECODE_ERROR, "6.2"),
    ("long key update", encode_message(HandshakeType.KEY_UPDATE, b"\0\0"), Alert.DECODE_ERROR, "6.2"),
    ("another hello", encode_message(HandshakeType.CLIENT_HELLO, bytes(50)), Alert.UNEXPECTED_MESSAGE, "4"),
    ("another finished", encode_message(HandshakeType.FINISHED, bytes(32)), Alert.UNEXPECTED_MESSAGE, "4"),
    ("a late certificate request", CertificateRequest(b"x", {13: b"\0\2\4\3"}).encode(), Alert.UNEXPECTED_MESSAGE, "4"),
    ("message hash", encode_message(HandshakeType.MESSAGE_HASH, bytes(32)), Alert.UNEXPECTED_MESSAGE, "4"),
    ("unknown message", b"\x63\0\0\0", Alert.UNEXPECTED_MESSAGE, "4"),
    ("a message above the limit", b"\x18\xff\xff\xff", Alert.ILLEGAL_PARAMETER, ""),
]


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(("message", "alert", "section"), [pytest.param(*row[1:], id=row[0]) for row in AFTER])
def test_bad_messages_afterwards_come_behind_what_was_authentic(
    message: bytes, alert: Alert, section: str, role: str
) -> None:
    client, server = connected()
    victim, liar = (client, server) if role == "client" else (server, client)
    before = len(alerts_of(victim))
    wire = liar.protect(23, b"authentic") + liar.protect(22, message) + liar.protect(23, b"too late")
    liar.hear(victim.hear(wire))
    assert victim.octets == b"authentic"
    assert victim.end is not None
    assert isinstance(victim.end.error, PeerMisbehaved)
    assert alert_for(victim.end.error) is alert
    assert not section or victim.end.error.section == f"RFC 8446 §{section}"
    assert alerts_of(victim)[before:] == [bytes((2, alert))]
    assert isinstance(liar.end and liar.end.error, PeerAborted)


@pytest.mark.parametrize("change", [cut, grown, instead(HandshakeType.NEW_SESSION_TICKET, b"")])
def test_bad_tickets(change: Change) -> None:
    from taps_security.protocols.tls.tickets import TicketKeys
    from tests.protocols.tls.pair import Clock, Randomness

    client, server = ends({}, {"ticket_keys": TicketKeys(Randomness(), Clock())})
    server.stack.lies[TICKET] = change
    shake(client, server)
    assert client.end is not None
    assert alerts_of(client) == [bytes((2, Alert.DECODE_ERROR))]


def test_servers_take_no_tickets() -> None:
    client, server = connected()
    server.hear(client.protect(22, encode_message(HandshakeType.NEW_SESSION_TICKET, bytes(20))))
    assert alerts_of(server) == [bytes((2, Alert.UNEXPECTED_MESSAGE))]


def test_certificate_verify_is_held_to_its_message() -> None:
    """The signature of another handshake, whole and good, is worth nothing here."""
    other_client, other_server = ends(seed=b"another")
    signatures: list[bytes] = []

    def keep(data: bytes) -> bytes:
        signatures.append(data)
        return data

    other_server.stack.lies[VERIFY] = keep
    shake(other_client, other_server)
    assert other_client.stack.complete
    client, server = ends()
    server.stack.lies[VERIFY] = lambda data: CertificateVerify(
        *parse_certificate_verify_untrusted(signatures[0][4:])
    ).encode()
    shake(client, server)
    check_refusal(client, server, Alert.DECRYPT_ERROR, "4.4.3")
