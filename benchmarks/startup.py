"""A fresh process up to its first verified echo over TLS: `python -m benchmarks.startup SIDE PORT CA CORE START`.

Prints the seconds from START (CLOCK_MONOTONIC, read by the parent before it started this process). It imports
nothing that its side does not need.
"""

import os
import sys
import time

MESSAGE = bytes(range(64))
HOST = "127.0.0.1"


async def echo_with_ssl(port: int, authority: str) -> bytes:
    """asyncio streams and `ssl`."""
    import asyncio
    import ssl

    context = ssl.create_default_context(cafile=authority)
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context, server_hostname="server.example")
    writer.write(MESSAGE)
    return await reader.readexactly(len(MESSAGE))


async def echo_with_taps(port: int, authority: str) -> bytes:
    """The public API."""
    from benchmarks.ours import echo_once

    return await echo_once(port, authority, MESSAGE)


def main() -> None:
    """The process's entry."""
    side, port, authority, core, start = sys.argv[1:]
    if int(core) >= 0:
        os.sched_setaffinity(0, {int(core)})
    import asyncio

    echo = echo_with_ssl if side == "ssl" else echo_with_taps
    answer = asyncio.run(echo(int(port), authority))
    if answer != MESSAGE:
        raise SystemExit("the echo differs")
    print(time.monotonic() - float(start))


if __name__ == "__main__":
    main()
