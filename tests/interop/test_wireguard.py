"""wireguard-go as peer, initiator and responder, in network namespaces: what goes through, and what survives.

`role` is the peer's. Where the peer is the initiator, its program inside speaks first; we know no endpoint of it then.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.interop.namespaces import Network
from tests.interop.tunnels import ECHO, INNER, OUTER, RELAY_PORT, OursFailed, Tunnel, endpoint, tunnel, until

ROLES = ("responder", "initiator")
FAMILIES = ("ipv4", "ipv6")
both_roles = pytest.mark.parametrize("role", ROLES)
inner_families = pytest.mark.parametrize("inner", FAMILIES, ids=[f"{name}_in" for name in FAMILIES])
outer_families = pytest.mark.parametrize("outer", FAMILIES, ids=[f"{name}_out" for name in FAMILIES])

BULK = 10_000  # messages each way and direction
SIZE = 1_300  # octets of each


async def begun(made: Tunnel, role: str, inner: str = "ipv4") -> int:
    """The handshake is done by the one whose turn it is; a connection of ours to the peer's echo program."""
    if role == "initiator":
        await made.their_swap(inner, count=1, window=1)
    number = await made.connect(inner)
    await made.ours.ping(connection=number)
    return number


@outer_families
@inner_families
@both_roles
async def test_echo(net: Network, tmp_path: Path, role: str, inner: str, outer: str) -> None:
    """Messages of many sizes from us to their program and back, and from their program to us and back."""
    async with tunnel(net, tmp_path, role, outer) as made:
        number = await begun(made, role, inner)
        for size in (8, 9, 64, 1_000, 1_372):
            told = await made.ours.swap(connection=number, count=20, size=size, window=5)
            assert told["octets"] == 20 * size
            told = await made.their_swap(inner, count=20, size=size, window=5)
            assert told["octets"] == 20 * size
        assert made.shown.endpoint.startswith(OUTER[outer][0] if outer == "ipv4" else f"[{OUTER[outer][0]}]")


@outer_families
@inner_families
@both_roles
async def test_bulk(net: Network, tmp_path: Path, role: str, inner: str, outer: str) -> None:
    """Many full messages there and back, both ends beginning at the same time; each came back as it was."""
    async with tunnel(net, tmp_path, role, outer) as made:
        number = await begun(made, role, inner)
        ours, theirs = await asyncio.gather(
            made.ours.swap(connection=number, count=BULK, size=SIZE, window=64),
            made.their_swap(inner, count=BULK, size=SIZE, window=64),
        )
        assert ours["octets"] == theirs["octets"] == BULK * SIZE
        assert made.shown.received > 2 * BULK * SIZE
        assert made.shown.sent > 2 * BULK * SIZE


@both_roles
async def test_preshared_key(net: Network, tmp_path: Path, role: str) -> None:
    async with tunnel(net, tmp_path, role, psk=True) as made:
        number = await begun(made, role)
        await made.ours.swap(connection=number, count=100, size=SIZE, window=10)
        await made.their_swap(count=100)


@both_roles
async def test_another_preshared_key_is_refused(net: Network, tmp_path: Path, role: str) -> None:
    """The same static keys, another PSK: both are heard, but there is no handshake, and nothing comes through."""
    async with tunnel(net, tmp_path, role, psk=True) as made:
        peer = made.options["peers"][0]
        await made.ours.apply(options={**made.options, "peers": [{**peer, "preshared_key": None}]})
        if role == "responder":
            with pytest.raises(OursFailed):
                await made.ours.connect(host=INNER["ipv4"][1], port=ECHO, patience=7.0)
            assert made.shown.received > 0
        else:
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(made.their_swap(count=1, window=1))
                await until(lambda: transferred(made, "sent"))  # our response to the peer's initiation
                await asyncio.sleep(1.0)
                assert not asking.done()
                asking.cancel()
        assert made.shown.latest_handshake == 0


@both_roles
async def test_persistent_keepalive_of_ours(net: Network, tmp_path: Path, role: str) -> None:
    """Without any data: the peer counts 32 octets again and again."""
    async with tunnel(net, tmp_path, role, our_keepalive=1) as made:
        if role == "initiator":
            await made.their_swap(count=1, window=1)
        await until(lambda: made.shown.latest_handshake)
        first = (await until(lambda: made.shown)).received
        await until(lambda: made.shown.received >= first + 3 * 32)
        assert (made.shown.received - first) % 32 == 0


@both_roles
async def test_persistent_keepalive_of_the_peer(net: Network, tmp_path: Path, role: str) -> None:
    """Without any data: we count the peer's keepalives."""
    async with tunnel(net, tmp_path, role, their_keepalive=1) as made:
        if role == "responder":
            await begun(made, role)
        first = await until(lambda: transferred(made))

        async def three_more() -> bool:
            return await transferred(made) >= first + 3 * 32

        await until(three_more)


