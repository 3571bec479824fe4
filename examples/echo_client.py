"""An echo client: sends lines, prints what comes back, and says what protected them.

python examples/echo_client.py --trust ca.pem                   # beside examples/echo_server.py
python examples/echo_client.py --host server.example --port 4433 --trust ca.pem hello world
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import taps_security as taps


async def talk(host: str, port: int, trust: str, lines: list[str]) -> None:
    """One connection for all lines."""
    client = taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(host_name=host, port=port)],
        security_parameters=taps.SecurityParameters(
            require={"forward_secrecy", "endpoint_authentication"},
            prefer={"post_quantum"},
            trust=taps.Trust.file(trust),
            alpn=["echo/1"],
        ),
    )
    async with await client.initiate(timeout=5) as connection:
        report = connection.security
        print(f"{report.stack} {report.version}: {', '.join(report.algorithms.values())}; the peer is {report.peer}")
        for line in lines:
            sent = line.encode()
            await connection.send(sent)
            answer = await connection.receive(min_incomplete_length=len(sent), timeout=5)
            print(bytes(answer).decode())


def main() -> int:
    """Read the command line and talk. 1 with one line of reasons if there is no connection."""
    parser = argparse.ArgumentParser(description="an echo client")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=4433)
    parser.add_argument("--trust", default="ca.pem", help="the authority that vouches for the server, in PEM")
    parser.add_argument("lines", nargs="*", default=["hello"])
    given = parser.parse_args()
    try:
        asyncio.run(talk(given.host, given.port, given.trust, given.lines or ["hello"]))
    except taps.TapsError as error:
        print(f"echo_client: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
