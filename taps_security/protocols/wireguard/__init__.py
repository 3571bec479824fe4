"""WireGuard (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel"; Noise revision 34, IKpsk2).

    initiator                                      responder                keys
    Initiation {static, timestamp}, mac1    -->                             ephemeral and static keys
                                            <--    Cookie reply*            (only under load; back with mac2)
                                            <--    Response {}, mac1        receiving key at once, sending key withheld
    Transport data, or an empty keepalive   -->                             confirms the new pair
    Transport data                         <-->    Transport data           previous, current, next

    * the initiator keeps the cookie for 120 s and sends a new initiation at its next try.

`options` is what users say, `quick` reads and writes it as wg-quick does, `wire` turns messages into octets, `keys` is
the key schedule, `handshake` creates and consumes initiations and responses, `peers` holds what one local end knows of
all its peers, `screening` looks at initiations before any state exists, `reasons` says why something was dropped.
`record` seals and opens, `delivery` has the timers, `flows` the inner packets and their queue; in `stack` they meet,
once for each peer, and `tunnel` is the local end of them all. `descriptor` is what WireGuard offers those who choose.
"""

from .descriptor import DESCRIPTOR

__all__ = ["DESCRIPTOR"]
