"""What both roles share, on a client and a server in memory: keys, KeyUpdate, exporter, laws of the state machine."""

from __future__ import annotations

import random

import pytest

from taps_security.protocols.tls.client import ClientHandshake, ClientState
from taps_security.protocols.tls.handshake import TlsHandshake
from taps_security.protocols.tls.keys import TLS_CHACHA20_POLY1305_SHA256
from taps_security.protocols.tls.options import TlsOptions
from taps_security.protocols.tls.reasons import AlertDescription, Reason, alert_for
from taps_security.protocols.tls.server import ServerHandshake, ServerState
from taps_security.protocols.tls.wire import HandshakeType, encode_message
from taps_security.stack.errors import LocalError, PeerMisbehaved, RemoteError
from taps_security.stack.events import (
    Direction,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    LimitKind,
    Stage,
)
from taps_security.stack.layers import HandshakeMessage

from .pair import FACTS, Endpoint, Pair
from .test_server import mutual

APPLICATION = KeyId(Stage.APPLICATION)


def generation(end: Endpoint, direction: Direction) -> int:
    return max(key.generation for key, way in end.keys if way is direction and key.stage is Stage.APPLICATION)


def test_both_ends_have_the_same_keys_and_log_them() -> None:
    pair = Pair().run()
    pair.check_keys()
    lines = [line.split(" ") for line in pair.log]
    assert [label for label, _, _ in lines] == [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    ]
    assert {random for _, random, _ in lines} == {pair.client.sent[0].data[6:38].hex()}
    logged = {label: secret for label, _, secret in lines}
    secret = bytes.fromhex(logged["CLIENT_TRAFFIC_SECRET_0"])
    assert secret == pair.client.keys[APPLICATION, Direction.SEND]


def test_a_key_log_that_fails_is_our_own_error() -> None:
    def full(line: str) -> None:
        raise OSError("no space left on device")

    with pytest.raises(LocalError, match="the key log failed: no space left") as caught:
        Pair({"key_log": full}).run()
    assert alert_for(caught.value) is AlertDescription.INTERNAL_ERROR


def test_old_keys_are_discarded() -> None:
    pair = Pair().run()
    for end in (pair.client, pair.server):
        assert end.alive == {(APPLICATION, Direction.SEND), (APPLICATION, Direction.RECEIVE)}


# ------------------------------------------------------------------------------------------------------ key updates
@pytest.mark.parametrize("initiator", ["client", "server"])
def test_update_keys_renews_both_directions(initiator: str) -> None:
    pair = Pair().run()
    end: Endpoint = getattr(pair, initiator)
    for count in (1, 2, 3):
        end.handshake.update_keys(0.0)
        pair.run()
        for one in (pair.client, pair.server):
            assert generation(one, Direction.SEND) == generation(one, Direction.RECEIVE) == count
            assert len(one.alive) == 2
    pair.check_keys()


def test_the_new_key_stands_behind_its_message() -> None:
    pair = Pair().run()
    pair.client.handshake.update_keys(0.0)
    outputs = [pair.client.handshake.next_output() for _ in range(3)]
    message, ready, discarded = outputs
    assert isinstance(message, HandshakeMessage)
    assert message.key == APPLICATION
    assert message.data == encode_message(HandshakeType.KEY_UPDATE, b"\x01")
    assert isinstance(ready, KeyReady)
    assert ready.key == KeyId(Stage.APPLICATION, 1)
    assert discarded == KeyDiscarded(APPLICATION, Direction.SEND)
    assert pair.client.handshake.next_output() is None


def test_a_second_update_does_not_ask_again_before_the_answer() -> None:
    pair = Pair().run()
    pair.client.handshake.update_keys(0.0)
    pair.client.handshake.update_keys(0.0)
    pair.client.drain()
    assert [message.data[4] for message in pair.client.outbox] == [1, 0]
    pair.run()
    pair.check_keys()
    assert generation(pair.client, Direction.SEND) == 2
    assert generation(pair.client, Direction.RECEIVE) == 1


def test_updates_that_cross_each_other() -> None:
    pair = Pair().run()
    pair.client.handshake.update_keys(0.0)
    pair.server.handshake.update_keys(0.0)
    pair.client.drain()
    pair.server.drain()
    pair.run()
    pair.check_keys()
    for end in (pair.client, pair.server):
        assert generation(end, Direction.SEND) == generation(end, Direction.RECEIVE) == 2


def test_a_sending_key_that_wears_out_is_renewed_alone() -> None:
    pair = Pair().run()
    pair.client.handshake.key_expiring(KeyExpiring(APPLICATION, Direction.SEND, LimitKind.PACKETS), 0.0)
    pair.client.handshake.key_expiring(KeyExpiring(APPLICATION, Direction.SEND, LimitKind.PACKETS), 0.0)
    pair.run()
    assert generation(pair.client, Direction.SEND) == generation(pair.server, Direction.RECEIVE) == 1
    assert generation(pair.server, Direction.SEND) == 0


