from __future__ import annotations

from collections.abc import Callable

import pytest

from taps_security.crypto.agreement import Group
from taps_security.protocols.tls.client import ClientState
from taps_security.protocols.tls.extensions import ExtensionType, encode_key_share, encode_u16
from taps_security.protocols.tls.keys import TLS_AES_256_GCM_SHA384
from taps_security.protocols.tls.options import TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk
from taps_security.protocols.tls.reasons import AlertDescription, Reason, alert_for
from taps_security.protocols.tls.tickets import TicketKeys
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
from taps_security.stack.asks import Refused, VerifyPeer
from taps_security.stack.errors import (
    AuthenticationFailed,
    ConfigurationError,
    PeerIncompatible,
    PeerMisbehaved,
    RemoteError,
)
from taps_security.stack.events import KeyId, KeyReady, Stage

from .pair import Clock, Pair, Randomness, identity
from .test_server import mutual

INITIAL, HANDSHAKE, APPLICATION = KeyId(Stage.INITIAL), KeyId(Stage.HANDSHAKE), KeyId(Stage.APPLICATION)


def expect(alert: AlertDescription, run: Callable[[], object]) -> None:
    with pytest.raises(RemoteError) as caught:
        run()
    assert alert_for(caught.value) is alert, caught.value
    assert "§" in str(caught.value)


def meddle(pair: Pair, kind: HandshakeType, change: Callable[[bytes], bytes | None]) -> Pair:
    """Run, with the server's messages of `kind` changed on their way; None drops one."""
    pair.start()
    for _ in range(20):
        pair.client.drain()
        to_server, pair.client.outbox = pair.client.outbox, []
        for message in to_server:
            pair.server.handshake.receive(message.key, message.data, 0, 0.0)
        pair.server.drain()
        to_client, pair.server.outbox = pair.server.outbox, []
        for message in to_client:
            data = change(message.data) if message.data[0] == kind else message.data
            if data is not None:
                pair.client.handshake.receive(message.key, data, 0, 0.0)
                pair.client.drain()
        if not to_server and not to_client:
            break
    return pair


# ------------------------------------------------------------------------------------------------------- ClientHello
def test_the_hello() -> None:
    pair = Pair({"alpn": ("h2",)}).start()
    pair.client.drain()
    hello = parse_client_hello_untrusted(pair.client.sent[0].data[4:])
    assert hello.legacy_version == 0x0303
    assert len(hello.session_id) == 32
    assert hello.cipher_suites == (0x1301, 0x1302, 0x1303)
    assert hello.extensions[ExtensionType.SERVER_NAME].endswith(b"server.example")
    assert hello.extensions[ExtensionType.SUPPORTED_VERSIONS] == b"\x02\x03\x04"
    assert ExtensionType.COOKIE not in hello.extensions
    plain = Pair({"options": TlsOptions(middlebox_compatibility=False), "server_name": "2001:db8::1"}).start()
    plain.client.drain()
    hello = parse_client_hello_untrusted(plain.client.sent[0].data[4:])
    assert hello.session_id == b""
    assert ExtensionType.SERVER_NAME not in hello.extensions


def test_two_hellos_share_nothing() -> None:
    hellos = []
    for seed in (b"one", b"two"):
        pair = Pair(seed=seed).start()
        pair.client.drain()
        hellos.append(parse_client_hello_untrusted(pair.client.sent[0].data[4:]))
    first, second = hellos
    assert first.random != second.random
    assert first.session_id != second.session_id
    assert first.extensions[51] != second.extensions[51]


# ------------------------------------------------------------------------------------------------------- ServerHello
def server_hello(**changes: object) -> Callable[[bytes], bytes]:
    return lambda data: parse_server_hello_untrusted(data[4:])._replace(**changes).encode()  # type: ignore[arg-type]


def with_extension(kind: int, body: bytes | None) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        hello = parse_server_hello_untrusted(data[4:])
        extensions = {key: value for key, value in hello.extensions.items() if key != kind}
        if body is not None:
            extensions[kind] = body
        return hello._replace(extensions=extensions).encode()

    return change


def block(kind: HandshakeType, extensions: dict[int, bytes]) -> bytes:
    return encode_message(kind, encode_extensions(extensions))


