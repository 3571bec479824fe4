"""Every parser that is fed from outside, as a fuzz target: samples, and what must hold whatever comes.

Each target says its invariant first. What raises anything else than the errors that it names fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taps_security.cli import profile
from taps_security.crypto.certificate_path import CertificateError
from taps_security.crypto.certificates import (
    CredentialError,
    certificate_pem,
    load_certificates,
    load_private_key,
    load_public_key,
    names_of,
    parse_certificate_untrusted,
    private_key_pem,
    public_key_from_spki,
    public_key_of,
    schemes_of,
    subject_text,
)
from taps_security.crypto.trust import TrustAnchors, verify_chain
from taps_security.parts.codec import MalformedMessage
from taps_security.properties.credentials import Identity, Pin, PreSharedKey
from taps_security.protocols.tls import extensions, wire
from taps_security.protocols.tls.alerts import TlsEnds
from taps_security.protocols.tls.negotiation import read_client_hello_untrusted
from taps_security.protocols.tls.psk import ImportedIdentity
from taps_security.protocols.tls.record import TlsRecord
from taps_security.protocols.tls.tickets import ServerSession, Session, TicketKeys
from taps_security.protocols.wireguard import quick
from taps_security.stack.asks import VerifyPeer
from taps_security.stack.errors import ConfigurationError, PeerMisbehaved, RemoteError, TapsError
from taps_security.stack.events import Direction, KeyId, KeyReady, Stage
from taps_security.stack.layers import StreamOpened
from tests.faults.memory import ends, records_of, shake
from tests.fuzz import curvecp, inner_packets, tunnels
from tests.fuzz.handshakes import SCENARIOS, chain, fixed, hear, recorded
from tests.protocols.tls.pair import AT, Clock, Pair, Randomness

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """A parser. `run` raises only what breaks the invariant."""

    name: str
    samples: Callable[[], tuple[bytes, ...]]  # made on first use
    run: Run


# -- samples ---------------------------------------------------------------------------------------------------------
@lru_cache
def messages() -> tuple[bytes, ...]:
    """The handshake messages of a full, a retried, a mutual, a keyed and a resumed handshake."""
    found = []
    for scenario in SCENARIOS:
        for role in ("client", "server"):
            octets = b"".join(item.content for item in recorded(role, scenario).items if item.kind == 22)
            while octets:
                length = 4 + int.from_bytes(octets[1:4], "big")
                found.append(octets[:length])
                octets = octets[length:]
    return tuple(dict.fromkeys(found))


def bodies(kind: int) -> tuple[bytes, ...]:
    """The bodies of the recorded messages of one type."""
    return tuple(message[4:] for message in messages() if message[0] == kind)


@lru_cache
def extension_bodies() -> dict[int, tuple[bytes, ...]]:
    """The bodies of the recorded extensions, by type."""
    found: dict[int, list[bytes]] = {}
    for kind, parse in ((1, wire.parse_client_hello_untrusted), (2, wire.parse_server_hello_untrusted)):
        for body in bodies(kind):
            for extension, octets in parse(body).extensions.items():
                found.setdefault(extension, []).append(octets)
    return {extension: tuple(dict.fromkeys(octets)) for extension, octets in found.items()}


# -- messages and extensions -----------------------------------------------------------------------------------------
def message_target(kind: wire.HandshakeType, parse: Callable[[bytes], Any], *, exact: bool = True) -> Target:
    """Invariant: MalformedMessage, or (`exact`) a message whose encoding is again the octets that were read."""

    def run(octets: bytes) -> None:
        try:
            found = parse(octets)
        except MalformedMessage:
            return
        if exact:
            assert found.encode() == wire.encode_message(kind, octets)

    return Target(kind.name.lower(), lambda: bodies(kind), run)


def hello_target(kind: wire.HandshakeType, parse: Callable[[bytes], Any]) -> Target:
    """Invariant: as above; only a hello without any extension may come without their length."""

    def run(octets: bytes) -> None:
        try:
            found = parse(octets)
        except MalformedMessage:
            return
        encoded = found.encode()[4:]
        assert encoded in {octets, octets + b"\0\0"}

    return Target(kind.name.lower(), lambda: bodies(kind), run)


def extension_target(name: str, kind: int, parse: Callable[[bytes], Any], *samples: bytes) -> Target:
    """Invariant: MalformedMessage or a value, which holds no more octets than were read."""

    def run(octets: bytes) -> None:
        try:
            found = parse(octets)
        except MalformedMessage:
            return
        assert size_of(found) <= len(octets) + 4

    return Target(f"extension {name}", lambda: (*samples, *extension_bodies().get(kind, ())), run)


def size_of(found: Any) -> int:
    """Octets in the strings of a value."""
    if isinstance(found, bytes | str):
        return len(found)
    return sum(map(size_of, found)) if isinstance(found, tuple | list) else 0


def read_whole_hello(octets: bytes) -> None:
    """Invariant: a ClientHello is refused with one of our errors, or its facts are all there."""
    try:
        facts = read_client_hello_untrusted(wire.encode_message(wire.HandshakeType.CLIENT_HELLO, octets))
    except (MalformedMessage, RemoteError):
        return
    assert facts.psks is None or len(facts.psks.identities) == len(facts.psks.binders)
    assert {entry.group for entry in facts.shares} <= set(facts.groups)


def imported_identity(octets: bytes) -> None:
    """Invariant: None, or an identity whose encoding is again the octets that were read."""
    found = ImportedIdentity.parse_untrusted(octets)
    assert found is None or found.encode() == octets


# -- sessions and tickets --------------------------------------------------------------------------------------------
def _pair(server: dict[str, Any]) -> Pair:
    """Both ends after a handshake that is the same each time."""
    pair = Pair({}, server, identities=[fixed("server")])
    pair.client.answers[VerifyPeer] = lambda request: "the peer"
    return pair.run()


@lru_cache
def sessions() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Saved sessions of clients and of servers."""
    keys = TicketKeys(Randomness(b"tickets"), Clock())
    pair = _pair({"ticket_keys": keys})
    stateful = _pair({"stateful_sessions": True})
    return (
        tuple(session.serialise() for session in pair.client.sessions),
        tuple(session.serialise() for session in stateful.server.sessions),
    )


