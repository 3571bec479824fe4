"""The constants of CurveCP: first the protocol's, as NaCl 20110221 has them, then our own choices."""

from __future__ import annotations

from typing import Final

# ------------------------------------------------------------------------------------------------ the protocol's
HELLO_SIZE: Final = 224  # octets of a datagram
COOKIE_SIZE: Final = 200
INITIATE_OVERHEAD: Final = 544  # of an Initiate, around its message
CLIENT_OVERHEAD: Final = 96  # of a client's Message
SERVER_OVERHEAD: Final = 64  # of a server's Message
MAX_DATAGRAM: Final = 1184  # octets; a client's Message with the largest message
MIN_MESSAGE: Final = 16  # octets of what a box holds: packets.html; the message layer wants 48
MAX_MESSAGE: Final = 1088
MAX_INITIATE_MESSAGE: Final = 640
MESSAGE_UNIT: Final = 16  # lengths are multiples of it

KEY: Final = 32
EXTENSION: Final = 16
NAME: Final = 256  # a server's name in DNS form, padded with zeros
COOKIE: Final = 96  # the server's state as the client carries it
VOUCH: Final = 64
MAX_NUMBER: Final = (1 << 64) - 1  # of a compressed nonce

MESSAGE_HEADER: Final = 48  # octets in front of padding and data
MAX_BLOCK: Final = 1024  # octets of data in a message
FIRST_BLOCK: Final = 512  # a client's, until it has heard the server
BLOCK_PADDING: Final = 16  # the reference rounds 64 octets and the data up, where 48 would do
MESSAGE_SIZES: Final = (192, 320, 576, 1088)
ACK_RANGES: Final = 6  # the first from 0, five behind gaps
MAX_POSITION: Final = (1 << 60) - 1  # of a stream

HELLO_WAITS: Final = (1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625, 17.0859375)  # seconds, and as much again
MINUTE: Final = 60.0  # seconds after which a server changes its minute key; the one before it still opens

# ------------------------------------------------------------------------------------------------ our own choices
FIRST_NUMBERS: Final = 1 << 48  # numbers begin at random below this, as the reference's do
REPLAY_WINDOW: Final = 1024  # numbers; the reference takes none out of order and loses what is reordered
COOKIE_LIFE: Final = 2 * MINUTE + 1.0  # seconds that a client's key is remembered: longer than any cookie opens

SEND_HIGH: Final = 512 * 1024  # octets not yet sent, above which send() takes nothing
SEND_LOW: Final = 256 * 1024  # FlowWritable below it
RECEIVE_WINDOW: Final = 2 * 1024 * 1024  # octets behind the first that is missing: two round trips at 200 Mbit/s
SEND_WINDOW: Final = RECEIVE_WINDOW  # octets on their way at most: what lies farther ahead, a peer like us drops
UNREAD: Final = 1024 * 1024  # octets that the application has not taken, above which nothing more fits
MAX_PIECES: Final = 8192  # kept out of order: a peer that sends single octets with gaps fills no more
HEEDED: Final = 16  # requests of a peer that a probe answers, until it acknowledges something
ANSWER_DELAY: Final = 0.010  # seconds that a busy peer takes to answer, beyond the round trip: a probe waits for them
SILENCE: Final = 60.0  # seconds without a word of the peer while it owes an acknowledgement
PERSIST: Final = 15.0  # seconds of them after which it is asked in any case, however far probes have backed off
DRAIN: Final = 30.0  # the same once close() was called
CLOSE_WAIT: Final = 5.0  # seconds that the peer has to end its stream after close()
TIME_WAIT: Final = (1.0, 60.0)  # seconds, at least and at most, that an end answers for its connection
TIME_WAIT_PROBES: Final = 16  # of the peer's, as far as we know its probe timeout: four with their backoff
UNHEARD_END: Final = 4  # probes for the end of our stream alone; whoever ended its own has gone away
LAST_WORDS: Final = 64  # answers that it gives at most
PROBE_MESSAGE: Final = 192  # the largest message to an address that has not answered yet
AMPLIFICATION: Final = 3  # octets to such an address for each that came from it
