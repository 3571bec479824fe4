"""CurveCP with NaCl's programs, in both roles of theirs: curvecpserver and curvecpclient with curvecpmessage inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import taps_security as taps
from taps_security.protocols.curvecp.limits import TIME_WAIT
from tests.interop import nacl_tools
from tests.interop.nacl_program import octets_of
from tests.interop.nacl_tools import free_udp_port
from tests.interop.ours_curvecp import (
    TIMEOUT,
    Keys,
    client,
    echo,
    listening,
    make_keys,
    pair,
    receive_all,
    receive_stream,
    send_stream,
    swap_streams,
)
from tests.interop.udp_relay import relay
from tests.support.leaks import open_sockets, other_tasks, settle

pytestmark = [pytest.mark.interop, pytest.mark.usefixtures("closes_in_time")]

ROLES = ("server", "client")
both_roles = pytest.mark.parametrize("role", ROLES)

ECHO = 300_000  # octets
BULK = 20_000_000  # octets each way
LOSSY = {"drop": 0.03, "reorder": 0.05, "double": 0.02}
COOKIE = 200  # octets of the only datagram that a server sends before it knows a client


@pytest.fixture
async def closes_in_time() -> AsyncIterator[None]:
    """Fails a test that leaves a task behind, or a socket for longer than TIME-WAIT."""
    sockets, tasks = open_sockets(), other_tasks()
    yield
    left: tuple[int, set[str]] = (1, set())
    deadline = asyncio.get_running_loop().time() + TIME_WAIT[1] + 1.0
    while any(left) and asyncio.get_running_loop().time() < deadline:
        left = await settle(sockets, tasks)
    assert left == (0, set())


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Of both ends, made by curvecpmakekey."""
    nacl_tools.require()
    return make_keys(tmp_path)