def client_session(octets: bytes) -> None:
    """Invariant: ConfigurationError, or a session that is saved as the very octets."""
    try:
        session = Session.parse(octets)
    except ConfigurationError:
        return
    assert Session.parse(session.serialise()) == session


def server_session(octets: bytes) -> None:
    """Invariant: MalformedMessage, or a session that is saved and read again as the same."""
    try:
        session = ServerSession.parse(octets)
    except MalformedMessage:
        return
    assert ServerSession.parse(session.serialise()) == session


@lru_cache
def ticket_keys() -> tuple[TicketKeys, bytes]:
    keys = TicketKeys(Randomness(b"tickets"), Clock())
    ticket = keys.seal(ServerSession.parse(sessions()[1][0]))
    assert ticket is not None
    return keys, ticket


def ticket(octets: bytes) -> None:
    """Invariant: whatever is not the very ticket opens as nothing, and nothing is raised."""
    keys, good = ticket_keys()
    assert (keys.open_untrusted(octets) is not None) == (octets == good)


# -- records and alerts ----------------------------------------------------------------------------------------------
@lru_cache
def records() -> tuple[tuple[bytes, ...], tuple[bytes, ...], KeyReady]:
    """Plaintext records, protected ones, and the key that opens those."""
    client, server = ends(identities=[fixed("server")])
    client.endpoint.answers[VerifyPeer] = lambda request: "the peer"
    shake(client, server)
    other = server
    secret = other.stack.secrets[-1]
    number = other.record.sending(other.stack._send_key).number
    other.record.sending(other.stack._send_key).number = 0
    protected = [other.protect(23, b"octets" * 5, padding) for padding in (0, 0, 9)]
    protected += [other.protect(21, b"\1\0"), other.protect(22, b"\x18\0\0\1\0"), other.protect(23, b"")]
    other.record.sending(other.stack._send_key).number = number
    assert records_of(client)
    key = KeyReady(KeyId(Stage.APPLICATION), Direction.RECEIVE, secret)
    return (client.wire[:300], server.wire[:300]), (b"".join(protected), protected[0] + protected[3]), key


def open_records(octets: bytes, *, keyed: bool) -> None:
    """Invariant: PeerMisbehaved, or progress up to an unfinished record; never more octets out than in."""
    record, opened = TlsRecord(), StreamOpened()
    if keyed:
        record.import_key(records()[2])
    data = memoryview(bytearray(octets))
    position = delivered = 0
    while position < len(data):
        try:
            step = record.open(data[position:], opened, 0.0)
        except PeerMisbehaved:
            break
        assert 0 <= step <= len(data) - position
        delivered += len(opened.application or b"")
        if opened.kind is None or not step:
            break
        delivered += len(opened.unit or b"")
        position += step
    assert delivered <= len(octets)


def plaintext_records(octets: bytes) -> None:
    """Invariant: see open_records()."""
    open_records(octets, keyed=False)


