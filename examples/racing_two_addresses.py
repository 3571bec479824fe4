"""Two addresses of one peer race; the first is dead, and the second wins 250 ms later.

    python examples/racing_two_addresses.py

A candidate is ready when its handshake is, so an address that accepts TCP and then says nothing is a loser too.
"""

from __future__ import annotations

import asyncio
import socket

from loopback import SERVER_NAME, Authority, serving

import taps_security as taps


async def main() -> None:
    """Race, and print what became of each candidate."""
    authority = Authority()
    server = taps.SecurityParameters(identity=authority.identity(SERVER_NAME))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts; nobody ever answers
        async with serving(server) as port:
            client = taps.Preconnection(
                remote_endpoints=[
                    taps.RemoteEndpoint(ip_address="127.0.0.1", port=silent.getsockname()[1]),
                    taps.RemoteEndpoint(ip_address="127.0.0.1", port=port),
                ],
                security_parameters=taps.SecurityParameters(trust=authority.trust, server_name=SERVER_NAME),
            )
            async with await client.initiate(timeout=5) as connection:
                await connection.send(b"hello")
                print(bytes(await connection.receive()).decode())
            assert client.race is not None
            for attempt in client.race.attempts:
                phases = ", ".join(f"{phase.name} {phase.start:.2f} to {phase.end:.2f} s" for phase in attempt.phases)
                which = "silent" if attempt.endpoint != f"127.0.0.1:{port}" else "good"
                print(f"{which} address: {attempt.outcome} ({phases})")


if __name__ == "__main__":
    asyncio.run(main())
