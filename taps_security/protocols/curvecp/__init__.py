"""CurveCP over UDP, as NaCl 20110221 speaks it: a reliable stream in boxes.

    client                                                      server
    Hello: C', Box[zeros](C' > S)                        -->    nothing is kept
                                                         <--    Cookie: Box[S', cookie](S > C')
    Initiate: C', cookie, Box[C, vouch, name, message]   -->    the connection is there
                                                         <--    Message: Box[message](S' > C')
    Message: C', Box[message](C' > S')                  <-->    Message
    end of the stream, acknowledged                     <-->    end of the stream, acknowledged
    answers for 60 s                                            answers for 60 s

`wire` has packets and messages, `names` server names and keys in DNS labels, `keys` every box, `handshake` Hello and
Cookie, `screening` what a server does without state, `record` seals and opens messages, `sending` and `receiving` are
the two halves of a stream, `delivery` the message layer between them, `stack` puts all of it together, `linger` is
TIME-WAIT, `descriptor` what CurveCP offers to those who choose.
"""

from .descriptor import DESCRIPTOR

__all__ = ["DESCRIPTOR"]
