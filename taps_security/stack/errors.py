"""The one tree of errors.

    TapsError
      LocalError              you asked for something that cannot be, here or ever
        ConfigurationError    a property, option, file or credential is wrong
        HardLimitReached      a key may protect nothing more
      RemoteError
        PeerMisbehaved        the peer broke its specification
        PeerIncompatible      the peer keeps its specification, and shares too little with us
        AuthenticationFailed  the peer is not whom it should be
        PeerAborted           the peer ended with an error of its own
        ConnectionLost        the transport under the stack failed, ended early or fell silent
      EstablishmentError      no candidate became ready; one reason for each (RFC 9622 §7.1)

Each says what is wrong, where, and what to do. `reason` is a member of an enum; rooms bring enums of their own, and
one table each from reason to wire code. A failed decryption never says more than that it failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from .frozen import frozen


class Reason(Enum):
    """Reasons that no protocol owns. A room's enum stands beside this one."""

    INVALID_CONFIGURATION = "invalid configuration"  # RFC 9623 App. B, here and below
    NO_CANDIDATES = "no candidates"
    RESOLUTION_FAILED = "resolution failed"
    ESTABLISHMENT_FAILED = "establishment failed"
    POLICY_PROHIBITED = "policy prohibited"
    NOT_CLONEABLE = "not cloneable"
    MESSAGE_TOO_LARGE = "message too large"
    PROTOCOL_FAILED = "protocol failed"
    INVALID_MESSAGE_PROPERTIES = "invalid message properties"
    DEFRAMING_FAILED = "deframing failed"
    CONNECTION_ABORTED = "connection aborted"
    TIMEOUT = "timeout"
    NOT_SUPPORTED = "not supported by this protocol"
    WRONG_STATE = "wrong state"
    KEY_LIMIT = "key limit reached"
    MISSING_CREDENTIAL = "missing credential"
    MALFORMED = "malformed"
    UNEXPECTED = "unexpected message"
    UNAUTHENTIC = "unauthentic"
    ADDRESS_IN_USE = "address in use"
    REFUSED = "refused"
    RESET = "reset"
    TRUNCATED = "truncated"
    UNREACHABLE = "unreachable"
    OVERLOADED = "overloaded"
    CANCELLED = "cancelled"


class TapsError(Exception):
    """The base of every error of this package.

    `reason` is an enum member, `section` the place in the specification that was broken, or an empty string.
    """

    default_reason: Enum = Reason.PROTOCOL_FAILED

    def __init__(self, message: str, *, reason: Enum | None = None, section: str = "") -> None:
        super().__init__(f"{message} ({section})" if section else message)
        self.message = message
        self.reason: Enum = self.default_reason if reason is None else reason
        self.section = section


class LocalError(TapsError):
    """The application asked for what cannot be done. The connection, if there is one, lives on."""

    default_reason = Reason.WRONG_STATE


class ConfigurationError(LocalError):
    """A property, option, file or credential is wrong: the message names it, and what was expected."""

    default_reason = Reason.INVALID_CONFIGURATION


class HardLimitReached(LocalError):
    """A key has protected as much as its specification allows, and no newer one is there."""

    default_reason = Reason.KEY_LIMIT


class RemoteError(TapsError):
    """The base of what peers and networks do to us."""


class PeerMisbehaved(RemoteError):
    """The peer sent what its specification forbids."""


class PeerIncompatible(RemoteError):
    """The peer supports none of what this side allows."""

    default_reason = Reason.NOT_SUPPORTED


class AuthenticationFailed(RemoteError):
    """The peer could not prove the identity that was asked of it, or refused ours."""

    default_reason = Reason.UNAUTHENTIC


class PeerAborted(RemoteError):
    """The peer ended the connection with an error in its protocol's own words. `code` is the number it sent."""

    default_reason = Reason.CONNECTION_ABORTED

    def __init__(self, message: str, *, code: int = 0, reason: Enum | None = None, section: str = "") -> None:
        super().__init__(message, reason=reason, section=section)
        self.code = code


class ConnectionLost(RemoteError):
    """The transport was reset, ended inside the protocol (truncation), or fell silent."""

    default_reason = Reason.RESET


@frozen
class CandidateFailure:
    """Why one candidate did not become the Connection."""

    stack: str  # the stack's name in the API
    version: str
    endpoint: str  # as text: "192.0.2.1:443"
    error: BaseException

    def __str__(self) -> str:
        version = f"/{self.version}" if self.version else ""
        return f"{self.stack}{version} to {self.endpoint}: {str(self.error) or type(self.error).__name__}"


class EstablishmentError(TapsError):
    """No candidate became ready. `failures` holds one reason per candidate, in the order of their ranks."""

    default_reason = Reason.ESTABLISHMENT_FAILED

    def __init__(self, message: str, *, failures: Sequence[CandidateFailure] = (), reason: Enum | None = None) -> None:
        self.failures = tuple(failures)
        text = "; ".join([message, *map(str, self.failures)]) if self.failures else message
        super().__init__(text, reason=reason)
