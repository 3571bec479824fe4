"""Whole handshakes as fuzz targets: a recorded peer, mutated, against a real engine that starts from the same seed.

The peer's octets were recorded once, with its keys. A mutation changes what it says inside its records (and seals it
again under the right keys), the records themselves, or the octets of the wire, and cuts the wire into other reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from taps_security.crypto.aead import Aead, new_aead
from taps_security.crypto.agreement import Group
from taps_security.crypto.certificates import Identity, load_certificates
from taps_security.protocols.tls.keys import TrafficSecret
from taps_security.protocols.tls.options import ClientAuthentication, TlsOptions
from taps_security.protocols.tls.psk import ExternalPsk
from taps_security.protocols.tls.tickets import Session, TicketKeys
from taps_security.stack.asks import FindPsk, Refused, VerifyPeer
from taps_security.stack.errors import AuthenticationFailed, TapsError
from taps_security.stack.events import CloseKind, HandshakeComplete, TransportEnd
from tests.faults.memory import End, Opened, ends, read, shake
from tests.fuzz.mutation import Mutator
from tests.protocols.tls.pair import Clock, Pair, Randomness
from tests.stack.null import send

SCENARIOS = ("full", "retried", "mutual", "keyed", "resumed")
LIMIT = 16_384  # octets of one handshake message that the engines take here
QUESTION, ANSWER = b"question " * 20, b"answer " * 30
CERTIFICATES = Path(__file__).parent / "certificates"
_KEY = ExternalPsk(identity=b"me", key=bytes(32))
_LABEL = b"EXPORTER-fuzz"


# -- both ends, always from the same seed and with the same certificates -----------------------------------------------
@lru_cache
def chain(name: str) -> tuple[bytes, ...]:
    """The certificates of `certificates/NAME.pem`: issued once, because a P-256 authority never signs twice alike."""
    return load_certificates((CERTIFICATES / f"{name}.pem").read_bytes())


@lru_cache
def fixed(name: str) -> Identity:
    """The identity of `certificates/NAME.pem`: Ed25519, which signs the same octets each time."""
    pem = (CERTIFICATES / f"{name}.pem").read_bytes()
    return Identity.from_pem(pem, pem)


@lru_cache
def _ticket_keys() -> TicketKeys:
    return TicketKeys(Randomness(b"ticket keys"), Clock())


@lru_cache
def _session() -> Session:
    pair = Pair({}, {"ticket_keys": _ticket_keys()}, identities=[fixed("server")]).run()
    session = pair.client.sessions[0]
    assert isinstance(session, Session)
    return session


def _settings(scenario: str) -> dict[str, Any]:
    """What makes both ends say the same octets in each run."""
    ours, theirs = TlsOptions(max_handshake_message=LIMIT), TlsOptions(max_handshake_message=LIMIT)
    settings: dict[str, Any] = {
        "client": {"options": ours},
        "server": {"options": theirs, "ticket_keys": _ticket_keys()},
        "identities": [fixed("server")],
        "seed": scenario.encode(),
    }
    if scenario == "retried":
        retries = TlsOptions(max_handshake_message=LIMIT, groups=(Group.SECP256R1,), retry_cookie=True)
        settings["server"]["options"] = retries
    elif scenario == "mutual":
        settings["server"]["client_authentication"] = ClientAuthentication.REQUIRE
        settings["client_identities"] = [fixed("client")]
    elif scenario == "keyed":
        settings["client"]["psks"] = (_KEY,)
        settings["server"]["external_psks"] = True
    elif scenario == "resumed":
        settings["client"]["session"] = _session()
    return settings


def _verify(request: VerifyPeer) -> object:
    """Only the two chains of the recordings are good: so cheap that nothing is left out for its cost."""
    return (
        "the peer"
        if request.chain in {chain("server"), chain("client")}
        else Refused(AuthenticationFailed("another chain"))
    )


def _prepare(end: Any) -> None:
    end.answers[VerifyPeer] = _verify
    end.answers[FindPsk] = lambda request: _KEY if request.identity == _KEY.identity else None


def victim(role: str, scenario: str) -> End:
    """One end alone, as it was when the other was recorded; a client has said its hello."""
    pair = Pair(**_settings(scenario))
    endpoint = pair.client if role == "client" else pair.server
    _prepare(endpoint)
    end = End(endpoint)
    end.say()
    return end


# -- recordings ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Recording:
    """What the peer of a victim said. `octets`: of its application. `exported`: a secret that both ends have."""

    items: tuple[Opened, ...]
    secrets: tuple[TrafficSecret, ...]
    octets: bytes
    exported: bytes

    def seal(self, items: list[Opened]) -> bytes:
        """The wire of these records, each under the key of its stage, numbered as they come."""
        numbers: dict[int, int] = {}
        wire = b""
        for item in items:
            if not item.stage:
                wire += bytes((item.kind & 255, 3, 3)) + (len(item.content) & 0xFFFF).to_bytes(2, "big") + item.content
                continue
            stage = min(item.stage, len(self.secrets))
            number = numbers.get(stage, 0)
            numbers[stage] = number + 1
            aead, iv = _cipher(self.secrets[stage - 1])
            inner = item.content + bytes((item.kind & 255,))
            header = b"\x17\3\3" + ((len(inner) + 16) & 0xFFFF).to_bytes(2, "big")
            wire += header + aead.encrypt((iv ^ number).to_bytes(12, "big"), inner, header)
        return wire


@lru_cache(maxsize=64)
def _cipher(secret: TrafficSecret) -> tuple[Aead, int]:
    key, iv = secret.key_and_iv()
    return new_aead(secret.suite.aead, key), int.from_bytes(iv, "big")


@lru_cache
def recorded(role: str, scenario: str) -> Recording:
    """What the peer of a `role` says: handshake, tickets, a key update, octets, and its end."""
    client, server = ends(**_settings(scenario))
    _prepare(client.endpoint)
    _prepare(server.endpoint)
    shake(client, server)
    assert client.stack.complete
    assert server.stack.complete
    for one, other, octets in ((client, server, QUESTION), (server, client, ANSWER)):
        send(one.stack, octets)
        one.stack.update_keys(0.0)
        send(one.stack, octets)
        one.hear(other.hear(one.say()))
    for one, other in ((client, server), (server, client)):
        one.stack.close(0.0)
        other.hear(one.say())
        one._drain()
    assert client.end is not None
    assert client.end.how is CloseKind.CLEAN
    peer = server if role == "client" else client
    exported = _EXPORTED.get((role, scenario)) or _exported(role, scenario, peer)
    octets = 2 * (ANSWER if role == "client" else QUESTION)
    return Recording(tuple(read(peer.wire, peer.stack.secrets)), tuple(peer.stack.secrets), octets, exported)


_EXPORTED: dict[tuple[str, str], bytes] = {}


def _exported(role: str, scenario: str, peer: End) -> bytes:
    """The exporter of a victim that hears what was recorded, unchanged: it completes."""
    end = victim(role, scenario)
    secrets: list[bytes] = []
    end.hear(peer.wire[: _first_flights(peer)])
    if end.stack.complete:
        secrets.append(end.stack.export_secret(_LABEL, None, 32))
    (exported,) = secrets
    _EXPORTED[role, scenario] = exported
    return exported


def _first_flights(peer: End) -> int:
    """Octets of the peer's wire before its last record: without its end, so that the victim lives on."""
    position = last = 0
    while position < len(peer.wire):
        last, position = position, position + 5 + int.from_bytes(peer.wire[position + 3 : position + 5], "big")
    return last


