from __future__ import annotations

from dataclasses import replace

import pytest

from taps_security.crypto.agreement import Group
from taps_security.protocols.tls.extensions import ExtensionType
from taps_security.protocols.tls.keys import (
    TLS_AES_128_GCM_SHA256,
    TLS_AES_256_GCM_SHA384,
    TLS_CHACHA20_POLY1305_SHA256,
)
from taps_security.protocols.tls.limits import MAX_SKIPPED_EARLY_DATA
from taps_security.protocols.tls.options import ClientAuthentication, TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk, ImportedIdentity, PskPeer
from taps_security.protocols.tls.reasons import AlertDescription, Reason, alert_for
from taps_security.protocols.tls.server import ServerState
from taps_security.protocols.tls.tickets import ServerSession, TicketKeys
from taps_security.protocols.tls.wire import HandshakeType, parse_client_hello_untrusted
from taps_security.stack.asks import ChooseIdentity, FindPsk, FindSession, Refused, Sign, VerifyPeer
from taps_security.stack.errors import (
    AuthenticationFailed,
    LocalError,
    PeerIncompatible,
    PeerMisbehaved,
    RemoteError,
)
from taps_security.stack.events import Direction, HandshakeConfirmed, KeyId, KeyReady, PeerAuthenticated, Stage

from .pair import Clock, Pair, Randomness, identity

APPLICATION = KeyId(Stage.APPLICATION)


def mutual(asked: ClientAuthentication = ClientAuthentication.REQUIRE, **more: object) -> Pair:
    """A pair whose client has a certificate."""
    return Pair(server={"client_authentication": asked, **more}, client_identities=[identity("client.example")])


def ticket_keys(seed: bytes = b"tickets") -> TicketKeys:
    return TicketKeys(Randomness(seed), Clock())


# --------------------------------------------------------------------------------------------------------- selection
@pytest.mark.parametrize("suite", [TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256])
@pytest.mark.parametrize("group", list(Group))
def test_every_suite_with_every_group(suite: object, group: Group) -> None:
    options = TlsOptions(groups=(group,), ciphersuites=(suite,))  # type: ignore[arg-type]
    pair = Pair({"options": options}).run()
    pair.check_keys()
    for end in (pair.client, pair.server):
        assert end.summary["algorithms"]["ciphersuite"] == suite.name  # type: ignore[attr-defined]
        assert end.summary["algorithms"]["group"] == group.name
        assert not end.summary["hello_retry"]


@pytest.mark.parametrize("algorithm", ["p256", "p384", "p521", "ed25519", "ed448", "rsa2048"])
def test_every_kind_of_certificate(algorithm: str) -> None:
    pair = Pair(identities=[identity("server.example", algorithm)]).run()
    assert pair.client.summary["algorithms"]["peer_signature"] == pair.server.summary["algorithms"]["own_signature"]


def test_the_servers_order_counts() -> None:
    server = TlsOptions(
        ciphersuites=(TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256), groups=(Group.SECP384R1, Group.SECP256R1)
    )
    client = TlsOptions(groups=(Group.SECP256R1, Group.SECP384R1), key_shares=(Group.SECP256R1, Group.SECP384R1))
    pair = Pair({"options": client}, {"options": server}).run()
    assert pair.client.summary["algorithms"]["ciphersuite"] == "TLS_CHACHA20_POLY1305_SHA256"
    assert pair.client.summary["algorithms"]["group"] == "SECP384R1"


def test_the_hybrid_is_offered_first_with_x25519_behind_it() -> None:
    options = TlsOptions(groups=(Group.X25519MLKEM768, Group.X25519))
    assert options.key_shares == (Group.X25519MLKEM768, Group.X25519)
    assert Pair({"options": options}, {"options": options}).run().client.summary["algorithms"]["group"] == (
        "X25519MLKEM768"
    )
    plain = Pair({"options": options}, {"options": TlsOptions(groups=(Group.X25519,))}).run()
    assert plain.client.summary["algorithms"]["group"] == "X25519"
    assert not plain.client.summary["hello_retry"]


def test_alpn() -> None:
    pair = Pair({"alpn": ("h3", "h2", "http/1.1")}, {"alpn": ("http/1.1", "h2")}).run()
    assert pair.client.summary["alpn"] == pair.server.summary["alpn"] == "http/1.1"
    assert Pair({"alpn": ("h2",)}).run().client.summary["alpn"] is None
    assert Pair({}, {"alpn": ("h2",)}).run().server.summary["alpn"] is None


