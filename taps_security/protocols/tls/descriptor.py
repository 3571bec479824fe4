"""What TLS says of itself, and what its stacks are made from.

Everybody who chooses among protocols loads this module, so it imports neither of the two handshakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...crypto.agreement import Group
from ...properties.credentials import PreSharedKey
from ...properties.preference import Preference
from ...properties.security import ClientAuthentication as Asked
from ...properties.security import Role, SecurityParameters
from ...properties.transport import TransportProperties
from ...stack.frozen import replace
from ..registry import (
    ClientRequest,
    Descriptor,
    Interface,
    Provided,
    Provides,
    ServerRequest,
    Shape,
    byte_stream_provides,
    optional,
)
from .options import DEFAULT_OPTIONS, ClientConfiguration, TlsOptions
from .psk import ExternalPsk
from .tickets import Session

if TYPE_CHECKING:
    from .delivery import TlsStack
    from .screening import TlsScreener

HIDING_BLOCK = 512  # octets: with length hiding preferred, inner plaintexts grow to a multiple of it

_YES, _NO = Provided(True), Provided(False)


def provides(version: str, security: SecurityParameters, transport: TransportProperties, role: Role) -> Provides:
    """Each property, as TLS 1.3 so configured has it."""

    def wish(feature: str) -> Preference:
        return security.preference(feature, role)

    wants_hiding = wish("length_hiding") > 0 or _given(security).padding > 0
    wants_hybrid = wish("post_quantum") > 0 or _given(security).groups[0] is Group.X25519MLKEM768
    return {
        **byte_stream_provides(transport),
        "forward_secrecy": Provided(True, "every key agreement has an ephemeral share"),
        "endpoint_authentication": Provided(True, "certificates, or an external pre-shared key"),
        "mutual_authentication": _mutual(security, role),
        "source_validation": Provided(True, "TCP's handshake"),
        "pre_shared_key": Provided(keyed(security, role), "as it was given"),
        "algorithm_agility": _YES,
        "application_negotiation": _YES,
        "configuration_extensions": _YES,
        "session_resumption": optional(wish("session_resumption"), "tickets, with a fresh key agreement"),
        "zero_rtt": Provided(False, "no data goes before the handshake"),
        "key_update": _YES,
        "key_export": _YES,
        "key_import": _NO,
        "connection_mobility": Provided(False, "a TCP connection stays where it is"),
        "identity_protection": _hides_identities(security, role),
        "replay_protection": Provided(True, "no early data; records are numbered"),
        "out_of_order_records": Provided(False, "records come in order"),
        "length_hiding": Provided(wants_hiding, "record padding" if wants_hiding else "not asked for"),
        "post_quantum": Provided(wants_hybrid, "X25519MLKEM768" if wants_hybrid else "offered, not preferred"),
    }


def keyed(security: SecurityParameters, role: Role) -> bool:
    """Whether there may be an external pre-shared key: a listener may look each one up."""
    return bool(security.psks) or (role is Role.SERVER and security.psk_callback is not None)


def certified(security: SecurityParameters, role: Role) -> bool:
    """Whether there may be certificates: not where an external pre-shared key must take part."""
    given = bool(security.identities) if role is Role.SERVER else security.trust_of(role) is not None
    return given and security.preference("pre_shared_key", role) is not Preference.REQUIRE


def _hides_identities(security: SecurityParameters, role: Role) -> Provided:
    if keyed(security, role):
        return Provided(False, "the name of a pre-shared key is sent in the clear")
    return Provided(True, "certificates are encrypted; the server name is not")


def _mutual(security: SecurityParameters, role: Role) -> Provided:
    """A client cannot know beforehand: what it requires is held against the outcome (`client_flight`)."""
    if keyed(security, role) and not certified(security, role):
        return Provided(True, "the pre-shared key authenticates both sides")
    if role is Role.CLIENT:
        return Provided(bool(security.identities), "if the server asks" if security.identities else "no identity given")
    required = security.asks_clients is Asked.REQUIRE
    return Provided(
        required, "client certificates are required" if required else "client certificates are not required"
    )


def credentials(security: SecurityParameters, role: Role) -> str | None:
    """What is missing, or None."""
    has_key = keyed(security, role)
    if role is Role.SERVER:
        if not security.identities and not has_key:
            return "a certificate with its key (identity=) or a pre-shared key (psk=, psk_callback=)"
        if certified(security, role) and security.asks_clients is not Asked.NONE and security.trust is None:
            return "whom to trust (trust=), since clients are asked for certificates"
        return None
    if security.trust_of(role) is None and not has_key:
        return "whom to trust (trust=) or a pre-shared key (psk=)"
    return None


def _given(security: SecurityParameters) -> TlsOptions:
    given = security.options.get("tls")
    return given if isinstance(given, TlsOptions) else DEFAULT_OPTIONS


def configured_options(security: SecurityParameters, role: Role) -> TlsOptions:
    """What was given, bent to what was preferred or required."""
    options = _given(security)
    hybrid = security.preference("post_quantum", role)
    if hybrid is Preference.REQUIRE:
        options = replace(options, groups=(Group.X25519MLKEM768,), key_shares=())
    elif hybrid is Preference.PREFER:
        rest = tuple(group for group in options.groups if group is not Group.X25519MLKEM768)
        options = replace(options, groups=(Group.X25519MLKEM768, *rest), key_shares=())
    elif hybrid < 0:
        kept = tuple(group for group in options.groups if group is not Group.X25519MLKEM768)
        options = replace(options, groups=kept, key_shares=())
    if security.preference("length_hiding", role) > 0 and not options.padding:
        options = replace(options, padding=HIDING_BLOCK)
    return options


def external_psk(key: PreSharedKey, options: TlsOptions) -> ExternalPsk:
    """The application's key as TLS uses it: through the importer unless the options say otherwise (RFC 9258)."""
    return ExternalPsk(identity=key.identity, key=key.key, imported=options.import_psk)