# -- mutations -------------------------------------------------------------------------------------------------------
def mutated(recording: Recording, mutator: Mutator) -> tuple[bytes, bytes]:
    """A wire, and the octets that its application records hold, in order."""
    chance = mutator.random
    items = list(recording.items)
    if chance.random() < 0.8:
        for _ in range(chance.choice((1, 1, 2, 3))):
            _change(items, mutator)
    wire = recording.seal(items)
    if items == list(recording.items) or chance.random() < 0.2:
        wire = mutator.octets(wire)
    return wire, b"".join(_application(item) for item in items if item.stage)


def _application(item: Opened) -> bytes:
    """The application octets of a protected record: behind a type of 0 stands padding, and the type in front of it."""
    inner = (item.content + bytes((item.kind,))).rstrip(b"\0")
    return inner[:-1] if inner.endswith(b"\x17") else b""


def _change(items: list[Opened], mutator: Mutator) -> None:
    """One thing done to the records: mostly to the content of one, sometimes to their order, kinds and keys."""
    chance = mutator.random
    if not items:
        return
    index = chance.randrange(len(items))
    item = items[index]
    kind = chance.randrange(10)
    if kind < 5:
        content = mutator.octets(item.content)[:LIMIT]
        items[index] = replace(item, content=content)
    elif kind == 5:
        del items[index]
    elif kind == 6:
        items.insert(chance.randrange(len(items)), item)
    elif kind == 7:
        items[index] = replace(item, kind=chance.choice((0, 20, 21, 22, 23, 24, 99)))
    elif kind == 8:
        items[index] = replace(item, stage=chance.randrange(4))
    else:  # cut in two: harmless where messages may be cut
        at = chance.randrange(len(item.content) + 1)
        items[index : index + 1] = [replace(item, content=item.content[:at]), replace(item, content=item.content[at:])]


