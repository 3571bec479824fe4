from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from taps_security.connection.asks import Answerer, Answers
from taps_security.crypto.certificates import certificate_pem, parse_certificate_untrusted, public_key_of
from taps_security.crypto.issuing import KeyAlgorithm, issue_certificate, make_certificate_authority
from taps_security.crypto.signature import SignatureScheme, verify
from taps_security.crypto.trust import CertificateReason, TrustAnchors, VerifiedPeer
from taps_security.properties.credentials import Identity
from taps_security.stack.asks import (
    Ask,
    AskRequest,
    ChooseIdentity,
    ClaimOnce,
    FindPsk,
    FindSession,
    Refused,
    Sign,
    VerifyKey,
    VerifyPeer,
)
from taps_security.stack.errors import AuthenticationFailed, LocalError, PeerIncompatible, Reason
from tests.support.pki import SERVER_NAME, Pki

pytestmark = pytest.mark.usefixtures("no_leaks")


class Door:
    """What a driver is to an Answerer."""

    def __init__(self) -> None:
        self.answers: dict[int, object] = {}
        self.came = asyncio.Event()

    def answer(self, ask: int, result: object) -> None:
        assert ask not in self.answers
        self.answers[ask] = result
        self.came.set()


def answers(pki: Pki, **more: Any) -> Answers:
    return Answers(wall_clock=lambda: pki.now, anchors=lambda: TrustAnchors(roots=pki.authority.chain), **more)


def at_once(where: Answers, request: AskRequest) -> Any:
    """The answer to one request, which must not need another turn of the loop."""
    door = Door()
    Answerer(where).ask(Ask(1, request), door)  # type: ignore[arg-type]
    return door.answers[1]


async def later(where: Answers, request: AskRequest) -> Any:
    """The answer to one request, which must not come at once."""
    door = Door()
    Answerer(where).ask(Ask(1, request), door)  # type: ignore[arg-type]
    assert not door.answers
    await door.came.wait()
    return door.answers[1]


def whole(pki: Pki, name: str = SERVER_NAME) -> VerifyPeer:
    return VerifyPeer(pki.leaf().chain, name, "server")


# -- VerifyPeer ---------------------------------------------------------------------------------------------------
async def test_a_good_chain_is_an_identity(pki: Pki) -> None:
    peer = at_once(answers(pki), whole(pki))
    assert isinstance(peer, VerifiedPeer)
    assert peer.leaf == pki.leaf().chain[0]


async def test_a_bad_chain_is_refused_with_its_reason(pki: Pki) -> None:
    refused = at_once(answers(pki), whole(pki, "other.example"))
    assert isinstance(refused.error, AuthenticationFailed)
    assert refused.error.reason is CertificateReason.WRONG_NAME
    nobody = Answers(wall_clock=lambda: pki.now, anchors=lambda: None)
    assert at_once(nobody, whole(pki)).error.reason is CertificateReason.UNTRUSTED


async def test_the_trust_callback_sees_the_verified_peer_and_may_refuse(pki: Pki) -> None:
    seen: list[Any] = []
    assert at_once(answers(pki, trust_callback=seen.append), whole(pki)) is seen[0]

    def refuses(peer: object) -> None:
        raise ValueError("not today")

    error = at_once(answers(pki, trust_callback=refuses), whole(pki)).error
    assert isinstance(error, AuthenticationFailed)
    assert (error.reason, "not today" in str(error)) == (Reason.REFUSED, True)

    def refuses_in_our_words(peer: object) -> None:
        raise PeerIncompatible("too old")

    assert isinstance(at_once(answers(pki, trust_callback=refuses_in_our_words), whole(pki)).error, PeerIncompatible)


async def test_the_trust_callback_is_not_asked_about_a_bad_chain(pki: Pki) -> None:
    def never(peer: object) -> None:
        raise AssertionError("asked")

    refused = at_once(answers(pki, trust_callback=never), whole(pki, "other.example"))
    assert refused.error.reason is CertificateReason.WRONG_NAME


async def test_the_trust_callback_does_not_stand_in_for_trust(pki: Pki) -> None:
    """What nobody vouches for is refused before the application is asked."""
    seen: list[object] = []
    nobody = Answers(wall_clock=lambda: pki.now, anchors=lambda: None, trust_callback=seen.append)
    assert at_once(nobody, whole(pki)).error.reason is CertificateReason.UNTRUSTED
    assert not seen


