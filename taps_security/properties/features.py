"""The survey's security features, as properties with RFC 9622's five preferences (RFC 8922 and its drafts)."""

from __future__ import annotations

from types import MappingProxyType

# Each name, and what it means when a stack provides it. The order is that of reports and of `taps protocols`.
SECURITY_FEATURES = MappingProxyType(
    {
        "forward_secrecy": "keys of the past stay secret when long-term keys leak",
        "endpoint_authentication": "the responder proves an identity that was asked for",
        "mutual_authentication": "both sides prove an identity",
        "source_validation": "an address proves that it receives before much is sent to it or kept for it",
        "pre_shared_key": "an external pre-shared key takes part",
        "algorithm_agility": "algorithms are negotiated",
        "application_negotiation": "application protocols and server names are negotiated (ALPN, SNI)",
        "configuration_extensions": "the handshake carries extensions",
        "session_resumption": "a later connection may resume this one's session",
        "zero_rtt": "application data may go with the first flight",
        "key_update": "keys change without a new handshake",
        "key_export": "secrets for other uses can be exported",
        "key_import": "the application brings the keys",
        "connection_mobility": "the connection survives a change of address",
        "identity_protection": "identities are hidden from passive observers",
        "replay_protection": "records that come twice are dropped",
        "out_of_order_records": "records are opened in any order",
        "length_hiding": "padding hides lengths",
        "post_quantum": "a post-quantum algorithm takes part in key agreement",
    }
)
