"""Your own program, tested on a simulated network: an hour of trouble takes no time.

    python examples/virtual_time.py        # or: pytest examples/virtual_time.py

`watch()` is the program: it asks a server for its state every ten minutes and connects anew when that fails. Nothing in
it knows of the simulation. The tests below break the network under it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import taps_security as taps
from taps_security import simulation

SECURITY = taps.SecurityParameters(stacks=["tls"], psk=taps.PreSharedKey("station-7", bytes(range(32))))
PERIOD = 600.0  # seconds between two questions
PATIENCE = 5.0  # seconds for an answer


# ----------------------------------------------------------------------------------------------------- the program
async def watch(host: str, report: Callable[[str], None]) -> None:
    """Ask for ever. Tells `report` each answer, or why there was none."""
    there = taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(host_name=host, port=4433)], security_parameters=SECURITY
    )
    while True:
        try:
            async with await there.initiate(timeout=PATIENCE) as connection:
                while True:
                    await connection.send(b"state?")
                    report(bytes(await connection.receive(timeout=PATIENCE)).decode())
                    await asyncio.sleep(PERIOD)
        except (taps.TapsError, TimeoutError) as error:
            report(f"no answer: {type(error).__name__}")
            await asyncio.sleep(PERIOD)


async def serve() -> None:
    """The other side."""
    here = taps.Preconnection(local_endpoints=[taps.LocalEndpoint(port=4433)], security_parameters=SECURITY)

    async def answer(connection: taps.Connection) -> None:
        async for _ in connection:
            await connection.send(b"fine")

    async with await here.listen() as listener:
        await listener.serve(answer)


# ------------------------------------------------------------------------------------------------------- its tests
def test_it_reports_every_ten_minutes() -> None:
    """Six answers in an hour, each exactly when it should come."""
    heard: list[tuple[float, str]] = []

    async def main(network: simulation.Network) -> None:
        loop = asyncio.get_running_loop()
        network.connect("station", "server", delay=0.05)
        network.host("server").run(serve())
        await asyncio.sleep(1)
        network.host("station").run(watch("server", lambda text: heard.append((loop.time(), text))))
        await asyncio.sleep(3600)

    simulation.run(main)
    # TCP's round trip, TLS's, and the question's: 0.3 s. Later questions take one round trip.
    assert [when for when, _ in heard[:2]] == [1.3, 601.4]
    assert [text for _, text in heard] == ["fine"] * 6


def test_it_survives_a_night_without_network() -> None:
    """It says so, and answers come again once the network is back."""
    heard: list[str] = []

    async def main(network: simulation.Network) -> None:
        network.connect("station", "server", delay=0.05)
        network.host("server").run(serve())
        await asyncio.sleep(1)
        network.host("station").run(watch("server", heard.append))
        await asyncio.sleep(60)
        network.partition("station", "server")
        await asyncio.sleep(8 * 3600)
        network.heal()
        await asyncio.sleep(2 * PERIOD)

    simulation.run(main, seed=1)
    assert heard[0] == "fine"
    assert heard[1].startswith("no answer")
    assert heard[-1] == "fine"


if __name__ == "__main__":
    test_it_reports_every_ten_minutes()
    test_it_survives_a_night_without_network()
    print("two tests passed; more than nine hours of virtual time")