def test_a_receiving_key_that_wears_out_is_asked_for() -> None:
    pair = Pair().run()
    pair.client.handshake.key_expiring(KeyExpiring(APPLICATION, Direction.RECEIVE, LimitKind.FAILED_OPENINGS), 0.0)
    pair.run()
    assert generation(pair.client, Direction.RECEIVE) == 1


def test_limits_come_with_the_sending_key() -> None:
    pair = Pair({"options": TlsOptions(records_per_key=5)}).run()
    (limit,) = next(event for event in pair.client.all(KeyReady) if event.limits).limits
    assert (limit.kind, limit.soft) == (LimitKind.PACKETS, 5)
    (limit,) = next(event for event in pair.server.all(KeyReady) if event.limits).limits
    assert limit.hard == 23_726_566  # 2^24.5; RFC 8446 §5.5
    assert limit.soft < limit.hard
    chacha = Pair({"options": TlsOptions(ciphersuites=(TLS_CHACHA20_POLY1305_SHA256,))}).run()
    assert not any(event.limits for event in chacha.client.all(KeyReady))


def test_key_updates_before_the_end_of_the_handshake_are_refused() -> None:
    pair = Pair().start()
    with pytest.raises(LocalError):
        pair.client.handshake.update_keys(0.0)
    pair.client.handshake.key_expiring(KeyExpiring(APPLICATION, Direction.SEND, LimitKind.PACKETS), 0.0)
    pair.run()
    assert generation(pair.client, Direction.SEND) == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\x02", Reason.ILLEGAL_PARAMETER), (b"", Reason.DECODE_ERROR), (b"\0\0", Reason.DECODE_ERROR)],
)
def test_wrong_key_updates(body: bytes, reason: Reason) -> None:
    pair = Pair().run()
    with pytest.raises(PeerMisbehaved) as caught:
        pair.server.handshake.receive(APPLICATION, encode_message(HandshakeType.KEY_UPDATE, body), 0, 0.0)
    assert caught.value.reason is reason
    pair.client.handshake.update_keys(0.0)
    pair.run().check_keys()


def test_a_message_under_an_old_application_key() -> None:
    pair = Pair().run()
    pair.client.handshake.update_keys(0.0)
    pair.run()
    with pytest.raises(PeerMisbehaved, match="key_update under application keys"):
        pair.server.handshake.receive(APPLICATION, encode_message(HandshakeType.KEY_UPDATE, b"\0"), 0, 0.0)


# ---------------------------------------------------------------------------------------------------------- exporter
def test_exporters_agree() -> None:
    pair = Pair().run()
    client, server = pair.client.handshake, pair.server.handshake
    assert client.export_secret(b"EXPERIMENTAL", b"ctx", 48) == server.export_secret(b"EXPERIMENTAL", b"ctx", 48)
    assert client.export_secret(b"EXPERIMENTAL", None, 32) == server.export_secret(b"EXPERIMENTAL", b"", 32)
    assert client.export_secret(b"A", b"", 32) != client.export_secret(b"B", b"", 32)


@pytest.mark.parametrize(("label", "length"), [(b"", 32), (b"x" * 250, 32), (b"x", 0), (b"x", 255 * 32 + 1)])
def test_exports_that_cannot_be(label: bytes, length: int) -> None:
    pair = Pair().run()
    with pytest.raises(LocalError):
        pair.client.handshake.export_secret(label, b"", length)


def test_nothing_is_exported_before_the_end_of_the_handshake() -> None:
    pair = Pair().start()
    with pytest.raises(LocalError):
        pair.client.handshake.export_secret(b"label", b"", 32)


# ------------------------------------------------------------------------------------------------------------- laws
ALL_TYPES = [*HandshakeType, 0, 3, 6, 200]


def client_in(state: ClientState) -> TlsHandshake:
    pair = Pair()
    pair.client.handshake._state = state
    return pair.client.handshake


def server_in(state: ServerState) -> TlsHandshake:
    pair = Pair()
    pair.server.handshake._state = state
    return pair.server.handshake


@pytest.mark.parametrize("stage", [Stage.INITIAL, Stage.HANDSHAKE, Stage.APPLICATION])
@pytest.mark.parametrize("state", [*ClientState, *ServerState])
def test_unexpected_messages(state: ClientState | ServerState, stage: Stage) -> None:
    """Every (state, message, key) outside the table is an unexpected_message and changes nothing."""
    role = ClientHandshake if isinstance(state, ClientState) else ServerHandshake
    for kind in ALL_TYPES:
        if role.table.get((state, kind), (None,))[0] is stage:
            continue
        handshake = client_in(state) if isinstance(state, ClientState) else server_in(state)
        with pytest.raises(PeerMisbehaved) as caught:
            handshake.receive(KeyId(stage), bytes((kind, 0, 0, 0)), 0, 0.0)
        assert caught.value.reason is Reason.UNEXPECTED_MESSAGE
        assert alert_for(caught.value) is AlertDescription.UNEXPECTED_MESSAGE
        assert "RFC 8446" in str(caught.value)
        assert handshake._state is state
        assert handshake.next_output() is None


