"""The key schedule against OpenSSL's ACVP vectors and The Illustrated TLS 1.3 Connection (and RFC 8448)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from taps_security.crypto.agreement import Group, from_private
from taps_security.crypto.kdf import HashAlgorithm, hkdf_extract
from taps_security.protocols.tls.keys import (
    TLS_AES_128_GCM_SHA256,
    TLS_AES_256_GCM_SHA384,
    TLS_CHACHA20_POLY1305_SHA256,
    EarlySecret,
    TrafficSecret,
    Transcript,
    export,
    finished_mac,
    hkdf_expand_label,
    resumption_psk,
)
from taps_security.protocols.tls.wire import parse_new_session_ticket, parse_server_hello_untrusted

from .rfc8448 import load

VECTORS = Path(__file__).parents[2] / "vectors"


def acvp_sessions() -> list[list[tuple[str, HashAlgorithm, dict[str, str]]]]:
    sessions: list[list[tuple[str, HashAlgorithm, dict[str, str]]]] = []
    for line in (VECTORS / "tls13_kdf.txt").read_text().splitlines():
        if line == "session":
            sessions.append([])
        elif not line.startswith("#"):
            mode, digest, *fields = line.split()
            sessions[-1].append((mode, HashAlgorithm[digest], dict(entry.split("=") for entry in fields)))
    return sessions


def octets(value: str) -> bytes:
    return b"" if value == "-" else bytes.fromhex(value)


@pytest.mark.parametrize("session", acvp_sessions())
def test_acvp_steps(session: list[tuple[str, HashAlgorithm, dict[str, str]]]) -> None:
    for mode, algorithm, fields in session:
        key, output = octets(fields["key"]), octets(fields["output"])
        if mode == "expand":
            label = fields["label"].replace("_", " ").encode()
            assert hkdf_expand_label(algorithm, key, label, octets(fields["hash"]), algorithm.size) == output
        else:
            salt = octets(fields["salt"])
            if salt:
                salt = hkdf_expand_label(algorithm, salt, b"derived", algorithm.digest(b""), algorithm.size)
            assert hkdf_extract(algorithm, salt, key or bytes(algorithm.size)) == output


@pytest.mark.parametrize("session", acvp_sessions())
def test_acvp_by_stages(session: list[tuple[str, HashAlgorithm, dict[str, str]]]) -> None:
    algorithm = session[0][1]
    extracts = [fields for mode, _, fields in session if mode == "extract"]
    derived = {fields["label"]: fields for mode, _, fields in session if mode == "expand"}
    psk = octets(extracts[0]["key"])
    handshake = EarlySecret(algorithm, psk or None).into_handshake(octets(extracts[1]["key"]) or bytes(algorithm.size))
    main = handshake.into_main()
    stages = {
        "c_hs_traffic": handshake.client_traffic,
        "s_hs_traffic": handshake.server_traffic,
        "c_ap_traffic": main.client_traffic,
        "s_ap_traffic": main.server_traffic,
        "exp_master": main.exporter,
        "res_master": main.resumption,
    }
    assert set(stages) <= set(derived)
    for label, derive in stages.items():
        assert derive(octets(derived[label]["hash"])) == octets(derived[label]["output"])


def illustrated() -> dict[str, bytes]:
    lines = (VECTORS / "illustrated_tls13.txt").read_text().splitlines()
    return {name: bytes.fromhex(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}


def test_the_illustrated_connection() -> None:
    given = illustrated()
    suite = TLS_AES_256_GCM_SHA384
    hello = parse_server_hello_untrusted(given["serverhello"][4:])
    assert hello.cipher_suite == suite.code
    share = from_private(Group.X25519, bytes(range(0x20, 0x40)))  # the page's own client key
    shared = share.agree(hello.extensions[51][4:])
    transcript = Transcript(suite.hash, given["clienthello"]).plus(given["serverhello"])
    secret = EarlySecret(suite.hash, None).into_handshake(shared)
    client, server = secret.client_traffic(transcript.digest()), secret.server_traffic(transcript.digest())
    assert client == given["CLIENT_HANDSHAKE_TRAFFIC_SECRET"]
    assert server == given["SERVER_HANDSHAKE_TRAFFIC_SECRET"]
    for name in ("serverextensions", "servercert", "servercertverify"):
        transcript.update(given[name])
    assert TrafficSecret(suite, server).finished(transcript.digest()) == given["serverfinished"][4:]
    transcript.update(given["serverfinished"])
    assert finished_mac(suite.hash, client, transcript.digest()) == given["clientfinished"][4:]
    main = secret.into_main()
    assert main.client_traffic(transcript.digest()) == given["CLIENT_TRAFFIC_SECRET_0"]
    assert main.server_traffic(transcript.digest()) == given["SERVER_TRAFFIC_SECRET_0"]
    assert main.exporter(transcript.digest()) == given["EXPORTER_SECRET"]
    ticket = parse_new_session_ticket(given["serverticket1"][4:])
    assert ticket.lifetime == 7200
    assert ticket.extensions == {}


@pytest.mark.parametrize("section", [3, 5, 6, 7])
def test_traffic_keys_of_rfc_8448(section: int) -> None:
    trace = load(section)
    for title, label in (("handshake data", "s hs"), ("application data", "s ap")):
        secret = TrafficSecret(TLS_AES_128_GCM_SHA256, trace.secret(f"tls13 {label} traffic"))
        steps = f"derive write traffic keys for {title}"
        assert secret.key_and_iv() == (
            trace.find("server", steps, "key expanded"),
            trace.find("server", steps, "iv expanded"),
        )


def test_resumption_and_res_master_of_rfc_8448() -> None:
    trace = load(3)
    master = trace.secret("tls13 res master", "client")
    nonce = parse_new_session_ticket(trace.message("server", "NewSessionTicket")[4:]).nonce
    expected = trace.find("server", "generate resumption secret", "expanded")
    assert resumption_psk(HashAlgorithm.SHA256, master, nonce) == expected


def test_updated_secrets_differ_and_keep_their_limits() -> None:
    first = TrafficSecret(TLS_CHACHA20_POLY1305_SHA256, b"s" * 32, 100)
    second = first.updated()
    assert second.key_and_iv() != first.key_and_iv()
    assert second.record_size_limit == 100
    assert second.dangerously_reveal() == hkdf_expand_label(HashAlgorithm.SHA256, b"s" * 32, b"traffic upd", b"", 32)


def test_secrets_stay_out_of_repr() -> None:
    secret = TrafficSecret(TLS_AES_128_GCM_SHA256, b"very secret octets" * 2)
    early = EarlySecret(HashAlgorithm.SHA256, b"very secret octets")
    for thing in (secret, early, early.into_handshake(b"very secret octets")):
        assert re.fullmatch(r"<[A-Za-z]+( of TLS_\w+)?>", repr(thing))
    secret.wipe()
    assert secret.dangerously_reveal() == b""


def test_the_prefix_of_labels_is_another_in_other_protocols() -> None:
    tls = hkdf_expand_label(HashAlgorithm.SHA256, b"s" * 32, b"key", b"", 16)
    assert tls != hkdf_expand_label(HashAlgorithm.SHA256, b"s" * 32, b"key", b"", 16, b"dtls13")
    stages = [EarlySecret(HashAlgorithm.SHA256, None, prefix) for prefix in (b"tls13 ", b"dtls13")]
    assert len({stage.into_handshake(b"x" * 32).client_traffic(bytes(32)) for stage in stages}) == 2
    secrets = [TrafficSecret(TLS_AES_128_GCM_SHA256, b"s" * 32, prefix=prefix) for prefix in (b"tls13 ", b"dtls13")]
    assert secrets[0].updated().dangerously_reveal() != secrets[1].updated().dangerously_reveal()


def test_exports_depend_on_everything() -> None:
    values = {
        export(HashAlgorithm.SHA256, secret, label, context, 32)
        for secret in (b"a" * 32, b"b" * 32)
        for label in (b"one", b"two")
        for context in (b"", b"context")
    }
    assert len(values) == 8
    assert len(export(HashAlgorithm.SHA256, b"a" * 32, b"one", b"", 100)) == 100


def test_a_transcript_after_a_retry_begins_with_a_hash() -> None:
    whole = Transcript.after_retry(HashAlgorithm.SHA256, b"first hello", b"retry")
    message_hash = b"\xfe\x00\x00\x20" + HashAlgorithm.SHA256.digest(b"first hello")
    assert whole.digest() == HashAlgorithm.SHA256.digest(message_hash + b"retry")
    longer = whole.plus(b"more")
    assert longer.digest() == HashAlgorithm.SHA256.digest(message_hash + b"retrymore")
    assert whole.digest() == HashAlgorithm.SHA256.digest(message_hash + b"retry")