@pytest.mark.parametrize(
    ("client", "server", "alert"),
    [
        ({"alpn": ("a",)}, {"alpn": ("b",)}, AlertDescription.NO_APPLICATION_PROTOCOL),
        (
            {"options": TlsOptions(ciphersuites=(TLS_AES_128_GCM_SHA256,))},
            {"options": TlsOptions(ciphersuites=(TLS_AES_256_GCM_SHA384,))},
            AlertDescription.HANDSHAKE_FAILURE,
        ),
        (
            {"options": TlsOptions(groups=(Group.X25519,))},
            {"options": TlsOptions(groups=(Group.SECP256R1,))},
            AlertDescription.HANDSHAKE_FAILURE,
        ),
    ],
)
def test_nothing_in_common(client: dict[str, object], server: dict[str, object], alert: AlertDescription) -> None:
    pair = Pair(client, server)
    with pytest.raises(PeerIncompatible) as caught:
        pair.run()
    assert alert_for(caught.value) is alert


# -------------------------------------------------------------------------------------------------- HelloRetryRequest
@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("group", list(Group))
def test_hello_retry_request(group: Group, cookie: bool) -> None:
    first = Group.X25519 if group is not Group.X25519 else Group.SECP256R1
    pair = Pair(
        {"options": TlsOptions(groups=(first, group), key_shares=(first,))},
        {"options": TlsOptions(groups=(group,), retry_cookie=cookie)},
    ).run()
    pair.check_keys()
    assert [message.data[0] for message in pair.client.sent[:2]] == [1, 1]
    assert pair.client.sent[0].data != pair.client.sent[1].data
    assert pair.client.summary["hello_retry"]
    assert pair.server.summary["hello_retry"]
    assert pair.client.summary["algorithms"]["group"] == group.name


def retry_pair(**more: object) -> Pair:
    return Pair(
        {"options": TlsOptions(groups=(Group.X25519, Group.SECP256R1)), **more},
        {"options": TlsOptions(groups=(Group.SECP256R1,), retry_cookie=True)},
    )


def second_hello(pair: Pair) -> bytes:
    pair.start()
    pair.step()
    pair.client.drain()
    assert pair.server.handshake._state is ServerState.WAIT_RETRIED_HELLO
    pair.server.outbox.clear()
    (message,) = pair.client.outbox
    return message.data


def test_the_second_hello_must_be_the_first_with_what_was_asked() -> None:
    good = second_hello(pair := retry_pair(alpn=("h2",)))
    hello = parse_client_hello_untrusted(good[4:])
    first = pair.client.sent[0].data

    def changed(**fields: object) -> bytes:
        return hello._replace(**fields).encode()  # type: ignore[arg-type]

    def extended(kind: int, body: bytes | None) -> bytes:
        extensions = {key: value for key, value in hello.extensions.items() if key != kind}
        if body is not None:
            extensions[kind] = body
        return changed(extensions=extensions)

    wrong = [
        first,
        changed(random=bytes(32)),
        changed(session_id=b""),
        changed(cipher_suites=(0x1301,)),
        extended(ExtensionType.COOKIE, None),
        extended(ExtensionType.COOKIE, b"\0\x01x"),
        extended(ExtensionType.ALPN, b"\0\x03\x02h3"),
        extended(ExtensionType.SERVER_NAME, None),
        extended(ExtensionType.SIGNATURE_ALGORITHMS_CERT, b"\0\x02\x04\x03"),
        extended(ExtensionType.CERTIFICATE_AUTHORITIES, b"\0\x03\0\x01a"),
        extended(ExtensionType.EARLY_DATA, b""),
        extended(ExtensionType.KEY_SHARE, b"\0\0"),
    ]
    for message in wrong:
        with pytest.raises(PeerMisbehaved) as caught:
            pair.server.handshake.receive(KeyId(Stage.INITIAL), message, 0, 0.0)
        assert caught.value.reason is Reason.ILLEGAL_PARAMETER
    pair.run()
    pair.check_keys()


# ------------------------------------------------------------------------------------------------ our own credentials
def test_the_identity_is_asked_for_with_what_the_client_said() -> None:
    pair = Pair().run()
    choose, sign = (request for request in pair.server.asks if isinstance(request, ChooseIdentity | Sign))
    assert choose.server_name == "server.example"
    assert 0x0403 in choose.algorithms
    assert sign.identity is identity()
    assert sign.algorithm == 0x0403
    assert sign.data.startswith(b" " * 64 + b"TLS 1.3, server CertificateVerify\0")


