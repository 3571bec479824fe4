"""Our client with real servers. matrix.toml says which features each of them has."""

from __future__ import annotations

from pathlib import Path

import pytest

import taps_security as taps
from tests.interop.ours import BULK, PSK, client, psk, read_until, refused, send_and_receive, swap
from tests.interop.peers import EXPORT_LABEL, EXPORT_LENGTH, Peer, Wish, lines_of_text
from tests.support.pki import Pki

pytestmark = pytest.mark.usefixtures("no_leaks")


def only(*names: str) -> pytest.MarkDecorator:
    """The peers that have the feature; matrix.toml says why the others do not."""
    return pytest.mark.parametrize("peer", names, indirect=True)


async def test_echo(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish) as running, await client(running.port, pki).initiate() as connection:
        await running.facts()
        await swap(connection, running)
        assert connection.security.stack == "tls"
        assert connection.security.version == "1.3"
        assert not connection.security.resumed


async def test_bulk(peer: Peer, wish: Wish, pki: Pki) -> None:
    data = lines_of_text(BULK)
    async with peer.serve(wish, bulk=True) as running, await client(running.port, pki).initiate() as connection:
        expected = running.echo_of(data)
        received = await send_and_receive(connection, data, len(expected))
        assert received == expected


async def test_resumption(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish) as running:
        async with await client(running.port, pki).initiate() as first:
            assert not (await running.facts()).resumed
            await swap(first, running)
        async with await first.clone() as second:
            assert (await running.facts()).resumed
            assert second.security.resumed
            await swap(second, running, "1again")


async def test_client_certificates(peer: Peer, wish: Wish, pki: Pki) -> None:
    ours = pki.files(pki.client())
    identity = taps.Identity.file(ours.certificate, ours.key)
    async with peer.serve(wish.but(trust=pki.trust_file, client_certificate=True)) as running:
        async with await client(running.port, pki, identity=identity).initiate() as connection:
            assert (await running.facts()).client_certificate
            await swap(connection, running)
        with pytest.raises(taps.TapsError):  # the server may only tell after our handshake is complete
            async with await client(running.port, pki).initiate() as connection:
                await connection.receive(timeout=10)


async def test_hello_retry_request(peer: Peer, wish: Wish, pki: Pki) -> None:
    shares = {"groups": ["x25519", "secp384r1"], "key_shares": ["x25519"]}
    async with peer.serve(wish.but(group="secp384r1")) as running:
        async with await client(running.port, pki, tls=shares).initiate() as connection:
            facts = await running.facts()
            assert connection.security.algorithms["group"].lower() == "secp384r1"
            if peer.name == "openssl":
                assert facts.text.count("ClientHello") == 2
            await swap(connection, running)


@only("openssl")
async def test_hello_retry_request_with_cookie(peer: Peer, wish: Wish, pki: Pki) -> None:
    """The stateless mode of s_server 3.0 takes no ChangeCipherSpec behind its retry, not even its own client's."""
    async with peer.serve(wish.but(cookie=True)) as running:
        async with await client(running.port, pki, tls={"middlebox_compatibility": False}).initiate() as connection:
            await running.facts()
            assert connection.security.details["hello_retry"]
            await swap(connection, running)


async def test_key_update_by_us(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish) as running, await client(running.port, pki).initiate() as connection:
        await running.facts()
        await swap(connection, running, "0before")
        for turn in range(3):
            await connection.update_keys()
            await swap(connection, running, f"{turn}after")
        sent, received = connection.security.epoch
        assert sent == 3
        assert 1 <= received <= 3  # a peer may answer several requests with one update


@only("openssl", "gnutls")
async def test_key_update_by_peer(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish) as running, await client(running.port, pki).initiate() as connection:
        await running.facts()
        await swap(connection, running, "0before")
        if peer.name == "gnutls":  # its server obeys its client
            await connection.send(b"**REHANDSHAKE**\n")
            await read_until(connection, b"Successfully executed command")
        else:
            await running.update_keys()
        await swap(connection, running, "1after")
        await swap(connection, running, "2after")
        assert connection.security.epoch == (1, 1)