WRONG_HELLOS = [
    (server_hello(legacy_version=0x0302), AlertDescription.PROTOCOL_VERSION),
    (server_hello(session_id=b""), AlertDescription.ILLEGAL_PARAMETER),
    (server_hello(cipher_suite=0x1304), AlertDescription.ILLEGAL_PARAMETER),
    (server_hello(compression_method=1), AlertDescription.ILLEGAL_PARAMETER),
    (with_extension(43, None), AlertDescription.PROTOCOL_VERSION),
    (with_extension(43, b"\x03\x03"), AlertDescription.ILLEGAL_PARAMETER),
    (with_extension(51, None), AlertDescription.MISSING_EXTENSION),
    (with_extension(51, encode_key_share(Group.SECP256R1, b"x" * 65)), AlertDescription.ILLEGAL_PARAMETER),
    (with_extension(51, encode_key_share(Group.X25519, b"x" * 31)), AlertDescription.ILLEGAL_PARAMETER),
    (with_extension(51, encode_key_share(Group.X25519, bytes(32))), AlertDescription.ILLEGAL_PARAMETER),
    (with_extension(51, b"\0\x1d\0\x05abc"), AlertDescription.DECODE_ERROR),
    (with_extension(0, b""), AlertDescription.ILLEGAL_PARAMETER),  # belongs into EncryptedExtensions
    (with_extension(99, b""), AlertDescription.UNSUPPORTED_EXTENSION),
    (with_extension(41, b"\0\0"), AlertDescription.UNSUPPORTED_EXTENSION),  # no PSK was offered
]


@pytest.mark.parametrize(("change", "alert"), WRONG_HELLOS)
def test_wrong_server_hellos(change: Callable[[bytes], bytes], alert: AlertDescription) -> None:
    expect(alert, lambda: meddle(Pair(), HandshakeType.SERVER_HELLO, change))


@pytest.mark.parametrize("sentinel", [b"DOWNGRD\x00", b"DOWNGRD\x01"])
def test_downgrades_are_seen(sentinel: bytes) -> None:
    old = ServerHello(bytes(24) + sentinel, b"", 0xC02F, {}).encode()
    with pytest.raises(PeerMisbehaved) as caught:
        meddle(Pair(), HandshakeType.SERVER_HELLO, lambda data: old)
    assert caught.value.reason is Reason.DOWNGRADE
    plain = ServerHello(bytes(32), b"", 0xC02F, {}).encode()
    with pytest.raises(PeerIncompatible, match="does not speak TLS"):
        meddle(Pair(), HandshakeType.SERVER_HELLO, lambda data: plain)


# ------------------------------------------------------------------------------------------------- HelloRetryRequest
def retry(extensions: dict[int, bytes], suite: int = 0x1301) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        session_id = parse_server_hello_untrusted(data[4:]).session_id
        return ServerHello(HELLO_RETRY_REQUEST_RANDOM, session_id, suite, extensions).encode()

    return change


VERSION = {43: b"\x03\x04"}
WRONG_RETRIES = [
    (retry(VERSION), AlertDescription.ILLEGAL_PARAMETER),
    (retry({51: b"\0\x1d", **VERSION}), AlertDescription.ILLEGAL_PARAMETER),  # a share was offered already
    (retry({51: b"\x01\x00", **VERSION}), AlertDescription.ILLEGAL_PARAMETER),  # not a group of ours
    (retry({51: b"\0\x17", **VERSION}, 0x1304), AlertDescription.ILLEGAL_PARAMETER),
    (retry({51: b"\0\x17"}), AlertDescription.PROTOCOL_VERSION),
    (retry({44: b"\0\0", **VERSION}), AlertDescription.DECODE_ERROR),
    (retry({51: b"\0\x17", 28: b"\x40\x01", **VERSION}), AlertDescription.ILLEGAL_PARAMETER),
    (retry({51: b"\0\x17", 99: b"", **VERSION}), AlertDescription.UNSUPPORTED_EXTENSION),
]


@pytest.mark.parametrize(("change", "alert"), WRONG_RETRIES)
def test_wrong_retries(change: Callable[[bytes], bytes], alert: AlertDescription) -> None:
    expect(alert, lambda: meddle(Pair(), HandshakeType.SERVER_HELLO, change))


def retried(first: Callable[[bytes], bytes]) -> Pair:
    """A client that has answered a HelloRetryRequest."""
    pair = Pair().start()
    pair.step()
    hello = next(message.data for message in pair.server.sent if message.data[0] == 2)
    pair = Pair().start()
    pair.client.drain()
    pair.client.outbox.clear()
    pair.client.handshake.receive(INITIAL, first(hello), 0, 0.0)
    pair.client.drain()
    assert len(pair.client.sent) == 2
    return pair


