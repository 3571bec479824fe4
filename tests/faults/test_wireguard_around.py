"""What is around a WireGuard tunnel goes wrong: clocks that go backwards, stores and key logs that fail, restarts."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

import taps_security as taps
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.simulation import Network
from tests.connection.inside import ANYTHING, Site, play, take


class BadStore(taps.MemoryStore):
    """Fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    def load(self, key: str) -> bytes | None:
        if self.error is not None:
            raise self.error
        return super().load(key)

    def save(self, key: str, value: bytes) -> None:
        if self.error is not None:
            raise self.error
        super().save(key, value)


class Kept(Site):
    """A host whose timestamps outlive its tunnel."""

    store: Any = None
    key_log: Any = None

    def preconnection(self, *remotes: taps.RemoteEndpoint, **how: Any) -> taps.Preconnection:
        security = taps.SecurityParameters(stacks=["wireguard"], options={"wireguard": self.options}, store=self.store)
        return taps.Preconnection(
            remote_endpoints=remotes,
            security_parameters=security,
            transport_properties=ANYTHING,
            key_log=self.key_log,
            **how,
        )


async def greet(client: Kept, listener: taps.Listener, timeout: float = 5.0) -> None:
    """One flow there and back, and the end of the client's tunnel."""
    connection = await client.connect("server", timeout=timeout)
    await connection.send(b"hello")
    answering = await take(listener)
    assert (await answering.receive(timeout=5)).data == b"hello"
    await answering.send(b"hello yourself")
    assert (await connection.receive(timeout=5)).data == b"hello yourself"
    await answering.close()
    await connection.close()
    await asyncio.sleep(1)


def noise(listener: taps.Listener) -> Any:
    assert listener.tunnel is not None
    return listener.tunnel._endpoint.noise


# --------------------------------------------------------------------------------------------------------------- clocks
@pytest.mark.parametrize("back", [1.0, 86_400.0, 40 * 365 * 86_400.0])
def test_a_clock_that_goes_backwards_between_two_runs(back: float) -> None:
    async def scenario(network: Network) -> None:
        client, server = Kept(network, "client", "server"), Kept(network, "server", "client")
        client.store = taps.MemoryStore()
        async with await server.listen() as listener:
            for _ in range(3):
                await greet(client, listener)
                network.loop._starts_at -= back
            assert not noise(listener)

    play(scenario)


def test_without_a_store_such_a_clock_locks_its_owner_out_and_says_so() -> None:
    async def scenario(network: Network) -> None:
        client, server = Kept(network, "client", "server"), Kept(network, "server", "client")
        async with await server.listen() as listener:
            await greet(client, listener)
            network.loop._starts_at -= 1000.0
            before = len(network.trace)
            with pytest.raises(taps.EstablishmentError) as caught:
                await client.connect("server", timeout=12.0)
            (failure,) = caught.value.failures
            assert failure.error.reason is taps.Reason.TIMEOUT
            assert noise(listener)[Reason.REPLAYED.value] >= 2
            answers = [entry for entry in network.trace[before:] if entry.sender == "server"]
            assert {entry.length for entry in answers} <= {32}  # a keepalive of the stack that lives
            network.loop._starts_at += 1000.0
            await greet(client, listener)  # once the clock is right again

    play(scenario)


def test_a_clock_that_goes_backwards_while_the_tunnel_is_up() -> None:
    async def scenario(network: Network) -> None:
        client, server = Kept(network, "client", "server"), Kept(network, "server", "client")
        async with await server.listen() as listener:
            connection = await client.connect("server")
            await connection.send(b"hello")
            answering = await take(listener)
            for _ in range(5):
                network.loop._starts_at -= 10_000.0
                await connection.update_keys()
                await asyncio.sleep(1)
                await answering.send(b"under new keys")
                assert (await connection.receive(timeout=5)).data == b"under new keys"
            assert connection.security.epoch == (5, 5)
            assert not noise(listener)
            connection.abort()
            answering.abort()

    play(scenario)


def test_a_restarted_end_knows_replays() -> None:
    async def scenario(network: Network) -> None:
        network.record_data = True
        client, server = Kept(network, "client", "server"), Kept(network, "server", "client")
        server.store = taps.MemoryStore()
        async with await server.listen() as listener:
            await greet(client, listener)
        await asyncio.sleep(1)
        initiation = next(entry.data for entry in network.trace if entry.length == 148)
        async with await server.listen() as listener:
            with network.host("attacker"):
                attacker = network.loop.taps_network.open_datagram(("0.0.0.0", 0))
            attacker.send(memoryview(initiation), 0, server.outer("server"), None, 0)
            await asyncio.sleep(1)
            assert noise(listener) == {Reason.REPLAYED.value: 1}
            assert not [entry for entry in network.trace if entry.receiver == "attacker"]
            attacker.close()
            await greet(client, listener)

    play(scenario)


