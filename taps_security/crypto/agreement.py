"""Key agreement: X25519, X448 (RFC 7748), NIST curves (RFC 8446 §4.2.8.2), X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem).

    initiator                                   responder
    share = generate(group, random)
    share.public          ----------------->    public, secret = respond(group, share.public, random)
    share.agree(public)   <-----------------    public

In a group of the Diffie-Hellman kind both ends may also `generate` and `agree`; in the hybrid only the initiator can,
because its answer is an ML-KEM ciphertext. Shares are for one use.

Every private value comes from the injected `random`, with one exception: ML-KEM encapsulation (`respond` of the
hybrid) draws its 32 bytes inside OpenSSL, as `cryptography` gives no way to hand them in.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from .sodium import scalarmult, scalarmult_base

__all__ = ["AgreementError", "Group", "PrivateShare", "RandomBytes", "from_private", "generate", "respond"]

RandomBytes: TypeAlias = Callable[[int], bytes]


class AgreementError(ValueError):
    """The peer's public value is malformed, or gives a secret that must not be used."""


class Group(IntEnum):
    """A key agreement group; the value is its TLS code point (RFC 8446 §4.2.7, draft-ietf-tls-ecdhe-mlkem §4).

    Sizes are in bytes: `private_size` of what `from_private` takes, `public_size` of the initiator's public value,
    `answer_size` of the responder's, `secret_size` of the shared secret.
    """

    private_size: int
    public_size: int
    answer_size: int
    secret_size: int

    def __new__(cls, code: int, private: int, public: int, answer: int, secret: int) -> Group:
        member = int.__new__(cls, code)
        member._value_ = code
        member.private_size, member.public_size, member.answer_size, member.secret_size = (
            private,
            public,
            answer,
            secret,
        )
        return member

    SECP256R1 = 0x0017, 32, 65, 65, 32
    SECP384R1 = 0x0018, 48, 97, 97, 48
    SECP521R1 = 0x0019, 66, 133, 133, 66
    X25519 = 0x001D, 32, 32, 32, 32
    X448 = 0x001E, 56, 56, 56, 56
    X25519MLKEM768 = 0x11EC, 64 + 32, 1184 + 32, 1088 + 32, 64


class PrivateShare(Protocol):
    """The private half of one share; `public` is what goes to the peer. Its repr shows no secret."""

    @property
    def group(self) -> Group: ...

    @property
    def public(self) -> bytes: ...

    def agree(self, peer_public: bytes) -> bytes:
        """The shared secret with the peer's public value or answer; raises AgreementError.

        An all-zero result of X25519 and X448 is refused (RFC 7748 §6.1), as are points off the curve, compressed
        points and wrong lengths.
        """
        ...


def generate(group: Group, random: RandomBytes) -> PrivateShare:
    """A fresh share (in the hybrid: the initiator's)."""
    if group in _CURVES:
        return _CurveShare(group, derive_ec_private_key(group, random))
    return from_private(group, random(group.private_size))


def from_private(group: Group, private: bytes) -> PrivateShare:
    """The share with given private bytes (`group.private_size` of them, else ValueError).

    X25519, X448: the scalar as RFC 7748 writes it. NIST curves: the scalar, big-endian, from 1 to the order less 1.
    Hybrid: the 64 byte ML-KEM seed (d and z, FIPS 203), then the X25519 scalar.
    """
    if len(private) != group.private_size:
        raise ValueError(f"{group.name} wants {group.private_size} private bytes")
    if group is Group.X25519:
        return _X25519Share(private)
    if group is Group.X25519MLKEM768:
        return _HybridShare(private)
    if group is Group.X448:
        return _X448Share(private)
    return _CurveShare(group, ec.derive_private_key(int.from_bytes(private, "big"), _CURVES[group]))


def respond(group: Group, peer_public: bytes, random: RandomBytes) -> tuple[bytes, bytes]:
    """The answer to an initiator's share: (public value to send, shared secret); raises AgreementError."""
    if group is Group.X25519MLKEM768:
        return _respond_hybrid(peer_public, random)
    share = generate(group, random)
    return share.public, share.agree(peer_public)


def _check_length(group: Group, peer_public: bytes, size: int) -> None:
    if len(peer_public) != size:
        raise AgreementError(f"{group.name}: a public value of {len(peer_public)} bytes, expected {size}")


class _Share:
    __slots__ = ("group", "public")

    group: Final[Group]
    public: Final[bytes]

    def __init__(self, group: Group, public: bytes) -> None:
        self.group = group
        self.public = public

    def __repr__(self) -> str:
        return f"<private share of {self.group.name}>"