@pytest.mark.parametrize("verdict", [False, True, 0, "no"])
async def test_a_trust_callback_that_answers_in_another_way_refuses(pki: Pki, verdict: object) -> None:
    async def slow(peer: object) -> object:
        return verdict

    for refused in (
        at_once(answers(pki, trust_callback=lambda peer: verdict), whole(pki)),
        await later(answers(pki, trust_callback=slow), whole(pki)),
    ):
        assert isinstance(refused.error, AuthenticationFailed)
        assert f"returned {type(verdict).__name__}" in str(refused.error)


async def test_a_server_that_nobody_named_is_nobody(pki: Pki) -> None:
    """Without a name any certificate of a trusted authority would do."""
    refused = at_once(answers(pki), whole(pki, ""))
    assert isinstance(refused.error, AuthenticationFailed)
    assert "server_name=" in str(refused.error)
    client = VerifyPeer(pki.client().chain, "", "client")
    assert isinstance(at_once(answers(pki), client), VerifiedPeer)


async def test_an_async_trust_callback_answers_later(pki: Pki) -> None:
    async def accepts(peer: VerifiedPeer) -> None:
        await asyncio.sleep(0)

    async def refuses(peer: VerifiedPeer) -> None:
        await asyncio.sleep(0)
        raise ValueError("not today")

    assert isinstance(await later(answers(pki, trust_callback=accepts), whole(pki)), VerifiedPeer)
    refused = await later(answers(pki, trust_callback=refuses), whole(pki))
    assert isinstance(refused.error, AuthenticationFailed)


# -- our own credentials ------------------------------------------------------------------------------------------
def identities(pki: Pki, *algorithms: KeyAlgorithm) -> list[Identity]:
    return [Identity(pki.leaf(algorithm)) for algorithm in algorithms]


async def test_the_identity_fits_the_peers_algorithms_and_the_name(pki: Pki) -> None:
    ours = [*identities(pki, "ed25519", "p256"), Identity(pki.client())]
    where = answers(pki, identities=ours)
    ecdsa, ed25519, rsa = (0x0403,), (0x0807,), (0x0804,)
    assert at_once(where, ChooseIdentity("", ecdsa)) is ours[1].loaded
    assert at_once(where, ChooseIdentity(SERVER_NAME, (*ecdsa, *ed25519))) is ours[0].loaded
    assert at_once(where, ChooseIdentity("client.example", ecdsa)) is ours[2].loaded
    assert at_once(where, ChooseIdentity("unknown.example", ed25519)) is ours[0].loaded
    assert at_once(where, ChooseIdentity(SERVER_NAME, rsa)) is None
    assert at_once(answers(pki), ChooseIdentity("", ecdsa)) is None


async def test_the_chain_that_suits_the_peer_is_preferred(pki: Pki) -> None:
    """RFC 8446 §4.4.2.2: by the name first, then by the signatures in the chain and by who issued it."""
    edwards = make_certificate_authority("Edwards", algorithm="ed25519", at=pki.now, random=os.urandom)
    other = Identity(issue_certificate(edwards, [SERVER_NAME], at=pki.now, random=os.urandom))
    elsewhere = Identity(issue_certificate(edwards, ["elsewhere.example"], at=pki.now, random=os.urandom))
    ours = Identity(pki.leaf())
    where, ecdsa, ed25519 = answers(pki, identities=[elsewhere, ours, other]), 0x0403, 0x0807
    assert at_once(where, ChooseIdentity(SERVER_NAME, (ecdsa,), (), (ed25519,))) is other.loaded
    assert at_once(where, ChooseIdentity(SERVER_NAME, (ecdsa,), (), (ecdsa,))) is ours.loaded
    issuer = parse_certificate_untrusted(edwards.chain[0]).subject.public_bytes()
    assert at_once(where, ChooseIdentity("", (ecdsa,), (issuer,))) is elsewhere.loaded
    assert at_once(where, ChooseIdentity("", (ecdsa,), (b"nobody",), (0x0804,))) is elsewhere.loaded  # better than none


async def test_a_private_key_signs_inline(pki: Pki) -> None:
    (ours,) = identities(pki, "p256")
    signature = at_once(answers(pki, identities=[ours]), Sign(ours.loaded, 0x0403, b"data"))
    verify(public_key_of(ours.loaded.chain[0]), SignatureScheme(0x0403), signature, b"data")


async def test_an_external_key_signs_by_callback_now_or_later(pki: Pki) -> None:
    async def slow(request: Sign) -> bytes:
        await asyncio.sleep(0)
        return b"slow " + request.data

    pem = certificate_pem(*pki.leaf().chain)
    quick = Identity.external(pem, lambda request: b"quick " + request.data)
    hsm = Identity.external(pem, slow)
    where = answers(pki, identities=[quick, hsm])
    assert at_once(where, Sign(quick.loaded, 0x0403, b"data")) == b"quick data"
    assert await later(where, Sign(hsm.loaded, 0x0403, b"data")) == b"slow data"


