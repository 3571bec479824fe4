"""Keys: updated, exported and worn out as the descriptor says; what it does not offer is refused, and all lives on."""

from __future__ import annotations

import asyncio
import os

import pytest

import taps_security as taps
from taps_security.properties.security import Role
from taps_security.protocols.registry import Interface
from taps_security.stack.events import (
    Direction,
    FlowKind,
    HandshakeComplete,
    KeyDiscarded,
    KeyExpiring,
    KeyId,
    KeyReady,
    Limit,
    LimitKind,
    Stage,
    Terminated,
)
from tests.conformance.subject import SUBJECTS, Subject
from tests.conformance.talk import ask, ask_until_answered
from tests.conformance.worlds import World, play

every_subject = pytest.mark.parametrize("subject", SUBJECTS, ids=str)
MOBILITY = "connection_mobility"
FEATURES = ("key_update", "key_export", "key_import", MOBILITY, "out_of_order_records", "zero_rtt")
FEW = 5  # records or datagrams per key, where an option can say so
MANY = 10_000  # a published limit above this is out of a test's reach


def refused(error: taps.LocalError) -> bool:
    return error.reason is taps.Reason.NOT_SUPPORTED


@every_subject
def test_the_descriptor_agrees_with_itself(subject: Subject) -> None:
    """RFC 8922's labels and the properties are two views of one thing."""
    for label, feature in ((Interface.KU, "key_update"), (Interface.SSKE, "key_export"), (Interface.ME, MOBILITY)):
        assert (label in subject.descriptor.labels) == subject.provides(feature), feature


