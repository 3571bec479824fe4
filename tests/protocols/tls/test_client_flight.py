"""What a client says once it knows the server, what it requires of the outcome, and what it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taps_security.protocols.tls.keys import TLS_AES_128_GCM_SHA256
from taps_security.protocols.tls.options import ClientAuthentication, TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk
from taps_security.protocols.tls.reasons import AlertDescription, Reason, alert_for
from taps_security.protocols.tls.tickets import Session
from taps_security.protocols.tls.wire import CertificateRequest, HandshakeType, NewSessionTicket
from taps_security.stack.asks import ChooseIdentity, FindPsk, Refused, Sign, VerifyPeer
from taps_security.stack.errors import LocalError, PeerIncompatible
from taps_security.stack.events import Direction, HandshakeComplete, KeyId, KeyReady, PeerAuthenticated, Stage

from .pair import Pair, identity
from .test_client import expect
from .test_server import mutual, psk_pair, resume, ticket_keys

APPLICATION = KeyId(Stage.APPLICATION)
KEY = ExternalPsk(identity=b"me", key=b"k" * 32)


# ---------------------------------------------------------------------------------------------- our own certificate
def test_our_identity_is_shown_to_verified_servers_only() -> None:
    pair = mutual()
    pair.client.hold = (VerifyPeer,)
    pair.run()
    assert [type(request) for request in pair.client.asks] == [VerifyPeer]
    pair.client.release()
    pair.run()
    assert [type(request) for request in pair.client.asks] == [VerifyPeer, ChooseIdentity, Sign]
    assert pair.server.complete


def test_no_identity_that_can_sign_for_the_server() -> None:
    from taps_security.protocols.tls.options import ClientAuthentication

    pair = mutual(
        ClientAuthentication.REQUEST, options=TlsOptions(signature_algorithms=("ed25519", "ecdsa_secp256r1_sha256"))
    )  # type: ignore[arg-type]
    pair.client.answers[ChooseIdentity] = lambda request: identity("client.example", "rsa2048")
    pair.run()
    assert pair.server.complete
    assert "own_signature" not in pair.client.summary["algorithms"]


@pytest.mark.parametrize("kind", [ChooseIdentity, Sign])
def test_credentials_that_fail(kind: type) -> None:
    pair = mutual()
    pair.client.answers[kind] = lambda request: Refused(ValueError("the token was pulled out"))
    with pytest.raises(LocalError, match="pulled out"):
        pair.run()


# --------------------------------------------------------------------------- what must hold holds in the outcome
def unmet(pair: Pair, reason: Reason) -> PeerIncompatible:
    """Running the pair ends at the client with `reason`, before its Finished."""
    with pytest.raises(PeerIncompatible) as caught:
        pair.run()
    assert caught.value.reason is reason
    assert alert_for(caught.value) is AlertDescription.HANDSHAKE_FAILURE
    assert not pair.client.complete
    assert not any(message.data[0] == HandshakeType.FINISHED for message in pair.client.sent)
    return caught.value


def test_required_mutual_authentication_wants_a_server_that_asks() -> None:
    required = {"require_mutual_authentication": True}
    ours = [identity("client.example")]
    error = unmet(Pair(required, client_identities=ours), Reason.NO_MUTUAL_AUTHENTICATION)
    assert "the server asked for no certificate, and mutual_authentication is required" in str(error)
    asked = {"client_authentication": ClientAuthentication.REQUEST}
    error = unmet(Pair(required, asked), Reason.NO_MUTUAL_AUTHENTICATION)
    assert "no identity that can sign for the server" in str(error)
    pair = Pair(required, asked, client_identities=ours).run()
    assert pair.client.summary["provides"] == {"mutual_authentication": True, "pre_shared_key": False}
    assert pair.server.summary["provides"] == {"mutual_authentication": True, "pre_shared_key": False}
    assert not Pair().run().client.summary["provides"]["mutual_authentication"]


def test_a_pre_shared_key_authenticates_both() -> None:
    pair = psk_pair(KEY, {b"me": KEY})
    pair.client.handshake._configuration = replace(  # type: ignore[attr-defined]
        pair.client.handshake._configuration,  # type: ignore[attr-defined]
        require_mutual_authentication=True,
        require_pre_shared_key=True,
    )
    assert pair.run().client.summary["provides"] == {"mutual_authentication": True, "pre_shared_key": True}


def test_a_required_pre_shared_key_wants_a_server_that_takes_it() -> None:
    pair = Pair({"psks": (KEY,), "require_pre_shared_key": True}, {"external_psks": True})
    pair.server.answers[FindPsk] = lambda request: None
    unmet(pair, Reason.NO_PRE_SHARED_KEY)
    assert not any(isinstance(request, VerifyPeer) for request in pair.client.asks)


def test_a_session_counts_as_the_handshake_that_it_comes_from() -> None:
    keys = ticket_keys()
    required: dict[str, object] = {"require_mutual_authentication": True}
    first = mutual(ClientAuthentication.REQUEST, ticket_keys=keys).run()
    there = {"ticket_keys": keys, "client_authentication": ClientAuthentication.REQUEST}
    second = resume(first, there, required).run()
    assert second.client.summary["resumed"]
    assert second.client.summary["provides"]["mutual_authentication"]
    assert second.client.sessions[0].mutual
    anonymous = Pair(server={"ticket_keys": keys}).run()
    assert not anonymous.client.sessions[0].mutual
    third = resume(anonymous, there, required, client_identities=[identity("client.example")]).run()
    assert not third.client.summary["resumed"]
    assert third.client.summary["provides"]["mutual_authentication"]


def test_sessions_of_sessions_end_seven_days_after_the_server_proved_itself() -> None:
    keys = ticket_keys()
    first = Pair(server={"ticket_keys": keys}).run()
    second = resume(first, {"ticket_keys": keys}).run()
    (session,) = second.client.sessions
    assert session.received_at == second.clock.now
    assert session.authenticated_at == first.clock.now
    late = replace(session, received_at=first.clock.now + 604_799)
    assert late.usable("server.example", first.clock.now + 604_799.5)
    assert not late.usable("server.example", first.clock.now + 604_800)
    assert not replace(session, peer_chain=()).usable("server.example", second.clock.now)  # nobody was authenticated


def connected() -> Pair:
    return Pair().run()


def ticket(lifetime: int = 60, nonce: bytes = b"") -> bytes:
    return NewSessionTicket(lifetime, 1, nonce, b"ticket" + nonce, {0x0A0A: b"grease"}).encode()


def test_tickets_that_are_not_kept() -> None:
    pair = connected()
    pair.client.handshake.receive(APPLICATION, ticket(0), 0, 0.0)
    pair.client.drain()
    assert not pair.client.sessions
    for number in range(40):
        pair.client.handshake.receive(APPLICATION, ticket(nonce=bytes((number,))), 0, 0.0)
        pair.client.drain()
    assert len(pair.client.sessions) == 16
    assert len({session.psk for session in pair.client.sessions}) == 16


def test_what_is_kept_of_a_ticket() -> None:
    pair = connected()
    pair.client.handshake.receive(APPLICATION, ticket(), 0, 0.0)
    pair.client.drain()
    (session,) = pair.client.sessions
    assert isinstance(session, Session)
    assert session.suite is TLS_AES_128_GCM_SHA256
    assert session.peer_chain == identity().chain
    assert session.received_at == pair.clock.now


@pytest.mark.parametrize("kind", [0, 41, 43, 51])
def test_tickets_with_extensions_that_belong_elsewhere(kind: int) -> None:
    message = NewSessionTicket(60, 1, b"", b"ticket", {kind: b""}).encode()
    pair = connected()
    expect(AlertDescription.ILLEGAL_PARAMETER, lambda: pair.client.handshake.receive(APPLICATION, message, 0, 0.0))


def test_secrets_of_later_sessions_are_in_no_repr() -> None:
    resumption = connected().client.handshake._resumption  # type: ignore[attr-defined]
    assert resumption.secret
    assert "secret" not in repr(resumption)


# ------------------------------------------------------------------------------------------- after the handshake
def test_post_handshake_authentication_was_not_offered() -> None:
    pair = connected()
    message = CertificateRequest(b"c", {13: b"\0\x02\x04\x03"}).encode()
    expect(AlertDescription.UNEXPECTED_MESSAGE, lambda: pair.client.handshake.receive(APPLICATION, message, 0, 0.0))


def test_keys_stand_before_what_needs_them() -> None:
    """The order of one door, from ServerHello to the end."""
    pair = Pair().run()
    keys = [(event.key.stage, event.direction) for event in pair.client.events if isinstance(event, KeyReady)]
    assert keys == [
        (Stage.HANDSHAKE, Direction.RECEIVE),
        (Stage.HANDSHAKE, Direction.SEND),
        (Stage.APPLICATION, Direction.SEND),
        (Stage.APPLICATION, Direction.RECEIVE),
    ]
    assert isinstance(pair.client.events[-1], HandshakeComplete)
    assert isinstance(pair.client.events[-2], PeerAuthenticated)
