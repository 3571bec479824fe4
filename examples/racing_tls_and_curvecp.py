"""TLS over TCP and CurveCP over UDP race for one echo service, on one port number; either may win.

    python examples/racing_tls_and_curvecp.py

The program declares what it needs, and says what it knows of the server: an authority for its certificate, and its
public key. Both protocols meet that, so both are candidates; neither is a weaker fallback. The network is simulated, so
that a path can be slow, or blocked for one of them: `declare()`, `serve()` and `ask()` know nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loopback import SERVER_NAME, Authority, echo

import taps_security as taps
from taps_security import simulation
from taps_security.crypto.sodium import scalarmult_base

SECRET = bytes(range(32))  # a real one: `taps keygen curvecp --out keys`, then CurveCpOptions(key="keys")
PUBLIC = scalarmult_base(SECRET)
PORT = 4433


def declare(authority: Authority, *, prefer: str = "") -> taps.Preconnection:
    """What the client needs, and whom it means."""
    return taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(host_name="server", port=PORT)],
        transport_properties=taps.TransportProperties(reliability="require", preserve_order="require"),
        security_parameters=taps.SecurityParameters(
            require={"forward_secrecy", "endpoint_authentication", "replay_protection"},
            prefer={prefer} if prefer else (),
            trust=authority.trust,
            server_name=SERVER_NAME,
            options={"curvecp": taps.CurveCpOptions(server_key=PUBLIC)},
        ),
    )


async def serve(authority: Authority) -> None:
    """One listener with both stacks: TCP and UDP, one port number."""
    security = taps.SecurityParameters(
        stacks=["tls", "curvecp"],
        identity=authority.identity(SERVER_NAME),
        options={"curvecp": taps.CurveCpOptions(key=SECRET, server_name=SERVER_NAME)},
    )
    async with await taps.Preconnection([taps.LocalEndpoint(port=PORT)], security_parameters=security).listen() as here:
        await here.serve(echo)


async def ask(there: taps.Preconnection) -> str:
    """A word there and back over whatever won, and how the race went."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with await there.initiate(timeout=10) as connection:
        ready = loop.time() - began
        await connection.send(b"hello")
        answer = bytes(await connection.receive()).decode()
        return f"{answer} over {connection.security.stack}, ready after {ready * 1000:.0f} ms"


def explain(there: taps.Preconnection) -> None:
    """Why each was a candidate."""
    for choice in there.explain()["candidates"]:
        if choice["kept"]:
            met = [reason["property"] for reason in choice["reasons"] if reason["effect"] == "kept"]
            print(f"{choice['stack']}: rank {choice['rank']}, meets {', '.join(sorted(met))}")


def main() -> None:
    """Five races: an open path twice, TCP blocked, UDP blocked, and a slow path that favours fewer round trips."""
    authority = Authority()
    explain(declare(authority))

    def race(title: str, prefer: str = "", **path: float | Callable[..., bool]) -> None:
        async def world(network: simulation.Network) -> None:
            network.connect("client", "server", **{"delay": 0.02, **path})
            serving = network.host("server").run(serve(authority))
            await asyncio.sleep(1)  # it listens now
            print(f"{title}: {await network.host('client').run(ask(declare(authority, prefer=prefer)))}")
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

        simulation.run(world)

    race("open path")
    race("open path, mobility preferred", prefer="connection_mobility")
    race("TCP blocked", filter=lambda packet: packet.kind == "UDP")
    race("UDP blocked, mobility preferred", prefer="connection_mobility", filter=lambda packet: packet.kind != "UDP")
    race("200 ms each way", delay=0.2)


if __name__ == "__main__":
    main()