async def until(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    async with asyncio.timeout(TIMEOUT):
        while not true():
            await asyncio.sleep(0.02)


async def say_and_hear(connection: taps.Connection, data: bytes) -> bytes:
    """The first answer of an echo."""
    await connection.send(data)
    return (await connection.receive(timeout=TIMEOUT)).data


# ------------------------------------------------------------------------------------------------------------- streams
@both_roles
async def test_echo(keys: Keys, role: str) -> None:
    """The peer sends back what we say."""
    async with pair(role, keys, "echo", "end") as made:
        await swap_streams(made.ours, (1, ECHO), (1, ECHO))
        assert (await made.finish()).is_stream(1, ECHO)


@both_roles
async def test_our_echo(keys: Keys, role: str) -> None:
    """We send back what the peer says."""
    async with pair(role, keys, f"swap:{ECHO}:2") as made:
        async with asyncio.timeout(TIMEOUT):
            await echo(made.ours)
        assert (await made.finish()).is_stream(2, ECHO)


@both_roles
async def test_bulk(keys: Keys, role: str) -> None:
    """Both ways at the same time; how long it takes, the peer's Chicago says."""
    async with pair(role, keys, f"swap:{BULK}:2") as made:
        await swap_streams(made.ours, (1, BULK), (2, BULK))
        assert (await made.finish()).is_stream(1, BULK)


@both_roles
async def test_empty_stream(keys: Keys, role: str) -> None:
    """No octet either way, and the end is told to both."""
    async with pair(role, keys, "swap:0:0") as made:
        await made.ours.send(b"", final=True)
        assert await receive_all(made.ours) == b""
        assert (await made.finish()).octets == 0


@both_roles
async def test_half_close_by_us(keys: Keys, role: str) -> None:
    """The peer's program begins to write when it has read our end."""
    async with pair(role, keys, "drain", f"write:{ECHO}:2", "end") as made:
        await send_stream(made.ours, 1, 1_000)
        await receive_stream(made.ours, 2, ECHO)
        assert (await made.finish()).is_stream(1, 1_000)


@both_roles
async def test_half_close_by_the_peer(keys: Keys, role: str) -> None:
    """We begin to send when we have heard the peer's end."""
    async with pair(role, keys, "write:1000:2", "end", "drain") as made:
        await receive_stream(made.ours, 2, 1_000)
        await send_stream(made.ours, 1, ECHO)
        assert (await made.finish()).is_stream(1, ECHO)


# ---------------------------------------------------------------------------------------------------- who speaks first
@pytest.mark.parametrize("role", ["server"])
async def test_a_server_that_speaks_first(keys: Keys, role: str) -> None:
    """Our client says nothing: a message without octets brings its Initiate to the server."""
    async with pair(role, keys, "write:1000:2", "end") as made:
        await receive_stream(made.ours, 2, 1_000)


@pytest.mark.parametrize("server_first", [True, False], ids=["client-c", "client-C"])
async def test_how_the_client_begins(keys: Keys, server_first: bool) -> None:
    """curvecpmessage -c asks at once, so our server may speak first; with -C its program does, or asks after 1 s."""
    steps = ("read:1000", "write:1000:2", "end") if server_first else ("write:1000:2", "end", "drain")
    async with (
        listening(keys) as listener,
        nacl_tools.connect(keys.server_public, listener.port, *steps, server_first=server_first) as peer,
    ):
        async with asyncio.timeout(TIMEOUT):
            ours = await listener.accept()
        async with ours:
            if server_first:
                await send_stream(ours, 1, 1_000)
                await receive_stream(ours, 2, 1_000)
            else:
                await receive_stream(ours, 2, 1_000)
                await send_stream(ours, 1, 1_000)
            assert (await peer.told()).is_stream(1, 1_000)
        assert await peer.ended() == 0


# --------------------------------------------------------------------------------------------------- keys, names, doors
@pytest.mark.parametrize("role", ["server"])
async def test_our_key_folder(keys: Keys, role: str) -> None:
    """With a key that curvecpmakekey made: curvecpserver opens the vouch."""
    async with pair(role, keys, "echo", "end", key=keys.client) as made:
        await swap_streams(made.ours, (1, 1_000), (1, 1_000))
        assert made.ours.security.provides["mutual_authentication"]


async def test_key_folder_of_a_client(keys: Keys) -> None:
    """curvecpclient -c: known to our server by its public key; an anonymous one is not answered but for the cookie."""
    async with listening(keys, known_clients=[keys.client_public]) as listener, relay(listener.port) as path:
        async with nacl_tools.connect(keys.server_public, path.port, "swap:1000:2", server_first=True):
            await until(lambda: len(path.sizes["up"]) >= 3)
            assert set(path.sizes["down"]) == {COOKIE}
        swap = nacl_tools.connect(keys.server_public, path.port, "swap:1000:2", folder=keys.client, server_first=True)
        async with swap as peer, asyncio.timeout(TIMEOUT):
            async with await listener.accept() as ours:
                await swap_streams(ours, (1, 1_000), (2, 1_000))
            assert (await peer.told()).is_stream(1, 1_000)


async def test_wrong_key_of_a_server(keys: Keys) -> None:
    """Our client expects another key: its Hello does not open, and there is no answer."""
    async with nacl_tools.serve(keys.server) as peer, relay(peer.port) as path:
        with pytest.raises((taps.EstablishmentError, TimeoutError)):
            await client(keys, path.port, server_key=keys.client_public).initiate(timeout=2.5)
        assert len(path.sizes["up"]) >= 2
        assert path.sizes["down"] == []


async def test_wrong_key_of_a_client(keys: Keys) -> None:
    """curvecpclient expects another key than ours: we do not answer its Hellos."""
    async with (
        listening(keys) as listener,
        relay(listener.port) as path,
        nacl_tools.connect(keys.client_public, path.port, "swap:0:0", server_first=True),
    ):
        await until(lambda: len(path.sizes["up"]) >= 2)
        assert path.sizes["down"] == []


async def test_wrong_name_of_a_server(keys: Keys) -> None:
    """There is a cookie, but nothing comes of our Initiates: the connection is lost after its timeout."""
    async with nacl_tools.serve(keys.server, name="another.example") as peer, relay(peer.port) as path:
        connection = await client(keys, path.port, idle_timeout=1.5).initiate(timeout=TIMEOUT)
        with pytest.raises(taps.ConnectionLost):
            await say_and_hear(connection, b"who is there?")
        assert set(path.sizes["down"]) == {COOKIE}
        assert len(path.sizes["up"]) >= 3


async def test_wrong_name_of_a_client(keys: Keys) -> None:
    """A client that means another server than us: a cookie, and no word to its Initiates."""
    async with (
        listening(keys) as listener,
        relay(listener.port) as path,
        nacl_tools.connect(keys.server_public, path.port, "swap:0:0", name="another.example", server_first=True),
    ):
        await until(lambda: len(path.sizes["up"]) >= 3)
        assert set(path.sizes["down"]) == {COOKIE}


# ------------------------------------------------------------------------------------------------------------ accidents
async def test_restart_of_a_server(keys: Keys) -> None:
    """A connection to a server that was killed is lost in its time; a new one reaches the server that came after."""
    port = free_udp_port()
    async with nacl_tools.serve(keys.server, "echo", "end", port=port) as first:
        old = await client(keys, port, idle_timeout=2.0).initiate(timeout=TIMEOUT)
        assert await say_and_hear(old, b"before") == b"before"
        await first.stop()
    async with nacl_tools.serve(keys.server, "echo", "end", port=port):
        async with await client(keys, port).initiate(timeout=TIMEOUT) as new:
            await swap_streams(new, (1, ECHO), (1, ECHO))
        with pytest.raises(taps.ConnectionLost):
            await say_and_hear(old, b"after")


async def test_our_restart_with_a_client(keys: Keys) -> None:
    """Our server forgot everything: a client of before gets no word, a new one is served."""
    port = free_udp_port()
    async with relay(port) as path:
        async with listening(keys, port) as listener:
            before = nacl_tools.connect(keys.server_public, path.port, "write:6:1", "drain")
            old = await before.__aenter__()
            async with asyncio.timeout(TIMEOUT):
                connection = await listener.accept()
                assert (await connection.receive(min_incomplete_length=6)).data == octets_of(1, 6)
            connection.abort()
        await asyncio.wait_for(before.__aexit__(None, None, None), TIMEOUT)
    async with (
        listening(keys, port) as listener,
        nacl_tools.connect(keys.server_public, port, f"swap:{ECHO}:2", server_first=True) as peer,
    ):
        async with asyncio.timeout(TIMEOUT):
            ours = await listener.accept()
        async with ours:
            await swap_streams(ours, (1, ECHO), (2, ECHO))
        assert (await peer.told()).is_stream(1, ECHO)
    assert old.program.process.returncode is not None


@both_roles
async def test_lossy_path(keys: Keys, role: str) -> None:
    """3% lost, 5% out of order, 2% twice, each way: all octets arrive once and in order."""
    async with pair(role, keys, f"swap:{ECHO}:2", deeds=LOSSY) as made:
        await swap_streams(made.ours, (1, ECHO), (2, ECHO))
        assert (await made.finish()).is_stream(1, ECHO)
        assert made.path is not None
        for way in ("up", "down"):
            assert all(made.path.did[way, deed] for deed in ("dropped", "held", "doubled"))