async def transferred(made: Tunnel, way: str = "received") -> int:
    """Octets from the peer, or to it, in our words."""
    (peer,) = await made.ours.status()
    count: int = peer["transfer"][way]
    return count


# ------------------------------------------------------------------------------------------------------------ roaming
def move_ours(made: Tunnel) -> None:
    """Our outer address becomes another; in between there is none, and sending fails."""
    made.our_space.delete_address(made.our_interface, "10.77.0.1/24")
    made.our_space.add_address(made.our_interface, "10.77.0.11/24")


@both_roles
async def test_roaming_of_our_address(net: Network, tmp_path: Path, role: str) -> None:
    """In mid-transfer our address changes: the transfer goes on, and the peer has learned the new one."""
    async with tunnel(net, tmp_path, role) as made:
        number = await begun(made, role)
        transfer = asyncio.create_task(made.ours.swap(connection=number, count=BULK, size=SIZE, window=32))
        before = made.shown.received
        await until(lambda: made.shown.received > before + 500_000, every=0.01)
        move_ours(made)
        assert (await transfer)["octets"] == BULK * SIZE
        assert made.shown.endpoint.startswith("10.77.0.11:")


@both_roles
async def test_roaming_of_our_port(net: Network, tmp_path: Path, role: str) -> None:
    """In mid-transfer a translator between us forgets our port: the transfer goes on from its new one."""
    async with tunnel(net, tmp_path, role, relayed=True) as made:
        number = await begun(made, role)
        assert made.shown.endpoint == endpoint(OUTER["ipv4"][0], RELAY_PORT)
        transfer = asyncio.create_task(made.ours.swap(connection=number, count=BULK, size=SIZE, window=32))
        before = made.shown.received
        await until(lambda: made.shown.received > before + 500_000, every=0.01)
        made.forget_port()
        assert (await transfer)["octets"] == BULK * SIZE
        assert made.shown.endpoint != endpoint(OUTER["ipv4"][0], RELAY_PORT)


@both_roles
async def test_roaming_of_the_peer(net: Network, tmp_path: Path, role: str) -> None:
    """In mid-transfer the peer's address and port change: the transfer goes on, and we answer to the new place."""
    async with tunnel(net, tmp_path, role) as made:
        await begun(made, role)
        transfer = asyncio.create_task(made.their_swap(count=BULK, size=SIZE, window=32))
        before = made.shown.received
        await until(lambda: made.shown.received > before + 500_000, every=0.01)
        made.their_space.delete_address(made.their_interface, "10.77.0.2/24")
        made.their_space.add_address(made.their_interface, "10.77.0.12/24")
        made.theirs.set("listen-port", "51999")
        assert (await transfer)["octets"] == BULK * SIZE
        (peer,) = await made.ours.status()
        assert "10.77.0.12" in str(peer["endpoint"])
        assert "51999" in str(peer["endpoint"])


# ----------------------------------------------------------------------------------------------- minutes of real time
@pytest.mark.slow
@pytest.mark.timeout(300)
@both_roles
async def test_rekey_after_two_minutes(net: Network, tmp_path: Path, role: str) -> None:
    """Traffic for more than 120 s: a new handshake by whoever began the first, and no message is lost over it."""
    async with tunnel(net, tmp_path, role) as made:
        number = await begun(made, role)
        first = made.shown.latest_handshake
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 150
        while made.shown.latest_handshake == first:
            assert loop.time() < deadline, "no new handshake after 150 s of traffic"
            assert (await made.ours.ping(connection=number))["sent"] == 1
            assert (await made.their_swap(count=10))["repeated"] == 0
            await asyncio.sleep(0.2)
        assert made.shown.latest_handshake - first >= 119
        assert (await made.ours.swap(connection=number, count=500, size=SIZE, window=20))["repeated"] == 0
        assert (await made.their_swap(count=500))["repeated"] == 0


@pytest.mark.slow
@both_roles
async def test_restart_of_ours(net: Network, tmp_path: Path, role: str) -> None:
    """We crash and start again with the same store: a new handshake, and both directions work again.

    Where only the peer knows an endpoint, it finds out after 15 s without an answer.
    """
    async with tunnel(net, tmp_path, role) as made:
        await begun(made, role)
        await made.restart_ours()
        for host, _ in INNER.values():
            await made.ours.echo(host=host, port=ECHO)
        if role == "initiator":
            await made.their_swap(count=50)
        number = await made.connect()
        await made.ours.swap(connection=number, count=50, size=SIZE, window=10)
        await made.their_swap(count=50)


@pytest.mark.slow
@both_roles
async def test_restart_of_the_peer(net: Network, tmp_path: Path, role: str) -> None:
    """wireguard-go starts again and knows no keys: whoever knows an endpoint makes a new handshake."""
    async with tunnel(net, tmp_path, role) as made:
        number = await begun(made, role)
        made.restart_theirs()
        if role == "initiator":
            await made.their_swap(count=50)
        await made.ours.swap(connection=number, count=50, size=SIZE, window=10)
        await made.their_swap(count=50)