def test_a_cookie_alone_keeps_the_shares() -> None:
    pair = retried(retry({44: b"\0\x03abc", **VERSION}))
    first, second = (parse_client_hello_untrusted(message.data[4:]) for message in pair.client.sent)
    assert second.extensions.pop(44) == b"\0\x03abc"
    assert first.extensions == second.extensions
    assert first.random == second.random


def test_a_second_retry() -> None:
    pair = retried(retry({51: b"\0\x17", **VERSION}))
    hello = ServerHello(HELLO_RETRY_REQUEST_RANDOM, b"", 0x1301, {51: b"\0\x18", **VERSION}).encode()
    expect(AlertDescription.UNEXPECTED_MESSAGE, lambda: pair.client.handshake.receive(INITIAL, hello, 0, 0.0))


def test_the_suite_and_group_of_a_retry_stay() -> None:
    pair = retried(retry({51: b"\0\x17", **VERSION}))
    session_id = parse_client_hello_untrusted(pair.client.sent[0].data[4:]).session_id
    other = Pair({"options": TlsOptions(groups=(Group.SECP256R1,))}).run()
    public = parse_server_hello_untrusted(other.server.sent[0].data[4:]).extensions[51]
    for suite, share in ((0x1302, public), (0x1301, encode_key_share(Group.X25519, b"x" * 32))):
        hello = ServerHello(b"r" * 32, session_id, suite, {51: share, **VERSION}).encode()
        expect(
            AlertDescription.ILLEGAL_PARAMETER,
            lambda hello=hello: pair.client.handshake.receive(INITIAL, hello, 0, 0.0),
        )  # type: ignore[misc]


def test_a_cookie_too_large_for_a_hello() -> None:
    with pytest.raises(ConfigurationError, match="too large"):
        retried(retry({44: encode_u16(65_500) + bytes(65_500), **VERSION}))


# --------------------------------------------------------------------------------------------- EncryptedExtensions
@pytest.mark.parametrize(
    ("extensions", "alert"),
    [
        ({99: b""}, AlertDescription.UNSUPPORTED_EXTENSION),
        ({16: b"\0\x03\x02h3"}, AlertDescription.ILLEGAL_PARAMETER),
        ({16: b"\0\x06\x02h2\x02h2"}, AlertDescription.ILLEGAL_PARAMETER),
        ({16: b"\0\0"}, AlertDescription.DECODE_ERROR),
        ({28: b"\0\x3f"}, AlertDescription.ILLEGAL_PARAMETER),
        ({28: b"\x40\x02"}, AlertDescription.ILLEGAL_PARAMETER),
        ({28: b"\x40"}, AlertDescription.DECODE_ERROR),
        ({0: b"x"}, AlertDescription.DECODE_ERROR),
        ({51: b"\0\x17"}, AlertDescription.ILLEGAL_PARAMETER),
        ({44: b"\0\x01x"}, AlertDescription.UNSUPPORTED_EXTENSION),
    ],
)
def test_wrong_encrypted_extensions(extensions: dict[int, bytes], alert: AlertDescription) -> None:
    message = block(HandshakeType.ENCRYPTED_EXTENSIONS, extensions)
    expect(alert, lambda: meddle(Pair({"alpn": ("h2",)}), HandshakeType.ENCRYPTED_EXTENSIONS, lambda data: message))


def test_alpn_that_was_not_asked_for() -> None:
    message = block(HandshakeType.ENCRYPTED_EXTENSIONS, {16: b"\0\x03\x02h2"})
    expect(
        AlertDescription.UNSUPPORTED_EXTENSION,
        lambda: meddle(Pair(), HandshakeType.ENCRYPTED_EXTENSIONS, lambda data: message),
    )


def test_groups_of_the_server_are_tolerated() -> None:
    message = block(HandshakeType.ENCRYPTED_EXTENSIONS, {10: b"\0\x02\0\x1d"})
    # The transcript differs from here on; the CertificateVerify is the first to notice.
    expect(
        AlertDescription.DECRYPT_ERROR,
        lambda: meddle(Pair(), HandshakeType.ENCRYPTED_EXTENSIONS, lambda data: message),
    )


# -------------------------------------------------------------------------------------------- the server's identity
def test_the_peer_is_asked_about_at_once() -> None:
    pair = Pair()
    pair.client.hold = (VerifyPeer,)
    pair.run()
    assert pair.client.handshake._state is ClientState.WAIT_ANSWERS
    assert not pair.client.complete
    assert [message.data[0] for message in pair.client.sent] == [1]
    assert not any(event.key.stage is Stage.APPLICATION for event in pair.client.all(KeyReady))
    (request,) = pair.client.asks
    assert (request.name, request.usage, request.chain) == ("server.example", "server", identity().chain)
    pair.client.release()
    pair.run()
    assert pair.client.complete
    pair.check_keys()