def test_no_identity_for_the_name() -> None:
    with pytest.raises(PeerIncompatible) as caught:
        Pair(identities=[]).run()
    assert alert_for(caught.value) is AlertDescription.UNRECOGNIZED_NAME
    with pytest.raises(PeerIncompatible) as caught:
        Pair({"server_name": "192.0.2.1"}, identities=[]).run()
    assert alert_for(caught.value) is AlertDescription.HANDSHAKE_FAILURE


def test_an_identity_that_cannot_sign_for_the_client() -> None:
    pair = Pair({"options": TlsOptions(signature_algorithms=("ed25519",))})  # type: ignore[arg-type]
    pair.server.answers[ChooseIdentity] = lambda request: identity()
    with pytest.raises(PeerIncompatible) as caught:
        pair.run()
    assert caught.value.reason is Reason.NO_COMMON_SIGNATURE_ALGORITHM


@pytest.mark.parametrize("octets", [None, b"", bytearray(b"signature"), b"s" * 65_536])
def test_a_signer_that_answers_with_something_else(octets: object) -> None:
    pair = Pair()
    pair.server.answers[Sign] = lambda request: octets
    with pytest.raises(LocalError, match="the server's key signed with"):
        pair.run()
    pair = mutual()
    pair.client.answers[Sign] = lambda request: octets
    with pytest.raises(LocalError, match="the client's key signed with"):
        pair.run()


@pytest.mark.parametrize("kind", [ChooseIdentity, Sign])
def test_credentials_that_fail(kind: type) -> None:
    pair = Pair()
    pair.server.answers[kind] = lambda request: Refused(ValueError("the HSM is gone"))
    with pytest.raises(LocalError, match="the HSM is gone") as caught:
        pair.run()
    assert alert_for(caught.value) is AlertDescription.INTERNAL_ERROR


def test_a_slow_signature() -> None:
    pair = Pair()
    pair.server.hold = (Sign,)
    pair.run()
    assert not pair.client.complete
    assert pair.server.handshake._state is ServerState.WAIT_ANSWERS
    pair.server.release()
    pair.run()
    assert pair.client.complete
    pair.check_keys()


# ----------------------------------------------------------------------------------------------- client certificates
@pytest.mark.parametrize("asked", [ClientAuthentication.REQUEST, ClientAuthentication.REQUIRE])
def test_mutual_authentication(asked: ClientAuthentication) -> None:
    pair = mutual(asked, authorities=(b"0\x00",)).run()
    pair.check_keys()
    assert "client.example" in pair.server.peer.subject
    assert pair.client.summary["algorithms"]["own_signature"] == pair.server.summary["algorithms"]["peer_signature"]
    (choose,) = (request for request in pair.client.asks if isinstance(request, ChooseIdentity))
    assert choose.authorities == (b"0\x00",)
    (verify,) = (request for request in pair.server.asks if isinstance(request, VerifyPeer))
    assert (verify.name, verify.usage) == ("", "client")
    assert pair.server.all(HandshakeConfirmed)


def test_a_client_without_a_certificate() -> None:
    pair = Pair(server={"client_authentication": ClientAuthentication.REQUEST}).run()
    assert pair.server.complete
    assert not pair.server.all(PeerAuthenticated)
    with pytest.raises(PeerMisbehaved) as caught:
        Pair(server={"client_authentication": ClientAuthentication.REQUIRE}).run()
    assert alert_for(caught.value) is AlertDescription.CERTIFICATE_REQUIRED


def test_no_application_key_before_the_client_is_verified() -> None:
    pair = mutual()
    pair.server.hold = (VerifyPeer,)
    pair.run()
    assert pair.client.complete
    assert pair.server.handshake._state is ServerState.WAIT_VERIFIED
    assert not pair.server.complete
    assert (APPLICATION, Direction.RECEIVE) not in pair.server.alive
    pair.server.release()
    pair.run()
    assert pair.server.complete
    pair.check_keys()


def test_a_client_that_is_refused() -> None:
    pair = mutual()
    pair.server.answers[VerifyPeer] = lambda request: Refused(ValueError("unknown person"))
    with pytest.raises(AuthenticationFailed, match="unknown person") as caught:
        pair.run()
    assert alert_for(caught.value) is AlertDescription.CERTIFICATE_UNKNOWN
    assert not pair.server.complete


