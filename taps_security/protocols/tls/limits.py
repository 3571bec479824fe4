"""The constants of TLS 1.3: first the specification's, then our own choices."""

from __future__ import annotations

from typing import Final

# ------------------------------------------------------------------------------------------- the specification's
TLS_1_2: Final = 0x0303  # RFC 8446 §4.1.2, legacy_version
TLS_1_3: Final = 0x0304  # RFC 8446 §4.2.1
HEADER_SIZE: Final = 5  # octets of a record's header; RFC 8446 §5.1
MAX_PLAINTEXT: Final = 1 << 14  # content of a record; RFC 8446 §5.1
MAX_CIPHERTEXT: Final = MAX_PLAINTEXT + 256  # a protected record behind its header; RFC 8446 §5.2
MAX_INNER_PLAINTEXT: Final = MAX_PLAINTEXT + 1  # content, type and padding; RFC 8446 §5.4, RFC 8449 §4
MIN_RECORD_SIZE_LIMIT: Final = 64  # RFC 8449 §4
MAX_TICKET_LIFETIME: Final = 604_800  # seconds; RFC 8446 §4.6.1
MAX_KEY_GENERATION: Final = (1 << 48) - 1  # RFC 9846 §4.6.3: key updates of a sender

# ------------------------------------------------------------------------------------------------ our own choices
MAX_HANDSHAKE_MESSAGE: Final = 128 * 1024  # octets; a chain of 64 KiB and its extensions fit twice
MAX_PSK_IDENTITIES: Final = 8  # a server looks at no more of them: each may cost a decryption or an ask
MAX_SESSIONS_PER_CONNECTION: Final = 16  # a client keeps no more tickets of one connection
MAX_SKIPPED_EARLY_DATA: Final = 64 * 1024  # octets of foreign 0-RTT records that a server drops; OpenSSL asks 16 KiB
MAX_TICKET: Final = 32 * 1024  # octets of a stateless ticket; larger state is not put into tickets
TICKET_KEY_ROTATION: Final = 86_400  # seconds that one ticket key makes tickets
TICKETS_PER_KEY: Final = 1 << 31  # random nonces of AES-GCM: below 2^32 (NIST SP 800-38D §8.3)
SOFT_LIMIT_SHARE: Final = 0.75  # of a key's hard limit: room for what is in flight until the peer has the new key
