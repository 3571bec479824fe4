"""Our server against the clients of RFC 8448: its octets and secrets are those of the traces.

Section 6 is left to the client: its CertificateRequest offers signature algorithms that this server never would.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taps_security.crypto.agreement import Group, from_private
from taps_security.crypto.certificates import Identity
from taps_security.crypto.signature import SignatureScheme
from taps_security.protocols.tls.extensions import parse_cookie_untrusted
from taps_security.protocols.tls.options import ServerConfiguration, TlsOptions
from taps_security.protocols.tls.server import ServerHandshake
from taps_security.protocols.tls.wire import (
    parse_certificate_untrusted,
    parse_certificate_verify_untrusted,
    parse_encrypted_extensions_untrusted,
    parse_server_hello_untrusted,
)
from taps_security.stack.asks import ChooseIdentity, Sign
from taps_security.stack.events import Direction, KeyId, Stage

from .pair import FACTS, Endpoint
from .rfc8448 import Trace, load

INITIAL, HANDSHAKE, APPLICATION = KeyId(Stage.INITIAL), KeyId(Stage.HANDSHAKE), KeyId(Stage.APPLICATION)


def scripted(*octets: bytes) -> Callable[[int], bytes]:
    waiting = list(octets)
    return lambda length: waiting.pop(0)


def server_of(trace: Trace, log: list[str], *, retries: bool) -> Endpoint:
    """The server of a trace, by public options alone."""
    hello = parse_server_hello_untrusted(trace.message("server", "ServerHello", 1 if retries else 0)[4:])
    randoms = [hello.random]
    if retries:
        retry = parse_server_hello_untrusted(trace.message("server", "ServerHello")[4:])
        randoms.insert(0, parse_cookie_untrusted(retry.extensions[44]))
    encrypted = parse_encrypted_extensions_untrusted(trace.message("server", "EncryptedExtensions")[4:])

    def respond(group: Group, peer: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
        share = from_private(group, trace.private("server"))
        return share.public, share.agree(peer)

    configuration = ServerConfiguration(
        options=TlsOptions(groups=(Group.SECP256R1 if retries else Group.X25519,), retry_cookie=retries),
        random=scripted(*randoms),
        wall_clock=lambda: 0.0,
        key_log=log.append,
        extensions=((10, encrypted[10]),),
        extension_order=tuple(encrypted),
        respond=respond,
    )
    chain = parse_certificate_untrusted(trace.message("server", "Certificate")[4:]).chain
    verify = parse_certificate_verify_untrusted(trace.message("server", "CertificateVerify")[4:])
    end = Endpoint(ServerHandshake(configuration))
    end.answers[ChooseIdentity] = lambda request: Identity(chain, b"", (SignatureScheme(verify.algorithm),))
    end.answers[Sign] = lambda request: verify.signature
    return end


@pytest.mark.parametrize("section", [3, 5, 7])
def test_the_server_of_the_trace(section: int) -> None:
    trace = load(section)
    retries = section == 5
    log: list[str] = []
    end = server_of(trace, log, retries=retries)
    end.handshake.start(FACTS, 0.0)
    hellos = [trace.message("client", "ClientHello", index) for index in range(2 if retries else 1)]
    for hello in hellos:
        end.handshake.receive(INITIAL, memoryview(hello), 0, 0.0)
        end.drain()
    plain = [message.data for message in end.sent if message.key == INITIAL]
    assert plain == [trace.message("server", "ServerHello", index) for index in range(len(hellos))]
    flight = b"".join(message.data for message in end.sent if message.key == HANDSHAKE)
    assert flight == next(payload for payload in trace.payloads("server") if payload[0] == 8)
    assert end.keys[HANDSHAKE, Direction.SEND] == trace.secret("tls13 s hs traffic")
    assert end.keys[HANDSHAKE, Direction.RECEIVE] == trace.secret("tls13 c hs traffic")
    assert end.keys[APPLICATION, Direction.SEND] == trace.secret("tls13 s ap traffic")
    assert not end.complete
    end.handshake.receive(HANDSHAKE, memoryview(trace.message("client", "Finished")), 0, 0.0)
    end.drain()
    assert end.complete
    assert end.keys[APPLICATION, Direction.RECEIVE] == trace.secret("tls13 c ap traffic")
    label, _, secret = log[-1].split(" ")
    assert (label, bytes.fromhex(secret)) == ("EXPORTER_SECRET", trace.secret("tls13 exp master"))