class _X25519Share(_Share):
    __slots__ = ("_private",)

    def __init__(self, private: bytes) -> None:
        super().__init__(Group.X25519, scalarmult_base(private))
        self._private = private

    def agree(self, peer_public: bytes) -> bytes:
        _check_length(Group.X25519, peer_public, 32)
        return _x25519(self._private, peer_public)


def _x25519(private: bytes, peer_public: bytes) -> bytes:
    secret = scalarmult(private, bytes(peer_public))
    if not any(secret):
        raise AgreementError("X25519: the public value gives an all-zero secret")
    return secret


class _X448Share(_Share):
    __slots__ = ("_key",)

    def __init__(self, private: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey  # noqa: PLC0415 - rarely used

        self._key = X448PrivateKey.from_private_bytes(private)
        super().__init__(Group.X448, self._key.public_key().public_bytes_raw())

    def agree(self, peer_public: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.x448 import X448PublicKey  # noqa: PLC0415 - rarely used

        _check_length(Group.X448, peer_public, 56)
        try:
            return self._key.exchange(X448PublicKey.from_public_bytes(peer_public))
        except ValueError:  # all-zero result
            raise AgreementError("X448: the public value gives an all-zero secret") from None


_CURVES: dict[Group, ec.EllipticCurve] = {
    Group.SECP256R1: ec.SECP256R1(),
    Group.SECP384R1: ec.SECP384R1(),
    Group.SECP521R1: ec.SECP521R1(),
}

# Orders of the base points (SP 800-186 §3.2.1).
_ORDERS = {
    Group.SECP256R1: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    Group.SECP384R1: (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
    Group.SECP521R1: (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}


def derive_ec_private_key(group: Group, random: RandomBytes) -> ec.EllipticCurvePrivateKey:
    """A key on a NIST curve from injected randomness: 64 bits more than the order has, reduced (FIPS 186-5 §A.2.1)."""
    order = _ORDERS[group]
    wide = int.from_bytes(random(group.private_size + 8), "big")
    return ec.derive_private_key(wide % (order - 1) + 1, _CURVES[group])


class _CurveShare(_Share):
    __slots__ = ("_key",)

    def __init__(self, group: Group, key: ec.EllipticCurvePrivateKey) -> None:
        numbers = key.public_key().public_numbers()
        size = group.private_size
        super().__init__(group, b"\x04" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big"))
        self._key = key

    def agree(self, peer_public: bytes) -> bytes:
        group = self.group
        _check_length(group, peer_public, group.public_size)
        if peer_public[0] != 4:
            raise AgreementError(f"{group.name}: the public value is not an uncompressed point")
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[group], bytes(peer_public))
        except ValueError:
            raise AgreementError(f"{group.name}: the public value is not a point of the curve") from None
        return self._key.exchange(ec.ECDH(), peer)


class _HybridShare(_Share):
    """ML-KEM first, then X25519, in the share and in the secret (draft-ietf-tls-ecdhe-mlkem §4.1, §4.3)."""

    __slots__ = ("_kem", "_scalar")

    def __init__(self, private: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey  # noqa: PLC0415 - not always used

        self._kem = MLKEM768PrivateKey.from_seed_bytes(private[:64])
        self._scalar = private[64:]
        public = self._kem.public_key().public_bytes_raw() + scalarmult_base(self._scalar)
        super().__init__(Group.X25519MLKEM768, public)

    def agree(self, peer_public: bytes) -> bytes:
        _check_length(self.group, peer_public, self.group.answer_size)
        return self._kem.decapsulate(bytes(peer_public[:1088])) + _x25519(self._scalar, peer_public[1088:])


def _respond_hybrid(peer_public: bytes, random: RandomBytes) -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey  # noqa: PLC0415 - not always used

    group = Group.X25519MLKEM768
    _check_length(group, peer_public, group.public_size)
    try:  # the check of FIPS 203 §7.2, which the draft demands
        encapsulation_key = MLKEM768PublicKey.from_public_bytes(bytes(peer_public[:1184]))
        kem_secret, ciphertext = encapsulation_key.encapsulate()
    except ValueError:
        raise AgreementError("X25519MLKEM768: the ML-KEM encapsulation key is not valid") from None
    scalar = random(32)
    return ciphertext + scalarmult_base(scalar), kem_secret + _x25519(scalar, peer_public[1184:])