async def test_whatever_a_key_callback_raises_is_our_own_failure(pki: Pki) -> None:
    def broken(request: Sign) -> bytes:
        raise OSError("no token in slot 0")

    async def broken_later(request: Sign) -> bytes:
        raise OSError("no token in slot 1")

    pem = certificate_pem(*pki.leaf().chain)
    ours = [Identity.external(pem, broken), Identity.external(pem, broken_later)]
    where = answers(pki, identities=ours)
    for number, refused in enumerate(
        (
            at_once(where, Sign(ours[0].loaded, 0x0403, b"")),
            await later(where, Sign(ours[1].loaded, 0x0403, b"")),
        )
    ):
        assert isinstance(refused, Refused)
        assert isinstance(refused.error, LocalError)
        assert f"slot {number}" in str(refused.error)


async def test_nobody_signs_for_a_stranger(pki: Pki) -> None:
    stranger = Identity.external(certificate_pem(*pki.leaf().chain), lambda request: b"")
    assert at_once(answers(pki), Sign(stranger.loaded, 0x0403, b"")).error.reason is Reason.MISSING_CREDENTIAL


# -- keys, sessions, claims -----------------------------------------------------------------------------------------
async def test_keys_and_sessions_are_found_or_not(pki: Pki) -> None:
    class Sessions:
        def find(self, ticket: bytes) -> object | None:
            if ticket == b"broken":
                raise OSError("no connection to the store")
            return "session" if ticket == b"ticket" else None

    where = answers(pki, psks={b"me": "key"}, sessions=Sessions())
    assert [at_once(where, FindPsk(name)) for name in (b"me", b"you")] == ["key", None]
    assert [at_once(where, FindSession(name)) for name in (b"ticket", b"other")] == ["session", None]
    assert isinstance(at_once(where, FindSession(b"broken")), Refused)
    assert at_once(answers(pki), FindSession(b"ticket")) is None


async def test_a_token_is_claimed_once_until_it_expires(pki: Pki) -> None:
    clock = [100.0]
    where = Answers(wall_clock=lambda: clock[0], anchors=lambda: None)
    claim = ClaimOnce("ticket", b"token", 200.0)
    assert [at_once(where, claim), at_once(where, claim)] == [True, False]
    assert at_once(where, ClaimOnce("other kind", b"token", 200.0)) is True
    clock[0] = 199.0
    assert at_once(where, claim) is False
    clock[0] = 200.0
    assert at_once(where, claim) is True
    assert len(where.claimed) == 1  # what expired is forgotten


async def test_a_bare_key_is_who_it_is_unless_the_callback_refuses_it(pki: Pki) -> None:
    seen: list[object] = []

    def refuses(key: object) -> None:
        seen.append(key)
        raise ValueError("not you")

    asked = VerifyKey(b"k" * 32, "client")
    assert at_once(answers(pki), asked) == b"k" * 32
    refused = at_once(answers(pki, trust_callback=refuses), asked)
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, AuthenticationFailed)
    assert seen == [b"k" * 32]


# -- ends -----------------------------------------------------------------------------------------------------------
async def test_withdrawing_and_closing_cancel_what_is_under_way(pki: Pki) -> None:
    cancelled: list[str] = []

    async def never(peer: VerifiedPeer) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("cancelled")
            raise

    door, answerer = Door(), Answerer(answers(pki, trust_callback=never))
    for number in (1, 2, 3):
        answerer.ask(Ask(number, whole(pki)), door)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    answerer.withdraw(2)
    answerer.withdraw(2)
    await asyncio.sleep(0)
    assert len(cancelled) == 1
    answerer.close()
    answerer.close()
    answerer.withdraw(1)
    await asyncio.sleep(0)
    assert len(cancelled) == 3
    assert not door.answers


async def test_an_answer_may_end_the_connection(pki: Pki) -> None:
    async def refuses(peer: VerifiedPeer) -> None:
        raise ValueError("no")

    class Ends(Door):
        def answer(self, ask: int, result: object) -> None:
            super().answer(ask, result)
            answerer.close()

    door, answerer = Ends(), Answerer(answers(pki, trust_callback=refuses))
    answerer.ask(Ask(1, whole(pki)), door)  # type: ignore[arg-type]
    await door.came.wait()
    assert isinstance(door.answers[1], Refused)
