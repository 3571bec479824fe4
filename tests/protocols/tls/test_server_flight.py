"""What a server says, in its order, under its keys."""

from __future__ import annotations

import pytest

from taps_security.protocols.tls.options import ClientAuthentication, TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk
from taps_security.protocols.tls.wire import HandshakeType, parse_new_session_ticket
from taps_security.stack.asks import FindPsk, VerifyPeer
from taps_security.stack.events import Direction, KeyDiscarded, KeyId, KeyReady, Stage

from .pair import Pair, identity
from .test_server import mutual, ticket_keys

HANDSHAKE, APPLICATION = KeyId(Stage.HANDSHAKE), KeyId(Stage.APPLICATION)


def kinds(pair: Pair) -> list[tuple[HandshakeType, Stage]]:
    return [(HandshakeType(message.data[0]), message.key.stage) for message in pair.server.sent]


def test_messages_stand_in_the_order_of_the_specification_under_their_keys() -> None:
    of = HandshakeType
    certified = [
        (of.SERVER_HELLO, Stage.INITIAL),
        (of.ENCRYPTED_EXTENSIONS, Stage.HANDSHAKE),
        (of.CERTIFICATE_REQUEST, Stage.HANDSHAKE),
        (of.CERTIFICATE, Stage.HANDSHAKE),
        (of.CERTIFICATE_VERIFY, Stage.HANDSHAKE),
        (of.FINISHED, Stage.HANDSHAKE),
        (of.NEW_SESSION_TICKET, Stage.APPLICATION),
        (of.NEW_SESSION_TICKET, Stage.APPLICATION),
    ]
    assert kinds(mutual(ticket_keys=ticket_keys()).run()) == certified
    assert kinds(Pair().run()) == [*certified[:2], *certified[3:6]]


def test_no_certificate_is_asked_for_behind_a_pre_shared_key() -> None:
    """RFC 8446 §4.3.2."""
    key = ExternalPsk(identity=b"me", key=b"k" * 32)
    pair = Pair({"psks": (key,)}, {"external_psks": True, "client_authentication": ClientAuthentication.REQUIRE})
    pair.server.answers[FindPsk] = lambda request: key
    assert [kind for kind, _ in kinds(pair.run())] == [
        HandshakeType.SERVER_HELLO,
        HandshakeType.ENCRYPTED_EXTENSIONS,
        HandshakeType.FINISHED,
    ]


def test_our_application_key_is_ready_behind_finished_and_the_clients_when_it_is_known() -> None:
    pair = mutual()
    pair.server.hold = (VerifyPeer,)
    pair.run()
    assert pair.server.alive == {(APPLICATION, Direction.SEND), (HANDSHAKE, Direction.RECEIVE)}
    pair.server.release()
    pair.run()
    assert pair.server.alive == {(APPLICATION, Direction.SEND), (APPLICATION, Direction.RECEIVE)}
    order = [type(event) for event in pair.server.events if isinstance(event, KeyReady | KeyDiscarded)]
    assert order == [KeyReady, KeyReady, KeyDiscarded, KeyReady, KeyDiscarded, KeyReady]


def test_each_ticket_has_an_age_and_a_nonce_of_its_own() -> None:
    """RFC 8446 §4.6.1."""
    pair = Pair(server={"ticket_keys": ticket_keys(), "options": TlsOptions(tickets=4)}).run()
    tickets = [parse_new_session_ticket(message.data[4:]) for message in pair.server.sent[-4:]]
    assert len({ticket.age_add for ticket in tickets}) == len({ticket.nonce for ticket in tickets}) == 4
    assert {ticket.lifetime for ticket in tickets} == {7200}


def test_record_size_limits_go_both_ways() -> None:
    pair = Pair({"options": TlsOptions(record_size_limit=600)}, {"options": TlsOptions(record_size_limit=1000)}).run()
    assert pair.client.summary["record_size_limit"] == (1000, 600)
    assert pair.server.summary["record_size_limit"] == (600, 1000)
    limits = {(event.key.stage, event.direction): event.secret.record_size_limit for event in pair.client.all(KeyReady)}
    assert limits[Stage.HANDSHAKE, Direction.SEND] == 1000
    assert limits[Stage.APPLICATION, Direction.RECEIVE] == 600
    without = Pair({"options": TlsOptions(record_size_limit=600), "extensions": ((28, None),)}).run()
    assert without.server.summary["record_size_limit"] == (16385, 16385)


@pytest.mark.parametrize("tickets", [0, 1, 4])
def test_the_number_of_tickets(tickets: int) -> None:
    pair = Pair(server={"ticket_keys": ticket_keys(), "options": TlsOptions(tickets=tickets)}).run()
    assert len(pair.client.sessions) == tickets
    assert len({session.ticket for session in pair.client.sessions}) == tickets
    assert len({session.psk for session in pair.client.sessions}) == tickets


def test_no_tickets_for_clients_that_cannot_use_them() -> None:
    assert not Pair({"extensions": ((45, None),)}, {"ticket_keys": ticket_keys()}).run().client.sessions
    assert not Pair().run().client.sessions


def test_sessions_too_large_for_a_ticket() -> None:
    pair = mutual(ticket_keys=ticket_keys())
    chain = (identity("client.example").chain[0], b"x" * 40_000)
    pair.client.identities = [
        identity("client.example").__class__(
            chain, b"", identity("client.example").schemes, identity("client.example").private_key
        )
    ]
    pair.server.answers[VerifyPeer] = lambda request: "somebody"
    pair.run()
    assert pair.server.complete
    assert not pair.client.sessions


def test_what_a_borrower_sends_in_extensions() -> None:
    pair = Pair({"extensions": ((57, b"client parameters"),)}, {"extensions": ((57, b"server parameters"),)}).run()
    assert pair.client.handshake.peer_extensions == {57: b"server parameters"}
    assert pair.server.handshake.peer_extensions == {57: b"client parameters"}
    assert Pair({}, {"extensions": ((57, b"server parameters"),)}).run().server.handshake.peer_extensions == {}