@every_subject
def test_keys_are_there_before_data_and_gone_after_the_end(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            for connection in pair:
                events = connection.security_events
                complete = next(index for index, event in enumerate(events) if isinstance(event, HandshakeComplete))
                agreed = {(one.key, one.direction) for one in events[:complete] if isinstance(one, KeyReady)}
                assert {direction for key, direction in agreed if key.stage is Stage.APPLICATION} == {*Direction}
                assert all(event.secret is None for event in events if isinstance(event, KeyReady))
                connection.abort()
                await connection.wait_closed()
                if subject.descriptor.tunnel is None:
                    assert isinstance(connection.security_events[-1], Terminated)
                    assert not live_keys(connection)
        await asyncio.sleep(1)  # a tunnel's stack ends when neither a connection nor a listener needs it
        for connection in pair:
            assert isinstance(connection.security_events[-1], Terminated)
            assert not live_keys(connection)

    play(scenario)


def live_keys(connection: taps.Connection) -> set[tuple[KeyId, Direction]]:
    """Keys that were installed and not discarded."""
    live: set[tuple[KeyId, Direction]] = set()
    for event in connection.security_events:
        if isinstance(event, KeyReady):
            live.add((event.key, event.direction))
        elif isinstance(event, KeyDiscarded):
            live.discard((event.key, event.direction))
    return live


# -------------------------------------------------------------------------------------------------------------- update
@every_subject
def test_key_update_from_each_side(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            if not subject.provides("key_update"):
                for connection in pair:
                    with pytest.raises(taps.LocalError) as caught:
                        await connection.update_keys()
                    assert refused(caught.value)
                await ask(pair)
                return
            for connection, other in (pair, reversed(pair)):
                before = epochs(connection, other)
                await connection.update_keys()
                await ask(pair)
                await ask(pair)
                after = epochs(connection, other)
                assert all(new > old for new, old in zip(after, before, strict=True)), (before, after)
            await ask(pair)

    play(scenario)


def epochs(*connections: taps.Connection) -> list[int]:
    """Generations of the sending and receiving keys."""
    return [generation for connection in connections for generation in connection.security.epoch]


@pytest.mark.parametrize("subject", [one for one in SUBJECTS if one.provides("key_update")], ids=str)
def test_both_sides_update_at_once_and_often(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            for _ in range(5):  # where rekeys cross, a message under the keys of before may be lost
                await ask_until_answered(subject, pair)
                await asyncio.gather(pair.client.update_keys(), pair.server.update_keys())
                await ask_until_answered(subject, pair)

    play(scenario)


# -------------------------------------------------------------------------------------------------------------- export
@every_subject
def test_exported_secrets_agree(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            await ask(pair)
            if not subject.provides("key_export"):
                for connection in pair:
                    with pytest.raises(taps.LocalError) as caught:
                        connection.export_secret("EXPORTER-conformance")
                    assert refused(caught.value)
                await ask(pair)
                return
            secrets = [*exported(pair.client)]
            assert secrets == [*exported(pair.server)]
            assert len({*secrets}) == len(secrets)
            assert [len(secret) for secret in secrets] == [32, 32, 32, 16, 48]
            if subject.provides("key_update"):
                await pair.client.update_keys()
                await ask(pair)
            assert secrets == [*exported(pair.client)]  # they belong to the handshake, not to a key
            async with subject.connected(world) as another:
                await ask(another)
                assert not {*secrets} & {*exported(another.client)}

    play(scenario)


def exported(connection: taps.Connection) -> list[bytes]:
    """Secrets that must all differ."""
    return [
        connection.export_secret("EXPORTER-one"),
        connection.export_secret("EXPORTER-two"),
        connection.export_secret("EXPORTER-one", b"context"),
        connection.export_secret("EXPORTER-one", b"context", 16),
        connection.export_secret("EXPORTER-one", b"context", 48),
    ]


@every_subject
def test_secrets_of_a_connection_that_ended_are_gone(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            pair.client.abort()
            await pair.client.wait_closed()
            with pytest.raises(taps.LocalError):
                pair.client.export_secret("EXPORTER-late")
            with pytest.raises(taps.LocalError):
                await pair.client.update_keys()

    play(scenario)


# -------------------------------------------------------------------------------------------------------------- expiry
@pytest.mark.parametrize("subject", [one for one in SUBJECTS if Interface.KE in one.descriptor.labels], ids=str)
def test_a_key_that_wears_out_says_so_and_is_replaced(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world, **subject.options(records_per_key=FEW)) as pair:
            await ask(pair)
            limit = nearest_limit(pair.client)
            assert limit is not None, "the key says no limit that a test can reach: give the options `records_per_key`"
            before = pair.client.security.epoch[0]
            if limit.kind is LimitKind.TIME:
                await asyncio.sleep(limit.soft)
            else:
                for _ in range(int(limit.soft) + 1):
                    await ask(pair)
            await ask(pair)
            expired = [event for event in pair.client.security_events if isinstance(event, KeyExpiring)]
            assert any(event.limit is limit.kind and not event.hard for event in expired), expired
            for _ in range(3):
                await ask(pair)  # nobody notices
            if subject.provides("key_update"):
                assert pair.client.security.epoch[0] > before

    play(scenario)


def nearest_limit(connection: taps.Connection) -> Limit | None:
    """The limit of the newest sending key that a test can reach."""
    keys = [event for event in connection.security_events if isinstance(event, KeyReady)]
    newest = [event for event in keys if event.direction is Direction.SEND and event.key.stage is Stage.APPLICATION]
    reachable = [one for one in newest[-1].limits if one.kind in {LimitKind.TIME, LimitKind.PACKETS}]
    reachable = [one for one in reachable if one.kind is LimitKind.TIME or one.soft <= MANY]
    return min(reachable, key=lambda limit: (limit.kind is LimitKind.TIME, limit.soft), default=None)


# ----------------------------------------------------------------------------------------------- what is not there
@every_subject
def test_what_a_stack_does_not_provide_is_refused_and_the_connection_lives(subject: Subject) -> None:
    async def scenario(world: World) -> None:
        async with subject.connected(world) as pair:
            kind = FlowKind.STREAM if subject.takes_streams else FlowKind.DATAGRAM
            stack, now = pair.client.driver.stack, asyncio.get_running_loop().time()
            commands = {
                "key_import": lambda: stack.import_key(KeyReady(KeyId(Stage.APPLICATION), Direction.SEND), now),
                "multistreaming": lambda: stack.open_flow(kind, None, now),
                MOBILITY: lambda: stack.migrate(0, now),
            }
            for feature, command in commands.items():
                if not subject.provides(feature):
                    with pytest.raises(taps.LocalError) as caught:
                        command()
                    assert refused(caught.value), feature
            await ask(pair, os.urandom(100))

    play(scenario)


@every_subject
def test_a_requirement_that_is_not_met_is_said_at_once(subject: Subject) -> None:
    """The descriptor says so beforehand: nothing is tried."""
    missing = [feature for feature in FEATURES if not subject.provides(feature)]
    assert missing
    for feature in missing:
        with subject.registered(), pytest.raises(taps.ConfigurationError, match=feature):
            asyncio.run(_initiate_with(subject, feature))


async def _initiate_with(subject: Subject, feature: str) -> None:
    preconnection = taps.Preconnection(
        remote_endpoints=[taps.RemoteEndpoint(ip_address="127.0.0.1", port=9)],
        security_parameters=subject.security(Role.CLIENT, require={feature}),
    )
    await preconnection.initiate()
