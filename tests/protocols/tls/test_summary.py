from __future__ import annotations

import json

from taps_security.protocols.tls.keys import TLS_AES_128_GCM_SHA256, TrafficSecret
from taps_security.protocols.tls.psk import ExternalPsk, offer_external
from taps_security.protocols.tls.summary import summarise


def test_a_summary_is_ready_for_reports() -> None:
    secret = TrafficSecret(TLS_AES_128_GCM_SHA256, b"s" * 32, 600)
    (psk, *_) = offer_external([ExternalPsk(identity=b"me", key=b"k" * 32)], [TLS_AES_128_GCM_SHA256.hash])
    complete = summarise(
        secret,
        secret,
        group=0x1D,
        peer_scheme=0,
        own_scheme=None,
        alpn="h2",
        server_name="server.example",
        psk=psk,
        retried=True,
        mutual=True,
    )
    assert json.loads(json.dumps(complete.summary, default=dict)) == {
        "version": "1.3",
        "algorithms": {"ciphersuite": "TLS_AES_128_GCM_SHA256", "group": "X25519"},
        "alpn": "h2",
        "server_name": "server.example",
        "resumed": False,
        "psk": "imported",
        "hello_retry": True,
        "provides": {"mutual_authentication": True, "pre_shared_key": True},
        "record_size_limit": [600, 600],
    }
