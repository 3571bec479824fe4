"""What packet stacks carry: IP packets (RFC 791, RFC 8200) with UDP (RFC 768) and ICMP (RFC 792, RFC 4443). Sans-IO.

    payload --write()--> IP and UDP header in front of it --> seal
    open --> receive() --known flow--> payload, a view
                       --else--> ip: a packet --> udp: a new flow for a listener, or port unreachable
                                              --> icmp: an echo reply, or an error for the flow that its quote names
                                              --> the packet flow, where there is one; else dropped, and counted why

`network` has the two that a stack needs: the InnerHost that all stacks of a tunnel share (addresses, ports, listeners),
and the InnerFlows of one peer. There are no fragments here: what we send must not be fragmented, and fragments of
others are refused, so nothing is ever held to be put together.
"""
