"""TLS 1.3 over TCP (RFC 8446, RFC 9846; RFC 9258 external keys, RFC 8449 record sizes, X25519MLKEM768).

    client                                         server                  keys of the sender
    ClientHello                      -->                                   none
                                     <--   HelloRetryRequest, if needed    none
                                     <--   ServerHello                     none
                                     <--   EncryptedExtensions             handshake
                                     <--   CertificateRequest*             handshake
                                     <--   Certificate*, CertificateVerify*
                                     <--   Finished
    Certificate*, CertificateVerify* -->                                   handshake
    Finished                         -->
    application data                <-->   application data                application 0
                                     <--   NewSessionTicket
    KeyUpdate                       <-->   KeyUpdate                       application n -> n + 1

    * where certificates authenticate; a pre-shared key, external or of a session, stands in for them.

`wire` and `extensions` turn messages into octets, `keys` is the key schedule, `client` and `server` the two
handshakes: what comes in and what follows from it. `client_flight` and `server_flight` make what goes out, over what
both share (`handshake`, `authentication`, `negotiation`, `offer`, `psk`, `tickets`). `record` seals and opens,
`delivery` adds the compatibility records, `alerts` says that something is over, `reasons` why, `screening` is what a
listener shares between its connections, `descriptor` what TLS offers to those who choose.
"""

from .descriptor import DESCRIPTOR

__all__ = ["DESCRIPTOR"]