@only("openssl", "gnutls", "pyopenssl")
async def test_exporter(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish) as running, await client(running.port, pki).initiate() as connection:
        theirs = (await running.facts()).exported
        assert theirs == connection.export_secret(EXPORT_LABEL, b"", EXPORT_LENGTH)
        assert theirs != connection.export_secret(EXPORT_LABEL, b"another context", EXPORT_LENGTH)


async def test_alpn(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish.but(alpn="echo/1")) as running:
        async with await client(running.port, pki, alpn=["other/9", "echo/1"]).initiate() as connection:
            assert (await running.facts()).alpn in {"echo/1", None}  # s_server names it before it is chosen
            assert connection.security.alpn == "echo/1"
            await swap(connection, running)


@only("openssl", "gnutls", "python")
async def test_external_psk(peer: Peer, pki: Pki) -> None:
    async with peer.serve(Wish(psk=PSK)) as running:
        async with await client(running.port, pki, **psk()).initiate() as connection:
            await running.facts()
            await swap(connection, running)
            assert not connection.security.resumed


@pytest.mark.parametrize("algorithm", ["rsa2048", "p256", "ed25519"])
async def test_certificate(peer: Peer, wish: Wish, pki: Pki, algorithm: str) -> None:
    identity = pki.files(pki.leaf(algorithm))  # type: ignore[arg-type]
    async with peer.serve(wish.but(identity=identity)) as running:
        async with await client(running.port, pki).initiate() as connection:
            await running.facts()
            await swap(connection, running)


@only("pyopenssl")
async def test_x25519mlkem768(peer: Peer, wish: Wish, pki: Pki) -> None:
    async with peer.serve(wish) as running:
        async with await client(running.port, pki, prefer={"post_quantum"}).initiate() as connection:
            assert (await running.facts()).group == "X25519MLKEM768"
            assert connection.security.algorithms["group"].upper() == "X25519MLKEM768"
            await swap(connection, running)


# ------------------------------------------------------------------------------------------------------- refusals
async def assert_refused(peer: Peer, wish: Wish, preconnection_trust: Path, pki: Pki, *words: str) -> None:
    """We refuse the server's certificate and say why; the server hears of it."""
    async with peer.serve(wish) as running:
        preconnection = client(running.port, pki, trust=taps.Trust.file(str(preconnection_trust)))
        error = await refused(preconnection.initiate)
        assert isinstance(error, taps.AuthenticationFailed), repr(error)
        assert any(word in str(error).lower() for word in words), str(error)
        assert await running.failure()


async def test_wrong_name(peer: Peer, wish: Wish, pki: Pki) -> None:
    await assert_refused(peer, wish.but(identity=pki.files(pki.wrong_name)), pki.trust_file, pki, "name", "elsewhere")


async def test_expired(peer: Peer, wish: Wish, pki: Pki) -> None:
    await assert_refused(peer, wish.but(identity=pki.files(pki.expired)), pki.trust_file, pki, "expired")


async def test_untrusted(peer: Peer, wish: Wish, pki: Pki) -> None:
    await assert_refused(peer, wish.but(identity=pki.files(pki.untrusted)), pki.trust_file, pki, "trust", "issuer")


async def test_trust_anchor_removed(peer: Peer, wish: Wish, pki: Pki, tmp_path: Path) -> None:
    """A file that had the anchor serves; the same file without it does not."""
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(pki.other_trust_file.read_bytes() + pki.trust_file.read_bytes())
    async with peer.serve(wish) as running:
        both = client(running.port, pki, trust=taps.Trust.file(str(anchors)))
        async with await both.initiate() as connection:
            await running.facts()
            await swap(connection, running)
    anchors.write_bytes(pki.other_trust_file.read_bytes())
    await assert_refused(peer, wish, anchors, pki, "trust", "issuer")
