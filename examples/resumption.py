"""The second connection to a peer resumes the session of the first: no certificates, fresh keys all the same.

python examples/resumption.py
"""

from __future__ import annotations

import asyncio

from loopback import SERVER_NAME, Authority, serving, towards

import taps_security as taps


async def main() -> None:
    """Three connections: a full one, a resumed one, and a clone() of that."""
    authority = Authority()
    sessions = taps.SessionCache()  # share one between Preconnections that trust alike
    client = taps.SecurityParameters(
        require={"forward_secrecy"}, trust=authority.trust, server_name=SERVER_NAME, session_cache=sessions
    )
    async with serving(taps.SecurityParameters(identity=authority.identity(SERVER_NAME))) as port:
        async with await towards(port, client).initiate(timeout=5) as first:
            await first.send(b"hello")
            await first.receive()  # tickets come ahead of the first answer
            print(f"first: resumed={first.security.resumed}, sessions kept: {len(sessions)}")

        async with await towards(port, client).initiate(timeout=5) as second:
            print(f"second: resumed={second.security.resumed}, the peer is still {second.security.peer}")
            async with await second.clone(timeout=5) as third:
                print(f"clone: resumed={third.security.resumed}")


if __name__ == "__main__":
    asyncio.run(main())