def test_the_tables_name_each_waiting_state() -> None:
    waiting = {state for state, _ in ClientHandshake.table} | {ClientState.START, ClientState.WAIT_ANSWERS}
    assert waiting == set(ClientState)
    waiting = {state for state, _ in ServerHandshake.table} | {ServerState.WAIT_ANSWERS, ServerState.WAIT_VERIFIED}
    assert waiting == set(ServerState)


def test_behind_a_bad_message_the_good_one_still_works() -> None:
    """Each message of a handshake with client certificates is spoilt, refused, and then given as it was."""
    pair = mutual()
    pair.start()
    for _ in range(20):
        moved = False
        for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
            sender.drain()
            messages, sender.outbox = sender.outbox, []
            for message in messages:
                moved = True
                before = receiver.handshake._state
                for bad in (
                    message.data[:-1],
                    message.data + b"\0",
                    message.data[:4] + b"\xff" * (len(message.data) - 4),
                ):
                    if bad == message.data:
                        continue
                    with pytest.raises(RemoteError) as caught:
                        receiver.handshake.receive(message.key, bad, 0, 0.0)
                    assert alert_for(caught.value) is not AlertDescription.INTERNAL_ERROR
                    assert receiver.handshake._state is before
                    assert receiver.handshake.next_output() is None
                receiver.handshake.receive(message.key, message.data, 0, 0.0)
                receiver.drain()
        if not moved:
            break
    assert pair.client.complete
    assert pair.server.complete
    pair.check_keys()


def test_messages_above_the_limit() -> None:
    pair = Pair({"options": TlsOptions(max_handshake_message=5000)}).start()
    assert pair.client.handshake.max_message == 5000
    with pytest.raises(PeerMisbehaved, match="max_handshake_message allows 5000") as caught:
        pair.client.handshake.receive(
            KeyId(Stage.INITIAL), encode_message(HandshakeType.SERVER_HELLO, bytes(5000)), 0, 0.0
        )
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("octets", [b"", b"\x02\0\0", b"\x02\0\0\x01", b"\x02\0\0\0\0"])
def test_messages_whose_length_is_wrong(octets: bytes) -> None:
    pair = Pair().start()
    with pytest.raises(PeerMisbehaved) as caught:
        pair.client.handshake.receive(KeyId(Stage.INITIAL), octets, 0, 0.0)
    assert caught.value.reason is Reason.DECODE_ERROR


def test_answers_that_nobody_waits_for_are_ignored() -> None:
    pair = Pair().run()
    pair.client.handshake.answer(1, None, 0.0)
    pair.client.handshake.answer(99, None, 0.0)
    assert pair.client.handshake.next_output() is None


def test_what_tls_has_not() -> None:
    pair = Pair().start()
    assert not pair.client.handshake.unanswered(0, 0.0)
    with pytest.raises(LocalError):
        pair.client.handshake.start(FACTS, 0.0)


def test_flights_are_counted_and_end_once() -> None:
    pair = Pair().run()
    flights: dict[int, list[bool]] = {}
    for message in pair.client.sent + pair.server.sent:
        flights.setdefault(message.exchange, []).append(message.last)
    assert all(flight[-1] and sum(flight) == 1 for flight in flights.values())
    assert sorted(flights) == [0, 1, 2]


def test_an_idle_handshake_holds_no_queue() -> None:
    pair = Pair().run()
    for handshake in (pair.client.handshake, pair.server.handshake):
        assert handshake._outputs is None
        assert handshake._asks is None
        assert handshake._run is None  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------------- mutations
def mutated_run(seed: int) -> None:
    """A handshake with client certificates, of which one message is spoilt in one to three octets."""
    chance = random.Random(seed)
    pair = mutual().start()
    victim = chance.randrange(10)
    count = 0
    for _ in range(12):
        for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
            sender.drain()
            messages, sender.outbox = sender.outbox, []
            for message in messages:
                data = bytearray(message.data)
                if count == victim:
                    for _ in range(chance.randint(1, 3)):
                        data[chance.randrange(len(data))] ^= chance.randint(1, 255)
                count += 1
                receiver.handshake.receive(message.key, bytes(data), 0, 0.0)
                receiver.drain()
    changed = victim < count
    assert not (changed and pair.client.complete and pair.server.complete)


@pytest.mark.parametrize("block", range(8))
def test_mutated_handshakes_end_in_an_error_of_ours(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        try:
            mutated_run(seed)
        except RemoteError as error:
            alert = alert_for(error)
        else:
            continue
        assert alert is not AlertDescription.INTERNAL_ERROR, seed
