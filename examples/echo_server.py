"""An echo server.

    python examples/echo_server.py                       a throwaway certificate; its authority goes to ./ca.pem
    python examples/echo_server.py --identity cert.pem --key key.pem --port 4433

It serves until it is interrupted. Talk to it with examples/echo_client.py, or with any TLS 1.3 client.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from loopback import SERVER_NAME, Authority

import taps_security as taps


async def echo(connection: taps.Connection) -> None:
    """Each connection runs this in a task of its own; it is closed when this returns."""
    async for message in connection:
        await connection.send(message.data)


async def serve(host: str, port: int, identity: taps.Identity) -> None:
    """Listen and serve until SIGINT or SIGTERM."""
    server = taps.Preconnection(
        local_endpoints=[taps.LocalEndpoint(ip_address=host, port=port)],
        security_parameters=taps.SecurityParameters(identity=identity, alpn=["echo/1"]),
    )
    async with await server.listen() as listener:
        print(f"listening on {host}:{listener.port}", flush=True)  # port 0 became a real one
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, listener.stop)  # then serve() returns
        await listener.serve(echo, grace=1.0)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="an echo server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4433)
    parser.add_argument("--identity", help="certificate chain in PEM")
    parser.add_argument("--key", help="its private key in PEM")
    parser.add_argument("--write-ca", default="ca.pem", help="where the throwaway authority goes")
    given = parser.parse_args()
    if given.identity:
        identity = taps.Identity.file(given.identity, given.key or given.identity)
    else:
        authority = Authority()
        Path(given.write_ca).write_bytes(authority.pem)
        identity = authority.identity(SERVER_NAME, "localhost", "127.0.0.1")
    asyncio.run(serve(given.host, given.port, identity))


if __name__ == "__main__":
    main()
