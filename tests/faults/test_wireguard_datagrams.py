"""Strangers, and those who forge, against a WireGuard end through its endpoint: dropped, counted by reason, no answer
but the paper's, and nothing grows."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

import taps_security as taps
from taps_security.crypto.blake2s import mac128
from taps_security.protocols.wireguard.keys import mac1_key
from taps_security.protocols.wireguard.reasons import Reason
from taps_security.protocols.wireguard.wire import Initiation, Response
from taps_security.simulation import Network
from taps_security.simulation.links import Packet
from taps_security.simulation.nat import Nat
from taps_security.stack.events import PeerMoved
from tests.protocols.wireguard.test_stack_simulated import PORT, PUBLIC, Site, ask, play

STRANGER = ("203.0.113.77", 4444)
OF_RECORDS = {"unauthentic", "replayed", "malformed", "key expired", "counter beyond its limit"}
REASONS = {reason.value for reason in Reason} | OF_RECORDS | {"nobody's", "empty"}


class Victim:
    """A look at one end from outside and inside. `sound`: its other end."""

    def __init__(self, network: Network, site: Site) -> None:
        self.network, self.site = network, site
        self.endpoint = site.tunnel._endpoint
        self.state = site.tunnel._engine._state
        self.before = self.size()
        self.said = self.answers()
        self.heard = list(site.heard)
        self.counted = self.noise()
        self.moves = self.moved()

    async def give(self, datagram: bytes, source: tuple[str, int] = STRANGER) -> None:
        """A datagram whose source address may be a lie."""
        local = (self.site.host.addresses[0], PORT)
        self.endpoint._socket.arrived(Packet("UDP", source, local, datagram))
        while self.endpoint._socket.readable:
            await asyncio.sleep(0)

    def size(self) -> dict[str, int]:
        """All that a stranger could make larger."""
        endpoint, state, stack = self.endpoint, self.state, self.site.stack
        return {
            "members": len(endpoint._members),
            "routes": len(endpoint._by_route),
            "paths": len(endpoint.paths),
            "half open": endpoint.half_open,
            "indices": len(state._indices),
            "live": len(state.live),
            "keys": len(stack._record._receive),
            "events": len(stack.events),
            "pending": stack.pending,
            "flows": len(self.site.tunnel._groups),
            "facts": len(stack._facts),
            "timers": len([timer for timer in self.network.loop._scheduled if not timer.cancelled()]),
        }

    def answers(self) -> int:
        return sum(entry.sender == self.site.host.name for entry in self.network.trace)

    def noise(self) -> Counter[str]:
        return Counter(self.site.tunnel.dropped)

    def moved(self) -> int:
        (group,) = self.site.tunnel._groups.values()
        return sum(isinstance(event, PeerMoved) for _, event in group.log.events)

    def dropped(self) -> Counter[str]:
        return self.noise() - self.counted

    def is_unmoved(self, given: int, *, paths: int = 0) -> None:
        """Every one of `given` datagrams was dropped and counted; `paths`: how many strange ones are remembered."""
        dropped = self.dropped()
        assert dropped.total() == given
        assert set(dropped) <= REASONS
        assert self.answers() == self.said
        assert self.site.heard == self.heard
        assert self.moved() == self.moves
        grown = {name: size - self.before[name] for name, size in self.size().items()}
        assert {name: more for name, more in grown.items() if more} == (
            {"paths": paths, "facts": paths} if paths else {}
        )


def captured(network: Network, sender: str, kind: int) -> list[bytes]:
    return [entry.data for entry in network.trace if entry.sender == sender and entry.data and entry.data[0] == kind]


async def talking(network: Network, client: Site) -> taps.Connection:
    """A connection on which both have said something; what was sent is recorded."""
    network.record_data = True
    connection = await client.connect()
    for turn in range(3):
        await ask(connection, b"%d" % turn, tries=1)
    await asyncio.sleep(1)
    return connection


def keep_alive(site: Site) -> None:
    """An empty packet, now."""
    (group,) = site.tunnel._groups.values()
    site.stack._keepalive = True
    site.stack._settle(asyncio.get_running_loop().time())
    group.driver.pump()


def lengths() -> Iterator[int]:
    yield from range(2001)


# -------------------------------------------------------------------------------------------------- of every length
def test_random_datagrams_of_every_length() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        peer = server.stack.remote
        index = captured(network, "client", 4)[0][4:8]
        rng = random.Random(1)
        victim = Victim(network, server)
        given = 0
        for length in lengths():
            noise = rng.randbytes(length)
            for source in (STRANGER, peer):
                for datagram in (
                    noise,
                    (bytes((length % 6, 0, 0, 0)) + noise)[:length],
                    (b"\4\0\0\0" + index + noise)[:length],  # who has seen an index
                ):
                    await victim.give(datagram, source)
                    given += 1
        victim.is_unmoved(given, paths=1)
        await ask(connection, b"still here", tries=1)

    play(scenario)


def test_real_messages_cut_and_stretched_to_every_length() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        rng = random.Random(2)
        (initiation,), (response,) = captured(network, "client", 1), captured(network, "server", 2)
        data = captured(network, "client", 4)[-1]
        pending = b"\2\0\0\0" + response[4:8] + data[4:8] + response[12:]  # for an index that is in use
        cookie = b"\3\0\0\0" + data[4:8] + rng.randbytes(56)
        victim = Victim(network, server)
        given = 0
        for length in lengths():
            for whole in (initiation, pending, cookie, data):
                await victim.give((whole + rng.randbytes(2000))[:length], server.stack.remote)
                given += 1
        victim.is_unmoved(given)
        for reason in (Reason.REPLAYED, Reason.NOT_AWAITED, Reason.UNAUTHENTIC):  # the last: a cookie for our response
            assert victim.dropped()[reason.value] == 1  # at its own length only
        assert victim.dropped()["replayed"] >= 1
        await ask(connection, b"still here", tries=1)

    play(scenario)


def test_every_octet_of_every_message_counts() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        client.stack.update_keys(network.now)  # an initiation that never comes, but for its changed copies
        network.link("client", "server").loss = 1.0
        (group,) = client.tunnel._groups.values()
        group.driver.pump()
        await connection.send(b"unheard")
        await asyncio.sleep(0.01)
        network.link("client", "server").loss = 0.0
        victim = Victim(network, server)
        given = 0
        for whole in (captured(network, "client", 1)[-1], captured(network, "client", 4)[-1]):
            for place in range(len(whole)):
                if whole[0] == 1 and place >= 132:
                    continue  # mac2, which nobody looks at without load
                datagram = bytearray(whole)
                datagram[place] ^= 1 << place % 8
                await victim.give(bytes(datagram), STRANGER)
                given += 1
        victim.is_unmoved(given, paths=1)
        assert victim.dropped()[Reason.BAD_MAC1.value] == 148 - 16 - 4  # the type's octets make it something else

    play(scenario)


# ------------------------------------------------------------------------------------------------- who knows something
def sealed_with_mac1(message: Initiation | Response, receiver: str) -> bytes:
    """What anybody can make who knows a public key."""
    body = message.encode()[:-32]
    return body + mac128(mac1_key(PUBLIC[receiver]), body) + bytes(16)


def test_strangers_who_know_our_public_key_get_no_answer() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        rng = random.Random(3)
        victim = Victim(network, server)
        for number in range(300):
            ephemeral = bytes(32) if number % 3 == 0 else rng.randbytes(32)  # a point of small order, too
            message = Initiation(rng.randbytes(4), ephemeral, rng.randbytes(48), rng.randbytes(28))
            await victim.give(sealed_with_mac1(message, "server"), (f"198.51.100.{number % 250}", 1000 + number))
        victim.is_unmoved(300)
        assert victim.dropped() == {Reason.BAD_POINT.value: 100, Reason.UNAUTHENTIC.value: 200}
        await ask(connection, b"still here", tries=1)

    play(scenario)


def test_under_load_they_get_a_cookie_and_nothing_else() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        rng = random.Random(4)
        victim = Victim(network, server)
        given = 3000
        for number in range(given):
            message = Initiation(rng.randbytes(4), rng.randbytes(32), rng.randbytes(48), rng.randbytes(28))
            await victim.give(sealed_with_mac1(message, "server"), (f"198.51.{number % 200}.{number % 250}", 2000))
        said = [entry for entry in network.trace if entry.sender == "server"][victim.said :]
        assert {entry.length for entry in said} == {64}
        assert len(said) == given - 1000  # the first ones of a second are opened
        assert victim.dropped() == {Reason.UNAUTHENTIC.value: 1000}
        assert {name: size for name, size in victim.size().items() if size > victim.before[name]} in (
            {},
            {"timers": 2000},
        )
        await ask(connection, b"still here", tries=1)

    play(scenario)


def test_who_shows_its_cookie_gets_in_while_a_flood_goes_on() -> None:
    """2,000 initiations a second with a good mac1, each from another address; our peer begins in the middle of it."""

    async def scenario(network: Network, client: Site, server: Site) -> None:
        rng = random.Random(7)
        local = (server.host.addresses[0], PORT)
        sock = server.tunnel._endpoint._socket

        async def flood() -> None:
            for number in range(1 << 30):
                message = Initiation(rng.randbytes(4), rng.randbytes(32), rng.randbytes(48), rng.randbytes(28))
                source = (f"198.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 3000)
                sock.arrived(Packet("UDP", source, local, sealed_with_mac1(message, "server")))
                if number % 50 == 49:
                    await asyncio.sleep(0.025)

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(2)
        began = network.now
        connection = await client.connect()
        assert 5.0 <= network.now - began <= 5.333 + 0.3  # the second initiation shows the cookie
        for turn in range(20):
            await ask(connection, b"%d" % turn, tries=1)
        endpoint = server.tunnel._endpoint
        assert (len(endpoint._members), endpoint.half_open, len(server.tunnel._engine._state._indices)) == (1, 0, 1)
        assert len(endpoint.paths) == 1
        flooding.cancel()

    play(scenario)


def test_a_response_for_an_index_that_waits_for_none() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        index = captured(network, "server", 4)[0][4:8]
        rng = random.Random(5)
        victim = Victim(network, client)
        for receiver in (index, bytes(4), rng.randbytes(4)):
            message = Response(rng.randbytes(4), receiver, rng.randbytes(32), rng.randbytes(16))
            await victim.give(sealed_with_mac1(message, "client"), STRANGER)
        victim.is_unmoved(3, paths=1)
        assert victim.dropped() == {Reason.NOT_AWAITED.value: 1, Reason.UNKNOWN_INDEX.value: 2}
        await ask(connection, b"still here", tries=1)

    play(scenario)


def test_forged_responses_do_not_spoil_the_one_that_is_awaited() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        client.stack.update_keys(network.now)
        (group,) = client.tunnel._groups.values()
        group.driver.pump()
        index = captured(network, "client", 1)[-1][4:8]
        rng = random.Random(6)
        victim = Victim(network, client)
        for number in range(200):
            ephemeral = bytes(32) if number % 2 else rng.randbytes(32)
            message = Response(rng.randbytes(4), index, ephemeral, rng.randbytes(16))
            await victim.give(sealed_with_mac1(message, "client"), STRANGER)
        victim.is_unmoved(200, paths=1)
        assert victim.dropped() == {Reason.BAD_POINT.value: 100, Reason.UNAUTHENTIC.value: 100}
        await ask(connection, b"still here", tries=1)
        assert client.stack._handshake.sending_key.generation == 1

    play(scenario)


# ----------------------------------------------------------------------------------------------------- many addresses
def test_junk_with_a_known_index_from_many_addresses() -> None:
    """Eight paths are remembered; neither the one in use nor the one that the peer moved to is forgotten."""

    async def scenario(network: Network, client: Site, server: Site) -> None:
        nat = client.host.nat = Nat("203.0.113.9")
        await talking(network, client)
        index = captured(network, "client", 4)[0][4:8]
        nat.move("203.0.113.10")
        keep_alive(client)  # which is not answered: the server has sent nothing to there
        await asyncio.sleep(1)
        place = server.stack.remote
        assert place[0] == "203.0.113.10"
        victim = Victim(network, server)
        for number in range(2000):
            await victim.give(b"\4\0\0\0" + index + bytes((9,) * 56), (f"198.51.{number // 250}.{number % 250}", 5000))
        assert victim.dropped() == {"unauthentic": 2000}
        assert victim.answers() == victim.said
        assert victim.size()["paths"] <= 8
        assert victim.size()["facts"] <= 8
        assert server.stack.remote == place
        keep_alive(server)
        assert [entry.destination for entry in network.trace if entry.sender == "server"][-1] == place

    play(scenario)


def test_replays_from_many_addresses_open_nothing_and_move_nobody() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        everything = [entry.data for entry in network.trace if entry.sender == "client" and entry.data]
        victim = Victim(network, server)
        given = 0
        for number in range(300):
            for datagram in everything:
                await victim.give(datagram, (f"198.51.100.{number % 250}", 6000 + number))
                given += 1
        assert victim.dropped() == {"replayed": 300 * (len(everything) - 1), Reason.REPLAYED.value: 300}
        assert (victim.answers(), victim.moved()) == (victim.said, victim.moves)
        assert victim.size()["paths"] <= 8
        await ask(connection, b"still here", tries=1)

    play(scenario)


@pytest.mark.parametrize(("behind", "opens"), [(8191, True), (8192, False)])
def test_the_ends_of_the_window_of_counters(behind: int, opens: bool) -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        network.link("client", "server").loss = 1.0
        await connection.send(b"held back")
        await asyncio.sleep(0.01)
        late = captured(network, "client", 4)[-1]
        network.link("client", "server").loss = 0.0
        client.stack._record._send.number = int.from_bytes(late[8:16], "little") + behind
        await ask(connection, b"the newest", tries=1)
        victim = Victim(network, server)
        await victim.give(late, server.stack.remote)
        await asyncio.sleep(1)
        assert server.heard[-1] == (b"held back" if opens else b"the newest")
        assert victim.dropped() == ({} if opens else {"replayed": 1})

    play(scenario)


# ----------------------------------------------------------------------------------------------------- floods of a peer
def test_a_peer_that_begins_again_and_again_costs_no_memory() -> None:
    """It is authentic, and handed over each time: but for its rate it may do that."""

    async def scenario(network: Network, client: Site, server: Site) -> None:
        connection = await talking(network, client)
        (group,) = client.tunnel._groups.values()
        stack: Any = client.stack
        sizes = []
        for number in range(400):
            stack._handshake.abandon(network.now)
            stack._handshake.update_keys(network.now)
            stack._route(network.now)
            stack._settle(network.now)
            group.driver.pump()
            await asyncio.sleep(0.025)
            if number in {10, 399}:
                sizes.append(Victim(network, server).size())
        assert sizes[0] == sizes[1]
        assert len(server.tunnel._engine._state._indices) <= 4
        await ask(connection, b"still here", tries=3)

    play(scenario)


def test_initiations_that_come_too_fast_are_dropped() -> None:
    async def scenario(network: Network, client: Site, server: Site) -> None:
        await talking(network, client)
        (group,) = client.tunnel._groups.values()
        stack: Any = client.stack
        victim = Victim(network, server)
        for _ in range(100):
            stack._handshake.abandon(network.now)
            stack._handshake.update_keys(network.now)
            stack._route(network.now)
            stack._settle(network.now)
            group.driver.pump()
            await asyncio.sleep(0.001)
        await asyncio.sleep(1)
        answered = sum(entry.length == 92 for entry in network.trace if entry.sender == "server")
        assert victim.dropped()[Reason.TOO_FAST.value] == 100 - (answered - 1)
        assert answered - 1 <= 6

    play(scenario)
