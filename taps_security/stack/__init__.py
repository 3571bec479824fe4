"""The contract between the layers of a security stack. Sans-IO: no clock, no socket, no randomness of its own.

    application     send / receive / update_keys / export_secret / close              ^ security events
    --------------------------------------------------------------------------------------------------
    Connection      one per flow; a group shares one SecurityStack and one driver
    SecurityStack   Handshake  agrees keys; sees whole messages; no timer, no wire
                    Record     seals and opens under installed keys; publishes their limits
                    Delivery   order, fragments, acknowledgements, retransmission, streams
                    handshake --KeyReady, KeyDiscarded--> record
                    record --KeyConfirmed, KeyExpiring, PeerMoved--> handshake
    driver          input -> drain events -> transmit() while something is pending -> re-arm one timer
    endpoint        the local socket: route table, screeners, lingering ends
    transport       TCP or UDP

`events` holds the vocabulary, `layers` the three parts, `stack` what a driver knows, `asks` what an engine may
ask for, `screening` what happens before there is any state, `errors` the one tree of exceptions. `layered` routes
events between the parts, once, for every stack; `stream` is the stack of byte-stream records (TLS, tcpcrypt);
`embedded` puts a stack inside a stack.
"""