# -------------------------------------------------------------------------------------------------- sessions, tickets
def resume(first: Pair, server: dict[str, object], client: dict[str, object] | None = None, **more: object) -> Pair:
    """A second pair whose client has the first session of the first pair."""
    pair = Pair({"session": first.client.sessions[0], **(client or {})}, server, seed=b"second", **more)  # type: ignore[arg-type]
    pair.clock.now = first.clock.now + 5
    return pair


@pytest.mark.parametrize("suite", [TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384])
def test_resumption_with_stateless_tickets(suite: object) -> None:
    settings = {"ticket_keys": ticket_keys(), "options": TlsOptions(ciphersuites=(suite,))}  # type: ignore[arg-type]
    first = Pair(server=settings).run()
    assert len(first.client.sessions) == 2
    second = resume(first, settings).run()
    second.check_keys()
    for end in (second.client, second.server):
        assert end.summary["resumed"]
        assert end.summary["psk"] == "resumption"
    assert [message.data[0] for message in second.server.sent[:3]] == [2, 8, 20]
    assert second.client.peer.subject == first.client.peer.subject
    assert len(second.client.sessions) == 1
    third = resume(second, settings)
    third.clock.now = second.clock.now + 5
    assert third.run().client.summary["resumed"]


def test_resumption_with_stateful_sessions() -> None:
    settings = {"stateful_sessions": True}
    first = Pair(server=settings).run()
    store = {session.ticket: session for session in first.server.sessions}
    assert len(store) == 2
    second = resume(first, settings)
    second.server.answers[FindSession] = lambda request: store.pop(request.ticket, None)
    second.run()
    assert second.server.summary["resumed"]
    third = resume(first, settings)
    third.server.answers[FindSession] = lambda request: store.pop(request.ticket, None)
    assert not third.run().server.summary["resumed"]  # the ticket was used up


@pytest.mark.parametrize("change", ["other keys", "too old", "garbage", "other hash"])
def test_tickets_that_do_not_count_give_a_full_handshake(change: str) -> None:
    keys = ticket_keys()
    first = Pair(server={"ticket_keys": keys}).run()
    settings: dict[str, object] = {"ticket_keys": keys}
    if change == "other keys":
        settings["ticket_keys"] = ticket_keys(b"others")
    elif change == "other hash":
        settings["options"] = TlsOptions(ciphersuites=(TLS_AES_256_GCM_SHA384,))
    elif change == "too old":
        settings["wall_clock"] = Clock(first.clock.now + 7200)
    session = first.client.sessions[0]
    if change == "garbage":
        session = replace(session, ticket=session.ticket[:-1] + bytes((session.ticket[-1] ^ 1,)))
    second = resume(first, settings, {"session": session}).run()
    assert not second.client.summary["resumed"]
    assert second.client.complete


def test_resumption_behind_a_hello_retry_request() -> None:
    keys = ticket_keys()
    first = Pair(server={"ticket_keys": keys}).run()
    server = {"ticket_keys": keys, "options": TlsOptions(groups=(Group.SECP256R1,))}
    second = resume(first, server, {"options": TlsOptions(groups=(Group.X25519, Group.SECP256R1))}).run()
    assert second.client.summary["resumed"]
    assert second.client.summary["hello_retry"]
    second.check_keys()


def test_a_resumed_client_is_verified_again() -> None:
    settings = {"ticket_keys": ticket_keys(), "client_authentication": ClientAuthentication.REQUIRE}
    first = Pair(server=settings, client_identities=[identity("client.example")]).run()
    second = resume(first, settings).run()
    assert second.server.summary["resumed"]
    assert "client.example" in second.server.peer.subject
    refused = resume(first, settings, client_identities=[identity("client.example")])
    answers = iter([Refused(ValueError("no longer trusted")), "trusted again"])
    refused.server.answers[VerifyPeer] = lambda request: next(answers)
    refused.run()
    assert not refused.server.summary["resumed"]
    assert refused.server.peer == "trusted again"


def test_a_session_without_a_client_does_not_pass_where_one_is_required() -> None:
    keys = ticket_keys()
    first = Pair(server={"ticket_keys": keys}).run()
    second = resume(
        first,
        {"ticket_keys": keys, "client_authentication": ClientAuthentication.REQUIRE},
        client_identities=[identity("client.example")],
    ).run()
    assert not second.server.summary["resumed"]
    assert second.server.peer


def test_a_session_is_for_its_name() -> None:
    keys = ticket_keys()
    first = Pair(server={"ticket_keys": keys}).run()
    stolen = first.client.sessions[0]
    other = Pair(
        {"server_name": "other.example", "session": replace(stolen, server_name="other.example")},
        {"ticket_keys": keys},
        identities=[identity("other.example")],
    )
    other.client.answers[VerifyPeer] = lambda request: "whoever"
    assert not other.run().server.summary["resumed"]


