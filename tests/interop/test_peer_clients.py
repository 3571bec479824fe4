"""Our server with real clients. matrix.toml says which features each of them has."""

from __future__ import annotations

import pytest

import taps_security as taps
from tests.interop.ours import BULK, PSK, ask_back, psk, say_and_hear, server
from tests.interop.peers import EXPORT_LABEL, EXPORT_LENGTH, Peer, PeerFailed, Wish
from tests.support.pki import Files, Pki

pytestmark = pytest.mark.usefixtures("no_leaks")


def only(*names: str) -> pytest.MarkDecorator:
    """The peers that have the feature; matrix.toml says why the others do not."""
    return pytest.mark.parametrize("peer", names, indirect=True)


@pytest.fixture
def identity(pki: Pki) -> Files:
    """Our certificate."""
    return pki.files(pki.leaf())


async def test_echo(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity) as ours, peer.connect(ours.port, client_wish) as running:
        await running.facts()
        await ask_back(running)
        connection = await ours.connection()
        await running.finish()
        await connection.wait_closed()
        assert connection.error is None
        assert connection.security.version == "1.3"


async def test_bulk(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity) as ours:
        await peer.bulk(ours.port, client_wish, BULK)


async def test_resumption(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity) as ours, peer.connect(ours.port, client_wish, resume=True) as running:
        assert (await running.facts()).resumed
        await ask_back(running)
        assert not (await ours.connection(1)).security.resumed
        assert (await ours.connection(2)).security.resumed


async def test_client_certificates(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    trust = taps.Trust.file(str(pki.trust_file))
    async with server(pki, identity, client_authentication="require", trust=trust) as ours:
        async with peer.connect(ours.port, client_wish.but(identity=pki.files(pki.client()))) as running:
            await running.facts()
            await ask_back(running)
            assert "client.example" in str((await ours.connection()).security.peer)
        async with peer.connect(ours.port, client_wish) as running:
            with pytest.raises((PeerFailed, ConnectionError)):  # it may only hear of it after its handshake
                await say_and_hear(running)
        assert len(ours.connections) == 1


async def test_hello_retry_request(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    """None of these clients sends a share of secp521r1 at once."""
    async with server(pki, identity, tls={"groups": ["secp521r1"]}) as ours:
        async with peer.connect(ours.port, client_wish) as running:
            facts = await running.facts()
            await ask_back(running)
            assert (await ours.connection()).security.algorithms["group"].lower() == "secp521r1"
            if peer.name == "openssl":
                assert facts.text.count("ClientHello") == 2


async def test_hello_retry_request_with_cookie(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity, tls={"groups": ["secp521r1"], "retry_cookie": True}) as ours:
        async with peer.connect(ours.port, client_wish) as running:
            await running.facts()
            await ask_back(running)


async def test_key_update_by_us(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity) as ours, peer.connect(ours.port, client_wish) as running:
        await running.facts()
        await ask_back(running, "0before")
        connection = await ours.connection()
        for turn in range(3):
            await connection.update_keys()
            await ask_back(running, f"{turn}after")
        sent, received = connection.security.epoch
        assert sent == 3
        assert 1 <= received <= 3  # a peer may answer several requests with one update


@only("openssl", "gnutls")
async def test_key_update_by_peer(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity) as ours, peer.connect(ours.port, client_wish) as running:
        await running.facts()
        await ask_back(running, "0before")
        await running.update_keys()
        await ask_back(running, "1after")
        await ask_back(running, "2after")
        assert (await ours.connection()).security.epoch == (1, 1)


@only("openssl", "gnutls", "pyopenssl")
async def test_exporter(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity) as ours, peer.connect(ours.port, client_wish) as running:
        theirs = (await running.facts()).exported
        connection = await ours.connection()
        assert theirs == connection.export_secret(EXPORT_LABEL, b"", EXPORT_LENGTH)


async def test_alpn(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity, alpn=["other/9", "echo/1"]) as ours:
        async with peer.connect(ours.port, client_wish.but(alpn="echo/1")) as running:
            assert (await running.facts()).alpn == "echo/1"
            assert (await ours.connection()).security.alpn == "echo/1"
            await ask_back(running)


@only("openssl", "gnutls", "python")
async def test_external_psk(peer: Peer, pki: Pki) -> None:
    async with server(pki, None, **psk()) as ours, peer.connect(ours.port, Wish(psk=PSK)) as running:
        await running.facts()
        await ask_back(running)
        assert not (await ours.connection()).security.resumed


@pytest.mark.parametrize("algorithm", ["rsa2048", "p256", "ed25519"])
async def test_certificate(peer: Peer, client_wish: Wish, pki: Pki, algorithm: str) -> None:
    async with server(pki, pki.files(pki.leaf(algorithm))) as ours:  # type: ignore[arg-type]
        async with peer.connect(ours.port, client_wish) as running:
            await running.facts()
            await ask_back(running)


@only("pyopenssl")
async def test_x25519mlkem768(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    async with server(pki, identity, prefer={"post_quantum"}) as ours:
        async with peer.connect(ours.port, client_wish) as running:
            assert (await running.facts()).group == "X25519MLKEM768"
            await ask_back(running)
            assert (await ours.connection()).security.algorithms["group"].upper() == "X25519MLKEM768"


# ------------------------------------------------------------------------------------------------------- refusals
async def assert_refuses(peer: Peer, wish: Wish, ours: Files, pki: Pki) -> None:
    """The client refuses our certificate; no connection comes of it."""
    async with server(pki, ours) as listening, peer.connect(listening.port, wish) as running:
        assert await running.failure()
        assert not listening.connections


async def test_wrong_name(peer: Peer, client_wish: Wish, pki: Pki) -> None:
    await assert_refuses(peer, client_wish, pki.files(pki.wrong_name), pki)


async def test_expired(peer: Peer, client_wish: Wish, pki: Pki) -> None:
    await assert_refuses(peer, client_wish, pki.files(pki.expired), pki)


async def test_untrusted(peer: Peer, client_wish: Wish, pki: Pki) -> None:
    await assert_refuses(peer, client_wish, pki.files(pki.untrusted), pki)


async def test_trust_anchor_removed(peer: Peer, client_wish: Wish, identity: Files, pki: Pki) -> None:
    await assert_refuses(peer, client_wish.but(trust=pki.other_trust_file), identity, pki)
