"""Octets in and out: TCP and UDP sockets, their buffers, and the seam to other networks.

`network` is the seam: what a driver and an endpoint need of a network. `system` is the machine's own;
`taps_security.simulation` has another. `tcp` and `udp` move octets between sockets and drivers; `buffers` holds the
memory that all connections of a loop share; `numbers` names the socket options that Python does not.
"""
