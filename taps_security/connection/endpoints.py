"""One Endpoint per local address: listeners and tunnels of several protocols may share a port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..transport.network import Address, network_of
from .endpoint import Endpoint

_Table = WeakValueDictionary[tuple[Hashable, str, int], Endpoint]
_open: WeakKeyDictionary[asyncio.AbstractEventLoop, _Table] = WeakKeyDictionary()


def open_endpoint(
    loop: asyncio.AbstractEventLoop, local: Address, *, random: Callable[[int], bytes], reuse_port: bool = False
) -> Endpoint:
    """The endpoint at a local address (port 0: a free one), which others of this loop may use already.

    Raises OSError. It closes itself when its last user has left; one that never got any is its opener's to close.
    `reuse_port`: one of its own, beside those of others who say so too.
    """
    network = network_of(loop)
    if reuse_port:
        return Endpoint(loop, network.open_datagram(local, reuse_port=True), random=random)
    place = network.place()
    table = _open.setdefault(loop, _Table())
    known = table.get((place, *local))
    if known is not None and not known.closed:
        return known
    endpoint = Endpoint(loop, network.open_datagram(local), random=random)
    table[place, local[0], endpoint.local[1]] = endpoint
    return endpoint
