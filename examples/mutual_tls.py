"""Both sides show a certificate, and the server decides by who the client is.

python examples/mutual_tls.py
"""

from __future__ import annotations

import asyncio

from loopback import SERVER_NAME, Authority, serving, towards

import taps_security as taps


async def greet(connection: taps.Connection) -> None:
    """Say whom we talk to."""
    await connection.send(f"hello, {connection.security.peer}".encode())


async def only_staff(peer: object) -> None:
    """Called after the chain was checked; raising refuses the peer. It may look into a database: it is async."""
    if "staff" not in str(peer):
        raise taps.AuthenticationFailed(f"{peer} is not on the list")


async def main() -> None:
    """One client that may, one that is not on the list, and one without a certificate."""
    authority = Authority()
    server = taps.SecurityParameters(
        identity=authority.identity(SERVER_NAME),
        trust=authority.trust,
        client_authentication="require",
        trust_callback=only_staff,
    )
    async with serving(server, greet) as port:
        for name in ("alice.staff.example", "mallory.example", None):
            client = taps.SecurityParameters(
                trust=authority.trust,
                server_name=SERVER_NAME,
                identity=authority.identity(name) if name else None,
            )
            # In TLS 1.3 a client is ready before the server has looked at its certificate: a refusal comes behind it.
            try:
                async with await towards(port, client).initiate(timeout=5) as connection:
                    print(bytes(await connection.receive(timeout=5)).decode())
            except taps.TapsError as error:
                print(f"{name or 'nobody'} was refused: {error}")


if __name__ == "__main__":
    asyncio.run(main())
