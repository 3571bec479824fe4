"""What CurveCP says of itself, and what its stacks are made from.

Everybody who chooses among protocols loads this module, so it imports neither handshake nor stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...properties.security import ClientAuthentication as Asked
from ...properties.security import Role, SecurityParameters
from ...properties.transport import TransportProperties
from ...properties.words import refuse
from ...stack.errors import ConfigurationError, Reason
from ..registry import (
    ClientRequest,
    Descriptor,
    Environment,
    Interface,
    Overrides,
    Provided,
    Provides,
    ServerRequest,
    Shape,
    optional,
)
from .limits import ANSWER_DELAY, FIRST_BLOCK, HELLO_WAITS, MAX_BLOCK
from .names import key_of_name
from .options import ClientPolicy, Congestion, CurveCpOptions

if TYPE_CHECKING:
    from ...recovery import Recovery
    from .screening import CurveCpScreener
    from .stack import CurveCpStack

KEEP_ALIVE = 30.0  # seconds, where one is wanted and nobody says which

_YES, _NO = Provided(True), Provided(False)


def provides(version: str, security: SecurityParameters, transport: TransportProperties, role: Role) -> Provides:
    """Each property, as CurveCP so configured has it."""
    options = _given(security)
    alive = _keep_alive(options, transport) is not None
    return {
        "reliability": _YES,
        "preserve_order": _YES,
        "congestion_control": Provided(True, options.congestion.value),
        "full_checksum_send": Provided(True, "every datagram is authenticated"),
        "full_checksum_recv": Provided(True, "every datagram is authenticated"),
        "keep_alive": Provided(alive, "empty messages" if alive else "not asked for"),
        "active_read_before_send": Provided(True, "a client asks with an empty message"),
        "preserve_msg_boundaries": Provided(False, "a byte stream has no messages"),
        "per_msg_reliability": Provided(False, "a byte stream is reliable as a whole"),
        "multistreaming": Provided(False, "one stream per connection"),
        "zero_rtt_msg": Provided(False, "no data goes before the cookie"),
        "soft_error_notify": Provided(False, "ICMP is not told"),
        "forward_secrecy": Provided(True, "both short-term keys are the connection's own"),
        "endpoint_authentication": Provided(True, "the server's long-term key"),
        "mutual_authentication": _mutual(options, security, role),
        "source_validation": Provided(True, "a cookie, before anything is kept"),
        "pre_shared_key": _NO,
        "algorithm_agility": Provided(False, "only X25519, XSalsa20 and Poly1305"),
        "application_negotiation": Provided(False, "a server name, and no protocols"),
        "configuration_extensions": Provided(False, "extensions are addresses"),
        "session_resumption": _NO,
        "zero_rtt": Provided(False, "no data goes before the cookie"),
        "key_update": Provided(False, "a new key is a new connection"),
        "key_export": _NO,
        "key_import": _NO,
        "connection_mobility": Provided(True, "the newest authentic datagram says where the peer is"),
        "identity_protection": Provided(True, "the client's key and the server's name are sealed"),
        "replay_protection": Provided(True, "numbered datagrams; each client key connects once"),
        "out_of_order_records": _YES,
        "length_hiding": optional(security.preference("length_hiding", role), "messages have one of four sizes"),
        "post_quantum": _NO,
    }


def _given(security: SecurityParameters) -> CurveCpOptions:
    given = security.options.get("curvecp")
    return given if isinstance(given, CurveCpOptions) else _DEFAULT


def _mutual(options: CurveCpOptions, security: SecurityParameters, role: Role) -> Provided:
    if role is Role.CLIENT:
        return Provided(options.key is not None, "our long-term key" if options.key else "anonymous: no key= was given")
    checked = options.client_policy is ClientPolicy.KNOWN or security.trust_callback is not None
    return Provided(checked, "clients' keys are looked at" if checked else "any client is served")


def pads(security: SecurityParameters, role: Role) -> bool:
    """Whether messages are padded to hide lengths: unless that was avoided or prohibited."""
    return security.preference("length_hiding", role) >= 0


def _keep_alive(options: CurveCpOptions, transport: TransportProperties) -> float | None:
    if options.keep_alive is not None:
        return options.keep_alive
    wish, timeout = transport.preference("keep_alive"), transport.keep_alive_timeout
    if wish > 0 or (wish == 0 and timeout is not None):
        return timeout if isinstance(timeout, int | float) and timeout > 0 else KEEP_ALIVE
    return None


def credentials(security: SecurityParameters, role: Role) -> str | None:
    """What is missing, or None."""
    options = _given(security)
    if role is Role.SERVER:
        if options.key is None:
            return "the server's long-term key (options={'curvecp': CurveCpOptions(key=...)})"
        if security.asks_clients is Asked.REQUIRE and not _mutual(options, security, role).value:
            return "whom to serve (known_clients= or trust_callback=), since clients are to be authenticated"
        return None
    if options.server_key is None and not named(security.server_name or ""):
        return "the server's public key (options={'curvecp': CurveCpOptions(server_key=...)}) or a uz5... name"
    return None


def named(host: str) -> bool:
    """Whether a host name has the server's public key in a `uz5...` label."""
    return key_of_name(host) is not None