def test_a_chain_of_resumptions_ends_after_seven_days() -> None:
    clock = Clock()
    session = ServerSession(
        b"p" * 32, TLS_AES_128_GCM_SHA256, clock.now, 7200, 1, clock.now - 604_800, "server.example", None
    )
    assert not session.usable("server.example", clock.now)


# ------------------------------------------------------------------------------------------------ external pre-shared
def psk_pair(client: ExternalPsk, server: dict[bytes, ExternalPsk], **more: object) -> Pair:
    pair = Pair({"psks": (client,)}, {"external_psks": True, "certificates": False, **more})
    pair.server.answers[FindPsk] = lambda request: server.get(request.identity)
    return pair


def resume_keyed(first: Pair, *keys: ExternalPsk) -> Pair:
    """The client of `first` again, with its session and `keys`, at a server that knows the keys and has the tickets."""
    there = first.server.handshake._configuration  # type: ignore[attr-defined]
    server = {"ticket_keys": there.ticket_keys, "external_psks": True, "certificates": False}
    pair = resume(first, server, {"psks": keys})
    pair.server.answers[FindPsk] = lambda request: next((key for key in keys if key.identity == request.identity), None)
    return pair


@pytest.mark.parametrize("suite", [TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256])
@pytest.mark.parametrize("imported", [False, True])
def test_external_keys(imported: bool, suite: object) -> None:
    key = ExternalPsk(identity=b"me", key=b"k" * 32, imported=imported, hash=suite.hash)  # type: ignore[attr-defined]
    options = TlsOptions(ciphersuites=(suite,))  # type: ignore[arg-type]
    pair = psk_pair(key, {b"me": key}, options=options, ticket_keys=ticket_keys()).run()
    pair.check_keys()
    for end in (pair.client, pair.server):
        assert end.summary["psk"] == ("imported" if imported else "external")
        assert end.peer == PskPeer(b"me")
        assert not end.summary["resumed"]
    second = resume_keyed(pair, key).run()
    assert second.client.summary["resumed"]
    assert second.client.peer == second.server.peer == PskPeer(b"me")
    for end in (second.client, second.server):
        assert end.summary["provides"] == {"mutual_authentication": True, "pre_shared_key": True}


def test_a_session_of_a_key_that_was_withdrawn_is_not_resumed() -> None:
    key, newer = (ExternalPsk(identity=name, key=b"k" * 32) for name in (b"me", b"newer"))
    first = psk_pair(key, {b"me": key}, ticket_keys=ticket_keys()).run()
    withdrawn = resume_keyed(first, key, newer)
    withdrawn.server.answers[FindPsk] = lambda request: newer if request.identity == b"newer" else None
    assert not withdrawn.run().server.summary["resumed"]
    assert withdrawn.server.peer == PskPeer(b"newer")
    forgotten = resume_keyed(first, newer)
    forgotten.server.answers[FindPsk] = lambda request: newer if request.identity == b"newer" else None
    assert not forgotten.run().client.summary["resumed"]
    assert not any(isinstance(request, FindPsk) and request.identity == b"me" for request in forgotten.server.asks)


@pytest.mark.parametrize("there", [{"external_psks": True, "certificates": False}, {"external_psks": False}])
def test_listeners_that_share_a_store_resume_only_what_they_would_allow(there: dict[str, object]) -> None:
    """A session of a client with a key does not open a listener for certificates, nor the other way round."""
    key = ExternalPsk(identity=b"me", key=b"k" * 32)
    keys = ticket_keys()
    with_key = there.get("external_psks")
    first = (Pair(server={"ticket_keys": keys}) if with_key else psk_pair(key, {b"me": key}, ticket_keys=keys)).run()
    second = resume(first, {"ticket_keys": keys, **there}, {"psks": (key,)})
    second.server.answers[FindPsk] = lambda request: key
    second.run()
    assert not second.server.summary["resumed"]
    assert second.server.summary["psk"] == ("imported" if with_key else None)


def test_a_key_that_nobody_knows() -> None:
    key = ExternalPsk(identity=b"me", key=b"k" * 32)
    with pytest.raises(PeerIncompatible) as caught:
        psk_pair(key, {}).run()
    assert alert_for(caught.value) is AlertDescription.UNKNOWN_PSK_IDENTITY
    fallen_back = psk_pair(key, {}, certificates=True).run()
    assert fallen_back.client.summary["psk"] is None