def attack(role: str, number: int) -> str:
    """One mutation against a victim of that role; how it ended, in a word.

    Invariants: no exception leaves the engine; it ends at most once, with one of our errors or cleanly, and then has
    no key and nothing to send; what it holds is bounded; a handshake is complete only if both ends agree on it, octet
    by octet (their exported secrets are equal); what is delivered is what the peer's application records hold, from
    the first one on, and nothing before the handshake is complete.
    """
    mutator = Mutator(role, number)
    scenario = SCENARIOS[number % len(SCENARIOS)]
    recording = recorded(role, scenario)
    mutator._samples = tuple(item.content for item in recording.items)
    wire, authentic = mutated(recording, mutator)
    end = victim(role, scenario)
    complete = False
    while wire:
        size = mutator.random.choice((1, 5, 100, 1000, len(wire), len(wire), len(wire)))
        end.hear(wire[:size])
        wire = wire[size:]
        assert len(end.stack._delivery.held) <= LIMIT + 16_384
        assert len(end.stack._sealed) + len(end.stack._flight) == 0
        if end.stack.complete and not end.stack.ended and not complete:
            complete = True
            assert end.stack.export_secret(_LABEL, None, 32) == recording.exported
    if not end.stack.ended:
        end.stack.transport_ended(0, TransportEnd.FIN, 0.0)
        end._drain()
    completed = any(isinstance(event, HandshakeComplete) for event in end.events)
    assert completed or not end.octets
    assert authentic.startswith(end.octets)
    if end.end is None:  # the peer ended its direction, ours is open
        assert end.stack._peer_over
        return "half closed"
    assert not end.stack._keys
    assert not end.stack.pending
    assert end.end.error is None or isinstance(end.end.error, TapsError)
    return type(end.end.error).__name__


def hear(role: str, octets: bytes) -> None:
    """Octets of anybody against a fresh engine.

    Invariants: as in attack(); and since nobody here has a key, nothing is complete and nothing is delivered.
    """
    end = victim(role, "full")
    end.hear(octets)
    assert not end.stack.complete
    assert not end.octets
    assert len(end.stack._delivery.held) <= LIMIT + 16_384
    assert end.end is None or isinstance(end.end.error, TapsError)
