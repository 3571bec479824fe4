from __future__ import annotations

from dataclasses import replace

import pytest

from taps_security.crypto.agreement import Group
from taps_security.crypto.signature import SignatureScheme
from taps_security.protocols.tls.keys import TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256
from taps_security.protocols.tls.options import (
    ClientConfiguration,
    ServerConfiguration,
    TlsOptions,
    is_host_name,
)
from taps_security.protocols.tls.tickets import TicketKeys
from taps_security.stack.errors import ConfigurationError

from .pair import Clock, Randomness


def test_members_go_by_their_names() -> None:
    options = TlsOptions(
        groups=("x25519", "secp256r1"),  # type: ignore[arg-type]
        ciphersuites=("TLS_AES_256_GCM_SHA384", "tls-chacha20-poly1305-sha256"),  # type: ignore[arg-type]
        signature_algorithms=["ed25519"],  # type: ignore[arg-type]
    )
    assert options.groups == (Group.X25519, Group.SECP256R1)
    assert options.ciphersuites == (TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256)
    assert options.signature_algorithms == (SignatureScheme.ED25519,)
    assert options.groups_octets == b"\0\x04\0\x1d\0\x17"
    assert options.suites_by_code == {0x1302: TLS_AES_256_GCM_SHA384, 0x1303: TLS_CHACHA20_POLY1305_SHA256}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"groups": ()}, "tls.groups: it is empty; expected names out of SECP256R1"),
        ({"groups": ("x25519", "ffdhe2048")}, "tls.groups: 'ffdhe2048' is not known"),
        ({"groups": (29,)}, "tls.groups: 29 is not known"),
        ({"groups": ("x25519", "X25519")}, "X25519 comes twice"),
        ({"groups": ("x25519",), "key_shares": ("x448",)}, "each of them must be one of tls.groups"),
        ({"ciphersuites": ()}, "tls.ciphersuites: it is empty"),
        ({"ciphersuites": ("TLS_RSA_WITH_NULL_MD5",)}, "expected names out of TLS_AES_128_GCM_SHA256"),
        ({"ciphersuites": (0x1301,)}, "4865 is not known"),
        ({"ciphersuites": ("TLS_AES_128_GCM_SHA256",) * 2}, "comes twice"),
        ({"signature_algorithms": ("rsa_pkcs1_sha256",)}, "RSA_PKCS1_SHA256 is not for TLS 1.3 handshakes"),
        ({"versions": ("1.2",)}, "only '1.3' is known"),
        ({"record_size_limit": 63}, "from 64 to 16385 is expected, not 63"),
        ({"record_size_limit": 16386}, "not 16386"),
        ({"padding": -1}, "tls.padding"),
        ({"tickets": 17}, "tls.tickets"),
        ({"tickets": True}, "not True"),
        ({"ticket_lifetime": 604_801}, "tls.ticket_lifetime"),
        ({"records_per_key": -1}, "tls.records_per_key"),
        ({"max_handshake_message": 100}, "tls.max_handshake_message"),
    ],
)
def test_wrong_options(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TlsOptions(**wrong)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_key_shares_by_default() -> None:
    assert TlsOptions().key_shares == (Group.X25519,)
    hybrid = (Group.X25519MLKEM768, Group.X25519, Group.SECP256R1)
    assert TlsOptions(groups=hybrid).key_shares == hybrid[:2]
    assert TlsOptions(groups=hybrid[:1]).key_shares == hybrid[:1]
    chosen = TlsOptions(groups=hybrid, key_shares=(Group.SECP256R1, Group.X25519MLKEM768))
    assert chosen.key_shares == (Group.X25519MLKEM768, Group.SECP256R1)  # in the order of the groups: RFC 8446 §4.2.8


def test_options_can_be_replaced() -> None:
    assert replace(TlsOptions(), groups=(Group.X448,), key_shares=()).key_shares == (Group.X448,)
    assert TlsOptions() == TlsOptions()


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("server.example", True),
        ("", False),
        (".", False),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("localhost", True),
    ],
)
def test_names_for_sni(name: str, is_one: bool) -> None:
    assert is_host_name(name) is is_one


def client(**changes: object) -> ClientConfiguration:
    return ClientConfiguration(**({"random": Randomness(), "wall_clock": Clock()} | changes))  # type: ignore[arg-type]


def server(**changes: object) -> ServerConfiguration:
    return ServerConfiguration(**({"random": Randomness(), "wall_clock": Clock()} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"alpn": ("",)}, "1 to 255 octets"),
        ({"alpn": ("x" * 256,)}, "1 to 255 octets"),
        ({"alpn": ("h2", "h2")}, "each once"),
        ({"server_name": "bücher.example"}, "A-labels"),
        ({"server_name": "x" * 256}, "255 characters"),
    ],
)
def test_wrong_client_configurations(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        client(**wrong)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"alpn": ("h2", "h2")}, "each once"),
        ({"certificates": False}, "certificates, pre-shared keys, or both"),
        ({"authorities": (bytes(40_000),)}, "at most 32768"),
        ({"ticket_keys": TicketKeys(Randomness(), Clock()), "stateful_sessions": True}, "not both"),
    ],
)
def test_wrong_server_configurations(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        server(**wrong)


def test_configurations_that_are_right() -> None:
    assert client(server_name="server.example").label_prefix == b"tls13 "
    assert server(certificates=False, external_psks=True).external_psks
