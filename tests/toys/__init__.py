"""Two datagram stacks that hold the contract to its word before a real protocol does.

`parley` has a handshake of its own: cookies, asks, routes that change, streams, key phases, migration, an end that
lingers. `satchel` has keys from outside, or from a parley inside itself: single messages, a replay window, roaming
with validation, no end. Both seal by `record` and repeat handshake messages by `exchanges`.
"""
