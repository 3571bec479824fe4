"""WireGuard twice in one program: a server that listens inside its tunnel, and a client that is in the other one.

    python examples/wireguard_pair.py

The tunnels meet on loopback. Endpoints of initiate() and listen() are addresses inside; where the peers are outside
stands in their options. The keys are thrown away at the end.
"""

from __future__ import annotations

import asyncio
import os

import taps_security as taps
from taps_security.stack.events import Direction, KeyReady, SecurityEvent

SERVER, CLIENT = "10.88.0.1", "10.88.0.2"
PORT = 7


def within(options: taps.WireGuardOptions, **endpoints: object) -> taps.Preconnection:
    """What is declared for a tunnel with these options."""
    return taps.Preconnection(
        transport_properties=taps.TransportProperties.unreliable_datagram(),
        security_parameters=taps.SecurityParameters(
            require={"forward_secrecy", "mutual_authentication", "connection_mobility"},
            stacks=["wireguard"],
            options={"wireguard": options},
        ),
        **endpoints,  # type: ignore[arg-type]
    )


async def echo(connection: taps.Connection) -> None:
    """One inner flow of a peer."""
    async for message in connection:
        await connection.send(message.data)


async def main() -> None:
    """Talk, clone, take fresh keys, and say what happened."""
    shared = os.urandom(32)  # beside the static keys, as a guard against quantum computers
    server = taps.WireGuardOptions(private_key=os.urandom(32), addresses=[f"{SERVER}/24"])
    client = taps.WireGuardOptions(private_key=os.urandom(32), addresses=[f"{CLIENT}/24"])
    server = server.with_peer(
        taps.WireGuardPeer(public_key=client.public_key, preshared_key=shared, allowed_ips=[f"{CLIENT}/32"])
    )
    here = within(server, local_endpoints=[taps.LocalEndpoint(ip_address=SERVER, port=PORT)])
    async with await here.tunnel() as tunnel, await here.listen() as listener:
        serving = asyncio.create_task(listener.serve(echo))
        client = client.with_peer(
            taps.WireGuardPeer(
                public_key=server.public_key,
                preshared_key=shared,
                endpoint=("127.0.0.1", tunnel.port),
                allowed_ips=[f"{SERVER}/32"],
            )
        )
        remote = taps.RemoteEndpoint(ip_address=SERVER, port=PORT)
        async with await within(client, remote_endpoints=[remote]).initiate(timeout=5) as connection:
            report = connection.security
            print(
                f"{report.stack} {report.version}: {', '.join(report.algorithms.values())}; the peer is {report.peer}"
            )
            await connection.send(b"hello")
            print(f"{bytes(await connection.receive(timeout=5)).decode()}, and {connection.send_msg_max_len} would fit")

            other = await connection.clone()  # a further flow, the same tunnel and keys
            await other.send(b"from another port")
            print(bytes(await other.receive(timeout=5)).decode())
            await other.close()  # the tunnel stays

            fresh = asyncio.Event()

            def told(_: taps.Connection, event: SecurityEvent) -> None:
                if isinstance(event, KeyReady) and event.direction is Direction.SEND:
                    fresh.set()

            connection.callbacks.on_security_event = told
            await connection.update_keys()  # a further handshake; it would come by itself after two minutes
            await asyncio.wait_for(fresh.wait(), 5)  # meanwhile messages would go under the keys there are
            await connection.send(b"with other keys")
            print(bytes(await connection.receive(timeout=5)).decode())
            for key in connection.security.keys:
                direction = f" {key.direction.value}" if key.direction else ""
                print(f"key {key.key.generation}{direction}: {key.event}")
            transfer = tunnel.status()[0]["transfer"]
            print(f"the server received {transfer['received']} octets and sent {transfer['sent']}")
        serving.cancel()


if __name__ == "__main__":
    asyncio.run(main())
