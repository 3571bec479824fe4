"""HTTP over asyncio's own streams: `taps.open_connection()` stands where asyncio's does.

python examples/http_get.py https://example.org/                              # the system's roots
python examples/http_get.py https://localhost:8443/ --trust ca.pem
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from urllib.parse import urlsplit

import taps_security as taps


async def get(url: str, trust: taps.Trust) -> tuple[str, bytes]:
    """The status line and the body of a page."""
    where = urlsplit(url)
    host = where.hostname or ""
    reader, writer = await taps.open_connection(
        host,
        where.port or 443,
        security=taps.SecurityParameters(trust=trust, alpn=["http/1.1"]),
        timeout=10,
    )
    # From here on it is the code that you have already.
    path = (where.path or "/") + (f"?{where.query}" if where.query else "")
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    await writer.drain()
    status = (await reader.readline()).decode("latin-1").strip()
    length = -1
    while line := (await reader.readline()).strip().lower():
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    body = await reader.readexactly(length) if length >= 0 else await reader.read()
    writer.close()
    # Many servers hang up without TLS's goodbye. HTTP said how long the body is, so nothing can be missing here; a
    # body without a length would have raised ConnectionLost in read().
    with suppress(taps.ConnectionLost):
        await writer.wait_closed()
    return status, body


def main() -> int:
    """Read the command line, fetch, print."""
    parser = argparse.ArgumentParser(description="fetch a page")
    parser.add_argument("url")
    parser.add_argument("--trust", help="an authority in PEM, in place of the system's roots")
    given = parser.parse_args()
    trust = taps.Trust.file(given.trust) if given.trust else taps.Trust.system()
    try:
        status, body = asyncio.run(get(given.url, trust))
    except taps.TapsError as error:
        print(f"http_get: {error}", file=sys.stderr)
        return 1
    print(status)
    print(body.decode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