def from_table(table: Mapping[str, Any], private_key: bytes | None) -> CurveCpOptions:
    """Options from the table [curvecp] of a profile: see `table.from_table`."""
    from .table import from_table  # noqa: PLC0415 -- few have a profile

    return from_table(table, private_key)


def overridden(options: CurveCpOptions | None, given: Overrides) -> CurveCpOptions:
    """Options with keys and a name that were given apart: see `table.overridden`."""
    from .table import overridden  # noqa: PLC0415 -- the command's, mostly

    return overridden(options, given)


def new_recovery(options: CurveCpOptions, environment: Environment) -> Recovery:
    """Estimator, controller and pacer of one connection."""
    from ...recovery import Chicago, Cubic, NewReno, Pacer, Recovery, RttEstimator  # noqa: PLC0415 -- with the stack

    rtt = RttEstimator()
    if options.congestion is Congestion.CHICAGO:

        def below(limit: int) -> int:
            return int.from_bytes(environment.random(8), "little") % limit if limit else 0

        return Recovery(rtt, Chicago(rtt, below, DATAGRAM), Pacer(), max_ack_delay=ANSWER_DELAY)
    kind = NewReno if options.congestion is Congestion.NEW_RENO else Cubic
    return Recovery(rtt, kind(rtt, DATAGRAM), Pacer(), max_ack_delay=ANSWER_DELAY)


DATAGRAM = 1184  # octets that the controllers count with


def client(request: ClientRequest) -> CurveCpStack:
    """A client's stack, not yet started. ConfigurationError: nothing says the server's key."""
    from .delivery import Delivery  # noqa: PLC0415 -- what only describes itself needs no stack
    from .handshake import ClientConfiguration, ClientHandshake  # noqa: PLC0415
    from .keys import KeyPair  # noqa: PLC0415
    from .record import CurveCpRecord  # noqa: PLC0415
    from .stack import CurveCpStack  # noqa: PLC0415

    options, environment = _given(request.security), request.environment
    server_key = options.server_key or key_of_name(request.server_name)
    if server_key is None:
        raise ConfigurationError(
            f"curvecp: nothing says the public key of {request.server_name!r}; give server_key= or a uz5... name",
            reason=Reason.MISSING_CREDENTIAL,
        )
    random = environment.random
    configuration = ClientConfiguration(
        key=KeyPair.generate(random) if options.key is None else KeyPair.of(options.key),
        server_key=server_key,
        name=options.server_name if options.server_name is not None else request.server_name,
        extension=options.extension,
        server_extension=options.server_extension,
        anonymous=options.key is None,
        random=random,
    )
    handshake = ClientHandshake(configuration)
    record = CurveCpRecord(
        client=True,
        public=handshake.public,
        extension=options.extension,
        peer_extension=options.server_extension,
    )
    return CurveCpStack(
        handshake,
        record,
        Delivery(new_recovery(options, environment), FIRST_BLOCK, pads=pads(request.security, Role.CLIENT)),
        idle_timeout=options.idle_timeout,
        keep_alive=_keep_alive(options, request.transport),
        jitter=tuple(octet / 256 for octet in random(len(HELLO_WAITS))),
    )


def screener(request: ServerRequest) -> CurveCpScreener:
    """What answers Hellos and accepts connections of one listener. ConfigurationError: there is no key."""
    from .delivery import Delivery  # noqa: PLC0415 -- what only describes itself needs no stack
    from .keys import KeyPair  # noqa: PLC0415
    from .screening import CurveCpScreener, ServerConfiguration  # noqa: PLC0415

    security, environment = request.security, request.environment
    options = _given(security)
    if options.key is None:
        refuse("CurveCpOptions.key", None, "the server's long-term key", reason=Reason.MISSING_CREDENTIAL)
    return CurveCpScreener(
        ServerConfiguration(
            key=KeyPair.of(options.key),
            name=options.server_name if options.server_name is not None else security.server_name,
            extension=options.extension,
            known=options.known_clients if options.client_policy is ClientPolicy.KNOWN else None,
            verifies=security.trust_callback is not None,
            idle_timeout=options.idle_timeout,
            keep_alive=_keep_alive(options, request.transport),
            random=environment.random,
            wall_clock=environment.wall_clock,
            delivery=lambda: Delivery(new_recovery(options, environment), MAX_BLOCK, pads=pads(security, Role.SERVER)),
        )
    )


_DEFAULT = CurveCpOptions()

DESCRIPTOR = Descriptor(
    name="curvecp",
    versions=("1",),
    shape=Shape.STREAM_TO_DATAGRAM,
    carrier="udp",
    labels=frozenset({Interface.IPK, Interface.IV, Interface.SAV, Interface.CT, Interface.ME}),
    deviations={
        "SAV": "the cookie shows that an address receives, before anything is kept for it",
        "CT": "the ends of both streams are told, and a stream that failed is told apart",
    },
    options=CurveCpOptions,
    provides=provides,
    credentials=credentials,
    named=named,
    client=client,
    screener=screener,
    claims=(b"QvnQ5Xl",),  # all that clients send
    from_table=from_table,
    paths=frozenset({"key"}),
    overridden=overridden,
)
