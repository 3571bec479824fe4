"""Sessions that were recorded with wireguard-go, run through the engine again: every octet of ours is the same.

vectors/wireguard/sessions.json says how it was made. Given the ephemeral key, the index and the time of the recording,
the engine makes the message that it made then, takes the peer's real one, and the keys open all real data.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from taps_security.crypto.sodium import scalarmult_base
from taps_security.inner.ip import parse_packet_untrusted
from taps_security.inner.udp import parse_datagram_untrusted
from taps_security.protocols.registry import Environment
from taps_security.protocols.wireguard.handshake import WireGuardHandshake
from taps_security.protocols.wireguard.keys import TransportSecret
from taps_security.protocols.wireguard.options import WireGuardOptions, WireGuardPeer, static_key
from taps_security.protocols.wireguard.peers import TunnelState
from taps_security.protocols.wireguard.record import WireGuardRecord
from taps_security.protocols.wireguard.screening import WireGuardScreener
from taps_security.stack.events import Direction, KeyConfirmed, KeyReady
from taps_security.stack.layers import HandshakeMessage, Opened
from taps_security.stack.screening import Create, Load

from .ends import FACTS, HANDSHAKE

VECTORS = Path(__file__).parents[2] / "vectors" / "wireguard" / "sessions.json"
TAI_OFFSET = 0x4000_0000_0000_000A
IDLE = Load(half_open=0, limit=100)
INITIATION, RESPONSE, TRANSPORT = 1, 2, 4


@cache
def sessions() -> dict[str, dict[str, Any]]:
    found = json.loads(VECTORS.read_text(encoding="utf-8"))["sessions"]
    return {session["role"]: session for session in found}


def datagrams(session: dict[str, Any], sender: str, kind: int) -> list[bytes]:
    messages = [bytes.fromhex(each["hex"]) for each in session["datagrams"] if each["from"] == sender]
    return [message for message in messages if message[0] == kind]


class End:
    """One end of a session: `ours` as it was recorded, or the peer's, with its real key."""

    def __init__(self, session: dict[str, Any], *, ours: bool, draws: list[bytes], clock: float = 0.0) -> None:
        private, other = session["private_key"], session["peer_private_key"]
        if not ours:
            private, other = other, private
        known = WireGuardPeer(public_key=scalarmult_base(static_key(other)), preshared_key=session["preshared_key"])
        options = WireGuardOptions(private_key=private, peers=[known])
        environment = Environment(random=self.draw, wall_clock=lambda: clock)
        self.draws = draws
        self.tunnel = TunnelState(options, environment)
        self.handshake = WireGuardHandshake(self.tunnel.peers[known.public_key], self.tunnel)
        self.seeds: list[Any] = []
        self.screener = WireGuardScreener(self.tunnel, lambda seed, now: self.seeds.append(seed))  # type: ignore[arg-type,return-value]
        self.sent: list[bytes] = []
        self.keys: dict[Direction, TransportSecret] = {}
        self.ready: list[KeyReady] = []

    def draw(self, size: int) -> bytes:
        drawn = self.draws.pop(0)
        assert len(drawn) == size
        return drawn

    def drain(self) -> None:
        while (output := self.handshake.next_output()) is not None:
            if isinstance(output, HandshakeMessage):
                self.sent.append(output.data)
            elif isinstance(output, KeyReady):
                assert isinstance(output.secret, TransportSecret)
                self.keys[output.direction] = output.secret
                self.ready.append(output)

    def screened(self, initiation: bytes) -> Any:
        verdict = self.screener.screen(memoryview(initiation), 1, FACTS, IDLE, 0.0)
        assert isinstance(verdict, Create), verdict
        return verdict.seed


def run_again(session: dict[str, Any]) -> End:
    """Our end, after the handshake; what it sent is compared with what was recorded."""
    ephemeral = static_key(session["ephemeral"])
    (mine,) = datagrams(session, "ours", INITIATION if session["role"] == "initiator" else RESPONSE)
    draws = [ephemeral, mine[4:8]]
    if session["role"] == "responder":
        end = End(session, ours=True, draws=draws)
        (initiation,) = datagrams(session, "theirs", INITIATION)
        end.handshake.consume_initiation(end.screened(initiation), 0.0)
        end.drain()
        assert end.sent == [mine]
        end.handshake.key_confirmed(KeyConfirmed(end.ready[0].key), 0.0)
        end.drain()
        return end
    stamp = End(session, ours=False, draws=[]).screened(mine).timestamp  # as the real peer opens it
    clock = int.from_bytes(stamp[:8], "big") - TAI_OFFSET + int.from_bytes(stamp[8:], "big") * 1e-9
    end = End(session, ours=True, draws=draws, clock=clock + 0.001)  # timestamps are coarse: no rounding down
    assert end.handshake.create_initiation(0.0)
    end.drain()
    assert end.sent == [mine]
    (response,) = datagrams(session, "theirs", RESPONSE)
    end.handshake.receive(HANDSHAKE, memoryview(response), 0, 0.0)
    end.drain()
    return end


def opened(secret: TransportSecret, ready: KeyReady, messages: list[bytes]) -> list[bytes]:
    """The messages inside the UDP datagrams of these; keepalives have none."""
    record, found, texts = WireGuardRecord(Counter()), Opened(), []
    record.import_key(KeyReady(ready.key, Direction.RECEIVE, secret, ready.limits), 0.0)
    for message in messages:
        assert record.open(memoryview(bytearray(message)), 0, 1, found, 0.0) == len(message)
        (plaintext,) = found.plaintexts
        if len(plaintext):
            texts.append(bytes(parse_datagram_untrusted(parse_packet_untrusted(plaintext)).payload))
    return texts


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_the_handshake_is_the_same_octet_by_octet(role: str) -> None:
    end = run_again(sessions()[role])
    assert set(end.keys) == {Direction.SEND, Direction.RECEIVE}


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_all_data_of_both_directions_opens(role: str) -> None:
    session = sessions()[role]
    end = run_again(session)
    there = opened(end.keys[Direction.SEND], end.ready[0], datagrams(session, "ours", TRANSPORT))
    back = opened(end.keys[Direction.RECEIVE], end.ready[0], datagrams(session, "theirs", TRANSPORT))
    sizes = [len(text) for text in there]
    assert sizes[-len(session["sizes"]) :] == session["sizes"]
    assert there[-len(session["sizes"]) :] == back[-len(session["sizes"]) :]  # the echo program's answers


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_changed_octet_of_the_recording_does_not_open(role: str) -> None:
    session = sessions()[role]
    end = run_again(session)
    message = bytearray(datagrams(session, "theirs", TRANSPORT)[-1])
    message[-1] ^= 1
    record, found = WireGuardRecord(Counter()), Opened()
    record.import_key(KeyReady(end.ready[0].key, Direction.RECEIVE, end.keys[Direction.RECEIVE]), 0.0)
    record.open(memoryview(message), 0, 1, found, 0.0)
    assert not found.plaintexts
    assert found.failed == 1
