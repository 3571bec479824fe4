"""The constants of WireGuard: first the whitepaper's, then our own choices. Times are seconds."""

from __future__ import annotations

from typing import Final

# -------------------------------------------------------------------------------------------- the whitepaper's, §6.1
REKEY_AFTER_MESSAGES: Final = 1 << 60
REJECT_AFTER_MESSAGES: Final = (1 << 64) - (1 << 13) - 1
REKEY_AFTER_TIME: Final = 120.0  # the initiator of a pair begins the next one when it sends after that
REJECT_AFTER_TIME: Final = 180.0  # a pair neither sends nor receives after that
REKEY_ATTEMPT_TIME: Final = 90.0  # an initiation is tried again for so long, §6.4
REKEY_TIMEOUT: Final = 5.0  # between two initiations
KEEPALIVE_TIMEOUT: Final = 10.0  # §6.5
COOKIE_LIFETIME: Final = 120.0  # of a cookie with its receiver, and of the secret of its giver; §5.4.7
ERASE_AFTER_TIME: Final = 3 * REJECT_AFTER_TIME  # without a new pair; §6.3
REKEY_ON_RECEIVE: Final = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT  # §6.2

# ------------------------------------------------------------------------------------------------ our own choices
INITIATION_INTERVAL: Final = 0.02  # a peer's initiations that come faster are dropped, as wireguard-go does
RETRY_JITTER: Final = 0.333  # at most so much on top of REKEY_TIMEOUT, as wireguard-go does
TIMESTAMP_STEP: Final = 1 << 24  # nanoseconds: timestamps tell no more of our clock (wireguard-go's whitening)
LOADED_ABOVE: Final = 1000  # initiations with a good MAC1 per second; each costs about 0.15 ms
LOADED_FOR: Final = 1.0  # after the last time that it was exceeded, as wireguard-go does
SOURCE_RATE: Final = 20.0  # initiations per second from one source under load, and
SOURCE_BURST: Final = 5  # at once: wireguard-go's figures
MAX_SOURCES: Final = 4096  # whose rates are remembered; a further one waits until another is forgotten (0.5 MiB)
INDEX_SIZE: Final = 4  # octets; an index has no meaning, so that it stays as it came
INDEX_ATTEMPTS: Final = 64  # at an index that nobody has: with a million in use, one in four thousand is taken
INITIATION_SPACING: Final = 0.05  # seconds between two of ours that the application asks for; see INITIATION_INTERVAL
PADDING: Final = 16  # octets, §5.4.6
STAGED: Final = 128  # messages that wait for a handshake, as the Linux driver does
HIGH_WATER: Final = 512 * 1024  # octets that wait for the socket before send() takes no more
LOW_WATER: Final = 128 * 1024  # when it takes some again
BASE_MTU: Final = 1200  # octets of a datagram that every path takes (RFC 8899 §5.1.2): no report makes one narrower
MAX_RUN: Final = 65_507  # octets of one run of datagrams: what one UDP datagram over IPv4 carries
