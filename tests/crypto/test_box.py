"""NaCl's boxes against NaCl's own vectors, PyNaCl's high-level half, and everything that must not open."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from nacl import bindings

from taps_security.crypto.box import (
    KEY,
    NONCE,
    TAG,
    BoxFailure,
    addresses,
    box_key,
    open_at,
    open_box,
    seal_at,
    seal_box,
)
from taps_security.crypto.sodium import scalarmult, scalarmult_base

_FILE = Path(__file__).parent.parent / "vectors" / "nacl" / "box.json"
VECTORS = {name: bytes.fromhex(text) for name, text in json.loads(_FILE.read_text()).items() if name != "source"}


def test_nacls_box_vectors() -> None:
    """box.c and secretbox.c seal, box2.c and secretbox2.c open, core1.c derives, scalarmult5.c agrees."""
    v = VECTORS
    assert scalarmult_base(v["alice_secret"]) == v["alice_public"]
    assert scalarmult_base(v["bob_secret"]) == v["bob_public"]
    assert scalarmult(v["alice_secret"], v["bob_public"]) == v["shared"]
    key = box_key(v["bob_public"], v["alice_secret"])
    assert key == box_key(v["alice_public"], v["bob_secret"]) == v["first_key"]
    assert seal_box(v["message"], v["nonce"], key) == v["box"]
    assert open_box(v["box"], v["nonce"], key) == v["message"]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 64, 1088, 5000])
def test_sizes_against_pynacl(size: int) -> None:
    message, nonce, key = os.urandom(size), os.urandom(NONCE), os.urandom(KEY)
    sealed = seal_box(message, nonce, key)
    assert sealed == bindings.crypto_secretbox_easy(message, nonce, key)
    assert len(sealed) == size + TAG
    assert open_box(sealed, nonce, key) == message


def test_what_must_not_open() -> None:
    nonce, key = os.urandom(NONCE), os.urandom(KEY)
    sealed = seal_box(b"sixteen octets..", nonce, key)
    for place in range(len(sealed)):
        wrong = bytearray(sealed)
        wrong[place] ^= 1
        with pytest.raises(BoxFailure):
            open_box(bytes(wrong), nonce, key)
    for short in range(len(sealed)):
        with pytest.raises(BoxFailure):
            open_box(sealed[:short], nonce, key)
    with pytest.raises(BoxFailure):
        open_box(sealed, os.urandom(NONCE), key)
    with pytest.raises(BoxFailure):
        open_box(sealed, nonce, os.urandom(KEY))


def test_wrong_sizes_never_reach_the_library() -> None:
    for call in (
        lambda: seal_box(b"", bytes(23), bytes(32)),
        lambda: seal_box(b"", bytes(24), bytes(33)),
        lambda: open_box(bytes(16), bytes(25), bytes(32)),
        lambda: box_key(bytes(31), bytes(32)),
        lambda: box_key(bytes(32), bytes(33)),
    ):
        with pytest.raises(ValueError, match="octets, expected"):
            call()


def test_a_point_of_small_order_agrees_nothing() -> None:
    with pytest.raises(BoxFailure, match="agrees no secret"):
        box_key(bytes(32), os.urandom(32))


def test_many_in_place() -> None:
    """The raw functions in a buffer: sealed and opened where they lie, neighbours left alone."""
    key = os.urandom(KEY)
    stride, size, count = 200, 128, 5
    slab = bytearray(os.urandom(stride * count))
    before = bytes(slab)
    base = addresses(slab)
    nonces = [os.urandom(NONCE) for _ in range(count)]
    for index in range(count):
        box = base + index * stride
        assert seal_at(box, box + TAG, size, nonces[index], key) == 0
    for index in range(count):
        start = index * stride
        plaintext = before[start + TAG : start + TAG + size]
        assert bytes(slab[start : start + TAG + size]) == seal_box(plaintext, nonces[index], key)
        assert slab[start + TAG + size : start + stride] == before[start + TAG + size : start + stride]
    sealed = bytes(slab)
    assert open_at(base + TAG, base, size + TAG, nonces[1], key) != 0
    assert slab == sealed
    for index in range(count):
        box = base + index * stride
        assert open_at(box + TAG, box, size + TAG, nonces[index], key) == 0
        assert slab[index * stride + TAG : (index + 1) * stride] == before[index * stride + TAG : (index + 1) * stride]