def protected_records(octets: bytes) -> None:
    """Invariant: see open_records()."""
    open_records(octets, keyed=True)


def alert(octets: bytes) -> None:
    """Invariant: True, False or one of our errors, and never an exception."""
    verdict = TlsEnds().read(memoryview(octets))
    assert isinstance(verdict, bool | TapsError)


# -- certificates, keys and what users write -------------------------------------------------------------------------
def certificate(octets: bytes) -> None:
    """Invariant: CredentialError from each function that looks into a certificate, or an answer."""
    for look in (parse_certificate_untrusted, public_key_of, schemes_of, names_of, subject_text):
        try:
            look(octets)
        except CredentialError:
            continue


@lru_cache
def _anchors() -> TrustAnchors:
    return TrustAnchors(chain("authority"))


def peer_chain(octets: bytes) -> None:
    """Invariant: CertificateError, and only what the authority signed is verified (a signature's encoding may vary)."""
    try:
        verify_chain(_anchors(), (octets,), "server.example", AT, "server")
    except CertificateError:
        return
    found, good = map(parse_certificate_untrusted, (octets, chain("server")[0]))
    assert found.tbs_certificate_bytes == good.tbs_certificate_bytes


def subject_public_key(octets: bytes) -> None:
    """Invariant: CredentialError or a key."""
    try:
        public_key_from_spki(octets)
    except CredentialError:
        return


def pem(octets: bytes) -> None:
    """Invariant: CredentialError from everything that reads a file of the user, ConfigurationError above it."""
    for load in (load_certificates, load_private_key, load_public_key, TrustAnchors.from_pem):
        try:
            load(octets)
        except CredentialError:
            continue
    for certificates, key in ((octets, pems()[1]), (pems()[0], octets)):
        try:
            Identity.pem(certificates, key)
        except ConfigurationError:
            continue


def words(octets: bytes) -> None:
    """Invariant: ConfigurationError, or a pin and a key that are what was written."""
    text = octets.decode("latin-1")
    for parse in (Pin.of, PreSharedKey.parse):
        try:
            parse(text)
        except ConfigurationError:
            continue


@lru_cache
def pems() -> tuple[bytes, bytes]:
    """A certificate and its key as users have them."""
    ours = fixed("server")
    assert ours.private_key is not None
    return certificate_pem(*ours.chain), private_key_pem(ours.private_key)


_FOLDER = TemporaryDirectory(prefix="fuzz-")
_PROFILE = b"""
[local]
key_password = "x"
[remote]
host = "server.example"
port = 4433
server_name = "server.example"
trust = "system"
fingerprint = "sha256:%s"
[transport]
reliability = "require"
conn_timeout = 5.0
[security]
stacks = ["tls/1.3"]
require = ["forward_secrecy"]
prefer = ["post_quantum"]
alpn = ["echo/1"]
psk = { identity = "me", key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }
[tls]
groups = ["x25519"]
record_size_limit = 512
[wireguard]
address = ["10.88.0.1/24", "fd00::1/64"]
listen_port = 51820
mtu = 1400
[[wireguard.peers]]
public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
endpoint = "[2001:db8::1]:51820"
allowed_ips = ["10.88.0.2/32"]
persistent_keepalive = 25
""" % (b"ab" * 32)


def profile_file(octets: bytes) -> None:
    """Invariant: ConfigurationError, which names the file, or a profile."""
    path = Path(_FOLDER.name) / "profile.toml"
    path.write_bytes(octets)
    try:
        found = profile.load(path, bytes(32))
    except ConfigurationError:
        return
    assert found.port is None or 0 <= found.port <= 65_535


_TUNNEL = b"""# comment
[Interface]
PrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
Address = 10.88.0.1/24, fd00::1/64
ListenPort = 51820
MTU = 1400
PostUp = true
[Peer]
PublicKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
PresharedKey = WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=
Endpoint = [2001:db8::1]:51820
AllowedIPs = 10.88.0.2/32, fd00::2/128
PersistentKeepalive = off
"""


def tunnel_file(octets: bytes) -> None:
    """Invariant: ConfigurationError that shows no key, or a tunnel that is written and read again as the same."""
    source = octets.decode("latin-1")
    try:
        found = quick.read(source)
    except ConfigurationError as error:
        shown = str(error)
    else:
        shown = repr(found.options)
        assert quick.read(quick.write(found.options)) == (found.options, ())
    assert "BgcICQoLDA0ODxAREhMUFRYXGBkaGxwd" not in shown
    assert "WlpaWlpaWlpaWlpaWlpaWlpa" not in shown


