"""What HandshakeComplete says of a TLS handshake, in words for reports."""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType

from taps_security.crypto.agreement import Group
from taps_security.crypto.signature import SignatureScheme
from taps_security.stack.events import HandshakeComplete

from .keys import TrafficSecret
from .psk import BINDER_IMPORTED, BINDER_RESUMPTION, OfferedPsk

__all__ = ["summarise"]

_GROUP_NAMES = {int(group): group.name for group in Group}
_PSK_KINDS = {BINDER_RESUMPTION: "resumption", BINDER_IMPORTED: "imported"}


def summarise(
    send: TrafficSecret,
    receive: TrafficSecret,
    *,
    group: int,
    peer_scheme: int,
    own_scheme: int | None,
    alpn: str | None,
    server_name: str,
    psk: OfferedPsk | None,
    retried: bool,
    mutual: bool,
) -> HandshakeComplete:
    """The event and its summary: `algorithms` maps kinds to names; `psk` is None, "resumption", "imported", "external".

    `record_size_limit`: the largest inner plaintext in octets that goes out and that may come in. `peer_signature`
    and `own_signature` are absent where a PSK stands in for them. `provides`: properties that only the outcome decides.
    """
    kind = None if psk is None else _PSK_KINDS.get(psk.binder_label, "external")
    limits = (send.record_size_limit, receive.record_size_limit)
    provides = (mutual, psk is not None and psk.from_outside)
    return _event(send.suite.name, group, peer_scheme, own_scheme, alpn, server_name, kind, retried, provides, limits)


@lru_cache(maxsize=256)  # most connections of an endpoint agree the same: one object serves them all
def _event(
    suite: str,
    group: int,
    peer_scheme: int,
    own_scheme: int | None,
    alpn: str | None,
    server_name: str,
    kind: str | None,
    retried: bool,
    provides: tuple[bool, bool],
    limits: tuple[int, int],
) -> HandshakeComplete:
    algorithms = {"ciphersuite": suite, "group": _GROUP_NAMES[group]}
    if peer_scheme:
        algorithms["peer_signature"] = SignatureScheme(peer_scheme).name
    if own_scheme:
        algorithms["own_signature"] = SignatureScheme(own_scheme).name
    mutual, psk = provides
    summary = MappingProxyType(
        {
            "version": "1.3",
            "algorithms": MappingProxyType(algorithms),
            "alpn": alpn,
            "server_name": server_name,
            "resumed": kind == "resumption",
            "psk": kind,
            "hello_retry": retried,
            "provides": MappingProxyType({"mutual_authentication": mutual, "pre_shared_key": psk}),
            "record_size_limit": limits,
        }
    )
    return HandshakeComplete(summary)