# --------------------------------------------------------------------------------------------------------------- stores
@pytest.mark.parametrize(
    ("store", "words"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied"),
        (taps.ConfigurationError("the file is from something else"), "the file is from something else"),
    ],
)
def test_a_store_that_cannot_be_read_is_a_clear_error(store: Exception, words: str) -> None:
    async def scenario(network: Network) -> None:
        site = Kept(network, "client", "server")
        site.store = BadStore()
        site.store.error = store
        for attempt in (site.tunnel, site.listen):
            with pytest.raises(taps.ConfigurationError, match="store") as caught:
                await attempt()
            assert words in str(caught.value)
        with pytest.raises(taps.EstablishmentError) as wrapped:
            await site.connect("server")
        assert words in str(wrapped.value.failures[0].error)
        assert not network.open_sockets()
        site.store.error = None
        (await site.tunnel()).release()

    play(scenario)


@pytest.mark.parametrize("octets", [b"", bytes(11), bytes(13), b"\xff" * 12])
def test_a_store_with_something_else_in_it_is_a_clear_error(octets: bytes) -> None:
    async def scenario(network: Network) -> None:
        site = Kept(network, "client", "server")
        site.store = BadStore()
        (await site.tunnel()).release()
        await asyncio.sleep(1)
        public = site.options.public_key.hex()
        site.store.save(f"wireguard/{public}/{site.options.peers[0].public_key.hex()}/sent", octets)
        with pytest.raises(taps.ConfigurationError, match=r"no timestamp under 'wireguard/.*sent'"):
            await site.tunnel()

    play(scenario)


def test_a_store_that_cannot_be_written_stops_nobody() -> None:
    async def scenario(network: Network) -> None:
        client, server = Kept(network, "client", "server"), Kept(network, "server", "client")
        server.store, client.store = BadStore(), BadStore()
        async with await server.listen() as listener, await client.tunnel() as tunnel:
            server.store.error = client.store.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            await greet(client, listener)
            for end in (tunnel, listener.tunnel):
                assert end is not None
                assert "No space left" in end.status()[0]["store_error"]
            server.store.error = client.store.error = None
            await tunnel_rekeys(client, listener)
            assert tunnel.status()[0]["store_error"] is None

    play(scenario)


async def tunnel_rekeys(client: Kept, listener: taps.Listener) -> None:
    connection = await client.connect("server")
    await connection.update_keys()
    await asyncio.sleep(1)
    await connection.send(b"under new keys")
    answering = await take(listener)
    assert (await answering.receive(timeout=5)).data == b"under new keys"
    answering.abort()
    connection.abort()


# ------------------------------------------------------------------------------------------------------------- key logs
def test_a_key_log_that_cannot_be_written_is_told_and_nothing_is_left_behind() -> None:
    async def scenario(network: Network) -> None:
        failed: list[Any] = []
        network.loop.set_exception_handler(lambda loop, context: failed.append(context["exception"]))

        def key_log(line: str) -> None:
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        client, server = Kept(network, "client", "server"), Kept(network, "server", "client")
        server.key_log = key_log
        full = True
        async with await server.listen() as listener:
            with pytest.raises((taps.EstablishmentError, TimeoutError)):
                await client.connect("server", timeout=20.0)
            assert listener.tunnel is not None
            assert {type(error) for error in failed} <= {OSError}
            assert not len(listener.tunnel._endpoint.paths)
            assert not listener.tunnel._groups
            assert not listener.tunnel._engine._state._indices  # type: ignore[attr-defined]
            full = False
            await greet(client, listener)

    play(scenario)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_key_log_that_fails_later_does_not_stop_the_handshakes(who: str) -> None:
    async def scenario(network: Network) -> None:
        network.loop.set_exception_handler(lambda loop, context: None)

        def key_log(line: str) -> None:
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full = False
        sites = {"client": Kept(network, "client", "server"), "server": Kept(network, "server", "client")}
        sites[who].key_log = key_log
        async with await sites["server"].listen() as listener:
            connection = await sites["client"].connect("server")
            await connection.send(b"hello")
            answering = await take(listener)
            full = True
            await asyncio.sleep(125)
            await connection.send(b"with a new handshake")
            await asyncio.sleep(30)
            full = False
            for _ in range(20):
                await connection.send(b"and on")
                await asyncio.sleep(10)
            assert connection.security.epoch[0] >= 1
            assert len([1 for _ in iter(answering.take_received, None)]) >= 20  # type: ignore[attr-defined]
            connection.abort()
            answering.abort()

    play(scenario)
