"""From declared trust to trust anchors."""

from __future__ import annotations

from pathlib import Path

import pytest

from taps_security.connection.anchors import anchors_of
from taps_security.crypto.certificates import certificate_pem, fingerprint
from taps_security.properties.credentials import Pin
from taps_security.properties.trust import Trust
from taps_security.stack.errors import ConfigurationError, Reason
from tests.support.pki import Pki


def test_nobody() -> None:
    assert anchors_of(None)() is None


def test_a_file_is_read_at_once_and_kept(pki: Pki) -> None:
    load = anchors_of(Trust.file(str(pki.trust_file)))
    anchors = load()
    assert anchors is not None
    assert anchors.roots == pki.authority.chain
    assert load() is anchors


def test_sources_are_put_together(pki: Pki) -> None:
    pin = Pin(fingerprint(pki.leaf().chain[0]))
    trust = (
        Trust.file(str(pki.trust_file))
        | Trust.file(str(pki.other_trust_file))
        | Trust.pem(certificate_pem(*pki.authority.chain))
        | Trust.pins(pin)
    )
    anchors = anchors_of(trust)()
    assert anchors is not None
    assert anchors.roots == (*pki.authority.chain, *pki.other_authority.chain)  # each once
    assert anchors.has_pin(pin.sha256)


def test_pins_alone(pki: Pki) -> None:
    anchors = anchors_of(Trust.pins(Pin(fingerprint(pki.leaf().chain[0]))))()
    assert anchors is not None
    assert not anchors.roots


def test_what_cannot_be_read(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.pem")
    with pytest.raises(ConfigurationError, match=r"trust: .*absent\.pem: cannot read trust anchors") as caught:
        anchors_of(Trust.file(absent))
    assert caught.value.reason is Reason.MISSING_CREDENTIAL
    with pytest.raises(ConfigurationError, match=r"trust: Trust\.pem: expected a certificate"):
        anchors_of(Trust.pem(b"nothing"))
