"""Our client against the servers of RFC 8448: its octets and secrets are those of the traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taps_security.crypto.agreement import Group, PrivateShare, from_private
from taps_security.crypto.certificates import Identity
from taps_security.crypto.signature import SignatureScheme
from taps_security.protocols.tls.client import ClientHandshake
from taps_security.protocols.tls.keys import CIPHER_SUITES
from taps_security.protocols.tls.options import ClientConfiguration, TlsOptions
from taps_security.protocols.tls.wire import (
    parse_certificate_untrusted,
    parse_certificate_verify_untrusted,
    parse_client_hello_untrusted,
)
from taps_security.stack.asks import ChooseIdentity, Sign, VerifyPeer
from taps_security.stack.events import Direction, KeyId, Stage

from .pair import FACTS, Endpoint
from .rfc8448 import Trace, load

INITIAL, HANDSHAKE, APPLICATION = KeyId(Stage.INITIAL), KeyId(Stage.HANDSHAKE), KeyId(Stage.APPLICATION)
LOG_LABELS = {
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET": "tls13 c hs traffic",
    "SERVER_HANDSHAKE_TRAFFIC_SECRET": "tls13 s hs traffic",
    "CLIENT_TRAFFIC_SECRET_0": "tls13 c ap traffic",
    "SERVER_TRAFFIC_SECRET_0": "tls13 s ap traffic",
    "EXPORTER_SECRET": "tls13 exp master",
}


def options_of(trace: Trace, **more: Any) -> TlsOptions:
    hello = parse_client_hello_untrusted(trace.message("client", "ClientHello")[4:])
    return TlsOptions(
        groups=(Group.X25519, Group.SECP256R1),
        ciphersuites=tuple(CIPHER_SUITES[code] for code in hello.cipher_suites),
        middlebox_compatibility=bool(hello.session_id),
        **more,
    )


def scripted(*octets: bytes) -> Callable[[int], bytes]:
    waiting = list(octets)
    return lambda length: waiting.pop(0)


def client_of(trace: Trace, log: list[str]) -> Endpoint:
    """The client whose hellos are those of the trace, by public options alone."""
    hello = parse_client_hello_untrusted(trace.message("client", "ClientHello")[4:])
    shares = {Group.X25519: trace.private("client")}
    further: tuple[tuple[int, bytes], ...] = ()
    order = tuple(hello.extensions)
    if len(trace.payloads("client")) and trace.steps[0] and _retries(trace):
        shares[Group.SECP256R1] = trace.private("client", 1)
        second = parse_client_hello_untrusted(trace.message("client", "ClientHello", 1)[4:])
        further = ((21, second.extensions[21]),)
        order = tuple(second.extensions)

    def share(group: Group, random: Callable[[int], bytes]) -> PrivateShare:
        return from_private(group, shares[group])

    kept = {0, 43, 45, 51, 28}
    configuration = ClientConfiguration(
        server_name="server",
        options=options_of(trace),
        random=scripted(hello.random, hello.session_id),
        wall_clock=lambda: 0.0,
        key_log=log.append,
        extensions=(*((kind, body) for kind, body in hello.extensions.items() if kind not in kept), (50, None)),
        retry_extensions=further,
        extension_order=order,
        generate_share=share,
    )
    end = Endpoint(ClientHandshake(configuration))
    end.answers[VerifyPeer] = lambda request: "the server of the trace"
    return end


def _retries(trace: Trace) -> bool:
    return sum("ClientHello" in step.octets for step in trace.steps) > 1


def give(end: Endpoint, key: KeyId, octets: bytes) -> None:
    """Feed messages that came together under one key."""
    while octets:
        length = 4 + int.from_bytes(octets[1:4], "big")
        end.handshake.receive(key, memoryview(octets[:length]), 0, 0.0)
        end.drain()
        octets = octets[length:]


def present(end: Endpoint, trace: Trace) -> None:
    """The client's certificate and signature of section 6."""
    chain = parse_certificate_untrusted(trace.message("client", "Certificate")[4:]).chain
    verify = parse_certificate_verify_untrusted(trace.message("client", "CertificateVerify")[4:])
    identity = Identity(chain, b"", (SignatureScheme(verify.algorithm),))
    end.answers[ChooseIdentity] = lambda request: identity
    end.answers[Sign] = lambda request: verify.signature


@pytest.mark.parametrize("section", [3, 5, 6, 7])
def test_the_client_of_the_trace(section: int) -> None:
    trace = load(section)
    log: list[str] = []
    end = client_of(trace, log)
    if section == 6:
        present(end, trace)
    end.handshake.start(FACTS, 0.0)
    end.drain()
    assert end.sent[0].data == trace.message("client", "ClientHello")
    if section == 5:
        give(end, INITIAL, trace.message("server", "ServerHello"))
        assert end.sent[1].data == trace.message("client", "ClientHello", 1)
    give(end, INITIAL, trace.message("server", "ServerHello", 1 if section == 5 else 0))
    assert end.keys[HANDSHAKE, Direction.RECEIVE] == trace.secret("tls13 s hs traffic")
    give(end, HANDSHAKE, next(payload for payload in trace.payloads("server") if payload[0] == 8))
    assert end.keys[HANDSHAKE, Direction.SEND] == trace.secret("tls13 c hs traffic")
    assert end.complete
    flight = b"".join(message.data for message in end.sent if message.key == HANDSHAKE)
    assert flight == next(payload for payload in trace.payloads("client") if payload[0] in {11, 20})
    assert end.keys[APPLICATION, Direction.SEND] == trace.secret("tls13 c ap traffic")
    assert end.keys[APPLICATION, Direction.RECEIVE] == trace.secret("tls13 s ap traffic")
    client_random = end.sent[0].data[6:38]
    lines = [line.split(" ") for line in log]
    assert {(label, bytes.fromhex(secret)) for label, _, secret in lines} == {
        (label, trace.secret(name)) for label, name in LOG_LABELS.items()
    }
    assert all(random == client_random.hex() for _, random, _ in lines)


def test_the_ticket_of_section_3_gives_the_resumption_secret() -> None:
    trace = load(3)
    end = client_of(trace, [])
    end.handshake.start(FACTS, 0.0)
    end.drain()
    give(end, INITIAL, trace.message("server", "ServerHello"))
    give(end, HANDSHAKE, next(payload for payload in trace.payloads("server") if payload[0] == 8))
    give(end, APPLICATION, trace.message("server", "NewSessionTicket"))
    (session,) = end.sessions
    assert session.psk == trace.find("server", "generate resumption secret", "expanded")
    assert session.server_name == "server"
