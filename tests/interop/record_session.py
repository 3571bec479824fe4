"""Makes tests/vectors/wireguard/sessions.json: `python -m tests.interop.record_session`, as root.

Two real sessions with wireguard-go between namespaces, we as initiator and as responder, with a pre-shared key. What is
kept: both static private keys, the pre-shared key, our ephemeral private key (from our key log), every datagram that
passed, and the messages that the peer's echo program answered. The keys were made for this and are used nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from tests.interop.namespaces import network
from tests.interop.test_wireguard import begun
from tests.interop.test_wireguard_load import watching
from tests.interop.tunnels import OUTER, tunnel

TARGET = Path(__file__).resolve().parents[1] / "vectors" / "wireguard" / "sessions.json"
MADE = (
    "Recorded with `python -m tests.interop.record_session`: our stack and Debian's wireguard-go 0.0.20220316 in "
    "network namespaces. The keys were made for this and are used nowhere else. Base64 as wg(8) writes it; datagrams "
    "in hex, in the order in which they passed."
)
SIZES = (8, 57, 1_000)  # octets of the messages there and back


async def record(their_role: str) -> dict[str, Any]:
    """One session with a peer in that role."""
    with network() as net, tempfile.TemporaryDirectory() as folder:
        async with tunnel(net, Path(folder), their_role, psk=True) as made:
            async with watching(made.their_space, made.their_interface, "all") as watch:
                number = await begun(made, their_role)
                for size in SIZES:
                    await made.ours.swap(connection=number, count=1, size=size, window=1)
                seen = watch.seen
            log = Path(made.key_log).read_text(encoding="utf-8").splitlines()
            ephemerals = [line.partition(" = ")[2] for line in log if line.startswith("LOCAL_EPHEMERAL")]
            assert len(ephemerals) == 1, "one handshake was expected; record again"
            return {
                "role": "initiator" if their_role == "responder" else "responder",
                "private_key": made.options["private_key"],
                "ephemeral": ephemerals[0],
                "peer_private_key": made.theirs.private_key,
                "preshared_key": made.their_peers[0].preshared_key,
                "sizes": list(SIZES),
                "datagrams": [
                    {"from": "ours" if line["host"] == OUTER["ipv4"][0] else "theirs", "hex": line["hex"]}
                    for line in seen
                ],
            }


async def main() -> None:
    """Record both."""
    sessions = [await record(role) for role in ("responder", "initiator")]
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps({"made": MADE, "sessions": sessions}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
