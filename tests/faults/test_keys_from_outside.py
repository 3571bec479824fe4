"""Pre-shared keys, tickets and saved sessions end to end: real sockets, public API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import taps_security as taps
from taps_security.protocols import registry
from taps_security.protocols.tls.options import TlsOptions
from taps_security.protocols.tls.tickets import ServerSession, Session
from taps_security.stack.events import HandshakeComplete
from tests.support.pki import Pki
from tests.support.service import client_security, connect, echo, service, towards

pytestmark = pytest.mark.usefixtures("no_leaks")

KEY = taps.PreSharedKey("me", bytes(range(32)))
OTHER = taps.PreSharedKey("you", bytes(range(32, 64)))
RAW = {"tls": TlsOptions(import_psk=False)}


@asynccontextmanager
async def listening(**security: Any) -> AsyncIterator[taps.Listener]:
    """An echo service with just these parameters."""
    local = taps.LocalEndpoint(ip_address="127.0.0.1", port=0)
    preconnection = taps.Preconnection([local], security_parameters=taps.SecurityParameters(**security))
    listener = await preconnection.listen()
    task = asyncio.create_task(listener.serve(echo))
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait([task])


async def talk(listener: taps.Listener, **security: Any) -> taps.Connection:
    """Connect, hear an echo, close."""
    preconnection = towards(listener.port, taps.SecurityParameters(**security))
    async with await preconnection.initiate(timeout=5) as connection:
        await connection.send(b"octets", final=True)
        received = b"".join([bytes(message.data) async for message in connection])
    assert received == b"octets"
    return connection


async def refusal(listener: taps.Listener, **security: Any) -> Exception:
    """Why the only candidate failed."""
    with pytest.raises(taps.EstablishmentError) as caught:
        await talk(listener, **security)
    (failure,) = caught.value.failures
    assert isinstance(failure.error, Exception)
    return failure.error


def psk_kind(connection: taps.Connection) -> object:
    (complete,) = (event for event in connection.security_events if isinstance(event, HandshakeComplete))
    return complete.summary["psk"]


# -- external keys ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("options", "kind"), [({}, "imported"), (RAW, "external")])
async def test_an_external_key_is_all_that_both_sides_need(options: dict[str, Any], kind: str) -> None:
    async with listening(psk=KEY, options=options) as listener:
        connection = await talk(listener, psk=KEY, options=options)
    assert psk_kind(connection) == kind
    assert connection.security.peer.identity == b"me"  # type: ignore[attr-defined]


async def test_a_callback_finds_keys_now_or_later_without_any_other_credential() -> None:
    asked: list[bytes] = []

    def find(identity: bytes) -> taps.PreSharedKey | None:
        asked.append(identity)
        return KEY if identity == b"me" else None

    async def find_later(identity: bytes) -> taps.PreSharedKey | None:
        await asyncio.sleep(0.001)
        return find(identity)

    for callback in (find, find_later):
        async with listening(psk_callback=callback) as listener:
            assert psk_kind(await talk(listener, psk=KEY)) == "imported"
            assert isinstance(await refusal(listener, psk=OTHER), taps.AuthenticationFailed)
    assert asked.count(b"me") == 2


async def test_the_listeners_own_keys_come_before_the_callback() -> None:
    def never(identity: bytes) -> None:
        raise AssertionError("asked")

    async with listening(psks=[OTHER, KEY], psk_callback=never) as listener:
        await talk(listener, psk=KEY)
        await talk(listener, psks=[OTHER, KEY])


async def test_a_wrong_key_and_an_unknown_identity_are_refused_by_the_alert_that_says_so() -> None:
    wrong = taps.PreSharedKey("me", bytes(32))
    async with listening(psk=KEY) as listener:
        assert "decrypt_error" in str(await refusal(listener, psk=wrong))
        assert "unknown_psk_identity" in str(await refusal(listener, psk=OTHER))
        assert "unknown_psk_identity" in str(await refusal(listener, psk=KEY, options=RAW))
        await talk(listener, psk=KEY)  # and the listener lives on


async def test_a_lookup_that_fails_is_our_own_error_and_not_an_unknown_identity() -> None:
    def broken(identity: bytes) -> None:
        raise OSError("the store is down")

    async with listening(psk_callback=broken) as listener:
        assert "internal_error" in str(await refusal(listener, psk=KEY))


async def test_without_a_common_key_certificates_serve_those_who_trust_them(pki: Pki) -> None:
    trusting = {"trust": taps.Trust.file(str(pki.trust_file)), "server_name": "server.example"}
    async with listening(psk=KEY, identity=taps.Identity(pki.leaf())) as listener:
        assert psk_kind(await talk(listener, psk=OTHER, **trusting)) is None
        assert psk_kind(await talk(listener, psk=KEY, **trusting)) == "imported"
        assert isinstance(await refusal(listener, psk=OTHER), taps.AuthenticationFailed)  # it trusts its key alone


async def test_a_key_alone_authenticates_both_sides_and_beside_certificates_it_may_not(pki: Pki) -> None:
    def provided(preconnection: taps.Preconnection, verb: str) -> bool:
        (candidate,) = [one for one in preconnection.explain(verb)["candidates"] if one["stack"] == "tls"]
        return bool(candidate["kept"])

    both = {"require": {"mutual_authentication"}, "psk": KEY, "stacks": ["tls"]}
    alone = taps.SecurityParameters(**both)  # type: ignore[arg-type]
    with_trust = alone.replace(trust=taps.Trust.file(str(pki.trust_file)))
    with_identity = alone.replace(identity=taps.Identity(pki.leaf()), client_authentication="none")
    assert provided(taps.Preconnection(security_parameters=alone), "initiate")
    assert not provided(taps.Preconnection(security_parameters=with_trust), "initiate")
    assert not provided(taps.Preconnection(security_parameters=with_identity), "listen")


async def test_a_resumed_session_remembers_the_key_that_it_comes_from() -> None:
    async with listening(psk=KEY) as listener:
        preconnection = towards(listener.port, taps.SecurityParameters(psk=KEY))
        for kind in ("imported", "resumption", "resumption"):
            async with await preconnection.initiate(timeout=5) as connection:
                await connection.send(b"octets", final=True)
                assert [bytes(message.data) async for message in connection] == [b"octets"]
            assert psk_kind(connection) == kind
            assert connection.security.peer.identity == b"me"  # type: ignore[attr-defined]


# -- tickets and sessions --------------------------------------------------------------------------------------------
class Store:
    """A session store that tells what it keeps."""

    def __init__(self) -> None:
        self.kept: dict[Hashable, list[Any]] = {}
        self.down = False

    def take(self, key: Hashable) -> object | None:
        if self.down:
            raise OSError("the store is down")
        return self.kept[key].pop() if self.kept.get(key) else None

    def remember(self, key: Hashable, session: object) -> None:
        self.kept.setdefault(key, []).append(session)


async def heard(connection: taps.Connection) -> bool:
    """Whether the handshake was a resumption; tickets have come once the first octets are here."""
    async with connection:
        await connection.send(b"octets")
        assert (await connection.receive()).data == b"octets"
    return connection.security.resumed


async def test_stateful_tickets_stand_for_sessions_of_the_listeners_store_and_serve_once(pki: Pki) -> None:
    server, client = Store(), Store()
    async with service(pki, session_cache=server) as listener:
        assert not await heard(await connect(pki, listener, session_cache=client))
        (sessions,) = client.kept.values()
        assert all(len(session.ticket) == 32 for session in sessions)
        assert {session.ticket for session in sessions} == set(server.kept)
        assert all(isinstance(session, ServerSession) for kept in server.kept.values() for session in kept)
        used = sessions[-1]
        assert await heard(await connect(pki, listener, session_cache=client))
        assert not server.kept[used.ticket]
        (key,) = client.kept
        client.kept[key] = [used]  # once more with a ticket that is used up: a full handshake
        assert not await heard(await connect(pki, listener, session_cache=client))


async def test_a_store_that_is_down_costs_the_resumption_and_not_the_connection(pki: Pki) -> None:
    server, client = Store(), Store()
    async with service(pki, session_cache=server) as listener:
        await heard(await connect(pki, listener, session_cache=client))
        server.down = True
        assert not await heard(await connect(pki, listener, session_cache=client))


async def test_a_session_survives_in_a_file_and_damage_is_a_clear_error(pki: Pki) -> None:
    client = Store()
    async with service(pki) as listener:
        await heard(await connect(pki, listener, session_cache=client))
        (key,) = client.kept
        saved = client.kept[key][-1].serialise()
        restore = registry.descriptor("tls").restore
        assert restore is not None
        restored = restore(saved)
        assert isinstance(restored, Session)
        assert restored.serialise() == saved
        client.kept[key] = [restored]
        assert await heard(await connect(pki, listener, session_cache=client))
    for damaged in (b"", saved[:-1], saved + b"\0", saved[: len(saved) // 2], b"x" + saved):
        with pytest.raises(taps.ConfigurationError):
            restore(damaged)


class Always:
    """Gives one session, whoever asks."""

    def __init__(self, session: object) -> None:
        self.session = session
        self.given = 0

    def take(self, key: Hashable) -> object:
        self.given += 1
        return self.session

    def remember(self, key: Hashable, session: object) -> None:
        """Keeps nothing."""


async def test_a_ticket_of_another_server_or_of_none_is_a_full_handshake(pki: Pki) -> None:
    client = Store()
    async with service(pki) as first:
        await heard(await connect(pki, first, session_cache=client))
    (sessions,) = client.kept.values()
    async with service(pki) as second:
        for ticket in (sessions[-1].ticket, bytes(100), b"x"):
            cache = Always(replace(sessions[-1], ticket=ticket))
            preconnection = towards(second.port, client_security(pki, session_cache=cache))
            assert not await heard(await preconnection.initiate(timeout=5))
            assert cache.given == 1


async def test_tickets_can_be_left_out(pki: Pki) -> None:
    without: list[dict[str, Any]] = [{"options": {"tls": TlsOptions(tickets=0)}}, {"prohibit": {"session_resumption"}}]
    for refused in without:
        client = Store()
        async with service(pki, **refused) as listener:
            await heard(await connect(pki, listener, session_cache=client))
        assert not client.kept
