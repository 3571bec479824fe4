"""Key agreement: Wycheproof, RFC 7748, injected randomness, and what malformed public values do."""

import os
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taps_security.crypto.agreement import AgreementError, Group, from_private, generate, respond
from tests.crypto.wycheproof import cases

CURVES = [Group.SECP256R1, Group.SECP384R1, Group.SECP521R1]


@pytest.fixture(params=Group, ids=lambda group: group.name)
def group(request: pytest.FixtureRequest) -> Group:
    return request.param


@pytest.mark.parametrize("group", [Group.X25519, Group.X448], ids=lambda group: group.name)
def test_wycheproof_montgomery(group):
    for case in cases(group.name.lower()):
        share = from_private(group, case.private)
        if case.result == "invalid" or not any(case.shared):
            with pytest.raises(AgreementError):
                share.agree(case.public)
        else:
            assert share.agree(case.public) == case.shared, case


@pytest.mark.parametrize("group", CURVES, ids=lambda group: group.name)
def test_wycheproof_curves(group):
    for case in cases(f"ecdh_{group.name.lower()}_ecpoint"):
        share = from_private(group, int.from_bytes(case.private, "big").to_bytes(group.private_size, "big"))
        if case.result == "valid":
            assert share.agree(case.public) == case.shared, case
        else:  # those called acceptable are compressed points, which TLS and IKEv2 do not use
            with pytest.raises(AgreementError):
                share.agree(case.public)


def test_wycheproof_mlkem():
    """Through the hybrid: the first half of the secret is ML-KEM's. Encapsulation cannot be replayed."""
    x25519 = generate(Group.X25519, os.urandom).public
    for case in cases("mlkem_768"):
        if len(case.seed) != 64:
            with pytest.raises(ValueError, match="private bytes"):
                from_private(Group.X25519MLKEM768, case.seed + bytes(32))
            continue
        share = from_private(Group.X25519MLKEM768, case.seed + b"\x01" * 32)
        assert share.public[:1184] == case.ek or case.result == "invalid", case
        if case.result == "valid":
            assert share.agree(case.c + x25519)[:32] == case.K, case
        elif len(case.c) != 1088:
            with pytest.raises(AgreementError):
                share.agree(case.c + x25519)


@pytest.mark.parametrize(
    ("group", "alice", "alice_public", "bob", "bob_public", "secret"),
    [
        (
            Group.X25519,
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
        (
            Group.X448,
            "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28d"
            "d9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
            "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c"
            "22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0",
            "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d"
            "6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d",
            "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b430"
            "27d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
            "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282b"
            "b60c0b56fd2464c335543936521c24403085d59a449a5037514a879d",
        ),
    ],
    ids=["6.1", "6.2"],
)
def test_rfc_7748(group, alice, alice_public, bob, bob_public, secret):
    first, second = from_private(group, bytes.fromhex(alice)), from_private(group, bytes.fromhex(bob))
    assert (first.public.hex(), second.public.hex()) == (alice_public, bob_public)
    assert first.agree(second.public).hex() == second.agree(first.public).hex() == secret


@pytest.mark.parametrize(("group", "base"), [(Group.X25519, 9), (Group.X448, 5)], ids=["X25519", "X448"])
def test_rfc_7748_iterations(group, base):
    """RFC 7748 §5.2: each result is the next scalar, and the scalar the next point."""
    expected = {
        Group.X25519: "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
        Group.X448: "aa3b4749d55b9daf1e5b00288826c467274ce3ebbdd5c17b975e09d4af6c67cf"
        "10d087202db88286e2b79fceea3ec353ef54faa26e219f38",
    }[group]
    scalar = point = bytes([base]) + bytes(group.private_size - 1)
    for _ in range(1000):
        scalar, point = from_private(group, scalar).agree(point), scalar
    assert scalar.hex() == expected


def test_both_ends_agree_and_sizes_are_as_stated(group):
    share = generate(group, os.urandom)
    answer, secret = respond(group, share.public, os.urandom)
    assert share.agree(answer) == secret
    sizes = (len(share.public), len(answer), len(secret))
    assert sizes == (group.public_size, group.answer_size, group.secret_size)


def test_injected_randomness_decides_the_shares(group):
    def dice():
        counter = count()
        return lambda size: bytes(next(counter) + index & 0xFF for index in range(size))

    assert generate(group, dice()).public == generate(group, dice()).public
    assert generate(group, dice()).public != generate(group, os.urandom).public
    share = generate(group, dice())
    first, second = (respond(group, share.public, dice()) for _ in range(2))
    if group is Group.X25519MLKEM768:  # encapsulation draws its own randomness, the X25519 half does not
        assert first[0][1088:] == second[0][1088:]
        assert first[1][:32] != second[1][:32]
    else:
        assert first == second


def test_private_bytes_of_another_length_are_refused(group):
    for size in {0, 1, group.private_size - 1, group.private_size + 1}:
        with pytest.raises(ValueError, match="private bytes"):
            from_private(group, bytes(size))


def test_the_secret_is_in_no_repr(group):
    private = b"\x01" * group.private_size
    assert repr(from_private(group, private)) == f"<private share of {group.name}>"


@pytest.mark.parametrize("group", CURVES, ids=lambda group: group.name)
def test_scalars_stay_in_range_at_both_ends_of_the_randomness(group):
    low = generate(group, bytes)
    high = generate(group, lambda size: b"\xff" * size)
    assert low.public == from_private(group, (1).to_bytes(group.private_size, "big")).public
    assert low.agree(high.public) == high.agree(low.public)
    for refused in (bytes(group.private_size), b"\xff" * group.private_size):
        with pytest.raises(ValueError, match=r".*"):
            from_private(group, refused)


def test_an_invalid_encapsulation_key_is_refused():
    """FIPS 203 §7.2: a coefficient of 3329 or more."""
    share = generate(Group.X25519MLKEM768, os.urandom)
    with pytest.raises(AgreementError, match="encapsulation key"):
        respond(Group.X25519MLKEM768, b"\xff\xff\xff" + share.public[3:], os.urandom)


def test_a_zero_x25519_half_of_the_hybrid_is_refused():
    share = generate(Group.X25519MLKEM768, os.urandom)
    with pytest.raises(AgreementError, match="all-zero"):
        respond(Group.X25519MLKEM768, share.public[:1184] + bytes(32), os.urandom)
    answer, _ = respond(Group.X25519MLKEM768, share.public, os.urandom)
    with pytest.raises(AgreementError, match="all-zero"):
        share.agree(answer[:1088] + bytes(32))


@given(st.sampled_from(Group), st.data())
def test_garbage_gives_a_secret_or_agreement_error(group, data):
    share = from_private(group, b"\x01" * group.private_size)
    size = data.draw(st.sampled_from([0, 1, 31, 32, group.answer_size - 1, group.answer_size, group.public_size + 1]))
    public = data.draw(st.binary(min_size=size, max_size=size))
    for attempt in (lambda: share.agree(public), lambda: respond(group, public, os.urandom)[1]):
        with suppress(AgreementError):
            assert len(attempt()) == group.secret_size