# -- all of them -----------------------------------------------------------------------------------------------------
_HANDSHAKE = wire.HandshakeType
_EXTENSIONS: dict[str, tuple[int, Callable[[bytes], Any], tuple[bytes, ...]]] = {
    "supported_groups": (10, extensions.parse_u16_vector_untrusted, ()),
    "supported_versions": (43, extensions.parse_supported_versions_untrusted, ()),
    "psk_key_exchange_modes": (45, extensions.parse_psk_modes_untrusted, ()),
    "server_name": (0, extensions.parse_server_name_untrusted, ()),
    "key_share": (51, extensions.parse_key_shares_untrusted, ()),
    "key_share of a server": (51, extensions.parse_key_share_untrusted, ()),
    "pre_shared_key": (41, extensions.parse_offered_psks_untrusted, ()),
    "record_size_limit": (28, extensions.parse_u16_untrusted, ()),
    "alpn": (16, extensions.parse_alpn_untrusted, (extensions.encode_alpn([b"h2", b"http/1.1"]),)),
    "cookie": (44, extensions.parse_cookie_untrusted, (b"\0\3abc",)),
    "certificate_authorities": (47, extensions.parse_authorities_untrusted, (b"\0\x06\0\4abcd",)),
}


TARGETS = {
    target.name: target
    for target in (
        hello_target(_HANDSHAKE.CLIENT_HELLO, wire.parse_client_hello_untrusted),
        hello_target(_HANDSHAKE.SERVER_HELLO, wire.parse_server_hello_untrusted),
        message_target(_HANDSHAKE.ENCRYPTED_EXTENSIONS, wire.parse_encrypted_extensions_untrusted, exact=False),
        message_target(_HANDSHAKE.CERTIFICATE_REQUEST, wire.parse_certificate_request_untrusted),
        message_target(_HANDSHAKE.CERTIFICATE, wire.parse_certificate_untrusted),
        message_target(_HANDSHAKE.CERTIFICATE_VERIFY, wire.parse_certificate_verify_untrusted),
        message_target(_HANDSHAKE.NEW_SESSION_TICKET, wire.parse_new_session_ticket),
        message_target(_HANDSHAKE.KEY_UPDATE, wire.parse_key_update, exact=False),
        Target("whole client_hello", lambda: bodies(1), read_whole_hello),
        *(extension_target(name, kind, parse, *samples) for name, (kind, parse, samples) in _EXTENSIONS.items()),
        Target(
            "imported identity", lambda: (ImportedIdentity(b"me", b"context", 0x0304, 1).encode(),), imported_identity
        ),
        Target("session of a client", lambda: sessions()[0], client_session),
        Target("session of a server", lambda: sessions()[1], server_session),
        Target("ticket", lambda: (ticket_keys()[1],), ticket),
        Target("plaintext records", lambda: records()[0], plaintext_records),
        Target("protected records", lambda: records()[1], protected_records),
        Target("client engine", lambda: records()[0][1:], lambda octets: hear("client", octets)),
        Target("server engine", lambda: records()[0][:1], lambda octets: hear("server", octets)),
        Target("inner packet", inner_packets.samples, inner_packets.inner_packet),
        Target("inner flows", inner_packets.samples, inner_packets.inner_flows),
        Target("wireguard message", tunnels.samples, tunnels.message),
        Target("wireguard stranger", tunnels.samples, tunnels.stranger),
        Target("wireguard initiation", tunnels.samples, tunnels.initiation),
        Target("wireguard answer", tunnels.samples, tunnels.answer),
        Target("wireguard late answer", tunnels.samples, tunnels.late_answer),
        Target("curvecp packet", curvecp.packets, curvecp.packet),
        Target("curvecp stranger", curvecp.packets, curvecp.stranger),
        Target("curvecp replayed", curvecp.packets, curvecp.replayed),
        Target("curvecp message", curvecp.messages, curvecp.message),
        Target("curvecp authentic", curvecp.messages, curvecp.authentic),
        Target("alert", lambda: (b"\1\0", b"\2\x28"), alert),
        Target("certificate", lambda: (*chain("server"), *chain("authority")), certificate),
        Target("chain", lambda: (*chain("server"), *chain("other")), peer_chain),
        Target("subject public key", lambda: (fixed("server").raw_public_key,), subject_public_key),
        Target("pem", pems, pem),
        Target("words", lambda: (b"sha256:" + b"ab" * 32, b"me:" + b"QUJD" * 8), words),
        Target("profile", lambda: (_PROFILE,), profile_file),
        Target("wg-quick", lambda: (_TUNNEL,), tunnel_file),
    )
}