def test_the_wrong_key() -> None:
    with pytest.raises(PeerMisbehaved) as caught:
        psk_pair(ExternalPsk(identity=b"me", key=b"k" * 32), {b"me": ExternalPsk(identity=b"me", key=b"K" * 32)}).run()
    assert alert_for(caught.value) is AlertDescription.DECRYPT_ERROR


@pytest.mark.parametrize("imported", [False, True])
def test_imported_and_plain_keys_do_not_mix(imported: bool) -> None:
    with pytest.raises(RemoteError) as caught:
        psk_pair(
            ExternalPsk(identity=b"me", key=b"k" * 32, imported=imported),
            {b"me": ExternalPsk(identity=b"me", key=b"k" * 32, imported=not imported)},
        ).run()
    assert caught.value.reason is Reason.UNKNOWN_PSK_IDENTITY


def test_an_external_identity_that_looks_imported() -> None:
    name = ImportedIdentity(b"inner", b"", 0x0304, 1).encode()
    key = ExternalPsk(identity=name, key=b"k" * 32, imported=False)
    pair = psk_pair(key, {name: key}).run()
    assert pair.server.peer == PskPeer(name)
    asked = [request.identity for request in pair.server.asks if isinstance(request, FindPsk)]
    assert asked == [b"inner", name]


def test_a_slow_look_up() -> None:
    key = ExternalPsk(identity=b"me", key=b"k" * 32)
    pair = psk_pair(key, {b"me": key})
    pair.server.hold = (FindPsk,)
    pair.run()
    assert not pair.server.sent
    pair.server.release()
    pair.run()
    assert pair.server.complete


def test_only_the_first_identities_are_looked_at() -> None:
    keys = tuple(ExternalPsk(identity=b"%d" % number, key=b"k" * 32, imported=False) for number in range(20))
    pair = Pair({"psks": keys}, {"external_psks": True})
    pair.run()
    assert sum(isinstance(request, FindPsk) for request in pair.server.asks) == 8
    assert pair.server.summary["psk"] is None


# --------------------------------------------------------------------------------------------------- foreign clients
def test_early_data_of_foreign_clients_is_refused_quietly() -> None:
    pair = Pair({"extensions": ((42, b""),)})
    pair.start()
    pair.step()
    assert pair.server.handshake.skip_early_data == MAX_SKIPPED_EARLY_DATA
    (receive,) = (event for event in pair.server.all(KeyReady) if event.direction is Direction.RECEIVE)
    assert receive.secret.skippable_early_data == MAX_SKIPPED_EARLY_DATA
    assert all(42 not in (message.data[0],) for message in pair.server.sent)
    pair.run()
    assert pair.server.complete
    assert pair.server.handshake.skip_early_data == 0


def test_grease_is_tolerated() -> None:
    pair = Pair({"extensions": ((0x0A0A, b""), (0x1A1A, b"\0"))})
    pair.start()
    pair.client.drain()
    (message,) = pair.client.outbox
    hello = parse_client_hello_untrusted(message.data[4:])
    extensions = dict(hello.extensions)
    extensions[10] = b"\0\x06\x2a\x2a\x00\x1d\x00\x17"
    extensions[43] = b"\x04\x3a\x3a\x03\x04"
    extensions[51] = (len(extensions[51]) + 3).to_bytes(2, "big") + b"\x2a\x2a\0\x01\0" + extensions[51][2:]
    extensions[13] = b"\0\x04\x4a\x4a\x04\x03"
    extensions[45] = b"\x02\x0b\x01"
    greased = hello._replace(cipher_suites=(0x0A0A, *hello.cipher_suites), extensions=extensions)
    pair.server.handshake.receive(KeyId(Stage.INITIAL), greased.encode(), 0, 0.0)
    pair.server.drain()
    assert [message.data[0] for message in pair.server.sent][:2] == [2, HandshakeType.ENCRYPTED_EXTENSIONS]


def test_a_chain_of_64_kib() -> None:
    ours = identity()
    large = ours.__class__(
        (*ours.chain, *(bytes((48,)) * 16_384 for _ in range(4))), b"", ours.schemes, ours.private_key
    )
    pair = Pair(identities=[large])
    pair.client.answers[VerifyPeer] = lambda request: "the server"
    pair.run()
    assert pair.client.complete
    assert max(len(message.data) for message in pair.server.sent) > 65_536
