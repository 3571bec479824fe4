"""From declared trust to trust anchors that verify."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ..properties.trust import Trust
from ..stack.errors import ConfigurationError, Reason

if TYPE_CHECKING:
    from ..crypto.trust import TrustAnchors


def anchors_of(trust: Trust | None) -> Callable[[], TrustAnchors | None]:
    """A function that gives the anchors, always the same object.

    What the application named (files, octets) is read now, so that ConfigurationError comes now; the system's store
    is read when the first peer is verified, because that takes longer than all the rest.
    """
    if trust is None:
        return lambda: None
    load = cache(lambda: _load(trust))
    if not trust.system_roots:
        load()
    return load


def _load(trust: Trust) -> TrustAnchors:
    from ..crypto.certificates import CredentialError, load_certificates  # noqa: PLC0415 -- loaded with the first peer
    from ..crypto.trust import TrustAnchors  # noqa: PLC0415

    try:
        sources = [TrustAnchors.system()] if trust.system_roots else []
        sources += [TrustAnchors.from_file(path) for path in trust.files]
        if len(sources) == 1 and not trust.certificates and not trust.pinned:
            return sources[0]
        roots = [root for source in sources for root in source.roots]
        for octets in trust.certificates:
            roots += load_certificates(octets, source="Trust.pem")
        return TrustAnchors(dict.fromkeys(roots), pins=[pin.sha256 for pin in trust.pinned])
    except CredentialError as error:
        raise ConfigurationError(f"trust: {error}", reason=Reason.MISSING_CREDENTIAL) from None
