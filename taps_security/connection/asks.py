"""Answers what engines ask, from the application's credentials, trust and callbacks.

One table from the type of a request to the method that answers it. Most answers come at once; a callback of the
application may be an async function, and then its answer comes when its task is done. The task ends with the
connection.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Protocol

from ..stack.asks import (
    Ask,
    AskId,
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
from ..stack.errors import AuthenticationFailed, LocalError, Reason, TapsError
from ..stack.frozen import frozen

if TYPE_CHECKING:
    from ..crypto.trust import TrustAnchors
    from ..properties.credentials import Identity
    from .driver import Driver

TrustCallback = Callable[[Any], Any]  # (verified peer) -> None or an awaitable of it; raising refuses the peer


class SessionStore(Protocol):
    """Where a server keeps the sessions behind its stateful tickets."""

    def find(self, ticket: bytes) -> object | None:
        """The session, removed: a ticket is used once."""


class Claims:
    """Tokens that were claimed, each until its time is over (unix seconds). A claim costs a heap's depth."""

    __slots__ = ("_order", "_tokens")

    def __init__(self) -> None:
        self._tokens: set[tuple[str, bytes]] = set()
        self._order: list[tuple[float, str, bytes]] = []  # a heap: what expires first stands in front

    def __len__(self) -> int:
        return len(self._tokens)

    def once(self, kind: str, token: bytes, until: float, now: float) -> bool:
        """True exactly once for each token until `until`."""
        order, tokens = self._order, self._tokens
        while order and order[0][0] <= now:
            tokens.discard(heappop(order)[1:])
        if (kind, token) in tokens:
            return False
        tokens.add((kind, token))
        heappush(order, (until, kind, token))
        return True


@frozen
class Answers:
    """Where answers come from, for one role of one endpoint."""

    wall_clock: Callable[[], float]
    anchors: Callable[[], TrustAnchors | None]  # loaded at the first peer that is verified
    identities: Sequence[Identity] = ()
    psks: Mapping[bytes, object] = field(default_factory=dict, repr=False)
    psk_callback: Callable[[bytes], Any] | None = None  # identity -> key, None, or an awaitable of either
    sessions: SessionStore | None = None
    trust_callback: TrustCallback | None = None
    claimed: Claims = field(default_factory=Claims, repr=False)