def test_a_refused_server() -> None:
    pair = Pair({"server_name": "wrong.example"})
    with pytest.raises(AuthenticationFailed) as caught:
        pair.run()
    assert caught.value.reason is Reason.CERTIFICATE_WRONG_NAME
    assert alert_for(caught.value) is AlertDescription.BAD_CERTIFICATE
    assert not pair.client.complete


@pytest.mark.parametrize(
    ("message", "alert"),
    [
        (Certificate(b"", ()).encode(), AlertDescription.DECODE_ERROR),
        (Certificate(b"c", (b"der",)).encode(), AlertDescription.ILLEGAL_PARAMETER),
        (Certificate(b"", (b"der",), ({5: b""},)).encode(), AlertDescription.UNSUPPORTED_EXTENSION),
    ],
)
def test_wrong_certificate_messages(message: bytes, alert: AlertDescription) -> None:
    expect(alert, lambda: meddle(Pair(), HandshakeType.CERTIFICATE, lambda data: message))


def test_a_certificate_that_cannot_be_read() -> None:
    pair = Pair()
    pair.client.hold = (VerifyPeer,)
    message = Certificate(b"", (b"no certificate",)).encode()
    expect(AlertDescription.BAD_CERTIFICATE, lambda: meddle(pair, HandshakeType.CERTIFICATE, lambda data: message))


def test_another_certificate_does_not_fit_the_signature() -> None:
    message = Certificate(b"", identity("other.example").chain).encode()
    pair = Pair()
    pair.client.answers[VerifyPeer] = lambda request: "whoever"
    expect(AlertDescription.DECRYPT_ERROR, lambda: meddle(pair, HandshakeType.CERTIFICATE, lambda data: message))


def verify_with(algorithm: int | None = None, signature: bytes | None = None) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        good = parse_certificate_verify_untrusted(data[4:])
        return CertificateVerify(
            good.algorithm if algorithm is None else algorithm, good.signature if signature is None else signature
        ).encode()

    return change


@pytest.mark.parametrize(
    ("change", "alert"),
    [
        (verify_with(signature=b""), AlertDescription.DECRYPT_ERROR),
        (verify_with(signature=b"x" * 70), AlertDescription.DECRYPT_ERROR),
        (verify_with(algorithm=0x0807), AlertDescription.DECRYPT_ERROR),  # Ed25519, but the key is P-256
        (verify_with(algorithm=0x0401), AlertDescription.ILLEGAL_PARAMETER),  # PKCS #1 is for certificates
        (verify_with(algorithm=0x0203), AlertDescription.ILLEGAL_PARAMETER),
        (verify_with(algorithm=0x4A4A), AlertDescription.ILLEGAL_PARAMETER),
    ],
)
def test_wrong_signatures(change: Callable[[bytes], bytes], alert: AlertDescription) -> None:
    expect(alert, lambda: meddle(Pair(), HandshakeType.CERTIFICATE_VERIFY, change))


@pytest.mark.parametrize("length", [0, 31, 32, 33])
def test_wrong_finished(length: int) -> None:
    message = encode_message(HandshakeType.FINISHED, bytes(length))
    expect(AlertDescription.DECRYPT_ERROR, lambda: meddle(Pair(), HandshakeType.FINISHED, lambda data: message))


def test_a_message_left_out() -> None:
    for kind in (HandshakeType.ENCRYPTED_EXTENSIONS, HandshakeType.CERTIFICATE, HandshakeType.CERTIFICATE_VERIFY):
        expect(AlertDescription.UNEXPECTED_MESSAGE, lambda kind=kind: meddle(Pair(), kind, lambda data: None))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("request_", "alert"),
    [
        (CertificateRequest(b"c", {13: b"\0\x02\x04\x03"}), AlertDescription.ILLEGAL_PARAMETER),
        (CertificateRequest(b"", {}), AlertDescription.MISSING_EXTENSION),
        (CertificateRequest(b"", {13: b"\0\x02\x04\x03", 51: b""}), AlertDescription.ILLEGAL_PARAMETER),
        (CertificateRequest(b"", {13: b"\0\x02\x04\x03", 43: b"\x03\x04"}), AlertDescription.ILLEGAL_PARAMETER),
        (CertificateRequest(b"", {13: b"\0\x03\x04\x03"}), AlertDescription.DECODE_ERROR),
        (CertificateRequest(b"", {13: b"\0\x02\x04\x03", 47: b"\0"}), AlertDescription.DECODE_ERROR),
        (CertificateRequest(b"", {13: b"\0\x02\x04\x03", 50: b"\0\x01\x04"}), AlertDescription.DECODE_ERROR),
    ],
)
def test_wrong_certificate_requests(request_: CertificateRequest, alert: AlertDescription) -> None:
    message = request_.encode()
    expect(alert, lambda: meddle(mutual(), HandshakeType.CERTIFICATE_REQUEST, lambda data: message))


