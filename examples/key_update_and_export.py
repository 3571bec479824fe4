"""Fresh keys in the middle of a connection, by hand and by limit, and a secret that only the two ends know.

python examples/key_update_and_export.py
"""

from __future__ import annotations

import asyncio

from loopback import SERVER_NAME, Authority, serving, towards

import taps_security as taps
from taps_security.stack.events import KeyExpiring

LABEL = "EXPORTER-taps-example"


async def echo_with_proof(connection: taps.Connection) -> None:
    """Echo, and put 8 octets of the exported secret in front of each answer."""
    proof = connection.export_secret(LABEL, length=8)
    async for message in connection:
        await connection.send([proof, bytes(message)])


async def main() -> None:
    """Update keys, then let a limit do it."""
    authority = Authority()
    client = taps.SecurityParameters(
        require={"key_update", "key_export"},
        trust=authority.trust,
        server_name=SERVER_NAME,
        options={"tls": taps.TlsOptions(records_per_key=4)},  # absurdly few, to see it happen
    )
    server = taps.SecurityParameters(identity=authority.identity(SERVER_NAME))
    async with (
        serving(server, echo_with_proof) as port,
        await towards(port, client).initiate(timeout=5) as connection,
    ):
        ours = connection.export_secret(LABEL, length=8)
        await connection.send(b"x")
        answer = bytes(await connection.receive(min_incomplete_length=9))
        print(f"exported secrets are {'equal' if answer[:8] == ours else 'different'}")

        print(f"key generations (send, receive): {connection.security.epoch}")
        await connection.update_keys()
        await connection.send(b"x")
        await connection.receive(min_incomplete_length=9)
        print(f"after update_keys(): {connection.security.epoch}")

        for _ in range(8):
            await connection.send(b"x")
            await connection.receive(min_incomplete_length=9)
        expired = sum(isinstance(event, KeyExpiring) for event in connection.security_events)
        print(f"after 8 more messages {expired} keys had expired: {connection.security.epoch}")
        assert connection.export_secret(LABEL, length=8) == ours  # it belongs to the handshake, not to a key


if __name__ == "__main__":
    asyncio.run(main())