class Answerer:
    """Answers the asks of one stack."""

    __slots__ = ("_answers", "_tasks")

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._tasks: dict[AskId, asyncio.Task[None]] | None = None

    def ask(self, ask: Ask, driver: Driver) -> None:
        """Answer, now or later."""
        try:
            result = self._METHODS[type(ask.request)](self, ask.request)
        except Exception as error:  # an HSM, a store or a callback that fails ends this connection, not the loop
            result = _refused(ask.request, error)
        if inspect.isawaitable(result):
            if self._tasks is None:
                self._tasks = {}
            self._tasks[ask.id] = asyncio.ensure_future(self._answer_later(ask, result, driver))
        else:
            driver.answer(ask.id, result)

    async def _answer_later(self, ask: Ask, awaitable: Awaitable[object], driver: Driver) -> None:
        try:
            result = await awaitable
        except Exception as error:
            result = _refused(ask.request, error)
        if self._tasks is not None:
            self._tasks.pop(ask.id, None)
        driver.answer(ask.id, result)

    def withdraw(self, ask: AskId) -> None:
        """The answer is no longer wanted."""
        task = self._tasks.pop(ask, None) if self._tasks else None
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """The connection ended: no answer is wanted any more."""
        tasks, self._tasks = self._tasks, None
        for task in (tasks or {}).values():
            task.cancel()

    # -- one method per request -----------------------------------------------------------------------------------
    def _verify_peer(self, request: VerifyPeer) -> object:
        from ..crypto.trust import CertificateError, TrustAnchors, verify_chain  # noqa: PLC0415 -- 25 ms, on first use

        answers = self._answers
        anchors = answers.anchors() or TrustAnchors()
        usage: Any = request.usage
        if usage == "server" and not request.name:  # an address without a name: a UNIX socket, say
            raise AuthenticationFailed(
                "nothing says whom the server's certificate should name; give server_name=", section="RFC 9525 §6.1"
            )
        try:
            peer = verify_chain(anchors, request.chain, request.name or None, answers.wall_clock(), usage)
        except CertificateError as error:
            raise AuthenticationFailed(str(error), reason=error.reason, section="RFC 5280 §6") from None
        if answers.trust_callback is None:
            return peer
        return self._ask_application(answers.trust_callback, peer)

    def _verify_key(self, request: VerifyKey) -> object:
        callback = self._answers.trust_callback
        return request.key if callback is None else self._ask_application(callback, request.key)

    @staticmethod
    def _ask_application(callback: TrustCallback, peer: object) -> object:
        verdict = callback(peer)
        if not inspect.isawaitable(verdict):
            _check_silent(verdict)
            return peer

        async def then_peer() -> object:
            _check_silent(await verdict)
            return peer

        return then_peer()

    def _choose_identity(self, request: ChooseIdentity) -> object:
        """Among those whose key can make a signature that the peer accepts: by server name, then as its chain suits
        the peer (RFC 8446 §4.4.2.2), then the first."""
        wanted = frozenset(request.algorithms)
        identities = [identity.loaded for identity in self._answers.identities]
        fitting = [identity for identity in identities if wanted.intersection(identity.schemes)]
        if len(fitting) > 1:
            asked = (request.certificate_algorithms, request.authorities)
            fitting.sort(key=lambda identity: identity.suits(*asked), reverse=True)
        if request.server_name:
            for identity in fitting:
                if identity.names.matches(request.server_name):
                    return identity
        return fitting[0] if fitting else None

    def _sign(self, request: Sign) -> object:
        from ..crypto.signature import SignatureScheme, sign  # noqa: PLC0415

        identity: Any = request.identity
        if identity.private_key is not None:
            return sign(identity.private_key, SignatureScheme(request.algorithm), request.data)
        for known in self._answers.identities:
            if known.loaded is identity and known.key_callback is not None:
                return known.key_callback(request)
        raise LocalError(f"nobody signs for {identity!r}", reason=Reason.MISSING_CREDENTIAL)

    def _find_psk(self, request: FindPsk) -> object:
        known = self._answers.psks.get(request.identity)
        if known is not None or self._answers.psk_callback is None:
            return known
        return self._answers.psk_callback(request.identity)

    def _find_session(self, request: FindSession) -> object:
        return self._answers.sessions.find(request.ticket) if self._answers.sessions is not None else None

    def _claim_once(self, request: ClaimOnce) -> object:
        answers = self._answers
        return answers.claimed.once(request.kind, request.token, request.until, answers.wall_clock())

    _METHODS: dict[type, Callable[[Answerer, Any], object]] = {  # noqa: RUF012
        VerifyPeer: _verify_peer,
        ChooseIdentity: _choose_identity,
        Sign: _sign,
        FindPsk: _find_psk,
        FindSession: _find_session,
        ClaimOnce: _claim_once,
        VerifyKey: _verify_key,
    }


def _check_silent(verdict: object) -> None:
    """A callback that answers False means no, and one that answers anything else misunderstood us: neither passes."""
    if verdict is not None:
        raise AuthenticationFailed(
            f"trust_callback returned {type(verdict).__name__}; expected None, or an exception that refuses the peer",
            reason=Reason.REFUSED,
        )


def _refused(request: AskRequest, error: Exception) -> Refused:
    """Whatever a callback raises refuses what was asked."""
    if isinstance(error, TapsError):
        return Refused(error)
    wrapped: TapsError
    if isinstance(request, VerifyPeer | VerifyKey):
        wrapped = AuthenticationFailed(f"the application refused the peer: {error}", reason=Reason.REFUSED)
    else:
        what = f"{type(request).__name__} failed: {str(error) or type(error).__name__}"
        wrapped = LocalError(what, reason=Reason.MISSING_CREDENTIAL)
    wrapped.__cause__ = error
    return Refused(wrapped)