# --------------------------------------------------------------------------------------------------------- sessions
def keys() -> TicketKeys:
    return TicketKeys(Randomness(b"tickets"), Clock())


def test_a_resumed_server_is_judged_again() -> None:
    ticket_keys = keys()
    first = Pair(server={"ticket_keys": ticket_keys}).run()
    second = Pair({"session": first.client.sessions[0]}, {"ticket_keys": ticket_keys}, seed=b"2")
    second.client.answers[VerifyPeer] = lambda request: Refused(ValueError("the anchor was removed"))
    with pytest.raises(AuthenticationFailed, match="the anchor was removed"):
        second.run()
    held = Pair({"session": first.client.sessions[0]}, {"ticket_keys": ticket_keys}, seed=b"2")
    held.client.hold = (VerifyPeer,)
    held.run()
    assert not held.client.complete
    held.client.release()
    assert held.run().client.summary["resumed"]


@pytest.mark.parametrize("seconds", [-10.0, 7200.0, 604_801.0])
def test_sessions_too_old_or_from_the_future_are_not_offered(seconds: float) -> None:
    ticket_keys = keys()
    first = Pair(server={"ticket_keys": ticket_keys}).run()
    second = Pair({"session": first.client.sessions[0]}, {"ticket_keys": ticket_keys}, seed=b"2")
    second.clock.now += seconds
    second.start()
    second.client.drain()
    assert 41 not in parse_client_hello_untrusted(second.client.sent[0].data[4:]).extensions


def test_sessions_are_for_their_name_and_hash() -> None:
    first = Pair(server={"ticket_keys": keys()}).run()
    (session, _) = first.client.sessions
    for settings in (
        {"server_name": "other.example"},
        {"options": TlsOptions(ciphersuites=(TLS_AES_256_GCM_SHA384,))},
    ):
        second = Pair({"session": session, **settings}).start()
        second.client.drain()
        assert 41 not in parse_client_hello_untrusted(second.client.sent[0].data[4:]).extensions


def test_the_age_is_obfuscated() -> None:
    first = Pair(server={"ticket_keys": keys()}).run()
    session = first.client.sessions[0]
    assert session.obfuscated_age(session.received_at + 1.5) == (session.age_add + 1500) % 2**32


@pytest.mark.parametrize(("index", "suite"), [(9, 0x1301), (1, 0x1301), (0, 0x1302)])
def test_a_server_that_selects_the_wrong_psk(index: int, suite: int) -> None:
    key = ExternalPsk(identity=b"me", key=b"k" * 32)  # imported: first for SHA-256, second for SHA-384
    pair = Pair({"psks": (key,)})

    def change(data: bytes) -> bytes:
        hello = parse_server_hello_untrusted(data[4:])
        extensions = {41: encode_u16(index), **hello.extensions}
        return hello._replace(extensions=extensions, cipher_suite=suite).encode()

    expect(AlertDescription.ILLEGAL_PARAMETER, lambda: meddle(pair, HandshakeType.SERVER_HELLO, change))


def test_a_server_that_claims_a_psk_it_does_not_have() -> None:
    pair = Pair({"psks": (ExternalPsk(identity=b"me", key=b"k" * 32),)})
    expect(
        AlertDescription.UNEXPECTED_MESSAGE,  # its Certificate, where only Finished may come
        lambda: meddle(pair, HandshakeType.SERVER_HELLO, with_extension(41, b"\0\0")),
    )


def test_a_server_that_selects_a_psk_and_sends_no_share() -> None:
    """psk_ke was not offered (RFC 8446 §4.2.11)."""
    pair = Pair({"psks": (ExternalPsk(identity=b"me", key=b"k" * 32),)})

    def change(data: bytes) -> bytes:
        return with_extension(51, None)(with_extension(41, b"\0\0")(data))

    expect(AlertDescription.ILLEGAL_PARAMETER, lambda: meddle(pair, HandshakeType.SERVER_HELLO, change))