def client(request: ClientRequest) -> TlsStack:
    """A client's stack, not yet started."""
    from .client import ClientHandshake  # noqa: PLC0415 -- a server needs no client
    from .delivery import assemble  # noqa: PLC0415 -- what only describes itself needs no stack

    security, environment = request.security, request.environment
    options = configured_options(security, Role.CLIENT)
    resumes = security.preference("session_resumption", Role.CLIENT) >= 0
    configuration = ClientConfiguration(
        server_name=request.server_name,
        alpn=security.alpn,
        options=options,
        session=request.session if resumes and isinstance(request.session, Session) else None,
        psks=tuple(external_psk(key, options) for key in security.psks),
        require_mutual_authentication=_is_required("mutual_authentication", security),
        require_pre_shared_key=_is_required("pre_shared_key", security),
        random=environment.random,
        wall_clock=environment.wall_clock,
        key_log=environment.key_log,
    )
    return assemble(ClientHandshake(configuration), options)


def _is_required(feature: str, security: SecurityParameters) -> bool:
    return security.preference(feature, Role.CLIENT) is Preference.REQUIRE


def screener(request: ServerRequest) -> TlsScreener:
    """What accepts the connections of one listener."""
    from .screening import TlsScreener  # noqa: PLC0415 -- a client needs no server

    return TlsScreener(request)


DESCRIPTOR = Descriptor(
    name="tls",
    versions=("1.3",),
    shape=Shape.STREAM_TO_STREAM,
    carrier="tcp",
    labels=frozenset(
        {
            Interface.IPK,
            Interface.ALG,
            Interface.EXT,
            Interface.CM,
            Interface.PSKI,
            Interface.IV,
            Interface.CT,
            Interface.KU,
            Interface.SSKE,
            Interface.KE,
        }
    ),
    deviations={"KE": "RFC 8446 §5.5 bounds what a key may protect, and the record layer reports it"},
    options=TlsOptions,
    restore=Session.parse,
    provides=provides,
    credentials=credentials,
    client=client,
    screener=screener,
)
